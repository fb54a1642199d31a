//! Getting space back: the oldest segment first, what is live in it copied forward.
//!
//! Only ever the oldest, so that what was said about a batch is never forgotten before the batch. One parked batch
//! therefore pins nothing: it moves on.

use super::engine::{Engine, Failed};
use super::files::Files;
use crate::core::spool::build::GroupBuilder;
use crate::core::spool::format::{ENTRY_HEAD, Entry, Place, SEGMENT_HEAD, SetAside};
use crate::core::spool::{BatchId, Outcome};
use crate::error::SpoolError;
use crate::types::TopicId;
use bytes::Bytes;

/// Files kept for later segments: filled once, overwritten often.
const SPARES: usize = 2;
/// Copies are written in groups of this size, in bytes.
const COPY: u64 = 1 << 20;

impl<F: Files> Engine<F> {
    /// Reclaims some space when it is worth it, and says whether to ask again.
    pub(crate) fn maintain(&mut self) -> Result<bool, SpoolError> {
        self.remove_doomed()?;
        if let Some(sequence) = self.poisoned.first().copied() {
            self.evacuate(sequence)?;
            return Ok(true);
        }
        let Some((sequence, size)) = self.first() else { return Ok(false) };
        let (live, usage) = (self.state.live_in(sequence), self.usage());
        let is_sparse = live.saturating_mul(4) <= size;
        let is_wasteful = usage.files > usage.live.saturating_mul(2).saturating_add(4 * self.segment_bytes);
        if !is_sparse && !is_wasteful {
            return Ok(false);
        }
        self.evacuate(sequence)?;
        Ok(true)
    }

    /// The oldest segment and its size, unless it is being written.
    fn first(&self) -> Option<(u64, u64)> {
        let current = self.current.as_ref()?.sequence;
        let (sequence, file) = self.segments.first_key_value()?;
        (*sequence != current).then_some((*sequence, file.size))
    }

    /// Before a segment is begun for `len` bytes: there should be space for it, and for one more to make copies in.
    pub(super) fn make_room(&mut self, len: u64) -> Result<(), SpoolError> {
        if self.evacuating {
            return Ok(());
        }
        let needed = self.segment_bytes.max(len + SEGMENT_HEAD);
        for _ in 0..self.segments.len() {
            let free = self.max_bytes.saturating_sub(self.usage().files);
            let spare = self.spares.len() as u64 * self.segment_bytes;
            if free + spare >= needed + self.segment_bytes {
                break;
            }
            let Some((sequence, size)) = self.segments.first_key_value().map(|(sequence, file)| (*sequence, file.size))
            else {
                break;
            };
            // Nothing is won by copying all of a segment.
            if self.current.as_ref().is_some_and(|current| current.sequence == sequence)
                || self.state.live_in(sequence) > size / 16 * 15
            {
                break;
            }
            self.evacuate(sequence)?;
        }
        Ok(())
    }

    /// Copies what is live in a segment that is not being written, and gives the segment up once that is durable.
    pub(super) fn evacuate(&mut self, sequence: u64) -> Result<(), SpoolError> {
        self.evacuating = true;
        let done = self.copy_forward(sequence).and_then(|()| self.give_up(sequence));
        self.evacuating = false;
        done
    }

    fn copy_forward(&mut self, sequence: u64) -> Result<(), SpoolError> {
        let mut builder = GroupBuilder::new();
        for (id, _) in self.state.batches_in(sequence) {
            match self.read_entry(id) {
                Ok((mut head, payload)) => {
                    if self.state.is_adopted(id) {
                        head.topic_id = TopicId::NONE;
                    }
                    builder.push(Entry::Batch(head), payload);
                    let told = self.state.restate_batch(id);
                    told.into_iter().for_each(|entry| builder.push(entry, Bytes::new()));
                }
                Err(SpoolError::Damaged { what, .. }) => self.set_aside_batch(id, &what, &mut builder)?,
                Err(error) => return Err(error),
            }
            if builder.len() >= COPY {
                self.append_restated(&mut builder)?;
                builder = GroupBuilder::new();
            }
        }
        if builder.is_empty() { Ok(()) } else { self.append_restated(&mut builder) }
    }

    /// Restated stamps are not new: the counters behind them say who was the last.
    fn append_restated(&mut self, builder: &mut GroupBuilder) -> Result<(), SpoolError> {
        builder.push(self.state.checkpoint(), Bytes::new());
        self.append(builder, true)
    }

    /// A batch turned out to be damaged long after the start: its bytes are kept in a file of their own.
    fn set_aside_batch(&mut self, id: BatchId, what: &str, builder: &mut GroupBuilder) -> Result<(), SpoolError> {
        let Some(located) = self.state.locate(id) else { return Ok(()) };
        let name = self.segments.get(&located.place.segment).map(|file| file.name.clone()).unwrap_or_default();
        let len = ENTRY_HEAD as u64 + u64::from(located.fields) + u64::from(located.payload);
        let copy = self.quarantine(&name, located.place, len)?;
        tracing::error!(batch = %id, file = name, copy, what, "a batch in the spool is damaged and cannot be delivered");
        let known = SetAside { place: located.place, len, doubt_below: 0, number: 0 };
        builder.push(Entry::SetAside(known), Bytes::new());
        builder.push(Entry::Outcome { batch: id, outcome: Outcome::Discarded }, Bytes::new());
        Ok(())
    }

    /// Says durably that a segment counts no longer; then its file is free.
    fn give_up(&mut self, sequence: u64) -> Result<(), SpoolError> {
        if self.current.is_none() {
            self.rotate(0).map_err(|failed| match failed {
                Failed::Write(error) | Failed::Sync(error) => error,
            })?;
        }
        let mut builder = GroupBuilder::new();
        let before = self.oldest;
        if self.segments.first_key_value().is_some_and(|(first, _)| *first == sequence) {
            let next = self.segments.range(sequence + 1..).next().map_or(sequence, |(next, _)| *next);
            self.oldest = next;
        } else {
            // Outcomes of older batches may have been in it and nowhere else.
            self.state.restate_live().into_iter().for_each(|entry| builder.push(entry, Bytes::new()));
            builder.push(Entry::Dropped(sequence), Bytes::new());
        }
        builder.push(self.state.checkpoint(), Bytes::new());
        if let Err(error) = self.append(&mut builder, true) {
            self.oldest = before;
            return Err(error);
        }
        self.state.trim(self.oldest);
        if self.reading.as_ref().is_some_and(|(segment, _)| *segment == sequence) {
            self.reading = None;
        }
        let poisoned = self.poisoned.remove(&sequence);
        let Some(file) = self.segments.remove(&sequence) else { return Ok(()) };
        if poisoned || file.size > self.segment_bytes || self.spares.len() >= SPARES {
            self.doomed.push(file.name);
        } else {
            self.spares.push((file.name, file.size));
        }
        self.remove_doomed()
    }

    /// Removes files that are never to be used again, and spare ones beyond what is kept.
    pub(super) fn remove_doomed(&mut self) -> Result<(), SpoolError> {
        let too_large = |size: u64| size > self.segment_bytes;
        let (keep, large): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.spares).into_iter().partition(|(_, size)| !too_large(*size));
        self.spares = keep;
        self.doomed.extend(large.into_iter().map(|(name, _)| name));
        let more = self.spares.split_off(self.spares.len().min(SPARES));
        self.doomed.extend(more.into_iter().map(|(name, _)| name));
        if self.doomed.is_empty() {
            return Ok(());
        }
        while let Some(name) = self.doomed.last().cloned() {
            self.disk.remove(&name)?;
            self.doomed.pop();
        }
        self.disk.sync_dir()
    }

    /// Copies damaged bytes to a file of their own and says its name.
    pub(super) fn quarantine(&mut self, name: &str, place: Place, len: u64) -> Result<String, SpoolError> {
        let copy = format!("quarantine-{}-{}", place.segment, place.offset);
        // From a recovery that did not come to its end.
        self.disk.remove(&copy)?;
        let mut from = self.disk.open(name, false)?;
        let mut to = self.disk.create(&copy)?;
        let mut bytes = vec![0; len.min(COPY) as usize];
        let mut done = 0;
        while done < len {
            let part = (len - done).min(COPY) as usize;
            let part = bytes.get_mut(..part).unwrap_or_default();
            let read = self.disk.read(name, &mut from, place.offset + done, part)?;
            if read == 0 {
                break;
            }
            let part = part.get(..read).unwrap_or_default();
            self.disk.write(&copy, &mut to, done, &mut [std::io::IoSlice::new(part)])?;
            done += read as u64;
        }
        self.disk.sync(&copy, &mut to)?;
        self.disk.sync_dir()?;
        Ok(copy)
    }
}
