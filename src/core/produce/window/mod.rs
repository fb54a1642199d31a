//! The window of one partition: which batch goes next, under which identity, and what an answer means for the others.
//!
//! ```text
//!            push                      next: stamp, send             answer
//!  sealed ─────────▶ pending (no sequence) ───────────▶ in flight ───────────▶ settled (delivered, failed, unknown)
//!                       ▲                                 │     ▲
//!                       │ epoch closed:                   │     │ next: the same bytes again, oldest first
//!                       │ epoch + 1, sequence 0           ▼     │
//!                       └──────────── absent ◀────────── waiting ──▶ stored (an error 45 that a later one must confirm)
//! ```
//!
//! The rules (KIP-98 says what brokers check; the measured rest is in ARCHITECTURE.md, "When may a batch fail?"):
//! - A batch gets its sequence when it is sent for the first time. From then on its bytes never change under that epoch.
//! - At most five are unsettled, because the broker remembers five. One only while the window is *cold*: until this
//!   leadership has acknowledged a batch of this identity, and after every failure. Old-dated batches always go alone,
//!   because the broker may forget the producer between two of them.
//! - A batch that is given up or refused for good leaves a gap, so it *closes the epoch*: what was sent after it is first
//!   resolved, and only what is proven absent is stamped again, from sequence 0 of the next epoch.
//! - A batch is *in doubt* once an attempt of it ended without a definite refusal. Only then can "out of order" mean that
//!   it is stored already, and only then does giving it up mean "unknown" instead of "failed".

use super::sequence::{advance, distance};
use crate::core::verdict::produce::ProduceVerdict;
use crate::types::{BrokerId, ProducerIdentity};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many batches of a producer and partition a broker recognises as duplicates (KIP-98).
pub(crate) const REMEMBERED_BATCHES: usize = 5;

/// What the window has to know of a sealed batch.
pub(crate) trait Stampable: Sized {
    /// The number of records, at least 1.
    fn count(&self) -> i32;
    /// The newest record's timestamp, in Unix milliseconds: the broker forgets producers by it.
    fn newest_timestamp(&self) -> i64;
    /// When the application stops waiting for it.
    fn deadline(&self) -> Instant;
    /// The same records in two batches, in order; itself when it has only one record.
    fn split(self) -> Result<[Self; 2], Self>;
}

/// Who leads the partition: a window is warm for one of these only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leadership {
    /// The leader.
    pub broker: BrokerId,
    /// Its leader epoch, or -1 where the broker does not tell.
    pub epoch: i32,
}

/// Names a batch of the window across a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EntryId(u64);

/// What the window's owner should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing: no batch, or answers have to come first.
    Idle,
    /// Nothing before this time.
    Wait(Instant),
    /// Send this batch; it counts as in flight now.
    Send(EntryId),
    /// Ask the leader what it has of this producer (DescribeProducers), then call [`Window::on_probe`].
    Probe,
    /// Get a producer id, then call [`Window::on_identity`].
    NewProducerId,
}

/// Where the leader says this producer stands in the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeAnswer {
    /// The epoch and the last sequence it has.
    Known {
        /// The epoch of the last batch.
        epoch: i16,
        /// The sequence of its last record.
        last_sequence: i32,
    },
    /// It does not know the producer.
    Empty,
    /// It cannot be asked: no READ permission, or a broker before 2.8.
    Unavailable,
}

/// Why an attempt did not succeed; told to the application when the batch is given up.
pub(crate) type Setback = Arc<str>;

/// Why a batch is settled without being delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// `delivery.timeout.ms` ran out.
    TimedOut,
    /// `retries` ran out.
    RetriesUsedUp,
    /// The broker refused it for good.
    Refused,
    /// A single record is larger than the topic or the broker allows, or invalid.
    RecordRefused,
    /// Somebody else writes with this producer id under a higher epoch.
    Fenced,
    /// The broker cannot say whether it has the batch.
    CannotTell,
}

/// The end of a batch's way, or something the application should know.
#[derive(Debug)]
pub(crate) enum Settled<B> {
    /// It is in the log.
    Delivered {
        /// The batch.
        batch: B,
        /// Where its first record is, if the broker said so.
        base_offset: Option<i64>,
    },
    /// It is not in the log and will not get there.
    Failed {
        /// The batch.
        batch: B,
        /// Why.
        reason: Reason,
        /// What happened last.
        setback: Option<Setback>,
    },
    /// It may be in the log.
    Unknown {
        /// The batch.
        batch: B,
        /// Why it was given up.
        reason: Reason,
        /// What happened last.
        setback: Option<Setback>,
    },
    /// The leader has less than it acknowledged: records were lost on the broker's side.
    AcknowledgedLost {
        /// The identity they were sent under.
        identity: ProducerIdentity,
        /// The last sequence the leader still has; none when nothing of this epoch.
        found: Option<i32>,
        /// The sequence that should have come next.
        expected: i32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Goes (again) when it is its turn.
    Waiting,
    /// Sent, not answered.
    InFlight,
    /// The leader has moved past it; a later batch must be confirmed under the same leadership before it counts.
    Stored(Leadership),
    /// Proven not to be in the log: will be stamped anew.
    Absent,
}

/// Why the leader is asked what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProbeCause {
    /// It answered "out of order" to the oldest open batch.
    OutOfOrder,
    /// The batch in doubt is so old-dated that the leader may have forgotten it.
    Age,
    /// The batch in doubt was refused for good, which an earlier attempt may have been spared.
    Refusal(ProduceVerdict),
}

/// A stamped batch.
#[derive(Debug)]
pub(crate) struct Entry<B> {
    id: EntryId,
    /// None once the application was told: only its place in the sequence still matters.
    batch: Option<B>,
    first: i32,
    last: i32,
    state: State,
    doubt: bool,
    /// A probe answered since the last doubt, so that an old-dated batch may go again.
    cleared: bool,
    attempts: u32,
    setback: Option<Setback>,
}

/// How a window behaves; the same for all of a producer.
#[derive(Clone, Debug)]
pub(crate) struct WindowConfig {
    /// Sequences, epochs, probes. Without it one batch is in flight and a retry may write twice.
    pub idempotent: bool,
    /// Unanswered batches per partition, 1 to 5.
    pub max_in_flight: usize,
    /// Attempts after the first.
    pub retries: u32,
    /// When brokers forget an idle producer: `producer.id.expiration.ms`.
    pub producer_id_expiration: Duration,
}

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Window<B> {
    config: WindowConfig,
    identity: Option<ProducerIdentity>,
    next_sequence: i32,
    pending: VecDeque<B>,
    entries: VecDeque<Entry<B>>,
    warm: Option<Leadership>,
    closing: bool,
    probe_needed: Option<(ProbeCause, EntryId)>,
    /// The highest sequence acknowledged under this identity.
    confirmed: Option<i32>,
    retry_at: Option<Instant>,
    /// Failures in a row, for the backoff.
    failures: u32,
    next_id: u64,
}

impl<B: Stampable> Window<B> {
    /// An empty, cold window.
    pub(crate) fn new(config: WindowConfig) -> Self {
        Window {
            identity: (!config.idempotent).then_some(ProducerIdentity::NONE),
            config,
            next_sequence: 0,
            pending: VecDeque::new(),
            entries: VecDeque::new(),
            warm: None,
            closing: false,
            probe_needed: None,
            confirmed: None,
            retry_at: None,
            failures: 0,
            next_id: 0,
        }
    }

    /// Takes a sealed batch; batches are sent in the order of these calls.
    pub(crate) fn push(&mut self, batch: B) {
        self.pending.push_back(batch);
    }

    /// How many batches wait for their first sending.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether no batch is left in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.entries.is_empty()
    }

    /// Failures in a row, for the backoff.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Under whom the next batch is stamped.
    pub(crate) fn identity(&self) -> Option<ProducerIdentity> {
        self.identity
    }

    /// The time the brokers keep producers changed.
    pub(crate) fn set_producer_id_expiration(&mut self, expiration: Duration) {
        self.config.producer_id_expiration = expiration;
    }

    /// A batch to send, with its first sequence. None when it was settled meanwhile.
    pub(crate) fn batch(&self, id: EntryId) -> Option<(&B, i32)> {
        let entry = self.entries.iter().find(|entry| entry.id == id)?;
        Some((entry.batch.as_ref()?, entry.first))
    }

    /// The size of what goes next, without sending it: none when nothing could go.
    pub(crate) fn peek(&self) -> Option<&B> {
        let waiting = self.entries.iter().find(|entry| entry.state == State::Waiting);
        waiting.map_or(self.pending.front(), |entry| entry.batch.as_ref())
    }

    /// The earliest time at which [`Self::on_time`] has something to settle.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let entries = self.entries.iter().filter_map(|entry| entry.batch.as_ref());
        entries.chain(self.pending.iter()).map(Stampable::deadline).min()
    }

    /// What to do next, if `leader` leads now. `wall` is Unix time in milliseconds.
    pub(crate) fn next(&mut self, now: Instant, wall: i64, leader: Leadership) -> Next {
        self.finish_closing();
        let Some(_) = self.identity else {
            return if self.is_empty() { Next::Idle } else { Next::NewProducerId };
        };
        let in_flight = self.in_flight();
        if let Some(at) = self.retry_at.filter(|at| now < *at && in_flight == 0) {
            return Next::Wait(at);
        }
        if self.probe_needed.is_some() {
            return if in_flight == 0 { Next::Probe } else { Next::Idle };
        }
        let limit = if self.warm == Some(leader) { self.config.max_in_flight } else { 1 };
        if in_flight >= limit || self.entries.iter().any(|e| e.state == State::InFlight && self.old_dated(e, wall)) {
            return Next::Idle;
        }
        self.doubt_other_leaderships(leader);
        if let Some(at) = self.entries.iter().position(|entry| entry.state == State::Waiting) {
            let old = self.old_dated(&self.entries[at], wall);
            if old && in_flight > 0 {
                return Next::Idle;
            }
            if old && self.entries[at].doubt && !self.entries[at].cleared {
                self.probe_needed = Some((ProbeCause::Age, self.entries[at].id));
                return if in_flight == 0 { Next::Probe } else { Next::Idle };
            }
            let entry = &mut self.entries[at];
            entry.state = State::InFlight;
            entry.attempts += 1;
            return Next::Send(entry.id);
        }
        if self.closing || self.entries.len() >= REMEMBERED_BATCHES {
            return Next::Idle;
        }
        let alone = self.pending.front().is_some_and(|batch| self.is_old(batch.newest_timestamp(), wall));
        if alone && in_flight > 0 {
            return Next::Idle;
        }
        match self.pending.pop_front() {
            Some(batch) => Next::Send(self.stamp(batch)),
            None => Next::Idle,
        }
    }

    fn stamp(&mut self, batch: B) -> EntryId {
        let id = EntryId(self.next_id);
        self.next_id += 1;
        let first = self.next_sequence;
        self.next_sequence = advance(first, batch.count());
        self.entries.push_back(Entry {
            id,
            first,
            last: advance(first, batch.count() - 1),
            batch: Some(batch),
            state: State::InFlight,
            doubt: false,
            cleared: false,
            attempts: 1,
            setback: None,
        });
        id
    }

    /// A partition of a Produce answer. `leader` is whom the request was sent to, `retry_at` the end of the backoff.
    pub(crate) fn on_answer(
        &mut self,
        id: EntryId,
        leader: Leadership,
        verdict: ProduceVerdict,
        base_offset: i64,
        setback: Setback,
        retry_at: Instant,
        out: &mut Vec<Settled<B>>,
    ) {
        let Some(at) = self.position_in_flight(id) else { return };
        self.entries[at].state = State::Waiting;
        match verdict {
            ProduceVerdict::Delivered => {
                self.on_confirmed(at, leader, Some(base_offset).filter(|offset| *offset >= 0), out)
            }
            ProduceVerdict::DeliveredSomewhere => self.on_confirmed(at, leader, None, out),
            // With an offset it was appended, whatever the code says.
            ProduceVerdict::Retry { .. } => self.on_setback(at, base_offset >= 0, setback, retry_at, out),
            ProduceVerdict::RetryInDoubt { .. } => self.on_setback(at, true, setback, retry_at, out),
            ProduceVerdict::OutOfOrder if self.config.idempotent => self.on_out_of_order(at, setback, retry_at, out),
            ProduceVerdict::OutOfOrder => self.on_setback(at, true, setback, retry_at, out),
            ProduceVerdict::UnknownProducer => {
                self.entries[at].setback = Some(setback);
                self.cool_down();
                self.on_refused_sequence(at, out);
            }
            ProduceVerdict::Fenced => {
                self.entries[at].setback = Some(setback);
                self.give_up(at, Reason::Fenced, out);
                // Whoever has the higher epoch owns the id now.
                self.identity = self.identity.map(|identity| ProducerIdentity { epoch: i16::MAX, ..identity });
            }
            ProduceVerdict::Split | ProduceVerdict::Dead => {
                self.entries[at].setback = Some(setback);
                if self.entries[at].doubt && self.config.idempotent && self.entries[at].batch.is_some() {
                    self.cool_down();
                    self.probe_needed = Some((ProbeCause::Refusal(verdict), id));
                } else {
                    self.on_refused(at, verdict, out);
                }
            }
        }
    }

    /// No answer came. `sent`: bytes of it may have reached the broker.
    pub(crate) fn on_no_answer(
        &mut self,
        id: EntryId,
        sent: bool,
        setback: Setback,
        retry_at: Instant,
        out: &mut Vec<Settled<B>>,
    ) {
        let Some(at) = self.position_in_flight(id) else { return };
        self.entries[at].state = State::Waiting;
        self.on_setback(at, sent, setback, retry_at, out);
    }

    /// The answer to [`Next::Probe`], from the leader `leader`.
    pub(crate) fn on_probe(&mut self, leader: Leadership, answer: ProbeAnswer, out: &mut Vec<Settled<B>>) {
        let (Some(identity), Some((cause, id))) = (self.identity, self.probe_needed.take()) else { return };
        let Some(at) = self.entries.iter().position(|e| e.id == id && e.state == State::Waiting) else { return };
        let entry = &mut self.entries[at];
        entry.cleared = true;
        let (first, last, doubt) = (entry.first, entry.last, entry.doubt);
        if let ProbeCause::Refusal(verdict) = cause {
            let absent = match answer {
                ProbeAnswer::Empty => true,
                ProbeAnswer::Unavailable => false,
                ProbeAnswer::Known { epoch, .. } if epoch != identity.epoch => epoch < identity.epoch,
                ProbeAnswer::Known { last_sequence, .. } => distance(last_sequence, first) < 0,
            };
            self.entries[at].doubt = !absent;
            return self.on_refused(at, verdict, out);
        }
        match answer {
            ProbeAnswer::Unavailable => self.on_refused_sequence(at, out),
            // The leader may have appended it and forgotten the producer since.
            ProbeAnswer::Empty if doubt && cause == ProbeCause::Age => self.give_up(at, Reason::CannotTell, out),
            // An unknown producer may send any sequence: the same bytes go again. Its age is looked at separately.
            ProbeAnswer::Empty => self.entries[at].cleared = cause == ProbeCause::Age,
            ProbeAnswer::Known { epoch, .. } if epoch > identity.epoch => {
                self.give_up(at, Reason::Fenced, out);
                self.identity = Some(ProducerIdentity { epoch: i16::MAX, ..identity });
            }
            ProbeAnswer::Known { epoch, last_sequence } if epoch == identity.epoch => {
                let ahead = distance(last_sequence, last);
                if ahead > 0 {
                    let proven = self.confirmed.is_some_and(|confirmed| {
                        distance(confirmed, last) >= 0 && distance(last_sequence, confirmed) >= 0
                    });
                    if proven {
                        self.settle_delivered(at, None, out);
                    } else {
                        self.entries[at].state = State::Stored(leader);
                    }
                } else if ahead < 0 && advance(last_sequence, 1) != first {
                    self.on_lost_or_gap(at, identity, Some(last_sequence), out);
                }
                // Otherwise it is the leader's newest (answered with its offset) or the very next: it goes again.
            }
            ProbeAnswer::Known { .. } if first == 0 => {}
            ProbeAnswer::Known { .. } => self.on_lost_or_gap(at, identity, None, out),
        }
    }

    /// The probe itself failed for a passing reason: it is repeated after the backoff.
    pub(crate) fn on_probe_failed(&mut self, retry_at: Instant) {
        self.failures += 1;
        self.retry_at = Some(retry_at);
    }

    /// A producer id after [`Next::NewProducerId`].
    pub(crate) fn on_identity(&mut self, identity: ProducerIdentity) {
        if self.identity.is_none() {
            self.identity = Some(identity);
            self.next_sequence = 0;
            self.warm = None;
            self.confirmed = None;
        }
    }

    /// Gives up what waited too long. Call it when [`Self::next_deadline`] has come.
    pub(crate) fn on_time(&mut self, now: Instant, out: &mut Vec<Settled<B>>) {
        while let Some(batch) = self.pending.pop_front_if(|batch| batch.deadline() <= now) {
            out.push(Settled::Failed { batch, reason: Reason::TimedOut, setback: None });
        }
        let overdue = |entry: &Entry<B>| entry.batch.as_ref().is_some_and(|batch| batch.deadline() <= now);
        while let Some(at) = self.entries.iter().position(overdue) {
            self.give_up(at, Reason::TimedOut, out);
        }
        self.finish_closing();
    }

    /// Takes out everything, oldest first, with whether it may be in the log.
    pub(crate) fn drain(&mut self) -> Vec<(B, bool)> {
        let entries = self.entries.drain(..).filter_map(|entry| {
            let maybe = entry.doubt || entry.state == State::InFlight || matches!(entry.state, State::Stored(_));
            Some((entry.batch?, maybe))
        });
        entries.chain(self.pending.drain(..).map(|batch| (batch, false))).collect()
    }

    fn in_flight(&self) -> usize {
        self.entries.iter().filter(|entry| entry.state == State::InFlight).count()
    }

    fn position_in_flight(&self, id: EntryId) -> Option<usize> {
        self.entries.iter().position(|entry| entry.id == id && entry.state == State::InFlight)
    }

    fn is_old(&self, newest_timestamp: i64, wall: i64) -> bool {
        // A batch may lose its protection before its retry is over, so half of the expiry counts as old.
        let half = self.config.producer_id_expiration.as_millis() / 2;
        self.config.idempotent && i128::from(wall) - i128::from(newest_timestamp) > half as i128
    }

    fn old_dated(&self, entry: &Entry<B>, wall: i64) -> bool {
        entry.batch.as_ref().is_some_and(|batch| self.is_old(batch.newest_timestamp(), wall))
    }

    /// Whether nothing sent before entry `at` is still open.
    fn is_oldest_open(&self, at: usize) -> bool {
        self.entries.iter().take(at).all(|entry| matches!(entry.state, State::Stored(_) | State::Absent))
    }

    fn cool_down(&mut self) {
        self.warm = None;
    }

    /// What was presumed stored under another leadership has to be asked for again.
    fn doubt_other_leaderships(&mut self, leader: Leadership) {
        for entry in &mut self.entries {
            if matches!(entry.state, State::Stored(under) if under != leader) {
                entry.state = State::Waiting;
            }
        }
    }

    fn on_confirmed(&mut self, mut at: usize, leader: Leadership, base_offset: Option<i64>, out: &mut Vec<Settled<B>>) {
        self.warm = Some(leader);
        self.failures = 0;
        self.retry_at = None;
        let last = self.entries[at].last;
        if self.confirmed.is_none_or(|confirmed| distance(last, confirmed) > 0) {
            self.confirmed = Some(last);
        }
        // This one is replicated, so what the same leader has before it is replicated too.
        while let Some(stored) = self.entries.iter().take(at).position(|e| e.state == State::Stored(leader)) {
            self.settle_delivered(stored, None, out);
            at -= 1;
        }
        self.settle_delivered(at, base_offset, out);
    }

    fn settle_delivered(&mut self, at: usize, base_offset: Option<i64>, out: &mut Vec<Settled<B>>) {
        if let Some(batch) = self.entries.remove(at).and_then(|entry| entry.batch) {
            out.push(Settled::Delivered { batch, base_offset });
        }
    }

    fn on_setback(&mut self, at: usize, doubt: bool, setback: Setback, retry_at: Instant, out: &mut Vec<Settled<B>>) {
        self.cool_down();
        let oldest = self.is_oldest_open(at);
        let entry = &mut self.entries[at];
        entry.setback = Some(setback);
        entry.doubt |= doubt;
        entry.cleared &= !doubt;
        if entry.batch.is_none() {
            // The application was told already; nothing will send it again, so its sequence stays a gap.
            self.entries.remove(at);
            self.closing = true;
        } else if entry.attempts > self.config.retries {
            self.give_up(at, Reason::RetriesUsedUp, out);
        }
        if oldest {
            self.failures += 1;
            self.retry_at = Some(retry_at);
        }
    }

    fn on_out_of_order(&mut self, at: usize, setback: Setback, retry_at: Instant, out: &mut Vec<Settled<B>>) {
        self.cool_down();
        self.entries[at].setback = Some(setback);
        if self.entries[at].batch.is_none() {
            self.entries.remove(at);
            self.closing = true;
        } else if !self.is_oldest_open(at) {
            // It only tells that an earlier one is missing; that one decides.
        } else if self.closing && !self.entries[at].doubt {
            self.entries[at].state = State::Absent;
        } else if self.entries[at].attempts > self.config.retries {
            self.give_up(at, Reason::RetriesUsedUp, out);
        } else {
            self.probe_needed = Some((ProbeCause::OutOfOrder, self.entries[at].id));
            if self.entries[at].cleared {
                // A probe did not settle it the last time, so give the broker time.
                self.failures += 1;
                self.retry_at = Some(retry_at);
            }
        }
    }

    /// The broker will not take this sequence any more, and nobody can be asked whether it has it.
    fn on_refused_sequence(&mut self, at: usize, out: &mut Vec<Settled<B>>) {
        if self.entries[at].doubt {
            self.give_up(at, Reason::CannotTell, out);
        } else {
            self.entries[at].state = State::Absent;
            self.closing = true;
        }
    }

    /// The leader has neither this batch nor the one before it.
    fn on_lost_or_gap(&mut self, at: usize, identity: ProducerIdentity, found: Option<i32>, out: &mut Vec<Settled<B>>) {
        let expected = self.confirmed.map(|confirmed| advance(confirmed, 1));
        if let Some(expected) = expected
            && found.is_none_or(|found| distance(advance(found, 1), expected) < 0)
        {
            out.push(Settled::AcknowledgedLost { identity, found, expected });
        }
        self.entries[at].state = State::Absent;
        self.closing = true;
    }

    /// Refused for good: in halves when there are several records, since only one of them may be to blame.
    fn on_refused(&mut self, at: usize, verdict: ProduceVerdict, out: &mut Vec<Settled<B>>) {
        let entry = &mut self.entries[at];
        if verdict == ProduceVerdict::Dead || entry.doubt {
            return self.give_up(at, Reason::Refused, out);
        }
        let id = entry.id;
        let Some(batch) = entry.batch.take() else {
            return self.give_up(at, Reason::Refused, out);
        };
        match batch.split() {
            Err(batch) => {
                self.entries[at].batch = Some(batch);
                self.give_up(at, Reason::RecordRefused, out);
            }
            Ok(halves) => {
                let (first, last, setback) = (entry.first, entry.last, entry.setback.clone());
                self.entries.remove(at);
                for (i, half) in halves.into_iter().enumerate() {
                    let entry = Entry {
                        id,
                        batch: Some(half),
                        first,
                        last,
                        state: State::Absent,
                        doubt: false,
                        cleared: false,
                        attempts: 0,
                        setback: setback.clone(),
                    };
                    self.entries.insert(at + i, entry);
                }
                self.cool_down();
                self.closing = true;
            }
        }
    }

    /// Tells the application that no more is tried. What is still in flight keeps its place in the sequence.
    fn give_up(&mut self, at: usize, reason: Reason, out: &mut Vec<Settled<B>>) {
        let in_flight = self.entries[at].state == State::InFlight;
        let entry = &mut self.entries[at];
        let maybe = in_flight || entry.doubt || matches!(entry.state, State::Stored(_));
        let setback = entry.setback.clone();
        if let Some(batch) = entry.batch.take() {
            out.push(if maybe {
                Settled::Unknown { batch, reason, setback }
            } else {
                Settled::Failed { batch, reason, setback }
            });
        }
        if !in_flight {
            self.entries.remove(at);
            self.cool_down();
            self.closing = true;
            self.probe_needed = None;
        }
    }

    /// When everything sent under a closed epoch is resolved: the next epoch, and what is absent goes first in it.
    fn finish_closing(&mut self) {
        if !self.closing {
            return;
        }
        for entry in &mut self.entries {
            if entry.state == State::Waiting && !entry.doubt {
                entry.state = State::Absent;
            }
        }
        if self.entries.iter().any(|entry| entry.state != State::Absent) {
            return;
        }
        while let Some(entry) = self.entries.pop_back() {
            if let Some(batch) = entry.batch {
                self.pending.push_front(batch);
            }
        }
        self.closing = false;
        self.probe_needed = None;
        self.warm = None;
        self.confirmed = None;
        if self.config.idempotent {
            self.next_sequence = 0;
            self.identity = self
                .identity
                .filter(|identity| identity.epoch < i16::MAX)
                .map(|identity| ProducerIdentity { epoch: identity.epoch + 1, ..identity });
        }
    }
}

#[cfg(test)]
mod tests;
