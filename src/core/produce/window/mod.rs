//! The window of one partition: which batch goes next, under which identity, and what an answer means for the others.
//!
//! ```text
//!           push            next: stamp, save        next: send            answer
//!  sealed ────────▶ pending ───────────────▶ saving ──────────▶ in flight ──────▶ settled (delivered, failed, unknown)
//!                      ▲     (without a spool: stamped and sent)  │    ▲
//!                      │ epoch closed:                            │    │ next: the same bytes again, oldest first
//!                      │ epoch + 1, sequence 0                    ▼    │
//!                      └─────────────────── absent ◀───────────── waiting ──▶ stored (a later one must confirm it)
//!                                                                  ▲
//!                                  restored: a former process may have sent it
//! ```
//!
//! The rules (KIP-98 says what brokers check; the measured rest is in ARCHITECTURE.md, "When may a batch fail?"):
//! - A batch gets its sequence when it is sent for the first time; with a spool up to five are stamped ahead, and none
//!   is sent before its stamp is on disk. From then on its bytes never change under that epoch.
//! - At most five are unsettled, because the broker remembers five. One only while the window is *cold*: until this
//!   leadership has acknowledged a batch of this identity, and after every failure. Old-dated batches always go alone,
//!   because the broker may forget the producer between two of them.
//! - A request may be taken up after its connection has ended, also when its process is dead: *late*, by up to the
//!   request's time-out. A broker recognises it by the producer's entry. So a batch counts as old-dated when it would
//!   outlive that entry with a request still under way, and what is old-dated and in doubt waits until nothing can be
//!   late any more; then the leader is asked. So there is one attempt of it at a time.
//! - A batch that is given up or refused for good leaves a gap, so it *closes the epoch*: what was sent after it is
//!   first resolved, and only what is proven absent is stamped again, from sequence 0 of the next epoch.
//! - A batch is *in doubt* once an attempt of it ended without a definite refusal. Only then can "out of order" mean
//!   that it is stored already, and only then does giving it up mean "unknown" instead of "failed".
//! - *Restored* batches (`restore.rs`) are all in doubt, in a closed epoch. One probe tells of all; they go one by one,
//!   and what makes the probe's answer stale starts over at the probe. What is absent goes as it stands, because a late
//!   request of the former process is then recognised as the same; only what comes after a gap or after one without a
//!   stamp is stamped anew. Own batches start above every epoch that any process gave out.
//! - *Stored* batches count once a later one is confirmed under the same leadership. With nobody left to confirm them,
//!   the log itself is searched (`scan.rs`).
//! - A leader that does not know the producer may have forgotten it. That a batch is absent is proven by its age and
//!   the start of the log, else by a search; if that fails too, its fate is unknown.

mod access;
mod answers;
mod config;
mod restore;
mod scan;
mod terms;

pub(crate) use answers::Answer;
pub(crate) use config::WindowConfig;
pub(crate) use restore::Restored;
pub(crate) use scan::{FoundBatch, ScanAnswer};
pub(crate) use terms::{EntryId, Leadership, Next, ProbeAnswer, Reason, Setback, Settled, Stampable};

use super::sequence::advance;
use crate::core::verdict::produce::ProduceVerdict;
use crate::types::ProducerIdentity;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How many batches of a producer and partition a broker recognises as duplicates (KIP-98).
pub(crate) const REMEMBERED_BATCHES: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Stamped; not sent before it is on disk.
    Saving,
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
    /// A former process may have sent the batches.
    Restart,
    /// It answered "out of order" to the oldest open batch.
    OutOfOrder,
    /// The batch in doubt is so old-dated, or was sent to another leader so long ago, that this one may not remember
    /// it.
    Doubtful,
    /// The batch in doubt comes after one that will be stamped anew, or was given up: a leader that knows neither would
    /// take it.
    Behind,
    /// The batch in doubt was refused for good, which an earlier attempt may have been spared.
    Refusal(ProduceVerdict),
}

/// A leader was asked for a batch, and it may go.
#[derive(Clone, Copy, Debug)]
struct Clearance {
    leader: Leadership,
    /// When, in Unix milliseconds.
    at: i64,
}

/// For how long after its answer a leader is taken to remember an old-dated batch, in milliseconds. Brokers may restart, and
/// forget, between a question and a batch that has to wait for a connection.
const CLEARED_FOR: i64 = 1000;

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
    /// Who was asked for it since the last doubt, so that it may go again although it is doubtful.
    cleared: Option<Clearance>,
    /// One before it was given up. A leader that does not know the producer would take this one although that one is
    /// missing, and a process that finds both in its spool would then believe that one to be stored.
    behind_gap: bool,
    /// To whom it was sent last.
    sent_to: Option<Leadership>,
    attempts: u32,
    setback: Option<Setback>,
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
    /// The next epoch is this one at least; negative when the producer id has none left.
    floor: i16,
    /// The producer id is not to be used after this epoch.
    retired: bool,
    /// All entries are those of a former process.
    restoring: bool,
    /// Under which leadership the restored entries were asked for; none when they have to be (again).
    resolved_under: Option<Leadership>,
    probe_needed: Option<(ProbeCause, EntryId)>,
    scan_needed: Option<scan::ScanNeeded>,
    /// The leader could not be asked when it was probed last.
    blind: bool,
    /// The leader knew the producer when it was probed last; it may forget it.
    known: bool,
    /// Unix time in milliseconds when the owner called last.
    wall: i64,
    /// Until then, in Unix milliseconds, a request without an answer may still be taken up.
    late_until: i64,
    /// When the leader was asked last, in Unix milliseconds.
    asked_at: i64,
    /// The highest sequence acknowledged under this identity.
    confirmed: Option<i32>,
    /// The newest timestamp of the batch acknowledged last.
    confirmed_newest: i64,
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
            floor: 0,
            retired: false,
            restoring: false,
            resolved_under: None,
            probe_needed: None,
            scan_needed: None,
            blind: false,
            known: false,
            late_until: i64::MIN,
            asked_at: 0,
            wall: 0,
            confirmed: None,
            confirmed_newest: 0,
            retry_at: None,
            failures: 0,
            next_id: 0,
        }
    }

    /// Takes a sealed batch; batches are sent in the order of these calls.
    pub(crate) fn push(&mut self, batch: B) {
        self.pending.push_back(batch);
    }

    /// Takes a batch back that had a sequence: it goes before all that never had one, in its place among those that come
    /// back one after the other.
    pub(crate) fn push_front(&mut self, batch: B) {
        let is_before = |other: &B| other.rank().zip(batch.rank()).is_some_and(|(other, ours)| other < ours);
        let at = self.pending.iter().position(|other| !is_before(other)).unwrap_or(self.pending.len());
        self.pending.insert(at, batch);
    }

    /// The highest sequence acknowledged under the present identity.
    pub(crate) fn acknowledged(&self) -> Option<i32> {
        self.confirmed
    }

    /// How many batches have a sequence and are not settled.
    #[cfg(test)]
    pub(crate) fn entries(&self) -> usize {
        self.entries.len()
    }

    /// How many batches wait for their first stamp.
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

    /// As [`Self::batch`], without the sequence.
    pub(crate) fn batch_mut(&mut self, id: EntryId) -> Option<&mut B> {
        self.entries.iter_mut().find(|entry| entry.id == id)?.batch.as_mut()
    }

    /// All batches, in the order in which they go.
    pub(crate) fn batches_mut(&mut self) -> impl Iterator<Item = &mut B> {
        self.entries.iter_mut().filter_map(|entry| entry.batch.as_mut()).chain(&mut self.pending)
    }

    /// Whether no byte of this batch went out under its stamp.
    #[cfg(test)]
    pub(crate) fn is_unsent(&self, id: EntryId) -> bool {
        self.entries.iter().any(|entry| entry.id == id && entry.attempts == 0 && !entry.doubt)
    }

    /// The earliest time at which [`Self::on_time`] has something to settle.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let entries = self.entries.iter().filter_map(|entry| entry.batch.as_ref());
        entries.chain(self.pending.iter()).map(Stampable::deadline).min()
    }

    /// Says what time it is, in Unix milliseconds, before an answer is judged by the age of batches: it may have been long in
    /// coming.
    pub(crate) fn set_wall(&mut self, wall: i64) {
        self.wall = wall;
        // Whatever happens to the clock, nothing takes longer than that.
        self.late_until = self.late_until.min(wall.saturating_add(self.config.late()));
    }

    /// What to do next, if `leader` leads now. `wall` is Unix time in milliseconds.
    pub(crate) fn next(&mut self, now: Instant, wall: i64, leader: Leadership) -> Next {
        self.set_wall(wall);
        self.finish_closing();
        let Some(_) = self.identity else {
            return if self.is_empty() { Next::Idle } else { Next::NewProducerId };
        };
        match self.next_to_leader(now, leader) {
            // What must wait for the leader is written ahead meanwhile.
            wait @ (Next::Idle | Next::Wait(_)) => self.save_ahead().unwrap_or(wait),
            next => next,
        }
    }

    fn next_to_leader(&mut self, now: Instant, leader: Leadership) -> Next {
        let in_flight = self.in_flight();
        if let Some(at) = self.retry_at.filter(|at| now < *at && in_flight == 0) {
            return Next::Wait(at);
        }
        self.ask_again(leader);
        if self.probe_needed.is_some() || self.scan_needed.is_some() {
            return self.next_question(now, in_flight);
        }
        // The broker forgets a producer by the timestamp of what it wrote last, also one that has only been quiet. What
        // a former process sent is confirmed one by one.
        let warm = self.warm == Some(leader) && !self.is_old(self.confirmed_newest) && !self.restoring;
        let limit = if warm { self.config.max_in_flight } else { 1 };
        if in_flight >= limit || self.entries.iter().any(|e| e.state == State::InFlight && self.old_dated(e)) {
            return Next::Idle;
        }
        self.doubt_other_leaderships(leader);
        let open = self.entries.iter().position(|entry| matches!(entry.state, State::Waiting | State::Saving));
        if let Some(at) = open {
            if self.entries[at].state == State::Saving {
                return Next::Idle;
            }
            let old = self.old_dated(&self.entries[at]);
            if old && in_flight > 0 {
                return Next::Idle;
            }
            if old && self.may_be_late() {
                return self.wait_for_late(now);
            }
            let (behind, wall) = (self.is_behind(at), self.wall);
            let entry = &mut self.entries[at];
            let cleared = entry.cleared.is_some_and(|cleared| {
                cleared.leader == leader && (!old || (0..=CLEARED_FOR).contains(&(wall - cleared.at)))
            });
            // A batch of a spool may have waited long enough for another replica to have lost track.
            let moved = self.config.durable && entry.sent_to != Some(leader);
            if (old || behind || moved) && entry.doubt && !cleared {
                let cause = if behind { ProbeCause::Behind } else { ProbeCause::Doubtful };
                self.probe_needed = Some((cause, entry.id));
                return self.next_question(now, in_flight);
            }
            entry.state = State::InFlight;
            entry.sent_to = Some(leader);
            entry.attempts += 1;
            return Next::Send(entry.id);
        }
        if self.config.durable || !self.may_stamp() {
            return Next::Idle;
        }
        let alone = self.pending.front().is_some_and(|batch| self.is_old(batch.newest_timestamp()));
        if alone && in_flight > 0 {
            return Next::Idle;
        }
        if alone && self.may_be_late() {
            return self.wait_for_late(now);
        }
        match self.pending.pop_front() {
            Some(batch) => Next::Send(self.stamp(batch, State::InFlight)),
            None => Next::Idle,
        }
    }

    /// The leader is asked when nothing is on its way, also nothing that was given up by its connection, if that could
    /// make the answer wrong.
    fn next_question(&mut self, now: Instant, in_flight: usize) -> Next {
        if in_flight > 0 {
            return Next::Idle;
        }
        if self.may_be_late() && self.is_harmed_by_late() {
            return self.wait_for_late(now);
        }
        self.asked_at = self.wall;
        match self.scan_needed {
            Some(scan) if self.probe_needed.is_none() => Next::Scan(scan.id),
            _ => Next::Probe,
        }
    }

    /// Whether a request without an answer, of this process or of the one before it, may still be taken up.
    fn may_be_late(&self) -> bool {
        self.wall < self.late_until
    }

    fn wait_for_late(&self, now: Instant) -> Next {
        let millis = self.late_until.saturating_sub(self.wall).max(1);
        Next::Wait(now + Duration::from_millis(millis.unsigned_abs()))
    }

    /// Whether a batch in doubt is such that the broker may not recognise a late request of it as a repetition, or should
    /// not take it at all any more.
    fn is_harmed_by_late(&self) -> bool {
        let by = |(at, entry): (usize, &Entry<B>)| {
            entry.state == State::Waiting && entry.doubt && (self.old_dated(entry) || self.is_behind(at))
        };
        matches!(self.probe_needed, Some((ProbeCause::Refusal(_), _))) || self.entries.iter().enumerate().any(by)
    }

    fn may_stamp(&self) -> bool {
        !self.closing && self.entries.len() < REMEMBERED_BATCHES
    }

    fn save_ahead(&mut self) -> Option<Next> {
        // While the leader is being asked the epoch may be about to close.
        if !self.config.durable || !self.may_stamp() || self.probe_needed.is_some() || self.scan_needed.is_some() {
            return None;
        }
        let batch = self.pending.pop_front()?;
        Some(Next::Save(self.stamp(batch, State::Saving)))
    }

    fn stamp(&mut self, batch: B, state: State) -> EntryId {
        let id = self.new_id();
        let first = self.next_sequence;
        self.next_sequence = advance(first, batch.count());
        self.entries.push_back(Entry {
            id,
            first,
            last: advance(first, batch.count() - 1),
            batch: Some(batch),
            state,
            doubt: false,
            cleared: None,
            behind_gap: false,
            sent_to: None,
            attempts: u32::from(state == State::InFlight),
            setback: None,
        });
        id
    }

    fn new_id(&mut self) -> EntryId {
        let id = EntryId(self.next_id);
        self.next_id += 1;
        id
    }

    /// The batch of [`Next::Save`] and its stamp are on disk. Nothing happens when it lost that stamp meanwhile.
    pub(crate) fn on_saved(&mut self, id: EntryId) {
        let saving = |entry: &&mut Entry<B>| entry.id == id && entry.state == State::Saving;
        if let Some(entry) = self.entries.iter_mut().find(saving) {
            entry.state = State::Waiting;
        }
    }

    /// A producer id after [`Next::NewProducerId`].
    pub(crate) fn on_identity(&mut self, identity: ProducerIdentity) {
        if self.identity.is_none() {
            self.identity = Some(identity);
            self.floor = 0;
            self.retired = false;
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
        self.settle_unconfirmed(out);
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

    fn is_old(&self, newest_timestamp: i64) -> bool {
        self.config.idempotent && self.wall.saturating_sub(newest_timestamp) > self.config.young_for()
    }

    fn old_dated(&self, entry: &Entry<B>) -> bool {
        entry.batch.as_ref().is_some_and(|batch| self.is_old(batch.newest_timestamp()))
    }

    /// Whether nothing sent before entry `at` is still open.
    fn is_oldest_open(&self, at: usize) -> bool {
        self.entries.iter().take(at).all(|entry| matches!(entry.state, State::Stored(_) | State::Absent))
    }

    /// Whether a batch before entry `at` is to be stamped anew or was given up: it must not be taken as it stands.
    fn is_behind(&self, at: usize) -> bool {
        self.entries[at].behind_gap || self.entries.iter().take(at).any(|entry| entry.state == State::Absent)
    }

    /// Entry `at` is stamped anew, so what follows it has to be looked at again.
    fn set_absent(&mut self, at: usize) {
        self.entries[at].state = State::Absent;
        self.closing = true;
        self.resolved_under = None;
        for entry in self.entries.iter_mut().skip(at + 1) {
            entry.cleared = None;
        }
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

    /// When everything sent under a closed epoch is resolved: the next epoch, and what is absent goes first in it.
    fn finish_closing(&mut self) {
        if !self.closing {
            return;
        }
        for entry in &mut self.entries {
            if matches!(entry.state, State::Waiting | State::Saving) && !entry.doubt {
                entry.state = State::Absent;
            }
        }
        if self.entries.iter().any(|entry| entry.state != State::Absent) {
            return;
        }
        while let Some(entry) = self.entries.pop_back() {
            if let Some(batch) = entry.batch {
                self.push_front(batch);
            }
        }
        self.closing = false;
        self.restoring = false;
        self.probe_needed = None;
        self.scan_needed = None;
        self.warm = None;
        self.confirmed = None;
        if self.config.idempotent {
            self.next_sequence = 0;
            let retired = std::mem::take(&mut self.retired);
            self.identity = self.identity.filter(|_| !retired).and_then(|identity| self.after(identity));
        }
    }

    /// The identity with the next epoch, if there is one.
    fn after(&self, identity: ProducerIdentity) -> Option<ProducerIdentity> {
        let next = identity.epoch.checked_add(1).filter(|_| self.floor >= 0)?;
        Some(ProducerIdentity { epoch: next.max(self.floor), ..identity })
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
