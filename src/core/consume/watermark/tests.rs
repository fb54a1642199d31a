//! Stories of a watermark, and random ones against a model.

use std::collections::BTreeSet;

use super::super::progress;
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
    assert_eq!(mark.handled(), 10);
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

fn ranges(commit: &Committable) -> Done {
    let partition = TopicPartition::new("orders", 0);
    let log = Log { partition: &partition, topic_id: TopicId::NONE };
    progress::read(commit.metadata(), log, commit.offset()).unwrap()
}

#[test]
fn what_is_handled_beyond_the_offset_is_committed_once() {
    let mut mark = watermark(10);
    let [_stuck, b, c, _open, e] = [10, 11, 12, 13, 14].map(|offset| mark.hand_out(offset, 3));
    mark.complete(b);
    let commit = mark.committable().unwrap();
    assert_eq!((commit.offset(), ranges(&commit).ranges), (10, [(11, 12)].into()));
    mark.on_committed(&commit);
    assert_eq!(mark.committable(), None, "the group has it");
    mark.complete(c);
    mark.complete(e);
    mark.pass(20, 4);
    let commit = mark.committable().unwrap();
    assert_eq!(ranges(&commit), Done { ranges: [(11, 13), (14, 20)].into(), leader_epoch: 4 });
    mark.commit_plainly();
    assert_eq!(mark.committable(), None, "the offset did not move");
}

#[test]
fn what_was_done_before_is_passed_by_and_committed_again() {
    let before = Done { ranges: [(11, 13), (20, 30)].into(), leader_epoch: 3 };
    let mut mark = watermark(10).restored(TopicId::NONE, before);
    assert_eq!(mark.is_done(10), (false, 11));
    assert_eq!(mark.is_done(11), (true, 13));
    assert_eq!(mark.committable(), None, "nothing happened yet");
    let first = mark.hand_out(10, 3);
    mark.complete(first);
    let commit = mark.committable().unwrap();
    assert_eq!((commit.offset(), ranges(&commit).ranges), (11, [(11, 13), (20, 30)].into()));
    let second = mark.hand_out(13, 3);
    mark.complete(second);
    let commit = mark.committable().unwrap();
    assert_eq!((commit.offset(), ranges(&commit).ranges), (14, [(20, 30)].into()));
    mark.jump(5);
    assert_eq!(mark.is_done(20), (false, i64::MAX), "another log, perhaps");
    assert_eq!(mark.committable().unwrap().metadata(), "");
}

/// Story: handlers are at work on several records when the position jumps back over them; then they finish.
#[test]
fn what_was_handed_out_before_a_jump_has_no_effect_after_it() {
    let mut mark = watermark(0);
    let old = mark.hand_out(5, 0);
    mark.jump(5);
    let _new = mark.hand_out(5, 0);
    assert_eq!(mark.complete(old), Completion::Discarded);
    assert_eq!(mark.handled(), 5);
}

#[test]
fn a_run_is_done_together() {
    let mut mark = watermark(0);
    let (stuck, run) = (mark.hand_out(0, 1), mark.hand_out_run(3, 9, 1));
    mark.hand_out_run(9, 12, 1);
    mark.complete(run);
    assert_eq!(ranges(&mark.committable().unwrap()).ranges, [(1, 9)]);
    mark.complete(stuck);
    assert_eq!(offset(&mark), Some(9));
}

/// Story: one record takes for hours, and its partition goes on with other keys, 64 at a time.
#[test]
fn behind_a_stuck_record_any_number_costs_nothing() {
    let mut mark = watermark(0);
    let stuck = mark.hand_out(0, 0);
    let mut handlers: VecDeque<HandedOut> = (1..64).map(|offset| mark.hand_out(offset, 0)).collect();
    let mut random = Random(1);
    for offset in 64..200_000 {
        handlers.push_back(mark.hand_out(offset, 0));
        let at = random.below(handlers.len() as u64) as usize;
        let _ = handlers.swap_remove_back(at).map(|record| mark.complete(record));
        assert!(mark.open.len() <= 2 * 65 + FINISHED_KEPT, "{} at {offset}", mark.open.len());
    }
    assert!(mark.open.capacity() < 512);
    let done = ranges(&mark.committable().unwrap());
    assert!(done.end().unwrap() > 199_000 && done.ranges.len() <= 65);
    handlers.into_iter().for_each(|record| assert_eq!(mark.complete(record), Completion::Counted));
    mark.complete(stuck);
    assert_eq!(mark.handled(), 200_000);
}

/// Random lives of a group on one partition against the plainest model there is, a set of handled offsets: records in
/// any order, gaps, commits, crashes, and jumps.
#[test]
fn random_stories_agree_with_a_model() {
    for seed in 1..200u64 {
        let mut story = Story::new(seed);
        (0..300).for_each(|_| story.step());
    }
}

struct Story {
    random: Random,
    seed: u64,
    /// Offsets that hold a record.
    log: BTreeSet<i64>,
    handled: BTreeSet<i64>,
    /// Without what an earlier life did not commit.
    known: BTreeSet<i64>,
    mark: Watermark,
    handlers: Vec<(i64, i64, HandedOut)>,
    /// Of an assignment that is over, or from before a jump.
    late: Vec<HandedOut>,
    position: i64,
    /// What the group has, and what was handled then.
    group: (i64, i32, String),
    covered: BTreeSet<i64>,
    epoch: u64,
}

impl Story {
    fn new(seed: u64) -> Story {
        let mut random = Random(seed);
        let log = (0..400).filter(|_| random.below(4) > 0).collect();
        Story {
            random,
            seed,
            log,
            handled: BTreeSet::new(),
            known: BTreeSet::new(),
            mark: watermark(0),
            handlers: Vec::new(),
            late: Vec::new(),
            position: 0,
            group: (0, -1, String::new()),
            covered: BTreeSet::new(),
            epoch: 1,
        }
    }

    fn step(&mut self) {
        match self.random.below(40) {
            0..=15 => self.hand_out(),
            16..=33 => self.complete(),
            34..=37 => self.commit(),
            38 if self.random.below(4) == 0 => self.crash(),
            39 if self.random.below(20) == 0 => self.jump(),
            _ => {
                if let Some(late) = self.late.pop() {
                    assert_eq!(self.mark.complete(late), Completion::Discarded, "seed {}", self.seed);
                }
            }
        }
        self.check();
    }

    fn hand_out(&mut self) {
        let most = 1 + self.random.below(3) as usize;
        let mut run: Vec<i64> = Vec::new();
        while run.len() < most {
            let Some(next) = self.log.range(self.position..).next().copied() else { break };
            if self.mark.is_done(next).0 {
                if !run.is_empty() {
                    break;
                }
                assert!(self.handled.contains(&next), "seed {}: {next} is skipped", self.seed);
            } else {
                assert!(!self.covered.contains(&next), "seed {}: {next} is repeated", self.seed);
                run.push(next);
            }
            self.position = next + 1;
        }
        if let (Some(first), Some(last)) = (run.first(), run.last()) {
            if self.random.below(3) == 0 {
                assert_eq!(self.mark.complete_at_once(last + 1, 1), Completion::Counted);
                self.handled.extend(&run);
                return self.known.extend(&run);
            }
            self.handlers.push((*first, *last, self.mark.hand_out_run(*first, last + 1, 1)));
        }
        if self.random.below(8) == 0 {
            self.position = self.log.range(self.position..).next().copied().unwrap_or(400);
            self.mark.pass(self.position, 1);
        }
    }

    fn complete(&mut self) {
        if !self.handlers.is_empty() {
            let at = self.random.below(self.handlers.len() as u64) as usize;
            let (first, last, token) = self.handlers.swap_remove(at);
            assert_eq!(self.mark.complete(token), Completion::Counted);
            self.handled.extend(self.log.range(first..=last));
            self.known.extend(self.log.range(first..=last));
        }
    }

    fn commit(&mut self) {
        let Some(commit) = self.mark.committable() else { return };
        self.group = (commit.offset(), commit.leader_epoch(), commit.metadata().to_owned());
        self.covered.clone_from(&self.known);
        if self.random.below(4) > 0 {
            self.mark.on_committed(&commit);
            assert_eq!(self.mark.committable(), None, "seed {}", self.seed);
        }
    }

    fn crash(&mut self) {
        self.late.extend(self.handlers.drain(..).map(|(.., token)| token));
        self.epoch += 1;
        self.known.clone_from(&self.covered);
        let (offset, leader_epoch, text) = &self.group;
        let partition = TopicPartition::new("orders", 0);
        let log = Log { partition: &partition, topic_id: TopicId::NONE };
        let done = progress::read(text, log, *offset).unwrap();
        let epoch = AssignmentEpoch(self.epoch);
        self.position = *offset;
        self.mark = Watermark::new(partition.clone(), epoch, *offset, *leader_epoch, Some(*offset))
            .restored(TopicId::NONE, done);
    }

    fn jump(&mut self) {
        let target = self.random.below(400) as i64;
        self.late.extend(self.handlers.drain(..).map(|(.., token)| token));
        self.mark.jump(target);
        self.position = target;
        // The log is another one from here on, as far as anybody knows.
        self.handled = self.log.range(..target).copied().collect();
        self.known.clone_from(&self.handled);
        self.covered.clear();
        self.commit();
    }

    fn check(&self) {
        let seed = self.seed;
        let handled = self.mark.handled();
        let missing = self.log.range(..handled).find(|offset| !self.handled.contains(offset));
        assert_eq!(missing, None, "seed {seed}: below {handled}");
        assert_eq!(self.mark.in_handlers(), self.handlers.len(), "seed {seed}");
        assert!(self.mark.open.len() <= 2 * self.handlers.len() + FINISHED_KEPT + 1, "seed {seed}");
        let Some(commit) = self.mark.committable() else { return };
        assert_eq!(commit.offset(), handled);
        for (from, end) in ranges(&commit).ranges {
            let unhandled = self.log.range(from..end).find(|offset| !self.handled.contains(offset));
            assert_eq!(unhandled, None, "seed {seed}: claimed");
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

/// Story: a partition by hand in which nothing happens for a week. Its offset is committed again now and then, and no more
/// than that.
#[test]
fn what_is_committed_is_committed_once_more_when_it_is_renewed() {
    let mut mark = watermark(10);
    assert_eq!(offset(&mark), None);
    mark.renew();
    assert!(mark.is_dirty());
    let again = mark.committable().unwrap();
    assert_eq!(again.offset(), 10);
    mark.on_committed(&again);
    assert_eq!((mark.is_dirty(), offset(&mark)), (false, None));
    // What moves meanwhile goes with it.
    mark.renew();
    let record = mark.hand_out(10, 3);
    mark.complete(record);
    assert_eq!(offset(&mark), Some(11));
    mark.close();
    assert_eq!((mark.is_dirty(), offset(&mark)), (false, None));
}

#[test]
fn a_place_that_is_not_in_the_log_is_nobodys_work() {
    let begun = |start| Watermark::new(TopicPartition::new("orders", 0), AssignmentEpoch(1), start, -1, Some(5));
    let mut mark = begun(1000);
    assert_eq!(offset(&mark), Some(1000));
    mark.on_out_of_range(2000);
    assert_eq!(offset(&mark), Some(1000), "that is another place");
    mark.on_out_of_range(1000);
    assert_eq!(offset(&mark), None);
    // What was read from there on is handled, wherever the log ends now.
    let mut mark = begun(6);
    let record = mark.hand_out(6, 3);
    mark.complete(record);
    mark.on_out_of_range(7);
    assert_eq!(offset(&mark), Some(7));
}
