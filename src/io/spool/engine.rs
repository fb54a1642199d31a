//! The spool on disk, one call at a time: no thread, no clock. What is decided without a file is in `core::spool`.

use super::disk::Disk;
use super::files::Files;
use super::scan::{Scan, SegmentFile, scan};
use crate::config::{Durability, SpoolConfig};
use crate::core::spool::build::GroupBuilder;
use crate::core::spool::format::{
    BatchHead, ENTRY_HEAD, Entry, EntryHead, Place, SEGMENT_HEAD, SegmentHead, SpoolId, entry_crc,
};
use crate::core::spool::state::{Located, State};
use crate::core::spool::{BatchId, Group, Op, Recovered};
use crate::error::SpoolError;
use crate::wire::batch::{RecordsSection, SealedBatch};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;

/// How far ahead of the data a new file is filled with zeros: overwriting what is there already is what syncs quickly.
const FILL: u64 = 4 << 20;

/// A spool that is open for writing.
pub(crate) struct Engine<F: Files> {
    pub(super) disk: Disk<F>,
    pub(super) durability: Durability,
    pub(super) segment_bytes: u64,
    pub(super) max_bytes: u64,
    pub(super) spool: SpoolId,
    pub(super) state: State,
    pub(super) segments: BTreeMap<u64, SegmentFile>,
    pub(super) current: Option<Current<F::File>>,
    /// Files to be used again.
    pub(super) spares: Vec<(String, u64)>,
    /// Up to here all is synced.
    pub(super) durable: Place,
    pub(super) number: u64,
    pub(super) sequence: u64,
    pub(super) oldest: u64,
    pub(super) next_slot: u64,
    pub(super) reading: Option<(u64, F::File)>,
    /// Segments whose sync failed and that still hold what counts.
    pub(super) poisoned: BTreeSet<u64>,
    /// A file in which a segment was begun and not brought to its end; used before any other.
    pub(super) unfinished: Option<(String, u64)>,
    /// Copies are being made: the room kept for them may be used.
    pub(super) evacuating: bool,
    /// Files to be removed and never used again.
    pub(super) doomed: Vec<String>,
}

/// The segment being written.
pub(super) struct Current<T> {
    pub(super) sequence: u64,
    pub(super) name: String,
    pub(super) file: T,
    /// Where the next group goes.
    pub(super) at: u64,
    /// Up to here it holds bytes or zeros.
    pub(super) filled: u64,
    pub(super) capacity: u64,
}

/// What a spool takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Batches that are not settled.
    pub(crate) live: u64,
    /// Those of them that are dead.
    pub(crate) dead: u64,
    /// The most that live ones may take.
    pub(crate) limit: u64,
    /// The most that dead ones may take before nothing more is taken.
    pub(crate) dead_limit: u64,
    /// All segment files.
    pub(crate) files: u64,
}

impl<F: Files> Engine<F> {
    /// Reads the spool in `files` and makes it ready for writing. `entropy` names it if it is new.
    pub(crate) fn open(
        files: F,
        config: &SpoolConfig,
        entropy: [u8; 16],
    ) -> Result<(Engine<F>, Recovered), SpoolError> {
        let mut disk = Disk::new(files, config.directory.clone());
        let Scan { spool, mut state, segments, unused, damage, number, sequence, oldest, next_slot } = scan(&mut disk)?;
        let mut recovered = state.recovered();
        // A segment that was not begun to its end says nothing about those before it.
        let last = segments.iter().rev().find(|file| file.end > SEGMENT_HEAD);
        let last = last.map(|file| Place { segment: file.sequence, offset: file.end });
        let mut engine = Engine {
            disk,
            durability: config.durability,
            segment_bytes: config.segment_bytes.max(8 * SEGMENT_HEAD),
            max_bytes: config.max_bytes,
            spool: spool.unwrap_or(SpoolId(entropy)),
            state,
            segments: segments.into_iter().map(|file| (file.sequence, file)).collect(),
            current: None,
            spares: unused,
            durable: last.unwrap_or_default(),
            number,
            sequence,
            oldest: oldest.max(1),
            next_slot,
            reading: None,
            poisoned: BTreeSet::new(),
            unfinished: None,
            evacuating: false,
            doomed: Vec::new(),
        };
        recovered.damage = engine.settle(damage)?;
        recovered.stamps_in_doubt = engine.state.stamps_in_doubt();
        Ok((engine, recovered))
    }

    /// Writes `groups` as one, as durable as the settings say. After an error nothing of them counts, and they may be
    /// given again.
    pub(crate) fn commit(&mut self, groups: &[Group]) -> Result<(), SpoolError> {
        let mut builder = GroupBuilder::new();
        for op in groups.iter().flat_map(|group| &group.ops) {
            let payload = match op {
                Op::Batch(batch) => batch.sealed.section().bytes.clone(),
                _ => Bytes::new(),
            };
            builder.push(Entry::of(op, self.number + 1), payload);
        }
        if builder.is_empty() {
            return Ok(());
        }
        self.append(&mut builder, self.durability != Durability::ProcessCrash)
    }

    /// Makes durable what was only written, also what lies in a segment whose sync failed before.
    pub(crate) fn sync(&mut self) -> Result<(), SpoolError> {
        let flushed = self.flush();
        if self.poisoned.is_empty() {
            return flushed;
        }
        // The failure is mended once all of that segment lies elsewhere.
        while let Some(sequence) = self.poisoned.first().copied() {
            self.evacuate(sequence)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SpoolError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let end = Place { segment: current.sequence, offset: current.at };
        if self.durable < end {
            if let Err(error) = self.disk.sync(&current.name, &mut current.file) {
                self.poison();
                return Err(error);
            }
            self.durable = end;
            if let Some(file) = self.segments.get_mut(&end.segment) {
                file.synced = end.offset;
            }
        }
        Ok(())
    }

    /// Whether something is written and not synced.
    pub(crate) fn is_unsynced(&self) -> bool {
        let end = self.current.as_ref().map(|current| Place { segment: current.sequence, offset: current.at });
        end.is_some_and(|end| self.durable < end) || !self.poisoned.is_empty()
    }

    /// Reads a batch back, its checksums compared.
    pub(crate) fn read(&mut self, id: BatchId) -> Result<SealedBatch, SpoolError> {
        let (head, payload) = self.read_entry(id)?;
        Ok(sealed(&head, payload))
    }

    pub(super) fn read_entry(&mut self, id: BatchId) -> Result<(BatchHead, Bytes), SpoolError> {
        let Some(located) = self.state.locate(id) else {
            let what = format!("batch {id} is not in it");
            return Err(SpoolError::Damaged { path: self.disk.path(""), offset: 0, what });
        };
        let segment = located.place.segment;
        let name = self.segments.get(&segment).map(|file| file.name.clone()).unwrap_or_default();
        let file = match &mut self.current {
            Some(current) if current.sequence == segment => &mut current.file,
            _ => match self.reading.take() {
                Some((open, file)) if open == segment => &mut self.reading.insert((open, file)).1,
                _ => &mut self.reading.insert((segment, self.disk.open(&name, false)?)).1,
            },
        };
        fetch(&mut self.disk, self.spool, &name, file, id, located)
    }

    /// What it takes.
    pub(crate) fn usage(&self) -> Usage {
        let files = self.segments.values().map(|file| file.size).sum::<u64>();
        let spare = self.spares.iter().map(|(_, size)| size).sum::<u64>();
        // Room for the segment being written, for copies, and for what is settled and not yet reclaimed.
        let reserve = (4 * self.segment_bytes).min(self.max_bytes / 3 * 2).max(self.max_bytes / 8);
        Usage {
            live: self.state.live(),
            dead: self.state.dead(),
            limit: self.max_bytes.saturating_sub(reserve),
            dead_limit: self.max_bytes / 10,
            files: files + spare,
        }
    }

    /// Writes a group. A segment whose sync fails is left for a new one at once, since nobody knows what it holds.
    pub(super) fn append(&mut self, builder: &mut GroupBuilder, sync: bool) -> Result<(), SpoolError> {
        let mut tried = false;
        let place = loop {
            match self.append_once(builder, sync) {
                Ok(place) => break place,
                Err(Failed::Write(error)) => return Err(error),
                Err(Failed::Sync(error)) if tried => return Err(error),
                Err(Failed::Sync(_)) => tried = true,
            }
        };
        for built in builder.entries() {
            let at = Place { offset: place.offset + built.at, ..place };
            self.state.apply(&built.entry, at, built.fields, built.payload);
        }
        Ok(())
    }

    fn append_once(&mut self, builder: &mut GroupBuilder, sync: bool) -> Result<Place, Failed> {
        let len = builder.len();
        if self.current.as_ref().is_none_or(|current| current.at + len > current.capacity) {
            self.flush().map_err(Failed::Sync)?;
            self.make_room(len).map_err(Failed::Write)?;
            // Making room may have begun a segment.
            if self.current.as_ref().is_none_or(|current| current.at + len > current.capacity) {
                self.flush().map_err(Failed::Sync)?;
                self.rotate(len)?;
            }
        }
        self.number += 1;
        let (spool, number, durable, oldest) = (self.spool, self.number, self.durable, self.oldest);
        let Some(current) = &mut self.current else { return Err(Failed::Write(SpoolError::Closed)) };
        let place = Place { segment: current.sequence, offset: current.at };
        builder.place(spool, place, number, durable, oldest);
        current.write(&mut self.disk, builder).map_err(Failed::Write)?;
        current.at += len;
        let (end, size) = (current.at, current.filled);
        if sync {
            self.flush().map_err(Failed::Sync)?;
        }
        // Only now it counts.
        if let Some(file) = self.segments.get_mut(&place.segment) {
            (file.end, file.size) = (end, size);
        }
        Ok(place)
    }

    /// Gives up the segment being written, whose sync has failed: what it holds is written anew elsewhere.
    fn poison(&mut self) {
        if let Some(current) = self.current.take() {
            self.poisoned.insert(current.sequence);
        }
    }

    /// Begins a segment with room for a group of `len` bytes.
    pub(super) fn rotate(&mut self, len: u64) -> Result<(), Failed> {
        // Its first group says where the one before ends, so that one is over even if this attempt fails.
        self.current = None;
        let mut builder = GroupBuilder::new();
        let ended = self.segments.values().map(|file| Entry::Ended {
            end: Place { segment: file.sequence, offset: file.end },
            synced: file.synced.min(file.end),
        });
        ended.chain(self.state.restate()).for_each(|entry| builder.push(entry, Bytes::new()));
        let capacity = self.segment_bytes.max(SEGMENT_HEAD + builder.len() + len);
        let (name, size, mut file) = self.take_file()?;
        self.sequence += 1;
        self.number += 1;
        let sequence = self.sequence;
        let place = Place { segment: sequence, offset: SEGMENT_HEAD };
        builder.place(self.spool, place, self.number, self.durable, self.oldest);
        let head = SegmentHead { spool: self.spool, sequence }.encode();
        let written = self.disk.write(&name, &mut file, 0, &mut [IoSlice::new(&head)]);
        let capacity = capacity.max(size);
        let mut current = Current { sequence, name, file, at: SEGMENT_HEAD, filled: size, capacity };
        let written = written.and_then(|()| current.write(&mut self.disk, &builder));
        if let Err(error) = written {
            // The same file is taken next time, so that no two carry this number.
            self.sequence -= 1;
            self.unfinished = Some((current.name, current.filled));
            return Err(Failed::Write(error));
        }
        current.at += builder.len();
        // Also when only written is asked for: that this segment follows the one before must be certain.
        let synced = self.disk.sync(&current.name, &mut current.file).and_then(|()| self.disk.sync_dir());
        if let Err(error) = synced {
            // Nobody is to miss a segment of this number, nor to believe this one.
            self.state.apply(&Entry::Dropped(sequence), place, 0, 0);
            let Current { name, file, .. } = current;
            drop(file);
            if self.disk.remove(&name).is_err() {
                self.doomed.push(name);
            }
            return Err(Failed::Sync(error));
        }
        let (name, synced) = (current.name.clone(), current.at);
        self.durable = Place { segment: sequence, offset: current.at };
        let file = SegmentFile { name, sequence, size: current.filled, end: current.at, synced };
        self.segments.insert(sequence, file);
        self.current = Some(current);
        Ok(())
    }

    /// A file for the next segment: the one that was not begun to its end, a spare one, or a new one.
    fn take_file(&mut self) -> Result<(String, u64, F::File), Failed> {
        if let Some((name, size)) = self.unfinished.take().or_else(|| self.spares.pop()) {
            return match self.disk.open(&name, true) {
                Ok(file) => Ok((name, size, file)),
                Err(error) => {
                    self.unfinished = Some((name, size));
                    Err(Failed::Write(error))
                }
            };
        }
        let name = format!("segment-{:08}", self.next_slot);
        let file = self.disk.create(&name).map_err(Failed::Write)?;
        self.next_slot += 1;
        Ok((name, 0, file))
    }
}

/// Reads and checks a batch.
pub(super) fn fetch<F: Files>(
    disk: &mut Disk<F>,
    spool: SpoolId,
    name: &str,
    file: &mut F::File,
    id: BatchId,
    located: Located,
) -> Result<(BatchHead, Bytes), SpoolError> {
    let place = located.place;
    let head_len = ENTRY_HEAD + located.fields as usize;
    let mut bytes = vec![0; head_len + located.payload as usize];
    let len = disk.read(name, file, place.offset, &mut bytes)?;
    bytes.truncate(len);
    let damaged = |what: &str| SpoolError::Damaged {
        path: disk.path(name),
        offset: place.offset,
        what: format!("batch {id}: {what}"),
    };
    let bytes = Bytes::from(bytes);
    let head = bytes.get(..head_len).ok_or_else(|| damaged("the file ends before it"))?;
    let entry = EntryHead::decode(head).filter(|entry| entry.crc == entry_crc(spool, place, head));
    let entry = entry.ok_or_else(|| damaged("its checksum is wrong"))?;
    match Entry::decode(entry.kind, head.get(ENTRY_HEAD..).unwrap_or_default()) {
        Some(Entry::Batch(batch)) if batch.id == id => {
            let payload = bytes.slice(head_len..);
            if payload.len() != located.payload as usize || crc32c::crc32c(&payload) != batch.records_crc {
                return Err(damaged("the checksum of its records is wrong"));
            }
            Ok((batch, payload))
        }
        _ => Err(damaged("it is not where it should be")),
    }
}

/// The batch as it will be sent.
pub(super) fn sealed(head: &BatchHead, payload: Bytes) -> SealedBatch {
    let section = RecordsSection {
        bytes: payload,
        count: head.count,
        base_timestamp: head.base_timestamp,
        max_timestamp: head.max_timestamp,
        compression: head.compression,
    };
    SealedBatch::with_crc(section, head.records_crc)
}

/// Why a group was not written.
pub(super) enum Failed {
    /// It can be tried again at the same place.
    Write(SpoolError),
    /// What was written there is not to be trusted.
    Sync(SpoolError),
}

impl<T: Send> Current<T> {
    /// Writes `group` at the end, which stays where it is.
    fn write<F: Files<File = T>>(&mut self, disk: &mut Disk<F>, group: &GroupBuilder) -> Result<(), SpoolError> {
        let end = self.at + group.len();
        disk.write(&self.name, &mut self.file, self.at, &mut group.parts())?;
        if end > self.filled {
            let fill = self.capacity.min(end + FILL).max(end);
            // Only for speed: without space for it the next group says so itself.
            let zeroed = disk.zero(&self.name, &mut self.file, end, fill);
            self.filled = if zeroed.is_ok() { fill } else { end };
        }
        Ok(())
    }
}
