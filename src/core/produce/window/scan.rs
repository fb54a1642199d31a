//! When only the log itself can tell: which batches are in it.

use super::{Entry, EntryId, Leadership, Reason, Settled, Stampable, State, Window};
use crate::core::verdict::produce::ProduceVerdict;
use std::time::Instant;

/// A batch of this producer in the log: epoch, base sequence, base offset.
pub(crate) type FoundBatch = (i16, i32, i64);

/// What was found between the noted offset and the high watermark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ScanAnswer {
    /// All of it was read.
    Done {
        /// This producer's batches.
        found: Vec<FoundBatch>,
    },
    /// The topic is compacted, or its data begins after the noted offset: what is missing may have been there.
    Compacted {
        /// This producer's batches.
        found: Vec<FoundBatch>,
    },
    /// It cannot be read: not allowed, or too much.
    Unavailable,
}

/// A scan that has to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScanNeeded {
    pub(super) id: EntryId,
    /// Whose probe it completes.
    pub(super) leader: Leadership,
    /// What a complete scan does not find was never appended.
    missing_is_absent: bool,
    /// The batch was refused for good meanwhile: missing, it does not go again.
    refused: Option<ProduceVerdict>,
}

impl<B: Stampable> Window<B> {
    /// The answer to [`super::Next::Scan`], from the leader `leader`.
    pub(crate) fn on_scan(&mut self, leader: Leadership, answer: ScanAnswer, out: &mut Vec<Settled<B>>) {
        if self.is_asked_too_early() {
            return;
        }
        let Some(scan) = self.scan_needed.take_if(|scan| scan.leader == leader) else { return };
        let Some(identity) = self.identity else { return };
        self.failures = 0;
        self.retry_at = None;
        let (found, complete) = match answer {
            ScanAnswer::Done { found } => (found, true),
            ScanAnswer::Compacted { found } => (found, false),
            ScanAnswer::Unavailable => (Vec::new(), false),
        };
        let in_scope = |entry: &Entry<B>| match entry.state {
            State::Waiting => entry.doubt && (self.restoring || entry.id == scan.id),
            State::Stored(_) => true,
            _ => false,
        };
        let scope: Vec<EntryId> = self.entries.iter().filter(|entry| in_scope(entry)).map(|entry| entry.id).collect();
        let is_found = |entry: &Entry<B>| {
            found
                .iter()
                .find(|(epoch, first, _)| (*epoch, *first) == (identity.epoch, entry.first))
                .map(|found| found.2)
        };
        // The newest first, so that the others are known to be before it.
        let mut later_found = false;
        let mut verdicts = Vec::new();
        for id in scope.into_iter().rev() {
            let Some(entry) = self.entries.iter().find(|entry| entry.id == id) else { continue };
            let offset = is_found(entry);
            later_found |= offset.is_some();
            // Below the high watermark is replicated, and so is what the same leader has before it.
            let delivered = offset.is_some() || (later_found && entry.state == State::Stored(leader));
            verdicts.push((id, delivered, offset, complete && scan.missing_is_absent && !later_found));
        }
        for (id, delivered, offset, absent) in verdicts.into_iter().rev() {
            let Some(at) = self.entries.iter().position(|entry| entry.id == id) else { continue };
            if delivered {
                self.note_confirmed(at);
                self.settle_delivered(at, offset, out);
            } else if let Some(verdict) = scan.refused.filter(|_| absent && id == scan.id) {
                self.entries[at].doubt = false;
                self.on_refused(at, verdict, out);
            } else if absent {
                self.entries[at].cleared = Some(self.clearance(leader));
                if self.is_behind(at) {
                    self.entries[at].state = State::Absent;
                }
            } else {
                self.give_up(at, Reason::CannotTell, out);
            }
        }
        self.settle_unconfirmed(out);
    }

    /// The scan failed for a passing reason: it is repeated after the backoff.
    pub(crate) fn on_scan_failed(&mut self, retry_at: Instant) {
        self.failures += 1;
        self.retry_at = Some(retry_at);
    }

    pub(super) fn need_scan(&mut self, id: EntryId, leader: Leadership, missing_is_absent: bool) {
        for entry in &mut self.entries {
            entry.cleared = None;
        }
        self.scan_needed = Some(ScanNeeded { id, leader, missing_is_absent, refused: None });
    }

    /// As [`Self::need_scan`], for a batch in doubt that was refused for good.
    pub(super) fn need_scan_of_refused(&mut self, id: EntryId, leader: Leadership, verdict: ProduceVerdict) {
        self.need_scan(id, leader, true);
        self.scan_needed = self.scan_needed.map(|scan| ScanNeeded { refused: Some(verdict), ..scan });
    }

    /// Stored batches wait for a later one to be confirmed. When no later one is left, the log has to tell; and where
    /// the leader could not be asked either, nobody can.
    ///
    /// Why a later one is proof enough: a broker that knows the producer takes a batch only right behind the last one
    /// it has, and recognises one only that it took so. So a later batch that is confirmed under the same leadership
    /// has all before it in the same log. With error 45 to each of them there is no such witness: all may be stored and
    /// forgotten, or all may lie behind a gap.
    pub(super) fn settle_unconfirmed(&mut self, out: &mut Vec<Settled<B>>) {
        if self.probe_needed.is_some() || self.scan_needed.is_some() {
            return;
        }
        let stored = |entry: &Entry<B>| match entry.state {
            State::Stored(leader) => Some((entry.id, leader)),
            _ => None,
        };
        let Some((id, leader)) = self.entries.iter().find_map(stored) else { return };
        let witness = |entry: &Entry<B>| !matches!(entry.state, State::Stored(_) | State::Absent);
        // Also a batch that was never sent can be the witness: refused, it is only stamped anew.
        if self.entries.iter().any(witness) || (self.may_stamp() && !self.pending.is_empty()) {
            return;
        }
        if !self.blind {
            return self.need_scan(id, leader, false);
        }
        while let Some(at) = self.entries.iter().position(|entry| matches!(entry.state, State::Stored(_))) {
            self.give_up(at, Reason::CannotTell, out);
        }
    }
}
