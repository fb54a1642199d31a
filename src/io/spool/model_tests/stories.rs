//! Fixed stories, one for each way a disk has to fail.

use super::life::{End, Life, SEGMENT, config, open};
use super::lives::lives;
use super::model::Model;
use crate::config::Durability;
use crate::core::spool::{BatchId, Group, Op, Outcome, Status};
use crate::io::spool::faulty::{Disk, Unsynced};

/// Groups that follow from the seed: every kind of operation, through more than one segment.
pub(super) fn story(seed: u64, groups: usize) -> Vec<Group> {
    let mut generator = super::generate::Generator::new(seed);
    let mut model = Model::default();
    (0..groups)
        .map(|_| {
            let group = generator.group(&model);
            model.apply(&group);
            group
        })
        .collect()
}

/// A life without chance: it ends as said, and its next one starts in peace.
fn steady(seed: u64, durability: Durability, end: End) -> Life {
    let mut life = Life::new(seed, durability);
    life.end = Some(end);
    life.again = 0;
    life
}

/// A group with one batch.
fn one_batch(life: &mut Life) -> (BatchId, Group) {
    loop {
        let group = life.generator.group(&Model::default());
        let batch = group.ops.into_iter().find_map(|op| match op {
            Op::Batch(batch) if batch.target.partition().is_some() => Some(batch),
            _ => None,
        });
        if let Some(batch) = batch {
            return (batch.id, Group { ops: vec![Op::Batch(batch)] });
        }
    }
}

fn stamped(life: &mut Life) -> (BatchId, Group) {
    let (id, mut group) = one_batch(life);
    group.ops.push(life.generator.stamp(id));
    (id, group)
}

fn delivered(id: BatchId) -> Group {
    let outcome = Outcome::Delivered { base_offset: Some(7), leader_epoch: 1 };
    Group { ops: vec![Op::Outcome { batch: id, outcome }] }
}

/// What was acknowledged is there after the power was cut, although nothing but its own sync wrote it.
///
/// Catches: no sync before the acknowledgement; acknowledged before the sync has returned.
#[test]
fn power_cut_drops_unsynced() {
    lives(20, |seed| {
        let mut life = steady(seed, Durability::PowerLoss, End::PowerCut(Unsynced::Dropped));
        for _ in 0..10 {
            life.commit();
            life.crash();
        }
    });
}

/// With `ProcessCrash` the acknowledgement waits for no sync, and a killed process loses nothing.
#[test]
fn kill9_loses_nothing_that_was_written() {
    lives(20, |seed| {
        let mut life = steady(seed, Durability::ProcessCrash, End::Kill);
        let (_, first) = one_batch(&mut life);
        life.commit_these(&[first]);
        let syncs = life.disk.syncs();
        let (_, second) = one_batch(&mut life);
        life.commit_these(&[second]);
        assert_eq!(life.disk.syncs(), syncs, "a sync nobody asked for");
        life.crash();
    });
}

/// A crash in every single operation of a story, in every way, and the story is taken up again where it stood.
///
/// Catches: any write or sync in the wrong order.
#[test]
fn kill9_at_every_step() {
    let groups = story(11, 60);
    for durability in [Durability::PowerLoss, Durability::ProcessCrash] {
        for &end in End::all(durability) {
            let mut calm = steady(1, durability, end);
            let from = calm.disk.operations();
            tell(&mut calm, &groups);
            let until = calm.disk.operations();
            assert!(until - from > 40, "a short story: {} operations", until - from);
            for at in from + 1..=until {
                let mut life = steady(1, durability, end);
                life.disk.faults(|faults| faults.crash_at = Some(at));
                tell(&mut life, &groups);
                assert_eq!(life.crashes, 1, "no crash in operation {at}");
                life.crash();
            }
        }
    }
}

/// Two groups at a time, what was lost in a crash again, with maintenance in between.
fn tell(life: &mut Life, groups: &[Group]) {
    let mut told = 0;
    while told < groups.len() {
        told += life.commit_these(&groups[told..(told + 2).min(groups.len())]);
        if told % 6 < 2 {
            life.maintain();
        }
    }
}

/// The first recovery dies in its first operation, the second in its second, and so on.
///
/// Catches: a recovery that destroys before it has replaced.
#[test]
fn crash_during_recovery_repeated() {
    for &end in End::all(Durability::PowerLoss) {
        lives(3, |seed| {
            let mut life = steady(seed, Durability::PowerLoss, end);
            for _ in 0..30 {
                life.commit();
                life.maintain();
            }
            // A tail to be cut.
            life.disk.crash_after(2);
            let group = life.generator.group(&life.model);
            life.pending = vec![group];
            let groups = life.pending.clone();
            let _ = life.engine().commit(&groups);
            life.engine = None;
            life.disk.die();
            life.end_process();
            for at in 1.. {
                life.disk.crash_after(at);
                let opened = open(&life.disk, &life.config);
                let ended = !life.disk.is_crashed();
                if let Ok((_, recovered)) = opened {
                    life.verify(&recovered);
                } else {
                    assert!(!ended, "not opened: {:?}", opened.err());
                }
                life.disk.die();
                life.end_process();
                if ended {
                    break;
                }
            }
            life.reopen();
        });
    }
}

/// An outcome that was not synced may be lost: then the batch is back with the stamp it was sent under, so that the
/// broker finds it a second time.
///
/// Catches: an outcome that takes the stamp along; a stamp not durable with its batch.
#[test]
fn ack_mark_lost() {
    lives(20, |seed| {
        let mut life = steady(seed, Durability::PowerLoss, End::PowerCut(Unsynced::Dropped));
        let (id, group) = stamped(&mut life);
        life.commit_these(&[group]);
        let stamp = life.model.batches[&id].stamp;
        // Whichever operation it is that would have made it durable.
        let n = 1 + life.random.below(3) as u64;
        life.disk.crash_after(n);
        let durable = life.commit_these(&[delivered(id)]) == 1 && life.crashes == 0;
        life.disk.faults(|faults| faults.crash_at = None);
        assert_eq!(life.model.batches.get(&id).map(|kept| kept.stamp), (!durable).then_some(stamp));
        life.commit();
        life.crash();
    });
}

/// A sync fails: what it was to write is written anew elsewhere, and a later sync of the same file, which reports
/// success, is not believed.
///
/// Catches: a second sync of the same file taken for good.
#[test]
fn sync_returns_eio() {
    for &end in End::all(Durability::PowerLoss) {
        lives(15, |seed| {
            let mut life = steady(seed, Durability::PowerLoss, end);
            for _ in 0..8 {
                // The first one begins a segment, whose syncs would be the ones to fail.
                if life.random.chance(70) {
                    life.commit();
                }
                let failing = 1 + life.random.below(2) as u32;
                life.disk.faults(|faults| faults.failing_syncs = failing);
                life.commit();
                life.heal();
                life.read_some();
                if life.random.chance(50) {
                    life.maintain();
                }
                life.crash();
            }
        });
    }
}

/// A file's name is there after a power cut only if the directory was synced, and a sync of the directory may fail too.
///
/// Catches: a new segment without a sync of the directory; a removed one that comes back and brings settled batches along.
#[test]
fn rename_without_directory_sync() {
    for end in [Unsynced::Dropped, Unsynced::Some] {
        lives(8, |seed| {
            let mut life = steady(seed, Durability::PowerLoss, End::PowerCut(end));
            for round in 0..60 {
                if round % 5 == 0 {
                    life.disk.faults(|faults| faults.failing_dir_syncs = 1);
                }
                life.commit();
                life.maintain();
                life.heal();
                if round % 3 == 0 {
                    life.crash();
                }
            }
        });
    }
}

/// The disk is full at every possible place in turn: what is there stays readable, and once there is space again the same
/// groups are written.
#[test]
fn no_space_on_append() {
    for left in (0..2 * SEGMENT).step_by(9001) {
        let mut life = steady(left, Durability::PowerLoss, End::PowerCut(Unsynced::Dropped));
        life.commit();
        full(&mut life, left);
    }
}

/// The same when the segment is full and the next one cannot be made.
#[test]
fn no_space_on_rotate() {
    for left in [0, 1, 511, 4096, SEGMENT / 2, SEGMENT - 1, SEGMENT, SEGMENT + 1] {
        let mut life = steady(left, Durability::PowerLoss, End::PowerCut(Unsynced::Some));
        let files = life.disk.files().len();
        while life.disk.files().len() < files + 2 {
            let (_, group) = one_batch(&mut life);
            life.commit_these(&[group]);
        }
        full(&mut life, left);
    }
}

fn full(life: &mut Life, left: u64) {
    let space = life.disk.used() + left;
    life.disk.faults(|faults| faults.space = Some(space));
    let mut refused = false;
    for _ in 0..200 {
        let (_, group) = one_batch(life);
        if let Err(error) = life.engine().commit(std::slice::from_ref(&group)) {
            assert!(
                error.to_string().to_lowercase().contains("space") || error.to_string().contains("full"),
                "{error}"
            );
            assert!(life.engine().commit(std::slice::from_ref(&group)).is_err(), "there is no more space than before");
            life.read_some();
            refused = true;
            life.heal();
            assert_eq!(life.commit_these(&[group]), 1);
            break;
        }
        life.model.apply(&group);
    }
    assert!(refused, "200 batches in {left} bytes");
    life.commit();
    life.read_some();
    life.crash();
    life.commit();
    life.crash();
}

/// Reads and writes do half of what they were asked to, or are interrupted.
///
/// Catches: a result of `write_at` or `read_at` that is not looked at.
#[test]
fn short_write_and_eintr() {
    lives(15, |seed| {
        let mut life = steady(seed, Durability::PowerLoss, End::PowerCut(Unsynced::Dropped));
        for _ in 0..15 {
            life.disk.faults(|faults| (faults.short, faults.interrupted) = (50, 30));
            let group = life.generator.group(&life.model);
            life.engine().commit(std::slice::from_ref(&group)).expect("only slow");
            life.model.apply(&group);
            life.maintain();
            life.read_some();
            // The recovery has it no better.
            life.engine = None;
            life.disk.power_cut(Unsynced::Dropped);
            life.reopen();
        }
    });
}

/// One parked batch and one dead one, and much traffic: the space stays bounded, and they stay what they are.
///
/// Catches: a segment kept for one batch; a copy that forgets status or stamp.
#[test]
fn parked_pins_nothing() {
    let mut life = steady(5, Durability::PowerLoss, End::PowerCut(Unsynced::Dropped));
    let (parked, group) = stamped(&mut life);
    let (dead, second) = stamped(&mut life);
    life.commit_these(&[group, second]);
    let reason = "not enough replicas";
    let outcome = Outcome::Parked { unknown: true, reason: reason.into() };
    let refused = Outcome::Dead { unknown: false, reason: "too large".into() };
    let ops = vec![Op::Outcome { batch: parked, outcome }, Op::Outcome { batch: dead, outcome: refused }];
    life.commit_these(&[Group { ops }]);
    let mut most = 0;
    for round in 0..600 {
        let (id, group) = stamped(&mut life);
        life.commit_these(&[group]);
        life.commit_these(&[delivered(id)]);
        life.maintain();
        most = most.max(life.disk.used());
        if round % 200 == 199 {
            life.crash();
        }
    }
    assert!(most <= 6 * SEGMENT, "{most} bytes for two batches");
    let kept: Vec<_> = life.model.batches.values().map(|kept| (kept.batch.id, kept.status.clone())).collect();
    let expected = Status::Parked { unknown: true, reason: reason.into() };
    assert_eq!(kept[0], (parked, expected));
    assert_eq!(kept.len(), 2);
}

/// What recovery shows it has made durable itself: it may have come from a process that was killed before its sync.
///
/// Catches: a recovery that trusts what it reads from the page cache.
#[test]
fn seen_once_seen_always() {
    lives(40, |seed| {
        let mut life = steady(seed, Durability::PowerLoss, End::Kill);
        life.commit();
        let after = 1 + life.random.below(4) as u64;
        life.disk.crash_after(after);
        life.commit();
        life.disk.faults(|faults| faults.crash_at = None);
        life.end = Some(End::PowerCut(Unsynced::Dropped));
        life.crash();
    });
}

/// A disk that lies about its syncs is caught by these tests: they would notice a skipped one.
#[test]
fn a_disk_that_lies_is_noticed() {
    let disk = Disk::new(1);
    disk.faults(|faults| faults.lying_syncs = true);
    let config = config(Durability::PowerLoss);
    let (mut engine, _) = open(&disk, &config).unwrap();
    let group = &story(3, 1)[0];
    engine.commit(std::slice::from_ref(group)).unwrap();
    drop(engine);
    disk.power_cut(Unsynced::Dropped);
    let (_, recovered) = open(&disk, &config).unwrap();
    assert!(Model::default().after([group]).difference(&recovered).is_some());
}
