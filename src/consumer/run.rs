//! The loop that hands records to the handler. It runs inside the caller's future, on the caller's executor, and needs
//! nothing of that executor but to be polled.
//!
//! ```text
//!  inbox ──> messages (assigned, fetched, revoked, stop) ──> lanes: one per partition
//!        └─> woken handlers, alarms ──> slots: handlers at work, pauses, disposals
//!  then, while a worker is free: retries that are due, records whose key is free now, lanes in turn
//! ```
//! One turn is `messages` → `outcome` (what was woken) → `dispatch` → `burst` (the fast way of one lane).

mod burst;
mod dispatch;
mod messages;
mod outcome;

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::alarms::{Alarm, Alarms, Whom};
use super::delivery::Delivery;
use super::dispose::Disposer;
use super::lane::{Gate, Lane};
use super::order::Waiting;
use super::parcel::Parcel;
use super::slots::{Slots, State};
use super::source::SourceSettings;
use crate::config::Order;
use crate::core::retry::Backoff;
use crate::error::ConsumeError;
use crate::io::inbox::{Assigned, Command, Inbox, Message, Stats, StopReason};
use crate::io::thread::IoThread;
use crate::types::TopicPartition;

/// What a consumer did, told when it stopped in good order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Records handled with success, or brought out of the way as `handler.on.failure` says. All of them are committed,
    /// if there is a group.
    pub records: u64,
    /// Records handled whose partition had moved to another member meanwhile: handled again there.
    pub discarded: u64,
    /// Why it stopped.
    pub reason: StopReason,
}

/// What the loop needs besides the handler.
pub(super) struct RunSettings {
    pub(super) source: SourceSettings,
    pub(super) order: Order,
    /// The most handlers at once.
    pub(super) workers: usize,
    /// The most records of a batch.
    pub(super) batch: u32,
    pub(super) handler_timeout: Duration,
    pub(super) retries: u32,
    pub(super) backoff: Backoff,
    /// Brings records out of the way that cannot be handled; none when they stop the consumer.
    pub(super) disposer: Option<Disposer>,
    /// Records whose handler fails are needed once more: for another attempt, or to be disposed of.
    pub(super) keep: bool,
    /// Some records must not be handled before their time.
    pub(super) delays: bool,
    pub(super) commit_records: u64,
    pub(super) stop_after: Option<u64>,
    pub(super) shutdown_timeout: Duration,
}

/// The loop's state; polled as a future. `P` is what one call of the handler is given.
pub(super) struct Runner<H, F, P = Delivery> {
    handler: H,
    settings: RunSettings,
    inbox: Arc<Inbox>,
    commands: mpsc::UnboundedSender<Command>,
    stats: Arc<Stats>,
    thread: IoThread,
    gate: Option<Arc<Gate>>,
    lanes: Vec<Lane>,
    index: HashMap<TopicPartition, usize>,
    slots: Slots<F, P>,
    /// How many handlers are at work.
    running: usize,
    /// Lanes that may have records to hand out, and which those are.
    ready: VecDeque<usize>,
    queued: Vec<bool>,
    /// Slots whose pause is over.
    due: VecDeque<usize>,
    /// Records whose key is free now.
    freed: VecDeque<Freed>,
    /// Those of them whose partition is paused.
    parked: Vec<Freed>,
    messages: VecDeque<Message>,
    woken: Vec<usize>,
    alarms: Alarms,
    shutdown: Alarm,
    revoking: Vec<(Vec<Arc<Assigned>>, oneshot::Sender<()>)>,
    /// How many further records are copied out of the fetched bytes before they go to a handler.
    detaching: u32,
    /// Records given to handlers, but for those whose handling came to nothing here.
    handed_out: u64,
    handled: u64,
    discarded: u64,
    uncommitted: u64,
    phase: Phase,
}

/// A record that waited behind another of its key.
struct Freed {
    lane: usize,
    assigned: Arc<Assigned>,
    key: Bytes,
    waiting: Waiting,
}

enum Phase {
    Running,
    /// No further record is handed out; handlers finish.
    Stopping(Result<StopReason, ConsumeError>),
    /// The I/O thread commits and leaves the group.
    Finishing(Result<StopReason, ConsumeError>, oneshot::Receiver<Result<(), ConsumeError>>),
    Over,
}

impl<H, F, P> Runner<H, F, P> {
    pub(super) fn new(
        handler: H,
        settings: RunSettings,
        inbox: Arc<Inbox>,
        commands: mpsc::UnboundedSender<Command>,
        stats: Arc<Stats>,
        thread: IoThread,
    ) -> Self {
        let delaying = settings.disposer.clone().filter(|_| settings.delays);
        let gate = delaying.map(|disposer| Gate { disposer, thread: thread.clone() });
        Runner {
            gate: gate.map(Arc::new),
            slots: Slots::new(inbox.clone()),
            alarms: Alarms::new(thread.clone(), inbox.clone()),
            handler,
            settings,
            inbox,
            commands,
            stats,
            thread,
            lanes: Vec::new(),
            index: HashMap::new(),
            running: 0,
            ready: VecDeque::new(),
            queued: Vec::new(),
            due: VecDeque::new(),
            freed: VecDeque::new(),
            parked: Vec::new(),
            messages: VecDeque::new(),
            woken: Vec::new(),
            shutdown: Alarm::default(),
            revoking: Vec::new(),
            detaching: 0,
            handed_out: 0,
            handled: 0,
            discarded: 0,
            uncommitted: 0,
            phase: Phase::Running,
        }
    }
}

// Futures of the handler live in boxes of their own, so that the loop itself can be moved.
impl<H, F, P> Unpin for Runner<H, F, P> {}

impl<H, F, P, E> Future for Runner<H, F, P>
where
    H: FnMut(P) -> F,
    P: Parcel,
    F: Future<Output = Result<(), E>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Output = Result<Summary, ConsumeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let runner = &mut *self;
        if runner.settings.stop_after == Some(0) {
            runner.stop(Ok(StopReason::MaxRecords)); // no record will come to it
        }
        runner.take_messages(context);
        runner.poll_woken();
        if runner.dispatch() {
            context.waker().wake_by_ref();
        }
        runner.note_in_hand();
        runner.poll_end(context)
    }
}

impl<H, F, P, E> Runner<H, F, P>
where
    H: FnMut(P) -> F,
    P: Parcel,
    F: Future<Output = Result<(), E>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Hands out no more, whatever the reason; the first reason counts.
    fn stop(&mut self, outcome: Result<StopReason, ConsumeError>) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        self.phase = Phase::Stopping(outcome);
        for lane in &mut self.lanes {
            lane.clear();
        }
        self.freed.clear();
        self.parked.clear();
        for index in 0..self.slots.len() {
            // It failed, and there is no time for another attempt.
            if matches!(self.slots.get(index).state, State::Pausing | State::Due) {
                self.free(index);
            }
        }
        self.answer_revocations();
        self.alarms.arm(&mut self.shutdown, Whom::Shutdown, self.settings.shutdown_timeout);
    }

    fn finish(&mut self) {
        if let Phase::Stopping(outcome) = std::mem::replace(&mut self.phase, Phase::Over) {
            // Handlers had their time: a rebalance that waits for them goes on to its last commit.
            for (_, done) in std::mem::take(&mut self.revoking) {
                let _ = done.send(());
            }
            let (reply, answer) = oneshot::channel();
            let _ = self.commands.send(Command::Finish(reply));
            self.phase = Phase::Finishing(outcome, answer);
        }
    }

    fn note_in_hand(&self) {
        let waiting: usize = self.lanes.iter().map(|lane| lane.keys.waiting()).sum();
        let in_hand = self.slots.in_use() + self.freed.len() + self.parked.len() + waiting;
        self.stats.in_hand.store(in_hand as u64, Ordering::Relaxed);
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Result<Summary, ConsumeError>> {
        if matches!(self.phase, Phase::Stopping(_)) && self.slots.in_use() == 0 {
            self.finish();
        }
        let Phase::Finishing(_, answer) = &mut self.phase else { return Poll::Pending };
        let Poll::Ready(answer) = Pin::new(answer).poll(context) else { return Poll::Pending };
        let committed = answer.unwrap_or(Err(ConsumeError::Closed));
        let Phase::Finishing(outcome, _) = std::mem::replace(&mut self.phase, Phase::Over) else {
            return Poll::Pending;
        };
        let reason = match (outcome, committed) {
            (Ok(reason), Ok(())) => reason,
            (Ok(_), Err(error)) => return Poll::Ready(Err(error)),
            (Err(ConsumeError::Handler { partition, offset, attempts, failure, .. }), Err(error)) => {
                let commit = Some(Box::new(error));
                return Poll::Ready(Err(ConsumeError::Handler { partition, offset, attempts, failure, commit }));
            }
            (Err(error), committed) => {
                if let Err(commit) = committed {
                    tracing::error!(%commit, "the last commit of a failing consumer failed too");
                }
                return Poll::Ready(Err(error));
            }
        };
        Poll::Ready(Ok(Summary { records: self.handled, discarded: self.discarded, reason }))
    }
}

#[cfg(test)]
mod tests;
