//! Batches of a former process: each may be in the log, and a request of it may still be on its way.
//!
//! They keep their identity and sequence until each is resolved. One probe tells of all of them; whatever makes its
//! answer stale (no answer to a batch, another leadership) starts over at the probe.

use super::{
    Clearance, Entry, EntryId, Leadership, ProbeAnswer, ProbeCause, Reason, Settled, Stampable, State, Window,
    WindowConfig,
};
use crate::core::produce::sequence::{advance, distance};
use crate::types::ProducerIdentity;
use std::collections::VecDeque;

/// What a former process left of a partition.
#[derive(Debug)]
pub(crate) struct Restored<B> {
    /// Under whom the stamped batches were, perhaps, sent.
    pub(crate) identity: ProducerIdentity,
    /// The highest sequence of that identity that was acknowledged.
    pub(crate) acknowledged: Option<i32>,
    /// The newest timestamp of the batch acknowledged last.
    pub(crate) acknowledged_newest: i64,
    /// When the former process was dead already, in Unix milliseconds.
    pub(crate) dead_since: i64,
    /// New batches start at this epoch or a later one; negative when there is none left.
    pub(crate) floor: i16,
    /// The batches up to the last one stamped under that identity, oldest first, with the sequences of their first
    /// records; none for one that has no such stamp: half of one that was split while later ones were under way.
    pub(crate) entries: Vec<(B, Option<i32>)>,
    /// The others, in order.
    pub(crate) pending: Vec<B>,
}

impl<B: Stampable> Window<B> {
    /// The window of a partition as a former process left it.
    pub(crate) fn restore(config: WindowConfig, restored: Restored<B>) -> Self {
        let Restored { identity, acknowledged, acknowledged_newest, dead_since, floor, mut entries, pending } =
            restored;
        let mut window = Window::new(config);
        window.late_until = dead_since.saturating_add(window.config.late());
        window.pending = VecDeque::from(pending);
        window.floor = floor;
        window.confirmed_newest = acknowledged_newest;
        if !window.config.idempotent {
            window.pending = entries.into_iter().map(|(batch, _)| batch).chain(window.pending).collect();
            return window;
        }
        if entries.iter().all(|(_, first)| first.is_none()) {
            while let Some((batch, _)) = entries.pop() {
                window.pending.push_front(batch);
            }
            let unused = floor > identity.epoch || (floor == identity.epoch && acknowledged.is_none());
            window.identity =
                if unused { Some(ProducerIdentity { epoch: floor, ..identity }) } else { window.after(identity) };
            return window;
        }
        window.identity = Some(identity);
        window.confirmed = acknowledged;
        window.restoring = true;
        // Nothing is stamped under this epoch any more.
        window.closing = true;
        for (batch, first) in entries {
            let entry = Entry {
                id: window.new_id(),
                first: first.unwrap_or_default(),
                last: advance(first.unwrap_or_default(), batch.count() - 1),
                batch: Some(batch),
                state: if first.is_some() { State::Waiting } else { State::Absent },
                doubt: first.is_some(),
                cleared: None,
                behind_gap: false,
                sent_to: None,
                attempts: 0,
                setback: None,
            };
            window.entries.push_back(entry);
        }
        window
    }

    /// Has the leader asked for the restored batches unless its last answer still holds.
    pub(super) fn ask_again(&mut self, leader: Leadership) {
        if self.scan_needed.is_some_and(|scan| scan.leader != leader) {
            self.scan_needed = None;
        }
        if !self.restoring || self.resolved_under == Some(leader) || self.probe_needed.is_some() {
            return;
        }
        self.forget_stored();
        let unresolved = self.entries.iter().find(|entry| entry.state == State::Waiting);
        self.probe_needed = unresolved.map(|entry| (ProbeCause::Restart, entry.id));
    }

    pub(super) fn clearance(&self, leader: Leadership) -> Clearance {
        Clearance { leader, at: self.wall }
    }

    fn forget_stored(&mut self) {
        self.scan_needed = None;
        for entry in &mut self.entries {
            if matches!(entry.state, State::Stored(_)) {
                entry.state = State::Waiting;
            }
        }
    }

    /// What the leader says about all restored batches.
    pub(super) fn resolve_restored(
        &mut self,
        identity: ProducerIdentity,
        leader: Leadership,
        answer: ProbeAnswer,
        out: &mut Vec<Settled<B>>,
    ) {
        self.resolved_under = Some(leader);
        self.forget_stored();
        match answer {
            ProbeAnswer::Unavailable => self.resolve_blindly(leader, out),
            ProbeAnswer::Empty { log_start } => self.resolve_unknown(identity, leader, log_start, out),
            ProbeAnswer::Known { epoch, last_sequence } if epoch == identity.epoch => {
                self.resolve_known(identity, leader, last_sequence, out);
            }
            ProbeAnswer::Known { epoch, .. } if epoch < identity.epoch => {
                // A new epoch begins with sequence 0 and with nothing else.
                if self.oldest_unresolved().is_some_and(|at| self.entries[at].first == 0) {
                    self.go_as_they_stand(leader);
                } else {
                    self.all_absent(identity, None, out);
                }
            }
            // An epoch begins only when all older ones are resolved, so the outcome was known once and is not on disk.
            // The broker takes nothing of the old epoch any more; the log has the answer.
            ProbeAnswer::Known { epoch, .. } if epoch < self.floor => self.scan_oldest(leader, false),
            ProbeAnswer::Known { .. } => {
                while let Some(at) = self.oldest_unresolved() {
                    self.give_up(at, Reason::Outdated, out);
                }
                self.retired = true;
            }
        }
    }

    /// Nobody can be asked: the broker's own check has to do, which holds as long as it remembers the producer.
    fn resolve_blindly(&mut self, leader: Leadership, out: &mut Vec<Settled<B>>) {
        // Behind one that goes anew later, it would come too early if the broker took it.
        let unclear =
            |at: &usize| (self.is_behind(*at) && self.confirmed.is_none()) || self.old_dated(&self.entries[*at]);
        let unclear: Vec<EntryId> = self.unresolved().filter(unclear).map(|at| self.entries[at].id).collect();
        for id in unclear {
            if let Some(at) = self.entries.iter().position(|entry| entry.id == id) {
                self.give_up(at, Reason::CannotTell, out);
            }
        }
        let clearance = self.clearance(leader);
        for entry in &mut self.entries {
            entry.cleared = Some(clearance);
        }
    }

    /// The leader does not know the producer: nothing is there, or it was forgotten.
    fn resolve_unknown(
        &mut self,
        identity: ProducerIdentity,
        leader: Leadership,
        log_start: Option<i64>,
        out: &mut Vec<Settled<B>>,
    ) {
        if log_start == Some(0) && self.is_too_early_to_forget() {
            self.report_lost(identity, None, out);
        }
        if self.unresolved().all(|at| self.is_absence_proven(&self.entries[at], log_start)) {
            self.go_as_they_stand(leader);
        } else {
            self.scan_oldest(leader, true);
        }
    }

    /// Whether the last batch written, whichever of those known to be sent it was, is well inside the expiry.
    fn is_too_early_to_forget(&self) -> bool {
        let mut last = self.confirmed;
        let follows = |entry: &Entry<B>| {
            let before = last.replace(entry.last);
            before.is_some_and(|before| advance(before, 1) == entry.first) && !self.old_dated(entry)
        };
        !self.is_old(self.confirmed_newest)
            && self.entries.iter().filter(|entry| entry.state == State::Waiting).all(follows)
    }

    /// The leader's last sequence of this identity is `found`.
    fn resolve_known(&mut self, identity: ProducerIdentity, leader: Leadership, found: i32, out: &mut Vec<Settled<B>>) {
        let newest = self.entries.iter().rfind(|entry| entry.state != State::Absent).map_or(found, |entry| entry.last);
        let expected = self.confirmed.filter(|confirmed| distance(*confirmed, newest) > 0).unwrap_or(newest);
        let mut stored = 0;
        while let Some(at) = self.oldest_unresolved().filter(|at| distance(found, self.entries[*at].last) > 0) {
            if self.is_proven(self.entries[at].last, found) {
                self.settle_delivered(at, None, out);
            } else {
                self.entries[at].state = State::Stored(leader);
                stored += 1;
            }
        }
        let Some(at) = self.oldest_unresolved() else {
            if distance(found, expected) > 0 {
                out.push(Settled::Beyond { identity, found, expected });
            }
            self.report_lost(identity, Some(found), out);
            if stored > 0 {
                self.scan_oldest(leader, false);
            }
            return;
        };
        let (clearance, old) = (self.clearance(leader), self.old_dated(&self.entries[at]));
        let entry = &mut self.entries[at];
        if found == entry.last && old {
            // It may be forgotten before it is sent again, and would then be taken for new: the log tells.
            self.scan_oldest(leader, true);
        } else if found == entry.last {
            // Its newest, which it answers with the offset once it is replicated.
            entry.cleared = Some(clearance);
            self.go_as_they_stand_from(at + 1, leader);
        } else if advance(found, 1) == entry.first {
            self.go_as_they_stand(leader);
        } else {
            self.all_absent(identity, Some(found), out);
        }
    }

    /// Those that are neither stored nor absent, oldest first.
    fn unresolved(&self) -> impl Iterator<Item = usize> {
        let waiting = |(_, entry): &(usize, &Entry<B>)| entry.state == State::Waiting;
        self.entries.iter().enumerate().filter(waiting).map(|(at, _)| at)
    }

    fn oldest_unresolved(&self) -> Option<usize> {
        self.unresolved().next()
    }

    /// What is not there goes with the identity and the sequence it has: a late request of the former process is then
    /// recognised as the same. Only what has to wait for one that goes anew does so, too.
    fn go_as_they_stand(&mut self, leader: Leadership) {
        self.go_as_they_stand_from(0, leader);
    }

    fn go_as_they_stand_from(&mut self, from: usize, leader: Leadership) {
        let (clearance, mut behind) = (self.clearance(leader), false);
        for (at, entry) in self.entries.iter_mut().enumerate() {
            behind |= entry.state == State::Absent || entry.behind_gap;
            if at < from || entry.state != State::Waiting {
                continue;
            }
            entry.cleared = Some(clearance);
            if behind {
                entry.state = State::Absent;
            }
        }
    }

    fn all_absent(&mut self, identity: ProducerIdentity, found: Option<i32>, out: &mut Vec<Settled<B>>) {
        self.report_lost(identity, found, out);
        for entry in &mut self.entries {
            if entry.state == State::Waiting {
                entry.state = State::Absent;
            }
        }
    }

    fn scan_oldest(&mut self, leader: Leadership, missing_is_absent: bool) {
        let open = |entry: &&Entry<B>| entry.state != State::Absent;
        let noted = |entry: &&Entry<B>| entry.batch.as_ref().and_then(Stampable::noted).map(|noted| noted.offset);
        if let Some(id) = self.entries.iter().filter(open).min_by_key(noted).map(|entry| entry.id) {
            self.need_scan(id, leader, missing_is_absent);
        }
    }
}
