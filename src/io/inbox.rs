//! What passes between the I/O thread and the future that runs handlers.
//!
//! Messages go one way and wake the future up; handled bytes go the other way and make room for the next fetch. What
//! waits here is bounded by the fetch buffer: every chunk holds a [`Lease`] on its bytes.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tokio::sync::{Notify, oneshot};

use super::offsets::SeekTo;
use crate::core::consume::fetch::Chunk;
use crate::core::consume::watermark::{AssignmentEpoch, Watermark};
use crate::error::{ConsumeError, ControlError};
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
    /// No further record of it may be handed out. Set by [`Assigned::revoke`] alone.
    pub(crate) revoked: AtomicBool,
    /// No record of it is handed out for now. [`Message::Resume`] tells when that is over.
    pub(crate) paused: AtomicBool,
    /// Who waits for the revocation.
    waiters: Mutex<Waiters>,
}

#[derive(Debug, Default)]
struct Waiters {
    last: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl Assigned {
    /// A partition whose handling begins where `watermark` does.
    pub(crate) fn new(partition: TopicPartition, epoch: AssignmentEpoch, watermark: Watermark) -> Assigned {
        let (watermark, end) = (Mutex::new(watermark), AtomicI64::new(-1));
        let (revoked, paused) = (AtomicBool::new(false), AtomicBool::new(false));
        Assigned { partition, epoch, watermark, end, revoked, paused, waiters: Mutex::default() }
    }

    /// No further record is handed out from here on; whoever waits for it is told. Once is enough, more does no harm.
    pub(crate) fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
        let wakers = std::mem::take(&mut lock(&self.waiters).wakers);
        wakers.into_values().for_each(Waker::wake);
    }

    /// Whether [`Assigned::revoke`] was called.
    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    /// Records in the log that are not handled yet, as far as is known.
    pub(crate) fn lag(&self) -> u64 {
        let behind = self.end.load(Ordering::Relaxed).saturating_sub(lock(&self.watermark).handled());
        u64::try_from(behind).unwrap_or(0)
    }
}

/// Resolves when a partition is revoked: it goes to another member of the group, or the consumer ends. At once when that
/// has happened before. Cheap to make and to clone; needs no particular executor. See
/// [`Delivery::revoked`](crate::Delivery::revoked).
///
/// # Cancel safety
/// Dropping it stops the waiting only. It can be polled again after it has resolved.
#[must_use = "futures do nothing unless awaited"]
pub struct Revoked {
    assigned: Arc<Assigned>,
    /// Under which the waker is kept.
    place: Option<u64>,
}

impl Revoked {
    pub(crate) fn of(assigned: &Arc<Assigned>) -> Revoked {
        Revoked { assigned: assigned.clone(), place: None }
    }
}

impl Future for Revoked {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.assigned.is_revoked() {
            return Poll::Ready(());
        }
        let this = &mut *self;
        {
            let mut waiters = lock(&this.assigned.waiters);
            let place = *this.place.get_or_insert_with(|| {
                waiters.last += 1;
                waiters.last
            });
            waiters.wakers.insert(place, context.waker().clone());
        }
        // It may have been revoked between the look and the note.
        if this.assigned.is_revoked() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Clone for Revoked {
    fn clone(&self) -> Revoked {
        Revoked::of(&self.assigned)
    }
}

impl Drop for Revoked {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            lock(&self.assigned.waiters).wakers.remove(&place);
        }
    }
}

impl fmt::Debug for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revoked = self.assigned.is_revoked();
        f.debug_struct("Revoked").field("partition", &self.assigned.partition).field("revoked", &revoked).finish()
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
    /// The logs were handled up to where they ended, as `stop_at_end` asked for.
    End,
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
    Resume(TopicPartition),
    /// Stop in good order.
    Stop(StopReason),
    /// Stop: nothing can be fetched or committed any more.
    Failed(ConsumeError),
    /// The time has come that the future set its alarm to.
    Alarm,
}

/// Tells whoever holds the consumer's handle what became of it.
pub(crate) type ControlReply = oneshot::Sender<Result<(), ControlError>>;

/// What the future, or the handle, tells the I/O thread. Its end tells to finish, too.
#[derive(Debug)]
pub(crate) enum Command {
    /// Commit what is handled now, without waiting for the interval.
    Commit,
    /// Hold these partitions back, or let them go on.
    Pause(Vec<TopicPartition>, bool, ControlReply),
    /// Go on at another place.
    Seek(TopicPartition, SeekTo, ControlReply),
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
    queue: Mutex<Released>,
    notify: Notify,
}

/// What came back.
#[derive(Debug, Default)]
pub(crate) struct Released {
    pub(crate) chunks: Vec<(TopicPartition, AssignmentEpoch)>,
    pub(crate) bytes: usize,
    /// The fetcher has a use for it now.
    wanted: bool,
}

impl Released {
    fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.bytes == 0
    }
}

impl Releases {
    /// What came back since the last call.
    pub(crate) fn take(&self) -> Released {
        std::mem::take(&mut *lock(&self.queue))
    }

    /// Whether [`Releases::wait`] is to end with the next chunk: waking the I/O thread for each costs more than the chunk.
    pub(crate) fn want(&self, wanted: bool) {
        let mut queue = lock(&self.queue);
        queue.wanted = wanted;
        if wanted && !queue.is_empty() {
            self.notify.notify_one();
        }
    }

    /// Waits until something has come back that was wanted.
    pub(crate) async fn wait(&self) {
        self.notify.notified().await;
    }

    fn add(&self, change: impl FnOnce(&mut Released)) {
        let mut queue = lock(&self.queue);
        change(&mut queue);
        if queue.wanted {
            self.notify.notify_one();
        }
    }
}

/// Bytes that chunks hold in memory: their own, or the answer they came with. Given back with the last of them.
#[derive(Debug)]
pub(crate) struct Room {
    releases: Arc<Releases>,
    bytes: usize,
}

impl Room {
    /// Holds so many bytes.
    pub(crate) fn new(bytes: usize, releases: &Arc<Releases>) -> Arc<Room> {
        Arc::new(Room { releases: releases.clone(), bytes })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.releases.add(|released| released.bytes += self.bytes);
    }
}

/// One chunk's place among those that wait, and the bytes it holds; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    partition: TopicPartition,
    assignment: AssignmentEpoch,
    room: Arc<Room>,
}

impl Lease {
    /// Holds the bytes of `chunk`.
    pub(crate) fn on(chunk: &Chunk, releases: &Arc<Releases>) -> Lease {
        Lease::within(chunk, Room::new(chunk.records.len(), releases))
    }

    /// The lease of `chunk` on room that it may share with others.
    pub(crate) fn within(chunk: &Chunk, room: Arc<Room>) -> Lease {
        Lease { partition: chunk.partition.clone(), assignment: chunk.assignment, room }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let chunk = (self.partition.clone(), self.assignment);
        self.room.releases.add(|released| released.chunks.push(chunk));
    }
}

/// Figures of one consumer, and the partitions it holds.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) records: Counter,
    pub(crate) bytes: Counter,
    pub(crate) handler_retries: Counter,
    pub(crate) discarded: Counter,
    pub(crate) skipped: Counter,
    pub(crate) dead_letters: Counter,
    pub(crate) retried_later: Counter,
    pub(crate) buffered_bytes: AtomicU64,
    /// Records with handlers, between two attempts, or behind others of their key.
    pub(crate) in_hand: AtomicU64,
    pub(crate) fetches: Counter,
    pub(crate) fetch_failures: Counter,
    pub(crate) data_losses: Counter,
    pub(crate) commits: Counter,
    pub(crate) commit_failures: Counter,
    pub(crate) rebalances: Counter,
    pub(crate) slow_handlers: Counter,
    /// Counts anything that says that records still come.
    pub(crate) activity: Counter,
    pub(crate) assigned: Mutex<Option<Vec<Arc<Assigned>>>>,
    /// Partitions that are ours and not among these, since it is not known yet where they begin. Set before the list.
    pub(crate) beginning: AtomicUsize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn assigned() -> Arc<Assigned> {
        let (partition, epoch) = (TopicPartition::new("orders", 0), AssignmentEpoch(1));
        let watermark = Watermark::new(partition.clone(), epoch, 0, -1, None);
        Arc::new(Assigned::new(partition, epoch, watermark))
    }

    #[test]
    fn a_revocation_wakes_each_who_waits_once_and_nobody_who_has_gone() {
        let assigned = assigned();
        let counts: Vec<Arc<Count>> = (0..3).map(|_| Arc::default()).collect();
        let mut futures: Vec<Revoked> = (0..3).map(|_| Revoked::of(&assigned)).collect();
        let poll = |future: &mut Revoked, count: &Arc<Count>| {
            let waker = Waker::from(count.clone());
            Pin::new(future).poll(&mut Context::from_waker(&waker))
        };
        for (future, count) in futures.iter_mut().zip(&counts) {
            // Twice: a second look must not leave a second waker behind.
            assert_eq!((poll(future, count), poll(future, count)), (Poll::Pending, Poll::Pending));
        }
        drop(futures.pop());
        assert_eq!(lock(&assigned.waiters).wakers.len(), 2);
        assigned.revoke();
        assigned.revoke();
        let woken: Vec<usize> = counts.iter().map(|count| count.0.load(Ordering::Relaxed)).collect();
        assert_eq!(woken, [1, 1, 0]);
        for (future, count) in futures.iter_mut().zip(&counts) {
            assert_eq!((poll(future, count), poll(&mut future.clone(), count)), (Poll::Ready(()), Poll::Ready(())));
        }
        drop(futures);
        assert!(lock(&assigned.waiters).wakers.is_empty());
    }
}
