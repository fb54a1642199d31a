//! How far a partition is handled: the only place where an offset becomes committable.
//!
//! ```text
//!            committed      committable          passed            done by an earlier assignment
//!                v               v                 v                        v
//!  ... 4 5 6 7 | 8  9  10  11  | 12   13  14  15  | 16 17 18 19 20 | 21 22 23 24 | 25 ...
//!                done, done,     open done open done   not handed out yet
//! ```
//! A record is handed out, then completed, in any order. What lies between two records that were handed out does not
//! exist (compaction, control batches, aborted transactions) or was done before, and is passed by. Whatever is passed and
//! not open is done, so that only open records are kept: behind one that takes for ever, any number costs nothing.

use std::collections::VecDeque;

use super::progress::{Done, Log, Writer};
use crate::types::{TopicId, TopicPartition};

/// Counts assignments: what belongs to an older one than the current is late and has no effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AssignmentEpoch(pub(crate) u64);

/// An offset that may be committed: every record below it was handled with success or does not exist.
///
/// It has no constructor but [`Watermark::committable`]: no other path leads to a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committable {
    partition: TopicPartition,
    offset: i64,
    leader_epoch: i32,
    metadata: String,
    assignment: AssignmentEpoch,
    jumps: u32,
    beyond: u64,
}

impl Committable {
    /// The partition it belongs to.
    pub(crate) fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// The offset of the next record to handle: one above the last handled.
    pub(crate) fn offset(&self) -> i64 {
        self.offset
    }

    /// The leader epoch of what lies right below the offset (KIP-320); -1 when it is not known.
    pub(crate) fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// What is handled beyond the offset, as [`super::progress`] writes it; empty for nothing.
    pub(crate) fn metadata(&self) -> &str {
        &self.metadata
    }
}

/// A record on its way through a handler, or a run of records. Not cloneable: it is completed once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HandedOut {
    assignment: AssignmentEpoch,
    offset: i64,
    jumps: u32,
}

/// What became of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completion {
    /// It counts.
    Counted,
    /// Its assignment is over: another member may have the partition, or the position was set elsewhere, so it has no
    /// effect.
    Discarded,
}

/// The handled offsets of one partition under one assignment.
#[derive(Debug)]
pub(crate) struct Watermark {
    partition: TopicPartition,
    assignment: AssignmentEpoch,
    topic_id: TopicId,
    /// Records handed out and not done, oldest first; between them some that are, which go when they outnumber the rest.
    open: VecDeque<Open>,
    /// How many in `open` are done.
    finished: usize,
    /// Everything below is open, handled, or not there.
    passed: i64,
    /// Leader epoch of what lies right below `passed`: a record, or a batch that was passed by.
    passed_epoch: i32,
    /// Handled under an earlier assignment, and not passed yet.
    before: Done,
    /// Counts jumps: what was handed out or committed before one says nothing about what comes after it.
    jumps: u32,
    /// What the group has; none when it has nothing, so that the starting point itself is worth a commit.
    committed: Option<i64>,
    /// Counts completions that did not move the offset: they are worth a commit for its metadata.
    beyond: u64,
    /// As far as that is committed, and with which text.
    committed_beyond: u64,
    committed_metadata: String,
    /// Commits name no offsets beyond.
    plain: bool,
    /// What is committed is worth another commit as it is.
    renewing: bool,
    /// Nothing was handed out or passed yet: `passed` is where it began.
    untouched: bool,
    over: bool,
}

#[derive(Debug)]
struct Open {
    offset: i64,
    /// Behind the last record of the run.
    end: i64,
    /// Where everything before it ends, and the leader epoch of that. Offset and epoch are committed as a pair: the
    /// broker takes an offset beyond the end of its epoch for a log that was cut (KIP-320), so that an offset behind a
    /// gap must not go with the epoch from before the gap.
    from: i64,
    from_epoch: i32,
    done: bool,
}

/// Done records between open ones that are kept before it is worth while to look for them.
const FINISHED_KEPT: usize = 64;

impl Watermark {
    /// Starts at `start`, the first offset that is to be handled.
    ///
    /// `committed` is what the group has. When it has nothing, the start is committable at once: a group that began at
    /// the log's end must find that place again after a crash, or it would skip what arrived meanwhile.
    pub(crate) fn new(
        partition: TopicPartition,
        assignment: AssignmentEpoch,
        start: i64,
        leader_epoch: i32,
        committed: Option<i64>,
    ) -> Self {
        Watermark {
            partition,
            assignment,
            topic_id: TopicId::NONE,
            open: VecDeque::new(),
            finished: 0,
            passed: start,
            passed_epoch: leader_epoch,
            before: Done::default(),
            jumps: 0,
            committed,
            beyond: 0,
            committed_beyond: 0,
            committed_metadata: String::new(),
            plain: false,
            renewing: false,
            untouched: true,
            over: false,
        }
    }

    /// With what is done beyond the start, and the id of the topic, under which commits name such offsets.
    pub(crate) fn restored(mut self, topic_id: TopicId, done: Done) -> Self {
        (self.topic_id, self.before) = (topic_id, done);
        self
    }

    /// From now on commits name no offsets beyond theirs.
    pub(crate) fn commit_plainly(&mut self) {
        self.plain = true;
    }

    /// Commits once more what the group has: brokers forget what is not committed again for a long time.
    pub(crate) fn renew(&mut self) {
        self.renewing = self.committed.is_some();
    }

    /// Notes that the record at `offset` goes to its handler.
    #[inline]
    pub(crate) fn hand_out(&mut self, offset: i64, leader_epoch: i32) -> HandedOut {
        self.hand_out_run(offset, offset.saturating_add(1), leader_epoch)
    }

    /// Notes that the records from `offset` to below `end` go to one handler together: they are done together.
    #[inline]
    pub(crate) fn hand_out_run(&mut self, offset: i64, end: i64, leader_epoch: i32) -> HandedOut {
        debug_assert!(offset >= self.passed, "records are handed out in their order");
        self.open.push_back(Open { offset, end, from: self.passed, from_epoch: self.passed_epoch, done: false });
        self.pass(end, leader_epoch);
        HandedOut { assignment: self.assignment, offset, jumps: self.jumps }
    }

    /// Notes that nothing below `offset` is left to hand out: a batch of this leader epoch ended in a gap, or was a
    /// control batch.
    #[inline]
    pub(crate) fn pass(&mut self, offset: i64, leader_epoch: i32) {
        if offset > self.passed {
            (self.passed, self.passed_epoch) = (offset, leader_epoch);
            self.untouched = false;
            self.before.drop_below(offset);
        }
    }

    /// Whether the record at `offset` was handled under an earlier assignment, so that it must not be handed out; and the
    /// next offset at which that may be otherwise. It stays true until the next jump.
    pub(crate) fn is_done(&self, offset: i64) -> (bool, i64) {
        self.before.look(offset)
    }

    /// Goes on at `offset`, wherever that is: a policy of the application asked for a jump out of a range that is gone.
    /// Records that are with handlers have no effect any more.
    pub(crate) fn jump(&mut self, offset: i64) {
        self.open.clear();
        self.finished = 0;
        self.passed = offset;
        self.passed_epoch = -1;
        self.untouched = false;
        self.before = Done::default();
        self.committed = None;
        self.committed_metadata.clear();
        self.jumps = self.jumps.wrapping_add(1);
    }

    /// `offset` is not in the log, and nothing can be fetched there. If it is where this began, it is nobody's work, but a
    /// mistake, and the group keeps what it has committed.
    pub(crate) fn on_out_of_range(&mut self, offset: i64) {
        self.over |= self.untouched && self.passed == offset;
    }

    /// The handler of `record` succeeded.
    #[inline]
    pub(crate) fn complete(&mut self, record: HandedOut) -> Completion {
        if self.over || record.assignment != self.assignment || record.jumps != self.jumps {
            return Completion::Discarded;
        }
        if self.open.front().is_some_and(|first| first.offset == record.offset) {
            self.open.pop_front();
            while self.finished > 0 && self.open.front().is_some_and(|first| first.done) {
                self.open.pop_front();
                self.finished -= 1;
            }
        } else {
            self.complete_beyond(record.offset);
        }
        Completion::Counted
    }

    /// All records below `offset` that were not handed out before are handled: they were done as soon as they came up.
    /// `leader_epoch` is that of the last of them.
    #[inline]
    pub(crate) fn complete_at_once(&mut self, offset: i64, leader_epoch: i32) -> Completion {
        if self.over {
            return Completion::Discarded;
        }
        self.pass(offset, leader_epoch);
        if !self.open.is_empty() {
            self.beyond += 1;
        }
        Completion::Counted
    }

    fn complete_beyond(&mut self, offset: i64) {
        let Ok(at) = self.open.binary_search_by_key(&offset, |open| open.offset) else { return };
        let Some(open) = self.open.get_mut(at) else { return };
        open.done = true;
        self.finished += 1;
        self.beyond += 1;
        if self.finished > FINISHED_KEPT && self.finished > self.open.len() / 2 {
            self.open.retain(|open| !open.done);
            self.finished = 0;
        }
    }

    /// The assignment is over: nothing can be completed or committed any more.
    pub(crate) fn close(&mut self) {
        self.over = true;
        self.open.clear();
        self.finished = 0;
    }

    /// Whether the topic that has the id `now` may be the one of which records were handled: either id may be unknown.
    pub(crate) fn is_of(&self, now: TopicId) -> bool {
        !self.topic_id.is_some() || !now.is_some() || self.topic_id == now
    }

    /// The offset below which all is handled.
    pub(crate) fn handled(&self) -> i64 {
        self.below().0
    }

    /// The oldest record that is with its handler.
    pub(crate) fn oldest_in_handler(&self) -> Option<i64> {
        self.open.front().map(|first| first.offset)
    }

    /// What the group has, as far as this assignment knows.
    pub(crate) fn committed(&self) -> Option<i64> {
        self.committed
    }

    /// The offset below which all is handled, and the leader epoch of what lies right below it.
    fn below(&self) -> (i64, i32) {
        self.open.front().map_or((self.passed, self.passed_epoch), |first| (first.from, first.from_epoch))
    }

    /// Whether there may be something to commit. Quick, and never false when there is.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.over && (self.renewing || self.moved() || !self.plain && self.beyond != self.committed_beyond)
    }

    fn moved(&self) -> bool {
        self.committed.is_none_or(|committed| self.below().0 > committed)
    }

    /// What can be committed now; none when the group has it already, or when the assignment is over.
    pub(crate) fn committable(&self) -> Option<Committable> {
        if !self.is_dirty() {
            return None;
        }
        let (offset, leader_epoch) = self.below();
        let metadata = if self.plain { String::new() } else { self.metadata(offset) };
        if !self.renewing && !self.moved() && metadata == self.committed_metadata {
            return None;
        }
        let partition = self.partition.clone();
        let (assignment, jumps, beyond) = (self.assignment, self.jumps, self.beyond);
        Some(Committable { partition, offset, leader_epoch, metadata, assignment, jumps, beyond })
    }

    fn metadata(&self, offset: i64) -> String {
        // Epochs only grow along the log.
        let epoch = if self.before.ranges.is_empty() { self.passed_epoch } else { self.before.leader_epoch };
        let log = Log { partition: &self.partition, topic_id: self.topic_id };
        let mut writer = Writer::new(log, offset, epoch);
        // What is passed by before the oldest open record may have been done under an earlier assignment.
        let mut at = offset;
        for open in self.open.iter().filter(|open| !open.done) {
            writer.done(at, open.offset);
            at = open.end;
            if writer.is_full() {
                break;
            }
        }
        writer.done(at, self.passed);
        for (from, end) in &self.before.ranges {
            writer.done((*from).max(self.passed), *end);
        }
        writer.finish()
    }

    /// The coordinator has stored `done`.
    pub(crate) fn on_committed(&mut self, done: &Committable) {
        if done.assignment != self.assignment || done.jumps != self.jumps {
            return;
        }
        let newer = |committed| (done.offset, done.beyond) >= (committed, self.committed_beyond);
        if self.committed.is_none_or(newer) {
            self.committed = Some(done.offset);
            self.renewing = false;
            self.committed_beyond = done.beyond;
            self.committed_metadata.clone_from(&done.metadata);
        }
    }

    /// How many records are with their handlers.
    #[cfg(test)]
    fn in_handlers(&self) -> usize {
        self.open.iter().filter(|open| !open.done).count()
    }
}

#[cfg(test)]
mod tests;
