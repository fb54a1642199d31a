//! Records become batches: one open batch per partition, and behind it the sealed ones in order.
//!
//! A record is encoded straight into the open batch under a short lock. Sealing swaps the batch out under that lock and
//! leaves a slot in the queue; checksum and compression happen outside the lock, on the thread that sealed, and fill the
//! slot. So the queue keeps the order although compression takes its time.

mod ready;

pub(crate) use ready::{ReadyBatch, Scattered, Stored, UNPARTITIONED};

use super::batch::{BatchCell, Unspooled};
use crate::error::SendCause;
use crate::record::Record;
use crate::sync::lock;
use crate::types::{Compression, TopicPartition};
use crate::wire::batch::{HEADER_LEN, RecordsBuilder, encoded_size};
use bytes::BytesMut;
use ready::Parts;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a batch holds of the producer's bounds; given back when the last part of the batch is gone.
pub(crate) trait Permit: Send + Sync {}

/// A permit that the parts of a batch share.
pub(crate) type Token = Arc<dyn Permit>;

/// Room for a new batch.
pub(crate) struct Room {
    /// Its memory.
    pub buffer: BytesMut,
    /// Its share of the budget.
    pub permit: Box<dyn Permit>,
    /// Until it is settled: what flushes wait for.
    pub live: Option<Token>,
    /// Space set aside in the spool.
    pub space: Option<Box<dyn Permit>>,
    /// Until it is in the spool, if there is one.
    pub unspooled: Option<Arc<dyn Unspooled>>,
}

/// Longer than any process runs.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The deadline, seen from `now`, of a batch that has none.
pub(crate) fn never(now: Instant) -> Instant {
    now.checked_add(NEVER).unwrap_or(now)
}

/// How batches are made; the same for all of a producer.
#[derive(Clone, Debug)]
pub(crate) struct BatchConfig {
    /// Sealed at this size, header included, in bytes; a larger record has a batch for itself.
    pub batch_size: usize,
    /// The codec.
    pub compression: Compression,
    /// The codec's own level; none for its default.
    pub level: Option<i32>,
    /// How long after its opening a batch may take to be delivered; none for as long as it takes: there is a spool.
    pub delivery_timeout: Option<Duration>,
}

impl BatchConfig {
    /// How much room a batch needs that begins with a record of `size` bytes.
    pub(crate) fn room_for(&self, size: usize) -> usize {
        self.batch_size.max(HEADER_LEN + size)
    }
}

/// Where a record went: the batch's cell, and its index in the batch.
pub(crate) struct Appended {
    /// The batch.
    pub cell: Arc<BatchCell>,
    /// The record's place in it.
    pub index: u32,
    /// A batch was opened: somebody has to see to its linger.
    pub opened: bool,
}

/// The outcome of [`PartitionQueue::append`].
pub(crate) enum Append {
    /// In the open batch.
    Done(Appended),
    /// A new batch is needed, and no room was brought along.
    NeedsRoom,
    /// The record cannot be encoded.
    TooLarge,
}

/// A place in the queue whose batch may still be being compressed.
struct Slot {
    batch: Mutex<Option<ReadyBatch>>,
    filled: AtomicBool,
    /// Records of it have positions: only a cut may take it.
    positioned: bool,
    /// The producer ended meanwhile: whoever fills it fails the batch. Set under the lock of `batch`.
    abandoned: AtomicBool,
}

/// A batch taken out of the open place, to be finished outside the lock.
#[must_use = "its slot blocks the queue until it is finished"]
pub(crate) struct Sealing {
    open: OpenBatch,
    slot: Arc<Slot>,
}

struct OpenBatch {
    records: RecordsBuilder,
    room: usize,
    cell: Arc<BatchCell>,
    opened: Instant,
    /// The same in Unix milliseconds.
    accepted_at: i64,
    permit: Box<dyn Permit>,
    live: Option<Token>,
    space: Option<Box<dyn Permit>>,
    /// The partitions chosen, while the topic's are not known.
    chosen: Option<Vec<i32>>,
    /// To be sent without waiting for more: flushing.
    due: bool,
    /// Records of it have positions.
    positioned: bool,
}

#[derive(Default)]
struct Inner {
    open: Option<OpenBatch>,
    sealed: VecDeque<Arc<Slot>>,
}

/// The batches of one partition, or of a topic whose partitions are not known: see [`UNPARTITIONED`].
pub(crate) struct PartitionQueue {
    /// Its number among the producer's queues.
    pub id: usize,
    /// Which partition.
    pub partition: TopicPartition,
    config: Arc<BatchConfig>,
    inner: Mutex<Inner>,
    /// Whether the sender has been told and has not looked yet.
    signalled: AtomicBool,
}

/// What the sender finds.
pub(crate) enum Take {
    /// The next batch.
    Batch(ReadyBatch),
    /// The open batch is due and was sealed: finish it, then take again.
    Finish(Sealing),
    /// Only an open batch, due at this time.
    Due(Instant),
    /// The next batch is due and has records with positions: a cut has to take it (see [`PartitionQueue::seal`]).
    Cut,
    /// Nothing, or a batch that is being compressed; whoever fills it will tell.
    Nothing,
}

impl PartitionQueue {
    pub(crate) fn new(id: usize, partition: TopicPartition, config: Arc<BatchConfig>) -> PartitionQueue {
        PartitionQueue { id, partition, config, inner: Mutex::default(), signalled: AtomicBool::new(false) }
    }

    /// Appends a record of at most `size` encoded bytes. `room` is taken only when a batch is opened. What was sealed on
    /// the way comes back in `sealing` and has to be finished by the caller, without any lock. `now` is asked only for a
    /// new batch: the time, and the same in Unix milliseconds.
    pub(crate) fn append(
        &self,
        record: &Record<'_>,
        size: usize,
        timestamp: i64,
        room: &mut Option<Room>,
        sealing: &mut Option<Sealing>,
        now: impl FnOnce() -> (Instant, i64),
    ) -> Append {
        let mut inner = lock(&self.inner);
        let mut opened = false;
        if inner.open.as_ref().is_some_and(|open| HEADER_LEN + open.records.len() + size > open.room) {
            *sealing = inner.seal();
        }
        if inner.open.is_none() {
            let Some(Room { buffer, permit, live, space, unspooled }) = room.take() else { return Append::NeedsRoom };
            opened = true;
            let (since, accepted_at) = now();
            inner.open = Some(OpenBatch {
                records: RecordsBuilder::new(buffer),
                room: self.config.room_for(size),
                cell: BatchCell::new(self.partition.clone(), unspooled),
                opened: since,
                accepted_at,
                permit,
                live,
                space,
                chosen: self.is_unpartitioned().then(Vec::new),
                due: false,
                positioned: false,
            });
        }
        let Some(open) = inner.open.as_mut() else { return Append::NeedsRoom };
        let index = open.records.count().unsigned_abs();
        if open.records.push(timestamp, record.key, record.value, &record.headers).is_err() {
            return Append::TooLarge;
        }
        if let Some(chosen) = &mut open.chosen {
            chosen.push(record.partition.unwrap_or(UNPARTITIONED));
        }
        open.positioned |= record.position.is_some();
        Append::Done(Appended { cell: open.cell.clone(), index, opened })
    }

    /// Has the open batch sent without waiting for more. False when there is none, and none waits.
    pub(crate) fn make_due(&self) -> bool {
        let mut inner = lock(&self.inner);
        if let Some(open) = &mut inner.open {
            open.due = true;
        }
        inner.open.is_some() || !inner.sealed.is_empty()
    }

    /// The next batch in order, sealing the open one when it is due.
    pub(crate) fn take(&self, now: Instant, linger: Duration) -> Take {
        let mut inner = lock(&self.inner);
        if let Some(slot) = inner.sealed.front() {
            if slot.positioned {
                return Take::Cut;
            }
            return inner.take_sealed().map_or(Take::Nothing, Take::Batch);
        }
        match &inner.open {
            None => Take::Nothing,
            Some(open) if open.due || now >= open.opened + linger => match open.positioned {
                true => Take::Cut,
                false => inner.seal().map_or(Take::Nothing, Take::Finish),
            },
            Some(open) => Take::Due(open.opened + linger),
        }
    }

    /// The next sealed batch whatever it holds, for a cut or a producer that only makes cuts. None also while it is being
    /// compressed; whoever fills it will tell.
    pub(crate) fn take_sealed(&self) -> Option<ReadyBatch> {
        lock(&self.inner).take_sealed()
    }

    /// When the open batch is due: at once when one is sealed, or when it is flushed. None when there is nothing.
    pub(crate) fn due_at(&self, now: Instant, linger: Duration) -> Option<Instant> {
        let inner = lock(&self.inner);
        if !inner.sealed.is_empty() {
            return Some(now);
        }
        inner.open.as_ref().map(|open| if open.due { now } else { open.opened + linger })
    }

    /// Seals the open batch, for a cut. Says how many sealed batches there are now, finished or not.
    pub(crate) fn seal(&self) -> (Option<Sealing>, usize) {
        let mut inner = lock(&self.inner);
        let sealing = inner.seal();
        (sealing, inner.sealed.len())
    }

    /// Whether it holds no batch and no record.
    pub(crate) fn is_empty(&self) -> bool {
        let inner = lock(&self.inner);
        inner.open.is_none() && inner.sealed.is_empty()
    }

    /// Whether its topic's partitions are not known.
    pub(crate) fn is_unpartitioned(&self) -> bool {
        self.partition.partition == UNPARTITIONED
    }

    /// Checksum and compression, on the calling thread.
    pub(crate) fn finish(&self, sealing: Sealing) {
        let Sealing { open, slot } = sealing;
        let section = open.records.finish();
        // What has no partition yet is taken apart and compressed then.
        let section = if open.chosen.is_some() { section } else { self.config.compressed(section) };
        let batch = ReadyBatch::new(Parts {
            section,
            cell: open.cell,
            deadline: self.config.delivery_timeout.map_or_else(|| never(open.opened), |timeout| open.opened + timeout),
            permit: Token::from(open.permit),
            space: open.space,
            live: open.live,
            chosen: open.chosen,
            accepted_at: open.accepted_at,
        });
        let mut place = lock(&slot.batch);
        if slot.abandoned.load(Ordering::Acquire) {
            drop(place);
            return batch.fail(false, SendCause::Closed, None);
        }
        *place = Some(batch);
        slot.filled.store(true, Ordering::Release);
    }

    /// Whether the sender has to be told of news here; false when it was told already.
    pub(crate) fn signal(&self) -> bool {
        !self.signalled.swap(true, Ordering::AcqRel)
    }

    /// The sender looks now.
    pub(crate) fn looked(&self) {
        self.signalled.store(false, Ordering::Release);
    }

    /// Takes out the sealed batches, and the open one sealed. What is being compressed stays.
    pub(crate) fn drain(&self) -> Vec<ReadyBatch> {
        let sealing = lock(&self.inner).seal();
        if let Some(sealing) = sealing {
            self.finish(sealing);
        }
        let mut batches = Vec::new();
        lock(&self.inner).sealed.retain(|slot| match lock(&slot.batch).take() {
            Some(batch) => {
                batches.push(batch);
                false
            }
            None => true,
        });
        batches
    }

    /// The end: as [`Self::drain`], and what is being compressed is failed when that is done. Says how many those are.
    pub(crate) fn end(&self) -> (Vec<ReadyBatch>, usize) {
        let mut batches = self.drain();
        let (slots, before) = (std::mem::take(&mut lock(&self.inner).sealed), batches.len());
        let unfinished = slots.len();
        for slot in slots {
            let mut place = lock(&slot.batch);
            slot.abandoned.store(true, Ordering::Release);
            batches.extend(place.take());
        }
        let finished_meanwhile = batches.len() - before;
        (batches, unfinished - finished_meanwhile)
    }
}

impl Inner {
    fn seal(&mut self) -> Option<Sealing> {
        let open = self.open.take()?;
        let slot = Arc::new(Slot::new(open.positioned));
        self.sealed.push_back(slot.clone());
        Some(Sealing { open, slot })
    }

    fn take_sealed(&mut self) -> Option<ReadyBatch> {
        let slot = self.sealed.front()?;
        if !slot.filled.load(Ordering::Acquire) {
            return None;
        }
        let batch = lock(&slot.batch).take();
        self.sealed.pop_front();
        batch
    }
}

impl Slot {
    fn new(positioned: bool) -> Slot {
        Slot { batch: Mutex::default(), filled: AtomicBool::new(false), positioned, abandoned: AtomicBool::new(false) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // A batch left here resolves itself.
        let _ = lock(&self.batch).take();
    }
}

/// The most bytes a record takes in a batch.
pub(crate) fn record_size(record: &Record<'_>) -> usize {
    encoded_size(record.key, record.value, &record.headers)
}

#[cfg(test)]
mod tests;
