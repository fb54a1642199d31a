//! A disk in memory that does what disks may do and seldom do: it loses what was not synced, tears writes, forgets names,
//! fails a sync and then claims that all is well, is full, writes half of what it was asked to, and stops in the middle of
//! anything. All of it by a seed.
//!
//! What a process sees (`content`) and what a power cut leaves (`durable`) are kept apart by sectors. Handles belong to the
//! process that opened them: after a crash they are of no use.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a disk for tests may fail loudly"
)]
#![cfg_attr(fuzzing, allow(dead_code, reason = "the fuzz target has no use for most faults"))]

use super::files::Files;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a disk writes at once.
pub(crate) const SECTOR: usize = 512;

/// Numbers that look random and follow from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// What a power cut does to what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsynced {
    /// All of it is gone.
    Dropped,
    /// All of it had been written already.
    Kept,
    /// What was written first is kept, up to some point.
    Prefix,
    /// Some sectors and names are kept, some are not, some are torn in the middle.
    Some,
}

/// What goes wrong besides crashes; nothing by default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// So many of the next syncs fail.
    pub(crate) failing_syncs: u32,
    /// So many of the next syncs of the directory fail.
    pub(crate) failing_dir_syncs: u32,
    /// All files together may not become larger.
    pub(crate) space: Option<u64>,
    /// In percent: how many reads and writes do only part of what they were asked for.
    pub(crate) short: usize,
    /// In percent: how many reads and writes are interrupted before they begin.
    pub(crate) interrupted: usize,
    /// The operation, counted from the first on this disk, in the middle of which everything ends.
    pub(crate) crash_at: Option<u64>,
    /// Syncs do nothing and report success: for trying the tests themselves.
    pub(crate) lying_syncs: bool,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that are not durable, with the number of the write that was the last on them.
    dirty: BTreeMap<usize, u64>,
    /// Sectors whose write failed and that count as clean: the content shows them, the platter never will.
    lost: BTreeSet<usize>,
}

impl Inode {
    fn sectors(len: usize) -> usize {
        len.div_ceil(SECTOR)
    }

    fn range(&self, sector: usize) -> std::ops::Range<usize> {
        let start = (sector * SECTOR).min(self.content.len());
        start..(start + SECTOR).min(self.content.len())
    }

    /// What is durable of a sector, zeros where nothing ever was.
    fn durable_sector(&self, sector: usize, len: usize) -> Vec<u8> {
        let start = sector * SECTOR;
        (start..start + len).map(|at| self.durable.get(at).copied().unwrap_or(0)).collect()
    }

    /// The sector's content goes to the platter.
    fn settle(&mut self, sector: usize) {
        let range = self.range(sector);
        if self.durable.len() < range.end {
            self.durable.resize(range.end, 0);
        }
        self.durable[range.clone()].copy_from_slice(&self.content[range]);
    }

    /// The process sees again what is on the platter.
    fn revert(&mut self, sector: usize) {
        let range = self.range(sector);
        let old = self.durable_sector(sector, range.len());
        self.content[range].copy_from_slice(&old);
    }

    fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty).into_keys() {
            self.settle(sector);
        }
        // The size goes with the data.
        self.durable.resize(self.content.len().max(self.durable.len()), 0);
    }

    /// Some sectors made it, some are still to be written, and some count as clean although they never will be.
    fn fail_sync(&mut self, random: &mut Random) {
        for (sector, written) in std::mem::take(&mut self.dirty) {
            match random.below(8) {
                0 | 1 => self.settle(sector),
                2 => {
                    self.dirty.insert(sector, written);
                }
                3 => self.revert(sector),
                _ => {
                    self.lost.insert(sector);
                }
            }
        }
    }

    fn power_cut(&mut self, unsynced: Unsynced, random: &mut Random) {
        let (old, new) = (self.durable.len(), self.content.len());
        let mut writes: Vec<u64> = self.dirty.values().copied().collect();
        writes.sort_unstable();
        let until = if writes.is_empty() { 0 } else { writes[random.below(writes.len())] };
        let mut kept = Vec::new();
        for (&sector, &written) in &self.dirty {
            let keep = match unsynced {
                Unsynced::Dropped => false,
                Unsynced::Kept => true,
                Unsynced::Prefix => written <= until,
                Unsynced::Some => random.chance(50),
            };
            if keep {
                kept.push(sector);
            }
        }
        let len = match unsynced {
            Unsynced::Dropped => old,
            Unsynced::Kept => new,
            Unsynced::Prefix => kept.last().map_or(old, |last| self.range(*last).end).max(old),
            Unsynced::Some => old + random.below(new.saturating_sub(old) + 1),
        };
        for sector in kept {
            let before = self.durable_sector(sector, self.range(sector).len());
            self.settle(sector);
            // Even a sector may be written in part.
            if unsynced == Unsynced::Some && random.chance(10) {
                let start = sector * SECTOR;
                let torn = random.below(before.len() + 1);
                self.durable[start + torn..start + before.len()].copy_from_slice(&before[torn..]);
            }
        }
        self.durable.resize(len.max(old), 0);
        self.content.clone_from(&self.durable);
        self.dirty.clear();
        self.lost.clear();
    }
}

#[derive(Debug)]
struct State {
    random: Random,
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    faults: Faults,
    operations: u64,
    writes: u64,
    /// Which process has it: handles of an earlier one are dead.
    process: u64,
    crashed: bool,
    syncs: u64,
    trace: Option<Vec<String>>,
}

/// The disk; clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Disk(Arc<Mutex<State>>);

/// An open file on it.
#[derive(Debug)]
pub(crate) struct Handle {
    inode: usize,
    process: u64,
    writable: bool,
}

/// EIO, where the operating system has it.
fn eio() -> io::Error {
    io::Error::other("input/output error (injected)")
}

fn crashed() -> io::Error {
    io::Error::other("the process is dead (injected)")
}

impl Disk {
    pub(crate) fn new(seed: u64) -> Disk {
        Disk(Arc::new(Mutex::new(State {
            random: Random(seed),
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            faults: Faults::default(),
            operations: 0,
            writes: 0,
            process: 0,
            crashed: false,
            syncs: 0,
            trace: std::env::var_os("INDELIBLE_TRACE").map(|_| Vec::new()),
        })))
    }

    /// A disk with these files, all durable.
    pub(crate) fn holding(seed: u64, files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Disk {
        let disk = Disk::new(seed);
        {
            let mut state = disk.state();
            for (name, bytes) in files {
                let inode = Inode { durable: bytes.clone(), content: bytes, ..Inode::default() };
                let number = state.inodes.len();
                state.inodes.push(inode);
                state.names.insert(name.clone(), number);
                state.durable_names.insert(name, number);
            }
        }
        disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what goes wrong from now on.
    pub(crate) fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state().faults);
    }

    /// How many operations there were.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many syncs of files there were.
    pub(crate) fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// In the `after`-th operation from now on everything ends.
    pub(crate) fn crash_after(&self, after: u64) {
        let mut state = self.state();
        state.faults.crash_at = Some(state.operations + after);
    }

    /// Whether it has.
    pub(crate) fn is_crashed(&self) -> bool {
        self.state().crashed
    }

    /// The process dies here; nothing works any more until [`Disk::kill`] or [`Disk::power_cut`].
    pub(crate) fn die(&self) {
        self.state().crashed = true;
    }

    /// The process is dead and the next one comes: what was written is there, synced or not.
    pub(crate) fn kill(&self) {
        let mut state = self.state();
        state.restart("kill");
        // What a failed sync left in memory only is forgotten sooner or later.
        let State { random, inodes, .. } = &mut *state;
        for inode in inodes {
            for sector in inode.lost.clone() {
                if random.chance(50) {
                    inode.lost.remove(&sector);
                    inode.revert(sector);
                }
            }
        }
    }

    /// The power is gone and comes back.
    pub(crate) fn power_cut(&self, unsynced: Unsynced) {
        let mut state = self.state();
        state.restart("power cut");
        let State { random, inodes, names, durable_names, .. } = &mut *state;
        for inode in inodes.iter_mut() {
            inode.power_cut(unsynced, random);
        }
        let all: BTreeSet<String> = names.keys().chain(durable_names.keys()).cloned().collect();
        for name in all {
            let (now, durable) = (names.get(&name).copied(), durable_names.get(&name).copied());
            let keep = match unsynced {
                Unsynced::Dropped => false,
                Unsynced::Kept => true,
                Unsynced::Prefix | Unsynced::Some => random.chance(50),
            };
            let left = if keep { now } else { durable };
            match left {
                Some(inode) => names.insert(name, inode),
                None => names.remove(&name),
            };
        }
        durable_names.clone_from(names);
    }

    /// Names and contents, as a process sees them.
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let state = self.state();
        state.names.iter().map(|(name, inode)| (name.clone(), state.inodes[*inode].content.clone())).collect()
    }

    /// How much its files hold.
    pub(crate) fn used(&self) -> u64 {
        let state = self.state();
        state.used()
    }

    /// Changes a file's bytes behind everybody's back.
    pub(crate) fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let inode = *state.names.get(name).unwrap_or_else(|| panic!("no file {name}"));
        let inode = &mut state.inodes[inode];
        change(&mut inode.content);
        inode.durable.clone_from(&inode.content);
        inode.dirty.clear();
        inode.lost.clear();
    }

    /// What was done, with `INDELIBLE_TRACE`.
    pub(crate) fn trace(&self) -> String {
        self.state().trace.as_ref().map(|lines| lines.join("\n")).unwrap_or_default()
    }

    /// Writes a line among the operations.
    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        self.state().traced(line);
    }
}

impl State {
    fn traced(&mut self, line: impl FnOnce() -> String) {
        let operations = self.operations;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{operations:6} {}", line()));
        }
    }

    fn restart(&mut self, what: &'static str) {
        self.traced(|| format!("---- {what}"));
        self.process += 1;
        self.crashed = false;
        self.faults.crash_at = None;
    }

    fn used(&self) -> u64 {
        let inodes: BTreeSet<usize> = self.names.values().copied().collect();
        inodes.iter().map(|inode| self.inodes[*inode].content.len() as u64).sum()
    }

    /// Counts an operation; true when everything ends in it.
    fn begin(&mut self, file: Option<&Handle>, line: impl FnOnce() -> String) -> io::Result<bool> {
        if self.crashed || file.is_some_and(|file| file.process != self.process) {
            return Err(crashed());
        }
        self.operations += 1;
        if self.trace.is_some() {
            let name = file.map(|file| self.name(file.inode)).unwrap_or_default();
            self.traced(|| format!("{} {name}", line()));
        }
        self.crashed = self.faults.crash_at.is_some_and(|at| self.operations >= at);
        Ok(self.crashed)
    }

    fn interrupt(&mut self) -> io::Result<()> {
        let percent = self.faults.interrupted;
        if percent > 0 && self.random.chance(percent) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(())
    }

    fn shorten(&mut self, len: usize) -> usize {
        let percent = self.faults.short;
        if percent > 0 && len > 1 && self.random.chance(percent) { 1 + self.random.below(len - 1) } else { len }
    }

    fn name(&self, inode: usize) -> String {
        let name = self.names.iter().find(|(_, number)| **number == inode);
        name.map_or_else(|| format!("(removed {inode})"), |(name, _)| name.clone())
    }
}

impl Files for Disk {
    type File = Handle;

    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        let mut state = self.state();
        if state.begin(None, || "list".to_owned())? {
            return Err(crashed());
        }
        Ok(state.names.iter().map(|(name, inode)| (name.clone(), state.inodes[*inode].content.len() as u64)).collect())
    }

    fn create(&mut self, name: &str) -> io::Result<Handle> {
        let mut state = self.state();
        let ends = state.begin(None, || format!("create {name}"))?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if ends && state.random.chance(50) {
            return Err(crashed());
        }
        if state.faults.space.is_some_and(|space| state.used() >= space) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.names.insert(name.to_owned(), inode);
        let process = state.process;
        if ends { Err(crashed()) } else { Ok(Handle { inode, process, writable: true }) }
    }

    fn open(&mut self, name: &str, writable: bool) -> io::Result<Handle> {
        let mut state = self.state();
        if state.begin(None, || format!("open {name}"))? {
            return Err(crashed());
        }
        let inode = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Handle { inode, process: state.process, writable })
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let ends = state.begin(None, || format!("remove {name}"))?;
        if !ends || state.random.chance(50) {
            state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        }
        if ends { Err(crashed()) } else { Ok(()) }
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        let mut state = self.state();
        let ends = state.begin(None, || "sync_dir".to_owned())?;
        if state.faults.failing_dir_syncs > 0 {
            state.faults.failing_dir_syncs -= 1;
            state.traced(|| "     ^ fails".to_owned());
            return Err(eio());
        }
        let lies = state.faults.lying_syncs;
        if !lies && (!ends || state.random.chance(50)) {
            let State { names, durable_names, .. } = &mut *state;
            durable_names.clone_from(names);
        }
        if ends { Err(crashed()) } else { Ok(()) }
    }

    fn read_at(&mut self, file: &mut Handle, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state();
        if state.begin(Some(file), || format!("read {} at {offset} of", into.len()))? {
            return Err(crashed());
        }
        state.interrupt()?;
        let content = &state.inodes[file.inode].content;
        let left = content.len().saturating_sub(usize::try_from(offset).unwrap_or(usize::MAX));
        let len = state.shorten(into.len().min(left));
        if len > 0 {
            let start = offset as usize;
            into[..len].copy_from_slice(&state.inodes[file.inode].content[start..start + len]);
        }
        Ok(len)
    }

    fn write_at(&mut self, file: &mut Handle, offset: u64, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.state();
        let asked: usize = parts.iter().map(|part| part.len()).sum();
        let ends = state.begin(Some(file), || format!("write {asked} at {offset} of"))?;
        assert!(file.writable, "a write to a file opened for reading");
        state.interrupt()?;
        let mut len = state.shorten(asked);
        if ends {
            len = state.random.below(len + 1);
        }
        let start = usize::try_from(offset).unwrap();
        let size = state.inodes[file.inode].content.len();
        if let Some(space) = state.faults.space {
            let growth = (start + len).saturating_sub(size);
            let left = space.saturating_sub(state.used()) as usize;
            if growth > left {
                len = len.saturating_sub(growth - left);
                if len == 0 || start + len <= start {
                    state.traced(|| "     ^ no space".to_owned());
                    return Err(io::ErrorKind::StorageFull.into());
                }
            }
        }
        state.writes += 1;
        let number = state.writes;
        let inode = &mut state.inodes[file.inode];
        if len > 0 && start + len > inode.content.len() {
            // A hole reads as zeros; its sectors are as undurable as the rest.
            for sector in Inode::sectors(inode.content.len())..Inode::sectors(start) {
                inode.dirty.insert(sector, number);
            }
            inode.content.resize(start + len, 0);
        }
        let mut at = start;
        for part in parts {
            let part = &part[..part.len().min(start + len - at)];
            inode.content[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        if len > 0 {
            for sector in start / SECTOR..=(start + len - 1) / SECTOR {
                inode.dirty.insert(sector, number);
                inode.lost.remove(&sector);
            }
        }
        if ends { Err(crashed()) } else { Ok(len) }
    }

    fn sync(&mut self, file: &mut Handle) -> io::Result<()> {
        let mut state = self.state();
        let ends = state.begin(Some(file), || "sync".to_owned())?;
        state.syncs += 1;
        if state.faults.failing_syncs > 0 {
            state.faults.failing_syncs -= 1;
            state.traced(|| "     ^ fails".to_owned());
            let State { random, inodes, .. } = &mut *state;
            inodes[file.inode].fail_sync(random);
            return Err(eio());
        }
        if ends {
            // How far it came shows when the power is cut.
            return Err(crashed());
        }
        if !state.faults.lying_syncs {
            state.inodes[file.inode].sync();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
