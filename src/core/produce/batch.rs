//! A batch as its receipts see it: one shared cell that is resolved once.

use crate::error::{SendCause, SendError, Undelivered};
use crate::record::OwnedRecord;
use crate::sync::lock;
use crate::types::TopicPartition;
use crate::wire::batch::{DecodeLimits, RecordsSection};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};

/// Where a record was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    partition: TopicPartition,
    offset: Option<i64>,
}

impl Place {
    /// The topic.
    pub fn topic(&self) -> &str {
        &self.partition.topic
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.partition.partition
    }

    /// The offset. None when the record is known to be in the log but no broker said where: with acks 0, and when the
    /// answer was lost and the broker no longer remembers the batch by its sequence.
    pub fn offset(&self) -> Option<i64> {
        self.offset
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset {
            Some(offset) => write!(f, "{} offset {offset}", self.partition),
            None => write!(f, "{} (offset not known)", self.partition),
        }
    }
}

/// Called once with a record's outcome.
pub(crate) type Callback = Box<dyn FnOnce(Result<Place, SendError>) + Send>;

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// In the log, from this offset on.
    Delivered(Option<i64>),
    /// Given up.
    Failed(Box<Failure>),
    /// Sent in two parts: the first `at` records, and the rest.
    Split { at: u32, parts: [Arc<BatchCell>; 2] },
    /// Its records went into the batches of several partitions.
    Scattered(Places),
}

/// Where each record of a scattered batch went.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// By record: the number of the cell, and the index in its batch.
    pub(crate) places: Vec<(u32, u32)>,
    /// The cells of the new batches.
    pub(crate) cells: Vec<Arc<BatchCell>>,
}

/// How sure it is that a record given up is not in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certainty {
    /// It is not there.
    Absent,
    /// It may be.
    Maybe,
    /// It is in the spool, and is delivered by whoever opens that next.
    Kept,
}

/// Why a batch was given up, with its records.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Its records; none when only the spool has them.
    pub(crate) section: Option<RecordsSection>,
    /// The partitions that the application chose, where the batch has none.
    pub(crate) chosen: Option<Vec<i32>>,
    pub(crate) certainty: Certainty,
    pub(crate) cause: SendCause,
    pub(crate) last: Option<Arc<str>>,
    pub(crate) records: OnceLock<Vec<OwnedRecord>>,
}

/// Held while a batch is not in the spool yet: dropped when it is, or when nobody waits for that any more.
pub(crate) trait Unspooled: Send + Sync {
    /// It will not get there, for this reason.
    fn lost(&self, cause: &SendCause);
}

/// The state that all receipts of a batch share.
pub(crate) struct BatchCell {
    partition: TopicPartition,
    outcome: OnceLock<Outcome>,
    /// It is in the spool.
    spooled: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    wakers: Wakers,
    callbacks: Vec<(u32, Callback)>,
    /// Those who wait for the spool only.
    spooled: Wakers,
    unspooled: Option<Arc<dyn Unspooled>>,
}

/// A waiting future's place in a cell's list, kept from poll to poll.
pub(crate) type Slot = Option<(Arc<BatchCell>, usize)>;

impl BatchCell {
    pub(crate) fn new(partition: TopicPartition, unspooled: Option<Arc<dyn Unspooled>>) -> Arc<BatchCell> {
        let waiting = Mutex::new(Waiting { unspooled, ..Waiting::default() });
        Arc::new(BatchCell { partition, outcome: OnceLock::new(), spooled: AtomicBool::new(false), waiting })
    }

    /// A cell for some of this one's records: as spooled as this one.
    pub(crate) fn part(&self, partition: TopicPartition) -> Arc<BatchCell> {
        let unspooled = lock(&self.waiting).unspooled.clone();
        let part = BatchCell::new(partition, unspooled);
        if self.is_spooled() {
            part.set_spooled();
        }
        part
    }

    pub(crate) fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    pub(crate) fn is_resolved(&self) -> bool {
        self.outcome.get().is_some()
    }

    /// Tells everybody. The first outcome stays.
    pub(crate) fn resolve(self: &Arc<Self>, outcome: Outcome) {
        if self.outcome.set(outcome).is_err() {
            return;
        }
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        // Looked at after the lock was taken: whoever sets the flag later takes it, too, and then sees the outcome.
        if self.is_spooled() {
            self.for_each_part(BatchCell::set_spooled);
        } else if let (Some(Outcome::Failed(failure)), Some(unspooled)) = (self.outcome.get(), &waiting.unspooled)
            && failure.certainty != Certainty::Kept
        {
            unspooled.lost(&failure.cause);
        }
        for waker in waiting.wakers.slots.into_iter().chain(waiting.spooled.slots).flatten() {
            waker.wake();
        }
        for (index, callback) in waiting.callbacks {
            self.call_back(index, callback);
        }
    }

    /// It is in the spool: tells those who wait for that.
    pub(crate) fn set_spooled(self: &Arc<Self>) {
        self.spooled.store(true, Ordering::Release);
        let (wakers, unspooled) = {
            let mut waiting = lock(&self.waiting);
            (std::mem::take(&mut waiting.spooled), waiting.unspooled.take())
        };
        drop(unspooled);
        for waker in wakers.slots.into_iter().flatten() {
            waker.wake();
        }
        self.for_each_part(BatchCell::set_spooled);
    }

    /// Whether [`Self::set_spooled`] was called.
    pub(crate) fn is_spooled(&self) -> bool {
        self.spooled.load(Ordering::Acquire)
    }

    fn for_each_part(&self, tell: impl Fn(&Arc<BatchCell>)) {
        match self.outcome.get() {
            Some(Outcome::Split { parts, .. }) => parts.iter().for_each(tell),
            Some(Outcome::Scattered(Places { cells, .. })) => cells.iter().for_each(tell),
            Some(Outcome::Delivered(_) | Outcome::Failed(_)) | None => {}
        }
    }

    /// Has `callback` called with the outcome of record `index`, at once if there is one.
    pub(crate) fn call_back(self: &Arc<Self>, index: u32, callback: Callback) {
        let (cell, index) = self.follow(index);
        {
            let mut waiting = lock(&cell.waiting);
            // Looked at under the lock that `resolve` takes after setting it, so that neither side is missed.
            if cell.outcome.get().is_none() {
                waiting.callbacks.push((index, callback));
                return;
            }
        }
        match cell.get(index) {
            Some(result) => callback(result),
            // Split between the two looks.
            None => cell.call_back(index, callback),
        }
    }

    /// The cell that decides about record `index` now, and its index there: splits and scatterings are followed.
    fn follow(self: &Arc<Self>, mut index: u32) -> (Arc<BatchCell>, u32) {
        let mut cell = self.clone();
        loop {
            let next = match cell.outcome.get() {
                Some(Outcome::Split { at, parts }) => {
                    let part = usize::from(index >= *at);
                    index -= if part == 1 { *at } else { 0 };
                    parts.get(part).cloned()
                }
                Some(Outcome::Scattered(Places { places, cells })) => {
                    let place = places.get(index as usize);
                    place.and_then(|(cell, at)| {
                        let cell = cells.get(*cell as usize).cloned()?;
                        index = *at;
                        Some(cell)
                    })
                }
                Some(Outcome::Delivered(_) | Outcome::Failed(_)) | None => None,
            };
            match next {
                Some(next) => cell = next,
                None => return (cell, index),
            }
        }
    }

    /// The outcome of record `index`, if there is one.
    pub(crate) fn get(self: &Arc<Self>, index: u32) -> Option<Result<Place, SendError>> {
        match self.outcome.get()? {
            Outcome::Delivered(base) => {
                let offset = base.map(|base| base + i64::from(index));
                Some(Ok(Place { partition: self.partition.clone(), offset }))
            }
            Outcome::Failed(failure) => Some(Err(failure.error(&self.partition, index))),
            Outcome::Split { .. } | Outcome::Scattered(_) => self.part_of(index, |cell, index| cell.get(index)),
        }
    }

    /// Whether record `index` was delivered, without building its place.
    pub(crate) fn is_delivered(self: &Arc<Self>, index: u32) -> Option<bool> {
        match self.outcome.get()? {
            Outcome::Delivered(_) => Some(true),
            Outcome::Failed(_) => Some(false),
            Outcome::Split { .. } | Outcome::Scattered(_) => {
                self.part_of(index, |cell, index| cell.is_delivered(index))
            }
        }
    }

    /// Whether record `index` is safe from a crash: in the spool, or delivered. The error if it is neither, and will not be.
    pub(crate) fn spooled(self: &Arc<Self>, index: u32) -> Option<Result<(), SendError>> {
        if self.is_spooled() {
            return Some(Ok(()));
        }
        match self.outcome.get()? {
            Outcome::Delivered(_) => Some(Ok(())),
            Outcome::Failed(failure) if failure.certainty == Certainty::Kept => Some(Ok(())),
            Outcome::Failed(failure) => Some(Err(failure.error(&self.partition, index))),
            Outcome::Split { .. } | Outcome::Scattered(_) => self.part_of(index, |cell, index| cell.spooled(index)),
        }
    }

    /// Asks the part that has record `index` now.
    fn part_of<T>(self: &Arc<Self>, index: u32, ask: impl FnOnce(&Arc<BatchCell>, u32) -> Option<T>) -> Option<T> {
        let (cell, index) = self.follow(index);
        // A scattering that does not name the record cannot come to be; it would leave it open.
        if Arc::ptr_eq(&cell, self) { None } else { ask(&cell, index) }
    }

    /// As a future's poll. `slot` is the caller's place in the list of wakers, kept from poll to poll.
    pub(crate) fn poll(
        self: &Arc<Self>,
        index: u32,
        slot: &mut Slot,
        cx: &Context<'_>,
    ) -> Poll<Result<Place, SendError>> {
        loop {
            let (cell, index) = self.follow(index);
            if let Some(result) = cell.get(index) {
                return Poll::Ready(result);
            }
            let mut waiting = lock(&cell.waiting);
            if cell.outcome.get().is_some() {
                continue;
            }
            waiting.wakers.enlist(&cell, slot, cx);
            return Poll::Pending;
        }
    }

    /// As [`Self::poll`], for [`Self::spooled`].
    pub(crate) fn poll_spooled(
        self: &Arc<Self>,
        index: u32,
        slot: &mut Slot,
        cx: &Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        loop {
            if let Some(result) = self.spooled(index) {
                return Poll::Ready(result);
            }
            let (cell, _) = self.follow(index);
            let mut waiting = lock(&cell.waiting);
            if cell.outcome.get().is_some() || cell.is_spooled() {
                continue;
            }
            waiting.spooled.enlist(&cell, slot, cx);
            return Poll::Pending;
        }
    }

    /// Forgets the waker of a future that is dropped.
    pub(crate) fn forget(&self, place: usize) {
        // It goes when the lock is free again: with it may go a task that waits here, too.
        let _gone = lock(&self.waiting).wakers.forget(place);
    }

    /// As [`Self::forget`], for [`Self::poll_spooled`].
    pub(crate) fn forget_spooled(&self, place: usize) {
        let _gone = lock(&self.waiting).spooled.forget(place);
    }
}

/// The wakers of futures. The place of one that is dropped is given to the next: whoever looks again and again, for as
/// long as brokers are away, takes no more for it.
#[derive(Default)]
struct Wakers {
    slots: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Wakers {
    fn forget(&mut self, place: usize) -> Option<Waker> {
        let waker = self.slots.get_mut(place).and_then(Option::take)?;
        self.free.push(place);
        Some(waker)
    }

    /// Puts the caller's waker among them, which are those of `cell`.
    fn enlist(&mut self, cell: &Arc<BatchCell>, slot: &mut Slot, cx: &Context<'_>) {
        let own = slot.as_ref().filter(|(at, _)| Arc::ptr_eq(at, cell)).map(|(_, place)| *place);
        let place = own.filter(|place| *place < self.slots.len()).or_else(|| self.free.pop()).unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        if let Some(waker) = self.slots.get_mut(place) {
            *waker = Some(cx.waker().clone());
        }
        *slot = Some((cell.clone(), place));
    }
}

impl fmt::Debug for BatchCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchCell").field("partition", &self.partition).field("outcome", &self.outcome).finish()
    }
}

impl Failure {
    fn error(&self, partition: &TopicPartition, index: u32) -> SendError {
        let records = self.records.get_or_init(|| match &self.section {
            Some(section) => owned_records(section, &partition.topic),
            None => Vec::new(),
        });
        let lost = || OwnedRecord {
            topic: partition.topic.to_string(),
            partition: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: None,
            position: None,
        };
        let mut record = records.get(index as usize).cloned().unwrap_or_else(lost);
        let chosen = self.chosen.as_ref().and_then(|chosen| chosen.get(index as usize)).copied();
        record.partition = Some(chosen.unwrap_or(partition.partition)).filter(|partition| *partition >= 0);
        let undelivered = Box::new(Undelivered { record, cause: self.cause.clone(), last: self.last.clone() });
        match self.certainty {
            Certainty::Absent => SendError::NotDelivered(undelivered),
            Certainty::Maybe => SendError::MaybeDelivered(undelivered),
            Certainty::Kept => SendError::Spooled(undelivered),
        }
    }
}

/// The records of a section that this process has encoded itself; what cannot be read is left out.
fn owned_records(section: &RecordsSection, topic: &str) -> Vec<OwnedRecord> {
    let limits = DecodeLimits { batch_bytes: i32::MAX as usize };
    let Ok(records) = section.records(&limits) else { return Vec::new() };
    let bytes = records.bytes().clone();
    let records = records.filter_map(Result::ok).map(|record| OwnedRecord {
        topic: topic.to_owned(),
        partition: None,
        key: record.key(&bytes).map(|key| bytes.slice_ref(key)),
        value: record.value(&bytes).map(|value| bytes.slice_ref(value)),
        headers: record
            .headers(&bytes)
            .map(|(name, value)| {
                (String::from_utf8_lossy(name).into_owned(), value.map(|value| bytes.slice_ref(value)))
            })
            .collect(),
        timestamp: Some(record.timestamp),
        position: None,
    });
    records.collect()
}

#[cfg(test)]
mod tests;
