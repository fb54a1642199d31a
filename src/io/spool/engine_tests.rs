//! The engine on a real directory whose files are damaged by hand, and on a disk that refuses.
#![cfg(unix)]

use super::disk::Disk;
use super::engine::Engine;
use super::files::{Directory, Files};
use super::scan::{Scan, scan};
use super::tests::{Temp, batch, delivered, group, sealed, stamp};
use crate::config::{Durability, SpoolConfig};
use crate::core::spool::{BatchId, Group, Op, Outcome, Recovered, Status};
use crate::error::SpoolError;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

fn open(config: &SpoolConfig) -> (Engine<Directory>, Recovered) {
    Engine::open(Directory::take(&config.directory).expect("taken"), config, [9; 16]).expect("opens")
}

fn ids(recovered: &Recovered) -> Vec<u64> {
    recovered.batches.iter().map(|batch| batch.id.0).collect()
}

fn look(temp: &Temp) -> Scan {
    let files = Directory::look(temp.path()).expect("looks");
    scan(&mut Disk::new(files, temp.path().to_owned())).expect("reads")
}

/// Where a batch lies: file and offset.
fn place(temp: &Temp, id: u64) -> (PathBuf, u64) {
    let scan = look(temp);
    let place = scan.state.locate(BatchId(id)).expect("is there").place;
    let file = scan.segments.iter().find(|file| file.sequence == place.segment).expect("is there");
    (temp.path().join(&file.name), place.offset)
}

fn flip(path: &PathBuf, offset: u64) {
    let file = File::options().read(true).write(true).open(path).expect("opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("reads");
    file.write_all_at(&[byte[0] ^ 0x10], offset).expect("writes");
}

fn quarantined(temp: &Temp) -> Vec<String> {
    let entries = std::fs::read_dir(temp.path()).expect("lists");
    let names = entries.map(|entry| entry.expect("entry").file_name().into_string().expect("text"));
    names.filter(|name| name.starts_with("quarantine-")).collect()
}

fn files(temp: &Temp) -> u64 {
    let entries = std::fs::read_dir(temp.path()).expect("lists");
    entries.map(|entry| entry.expect("entry").metadata().expect("meta").len()).sum()
}

fn settle(engine: &mut Engine<impl Files>) {
    for _ in 0..1000 {
        if !engine.maintain().expect("reclaims") {
            return;
        }
    }
    panic!("never done");
}

/// Five batches in a group of their own each.
fn five(temp: &Temp) {
    let (mut engine, _) = open(&temp.config());
    for id in 0..5 {
        engine.commit(&[group([batch(id, 3_000)])]).expect("written");
    }
}

#[test]
fn a_torn_tail_is_cut_and_what_was_before_it_stays() {
    let temp = Temp::new();
    five(&temp);
    let (path, offset) = place(&temp, 4);
    flip(&path, offset + 500);
    for _ in 0..3 {
        let (mut engine, recovered) = open(&temp.config());
        assert_eq!(ids(&recovered), [0, 1, 2, 3]);
        assert!(recovered.damage.is_empty());
        assert_eq!(engine.read(BatchId(3)).expect("reads"), sealed(3, 3_000));
    }
    let (mut engine, _) = open(&temp.config());
    engine.commit(&[group([batch(7, 3_000)])]).expect("written");
    drop(engine);
    let (_, recovered) = open(&temp.config());
    assert_eq!(ids(&recovered), [0, 1, 2, 3, 7]);
    assert!(recovered.damage.is_empty(), "{:?}", recovered.damage);
}

#[test]
fn a_flipped_bit_in_the_middle_is_set_aside_told_once_and_the_rest_goes_on() {
    let temp = Temp::new();
    five(&temp);
    let (path, offset) = place(&temp, 2);
    flip(&path, offset + 500);
    assert_eq!(look(&temp).damage.len(), 1);
    assert_eq!(quarantined(&temp), [] as [String; 0]);
    let (mut engine, recovered) = open(&temp.config());
    assert_eq!(ids(&recovered), [0, 1, 3, 4]);
    assert_eq!(recovered.next_id, 5);
    let [damage] = &recovered.damage[..] else { panic!("{:?}", recovered.damage) };
    assert_eq!((damage.offset, damage.len > 3_000), (offset, true));
    assert_eq!(damage.set_aside.as_ref(), quarantined(&temp).first());
    // A batch's records are damaged: no stamp was there.
    assert!(!recovered.stamps_in_doubt);
    engine.commit(&[group([batch(5, 100)])]).expect("written");
    drop(engine);
    let (_, recovered) = open(&temp.config());
    assert_eq!((ids(&recovered), recovered.damage), (vec![0, 1, 3, 4, 5], vec![]));
}

#[test]
fn a_damaged_stamp_leaves_a_doubt_until_everything_is_stamped_anew() {
    let temp = Temp::new();
    let (mut engine, _) = open(&temp.config());
    engine.commit(&[group([batch(0, 3_000), batch(1, 3_000)])]).expect("written");
    engine.commit(&[group([stamp(0, 1, 0)])]).expect("written");
    engine.commit(&[group([stamp(1, 1, 1)])]).expect("written");
    drop(engine);
    // The group behind the batches': one sector.
    let (path, offset) = place(&temp, 1);
    let stamped = (offset + 3_000).next_multiple_of(512);
    flip(&path, stamped + 96 + 20);
    for round in 0..2 {
        let (_, recovered) = open(&temp.config());
        assert_eq!(ids(&recovered), [0, 1]);
        assert_eq!(recovered.damage.len(), 1 - round);
        assert!(recovered.stamps_in_doubt);
        assert_eq!(recovered.batches[0].stamp, None);
        assert!(recovered.batches[1].stamp.is_some());
    }
    let (mut engine, _) = open(&temp.config());
    engine.commit(&[group([stamp(0, 2, 0)])]).expect("written");
    engine.commit(&[group([stamp(1, 2, 1)])]).expect("written");
    drop(engine);
    let (_, recovered) = open(&temp.config());
    assert!(!recovered.stamps_in_doubt);
}

#[test]
fn a_damaged_group_head_costs_its_group_only() {
    let temp = Temp::new();
    five(&temp);
    let (path, offset) = place(&temp, 1);
    flip(&path, offset / 512 * 512 + 30);
    let (_, recovered) = open(&temp.config());
    assert_eq!(ids(&recovered), [0, 2, 3, 4]);
    assert_eq!(recovered.damage.len(), 1);
    assert!(recovered.stamps_in_doubt);
}

#[test]
fn a_damaged_segment_head_costs_nothing() {
    let temp = Temp::new();
    five(&temp);
    flip(&place(&temp, 1).0, 20);
    for _ in 0..2 {
        let (mut engine, recovered) = open(&temp.config());
        assert_eq!(ids(&recovered), [0, 1, 2, 3, 4]);
        let next = recovered.next_id;
        engine.commit(&[group([batch(next, 100), delivered(next)])]).expect("written");
    }
}

#[test]
fn a_spool_of_which_nothing_can_be_read_is_kept_and_reported() {
    let temp = Temp::new();
    five(&temp);
    let path = place(&temp, 1).0;
    let mut bytes = std::fs::read(&path).expect("reads");
    bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
    std::fs::write(&path, &bytes).expect("writes");
    let (_, recovered) = open(&temp.config());
    assert_eq!((recovered.batches.len(), recovered.damage.len()), (0, 1));
    assert_eq!(quarantined(&temp).len(), 1);
}

#[test]
fn a_missing_segment_is_reported() {
    let temp = Temp::new();
    let (mut engine, _) = open(&temp.config());
    for id in 0..60 {
        engine.commit(&[group([batch(id, 3_000)])]).expect("written");
    }
    drop(engine);
    let path = place(&temp, 25).0;
    let gone: Vec<u64> = (0..60).filter(|id| place(&temp, *id).0 == path).collect();
    std::fs::remove_file(path).expect("removed");
    let (_, recovered) = open(&temp.config());
    assert_eq!(recovered.damage.len(), 1);
    assert!(recovered.stamps_in_doubt);
    assert_eq!(ids(&recovered), (0..60).filter(|id| !gone.contains(id)).collect::<Vec<_>>());
    assert!(open(&temp.config()).1.damage.is_empty());
}

#[test]
fn a_newer_format_is_refused() {
    let temp = Temp::new();
    five(&temp);
    let path = temp.path().join("segment-00000001");
    let mut bytes = std::fs::read(&path).expect("reads");
    bytes[8] = 7;
    let crc = crc32c::crc32c(&bytes[..40]);
    bytes[40..44].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&path, bytes).expect("written");
    let files = Directory::take(temp.path()).expect("taken");
    let refused = Engine::open(files, &temp.config(), [0; 16]).map(|_| ()).expect_err("is newer");
    assert!(matches!(refused, SpoolError::NewerFormat { found: 7, known: 1, .. }), "{refused}");
}

#[test]
fn a_parked_batch_pins_nothing_and_files_are_used_again() {
    let temp = Temp::new();
    let (mut engine, _) = open(&temp.config());
    engine.commit(&[group([batch(0, 3_000), stamp(0, 3, 0)])]).expect("written");
    let parked = Outcome::Parked { unknown: true, reason: "no leader".into() };
    engine.commit(&[group([Op::Outcome { batch: BatchId(0), outcome: parked }])]).expect("written");
    engine.commit(&[group([Op::Position { source: "s".into(), position: 77 }])]).expect("written");
    for id in 1..400 {
        engine.commit(&[group([batch(id, 3_000), stamp(id, 2, id as i32)])]).expect("written");
        engine.commit(&[group([delivered(id)])]).expect("written");
        if id % 5 == 0 {
            settle(&mut engine);
        }
        assert!(files(&temp) < 6 * temp.config().segment_bytes, "{} bytes", files(&temp));
    }
    assert_eq!(engine.read(BatchId(0)).expect("reads"), sealed(0, 3_000));
    drop(engine);
    let (mut engine, recovered) = open(&temp.config());
    assert_eq!(ids(&recovered), [0]);
    assert_eq!((recovered.next_id, recovered.next_order), (400, 400));
    assert_eq!(recovered.positions.get("s"), Some(&77));
    assert_eq!(recovered.batches[0].status, Status::Parked { unknown: true, reason: "no leader".into() });
    assert!(recovered.batches[0].stamp.is_some_and(|stamp| stamp.identity.epoch == 3));
    assert_eq!(recovered.identity.map(|identity| identity.epoch), Some(3));
    assert_eq!(engine.read(BatchId(0)).expect("reads"), sealed(0, 3_000));
    let slots = std::fs::read_dir(temp.path()).expect("lists").count();
    assert!(slots < 8, "{slots} files");
}

#[test]
fn a_batch_as_large_as_two_segments_has_one_of_its_own() {
    let temp = Temp::new();
    let (mut engine, _) = open(&temp.config());
    engine.commit(&[group([batch(0, 3_000)])]).expect("written");
    engine.commit(&[group([batch(1, 150_000)])]).expect("written");
    engine.commit(&[group([batch(2, 3_000)])]).expect("written");
    drop(engine);
    let (mut engine, recovered) = open(&temp.config());
    assert_eq!(ids(&recovered), [0, 1, 2]);
    assert_eq!(engine.read(BatchId(1)).expect("reads"), sealed(1, 150_000));
    engine.commit(&[group((0..3).map(delivered))]).expect("written");
    settle(&mut engine);
    // Two files are kept for later, and the large one is not.
    assert!(files(&temp) < 4 * temp.config().segment_bytes);
}

#[test]
fn many_groups_are_one_and_none_without_the_others() {
    let temp = Temp::new();
    let (mut engine, _) = open(&temp.config());
    engine.commit(&[group([batch(0, 9_000)]), group([batch(1, 9_000)]), group([stamp(1, 0, 0)])]).expect("written");
    drop(engine);
    let (path, offset) = place(&temp, 1);
    flip(&path, offset + 100);
    assert_eq!(ids(&open(&temp.config()).1), [] as [u64; 0]);
}

/// Written, not synced, then a power cut: one group is lost and those behind it are not.
#[test]
fn what_builds_on_a_hole_that_was_never_synced_is_set_aside() {
    let temp = Temp::new();
    let mut config = temp.config();
    config.durability = Durability::ProcessCrash;
    let (mut engine, _) = open(&config);
    for id in 0..6 {
        let position = Op::Position { source: "s".into(), position: id };
        engine.commit(&[group([batch(id, 3_000), position])]).expect("written");
    }
    drop(engine);
    let (path, offset) = place(&temp, 3);
    flip(&path, offset + 100);
    for round in 0..4 {
        let (mut engine, recovered) = open(&config);
        assert_eq!(ids(&recovered)[..3], [0, 1, 2]);
        assert_eq!(ids(&recovered).len(), 3 + round);
        assert_eq!(recovered.positions.get("s"), Some(&(2 + 10 * round as u64)));
        assert_eq!(recovered.damage.len(), usize::from(round == 0), "{:?}", recovered.damage);
        assert!(recovered.stamps_in_doubt);
        let position = Op::Position { source: "s".into(), position: 12 + 10 * round as u64 };
        engine.commit(&[group([batch(10 + round as u64, 3_000), position])]).expect("written");
    }
    assert_eq!(quarantined(&temp).len(), 1);
}

/// A directory whose syncs or writes fail on demand.
struct Failing {
    inner: Directory,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    sync: AtomicUsize,
    writes: AtomicUsize,
    full: AtomicBool,
}

impl Files for Failing {
    type File = File;
    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        self.inner.list()
    }
    fn create(&mut self, name: &str) -> io::Result<File> {
        self.inner.create(name)
    }
    fn open(&mut self, name: &str, writable: bool) -> io::Result<File> {
        self.inner.open(name, writable)
    }
    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }
    fn sync_dir(&mut self) -> io::Result<()> {
        self.inner.sync_dir()
    }
    fn read_at(&mut self, file: &mut File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let len = into.len().min(1000);
        self.inner.read_at(file, offset, &mut into[..len])
    }
    /// Always short, sometimes interrupted.
    fn write_at(&mut self, file: &mut File, offset: u64, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        if self.faults.full.load(Ordering::Relaxed) && offset % 3_000 > 1_500 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if self.faults.writes.fetch_add(1, Ordering::Relaxed) % 5 == 3 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let first = parts.iter().find(|part| !part.is_empty()).map_or(&[][..], |part| &part[..part.len().min(777)]);
        self.inner.write_at(file, offset, &[io::IoSlice::new(first)])
    }
    fn sync(&mut self, file: &mut File) -> io::Result<()> {
        if self.faults.sync.load(Ordering::Relaxed) > 0 {
            self.faults.sync.fetch_sub(1, Ordering::Relaxed);
            return Err(io::Error::other("I/O error"));
        }
        self.inner.sync(file)
    }
}

fn failing(temp: &Temp, durability: Durability) -> (Engine<Failing>, Arc<Faults>) {
    let (engine, _, faults) = failing_recovered(temp, durability);
    (engine, faults)
}

fn failing_recovered(temp: &Temp, durability: Durability) -> (Engine<Failing>, Recovered, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let inner = Directory::take(temp.path()).expect("taken");
    let mut config = temp.config();
    config.durability = durability;
    let files = Failing { inner, faults: faults.clone() };
    let (engine, recovered) = Engine::open(files, &config, [1; 16]).expect("opens");
    (engine, recovered, faults)
}

#[test]
fn a_segment_whose_sync_fails_is_left_and_nothing_is_lost() {
    for durability in [Durability::PowerLoss, Durability::ProcessCrash] {
        let temp = Temp::new();
        let (mut engine, faults) = failing(&temp, durability);
        for id in 0..30 {
            if id % 4 == 3 {
                faults.sync.store(1 + id as usize % 3, Ordering::Relaxed);
            }
            let ops = [batch(id, 3_000), stamp(id, 0, id as i32)];
            let mut tries = 0;
            while engine.commit(&[group(ops.clone())]).is_err() {
                tries += 1;
                assert!(tries < 5);
            }
            if id % 5 == 4 {
                engine.commit(&[group([delivered(id - 3)])]).unwrap_or_default();
                while engine.sync().is_err() || engine.maintain().is_err() {}
            }
        }
        while engine.sync().is_err() {}
        faults.sync.store(0, Ordering::Relaxed);
        settle(&mut engine);
        for id in (0..30).filter(|id| (id + 3) % 5 != 4) {
            assert_eq!(engine.read(BatchId(id)).expect("reads"), sealed(id, 3_000), "{id}");
        }
        drop(engine);
        let (_, recovered) = open(&temp.config());
        let found = ids(&recovered);
        assert!((0..30).filter(|id| (id + 3) % 5 != 4).all(|id| found.contains(&id)), "{found:?}");
        assert!(recovered.damage.is_empty(), "{:?}", recovered.damage);
        assert!(recovered.batches.iter().all(|batch| batch.stamp.is_some()));
    }
}

#[test]
fn without_space_nothing_counts_and_it_goes_on_when_there_is_some() {
    let temp = Temp::new();
    let (mut engine, faults) = failing(&temp, Durability::PowerLoss);
    let mut written = Vec::new();
    for id in 0..100 {
        faults.full.store(id % 3 != 0, Ordering::Relaxed);
        let ops: Vec<Group> = (0..1 + id % 2).map(|half| group([batch(2 * id + half, 4_000)])).collect();
        while engine.commit(&ops).is_err() {
            faults.full.store(false, Ordering::Relaxed);
        }
        written.extend((0..1 + id % 2).map(|half| 2 * id + half));
    }
    drop(engine);
    let (_, recovered) = open(&temp.config());
    assert_eq!(ids(&recovered), written);
    assert!(recovered.damage.is_empty());
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
}

/// Length, epoch and sequence, status.
type Known = (usize, Option<(i16, i32)>, Status);

/// What a spool should say.
#[derive(Default)]
struct Model {
    live: BTreeMap<u64, Known>,
    position: Option<u64>,
    highest: Option<i16>,
    next: u64,
}

impl Model {
    fn ops(&mut self, random: &mut Random) -> Vec<Op> {
        let mut ops = Vec::new();
        for _ in 0..1 + random.below(4) {
            let some = self.live.keys().copied().nth(random.below(self.live.len().max(1) as u64) as usize);
            match (random.below(10), some) {
                (0..4, _) if self.live.len() < 40 => {
                    let len = random.below(9_000) as usize;
                    ops.push(batch(self.next, len));
                    self.live.insert(self.next, (len, None, Status::Ready));
                    self.next += 1;
                }
                (4, _) => {
                    let position = self.position.unwrap_or(0) + random.below(9);
                    self.position = Some(position);
                    ops.push(Op::Position { source: "s".into(), position });
                }
                (5, Some(id)) => {
                    let (epoch, sequence) = (random.below(50) as i16, random.below(99) as i32);
                    self.highest = self.highest.max(Some(epoch));
                    self.live.entry(id).and_modify(|(_, stamp, _)| *stamp = Some((epoch, sequence)));
                    ops.push(stamp(id, epoch, sequence));
                }
                (6, Some(id)) => {
                    let (unknown, reason): (_, Arc<str>) = (random.below(2) == 0, "because".into());
                    let (outcome, status) = match random.below(3) {
                        0 => (Outcome::Parked { unknown, reason: reason.clone() }, Status::Parked { unknown, reason }),
                        1 => (Outcome::Dead { unknown, reason: reason.clone() }, Status::Dead { unknown, reason }),
                        _ => (Outcome::Ready { afresh: unknown }, Status::Ready),
                    };
                    let afresh = outcome == Outcome::Ready { afresh: true };
                    self.live.entry(id).and_modify(|(_, stamp, old)| {
                        *old = status;
                        *stamp = stamp.filter(|_| !afresh);
                    });
                    ops.push(Op::Outcome { batch: BatchId(id), outcome });
                }
                (7.., Some(id)) => {
                    self.live.remove(&id);
                    ops.push(delivered(id));
                }
                _ => {}
            }
        }
        ops
    }

    fn check(&self, engine: &mut Engine<impl Files>, recovered: &Recovered) {
        assert_eq!(ids(recovered), self.live.keys().copied().collect::<Vec<_>>());
        for found in &recovered.batches {
            let (len, stamp, status) = &self.live[&found.id.0];
            assert_eq!(found.stamp.map(|stamp| (stamp.identity.epoch, stamp.base_sequence)), *stamp);
            assert_eq!(found.status, *status);
            assert_eq!(engine.read(found.id).expect("reads"), sealed(found.id.0, *len));
        }
        assert_eq!(recovered.positions.get("s").copied(), self.position);
        assert_eq!(recovered.identity.map(|identity| identity.epoch), self.highest);
        assert_eq!(recovered.next_id, self.next);
        assert!(recovered.damage.is_empty() && !recovered.stamps_in_doubt, "{:?}", recovered.damage);
    }
}

/// Random operations, reopened now and then, with failing syncs and a full disk in between.
#[test]
fn lives_of_a_spool() {
    for seed in 0..6 {
        let (temp, mut random, mut model) = (Temp::new(), Random(seed), Model::default());
        for life in 0..6 {
            let durability = if random.below(2) == 0 { Durability::PowerLoss } else { Durability::ProcessCrash };
            let (mut engine, recovered, faults) = failing_recovered(&temp, durability);
            model.check(&mut engine, &recovered);
            for _ in 0..random.below(80) {
                match random.below(30) {
                    0 => faults.sync.store(random.below(4) as usize, Ordering::Relaxed),
                    1 => faults.full.store(true, Ordering::Relaxed),
                    2..8 => drop(engine.maintain()),
                    8 => drop(engine.sync()),
                    _ => {}
                }
                let groups: Vec<Group> = (0..1 + random.below(2)).map(|_| group(model.ops(&mut random))).collect();
                for tries in 0.. {
                    if engine.commit(&groups).is_ok() {
                        break;
                    }
                    assert!(tries < 9, "seed {seed} life {life}");
                    faults.full.store(false, Ordering::Relaxed);
                }
                let dead = engine.usage();
                assert!(dead.live >= dead.dead, "{dead:?}");
            }
            faults.full.store(false, Ordering::Relaxed);
            // A process that ends without ado, or after syncing.
            if random.below(2) == 0 {
                while engine.sync().is_err() {}
            }
        }
    }
}

/// Whatever happens to the bytes: no panic, nothing in silence, and afterwards a spool that works.
#[test]
fn random_damage() {
    for seed in 0..40 {
        let (temp, mut random, mut model) = (Temp::new(), Random(1_000 + seed), Model::default());
        let mut config = temp.config();
        config.durability = Durability::ProcessCrash;
        let (mut engine, _) = open(&config);
        for _ in 0..40 {
            let ops = model.ops(&mut random);
            engine.commit(&[group(ops)]).expect("written");
        }
        // Proves that all before it was synced.
        engine.sync().expect("synced");
        engine.commit(&[group([Op::Cluster("c".into())])]).expect("written");
        drop(engine);
        let all = look(&temp);
        let last = all.segments.last().expect("one").clone();
        for _ in 0..1 + random.below(3) {
            let file = &all.segments[random.below(all.segments.len() as u64) as usize];
            let end = if file.sequence == last.sequence { last.end - 512 } else { file.end };
            flip(&temp.path().join(&file.name), random.below(end.max(1)));
        }
        let mut damaged = look(&temp);
        let (mut engine, recovered) = open(&temp.config());
        assert_eq!(damaged.damage.len(), recovered.damage.len(), "seed {seed}");
        assert_eq!(damaged.state.recovered().batches, recovered.batches);
        let found = ids(&recovered);
        let lost = model.live.keys().any(|id| !found.contains(id));
        let back = found.iter().any(|id| !model.live.contains_key(id));
        assert!(!(lost || back) || !recovered.damage.is_empty(), "seed {seed}");
        for id in found {
            engine.read(BatchId(id)).expect("reads");
        }
        engine.commit(&[group([Op::Position { source: "after".into(), position: 1 }])]).expect("written");
        drop(engine);
        let (_, again) = open(&temp.config());
        assert!(again.damage.is_empty(), "seed {seed}: {:?}", again.damage);
        assert_eq!((again.batches, again.stamps_in_doubt), (recovered.batches, recovered.stamps_in_doubt));
    }
}
