//! What passes between the I/O thread and the future that runs handlers.
//!
//! Messages go one way and wake the future up; handled bytes go the other way and make room for the next fetch. What
//! waits here is bounded by the fetch buffer: every chunk holds a [`Lease`] on its bytes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use tokio::sync::{Notify, oneshot};

use crate::core::consume::fetch::Chunk;
use crate::core::consume::watermark::{AssignmentEpoch, Watermark};
use crate::error::ConsumeError;
use crate::metrics::Counter;
use crate::sync::lock;
use crate::types::TopicPartition;

/// A partition under one assignment, as all sides see it.
#[derive(Debug)]
pub(crate) struct Assigned {
    pub(crate) partition: TopicPartition,
    pub(crate) epoch: AssignmentEpoch,
    pub(crate) watermark: Mutex<Watermark>,
    /// Where the log ends, as the last answer said; -1 before it.
    pub(crate) end: AtomicI64,
    /// No further record of it may be handed out.
    pub(crate) revoked: AtomicBool,
    /// No record of it is handed out for now. [`Message::Resume`] tells when that is over.
    pub(crate) paused: AtomicBool,
}

impl Assigned {
    /// A partition whose handling begins where `watermark` does.
    pub(crate) fn new(partition: TopicPartition, epoch: AssignmentEpoch, watermark: Watermark) -> Assigned {
        let (watermark, end) = (Mutex::new(watermark), AtomicI64::new(-1));
        let (revoked, paused) = (AtomicBool::new(false), AtomicBool::new(false));
        Assigned { partition, epoch, watermark, end, revoked, paused }
    }

    /// Records in the log that are not handled yet, as far as is known.
    pub(crate) fn lag(&self) -> u64 {
        let behind = self.end.load(Ordering::Relaxed).saturating_sub(lock(&self.watermark).handled());
        u64::try_from(behind).unwrap_or(0)
    }
}

/// Why a consumer ends although nothing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// `ConsumerHandle::shutdown` was called.
    Shutdown,
    /// As many records were handled as `stop_after` asked for.
    MaxRecords,
    /// No record came for as long as `stop_when_idle` allows.
    Idle,
}

/// What the I/O thread tells the future that runs handlers.
#[derive(Debug)]
pub(crate) enum Message {
    /// Records of this partition will come.
    Assign(Arc<Assigned>),
    /// Records.
    Chunk(Chunk, Lease),
    /// The records before are the last before the position jumps.
    Jump(TopicPartition, AssignmentEpoch, i64),
    /// The records before are the last that can be had.
    Fault(TopicPartition, AssignmentEpoch, ConsumeError),
    /// Hand out no more of these; tell when their handlers are done.
    Revoke(Vec<Arc<Assigned>>, oneshot::Sender<()>),
    /// The partition is not paused any more.
    #[cfg_attr(not(test), expect(dead_code, reason = "the hand on the consumer pauses and resumes next"))]
    Resume(TopicPartition),
    /// Stop in good order.
    Stop(StopReason),
    /// Stop: nothing can be fetched or committed any more.
    Failed(ConsumeError),
    /// The time has come that the future set its alarm to.
    Alarm,
}

/// What the future tells the I/O thread. Its end tells to finish, too.
#[derive(Debug)]
pub(crate) enum Command {
    /// Commit what is handled now, without waiting for the interval.
    Commit,
    /// Commit what is handled, leave the group, answer.
    Finish(oneshot::Sender<Result<(), ConsumeError>>),
}

/// Messages and woken handlers, and the future to wake.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Message>,
    slots: Vec<usize>,
    waker: Option<Waker>,
}

impl Inbox {
    /// Leaves a message.
    pub(crate) fn push(&self, message: Message) {
        self.wake_after(|waiting| waiting.messages.push_back(message));
    }

    /// The handler in slot `index` can go on.
    pub(crate) fn push_slot(&self, index: usize) {
        self.wake_after(|waiting| waiting.slots.push(index));
    }

    fn wake_after(&self, change: impl FnOnce(&mut Waiting)) {
        let waker = {
            let mut waiting = lock(&self.state);
            change(&mut waiting);
            waiting.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes all that waits, into buffers that are empty. `waker` is woken once by what comes next.
    pub(crate) fn take(&self, waker: &Waker, messages: &mut VecDeque<Message>, slots: &mut Vec<usize>) {
        let mut waiting = lock(&self.state);
        std::mem::swap(&mut waiting.messages, messages);
        std::mem::swap(&mut waiting.slots, slots);
        if !waiting.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            waiting.waker = Some(waker.clone());
        }
    }
}

/// Room in the fetch buffer that comes back.
#[derive(Debug, Default)]
pub(crate) struct Releases {
    queue: Mutex<Vec<(TopicPartition, AssignmentEpoch, usize)>>,
    notify: Notify,
}

impl Releases {
    /// What came back since the last call.
    pub(crate) fn take(&self) -> Vec<(TopicPartition, AssignmentEpoch, usize)> {
        std::mem::take(&mut *lock(&self.queue))
    }

    /// Waits until something has come back.
    pub(crate) async fn wait(&self) {
        self.notify.notified().await;
    }
}

/// The bytes of one chunk; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    releases: Arc<Releases>,
    partition: TopicPartition,
    assignment: AssignmentEpoch,
    bytes: usize,
}

impl Lease {
    /// Holds the bytes of `chunk`.
    pub(crate) fn on(chunk: &Chunk, releases: &Arc<Releases>) -> Lease {
        Lease {
            releases: releases.clone(),
            partition: chunk.partition.clone(),
            assignment: chunk.assignment,
            bytes: chunk.records.len(),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        lock(&self.releases.queue).push((self.partition.clone(), self.assignment, self.bytes));
        self.releases.notify.notify_one();
    }
}

/// Figures of one consumer, and the partitions it holds.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) records: Counter,
    pub(crate) bytes: Counter,
    pub(crate) handler_retries: Counter,
    pub(crate) discarded: Counter,
    pub(crate) buffered_bytes: AtomicU64,
    /// Records with handlers, between two attempts, or behind others of their key.
    pub(crate) in_hand: AtomicU64,
    pub(crate) fetches: Counter,
    pub(crate) fetch_failures: Counter,
    pub(crate) commits: Counter,
    pub(crate) commit_failures: Counter,
    pub(crate) rebalances: Counter,
    /// Counts anything that says that records still come.
    pub(crate) activity: Counter,
    pub(crate) assigned: Mutex<Option<Vec<Arc<Assigned>>>>,
}
