//! A spool's life on a faulty disk beside the model: what was acknowledged must be there after every crash, and of what
//! was not, a prefix of whole groups.

use super::generate::Generator;
use super::model::Model;
use crate::config::{Durability, SpoolConfig};
use crate::core::spool::{BatchId, Group, Recovered};
use crate::error::SpoolError;
use crate::io::spool::engine::Engine;
use crate::io::spool::faulty::{Disk, Random, Unsynced};

/// Small segments, so that a short life fills several.
pub(super) const SEGMENT: u64 = 64 << 10;

pub(super) fn config(durability: Durability) -> SpoolConfig {
    SpoolConfig { durability, segment_bytes: SEGMENT, max_bytes: 64 * SEGMENT, ..SpoolConfig::new("/spool") }
}

pub(super) fn open(disk: &Disk, config: &SpoolConfig) -> Result<(Engine<Disk>, Recovered), SpoolError> {
    Engine::open(disk.clone(), config, *b"0123456789abcdef")
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Kill,
    PowerCut(Unsynced),
}

impl End {
    /// What `durability` promises to survive.
    pub(super) fn all(durability: Durability) -> &'static [End] {
        use Unsynced::{Dropped, Kept, Prefix, Some};
        let all = &[End::Kill, End::PowerCut(Dropped), End::PowerCut(Kept), End::PowerCut(Prefix), End::PowerCut(Some)];
        if durability == Durability::PowerLoss { all } else { &all[..1] }
    }
}

pub(super) struct Life {
    pub(super) disk: Disk,
    pub(super) config: SpoolConfig,
    pub(super) random: Random,
    pub(super) generator: Generator,
    /// What was acknowledged.
    pub(super) model: Model,
    /// What was asked for and not acknowledged.
    pub(super) pending: Vec<Group>,
    pub(super) engine: Option<Engine<Disk>>,
    pub(super) crashes: u32,
    /// Always ends in this way; at random when there is none.
    pub(super) end: Option<End>,
    /// In percent: how often the process after a crash dies too.
    pub(super) again: usize,
    /// How many of the groups under way when it crashed were there afterwards.
    survivors: usize,
}

impl Life {
    pub(super) fn new(seed: u64, durability: Durability) -> Life {
        let mut life = Life {
            disk: Disk::new(seed ^ 1),
            config: config(durability),
            random: Random(seed ^ 2),
            generator: Generator::new(seed ^ 3),
            model: Model::default(),
            pending: Vec::new(),
            engine: None,
            crashes: 0,
            end: None,
            again: 40,
            survivors: 0,
        };
        life.reopen();
        life
    }

    fn power_loss(&self) -> bool {
        self.config.durability == Durability::PowerLoss
    }

    pub(super) fn engine(&mut self) -> &mut Engine<Disk> {
        self.engine.as_mut().expect("an open engine")
    }

    /// Makes one to three groups and has them written; what fails is tried again, or the process dies of it.
    pub(super) fn commit(&mut self) {
        let mut after = self.model.clone();
        for _ in 0..=self.random.below(3) {
            let group = self.generator.group(&after);
            after.apply(&group);
            self.pending.push(group);
        }
        self.write_pending();
    }

    /// Writes these groups, and says how many of them are there now: all, unless it crashed.
    pub(super) fn commit_these(&mut self, groups: &[Group]) -> usize {
        self.pending = groups.to_vec();
        self.survivors = groups.len();
        self.write_pending();
        self.survivors
    }

    fn write_pending(&mut self) {
        for attempt in 0..8 {
            let groups = self.pending.clone();
            let disturbed = self.faults_left();
            self.disk.note(|| format!("commit {groups:?}"));
            let result = self.engine().commit(&groups);
            match result {
                // Whatever it says, it does not come to say it.
                _ if self.disk.is_crashed() => return self.after_crash(),
                Ok(()) => return self.acknowledged(),
                Err(error) => {
                    self.disk.note(|| format!("     {error}"));
                    assert!(disturbed, "nothing is wrong any more, and still: {error}");
                }
            }
            if self.random.chance(20) {
                self.disk.die();
                return self.after_crash();
            }
            if attempt > 1 {
                self.heal();
            }
            if self.random.chance(30) {
                self.maintain();
                if self.pending.is_empty() {
                    return; // it crashed
                }
            }
            if self.random.chance(30) {
                self.read_some();
                if self.pending.is_empty() {
                    return;
                }
            }
        }
        panic!("groups that cannot be written");
    }

    fn acknowledged(&mut self) {
        for group in std::mem::take(&mut self.pending) {
            self.model.apply(&group);
        }
    }

    fn faults_left(&mut self) -> bool {
        let mut left = false;
        self.disk.faults(|faults| {
            left = faults.space.is_some()
                || faults.failing_syncs + faults.failing_dir_syncs > 0
                || faults.short + faults.interrupted > 0;
        });
        left
    }

    pub(super) fn heal(&mut self) {
        self.disk.faults(|faults| {
            let crash_at = faults.crash_at;
            *faults = Default::default();
            faults.crash_at = crash_at;
        });
    }

    pub(super) fn maintain(&mut self) {
        self.disk.note(|| "maintain".to_owned());
        let result = self.engine().maintain();
        if self.disk.is_crashed() {
            self.after_crash();
        } else if let Err(error) = result {
            self.disk.note(|| format!("     {error}"));
        }
    }

    /// Reads some batches back and compares them.
    pub(super) fn read_some(&mut self) {
        let ids: Vec<BatchId> = self.model.batches.keys().copied().collect();
        for _ in 0..3 {
            if ids.is_empty() {
                return;
            }
            let id = ids[self.random.below(ids.len())];
            self.disk.note(|| format!("read {id}"));
            match self.engine().read(id) {
                Ok(sealed) => assert!(sealed == self.model.batches[&id].batch.sealed, "{id} reads as something else"),
                Err(_) if self.disk.is_crashed() => return self.after_crash(),
                Err(error) => panic!("{id} is not to be read: {error}"),
            }
        }
    }

    /// Breaks something, sometimes.
    pub(super) fn disturb(&mut self) {
        let power_loss = self.power_loss();
        let (choice, n) = (self.random.below(10), self.random.below(3) as u32);
        let used = self.disk.used();
        let space = used + self.random.below(SEGMENT as usize * 2) as u64;
        self.disk.faults(|faults| match choice {
            0 if power_loss => faults.failing_syncs = 1 + n,
            1 if power_loss => faults.failing_dir_syncs = 1 + n,
            2 => faults.space = Some(space),
            3 => faults.short = 30,
            4 => faults.interrupted = 20,
            _ => {}
        });
        if choice >= 5 {
            let after = if self.random.chance(50) { self.random.below(6) } else { self.random.below(60) };
            self.disk.crash_after(1 + after as u64);
        }
    }

    /// The process ends here.
    pub(super) fn crash(&mut self) {
        self.disk.die();
        self.after_crash();
    }

    /// It has ended. The next one may end in the middle of its recovery, and so on.
    pub(super) fn after_crash(&mut self) {
        self.crashes += 1;
        self.engine = None;
        self.end_process();
        self.heal();
        while self.random.chance(self.again) {
            let after = 1 + self.random.below(40) as u64;
            self.disk.crash_after(after);
            let died = match open(&self.disk, &self.config) {
                Ok((engine, recovered)) => {
                    // What it was told it may act upon.
                    self.verify(&recovered);
                    self.adopt(&recovered);
                    let died = self.disk.is_crashed();
                    self.disk.die();
                    drop(engine);
                    died
                }
                Err(error) => {
                    assert!(self.disk.is_crashed(), "not opened: {error}");
                    true
                }
            };
            self.disk.note(|| format!("recovery ended, died in it: {died}"));
            self.end_process();
        }
        self.reopen();
    }

    pub(super) fn end_process(&mut self) {
        let all = End::all(self.config.durability);
        match self.end.unwrap_or(all[self.random.below(all.len())]) {
            End::Kill => self.disk.kill(),
            End::PowerCut(unsynced) => self.disk.power_cut(unsynced),
        }
    }

    /// Closes in peace.
    pub(super) fn close(&mut self) {
        self.engine = None;
        self.disk.note(|| "closed".to_owned());
        self.heal();
        self.disk.kill();
        self.reopen();
    }

    pub(super) fn reopen(&mut self) {
        let (engine, recovered) = match open(&self.disk, &self.config) {
            Ok(opened) => opened,
            Err(error) => panic!("not opened: {error}"),
        };
        self.engine = Some(engine);
        self.verify(&recovered);
        self.adopt(&recovered);
        let all: Vec<BatchId> = self.model.batches.keys().copied().collect();
        for id in all {
            let sealed = self.engine().read(id).unwrap_or_else(|error| panic!("{id} is not to be read: {error}"));
            assert!(sealed == self.model.batches[&id].batch.sealed, "{id} reads as something else");
        }
    }

    /// Compares with the model, and takes over what turned out to be there of what was never acknowledged.
    pub(super) fn verify(&mut self, recovered: &Recovered) {
        assert!(recovered.damage.is_empty(), "damage: {:?}", recovered.damage);
        assert!(!recovered.stamps_in_doubt, "stamps in doubt");
        let mut after = self.model.clone();
        let pending = std::mem::take(&mut self.pending);
        let mut differences = Vec::new();
        for survivors in 0..=pending.len() {
            let Some(difference) = after.difference(recovered) else {
                if !pending.is_empty() {
                    self.survivors = survivors;
                }
                self.model = after;
                return;
            };
            differences.push(difference);
            if let Some(group) = pending.get(survivors) {
                after.apply(group);
            }
        }
        panic!("after none, one, two, ... of the last groups:\n{}", differences.join("\n"));
    }

    fn adopt(&mut self, recovered: &Recovered) {
        self.generator.next_id = recovered.next_id;
        self.generator.next_order = recovered.next_order;
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.disk.trace());
        }
    }
}
