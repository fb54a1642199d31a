//! A record in the hands of its handler.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::dead_letter::{Family, Origin};
use crate::io::inbox::{Assigned, Revoked};
use crate::types::TopicPartition;
use crate::wire::batch::RawRecord;

/// A record to be handled. It owns what it shows, as slices of the fetched batch: cheap to clone and to move, and while
/// one is kept its batch stays in memory.
#[derive(Clone)]
pub struct Delivery {
    section: Arc<Section>,
    record: RawRecord,
    attempt: u32,
}

/// What the records of a batch share.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) assigned: Arc<Assigned>,
    pub(crate) bytes: Bytes,
}

impl Delivery {
    pub(crate) fn new(section: Arc<Section>, record: RawRecord, attempt: u32) -> Delivery {
        Delivery { section, record, attempt }
    }

    /// The same record, handled once more.
    pub(crate) fn at_attempt(mut self, attempt: u32) -> Delivery {
        self.attempt = attempt;
        self
    }

    /// The same record in memory of its own, so that it does not keep its batch while it waits.
    pub(crate) fn detached(mut self) -> Delivery {
        let RawRecord { key, value, headers, .. } = &mut self.record;
        let start =
            [key.as_ref(), value.as_ref()].into_iter().flatten().map(|range| range.start).fold(headers.start, u32::min);
        let bytes = self.section.bytes.get(start as usize..headers.end as usize).map(Bytes::copy_from_slice);
        let Some(bytes) = bytes else { return self };
        for range in [key.as_mut(), value.as_mut(), Some(headers)].into_iter().flatten() {
            *range = range.start - start..range.end - start;
        }
        self.section = Arc::new(Section { assigned: self.section.assigned.clone(), bytes });
        self
    }

    /// What it shares with the other records of its batch.
    pub(crate) fn section(&self) -> &Arc<Section> {
        &self.section
    }

    /// Bytes of key and value.
    #[inline]
    pub(crate) fn payload_len(&self) -> u64 {
        let len =
            |range: &Option<std::ops::Range<u32>>| range.as_ref().map_or(0, |range| u64::from(range.end - range.start));
        len(&self.record.key) + len(&self.record.value)
    }

    /// The topic it comes from.
    pub fn topic(&self) -> &str {
        &self.section.assigned.partition.topic
    }

    /// The partition's index.
    pub fn partition(&self) -> i32 {
        self.section.assigned.partition.partition
    }

    /// Topic and partition together.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.section.assigned.partition
    }

    /// Its offset in the partition.
    pub fn offset(&self) -> i64 {
        self.record.offset
    }

    /// Its timestamp in milliseconds since 1970: the producer's, or the time of the append where the topic is set up so.
    pub fn timestamp(&self) -> i64 {
        self.record.timestamp
    }

    /// Its key; none for null.
    pub fn key(&self) -> Option<&[u8]> {
        self.record.key(&self.section.bytes)
    }

    /// Its value; empty for null. [`Delivery::is_tombstone`] tells the two apart.
    pub fn value(&self) -> &[u8] {
        self.record.value(&self.section.bytes).unwrap_or_default()
    }

    /// Whether the value is null: on a compacted topic, the mark that deletes the key.
    pub fn is_tombstone(&self) -> bool {
        self.record.value.is_none()
    }

    /// The value without copying it, to be kept after the handler; none for null. It keeps the batch in memory.
    pub fn value_bytes(&self) -> Option<Bytes> {
        let range = self.record.value.as_ref()?;
        Some(self.section.bytes.slice(range.start as usize..range.end as usize))
    }

    /// Its headers in their order: name, and value or none for null. Names are UTF-8 by convention, which no broker
    /// checks.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.record.headers(&self.section.bytes)
    }

    /// The value of the last header called `name`; empty for null.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let named = self.headers().filter(|(found, _)| *found == name.as_bytes());
        named.last().map(|(_, value)| value.unwrap_or_default())
    }

    /// Which attempt this is, from 1: more than 1 only with `handler.retries`, and in a retry topic, where the attempts
    /// before count too.
    pub fn attempt(&self) -> u32 {
        let before: u32 = Family::Retry.number(self, "attempts").unwrap_or(0);
        self.attempt.saturating_add(before)
    }

    /// Where the record was first read, as its headers tell: for one that came through a retry topic, or was written to a
    /// dead letter topic. None for all others.
    pub fn origin(&self) -> Option<Origin> {
        Family::Retry.origin(self).or_else(|| Family::DeadLetter.origin(self))
    }

    /// Records between this one and the end of its partition's log, as the last fetch knew it: 0 for the newest. With
    /// `isolation.level=read_committed` the end is where the first open transaction begins. Offsets are counted, so
    /// compacted records and marks of transactions count too.
    pub fn lag(&self) -> u64 {
        let end = self.section.assigned.end.load(Ordering::Relaxed);
        u64::try_from(end.saturating_sub(self.record.offset).saturating_sub(1)).unwrap_or(0)
    }

    /// Whether the partition was revoked since the record was handed out: it goes to another member of the group, or the
    /// consumer ends.
    ///
    /// A rebalance waits for the handler for up to three quarters of `max.poll.interval.ms`, and what it finishes in that
    /// time is committed. What it finishes later has no effect: the next owner handles the record again. Handlers that
    /// take long and can stop half-way do well to look.
    pub fn is_revoked(&self) -> bool {
        self.section.assigned.is_revoked()
    }

    /// Resolves when [`Delivery::is_revoked`] begins to be true. For `select!` beside the work itself; needs no particular
    /// executor, keeps no record in memory, and can be handed to other tasks.
    ///
    /// # Cancel safety
    /// Dropping the future stops the waiting only.
    pub fn revoked(&self) -> Revoked {
        Revoked::of(&self.section.assigned)
    }
}

impl fmt::Debug for Delivery {
    /// Where the record is, and how large: contents do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("partition", &format_args!("{}", self.section.assigned.partition))
            .field("offset", &self.record.offset)
            .field("timestamp", &self.record.timestamp)
            .field("key_len", &self.key().map(<[u8]>::len))
            .field("value_len", &self.value().len())
            .finish_non_exhaustive()
    }
}
