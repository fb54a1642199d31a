//! Stories of fetching on a made-up clock.

use super::*;

const MIB: usize = 1024 * 1024;

/// A batch header of `count` offsets, without records: enough for what is read here.
pub(super) fn batch(base: i64, count: i32, leader_epoch: i32) -> Vec<u8> {
    let mut bytes = vec![0; 61];
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes[8..12].copy_from_slice(&49i32.to_be_bytes());
    bytes[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    bytes[16] = 2;
    bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    bytes
}

struct Story {
    fetches: Fetches,
    now: Instant,
}

fn orders(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn place(broker: BrokerId, epoch: i32) -> Place {
    Place { topic_id: TopicId([1; 16]), leader: Some((broker, epoch)) }
}

fn records(partition: i32, bytes: Vec<u8>) -> Answer {
    Answer {
        partition: orders(partition),
        error: ErrorCode::NONE,
        end: 100,
        diverging: None,
        leader: None,
        preferred: None,
        aborted: Vec::new(),
        records: bytes.into(),
    }
}

fn error(partition: i32, error: ErrorCode) -> Answer {
    Answer { error, ..records(partition, Vec::new()) }
}

impl Story {
    #[allow(clippy::disallowed_methods, reason = "any instant will do as the beginning of a made-up clock")]
    fn new(partitions: i32) -> Story {
        let mut fetches = Fetches::new(FetchConfig {
            max_bytes: 50 * MIB,
            partition_max_bytes: MIB,
            buffer_bytes: 16 * MIB,
            max_wait: Duration::from_millis(500),
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(1)),
            replica_lease: Duration::from_secs(300),
        });
        for partition in 0..partitions {
            fetches.add(orders(partition), AssignmentEpoch(1), place(1, 5), 10, -1);
        }
        Story { fetches, now: Instant::now() }
    }

    fn with_buffer(buffer_bytes: usize, partition_max_bytes: usize) -> Story {
        let mut story = Story::new(0);
        (story.fetches.config.buffer_bytes, story.fetches.config.partition_max_bytes) =
            (buffer_bytes, partition_max_bytes);
        story
    }

    fn plan(&mut self) -> Arc<Plan> {
        self.fetches.poll_plan(self.now).expect("a plan")
    }

    fn answer(&mut self, plan: &Plan, answer: Answer) -> Vec<Outcome> {
        self.answers(plan, vec![answer]).list
    }

    fn answers(&mut self, plan: &Plan, answers: Vec<Answer>) -> Outcomes {
        let bytes = 100 + answers.iter().map(|answer| answer.records.len()).sum::<usize>();
        self.fetches.on_answer(self.now, plan.id, bytes, 7, answers)
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.fetches.handle_timeout(self.now);
    }

    fn chunks(outcomes: &[Outcome]) -> usize {
        outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Chunk(_))).count()
    }
}

#[test]
fn the_next_fetch_is_out_while_records_are_handled_and_a_third_chunk_waits() {
    let mut story = Story::new(1);
    let first = story.plan();
    assert_eq!(first.partitions[0].offset, 10);
    assert_eq!(story.fetches.poll_plan(story.now), None, "one request per leader");
    assert_eq!(Story::chunks(&story.answer(&first, records(0, batch(10, 5, 5)))), 1);
    let second = story.plan();
    assert_eq!((second.partitions[0].offset, second.partitions[0].last_fetched_epoch), (15, 5));
    story.answer(&second, records(0, batch(15, 5, 5)));
    assert_eq!(story.fetches.poll_plan(story.now), None, "two chunks wait");
    story.fetches.on_chunk_done(&orders(0), AssignmentEpoch(1));
    assert_eq!(story.plan().partitions[0].offset, 20);
}

#[test]
fn an_answer_after_the_reassignment_is_dropped() {
    let mut story = Story::new(1);
    let old = story.plan();
    story.fetches.end(&TopicPartition::new("orders", 0), AssignmentEpoch(1));
    story.fetches.add(orders(0), AssignmentEpoch(2), place(1, 5), 10, -1);
    assert!(story.answer(&old, records(0, batch(10, 5, 5))).is_empty());
    assert_eq!(story.fetches.buffered(), 0);
    assert_eq!(story.plan().partitions[0].offset, 10);
}

#[test]
fn an_answer_for_a_position_left_behind_is_dropped() {
    let mut story = Story::new(1);
    let old = story.plan();
    story.fetches.set_position(story.now, &orders(0), AssignmentEpoch(1), 50, -1);
    assert!(story.answer(&old, records(0, batch(10, 5, 5))).is_empty());
    assert_eq!(story.plan().partitions[0].offset, 50);
}

#[test]
fn what_is_asked_for_and_what_waits_stay_within_the_buffer() {
    let mut story = Story::new(40);
    for partition in 20..40 {
        story.fetches.add(orders(partition), AssignmentEpoch(1), place(2, 5), 0, -1);
    }
    let (one, two) = (story.plan(), story.plan());
    assert_ne!(one.broker, two.broker);
    assert!(one.max_bytes + two.max_bytes <= 16 * MIB);
    assert!(one.partitions.iter().all(|planned| planned.max_bytes * 2 * 40 <= 16 * MIB));
    story.fetches.buffered = 16 * MIB;
    story.answer(&one, error(0, ErrorCode::NONE));
    assert_eq!(story.fetches.poll_plan(story.now), None, "no room");
}

#[test]
fn a_moved_leader_is_followed_and_an_older_answer_does_not_lead_back() {
    let mut story = Story::new(1);
    let plan = story.plan();
    let moved = Answer { leader: Some((2, 6)), ..error(0, ErrorCode::NOT_LEADER_OR_FOLLOWER) };
    let outcomes = story.answer(&plan, moved);
    assert!(matches!(outcomes[..], [Outcome::Refresh(_, Some((2, 6)))]));
    story.fetches.on_places(|_| Some(place(2, 6)));
    story.fetches.on_places(|_| Some(place(1, 5)));
    story.now += Duration::from_millis(100);
    story.fetches.handle_timeout(story.now);
    let plan = story.plan();
    assert_eq!((plan.broker, plan.partitions[0].leader_epoch, plan.partitions[0].offset), (2, 6, 10));
}

#[test]
fn out_of_range_stops_the_partition_and_nothing_jumps() {
    let mut story = Story::new(1);
    let plan = story.plan();
    let outcomes = story.answer(&plan, error(0, ErrorCode::OFFSET_OUT_OF_RANGE));
    assert!(matches!(outcomes[..], [Outcome::OutOfRange(_, AssignmentEpoch(1), 10)]));
    story.now += Duration::from_secs(60);
    story.fetches.handle_timeout(story.now);
    assert_eq!(story.fetches.poll_plan(story.now), None);
}

#[test]
fn a_log_cut_below_the_position_is_told_with_both_offsets() {
    let mut story = Story::new(1);
    let plan = story.plan();
    let outcomes = story.answer(&plan, Answer { diverging: Some((4, 7)), ..records(0, Vec::new()) });
    assert!(matches!(outcomes[..], [Outcome::Diverged { position: 10, end: 7, epoch: 4, .. }]));
}

#[test]
fn a_topic_created_again_stops_its_partitions() {
    let mut story = Story::new(1);
    let new = Place { topic_id: TopicId([2; 16]), leader: Some((1, 0)) };
    assert!(matches!(story.fetches.on_places(|_| Some(new))[..], [Outcome::Recreated(..)]));
    assert!(story.fetches.on_places(|_| Some(new)).is_empty(), "told once");
    assert_eq!(story.fetches.poll_plan(story.now), None);
}

#[test]
fn a_broker_that_does_not_answer_rests_before_it_is_asked_again() {
    let mut story = Story::new(1);
    let plan = story.plan();
    story.fetches.on_failed(story.now, plan.id);
    assert_eq!(story.fetches.poll_plan(story.now), None);
    assert_eq!(story.fetches.poll_timeout(), Some(story.now + Duration::from_millis(100)));
    story.now += Duration::from_millis(100);
    story.fetches.handle_timeout(story.now);
    assert_eq!(story.plan().partitions[0].offset, 10);
}

#[test]
fn a_full_partition_does_not_hold_back_another() {
    let mut story = Story::new(2);
    for base in [10, 11] {
        let plan = story.plan();
        story.answer(&plan, records(0, batch(base, 1, 5)));
    }
    let plan = story.plan();
    assert_eq!(plan.partitions.iter().map(|planned| planned.partition.clone()).collect::<Vec<_>>(), [orders(1)]);
    assert_eq!(plan.max_wait, SHORT_WAIT);
}

/// Story: `fetch.buffer.bytes` below the least request that is otherwise worth making; nothing was ever fetched.
#[test]
fn a_buffer_smaller_than_a_usual_request_is_used_nevertheless() {
    let mut story = Story::with_buffer(32 * 1024, 16 * 1024);
    story.fetches.add(orders(0), AssignmentEpoch(1), place(1, 5), 10, -1);
    let plan = story.plan();
    assert_eq!((plan.max_bytes, plan.partitions[0].max_bytes), (16 * 1024, 16 * 1024));
}

/// Story: room for one request at a time, and two leaders; the one with the higher id was never asked.
#[test]
fn leaders_take_turns_when_there_is_room_for_one_request_only() {
    let mut story = Story::with_buffer(64 * 1024, 64 * 1024);
    story.fetches.add(orders(0), AssignmentEpoch(1), place(1, 5), 10, -1);
    story.fetches.add(orders(1), AssignmentEpoch(1), place(2, 5), 10, -1);
    let mut asked = Vec::new();
    for _ in 0..4 {
        story.fetches.buffered = 40 * 1024;
        story.wait(SHORT_WAIT);
        assert_eq!(story.fetches.poll_plan(story.now), None, "room for crumbs only, and more may come back soon");
        assert_eq!(story.fetches.poll_timeout(), Some(story.now + SHORT_WAIT));
        story.wait(SHORT_WAIT);
        let plan = story.plan();
        story.fetches.buffered = 64 * 1024 - plan.max_bytes;
        assert_eq!(story.fetches.poll_plan(story.now), None, "no room for another");
        asked.push(plan.broker);
        story.answer(&plan, records(0, Vec::new()));
    }
    assert_eq!(asked, [1, 2, 1, 2]);
}

/// Story: a broker that refuses an offset and says that it is in its log; it was asked as fast as it answered.
#[test]
fn an_offset_that_goes_on_being_refused_is_asked_for_after_growing_pauses() {
    let mut story = Story::new(1);
    for pause in [100, 200, 400] {
        let plan = story.plan();
        story.answer(&plan, error(0, ErrorCode::OFFSET_OUT_OF_RANGE));
        story.fetches.set_position(story.now, &orders(0), AssignmentEpoch(1), 10, -1);
        assert_eq!(story.fetches.poll_plan(story.now), None);
        assert_eq!(story.fetches.poll_timeout(), Some(story.now + Duration::from_millis(pause)));
        story.now += Duration::from_millis(pause);
        story.fetches.handle_timeout(story.now);
    }
}

/// A batch of `bytes` bytes in all.
fn large(base: i64, bytes: usize) -> Vec<u8> {
    let mut batch = batch(base, 1, 5);
    batch[8..12].copy_from_slice(&i32::try_from(bytes - 12).unwrap().to_be_bytes());
    batch.resize(bytes, 0);
    batch
}

#[test]
fn a_small_answer_is_held_whole_until_its_last_chunk_is_done() {
    let mut story = Story::new(3);
    let plan = story.plan();
    let outcomes = story.answers(&plan, vec![records(0, batch(10, 1, 5)), records(1, batch(10, 1, 5))]);
    assert_eq!((outcomes.shared, story.fetches.buffered()), (Some(222), 222));
    story.fetches.on_chunk_done(&orders(0), AssignmentEpoch(1));
    assert_eq!(story.fetches.buffered(), 222);
    story.fetches.on_released(222);
    assert_eq!(story.fetches.buffered(), 0);
}

/// Story: most partitions never get their chunks done. The others go on without end, and the buffer's bound holds for all
/// that is in memory, whatever the size of the answers.
#[test]
fn stuck_partitions_never_stop_the_others_and_memory_stays_bounded() {
    for (partitions, batch) in [(16, 30 * 1024), (16, 100 * 1024), (16, 400 * 1024), (200, 30 * 1024), (3, MIB)] {
        let mut story = Story::new(partitions);
        let buffer = story.fetches.config.buffer_bytes;
        let mut positions = vec![10; partitions as usize];
        let (mut turns, mut most) = (0, 0);
        for _ in 0..400 {
            let Some(plan) = story.fetches.poll_plan(story.now) else {
                story.wait(SHORT_WAIT);
                continue;
            };
            // What a broker does (KIP-74): up to the limits, and the first batch whole.
            let (mut left, mut answers) = (plan.max_bytes, Vec::new());
            for planned in &plan.partitions {
                let at = planned.partition.partition as usize;
                let mut bytes = Vec::new();
                let limit = planned.max_bytes.min(left);
                while bytes.len() + batch <= limit || (answers.is_empty() && bytes.is_empty()) {
                    bytes.extend(large(positions[at], batch));
                    positions[at] += 1;
                }
                if !bytes.is_empty() {
                    left = left.saturating_sub(bytes.len());
                    answers.push(records(at as i32, bytes));
                }
            }
            let outcomes = story.answers(&plan, answers);
            most = most.max(story.fetches.buffered());
            let chunks = outcomes.list.iter().filter_map(|outcome| match outcome {
                Outcome::Chunk(chunk) => Some(chunk),
                _ => None,
            });
            // Only partition 0 is handled; an answer is released when nobody else is in it.
            let chunks: Vec<&Chunk> = chunks.collect();
            if let Some(done) = chunks.iter().find(|chunk| chunk.partition == orders(0)) {
                turns += 1;
                story.fetches.on_chunk_done(&orders(0), AssignmentEpoch(1));
                match outcomes.shared {
                    Some(bytes) if chunks.len() == 1 => story.fetches.on_released(bytes),
                    Some(_) => {}
                    None => story.fetches.on_released(done.records.len()),
                }
            }
        }
        // A batch larger than a partition's share comes whole all the same, one of each partition at most.
        let over = batch.saturating_sub(story.fetches.kept_share()) * partitions as usize;
        assert!(most <= buffer + over, "{most} bytes with {partitions} partitions and batches of {batch}");
        assert!(turns > 50, "{turns} turns with {partitions} partitions and batches of {batch} bytes");
    }
}

#[test]
fn more_is_asked_for_at_a_time_over_a_long_way_and_less_when_handlers_are_slower() {
    let mut story = Story::new(1);
    story.fetches.config.buffer_bytes = 64 * MIB;
    let full = |story: &mut Story, time, handled: bool| {
        let plan = story.plan();
        let released = if handled { usize::MAX } else { 0 };
        story.fetches.on_released(released);
        story.now += Duration::from_millis(time);
        story.answer(&plan, records(0, large(plan.partitions[0].offset, plan.max_bytes)));
        story.fetches.on_chunk_done(&orders(0), AssignmentEpoch(1));
        plan.max_bytes
    };
    let usual = full(&mut story, 50, true);
    assert_eq!(full(&mut story, 50, true), 2 * usual);
    assert_eq!(full(&mut story, 50, false), 4 * usual);
    assert_eq!(full(&mut story, 2, true), 2 * usual, "something was left to handle when the answer came");
    assert_eq!(full(&mut story, 2, true), usual, "a short way");
}

#[test]
fn an_old_batch_is_no_news_at_the_end_of_the_log_and_damage_before_it() {
    let mut story = Story::new(1);
    let plan = story.plan();
    let old = |end| Answer { end, ..records(0, batch(5, 5, 5)) };
    assert!(matches!(story.answer(&plan, old(10))[..], [Outcome::End(..)]));
    assert_eq!(story.fetches.poll_plan(story.now), None, "after a pause");
    story.wait(Duration::from_millis(100));
    let plan = story.plan();
    assert!(matches!(story.answer(&plan, old(11))[..], [Outcome::End(..), Outcome::Malformed(_, _, 10, _)]));
}

#[test]
fn only_changes_are_named_in_a_session_and_a_lost_one_is_begun_anew() {
    let mut story = Story::new(2);
    let plan = story.plan();
    assert_eq!((plan.session.id, plan.session.epoch, plan.session.named.len()), (0, 0, 2));
    story.answer(&plan, records(0, batch(10, 5, 5)));
    let plan = story.plan();
    assert_eq!((plan.session.id, plan.session.epoch), (7, 1));
    let named: Vec<_> = plan.session.named.iter().map(|at| plan.partitions[*at].partition.partition).collect();
    assert_eq!((named, plan.partitions.len()), (vec![0], 2));
    story.fetches.on_refused(story.now, plan.id, SessionVerdict::NewSession);
    let plan = story.plan();
    assert_eq!((plan.session.epoch, plan.session.named.len()), (0, 2), "at once, and full");
    story.fetches.on_refused(story.now, plan.id, SessionVerdict::NewSession);
    assert_eq!(story.fetches.poll_plan(story.now), None, "a broker that refuses a full request rests");
}

#[test]
fn a_paused_partition_leaves_the_session_and_is_asked_for_again_at_its_place() {
    let mut story = Story::new(2);
    story.fetches.set_paused(&orders(0), AssignmentEpoch(9), true);
    let plan = story.plan();
    assert_eq!(plan.partitions.len(), 2, "another assignment");
    story.fetches.set_paused(&orders(0), AssignmentEpoch(1), true);
    assert_eq!(Story::chunks(&story.answer(&plan, records(0, batch(10, 5, 5)))), 1, "what comes is kept");
    let plan = story.plan();
    assert_eq!((plan.partitions.len(), plan.session.forgotten.len()), (1, 1));
    assert_eq!(plan.max_wait, Duration::from_millis(500), "nobody waits for it");
    story.fetches.set_paused(&orders(0), AssignmentEpoch(1), false);
    story.answer(&plan, records(1, Vec::new()));
    let plan = story.plan();
    let mut offsets: Vec<_> = plan.partitions.iter().map(|planned| planned.offset).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, [10, 15]);
}

/// Sends the partition to broker 3, a follower.
fn at_follower() -> Story {
    let mut story = Story::new(1);
    let plan = story.plan();
    story.answer(&plan, Answer { preferred: Some(3), ..records(0, Vec::new()) });
    story
}

#[test]
fn the_preferred_replica_is_read_until_its_lease_is_over() {
    let mut story = at_follower();
    let plan = story.plan();
    assert_eq!((plan.broker, plan.partitions[0].leader_epoch), (3, 5));
    assert_eq!(Story::chunks(&story.answer(&plan, records(0, batch(10, 5, 5)))), 1);
    assert_eq!(story.plan().broker, 3);
    let mut story = at_follower();
    story.now += Duration::from_secs(300);
    assert_eq!(story.plan().broker, 1);
}

#[test]
fn out_of_range_or_cut_at_a_follower_says_nothing_about_the_log() {
    let behind = error(0, ErrorCode::OFFSET_OUT_OF_RANGE);
    let shorter = Answer { diverging: Some((5, 8)), ..records(0, Vec::new()) };
    for answer in [behind, shorter] {
        let mut story = at_follower();
        let plan = story.plan();
        assert!(story.answer(&plan, answer).is_empty());
        let plan = story.plan();
        assert_eq!((plan.broker, plan.partitions[0].offset), (1, 10));
    }
}

#[test]
fn a_follower_that_fails_or_refuses_is_left_for_the_leader() {
    let mut story = at_follower();
    let plan = story.plan();
    story.fetches.on_failed(story.now, plan.id);
    assert_eq!(story.plan().broker, 1, "at once");
    let mut story = at_follower();
    let plan = story.plan();
    story.answer(&plan, error(0, ErrorCode::NOT_LEADER_OR_FOLLOWER));
    story.wait(Duration::from_millis(100));
    assert_eq!(story.plan().broker, 1);
}

/// Story: read 10 to 15 in epoch 5 and 15 to 20 in epoch 6; then a leader that never saw epoch 6 has epoch 5 up to 18. What
/// it has from 15 on was never read.
#[test]
fn the_common_history_ends_where_a_newer_epoch_was_read() {
    let mut story = Story::new(1);
    let plan = story.plan();
    story.answer(&plan, records(0, [batch(10, 5, 5), batch(15, 5, 6)].concat()));
    let plan = story.plan();
    let outcomes = story.answer(&plan, Answer { diverging: Some((5, 18)), ..records(0, Vec::new()) });
    assert!(matches!(outcomes[..], [Outcome::Diverged { position: 20, end: 15, epoch: 5, .. }]), "{outcomes:?}");
    story.fetches.set_position(story.now, &orders(0), AssignmentEpoch(1), 15, 5);
    let planned = story.plan().partitions[0].clone();
    assert_eq!((planned.offset, planned.last_fetched_epoch), (15, 5));
}
