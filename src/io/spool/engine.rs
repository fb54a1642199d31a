//! The spool on disk, one call at a time: no thread, no clock. What is decided without a file is in `core::spool`.

use super::disk::Disk;
use super::files::Files;
use super::scan::{Found, Scan, SegmentFile, scan, slot};
use crate::config::{Durability, SpoolConfig};
use crate::core::spool::build::GroupBuilder;
use crate::core::spool::format::{
    BatchHead, ENTRY_HEAD, Entry, EntryHead, Place, SEGMENT_HEAD, SegmentHead, SetAside, SpoolId, aligned, entry_crc,
};
use crate::core::spool::state::State;
use crate::core::spool::{BatchId, Damage, Group, Op, Recovered};
use crate::error::SpoolError;
use crate::wire::batch::{RecordsSection, SealedBatch};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::path::Path;

/// How far ahead of the data a new file is filled with zeros: overwriting what is there already is what syncs quickly.
const FILL: u64 = 4 << 20;

/// A spool that is open for writing.
pub(crate) struct Engine<F: Files> {
    disk: Disk<F>,
    durability: Durability,
    segment_bytes: u64,
    max_bytes: u64,
    spool: SpoolId,
    state: State,
    segments: BTreeMap<u64, SegmentFile>,
    current: Option<Current<F::File>>,
    /// Files to be used again.
    spares: Vec<(String, u64)>,
    /// Up to here all is synced.
    durable: Place,
    number: u64,
    sequence: u64,
    oldest: u64,
    next_slot: u64,
    reading: Option<(u64, F::File)>,
    /// Segments whose sync failed and that still hold what counts.
    poisoned: BTreeSet<u64>,
    /// Files to be removed and never used again.
    doomed: Vec<String>,
}

/// The segment being written.
struct Current<T> {
    sequence: u64,
    name: String,
    file: T,
    /// Where the next group goes.
    at: u64,
    /// Up to here it holds bytes or zeros.
    filled: u64,
    capacity: u64,
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
        let Scan { spool, mut state, segments, unused, damage, number, sequence, oldest } = scan(&mut disk)?;
        let recovered = state.recovered();
        let next_slot = segments.iter().map(|file| &file.name).chain(unused.iter().map(|(name, _)| name));
        let next_slot = next_slot.filter_map(|name| slot(name)).max().unwrap_or(0) + 1;
        let last = segments.last().map(|file| Place { segment: file.sequence, offset: file.end });
        let mut engine = Engine {
            disk,
            durability: config.durability,
            segment_bytes: config.segment_bytes.max(2 * SEGMENT_HEAD),
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
            doomed: Vec::new(),
        };
        engine.settle(damage)?;
        Ok((engine, recovered))
    }

    /// After reading: what was written and not synced by the last process is synced, so that it can be built on.
    fn settle(&mut self, _damage: Vec<Found>) -> Result<(), SpoolError> {
        if let Some(last) = self.segments.values().next_back() {
            let mut file = self.disk.open(&last.name, true)?;
            self.disk.sync(&last.name, &mut file)?;
        }
        Ok(())
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

    /// Makes durable what was only written.
    pub(crate) fn sync(&mut self) -> Result<(), SpoolError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let end = Place { segment: current.sequence, offset: current.at };
        if self.durable < end {
            if let Err(error) = self.disk.sync(&current.name, &mut current.file) {
                self.poison();
                return Err(error);
            }
            self.durable = end;
        }
        Ok(())
    }

    /// Whether something is written and not synced.
    pub(crate) fn is_unsynced(&self) -> bool {
        let end = self.current.as_ref().map(|current| Place { segment: current.sequence, offset: current.at });
        end.is_some_and(|end| self.durable < end)
    }

    /// Reads a batch back, its checksums compared.
    pub(crate) fn read(&mut self, id: BatchId) -> Result<SealedBatch, SpoolError> {
        let (head, payload) = self.read_entry(id)?;
        let section = RecordsSection {
            bytes: payload,
            count: head.count,
            base_timestamp: head.base_timestamp,
            max_timestamp: head.max_timestamp,
            compression: head.compression,
        };
        Ok(SealedBatch::with_crc(section, head.records_crc))
    }

    fn read_entry(&mut self, id: BatchId) -> Result<(BatchHead, Bytes), SpoolError> {
        let Some(located) = self.state.locate(id) else {
            let what = format!("batch {id} is not in it");
            return Err(SpoolError::Damaged { path: self.disk.path(""), offset: 0, what });
        };
        let place = located.place;
        let name = self.segments.get(&place.segment).map(|file| file.name.clone()).unwrap_or_default();
        let file = match &mut self.current {
            Some(current) if current.sequence == place.segment => &mut current.file,
            _ => match self.reading.take() {
                Some((segment, file)) if segment == place.segment => &mut self.reading.insert((segment, file)).1,
                _ => &mut self.reading.insert((place.segment, self.disk.open(&name, false)?)).1,
            },
        };
        let head_len = ENTRY_HEAD + located.fields as usize;
        let mut bytes = vec![0; head_len + located.payload as usize];
        let len = self.disk.read(&name, file, place.offset, &mut bytes)?;
        bytes.truncate(len);
        let damaged = |what: &str| SpoolError::Damaged {
            path: self.disk.path(&name),
            offset: place.offset,
            what: format!("batch {id}: {what}"),
        };
        let bytes = Bytes::from(bytes);
        let head = bytes.get(..head_len).ok_or_else(|| damaged("the file ends before it"))?;
        let entry = EntryHead::decode(head).filter(|entry| entry.crc == entry_crc(self.spool, place, head));
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

    /// What it takes.
    pub(crate) fn usage(&self) -> Usage {
        let files = self.segments.values().map(|file| file.size).sum::<u64>();
        let spare = self.spares.iter().map(|(_, size)| size).sum::<u64>();
        let reserve = (2 * self.segment_bytes).max(self.max_bytes / 8);
        Usage {
            live: self.state.live(),
            dead: self.state.dead(),
            limit: self.max_bytes.saturating_sub(reserve),
            dead_limit: self.max_bytes / 10,
            files: files + spare,
        }
    }

    /// Reclaims some space, and says whether there is more to be done.
    pub(crate) fn maintain(&mut self) -> Result<bool, SpoolError> {
        Ok(false)
    }

    /// Writes a group. A segment whose sync fails is left for a new one at once, since nobody knows what it holds.
    fn append(&mut self, builder: &mut GroupBuilder, sync: bool) -> Result<(), SpoolError> {
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
            self.sync().map_err(Failed::Sync)?;
            self.rotate(len)?;
        }
        self.number += 1;
        let (spool, number, durable, oldest) = (self.spool, self.number, self.durable, self.oldest);
        let Some(current) = &mut self.current else { return Err(Failed::Write(SpoolError::Closed)) };
        let place = Place { segment: current.sequence, offset: current.at };
        builder.place(spool, place, number, durable, oldest);
        current.write(&mut self.disk, builder).map_err(Failed::Write)?;
        current.at += len;
        if let Some(file) = self.segments.get_mut(&current.sequence) {
            (file.end, file.size) = (current.at, current.filled);
        }
        if sync {
            self.sync().map_err(Failed::Sync)?;
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
    fn rotate(&mut self, len: u64) -> Result<(), Failed> {
        let mut builder = GroupBuilder::new();
        self.state.restate().into_iter().for_each(|entry| builder.push(entry, Bytes::new()));
        let capacity = self.segment_bytes.max(SEGMENT_HEAD + builder.len() + len);
        self.sequence += 1;
        self.number += 1;
        let sequence = self.sequence;
        let place = Place { segment: sequence, offset: SEGMENT_HEAD };
        builder.place(self.spool, place, self.number, self.durable, self.oldest);
        // If this does not come to its end, nobody should look for a segment of this number.
        self.state.apply(&Entry::Dropped(sequence), place, 0, 0);
        let (name, size, mut file) = match self.spares.pop() {
            Some((name, size)) => match self.disk.open(&name, true) {
                Ok(file) => (name, size, file),
                Err(error) => {
                    self.spares.push((name, size));
                    return Err(Failed::Write(error));
                }
            },
            None => {
                let name = format!("segment-{:08}", self.next_slot);
                let file = self.disk.create(&name).map_err(Failed::Write)?;
                self.next_slot += 1;
                (name, 0, file)
            }
        };
        let head = SegmentHead { spool: self.spool, sequence }.encode();
        let written = self.disk.write(&name, &mut file, 0, &mut [IoSlice::new(&head)]);
        let capacity = capacity.max(size);
        let mut current = Current { sequence, name, file, at: SEGMENT_HEAD, filled: size, capacity };
        let written = written.and_then(|()| current.write(&mut self.disk, &builder));
        if let Err(error) = written {
            self.spares.push((current.name, current.filled));
            return Err(Failed::Write(error));
        }
        current.at += builder.len();
        // Also when only written is asked for: that this segment follows the one before must be certain.
        let synced = self.disk.sync(&current.name, &mut current.file).and_then(|()| self.disk.sync_dir());
        if let Err(error) = synced {
            self.doomed.push(current.name);
            return Err(Failed::Sync(error));
        }
        self.state.undrop(sequence);
        self.durable = Place { segment: sequence, offset: current.at };
        let file = SegmentFile { name: current.name.clone(), sequence, size: current.filled, end: current.at };
        self.segments.insert(sequence, file);
        self.current = Some(current);
        Ok(())
    }
}

/// Why a group was not written.
enum Failed {
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
