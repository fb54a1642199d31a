//! How far a partition is handled: the only place where an offset becomes committable.
//!
//! ```text
//!            committed      committable          passed
//!                v               v                 v
//!  ... 4 5 6 7 | 8  9  10  11  | 12   13  14  15  | 16 17 ...
//!                done, done,     open done open done   not handed out yet
//! ```
//! A record is handed out, then completed, in any order. What lies between two records that were handed out does not
//! exist (compaction, control batches, aborted transactions) and is passed by.

use std::collections::VecDeque;

use crate::types::TopicPartition;

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
    assignment: AssignmentEpoch,
    jumps: u32,
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
}

/// A record on its way through a handler. Not cloneable: it is completed once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HandedOut {
    assignment: AssignmentEpoch,
    offset: i64,
}

/// What became of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completion {
    /// It counts.
    Counted,
    /// Its assignment is over: another member may have the partition, so it has no effect.
    Discarded,
}

/// The handled offsets of one partition under one assignment.
#[derive(Debug)]
pub(crate) struct Watermark {
    partition: TopicPartition,
    assignment: AssignmentEpoch,
    /// Records handed out and not yet below the watermark, oldest first.
    open: VecDeque<Open>,
    /// Everything below is open, handled, or not there.
    passed: i64,
    /// Leader epoch of what lies right below `passed`: a record, or a batch that was passed by.
    passed_epoch: i32,
    /// Counts jumps: what was committed before one says nothing about what the group has after it.
    jumps: u32,
    /// What the group has; none when it has nothing, so that the starting point itself is worth a commit.
    committed: Option<i64>,
    over: bool,
}

#[derive(Debug)]
struct Open {
    offset: i64,
    /// Where everything before it ends, and the leader epoch of that. Offset and epoch are committed as a pair: the
    /// broker takes an offset beyond the end of its epoch for a log that was cut (KIP-320), so that an offset behind a
    /// gap must not go with the epoch from before the gap.
    from: i64,
    from_epoch: i32,
    done: bool,
}

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
        let (open, passed, passed_epoch) = (VecDeque::new(), start, leader_epoch);
        Watermark { partition, assignment, open, passed, passed_epoch, jumps: 0, committed, over: false }
    }

    /// Notes that the record at `offset` goes to its handler.
    pub(crate) fn hand_out(&mut self, offset: i64, leader_epoch: i32) -> HandedOut {
        debug_assert!(offset >= self.passed, "records are handed out in their order");
        self.open.push_back(Open { offset, from: self.passed, from_epoch: self.passed_epoch, done: false });
        self.pass(offset.saturating_add(1), leader_epoch);
        HandedOut { assignment: self.assignment, offset }
    }

    /// Notes that nothing below `offset` is left to hand out: a batch of this leader epoch ended in a gap, or was a
    /// control batch.
    pub(crate) fn pass(&mut self, offset: i64, leader_epoch: i32) {
        if offset > self.passed {
            (self.passed, self.passed_epoch) = (offset, leader_epoch);
        }
    }

    /// Goes on at `offset`, wherever that is: a policy of the application asked for a jump out of a range that is gone.
    /// Nothing is with a handler then.
    pub(crate) fn jump(&mut self, offset: i64) {
        self.open.clear();
        self.passed = offset;
        self.passed_epoch = -1;
        self.committed = None;
        self.jumps = self.jumps.wrapping_add(1);
    }

    /// The handler of `record` succeeded.
    pub(crate) fn complete(&mut self, record: HandedOut) -> Completion {
        if self.over || record.assignment != self.assignment {
            return Completion::Discarded;
        }
        if self.open.front().is_some_and(|first| first.offset == record.offset) {
            self.open.pop_front();
        } else if let Ok(at) = self.open.binary_search_by_key(&record.offset, |open| open.offset) {
            self.open[at].done = true;
        }
        while self.open.front().is_some_and(|first| first.done) {
            self.open.pop_front();
        }
        Completion::Counted
    }

    /// The assignment is over: nothing can be completed or committed any more.
    pub(crate) fn close(&mut self) {
        self.over = true;
        self.open.clear();
    }

    /// The offset below which all is handled.
    pub(crate) fn handled(&self) -> i64 {
        self.below().0
    }

    /// The oldest record that is with its handler.
    pub(crate) fn oldest_in_handler(&self) -> Option<i64> {
        self.open.front().map(|first| first.offset)
    }

    /// The offset below which all is handled, and the leader epoch of what lies right below it.
    fn below(&self) -> (i64, i32) {
        self.open.front().map_or((self.passed, self.passed_epoch), |first| (first.from, first.from_epoch))
    }

    /// What can be committed now; none when the group has it already, or when the assignment is over.
    pub(crate) fn committable(&self) -> Option<Committable> {
        let (offset, leader_epoch) = self.below();
        (!self.over && self.committed.is_none_or(|committed| offset > committed)).then(|| Committable {
            partition: self.partition.clone(),
            offset,
            leader_epoch,
            assignment: self.assignment,
            jumps: self.jumps,
        })
    }

    /// The coordinator has stored `done`.
    pub(crate) fn on_committed(&mut self, done: &Committable) {
        if done.assignment == self.assignment && done.jumps == self.jumps {
            self.committed = self.committed.max(Some(done.offset));
        }
    }

    /// How many records are with their handlers.
    #[cfg(test)]
    fn in_handlers(&self) -> usize {
        self.open.iter().filter(|open| !open.done).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watermark(start: i64) -> Watermark {
        Watermark::new(TopicPartition::new("orders", 0), AssignmentEpoch(1), start, -1, Some(start))
    }

    fn offset(watermark: &Watermark) -> Option<i64> {
        watermark.committable().map(|committable| committable.offset())
    }

    #[test]
    fn later_records_finish_first_and_only_the_contiguous_part_counts() {
        let mut mark = watermark(10);
        let [a, b, c] = [10, 11, 12].map(|offset| mark.hand_out(offset, 3));
        assert_eq!(mark.complete(c), Completion::Counted);
        assert_eq!(mark.complete(b), Completion::Counted);
        assert_eq!(offset(&mark), None);
        mark.complete(a);
        assert_eq!(offset(&mark), Some(13));
        assert_eq!(mark.committable().unwrap().leader_epoch(), 3);
    }

    #[test]
    fn a_failed_record_holds_back_everything_after_it() {
        let mut mark = watermark(0);
        let first = mark.hand_out(0, 0);
        let _failed = mark.hand_out(1, 0);
        let third = mark.hand_out(2, 0);
        mark.complete(first);
        mark.complete(third);
        assert_eq!(offset(&mark), Some(1));
        assert_eq!(mark.in_handlers(), 1);
    }

    #[test]
    fn gaps_advance_only_when_nothing_before_them_is_open() {
        let mut mark = watermark(0);
        let record = mark.hand_out(4, 7); // 0 to 3 were compacted away
        mark.pass(9, 7); // and so were 5 to 8
        assert_eq!(offset(&mark), None);
        mark.complete(record);
        assert_eq!(offset(&mark), Some(9));
    }

    /// Story: a record of epoch 5, then an abort mark of epoch 6, all handled and committed. Were the pair (2, epoch 5)
    /// committed, the broker would say at the next start that epoch 5 ends at 1, below the position: data loss, although
    /// nothing is lost.
    #[test]
    fn an_offset_is_committed_with_the_epoch_of_what_lies_right_below_it() {
        let mut mark = watermark(0);
        let record = mark.hand_out(0, 5);
        mark.complete(record);
        mark.pass(2, 6);
        let commit = mark.committable().unwrap();
        assert_eq!((commit.offset(), commit.leader_epoch()), (2, 6));
        // The next record lies behind a gap that may be of another epoch: the offset before the gap is the safe one.
        let next = mark.hand_out(9, 8);
        let commit = mark.committable().unwrap();
        assert_eq!((commit.offset(), commit.leader_epoch()), (2, 6));
        mark.complete(next);
        let commit = mark.committable().unwrap();
        assert_eq!((commit.offset(), commit.leader_epoch()), (10, 8));
    }

    /// Story: the log was cut below a position whose commit is on its way, and the application chose to go on at the
    /// start. If that late commit counted, the group would keep the old offset until the new log has grown beyond it,
    /// and a crash in between would skip what lies below.
    #[test]
    fn a_commit_from_before_a_jump_says_nothing_about_what_is_committed_after_it() {
        let mut mark = watermark(0);
        let record = mark.hand_out(999, 0);
        mark.complete(record);
        let early = mark.committable().unwrap();
        mark.jump(3);
        mark.on_committed(&early);
        assert_eq!(offset(&mark), Some(3));
    }

    #[test]
    fn completions_of_an_assignment_that_is_over_have_no_effect() {
        let mut old = watermark(5);
        let late = old.hand_out(5, 0);
        let later = old.hand_out(6, 0);
        old.close();
        assert_eq!(old.complete(late), Completion::Discarded);
        assert_eq!(offset(&old), None);
        let mut new = Watermark::new(TopicPartition::new("orders", 0), AssignmentEpoch(2), 5, -1, Some(5));
        let _again = new.hand_out(5, 0);
        let _after = new.hand_out(6, 0);
        assert_eq!(new.complete(later), Completion::Discarded);
        assert_eq!(offset(&new), None);
    }

    #[test]
    fn a_start_that_the_group_does_not_have_is_committed_once() {
        let mut mark = Watermark::new(TopicPartition::new("orders", 0), AssignmentEpoch(1), 100, -1, None);
        let start = mark.committable().unwrap();
        assert_eq!(start.offset(), 100);
        mark.on_committed(&start);
        assert_eq!(offset(&mark), None);
    }

    #[test]
    fn a_commit_overtaken_by_a_later_one_does_not_go_back() {
        let mut mark = watermark(0);
        let first = mark.hand_out(0, 0);
        mark.complete(first);
        let early = mark.committable().unwrap();
        let second = mark.hand_out(1, 0);
        mark.complete(second);
        let late = mark.committable().unwrap();
        mark.on_committed(&late);
        mark.on_committed(&early);
        assert_eq!(offset(&mark), None);
    }

    /// Thousands of random stories against the plainest model there is: a list of records with a flag each.
    #[test]
    fn random_stories_agree_with_a_model() {
        for seed in 1..400u64 {
            let mut random = Random(seed);
            let mut mark = watermark(0);
            let mut model: Vec<(i64, i64, bool)> = Vec::new();
            let mut handlers: Vec<HandedOut> = Vec::new();
            let (mut next, mut end) = (0, 0);
            for _ in 0..300 {
                match random.below(5) {
                    0 | 1 => {
                        next += random.below(3) as i64;
                        handlers.push(mark.hand_out(next, 0));
                        model.push((next, end, false));
                        next += 1;
                        end = end.max(next);
                    }
                    2 => {
                        next += random.below(4) as i64;
                        mark.pass(next, 0);
                        end = end.max(next);
                    }
                    _ if !handlers.is_empty() => {
                        let record = handlers.swap_remove(random.below(handlers.len() as u64) as usize);
                        model
                            .iter_mut()
                            .filter(|(offset, ..)| *offset == record.offset)
                            .for_each(|(.., done)| *done = true);
                        assert_eq!(mark.complete(record), Completion::Counted);
                    }
                    _ => {}
                }
                let lowest_open = model.iter().find(|(.., done)| !done).map_or(end, |(_, from, _)| *from);
                assert_eq!(mark.handled(), lowest_open, "seed {seed}");
                assert_eq!(mark.in_handlers(), handlers.len(), "seed {seed}");
                if random.below(4) == 0
                    && let Some(commit) = mark.committable()
                {
                    mark.on_committed(&commit);
                    assert_eq!(mark.committable(), None, "seed {seed}");
                }
            }
        }
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) % limit
        }
    }
}
