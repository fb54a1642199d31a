//! Stories of a member on a made-up clock.

use super::*;

const INTERVAL: Duration = Duration::from_secs(5);
const ORDERS: TopicId = TopicId([1; 16]);
const PAYMENTS: TopicId = TopicId([2; 16]);

struct Story {
    member: NextMember,
    now: Instant,
}

impl Story {
    fn new() -> Story {
        Story::with(false)
    }

    #[allow(clippy::disallowed_methods, reason = "any instant will do as the beginning of a made-up clock")]
    fn with(is_static: bool) -> Story {
        let now = Instant::now();
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let mut story = Story { member: NextMember::new(NextConfig { is_static, backoff, random: [7; 16] }, now), now };
        story.coordinator(false);
        story
    }

    /// A member that owns these partitions of orders, and whose coordinator knows that.
    fn owning(partitions: &[i32]) -> Story {
        let mut story = Story::new();
        let (id, _) = story.beat();
        story.answer(id, 1, Some(&[(ORDERS, partitions)]));
        story.resolve(&[(ORDERS, "orders")]);
        story.assigned(&[("orders", partitions)]);
        let (id, beat) = story.beat();
        assert_eq!(beat.owned, Some(vec![(ORDERS, partitions.to_vec())]), "told at once");
        story.answer(id, 1, None);
        story.nothing();
        story
    }

    fn next(&mut self) -> Action {
        self.member.poll_action().expect("an action")
    }

    fn nothing(&mut self) {
        assert_eq!(self.member.poll_action(), None);
    }

    fn after(&mut self, time: Duration) {
        self.now += time;
        self.member.handle_timeout(self.now);
    }

    /// Goes to when the member wants to be called.
    fn wake(&mut self) {
        let at = self.member.poll_timeout().expect("something to wait for");
        self.after(at.saturating_duration_since(self.now));
    }

    fn coordinator(&mut self, expect_moved: bool) {
        let Action::FindCoordinator { id, moved } = self.next() else { panic!("no look-up") };
        assert_eq!(moved, expect_moved);
        self.member.on_coordinator(self.now, id, true);
    }

    fn beat(&mut self) -> (RequestId, Beat) {
        match self.next() {
            Action::ConsumerHeartbeat { id, beat } => (id, beat),
            other => panic!("{other:?}"),
        }
    }

    fn beaten(error: ErrorCode, epoch: i32, assignment: Option<&[(TopicId, &[i32])]>) -> Beaten {
        let assignment = assignment.map(|topics| topics.iter().map(|(id, list)| (*id, list.to_vec())).collect());
        Beaten { error, message: String::new(), epoch, interval: INTERVAL, assignment }
    }

    fn answer(&mut self, id: RequestId, epoch: i32, assignment: Option<&[(TopicId, &[i32])]>) {
        self.member.on_beaten(self.now, id, Story::beaten(ErrorCode::NONE, epoch, assignment));
    }

    fn refuse(&mut self, id: RequestId, error: ErrorCode) {
        self.member.on_beaten(self.now, id, Story::beaten(error, 0, None));
    }

    /// The next heartbeat, after its interval, is answered so.
    fn told(&mut self, epoch: i32, assignment: Option<&[(TopicId, &[i32])]>) {
        self.after(INTERVAL);
        let (id, beat) = self.beat();
        assert_eq!((beat.full, beat.owned), (false, None), "nothing has changed");
        self.answer(id, epoch, assignment);
    }

    fn resolve(&mut self, names: &[(TopicId, &str)]) {
        let Action::ResolveTopics { id, .. } = self.next() else { panic!("no names are asked for") };
        let names = names.iter().map(|(id, name)| (*id, Arc::from(*name))).collect();
        self.member.on_resolved(self.now, id, names);
    }

    fn assigned(&mut self, expected: &[(&str, &[i32])]) {
        assert_eq!(self.next(), Action::Assign { partitions: named(expected) });
    }

    fn revoked(&mut self, expected: &[(&str, &[i32])], lost: bool) {
        assert_eq!(self.next(), Action::Revoke { partitions: named(expected), lost });
    }

    fn epoch(&self) -> Option<i32> {
        self.member.generation().map(|generation| generation.number)
    }
}

fn named(topics: &[(&str, &[i32])]) -> Vec<TopicPartition> {
    let of = |(topic, list): &(&str, &[i32])| {
        let topic: Arc<str> = Arc::from(*topic);
        list.iter().map(|partition| TopicPartition { topic: topic.clone(), partition: *partition }).collect::<Vec<_>>()
    };
    topics.iter().flat_map(of).collect()
}

#[test]
fn a_member_joins_with_an_id_of_its_own_and_tells_all_once() {
    let mut story = Story::new();
    let (id, beat) = story.beat();
    assert_eq!((beat.epoch, beat.full, &beat.owned), (0, true, &Some(Vec::new())));
    assert_eq!(beat.member_id, "07070707-0707-4707-8707-070707070707");
    assert_eq!(story.epoch(), None, "nothing can be committed yet");
    story.answer(id, 3, Some(&[(ORDERS, &[0, 1])]));
    story.resolve(&[(ORDERS, "orders")]);
    story.assigned(&[("orders", &[0, 1])]);
    assert_eq!(story.epoch(), Some(3));
    let (id, beat) = story.beat();
    assert_eq!((beat.epoch, beat.full, beat.owned), (3, false, Some(vec![(ORDERS, vec![0, 1])])));
    story.answer(id, 3, None);
    assert_eq!(story.member.poll_timeout(), Some(story.now + INTERVAL), "as often as the broker says");
    story.told(4, None);
    story.nothing();
    assert_eq!(story.epoch(), Some(4), "a new epoch alone changes nothing but commits");
}

#[test]
fn what_stays_is_untouched_and_what_goes_is_acknowledged_when_it_is_done() {
    let mut story = Story::owning(&[0, 1, 2]);
    story.told(1, Some(&[(ORDERS, &[0, 2])]));
    story.revoked(&[("orders", &[1])], false);
    story.nothing();
    // Handlers take their time: heartbeats go on and still claim nothing new.
    for _ in 0..3 {
        story.told(1, None);
        story.nothing();
    }
    assert_eq!(story.epoch(), Some(1), "what was handled is committed meanwhile");
    story.member.on_revoked(story.now);
    let (id, beat) = story.beat();
    assert_eq!(beat.owned, Some(vec![(ORDERS, vec![0, 2])]));
    story.answer(id, 2, Some(&[(ORDERS, &[0, 2]), (PAYMENTS, &[5])]));
    story.resolve(&[(PAYMENTS, "payments")]);
    story.assigned(&[("payments", &[5])]);
    let (_, beat) = story.beat();
    assert_eq!((beat.epoch, beat.owned), (2, Some(vec![(ORDERS, vec![0, 2]), (PAYMENTS, vec![5])])));
}

#[test]
fn a_newer_assignment_during_a_revocation_waits_for_its_end() {
    let mut story = Story::owning(&[0, 1, 2]);
    story.told(1, Some(&[(ORDERS, &[0, 2])]));
    story.revoked(&[("orders", &[1])], false);
    story.told(1, Some(&[(ORDERS, &[0, 1])]));
    story.nothing();
    story.member.on_revoked(story.now);
    story.revoked(&[("orders", &[2])], false);
    story.member.on_revoked(story.now);
    // 1 comes back, as a new beginning.
    story.assigned(&[("orders", &[1])]);
    assert_eq!(story.beat().1.owned, Some(vec![(ORDERS, vec![0, 1])]));
}

#[test]
fn a_fenced_member_loses_all_and_joins_again_under_its_id() {
    for code in [ErrorCode::FENCED_MEMBER_EPOCH, ErrorCode::UNKNOWN_MEMBER_ID] {
        let mut story = Story::owning(&[0, 1]);
        story.after(INTERVAL);
        let (id, first) = story.beat();
        story.refuse(id, code);
        story.revoked(&[("orders", &[0, 1])], true);
        assert_eq!(story.epoch(), None);
        story.nothing();
        story.member.on_revoked(story.now);
        let (id, beat) = story.beat();
        assert_eq!((beat.epoch, beat.full, beat.owned), (0, true, Some(Vec::new())));
        assert_eq!(beat.member_id, first.member_id);
        story.answer(id, 7, Some(&[(ORDERS, &[1])]));
        story.assigned(&[("orders", &[1])]);
    }
}

#[test]
fn fenced_while_giving_back_all_is_lost() {
    let mut story = Story::owning(&[0, 1]);
    story.told(1, Some(&[(ORDERS, &[0])]));
    story.revoked(&[("orders", &[1])], false);
    story.after(INTERVAL);
    let (id, _) = story.beat();
    story.refuse(id, ErrorCode::FENCED_MEMBER_EPOCH);
    story.revoked(&[("orders", &[0, 1])], true);
    story.member.on_revoked(story.now);
    assert_eq!(story.beat().1.epoch, 0);
}

#[test]
fn a_fenced_commit_is_as_good_as_a_fenced_heartbeat() {
    let mut story = Story::owning(&[0]);
    let generation = story.member.generation().unwrap();
    story.told(2, None);
    // Late news of the old epoch mean nothing.
    story.member.on_commit_refused(story.now, &generation, ErrorCode::UNKNOWN_MEMBER_ID);
    story.nothing();
    let generation = story.member.generation().unwrap();
    story.member.on_commit_refused(story.now, &generation, ErrorCode::UNKNOWN_MEMBER_ID);
    story.revoked(&[("orders", &[0])], true);
}

#[test]
fn a_group_that_is_gone_is_joined_again_and_one_of_the_other_protocol_is_not_joined() {
    let mut story = Story::owning(&[0]);
    story.after(INTERVAL);
    let (id, _) = story.beat();
    story.refuse(id, ErrorCode::GROUP_ID_NOT_FOUND);
    story.revoked(&[("orders", &[0])], true);
    story.member.on_revoked(story.now);
    assert_eq!(story.beat().1.epoch, 0);
    let mut story = Story::new();
    let (id, _) = story.beat();
    story.refuse(id, ErrorCode::GROUP_ID_NOT_FOUND);
    assert!(matches!(story.next(), Action::Fail(GroupFailure { code: Some(ErrorCode::GROUP_ID_NOT_FOUND), .. })));
    assert!(!story.member.has_joined());
}

#[test]
fn after_a_lost_answer_all_is_told_again() {
    let mut story = Story::owning(&[0, 1]);
    story.after(INTERVAL);
    let (id, _) = story.beat();
    story.member.on_unanswered(story.now, id);
    story.nothing();
    story.wake();
    story.coordinator(true);
    let (id, beat) = story.beat();
    assert_eq!((beat.epoch, beat.full, beat.owned), (1, true, Some(vec![(ORDERS, vec![0, 1])])));
    // The lost answer had an assignment; a full heartbeat brings it again.
    story.answer(id, 2, Some(&[(ORDERS, &[0, 1, 2])]));
    story.assigned(&[("orders", &[2])]);
}

#[test]
fn a_moved_coordinator_costs_a_look_up_and_nothing_else() {
    let mut story = Story::owning(&[0]);
    story.after(INTERVAL);
    let (id, _) = story.beat();
    story.refuse(id, ErrorCode::NOT_COORDINATOR);
    assert_eq!(story.epoch(), Some(1));
    story.nothing();
    story.wake();
    story.coordinator(true);
    let (id, beat) = story.beat();
    assert_eq!((beat.epoch, beat.full), (1, true));
    story.refuse(id, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    story.nothing();
    story.wake();
    let (id, _) = story.beat();
    story.answer(id, 1, Some(&[(ORDERS, &[0])]));
    story.nothing();
}

#[test]
fn leaving_gives_back_what_is_held_and_then_leaves() {
    for (is_static, epoch) in [(false, -1), (true, -2)] {
        let mut story = Story::with(is_static);
        let (id, _) = story.beat();
        story.answer(id, 1, Some(&[(ORDERS, &[0])]));
        story.resolve(&[(ORDERS, "orders")]);
        story.assigned(&[("orders", &[0])]);
        let (id, _) = story.beat();
        story.member.leave(story.now);
        story.revoked(&[("orders", &[0])], false);
        story.answer(id, 2, Some(&[(ORDERS, &[0, 1])]));
        story.nothing();
        assert_eq!(story.epoch(), Some(2), "the last commit goes under the newest epoch");
        story.member.on_revoked(story.now);
        let (id, beat) = story.beat();
        assert_eq!(beat.epoch, epoch);
        assert_eq!(story.epoch(), None);
        story.answer(id, epoch, None);
        assert!(story.member.is_over());
        assert_eq!(story.member.poll_timeout(), None);
    }
}

#[test]
fn leaving_while_something_is_given_back_takes_both_one_after_the_other() {
    let mut story = Story::owning(&[0, 1]);
    story.told(1, Some(&[(ORDERS, &[0])]));
    story.revoked(&[("orders", &[1])], false);
    story.member.leave(story.now);
    story.nothing();
    story.member.on_revoked(story.now);
    story.revoked(&[("orders", &[0])], false);
    story.member.on_revoked(story.now);
    assert_eq!(story.beat().1.epoch, -1);
}

#[test]
fn a_member_that_never_spoke_has_nothing_to_leave_and_one_that_asked_to_join_has() {
    let mut story = Story::new();
    let (_, beat) = story.beat();
    assert_eq!(beat.epoch, 0);
    story.member.leave(story.now);
    let (id, beat) = story.beat();
    assert_eq!(beat.epoch, -1, "the join may have had its effect");
    story.member.on_unanswered(story.now, id);
    assert!(story.member.is_over());
    let config = NextConfig { is_static: false, backoff: story.member.config.backoff, random: [7; 16] };
    let mut silent = NextMember::new(config, story.now);
    silent.leave(story.now);
    assert!(silent.is_over());
}

#[test]
fn a_topic_without_a_name_holds_up_nothing_else() {
    let mut story = Story::new();
    let (id, _) = story.beat();
    story.answer(id, 1, Some(&[(ORDERS, &[0]), (PAYMENTS, &[0])]));
    story.resolve(&[(ORDERS, "orders")]);
    story.assigned(&[("orders", &[0])]);
    let (id, beat) = story.beat();
    assert_eq!(beat.owned, Some(vec![(ORDERS, vec![0])]), "only what is read is owned");
    story.answer(id, 1, None);
    story.nothing();
    story.wake();
    let Action::ResolveTopics { id, topics } = story.next() else { panic!("not asked again") };
    assert_eq!(topics, BTreeSet::from([PAYMENTS]));
    // The topic goes away before its name comes.
    story.told(2, Some(&[(ORDERS, &[0])]));
    story.member.on_resolved(story.now, id, BTreeMap::from([(PAYMENTS, Arc::from("payments"))]));
    story.nothing();
}

#[test]
fn a_topic_made_again_under_its_name_is_given_back_and_begun() {
    let mut story = Story::owning(&[0]);
    story.told(2, Some(&[(PAYMENTS, &[0])]));
    story.revoked(&[("orders", &[0])], false);
    story.member.on_revoked(story.now);
    let Action::ResolveTopics { id, .. } = story.next() else { panic!("no names are asked for") };
    assert_eq!(story.beat().1.owned, Some(Vec::new()), "what is given back is told before names come");
    story.member.on_resolved(story.now, id, BTreeMap::from([(PAYMENTS, Arc::from("orders"))]));
    story.assigned(&[("orders", &[0])]);
}

#[test]
fn an_instance_id_in_use_is_waited_for_but_not_for_ever() {
    let mut story = Story::with(true);
    let began = story.now;
    loop {
        let (id, beat) = story.beat();
        assert_eq!(beat.epoch, 0);
        story.refuse(id, ErrorCode::UNRELEASED_INSTANCE_ID);
        if story.member.is_over() {
            break;
        }
        assert!(story.now < began + RELEASE + INTERVAL);
        story.wake();
    }
    assert!(story.now >= began + RELEASE);
    let Action::Fail(failure) = story.next() else { panic!("no failure") };
    assert_eq!(failure.code, Some(ErrorCode::UNRELEASED_INSTANCE_ID));
}

#[test]
fn fatal_codes_stop_with_what_the_coordinator_said() {
    let mut story = Story::new();
    let (id, _) = story.beat();
    let refusal = Beaten {
        message: "assignor range is not supported".to_owned(),
        ..Story::beaten(ErrorCode::UNSUPPORTED_ASSIGNOR, 0, None)
    };
    story.member.on_beaten(story.now, id, refusal);
    let Action::Fail(failure) = story.next() else { panic!("no failure") };
    assert_eq!((failure.during, failure.code), ("ConsumerGroupHeartbeat", Some(ErrorCode::UNSUPPORTED_ASSIGNOR)));
    assert_eq!(failure.detail, "assignor range is not supported");
    story.nothing();
    assert!(story.member.is_over());
}

#[test]
fn answers_to_older_requests_mean_nothing() {
    let mut story = Story::owning(&[0]);
    story.after(INTERVAL);
    let (old, _) = story.beat();
    story.member.on_unanswered(story.now, old);
    story.refuse(old, ErrorCode::FENCED_MEMBER_EPOCH);
    story.nothing();
    assert_eq!(story.epoch(), Some(1));
}

/// Whatever a coordinator answers, in whatever order: never is something begun that is owned, or given back that is not;
/// never are two revocations under way that are not lost; the heartbeat names what was begun and not given back.
#[test]
fn any_coordinator_leaves_assignments_and_revocations_paired() {
    for seed in 1..=300_u64 {
        let mut random = crate::wire::test_random::Random(seed);
        let mut story = Story::new();
        let mut owned: BTreeSet<TopicPartition> = BTreeSet::new();
        let mut giving_back: Option<Vec<TopicPartition>> = None;
        let mut lost = false;
        let mut beats = Vec::new();
        let mut names = Vec::new();
        for _ in 0..200 {
            while let Some(action) = story.member.poll_action() {
                match action {
                    Action::FindCoordinator { id, .. } => story.member.on_coordinator(story.now, id, true),
                    Action::ConsumerHeartbeat { id, beat } => {
                        let told = beat.owned.iter().flatten().map(|(_, list)| list.len()).sum::<usize>();
                        assert!(beat.owned.is_none() || told == owned.len(), "seed {seed}: {beat:?}, {owned:?}");
                        assert!(beat.epoch != JOIN || beat.full && owned.is_empty(), "seed {seed}");
                        beats.push(id);
                    }
                    Action::ResolveTopics { id, topics } => names.push((id, topics)),
                    Action::Assign { partitions } => {
                        assert!(giving_back.is_none() && !partitions.is_empty(), "seed {seed}");
                        assert!(partitions.into_iter().all(|one| owned.insert(one)), "seed {seed}: begun twice");
                    }
                    Action::Revoke { partitions, lost: all } => {
                        assert!(partitions.iter().all(|one| owned.contains(one)), "seed {seed}: not ours");
                        assert!(all || giving_back.is_none(), "seed {seed}: two at a time");
                        assert!(!all || partitions.len() == owned.len(), "seed {seed}: a loss is of all");
                        giving_back = Some(partitions);
                        lost = all;
                    }
                    other => panic!("seed {seed}: {other:?}"),
                }
            }
            assert_eq!(story.member.poll_action(), None);
            match random.below(8) {
                0 | 1 if giving_back.is_some() => {
                    for partition in giving_back.take().unwrap() {
                        owned.remove(&partition);
                    }
                    lost = false;
                    story.member.on_revoked(story.now);
                }
                2 if !names.is_empty() => {
                    let (id, topics) = names.remove(0);
                    let known = topics.into_iter().filter(|_| random.below(3) > 0);
                    let known = known.map(|id| (id, Arc::from(if id == ORDERS { "orders" } else { "payments" })));
                    story.member.on_resolved(story.now, id, known.collect());
                }
                3 | 4 if !beats.is_empty() => {
                    let mut drawn = |id| (id, (0..4).filter(|_| random.below(2) == 0).collect::<Vec<_>>());
                    let (orders, payments) = (drawn(ORDERS), drawn(PAYMENTS));
                    let assignment = [(orders.0, &orders.1[..]), (payments.0, &payments.1[..])];
                    story.answer(beats.remove(0), 1 + random.below(9) as i32, Some(&assignment));
                }
                5 if !beats.is_empty() => {
                    let codes = [ErrorCode::FENCED_MEMBER_EPOCH, ErrorCode::NOT_COORDINATOR, ErrorCode(-1)];
                    story.refuse(beats.remove(0), codes[random.below(3)]);
                }
                6 if !beats.is_empty() => {
                    let id = beats.remove(0);
                    story.member.on_unanswered(story.now, id);
                }
                _ => {
                    story.after(Duration::from_secs(1));
                    assert!(!lost || story.member.generation().is_none(), "seed {seed}");
                }
            }
        }
    }
}
