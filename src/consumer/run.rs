//! The loop that hands records to the handler. It runs inside the caller's future, on the caller's executor, and needs
//! nothing of that executor but to be polled.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::delivery::Delivery;
use super::lane::{InHand, Lane, LaneState};
use super::source::{Item, Next, Source, SourceSettings};
use crate::core::consume::watermark::{AssignmentEpoch, Completion};
use crate::core::retry::Backoff;
use crate::error::{ConsumeError, HandlerFailure};
use crate::io::inbox::{Assigned, Command, Inbox, Message, Stats, StopReason};
use crate::io::thread::IoThread;
use crate::sync::lock;
use crate::types::TopicPartition;

/// Records handed to ready handlers before the caller's executor gets a turn.
const TURN: u32 = 1024;
/// Records of one partition before another gets a turn.
const LANE_TURN: u32 = 256;

/// What a consumer did, told when it stopped in good order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Records handled with success. All of them are committed, if there is a group.
    pub records: u64,
    /// Records handled whose partition had moved to another member meanwhile: handled again there.
    pub discarded: u64,
    /// Why it stopped.
    pub reason: StopReason,
}

/// What the loop needs besides the handler.
pub(super) struct RunSettings {
    pub(super) source: SourceSettings,
    pub(super) retries: u32,
    pub(super) backoff: Backoff,
    pub(super) commit_records: u64,
    pub(super) stop_after: Option<u64>,
    pub(super) shutdown_timeout: Duration,
}

/// The loop's state; polled as a future.
pub(super) struct Runner<H, F> {
    pub(super) handler: H,
    pub(super) settings: RunSettings,
    pub(super) inbox: Arc<Inbox>,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) stats: Arc<Stats>,
    pub(super) thread: IoThread,
    progress: Progress<F>,
}

struct Progress<F> {
    lanes: Vec<Lane<F>>,
    index: HashMap<TopicPartition, usize>,
    ready: VecDeque<usize>,
    queued: Vec<bool>,
    messages: VecDeque<Message>,
    woken: Vec<usize>,
    revoking: Vec<(Vec<Arc<Assigned>>, oneshot::Sender<()>)>,
    handed_out: u64,
    handled: u64,
    discarded: u64,
    uncommitted: u64,
    phase: Phase,
}

enum Phase {
    Running,
    /// No further record is handed out; handlers finish.
    Stopping(Result<StopReason, ConsumeError>),
    /// The I/O thread commits and leaves the group.
    Finishing(Result<StopReason, ConsumeError>, oneshot::Receiver<Result<(), ConsumeError>>),
    Over,
}

impl<H, F> Runner<H, F> {
    pub(super) fn new(
        handler: H,
        settings: RunSettings,
        inbox: Arc<Inbox>,
        commands: mpsc::UnboundedSender<Command>,
        stats: Arc<Stats>,
        thread: IoThread,
    ) -> Self {
        let progress = Progress {
            lanes: Vec::new(),
            index: HashMap::new(),
            ready: VecDeque::new(),
            queued: Vec::new(),
            messages: VecDeque::new(),
            woken: Vec::new(),
            revoking: Vec::new(),
            handed_out: 0,
            handled: 0,
            discarded: 0,
            uncommitted: 0,
            phase: Phase::Running,
        };
        Runner { handler, settings, inbox, commands, stats, thread, progress }
    }
}

// Futures of the handler live in boxes of their own, so that the loop itself can be moved.
impl<H, F> Unpin for Runner<H, F> {}

impl<H, F, E> Future for Runner<H, F>
where
    H: FnMut(Delivery) -> F,
    F: Future<Output = Result<(), E>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Output = Result<Summary, ConsumeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let runner = &mut *self;
        runner.take_messages(context);
        if runner.drive_lanes() {
            context.waker().wake_by_ref();
        }
        runner.poll_end(context)
    }
}

impl<H, F, E> Runner<H, F>
where
    H: FnMut(Delivery) -> F,
    F: Future<Output = Result<(), E>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn take_messages(&mut self, context: &Context<'_>) {
        let mut messages = std::mem::take(&mut self.progress.messages);
        let mut woken = std::mem::take(&mut self.progress.woken);
        self.inbox.take(context.waker(), &mut messages, &mut woken);
        for lane in woken.drain(..) {
            self.enqueue(lane);
        }
        for message in messages.drain(..) {
            self.on_message(message);
        }
        (self.progress.messages, self.progress.woken) = (messages, woken);
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Assign(assigned) => {
                let partition = assigned.partition.clone();
                let source = Source::new(assigned.clone(), self.settings.source.clone());
                match self.progress.index.get(&partition) {
                    Some(at) => self.progress.lanes[*at].assign(assigned, source),
                    None => {
                        let at = self.progress.lanes.len();
                        self.progress.lanes.push(Lane::new(assigned, source, at, &self.inbox));
                        self.progress.queued.push(false);
                        self.progress.index.insert(partition, at);
                    }
                }
            }
            Message::Chunk(chunk, lease) => {
                let (partition, epoch) = (chunk.partition.clone(), chunk.assignment);
                self.push(&partition, epoch, Item::Chunk(chunk, lease));
            }
            Message::Jump(partition, epoch, offset) => self.push(&partition, epoch, Item::Jump(offset)),
            Message::Fault(partition, epoch, error) => self.push(&partition, epoch, Item::Fault(error)),
            Message::Revoke(revoked, done) => {
                let mut given_up = 0;
                for revoked in &revoked {
                    let Some(at) = self.progress.index.get(&revoked.partition) else { continue };
                    let lane = &mut self.progress.lanes[*at];
                    if lane.assigned.epoch == revoked.epoch {
                        lane.source.clear();
                        if matches!(lane.state, LaneState::Waiting(..)) {
                            lane.let_go(); // its next owner handles it again
                            given_up += 1;
                        }
                    }
                    lane.next.take_if(|(assigned, _)| assigned.epoch == revoked.epoch);
                }
                (0..given_up).for_each(|_| self.take_back());
                self.progress.revoking.push((revoked, done));
                self.answer_revocations();
            }
            Message::Resume(partition) => {
                if let Some(at) = self.progress.index.get(&partition).copied() {
                    self.enqueue(at);
                }
            }
            Message::Stop(reason) => self.stop(Ok(reason)),
            Message::Failed(error) => self.stop(Err(error)),
            Message::Expired => {
                // What is still with its handler is given up: it is not committed, and its completion has no effect.
                if matches!(self.progress.phase, Phase::Stopping(_)) {
                    tracing::warn!(
                        "handlers are still at work at the end of the shutdown timeout; their records stay uncommitted"
                    );
                    self.finish();
                }
            }
        }
    }

    fn push(&mut self, partition: &TopicPartition, epoch: AssignmentEpoch, item: Item) {
        if let Some(at) = self.progress.index.get(partition).copied() {
            // While the consumer stops, too, though none of it is handed out: what waits holds room in the fetch buffer.
            // Were it dropped, the fetcher would read on as fast as it can, for nothing.
            self.progress.lanes[at].push(epoch, item);
            self.enqueue(at);
        }
    }

    /// A record that was handed out does not count: another may go out in its place, of whatever lane.
    fn take_back(&mut self) {
        self.progress.handed_out -= 1;
        if self.settings.stop_after.is_some() {
            (0..self.progress.lanes.len()).for_each(|lane| self.enqueue(lane));
        }
    }

    fn enqueue(&mut self, lane: usize) {
        if let Some(queued) = self.progress.queued.get_mut(lane)
            && !std::mem::replace(queued, true)
        {
            self.progress.ready.push_back(lane);
        }
    }

    /// Lets lanes go on that can. Whether there is more to do than fits in a turn.
    fn drive_lanes(&mut self) -> bool {
        let mut turn = TURN;
        while let Some(at) = self.progress.ready.pop_front() {
            self.progress.queued[at] = false;
            let mut left = LANE_TURN.min(turn);
            let given = left;
            let more = self.drive(at, &mut left);
            turn -= given - left;
            if more {
                self.enqueue(at);
            }
            if turn == 0 {
                return !self.progress.ready.is_empty();
            }
        }
        false
    }

    /// Drives one lane until it has to wait (false), or its turn is over (true).
    fn drive(&mut self, at: usize, left: &mut u32) -> bool {
        self.progress.lanes[at].on_driven();
        loop {
            let lane = &mut self.progress.lanes[at];
            match &mut lane.state {
                LaneState::Handling(_) => match lane.poll() {
                    Poll::Pending => return false,
                    Poll::Ready(outcome) => self.on_outcome(at, outcome),
                },
                LaneState::Waiting(..) => {
                    if !self.retry(at) {
                        return false;
                    }
                }
                LaneState::Idle => {
                    if *left == 0 {
                        return true;
                    }
                    *left -= 1;
                    if !self.hand_out(at) {
                        return false;
                    }
                }
            }
        }
    }

    /// Hands out the lane's next record. Whether there was one.
    fn hand_out(&mut self, at: usize) -> bool {
        let progress = &mut self.progress;
        let full = self.settings.stop_after.is_some_and(|most| progress.handed_out >= most);
        let lane = &mut progress.lanes[at];
        if !matches!(progress.phase, Phase::Running) || full || lane.is_held() {
            return false;
        }
        match lane.source.next() {
            None => false,
            Some(Ok(Next { section, record, leader_epoch })) => {
                progress.handed_out += 1;
                let token = lane.hand_out(record.offset, leader_epoch);
                let offset = record.offset;
                let delivery = Delivery::new(section, record, 1);
                let bytes = delivery.payload_len();
                if self.settings.retries > 0 {
                    lane.again = Some(delivery.clone());
                }
                lane.state = LaneState::Handling(InHand { token, offset, attempt: 1, bytes });
                if let Some(failure) = lane.call(&mut self.handler, delivery) {
                    self.on_outcome(at, Err(failure));
                }
                true
            }
            Some(Err(error)) => {
                self.stop(Err(error));
                false
            }
        }
    }

    /// Handles the record in hand again, if its pause is over. Whether the lane can go on.
    fn retry(&mut self, at: usize) -> bool {
        let lane = &mut self.progress.lanes[at];
        if lane.is_revoked() {
            lane.let_go();
            self.take_back();
            self.on_lane_free(at);
            return true;
        }
        let waker = lane.waker().clone();
        let LaneState::Waiting(_, timer) = &mut lane.state else { return true };
        if Pin::new(timer).poll(&mut Context::from_waker(&waker)).is_pending() {
            return false;
        }
        if let LaneState::Waiting(mut in_hand, _) = std::mem::replace(&mut lane.state, LaneState::Idle)
            && let Some(delivery) = lane.again.clone()
        {
            in_hand.attempt += 1;
            let delivery = delivery.at_attempt(in_hand.attempt);
            lane.state = LaneState::Handling(in_hand);
            if let Some(failure) = lane.call(&mut self.handler, delivery) {
                self.on_outcome(at, Err(failure));
            }
        }
        true
    }

    fn on_outcome(&mut self, at: usize, outcome: Result<(), HandlerFailure>) {
        let lane = &mut self.progress.lanes[at];
        let LaneState::Handling(in_hand) = std::mem::replace(&mut lane.state, LaneState::Idle) else { return };
        let failure = match outcome {
            Ok(()) => {
                if lane.again.is_some() {
                    lane.again = None;
                }
                return self.on_handled(at, in_hand);
            }
            Err(failure) => failure,
        };
        let (offset, attempt) = (in_hand.offset, in_hand.attempt);
        if lane.is_revoked() {
            // Nobody waits for this record here any more: its next owner handles it again.
            lane.again = None;
            self.take_back();
            return self.on_lane_free(at);
        }
        if attempt <= self.settings.retries && matches!(self.progress.phase, Phase::Running) {
            tracing::warn!(partition = %lane.assigned.partition, offset, attempt, %failure, "handler failed; again after a pause");
            self.stats.handler_retries.add(1);
            let pause = self.settings.backoff.delay(attempt, self.thread.random().next());
            let (alarm, timer) = oneshot::channel();
            self.thread.spawn(async move {
                tokio::time::sleep(pause).await;
                let _ = alarm.send(());
            });
            lane.state = LaneState::Waiting(in_hand, timer);
            return self.enqueue(at);
        }
        lane.again = None;
        let partition = lane.assigned.partition.clone();
        self.stop(Err(ConsumeError::Handler { partition, offset, attempts: attempt, failure, commit: None }));
        self.on_lane_free(at);
    }

    fn on_handled(&mut self, at: usize, in_hand: InHand) {
        let lane = &self.progress.lanes[at];
        let completion = lock(&lane.assigned.watermark).complete(in_hand.token);
        match completion {
            Completion::Counted => {
                self.progress.handled += 1;
                self.progress.uncommitted += 1;
                self.stats.records.add_alone(1);
                self.stats.bytes.add_alone(in_hand.bytes);
            }
            Completion::Discarded => {
                self.progress.discarded += 1;
                self.take_back(); // it comes again, here or elsewhere
                self.stats.discarded.add(1);
            }
        }
        if self.settings.commit_records > 0 && self.progress.uncommitted >= self.settings.commit_records {
            self.progress.uncommitted = 0;
            let _ = self.commands.send(Command::Commit);
        }
        if self.settings.stop_after.is_some_and(|most| self.progress.handled >= most) {
            self.stop(Ok(StopReason::MaxRecords));
        }
        if self.progress.lanes[at].next.is_some() || !self.progress.revoking.is_empty() {
            self.on_lane_free(at);
        }
    }

    /// The lane has no record in hand any more.
    fn on_lane_free(&mut self, at: usize) {
        self.progress.lanes[at].turn_over();
        self.enqueue(at);
        self.answer_revocations();
    }

    /// Tells those who wait for handlers of an assignment that there are none.
    fn answer_revocations(&mut self) {
        let revoking = std::mem::take(&mut self.progress.revoking);
        let lane = |assigned: &Assigned| Some(&self.progress.lanes[*self.progress.index.get(&assigned.partition)?]);
        let busy = |assigned: &Arc<Assigned>| {
            lane(assigned).is_some_and(|lane| lane.is_busy() && lane.assigned.epoch == assigned.epoch)
        };
        let (waiting, done) = revoking.into_iter().partition(|(revoked, _)| revoked.iter().any(busy));
        self.progress.revoking = waiting;
        for (_, done) in done {
            let _ = done.send(());
        }
    }

    /// Hands out no more, whatever the reason; the first reason counts.
    fn stop(&mut self, outcome: Result<StopReason, ConsumeError>) {
        if !matches!(self.progress.phase, Phase::Running) {
            return;
        }
        self.progress.phase = Phase::Stopping(outcome);
        for lane in &mut self.progress.lanes {
            lane.source.clear();
            lane.next = None;
            if matches!(lane.state, LaneState::Waiting(..)) {
                lane.let_go(); // it failed, and there is no time for another attempt
            }
        }
        self.answer_revocations();
        let (inbox, timeout) = (self.inbox.clone(), self.settings.shutdown_timeout);
        self.thread.spawn(async move {
            tokio::time::sleep(timeout).await;
            inbox.push(Message::Expired);
        });
    }

    fn finish(&mut self) {
        if let Phase::Stopping(outcome) = std::mem::replace(&mut self.progress.phase, Phase::Over) {
            // Handlers had their time: a rebalance that waits for them goes on to its last commit.
            for (_, done) in std::mem::take(&mut self.progress.revoking) {
                let _ = done.send(());
            }
            let (reply, answer) = oneshot::channel();
            let _ = self.commands.send(Command::Finish(reply));
            self.progress.phase = Phase::Finishing(outcome, answer);
        }
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Result<Summary, ConsumeError>> {
        if matches!(self.progress.phase, Phase::Stopping(_)) && !self.progress.lanes.iter().any(Lane::is_busy) {
            self.finish();
        }
        let Phase::Finishing(_, answer) = &mut self.progress.phase else { return Poll::Pending };
        let Poll::Ready(answer) = Pin::new(answer).poll(context) else { return Poll::Pending };
        let committed = answer.unwrap_or(Err(ConsumeError::Closed));
        let Phase::Finishing(outcome, _) = std::mem::replace(&mut self.progress.phase, Phase::Over) else {
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
        let (records, discarded) = (self.progress.handled, self.progress.discarded);
        Poll::Ready(Ok(Summary { records, discarded, reason }))
    }
}
