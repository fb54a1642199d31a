//! A batch as its receipts see it: one shared cell that is resolved once.

use crate::error::{SendCause, SendError, Undelivered};
use crate::record::OwnedRecord;
use crate::sync::lock;
use crate::types::TopicPartition;
use crate::wire::batch::{DecodeLimits, RecordsSection};
use std::fmt;
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
}

/// Why a batch was given up, with its records.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) section: RecordsSection,
    pub(crate) maybe: bool,
    pub(crate) cause: SendCause,
    pub(crate) last: Option<Arc<str>>,
    pub(crate) records: OnceLock<Vec<OwnedRecord>>,
}

/// The state that all receipts of a batch share.
pub(crate) struct BatchCell {
    partition: TopicPartition,
    outcome: OnceLock<Outcome>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    wakers: Vec<Option<Waker>>,
    callbacks: Vec<(u32, Callback)>,
}

impl BatchCell {
    pub(crate) fn new(partition: TopicPartition) -> Arc<BatchCell> {
        Arc::new(BatchCell { partition, outcome: OnceLock::new(), waiting: Mutex::default() })
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
        let Waiting { wakers, callbacks } = std::mem::take(&mut *lock(&self.waiting));
        for waker in wakers.into_iter().flatten() {
            waker.wake();
        }
        for (index, callback) in callbacks {
            self.call_back(index, callback);
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

    /// The cell that decides about record `index` now: splits are followed.
    fn follow(self: &Arc<Self>, mut index: u32) -> (Arc<BatchCell>, u32) {
        let mut cell = self.clone();
        while let Some(Outcome::Split { at, parts }) = cell.outcome.get() {
            let part = usize::from(index >= *at);
            index -= if part == 1 { *at } else { 0 };
            let next = parts[part].clone();
            cell = next;
        }
        (cell, index)
    }

    /// The outcome of record `index`, if there is one.
    pub(crate) fn get(self: &Arc<Self>, index: u32) -> Option<Result<Place, SendError>> {
        match self.outcome.get()? {
            Outcome::Delivered(base) => {
                let offset = base.map(|base| base + i64::from(index));
                Some(Ok(Place { partition: self.partition.clone(), offset }))
            }
            Outcome::Failed(failure) => Some(Err(failure.error(&self.partition, index))),
            Outcome::Split { .. } => {
                let (cell, index) = self.follow(index);
                cell.get(index)
            }
        }
    }

    /// Whether record `index` was delivered, without building its place.
    pub(crate) fn is_delivered(self: &Arc<Self>, index: u32) -> Option<bool> {
        match self.outcome.get()? {
            Outcome::Delivered(_) => Some(true),
            Outcome::Failed(_) => Some(false),
            Outcome::Split { .. } => {
                let (cell, index) = self.follow(index);
                cell.is_delivered(index)
            }
        }
    }

    /// As a future's poll. `slot` is the caller's place in the list of wakers, kept from poll to poll.
    pub(crate) fn poll(
        self: &Arc<Self>,
        index: u32,
        slot: &mut Option<(Arc<BatchCell>, usize)>,
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
            match slot {
                Some((at, place)) if Arc::ptr_eq(at, &cell) && *place < waiting.wakers.len() => {
                    waiting.wakers[*place] = Some(cx.waker().clone());
                }
                _ => {
                    let place = waiting.wakers.len();
                    waiting.wakers.push(Some(cx.waker().clone()));
                    drop(waiting);
                    *slot = Some((cell, place));
                }
            }
            return Poll::Pending;
        }
    }

    /// Forgets the waker of a future that is dropped.
    pub(crate) fn forget(&self, place: usize) {
        if let Some(waker) = lock(&self.waiting).wakers.get_mut(place) {
            *waker = None;
        }
    }
}

impl fmt::Debug for BatchCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchCell").field("partition", &self.partition).field("outcome", &self.outcome).finish()
    }
}

impl Failure {
    fn error(&self, partition: &TopicPartition, index: u32) -> SendError {
        let records = self.records.get_or_init(|| owned_records(&self.section, partition));
        let lost = || OwnedRecord {
            topic: partition.topic.to_string(),
            partition: Some(partition.partition),
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: None,
        };
        let record = records.get(index as usize).cloned().unwrap_or_else(lost);
        let undelivered = Box::new(Undelivered { record, cause: self.cause.clone(), last: self.last.clone() });
        if self.maybe { SendError::MaybeDelivered(undelivered) } else { SendError::NotDelivered(undelivered) }
    }
}

/// The records of a section that this process has encoded itself; what cannot be read is left out.
fn owned_records(section: &RecordsSection, partition: &TopicPartition) -> Vec<OwnedRecord> {
    let limits = DecodeLimits { batch_bytes: i32::MAX as usize };
    let Ok(records) = section.records(&limits) else { return Vec::new() };
    let bytes = records.bytes().clone();
    let records = records.filter_map(Result::ok).map(|record| OwnedRecord {
        topic: partition.topic.to_string(),
        partition: Some(partition.partition),
        key: record.key(&bytes).map(|key| bytes.slice_ref(key)),
        value: record.value(&bytes).map(|value| bytes.slice_ref(value)),
        headers: record
            .headers(&bytes)
            .map(|(name, value)| {
                (String::from_utf8_lossy(name).into_owned(), value.map(|value| bytes.slice_ref(value)))
            })
            .collect(),
        timestamp: Some(record.timestamp),
    });
    records.collect()
}
