//! Stories of a member on a made-up clock.

use super::*;

const HEARTBEAT: Duration = Duration::from_secs(3);

struct Story {
    group: Group,
    now: Instant,
}

impl Story {
    fn new() -> Story {
        Story::with(None)
    }

    fn with(instance_id: Option<&str>) -> Story {
        Story::offering(vec![Assignor::Range, Assignor::CooperativeSticky], instance_id)
    }

    #[allow(clippy::disallowed_methods, reason = "any instant will do as the beginning of a made-up clock")]
    fn offering(assignors: Vec<Assignor>, instance_id: Option<&str>) -> Story {
        let now = Instant::now();
        let config = GroupConfig {
            topics: vec![Arc::from("orders")],
            assignors,
            rack: None,
            instance_id: instance_id.map(Into::into),
            heartbeat_interval: HEARTBEAT,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(1)),
        };
        Story { group: Group::new(config, now), now }
    }

    fn next(&mut self) -> Action {
        self.group.poll_action().expect("an action")
    }

    fn nothing(&mut self) {
        assert_eq!(self.group.poll_action(), None);
    }

    fn after(&mut self, time: Duration) {
        self.now += time;
        self.group.handle_timeout(self.now);
    }

    fn coordinator(&mut self) {
        let Action::FindCoordinator { id, .. } = self.next() else { panic!("no look-up") };
        self.group.on_coordinator(self.now, id, true);
    }

    fn join_id(&mut self) -> (RequestId, String) {
        match self.next() {
            Action::Join { id, member_id, .. } => (id, member_id),
            other => panic!("{other:?}"),
        }
    }

    fn heartbeat(&mut self, error: ErrorCode) {
        self.after(HEARTBEAT);
        let Action::Heartbeat { id, .. } = self.next() else { panic!("no heartbeat") };
        self.group.on_heartbeat(self.now, id, error);
    }

    /// Joins as follower in `generation` and is given orders-0.
    fn settle_in(&mut self, generation: i32) {
        let (id, _) = self.join_id();
        self.group.on_joined(self.now, id, joined(generation, "someone-else", "m1"));
        let Action::Sync { id, assignments, .. } = self.next() else { panic!("no sync") };
        assert!(assignments.is_empty(), "only the leader assigns");
        let bytes = protocol::encode_assignment(&[TopicPartition::new("orders", 0)]);
        self.group.on_synced(self.now, id, ErrorCode::NONE, &bytes);
        match self.next() {
            Action::Assign { partitions } => assert_eq!(partitions, [TopicPartition::new("orders", 0)]),
            other => panic!("{other:?}"),
        }
    }

    fn gives_back(&mut self) {
        assert_eq!(self.next(), Action::Revoke { partitions: vec![TopicPartition::new("orders", 0)], lost: false });
    }

    fn loses(&mut self) {
        assert_eq!(self.next(), Action::Revoke { partitions: vec![TopicPartition::new("orders", 0)], lost: true });
    }

    fn stable(instance_id: Option<&str>) -> Story {
        let mut story = Story::with(instance_id);
        story.coordinator();
        story.settle_in(7);
        story
    }
}

fn subscribed(topics: &[&str]) -> Bytes {
    let topics = topics.iter().map(|topic| Arc::from(*topic)).collect();
    protocol::encode_subscription(&Subscription { topics, ..Subscription::default() })
}

fn joined(generation: i32, leader: &str, member_id: &str) -> Joined {
    Joined {
        error: ErrorCode::NONE,
        generation,
        protocol: "range".into(),
        leader: leader.into(),
        member_id: member_id.into(),
        skip_assignment: false,
        members: Vec::new(),
    }
}

fn refused(error: ErrorCode, member_id: &str) -> Joined {
    Joined { error, ..joined(-1, "", member_id) }
}

#[test]
fn the_first_join_is_told_a_member_id_and_repeated_with_it() {
    let mut story = Story::new();
    story.coordinator();
    let (id, member_id) = story.join_id();
    assert_eq!(member_id, "");
    story.group.on_joined(story.now, id, refused(ErrorCode::MEMBER_ID_REQUIRED, "m1"));
    let (_, member_id) = story.join_id();
    assert_eq!(member_id, "m1");
}

#[test]
fn the_leader_assigns_and_a_grown_topic_makes_it_assign_anew() {
    let mut story = Story::new();
    story.coordinator();
    let (id, _) = story.join_id();
    let subscription = subscribed(&["orders"]);
    let members = vec![("m1".to_owned(), None, subscription.clone()), ("m2".to_owned(), None, subscription)];
    story.group.on_joined(story.now, id, Joined { members, ..joined(1, "m1", "m1") });
    let Action::CountPartitions { id, topics } = story.next() else { panic!() };
    assert_eq!(topics, BTreeSet::from([Arc::from("orders")]));
    story.group.on_counted(story.now, id, BTreeMap::from([(Arc::from("orders"), 3)]));
    let Action::Sync { id, assignments, .. } = story.next() else { panic!() };
    let given: Vec<usize> =
        assignments.iter().map(|(_, bytes)| protocol::decode_assignment(bytes).unwrap().len()).collect();
    assert_eq!(given, [2, 1]);
    story.group.on_synced(story.now, id, ErrorCode::NONE, &assignments[0].1);
    let Action::Assign { partitions } = story.next() else { panic!() };

    story.group.on_counts_seen(story.now, &BTreeMap::from([(Arc::from("orders"), 3)]));
    story.group.on_counts_seen(story.now, &BTreeMap::new());
    story.nothing();
    story.group.on_counts_seen(story.now, &BTreeMap::from([(Arc::from("orders"), 4)]));
    assert_eq!(story.next(), Action::Revoke { partitions, lost: false });
}

#[test]
fn a_rebalance_waits_for_the_handlers_while_heartbeats_go_on() {
    let mut story = Story::stable(None);
    story.heartbeat(ErrorCode::NONE);
    story.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
    story.gives_back();
    assert_eq!(story.group.generation().unwrap().number, 7, "commits still name the old generation");
    story.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
    story.nothing();
    story.group.on_revoked(story.now);
    assert_eq!(story.group.generation(), None);
    story.settle_in(8);
}

#[test]
fn a_forgotten_member_has_lost_its_partitions_and_its_id() {
    let mut story = Story::stable(None);
    story.heartbeat(ErrorCode::UNKNOWN_MEMBER_ID);
    story.loses();
    assert_eq!(story.group.generation(), None, "nothing can be committed");
    story.group.on_revoked(story.now);
    assert_eq!(story.join_id().1, "");
}

#[test]
fn a_commit_of_an_old_generation_loses_the_assignment_and_keeps_the_id() {
    let mut story = Story::stable(None);
    let generation = story.group.generation().unwrap();
    story.group.on_commit_refused(story.now, &generation, ErrorCode::ILLEGAL_GENERATION);
    story.loses();
    story.group.on_revoked(story.now);
    assert_eq!(story.join_id().1, "m1");
    story.group.on_commit_refused(story.now, &generation, ErrorCode::ILLEGAL_GENERATION);
    story.nothing();
}

#[test]
fn a_generation_lost_while_handlers_finish_is_told() {
    let mut story = Story::stable(None);
    story.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
    story.gives_back();
    story.heartbeat(ErrorCode::UNKNOWN_MEMBER_ID);
    story.loses();
}

#[test]
fn the_coordinator_moves_and_the_assignment_stays() {
    let mut story = Story::stable(None);
    story.heartbeat(ErrorCode::NOT_COORDINATOR);
    story.nothing();
    story.after(Duration::from_millis(100));
    let Action::FindCoordinator { id, moved } = story.next() else { panic!() };
    assert!(moved);
    story.group.on_coordinator(story.now, id, false);
    story.nothing();
    story.after(Duration::from_millis(200));
    story.coordinator();
    story.nothing();
    assert!(story.group.generation().is_some());
    story.heartbeat(ErrorCode::NONE);
}

#[test]
fn a_heartbeat_without_answer_costs_a_look_up_and_no_assignment() {
    let mut story = Story::stable(None);
    story.after(HEARTBEAT);
    let Action::Heartbeat { id, .. } = story.next() else { panic!() };
    story.group.on_unanswered(story.now, id);
    story.after(Duration::from_millis(100));
    story.coordinator();
    let Action::Heartbeat { id: again, .. } = story.next() else { panic!() };
    story.group.on_heartbeat(story.now, id, ErrorCode::UNKNOWN_MEMBER_ID); // the late answer to the first
    story.nothing();
    story.group.on_heartbeat(story.now, again, ErrorCode::NONE);
    assert!(story.group.generation().is_some());
}

#[test]
fn a_loading_coordinator_is_asked_again_after_a_pause() {
    let mut story = Story::new();
    story.coordinator();
    let (id, _) = story.join_id();
    story.group.on_joined(story.now, id, refused(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, ""));
    story.nothing();
    assert_eq!(story.group.poll_timeout(), Some(story.now + Duration::from_millis(100)));
    story.after(Duration::from_millis(100));
    story.join_id();
}

#[test]
fn the_group_moves_on_between_join_and_sync() {
    let mut story = Story::new();
    story.coordinator();
    let (id, _) = story.join_id();
    story.group.on_joined(story.now, id, joined(1, "other", "m1"));
    let Action::Sync { id, .. } = story.next() else { panic!() };
    story.group.on_synced(story.now, id, ErrorCode::REBALANCE_IN_PROGRESS, b"");
    assert_eq!(story.join_id().1, "m1");
}

#[test]
fn a_fenced_instance_stops_for_good() {
    let mut story = Story::stable(Some("billing-1"));
    story.heartbeat(ErrorCode::FENCED_INSTANCE_ID);
    let Action::Fail(failure) = story.next() else { panic!() };
    assert_eq!((failure.during, failure.code), ("Heartbeat", Some(ErrorCode::FENCED_INSTANCE_ID)));
    assert!(story.group.is_over());
    assert_eq!(story.group.poll_timeout(), None);
}

#[test]
fn leaving_commits_first_and_a_static_member_does_not_leave() {
    let mut story = Story::stable(None);
    story.group.leave(story.now);
    story.gives_back();
    story.group.on_revoked(story.now);
    let Action::Leave { id, member_id } = story.next() else { panic!() };
    assert_eq!(member_id, "m1");
    story.group.on_left(id);
    assert!(story.group.is_over());

    let mut story = Story::stable(Some("billing-1"));
    story.group.leave(story.now);
    story.gives_back();
    story.group.on_revoked(story.now);
    story.nothing();
    assert!(story.group.is_over());
}

#[test]
fn hostile_subscription_bytes_of_another_member_stop_the_leader_with_its_name() {
    let mut story = Story::new();
    story.coordinator();
    let (id, _) = story.join_id();
    let members = vec![("m2".to_owned(), None, Bytes::from_static(b"\x00\x03\x7f\xff\xff\xff"))];
    story.group.on_joined(story.now, id, Joined { members, ..joined(1, "m1", "m1") });
    let Action::Fail(failure) = story.next() else { panic!() };
    assert!(failure.detail.contains("m2"));
}

/// Story: the coordinator refuses every join with a code that is answered by joining again; they went out as fast as
/// it answered.
#[test]
fn joins_that_go_on_being_refused_are_made_after_pauses() {
    for code in [ErrorCode::MEMBER_ID_REQUIRED, ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::REBALANCE_IN_PROGRESS] {
        let mut story = Story::new();
        story.coordinator();
        for _ in 0..REFUSALS_AT_ONCE {
            let (id, _) = story.join_id();
            story.group.on_joined(story.now, id, refused(code, "m1"));
        }
        let (id, _) = story.join_id();
        story.group.on_joined(story.now, id, refused(code, "m1"));
        story.nothing();
        assert_eq!(story.group.poll_timeout(), Some(story.now + Duration::from_millis(100)));
        story.after(Duration::from_millis(100));
        story.join_id();
    }
}

/// Story: a static leader restarts, finds the assignment in place, and never sees that its topic grew.
#[test]
fn a_leader_that_keeps_the_assignment_still_watches_its_topics() {
    let mut story = Story::with(Some("i1"));
    story.coordinator();
    let (id, _) = story.join_id();
    let subscription = subscribed(&["orders", "bills"]);
    let members = vec![("m1".to_owned(), Some("i1".to_owned()), subscription)];
    story.group.on_joined(story.now, id, Joined { members, skip_assignment: true, ..joined(4, "m1", "m1") });
    let Action::CountPartitions { id, topics } = story.next() else { panic!() };
    assert_eq!(topics.len(), 2);
    let counts = |orders| BTreeMap::from([(Arc::from("orders"), orders), (Arc::from("bills"), 1)]);
    story.group.on_counted(story.now, id, counts(2));
    let Action::Sync { id, assignments, .. } = story.next() else { panic!() };
    assert!(assignments.is_empty(), "the assignment stays");
    story.group.on_synced(story.now, id, ErrorCode::NONE, b"");
    assert!(matches!(story.next(), Action::Assign { .. }));
    assert_eq!(story.group.watched_topics().map(BTreeSet::len), Some(2));
    story.group.on_counts_seen(story.now, &counts(2));
    story.nothing();
    story.group.on_counts_seen(story.now, &counts(3));
    assert!(matches!(story.next(), Action::Revoke { lost: false, .. }));
}

/// Story: the coordinator cannot be looked up any more (a permission is gone), the consumer stops, and its end waits
/// for a leave that is never sent.
#[test]
fn a_member_whose_requests_are_impossible_does_not_wait_for_its_leave() {
    let mut story = Story::stable(None);
    story.after(HEARTBEAT);
    let Action::Heartbeat { .. } = story.next() else { panic!() };
    story.group.on_impossible(story.now);
    story.group.leave(story.now);
    assert!(matches!(story.next(), Action::Revoke { lost: false, .. }));
    story.group.on_revoked(story.now);
    assert!(story.group.is_over());
}

/// A member of a group in which nothing stops but what moves.
mod cooperative {
    use super::*;

    fn orders(partitions: &[i32]) -> Vec<TopicPartition> {
        partitions.iter().map(|partition| TopicPartition::new("orders", *partition)).collect()
    }

    impl Story {
        fn cooperative(instance_id: Option<&str>) -> Story {
            let mut story = Story::offering(vec![Assignor::CooperativeSticky], instance_id);
            story.coordinator();
            story
        }

        /// The join, and what it says that is owned.
        fn join(&mut self) -> (RequestId, Subscription) {
            match self.next() {
                Action::Join { id, protocols, .. } => {
                    assert_eq!(protocols.len(), 1);
                    (id, protocol::decode_subscription(&protocols[0].1).unwrap())
                }
                other => panic!("{other:?}"),
            }
        }

        fn answer_join(&mut self, id: RequestId, generation: i32) -> RequestId {
            let answer = Joined { protocol: "cooperative-sticky".into(), ..joined(generation, "someone-else", "m1") };
            self.group.on_joined(self.now, id, answer);
            match self.next() {
                Action::Sync { id, .. } => id,
                other => panic!("{other:?}"),
            }
        }

        fn answer_sync(&mut self, id: RequestId, partitions: &[i32]) {
            let bytes = protocol::encode_assignment(&orders(partitions));
            self.group.on_synced(self.now, id, ErrorCode::NONE, &bytes);
        }

        fn assigned(&mut self, partitions: &[i32]) {
            assert_eq!(self.next(), Action::Assign { partitions: orders(partitions) });
        }

        fn gives(&mut self, partitions: &[i32]) {
            assert_eq!(self.next(), Action::Revoke { partitions: orders(partitions), lost: false });
        }

        fn loses_all(&mut self, partitions: &[i32]) {
            assert_eq!(self.next(), Action::Revoke { partitions: orders(partitions), lost: true });
        }

        /// Stable in generation 1 with orders-0 to orders-2.
        fn owning(instance_id: Option<&str>) -> Story {
            let mut story = Story::cooperative(instance_id);
            let (id, _) = story.join();
            let id = story.answer_join(id, 1);
            story.answer_sync(id, &[0, 1, 2]);
            story.assigned(&[0, 1, 2]);
            story.nothing();
            story
        }

        fn number(&self) -> Option<i32> {
            self.group.generation().map(|generation| generation.number)
        }
    }

    #[test]
    fn only_what_moved_is_given_back_and_then_the_member_joins_again() {
        let mut story = Story::owning(None);
        story.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
        let (id, subscription) = story.join();
        assert_eq!((subscription.owned, subscription.generation), (orders(&[0, 1, 2]), Some(1)));
        assert_eq!(story.number(), Some(1), "commits go on in the old generation");
        let id = story.answer_join(id, 2);
        assert_eq!(story.number(), Some(2), "and then in the new one");
        story.answer_sync(id, &[0, 2, 5]);
        story.assigned(&[5]);
        story.gives(&[1]);
        story.nothing();
        story.heartbeat(ErrorCode::NONE);
        story.group.on_revoked(story.now);
        let (id, subscription) = story.join();
        assert_eq!((subscription.owned, subscription.generation), (orders(&[0, 2, 5]), Some(2)));
        let id = story.answer_join(id, 3);
        story.answer_sync(id, &[0, 2, 5]);
        story.assigned(&[]);
        story.nothing();
        story.heartbeat(ErrorCode::NONE);
        assert_eq!(story.number(), Some(3));
    }

    /// One assignor that is not cooperative makes the member eager, as in Java.
    #[test]
    fn a_member_that_offers_an_eager_assignor_too_gives_back_everything_first() {
        let mut story = Story::stable(None);
        story.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
        story.gives_back();
        story.group.on_revoked(story.now);
        let Action::Join { protocols, .. } = story.next() else { panic!() };
        let names: Vec<&str> = protocols.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["range", "cooperative-sticky"]);
        for (_, bytes) in protocols {
            assert_eq!(protocol::decode_subscription(&bytes).unwrap().owned, []);
        }
    }

    /// Story: the group goes on to the next generation while the answer to the join is under way, and a commit of the old
    /// one is refused. That is no loss.
    #[test]
    fn a_commit_that_is_overtaken_by_the_new_generation_loses_nothing() {
        let mut story = Story::owning(None);
        story.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
        let (id, _) = story.join();
        let old = story.group.generation().unwrap();
        story.group.on_commit_refused(story.now, &old, ErrorCode::ILLEGAL_GENERATION);
        story.nothing();
        let sync = story.answer_join(id, 2);
        story.group.on_commit_refused(story.now, &old, ErrorCode::ILLEGAL_GENERATION);
        let new = story.group.generation().unwrap();
        story.group.on_commit_refused(story.now, &new, ErrorCode::REBALANCE_IN_PROGRESS);
        story.nothing();
        story.answer_sync(sync, &[0, 1, 2]);
        story.assigned(&[]);
        story.group.on_commit_refused(story.now, &new, ErrorCode::ILLEGAL_GENERATION);
        story.loses_all(&[0, 1, 2]);
    }

    #[test]
    fn a_member_forgotten_in_the_middle_of_a_rebalance_has_lost_everything() {
        let mut story = Story::owning(None);
        story.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
        let (id, _) = story.join();
        story.group.on_joined(story.now, id, refused(ErrorCode::UNKNOWN_MEMBER_ID, ""));
        story.loses_all(&[0, 1, 2]);
        assert_eq!(story.number(), None);
        story.nothing();
        story.group.on_revoked(story.now);
        let (_, subscription) = story.join();
        assert_eq!((subscription.owned, subscription.generation), (vec![], None));
    }

    #[test]
    fn a_loss_while_some_are_given_back_takes_all() {
        let mut story = Story::owning(None);
        story.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
        let (id, _) = story.join();
        let id = story.answer_join(id, 2);
        story.answer_sync(id, &[0]);
        story.assigned(&[]);
        story.gives(&[1, 2]);
        story.heartbeat(ErrorCode::ILLEGAL_GENERATION);
        story.loses_all(&[0, 1, 2]);
        story.group.on_revoked(story.now);
        assert_eq!(story.join().1.owned, []);
    }

    /// Story: the group keeps the place of a static member that misses a rebalance, and gives what it says no more that it
    /// owns to others.
    #[test]
    fn a_static_member_that_missed_a_generation_believes_nothing_it_owned() {
        let mut story = Story::owning(Some("i1"));
        story.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
        let (id, _) = story.join();
        let answer = Joined { protocol: "cooperative-sticky".into(), ..joined(3, "someone-else", "m1") };
        story.group.on_joined(story.now, id, answer);
        story.loses_all(&[0, 1, 2]);
        story.group.on_revoked(story.now);
        assert_eq!(story.join().1.owned, []);
    }

    #[test]
    fn the_coordinator_moves_in_the_middle_of_a_rebalance_and_nothing_is_lost() {
        let mut story = Story::owning(None);
        story.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
        let (id, _) = story.join();
        story.group.on_unanswered(story.now, id);
        story.after(Duration::from_millis(100));
        story.coordinator();
        let (id, subscription) = story.join();
        assert_eq!(subscription.owned, orders(&[0, 1, 2]));
        let id = story.answer_join(id, 3);
        story.answer_sync(id, &[0, 1, 2]);
        story.assigned(&[]);
        story.nothing();
    }

    #[test]
    fn leaving_while_some_are_given_back_gives_back_all() {
        let mut story = Story::owning(None);
        story.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
        let (id, _) = story.join();
        let id = story.answer_join(id, 2);
        story.answer_sync(id, &[0, 1]);
        story.assigned(&[]);
        story.gives(&[2]);
        story.group.leave(story.now);
        story.gives(&[0, 1, 2]);
        story.group.on_revoked(story.now);
        assert!(matches!(story.next(), Action::Leave { .. }));
    }

    /// Story: a member is stopped while its join waits for others. It commits in the old generation, which is good until
    /// all have joined; it does not wait for them.
    #[test]
    fn leaving_in_the_middle_of_a_rebalance_commits_in_the_old_generation() {
        let mut story = Story::owning(None);
        story.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
        story.join();
        story.group.leave(story.now);
        story.gives(&[0, 1, 2]);
        assert_eq!(story.number(), Some(1));
        story.group.on_revoked(story.now);
        assert!(matches!(story.next(), Action::Leave { .. }));
    }

    /// Story: as above, but all have joined just then, so that the old generation is refused.
    #[test]
    fn leaving_when_all_have_joined_waits_for_the_new_generation() {
        for answer_first in [false, true] {
            let mut story = Story::owning(None);
            story.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
            let (id, _) = story.join();
            story.group.leave(story.now);
            story.gives(&[0, 1, 2]);
            let old = story.group.generation().unwrap();
            let id = if answer_first {
                let id = story.answer_join(id, 2);
                story.group.on_commit_refused(story.now, &old, ErrorCode::ILLEGAL_GENERATION);
                id
            } else {
                story.group.on_commit_refused(story.now, &old, ErrorCode::ILLEGAL_GENERATION);
                story.nothing();
                story.answer_join(id, 2)
            };
            assert!(!story.group.is_revoking(), "the driver keeps what it could not commit");
            story.answer_sync(id, &[0, 1]);
            story.assigned(&[]);
            story.gives(&[0, 1, 2]);
            assert_eq!(story.number(), Some(2));
            story.group.on_revoked(story.now);
            assert!(matches!(story.next(), Action::Leave { .. }));
        }
    }

    /// Story: the same, and the last commit came through before the group went on: there is nothing left to wait for.
    #[test]
    fn leaving_is_not_held_up_by_a_join_that_is_answered_late() {
        let mut story = Story::owning(None);
        story.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
        let (id, _) = story.join();
        story.group.leave(story.now);
        story.gives(&[0, 1, 2]);
        story.answer_join(id, 2);
        story.group.on_revoked(story.now);
        assert!(matches!(story.next(), Action::Leave { .. }));
    }

    #[test]
    fn leaving_between_join_and_sync_commits_when_the_group_has_synced() {
        let mut story = Story::owning(None);
        story.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
        let (id, _) = story.join();
        let id = story.answer_join(id, 2);
        story.group.leave(story.now);
        story.nothing();
        story.answer_sync(id, &[0, 1]);
        story.assigned(&[]);
        story.gives(&[0, 1, 2]);
    }

    #[test]
    fn topics_that_are_not_wanted_any_more_are_given_back_before_the_join() {
        let mut story = Story::owning(None);
        story.group.subscribe(story.now, vec![Arc::from("orders")]);
        story.nothing();
        story.group.subscribe(story.now, vec![Arc::from("orders"), Arc::from("bills")]);
        let (id, subscription) = story.join();
        assert_eq!(subscription.topics.len(), 2);
        story.group.subscribe(story.now, vec![Arc::from("bills")]);
        story.nothing();
        let id = story.answer_join(id, 2);
        story.answer_sync(id, &[0, 1, 2]);
        story.assigned(&[]);
        story.gives(&[0, 1, 2]);
        story.group.on_revoked(story.now);
        let (_, subscription) = story.join();
        assert_eq!((subscription.topics, subscription.owned), (vec![Arc::from("bills")], vec![]));
    }

    #[test]
    fn a_grown_topic_makes_the_leader_join_again_and_nothing_stops() {
        let mut story = Story::cooperative(None);
        let (id, _) = story.join();
        let members = vec![("m1".to_owned(), None, subscribed(&["orders"]))];
        let answer = Joined { members, protocol: "cooperative-sticky".into(), ..joined(1, "m1", "m1") };
        story.group.on_joined(story.now, id, answer);
        let Action::CountPartitions { id, .. } = story.next() else { panic!() };
        story.group.on_counted(story.now, id, BTreeMap::from([(Arc::from("orders"), 1)]));
        let Action::Sync { id, assignments, .. } = story.next() else { panic!() };
        story.group.on_synced(story.now, id, ErrorCode::NONE, &assignments[0].1);
        story.assigned(&[0]);
        story.group.on_counts_seen(story.now, &BTreeMap::from([(Arc::from("orders"), 2)]));
        let (_, subscription) = story.join();
        assert_eq!(subscription.owned, orders(&[0]));
    }
}

/// Story: a broker names an assignor that nobody offered; the member assigned by range all the same.
#[test]
fn an_assignor_that_was_not_offered_stops_the_member() {
    let mut story = Story::new();
    story.coordinator();
    let (id, _) = story.join_id();
    story.group.on_joined(story.now, id, Joined { protocol: "stream".into(), ..joined(1, "m1", "m1") });
    let Action::Fail(failure) = story.next() else { panic!() };
    assert!(failure.detail.contains("\"stream\" where range, cooperative-sticky"), "{}", failure.detail);
}

/// Story: members of a group with the sticky assignor give up everything before they join, so that what they had must be
/// in their user data.
#[test]
fn a_sticky_member_tells_what_it_had() {
    let mut story = Story::offering(vec![Assignor::Sticky], None);
    story.coordinator();
    let Action::Join { id, protocols, .. } = story.next() else { panic!() };
    assert_eq!(protocol::decode_subscription(&protocols[0].1).unwrap().user_data, None);
    story.group.on_joined(story.now, id, Joined { protocol: "sticky".into(), ..joined(4, "other", "m1") });
    let Action::Sync { id, .. } = story.next() else { panic!() };
    let bytes = protocol::encode_assignment(&[TopicPartition::new("orders", 0)]);
    story.group.on_synced(story.now, id, ErrorCode::NONE, &bytes);
    assert!(matches!(story.next(), Action::Assign { .. }));
    story.heartbeat(ErrorCode::REBALANCE_IN_PROGRESS);
    story.gives_back();
    story.group.on_revoked(story.now);
    let Action::Join { protocols, .. } = story.next() else { panic!() };
    let subscription = protocol::decode_subscription(&protocols[0].1).unwrap();
    assert_eq!(subscription.owned, []);
    let data = protocol::decode_sticky_data(&subscription.user_data.unwrap()).unwrap();
    assert_eq!((data.partitions, data.generation), (vec![TopicPartition::new("orders", 0)], Some(4)));
}
