//! Records become batches: one open batch per partition, and behind it the sealed ones in order.
//!
//! A record is encoded straight into the open batch under a short lock. Sealing swaps the batch out under that lock and
//! leaves a slot in the queue; checksum and compression happen outside the lock, on the thread that sealed, and fill the
//! slot. So the queue keeps the order although compression takes its time.

use super::batch::{BatchCell, Failure, Outcome};
use super::window::Stampable;
use crate::error::SendCause;
use crate::record::Record;
use crate::sync::lock;
use crate::types::{Compression, TopicPartition};
use crate::wire::batch::{DecodeLimits, HEADER_LEN, RecordsBuilder, RecordsSection, SealedBatch, encoded_size};
use bytes::BytesMut;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// What a batch holds of the producer's bounds; given back when the last part of the batch is gone.
pub(crate) trait Permit: Send + Sync {}

/// Room for a new batch.
pub(crate) struct Room {
    /// Its memory.
    pub buffer: BytesMut,
    /// Its share of the budget.
    pub permit: Box<dyn Permit>,
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
    /// How long after its opening a batch may take to be delivered.
    pub delivery_timeout: Duration,
}

impl BatchConfig {
    /// How much room a batch needs that begins with a record of `size` bytes.
    pub(crate) fn room_for(&self, size: usize) -> usize {
        self.batch_size.max(HEADER_LEN + size)
    }
}

/// A sealed batch on its way. If it is dropped before anybody has resolved it, its receipts learn that nobody knows.
pub(crate) struct ReadyBatch {
    sealed: SealedBatch,
    cell: Arc<BatchCell>,
    deadline: Instant,
    permit: Arc<Box<dyn Permit>>,
}

impl ReadyBatch {
    /// Header-less bytes and their checksum, for stamping.
    pub(crate) fn sealed(&self) -> &SealedBatch {
        &self.sealed
    }

    /// The size of the whole batch.
    pub(crate) fn len(&self) -> usize {
        self.sealed.section().batch_len()
    }

    /// Tells the receipts that it is in the log, and gives its memory back if nothing else holds it.
    pub(crate) fn deliver(self, base_offset: Option<i64>) -> Option<BytesMut> {
        self.cell.resolve(Outcome::Delivered(base_offset));
        let bytes = self.sealed.section().bytes.clone();
        drop(self);
        bytes.try_into_mut().ok()
    }

    /// Tells the receipts that it was given up.
    pub(crate) fn fail(self, maybe: bool, cause: SendCause, last: Option<Arc<str>>) {
        let section = self.sealed.section().clone();
        let failure = Failure { section, maybe, cause, last, records: OnceLock::new() };
        self.cell.resolve(Outcome::Failed(Box::new(failure)));
    }
}

impl Drop for ReadyBatch {
    fn drop(&mut self) {
        if !self.cell.is_resolved() {
            let section = self.sealed.section().clone();
            let failure =
                Failure { section, maybe: true, cause: SendCause::Closed, last: None, records: OnceLock::new() };
            self.cell.resolve(Outcome::Failed(Box::new(failure)));
        }
    }
}

impl Stampable for ReadyBatch {
    fn count(&self) -> i32 {
        self.sealed.section().count
    }

    fn newest_timestamp(&self) -> i64 {
        self.sealed.section().max_timestamp
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn split(self) -> Result<[Self; 2], Self> {
        if self.count() < 2 {
            return Err(self);
        }
        // Unreadable bytes of our own cannot be split; the batch is then refused as a whole.
        let limits = DecodeLimits { batch_bytes: i32::MAX as usize };
        let Ok((first, second)) = self.sealed.section().halves(&limits) else { return Err(self) };
        let at = first.count.unsigned_abs();
        let parts = [first, second].map(|section| ReadyBatch {
            sealed: SealedBatch::new(section),
            cell: BatchCell::new(self.cell.partition().clone()),
            deadline: self.deadline,
            permit: self.permit.clone(),
        });
        self.cell.resolve(Outcome::Split { at, parts: [parts[0].cell.clone(), parts[1].cell.clone()] });
        Ok(parts)
    }
}

impl fmt::Debug for ReadyBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records for {}", self.count(), self.cell.partition())
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
#[derive(Default)]
struct Slot {
    batch: Mutex<Option<ReadyBatch>>,
    filled: AtomicBool,
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
    permit: Box<dyn Permit>,
    /// To be sent without waiting for more: flushing.
    due: bool,
}

#[derive(Default)]
struct Inner {
    open: Option<OpenBatch>,
    sealed: VecDeque<Arc<Slot>>,
}

/// The batches of one partition.
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
    /// Nothing, or a batch that is being compressed; whoever fills it will tell.
    Nothing,
}

impl PartitionQueue {
    pub(crate) fn new(id: usize, partition: TopicPartition, config: Arc<BatchConfig>) -> PartitionQueue {
        PartitionQueue { id, partition, config, inner: Mutex::default(), signalled: AtomicBool::new(false) }
    }

    /// Appends a record of at most `size` encoded bytes. `room` is taken only when a batch is opened. What was sealed on
    /// the way comes back in `sealing` and has to be finished by the caller, without any lock.
    pub(crate) fn append(
        &self,
        record: &Record<'_>,
        size: usize,
        timestamp: i64,
        room: &mut Option<Room>,
        sealing: &mut Option<Sealing>,
        now: impl FnOnce() -> Instant,
    ) -> Append {
        let mut inner = lock(&self.inner);
        let mut opened = false;
        if inner.open.as_ref().is_some_and(|open| HEADER_LEN + open.records.len() + size > open.room) {
            *sealing = inner.seal();
        }
        if inner.open.is_none() {
            let Some(Room { buffer, permit }) = room.take() else { return Append::NeedsRoom };
            opened = true;
            inner.open = Some(OpenBatch {
                records: RecordsBuilder::new(buffer),
                room: self.config.room_for(size),
                cell: BatchCell::new(self.partition.clone()),
                opened: now(),
                permit,
                due: false,
            });
        }
        let Some(open) = inner.open.as_mut() else { return Append::NeedsRoom };
        let index = open.records.count().unsigned_abs();
        if open.records.push(timestamp, record.key, record.value, &record.headers).is_err() {
            return Append::TooLarge;
        }
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
            if !slot.filled.load(Ordering::Acquire) {
                return Take::Nothing;
            }
            let batch = lock(&slot.batch).take();
            inner.sealed.pop_front();
            return batch.map_or(Take::Nothing, Take::Batch);
        }
        match &inner.open {
            None => Take::Nothing,
            Some(open) if open.due || now >= open.opened + linger => match inner.seal() {
                Some(sealing) => Take::Finish(sealing),
                None => Take::Nothing,
            },
            Some(open) => Take::Due(open.opened + linger),
        }
    }

    /// Checksum and compression, on the calling thread.
    pub(crate) fn finish(&self, sealing: Sealing) {
        let Sealing { open, slot } = sealing;
        let batch = ReadyBatch {
            sealed: SealedBatch::new(self.compressed(open.records.finish())),
            cell: open.cell,
            deadline: open.opened + self.config.delivery_timeout,
            permit: Arc::new(open.permit),
        };
        let mut place = lock(&slot.batch);
        if slot.abandoned.load(Ordering::Acquire) {
            drop(place);
            return batch.fail(false, SendCause::Closed, None);
        }
        *place = Some(batch);
        slot.filled.store(true, Ordering::Release);
    }

    /// A section that its codec refuses goes out as it is: any consumer can read that.
    fn compressed(&self, section: RecordsSection) -> RecordsSection {
        let plain = section.clone();
        section.compress(self.config.compression, self.config.level).unwrap_or(plain)
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
        let slot = Arc::new(Slot::default());
        self.sealed.push_back(slot.clone());
        Some(Sealing { open, slot })
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
mod tests {
    use super::*;

    struct Nothing;
    impl Permit for Nothing {}

    fn queue(batch_size: usize) -> PartitionQueue {
        let config = BatchConfig {
            batch_size,
            compression: Compression::None,
            level: None,
            delivery_timeout: Duration::from_secs(120),
        };
        PartitionQueue::new(0, TopicPartition::new("t", 0), Arc::new(config))
    }

    fn room() -> Option<Room> {
        Some(Room { buffer: BytesMut::new(), permit: Box::new(Nothing) })
    }

    #[test]
    fn a_full_batch_is_sealed_and_the_order_is_kept() {
        let (queue, now) = (queue(200), Instant::now());
        for i in 0..10u32 {
            let value = [i as u8; 40];
            let record = Record::to("t").value(&value);
            let mut sealing = None;
            let appended = queue.append(&record, record_size(&record), 0, &mut room(), &mut sealing, || now);
            assert!(matches!(appended, Append::Done(_)));
            if let Some(sealing) = sealing {
                queue.finish(sealing);
            }
        }
        let mut values = vec![];
        loop {
            match queue.take(now + Duration::from_secs(1), Duration::ZERO) {
                Take::Batch(batch) => {
                    assert!(batch.len() <= 200);
                    let records = batch.sealed().section().records(&DecodeLimits::default()).unwrap();
                    let bytes = records.bytes().clone();
                    values.extend(records.map(|record| record.unwrap().value(&bytes).unwrap()[0]));
                    batch.deliver(None);
                }
                Take::Finish(sealing) => queue.finish(sealing),
                _ => break,
            }
        }
        assert_eq!(values, (0..10).collect::<Vec<u8>>());
    }

    #[test]
    fn the_second_of_two_sealed_batches_waits_for_the_first() {
        let (queue, now) = (queue(100), Instant::now());
        let record = Record::to("t").value("a value of some forty bytes, more or less");
        let mut sealings = vec![];
        for _ in 0..3 {
            let mut sealing = None;
            queue.append(&record, record_size(&record), 0, &mut room(), &mut sealing, || now);
            sealings.extend(sealing);
        }
        let first = sealings.remove(0);
        queue.finish(sealings.remove(0));
        assert!(matches!(queue.take(now, Duration::ZERO), Take::Nothing));
        queue.finish(first);
        assert!(matches!(queue.take(now, Duration::ZERO), Take::Batch(_)));
    }
}
