//! What answers, silence and probes mean for the batches of a window.

use super::{Entry, EntryId, Leadership, ProbeAnswer, ProbeCause, Reason, Setback, Settled, Stampable, State, Window};
use crate::core::produce::sequence::{advance, distance};
use crate::core::verdict::produce::ProduceVerdict;
use crate::types::ProducerIdentity;
use std::time::Instant;

/// What a leader said about a batch.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Whom the request was sent to.
    pub leader: Leadership,
    /// What its error code means.
    pub verdict: ProduceVerdict,
    /// Where the first record is, if it said so.
    pub base_offset: Option<i64>,
    /// Its words, for when the batch is given up.
    pub setback: Setback,
}

impl<B: Stampable> Window<B> {
    /// A partition of a Produce answer; `retry_at` is the end of the backoff, should the batch go again.
    pub(crate) fn on_answer(&mut self, id: EntryId, answer: Answer, retry_at: Instant, out: &mut Vec<Settled<B>>) {
        let Answer { leader, verdict, base_offset, setback } = answer;
        let Some(at) = self.position_in_flight(id) else { return };
        self.entries[at].state = State::Waiting;
        match verdict {
            ProduceVerdict::Delivered => self.on_confirmed(at, leader, base_offset, out),
            ProduceVerdict::DeliveredSomewhere => self.on_confirmed(at, leader, None, out),
            // With an offset it was appended, whatever the code says.
            ProduceVerdict::Retry { .. } => self.on_setback(at, base_offset.is_some(), setback, retry_at, out),
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
                self.retired = true;
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
        self.settle_unconfirmed(out);
    }

    /// No answer came, and its connection is given up. `sent`: bytes of it may have reached the broker, which may read them
    /// later. [`Self::set_wall`] comes first.
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
        self.resolved_under = None;
        if sent {
            self.late_until = self.wall.saturating_add(self.config.late());
        }
        self.on_setback(at, sent, setback, retry_at, out);
        self.settle_unconfirmed(out);
    }

    /// The answer to [`Next::Probe`], from the leader `leader`.
    pub(crate) fn on_probe(&mut self, leader: Leadership, answer: ProbeAnswer, out: &mut Vec<Settled<B>>) {
        if self.is_asked_too_early() {
            return;
        }
        let (Some(identity), Some((cause, id))) = (self.identity, self.probe_needed.take()) else { return };
        self.known = matches!(answer, ProbeAnswer::Known { .. });
        self.blind = answer == ProbeAnswer::Unavailable;
        self.on_probed(identity, (cause, id), leader, answer, out);
        self.settle_unconfirmed(out);
    }

    fn on_probed(
        &mut self,
        identity: ProducerIdentity,
        (cause, id): (ProbeCause, EntryId),
        leader: Leadership,
        answer: ProbeAnswer,
        out: &mut Vec<Settled<B>>,
    ) {
        let Some(at) = self.entries.iter().position(|e| e.id == id && e.state == State::Waiting) else { return };
        let clearance = self.clearance(leader);
        let entry = &mut self.entries[at];
        entry.cleared = Some(clearance);
        let (first, last, doubt) = (entry.first, entry.last, entry.doubt);
        if let ProbeCause::Refusal(verdict) = cause {
            let absent = match answer {
                ProbeAnswer::Empty { log_start } if self.is_absence_proven(&self.entries[at], log_start) => true,
                // The leader may have forgotten the producer along with the batch.
                ProbeAnswer::Empty { .. } => return self.need_scan_of_refused(id, leader, verdict),
                ProbeAnswer::Unavailable => false,
                ProbeAnswer::Known { epoch, .. } if epoch != identity.epoch => epoch < identity.epoch,
                ProbeAnswer::Known { last_sequence, .. } => distance(last_sequence, first) < 0,
            };
            self.entries[at].doubt = !absent;
            return self.on_refused(at, verdict, out);
        }
        match answer {
            // Error 45 to a batch in doubt says: stored and not remembered, or behind a gap. If a later one of ours is
            // then taken, or recognised, it cannot have been the gap.
            ProbeAnswer::Unavailable if doubt && cause == ProbeCause::OutOfOrder => {
                self.entries[at].state = State::Stored(leader);
            }
            ProbeAnswer::Unavailable if matches!(cause, ProbeCause::OutOfOrder | ProbeCause::Doubtful) => {
                self.on_refused_sequence(at, out);
            }
            answer if self.restoring => self.resolve_restored(identity, leader, answer, out),
            // It acknowledged something of this epoch, so it will refuse what does not follow that.
            ProbeAnswer::Unavailable if self.confirmed.is_some() => {}
            ProbeAnswer::Unavailable => self.give_up(at, Reason::CannotTell, out),
            // The leader may have appended it and forgotten the producer since.
            ProbeAnswer::Empty { log_start } if doubt && !self.is_absence_proven(&self.entries[at], log_start) => {
                self.need_scan(id, leader, true);
            }
            ProbeAnswer::Empty { .. } if cause == ProbeCause::Behind => self.set_absent(at),
            // An unknown producer may send any sequence: the same bytes go again.
            ProbeAnswer::Empty { .. } => {}
            ProbeAnswer::Known { epoch, .. } if epoch > identity.epoch => {
                self.give_up(at, Reason::Fenced, out);
                self.retired = true;
            }
            ProbeAnswer::Known { epoch, last_sequence } if epoch == identity.epoch => {
                let ahead = distance(last_sequence, last);
                if ahead == 0 && doubt && self.old_dated(&self.entries[at]) {
                    // It may be forgotten before it is sent again, and would then be taken for new: the log tells.
                    self.need_scan(id, leader, true);
                } else if ahead > 0 {
                    if self.is_proven(last, last_sequence) {
                        self.settle_delivered(at, None, out);
                    } else {
                        self.entries[at].state = State::Stored(leader);
                    }
                } else if ahead < 0 && (advance(last_sequence, 1) != first || self.is_behind(at)) {
                    self.on_lost_or_gap(at, identity, Some(last_sequence), out);
                }
                // Otherwise it is the leader's newest (answered with its offset) or the very next: it goes again.
            }
            ProbeAnswer::Known { .. } if first == 0 && !self.is_behind(at) => {}
            ProbeAnswer::Known { .. } => self.on_lost_or_gap(at, identity, None, out),
        }
    }

    /// Whether a late request may have been taken up after the leader was asked, or may be yet, where that matters. It was
    /// not known to matter when batches have aged meanwhile, or the brokers told how long they remember. Asked again.
    pub(super) fn is_asked_too_early(&self) -> bool {
        self.asked_at < self.late_until && self.is_harmed_by_late()
    }

    /// Whether a leader that does not know the producer cannot have the batch, if its log begins at `log_start`.
    pub(super) fn is_absence_proven(&self, entry: &Entry<B>, log_start: Option<i64>) -> bool {
        let noted = entry.batch.as_ref().and_then(Stampable::noted).map_or(0, |noted| noted.offset);
        // A replica that builds its state from the log knows only who is in what is left of it. Without a spool that
        // would have to happen within the delivery timeout.
        !self.old_dated(entry) && (!self.config.durable || log_start.is_some_and(|start| start <= noted))
    }

    /// Whether a batch that ends with `last` was replicated, by what was acknowledged, and `found` does not tell
    /// otherwise.
    pub(super) fn is_proven(&self, last: i32, found: i32) -> bool {
        self.confirmed.is_some_and(|confirmed| distance(confirmed, last) >= 0 && distance(found, confirmed) >= 0)
    }

    /// The probe itself failed for a passing reason: it is repeated after the backoff.
    pub(crate) fn on_probe_failed(&mut self, retry_at: Instant) {
        self.failures += 1;
        self.retry_at = Some(retry_at);
    }

    fn on_confirmed(&mut self, mut at: usize, leader: Leadership, base_offset: Option<i64>, out: &mut Vec<Settled<B>>) {
        self.warm = Some(leader);
        self.failures = 0;
        self.retry_at = None;
        self.note_confirmed(at);
        // An old-dated one goes right after the leader was asked for it, or not at all.
        for later in at + 1..self.entries.len() {
            if self.old_dated(&self.entries[later]) {
                self.entries[later].cleared = None;
            }
        }
        // This one is replicated, so what the same leader has before it is replicated too.
        while let Some(stored) = self.entries.iter().take(at).position(|e| e.state == State::Stored(leader)) {
            self.settle_delivered(stored, None, out);
            at -= 1;
        }
        self.settle_delivered(at, base_offset, out);
    }

    /// Remembers entry `at` as acknowledged.
    pub(super) fn note_confirmed(&mut self, at: usize) {
        let last = self.entries[at].last;
        if let Some(batch) = &self.entries[at].batch {
            self.confirmed_newest = batch.newest_timestamp();
        }
        if self.confirmed.is_none_or(|confirmed| distance(last, confirmed) > 0) {
            self.confirmed = Some(last);
        }
    }

    pub(super) fn settle_delivered(&mut self, at: usize, base_offset: Option<i64>, out: &mut Vec<Settled<B>>) {
        if let Some(batch) = self.entries.remove(at).and_then(|entry| entry.batch) {
            out.push(Settled::Delivered { batch, base_offset });
        }
    }

    fn on_setback(&mut self, at: usize, doubt: bool, setback: Setback, retry_at: Instant, out: &mut Vec<Settled<B>>) {
        self.cool_down();
        // What was said holds until the leader takes something, or forgets.
        let stale = doubt || self.known;
        if stale {
            self.resolved_under = None;
        }
        let oldest = self.is_oldest_open(at);
        let entry = &mut self.entries[at];
        entry.setback = Some(setback);
        entry.doubt |= doubt;
        if stale {
            entry.cleared = None;
        }
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
            self.set_absent(at);
        } else if self.entries[at].attempts > self.config.retries {
            self.give_up(at, Reason::RetriesUsedUp, out);
        } else {
            self.probe_needed = Some((ProbeCause::OutOfOrder, self.entries[at].id));
            if self.entries[at].cleared.is_some() {
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
            self.set_absent(at);
        }
    }

    /// The leader has neither this batch nor the one before it.
    fn on_lost_or_gap(&mut self, at: usize, identity: ProducerIdentity, found: Option<i32>, out: &mut Vec<Settled<B>>) {
        self.report_lost(identity, found, out);
        self.set_absent(at);
    }

    /// Tells when the leader, whose last sequence is `found`, has less than was acknowledged.
    pub(super) fn report_lost(&self, identity: ProducerIdentity, found: Option<i32>, out: &mut Vec<Settled<B>>) {
        let expected = self.confirmed.map(|confirmed| advance(confirmed, 1));
        if let Some(expected) = expected
            && found.is_none_or(|found| distance(advance(found, 1), expected) < 0)
        {
            out.push(Settled::AcknowledgedLost { identity, found, expected });
        }
    }

    /// Refused for good: in halves when there are several records, since only one of them may be to blame.
    pub(super) fn on_refused(&mut self, at: usize, verdict: ProduceVerdict, out: &mut Vec<Settled<B>>) {
        let entry = &mut self.entries[at];
        if verdict == ProduceVerdict::Dead || entry.doubt {
            return self.give_up(at, Reason::Refused, out);
        }
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
                    let id = self.new_id();
                    let entry = Entry {
                        id,
                        batch: Some(half),
                        first,
                        last,
                        state: State::Absent,
                        doubt: false,
                        cleared: None,
                        behind_gap: false,
                        sent_to: None,
                        attempts: 0,
                        setback: setback.clone(),
                    };
                    self.entries.insert(at + i, entry);
                }
                self.cool_down();
                self.set_absent(at + 1);
            }
        }
    }

    /// Tells the application that no more is tried. What is still in flight keeps its place in the sequence.
    pub(super) fn give_up(&mut self, at: usize, reason: Reason, out: &mut Vec<Settled<B>>) {
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
            if self.config.durable {
                for later in self.entries.iter_mut().skip(at) {
                    later.behind_gap = true;
                    later.cleared = None;
                }
                self.resolved_under = None;
            }
            self.cool_down();
            self.closing = true;
            self.probe_needed = None;
            self.scan_needed = None;
        }
    }
}
