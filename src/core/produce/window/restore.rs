//! Batches of a former process: each may be in the log, and a request of it may still be on its way.
//!
//! They keep their identity and sequence until each is resolved. One probe tells of all of them; whatever makes its
//! answer stale (no answer to a batch, another leadership) starts over at the probe.

use super::{
    Entry, EntryId, Leadership, ProbeAnswer, ProbeCause, Reason, Settled, Stampable, State, Window, WindowConfig,
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
    /// New batches start at this epoch or a later one; negative when there is none left.
    pub(crate) floor: i16,
    /// The stamped batches, oldest first, with the sequences of their first records.
    pub(crate) entries: Vec<(B, i32)>,
    /// The others, in order.
    pub(crate) pending: Vec<B>,
}

impl<B: Stampable> Window<B> {
    /// The window of a partition as a former process left it.
    pub(crate) fn restore(config: WindowConfig, restored: Restored<B>) -> Self {
        let Restored { identity, acknowledged, acknowledged_newest, floor, entries, pending } = restored;
        let mut window = Window::new(config);
        window.pending = VecDeque::from(pending);
        window.floor = floor;
        window.confirmed_newest = acknowledged_newest;
        if !window.config.idempotent {
            window.pending = entries.into_iter().map(|(batch, _)| batch).chain(window.pending).collect();
            return window;
        }
        if entries.is_empty() {
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
                first,
                last: advance(first, batch.count() - 1),
                batch: Some(batch),
                state: State::Waiting,
                doubt: true,
                cleared: false,
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
            ProbeAnswer::Unavailable => self.resolve_blindly(out),
            ProbeAnswer::Empty { log_start } => self.resolve_unknown(identity, leader, log_start, out),
            ProbeAnswer::Known { epoch, last_sequence } if epoch == identity.epoch => {
                self.resolve_known(identity, leader, last_sequence, out);
            }
            ProbeAnswer::Known { epoch, .. } if epoch < identity.epoch => {
                // A new epoch begins with sequence 0 and with nothing else.
                if self.oldest_unresolved().is_some_and(|at| self.entries[at].first == 0) {
                    self.go_as_they_stand();
                } else {
                    self.all_absent(identity, None, out);
                }
            }
            // An epoch begins only when all older ones are resolved, so the outcome was known once and is not on disk. The
            // broker takes nothing of the old epoch any more; the log has the answer.
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
    fn resolve_blindly(&mut self, out: &mut Vec<Settled<B>>) {
        let old: Vec<EntryId> =
            self.unresolved().map(|at| &self.entries[at]).filter(|e| self.old_dated(e)).map(|e| e.id).collect();
        for id in old {
            if let Some(at) = self.entries.iter().position(|entry| entry.id == id) {
                self.give_up(at, Reason::CannotTell, out);
            }
        }
        self.go_as_they_stand();
    }

    /// The leader does not know the producer: nothing is there, or it was forgotten.
    fn resolve_unknown(
        &mut self,
        identity: ProducerIdentity,
        leader: Leadership,
        log_start: Option<i64>,
        out: &mut Vec<Settled<B>>,
    ) {
        if log_start == Some(0) && !self.is_old(self.confirmed_newest) {
            // Nothing was deleted and it is too early to forget.
            self.report_lost(identity, None, out);
        }
        let proven = |entry: &Entry<B>| {
            let noted = entry.batch.as_ref().and_then(Stampable::noted).map_or(0, |noted| noted.offset);
            // A replica that builds its state from the log knows only who is in what is left of it.
            !self.old_dated(entry) && log_start.is_some_and(|start| start <= noted)
        };
        if self.unresolved().all(|at| proven(&self.entries[at])) {
            self.go_as_they_stand();
        } else {
            self.scan_oldest(leader, true);
        }
    }

    /// The leader's last sequence of this identity is `found`.
    fn resolve_known(&mut self, identity: ProducerIdentity, leader: Leadership, found: i32, out: &mut Vec<Settled<B>>) {
        let newest = self.entries.back().map_or(found, |entry| entry.last);
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
        let entry = &self.entries[at];
        if found == entry.last || advance(found, 1) == entry.first {
            // Its newest, which it answers with the offset once it is replicated; or the very next.
            self.go_as_they_stand();
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

    fn go_as_they_stand(&mut self) {
        for entry in &mut self.entries {
            entry.cleared |= entry.state == State::Waiting;
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
