//! Whether a log still has what a group has handled of it (KIP-320).
//!
//! Leader epochs never go back, and within one all records come from one leader. So a log whose epoch `e` ends at or beyond
//! an offset has the same records below that offset as any other log that has a record of epoch `e` there.

use super::progress::Done;

/// What a group has handled of a partition, as its commit says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct History {
    /// The committed offset.
    pub(crate) offset: i64,
    /// Leader epoch of what lies right below it; -1 for unknown.
    pub(crate) leader_epoch: i32,
    /// What is handled beyond it.
    pub(crate) done: Done,
    offset_known: bool,
    done_known: bool,
}

/// The log was cut below the committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    /// Where the common history ends at the latest; none when the log shares no epoch.
    pub(crate) end: Option<i64>,
    /// The leader epoch it ends in; -1 without one.
    pub(crate) leader_epoch: i32,
}

impl History {
    /// As committed.
    pub(crate) fn new(offset: i64, leader_epoch: i32, done: Done) -> History {
        let done_known = done.ranges.is_empty();
        History { offset, leader_epoch, done, offset_known: leader_epoch < 0, done_known }
    }

    /// The leader epoch whose end the leader is to be asked for; none when all is known.
    pub(crate) fn question(&self) -> Option<i32> {
        // The higher epoch first: if the log has it, the lower one needs no question.
        let done = (!self.done_known).then_some(self.done.leader_epoch);
        done.or_else(|| (!self.offset_known).then_some(self.leader_epoch))
    }

    /// The leader's answer to `question`: the largest epoch it has that is not above, and where that ends; -1 for none.
    pub(crate) fn on_answer(&mut self, leader_epoch: i32, end: i64) -> Option<Loss> {
        let asked = self.question()?;
        let same = leader_epoch == asked && end >= 0;
        if !self.done_known {
            self.done_known = true;
            if same {
                self.done.cut(end);
            } else {
                // Where the common history ends is not certain: all of it is handled again.
                self.done = Done::default();
            }
            self.offset_known |= same && end >= self.offset;
            return None;
        }
        self.offset_known = true;
        if same && end >= self.offset {
            return None;
        }
        self.done = Done::default();
        let end = (leader_epoch >= 0 && end >= 0).then(|| end.min(self.offset));
        Some(Loss { end, leader_epoch: end.map_or(-1, |_| leader_epoch) })
    }

    /// Nobody can tell. The offset stands, since it always did; what lies beyond it is handled again.
    pub(crate) fn give_up(&mut self) {
        self.done = Done::default();
        (self.done_known, self.offset_known) = (true, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(epoch: i32, ranges: &[(i64, i64)], done_epoch: i32) -> History {
        History::new(100, epoch, Done { ranges: ranges.iter().copied().collect(), leader_epoch: done_epoch })
    }

    #[test]
    fn one_answer_is_enough_when_nothing_was_cut() {
        let mut all = history(3, &[(110, 120)], 5);
        assert_eq!(all.question(), Some(5));
        assert_eq!(all.on_answer(5, 120), None);
        assert_eq!(all.question(), None);
        assert_eq!(all.done.ranges, [(110, 120)]);
        let mut plain = history(3, &[], -1);
        assert_eq!(plain.question(), Some(3));
        assert_eq!(plain.on_answer(3, 100), None);
        assert_eq!(plain.question(), None);
        assert_eq!(history(-1, &[], -1).question(), None);
    }

    /// Story: an election cut the log between the committed offset and what is handled beyond it; other records stand
    /// there now. Nothing that is committed is lost, and the new records are handled.
    #[test]
    fn a_log_that_was_cut_beyond_the_offset_is_read_from_the_cut_on() {
        let mut cut = history(3, &[(110, 120), (130, 140)], 5);
        assert_eq!(cut.on_answer(5, 115), None);
        assert_eq!((cut.question(), cut.done.end()), (None, Some(115)));
        let mut without_epoch = history(3, &[(110, 120)], 5);
        assert_eq!(without_epoch.on_answer(4, 200), None);
        assert_eq!((without_epoch.question(), without_epoch.done.end()), (Some(3), None));
        assert_eq!(without_epoch.on_answer(3, 105), None);
        assert_eq!(without_epoch.question(), None);
    }

    #[test]
    fn a_log_that_was_cut_below_the_offset_is_data_loss() {
        let mut shorter = history(3, &[], -1);
        assert_eq!(shorter.on_answer(3, 60), Some(Loss { end: Some(60), leader_epoch: 3 }));
        let mut other = history(3, &[(110, 120)], 3);
        assert_eq!(other.on_answer(3, 60), None);
        assert_eq!(other.question(), Some(3));
        assert_eq!(other.on_answer(3, 60), Some(Loss { end: Some(60), leader_epoch: 3 }));
        assert_eq!(other.done.end(), None);
        let mut replaced = history(3, &[], -1);
        assert_eq!(replaced.on_answer(2, 500), Some(Loss { end: Some(100), leader_epoch: 2 }));
        let mut unknown = history(3, &[], -1);
        assert_eq!(unknown.on_answer(-1, -1), Some(Loss { end: None, leader_epoch: -1 }));
    }

    #[test]
    fn what_nobody_can_confirm_is_handled_again() {
        let mut unsure = history(3, &[(110, 120)], 5);
        unsure.give_up();
        assert_eq!((unsure.question(), unsure.done.end()), (None, None));
    }
}
