//! Groups of KIP-848: the coordinator moves partitions one by one, and what stays is not disturbed.

#![allow(clippy::unwrap_used, reason = "a scenario cannot go on without its cluster")]

mod consumer_support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use consumer_support::{OFFSET_COMMIT, PATIENCE, Seen, client, cluster, committed, eventually, write};
use indelible::{Client, ConsumeError, ConsumerBuilder, ConsumerHandle, StopReason, Summary};
use proto_tests::fake::{FakeCluster, Fault, FaultAction};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const JOIN_GROUP: i16 = 11;
const CONSUMER_GROUP_HEARTBEAT: i16 = 68;
/// Kafka's NOT_COORDINATOR.
const NOT_COORDINATOR: i16 = 16;
/// Kafka's STALE_MEMBER_EPOCH.
const STALE_MEMBER_EPOCH: i16 = 113;

/// A consumer of group "billing" in the new protocol, and one that does not let a scenario wait.
fn billing(client: &Client) -> ConsumerBuilder {
    auto(client).property("group.protocol", "consumer")
}

/// As the protocol is chosen without a setting.
fn auto(client: &Client) -> ConsumerBuilder {
    client
        .consumer("billing")
        .topics(["orders"])
        .property("fetch.max.wait.ms", "50")
        .commit_interval(Duration::from_millis(50))
        .shutdown_timeout(Duration::from_secs(5))
}

struct Running {
    handle: ConsumerHandle,
    seen: Seen,
    task: JoinHandle<Result<Summary, ConsumeError>>,
}

impl Running {
    fn start(builder: ConsumerBuilder) -> Running {
        Running::holding(builder, -1, watch::channel(true).1)
    }

    /// Records of partition `held` wait in their handlers until the gate opens.
    fn holding(builder: ConsumerBuilder, held: i32, gate: watch::Receiver<bool>) -> Running {
        let consumer = builder.build().unwrap();
        let (handle, seen) = (consumer.handle(), Seen::default());
        let noting = seen.clone();
        let task = tokio::spawn(consumer.run(move |delivery| {
            noting.note(&delivery);
            let mut gate = gate.clone();
            async move {
                if delivery.partition() == held {
                    gate.wait_for(|open| *open).await.unwrap();
                }
                Ok::<(), String>(())
            }
        }));
        Running { handle, seen, task }
    }

    async fn stop(self) -> Vec<(i32, i64, String)> {
        self.handle.shutdown();
        assert_eq!(self.task.await.unwrap().unwrap().reason, StopReason::Shutdown);
        self.seen.all()
    }

    /// Partitions whose records were handled here.
    fn partitions(&self) -> Vec<i32> {
        let mut all: Vec<i32> = self.seen.all().into_iter().map(|(partition, _, _)| partition).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

fn fill(cluster: &FakeCluster, partitions: i32, value: &str) {
    (0..partitions).for_each(|partition| write(cluster, "orders", partition, &[value]));
}

fn requests(cluster: &FakeCluster, api: i16) -> u64 {
    cluster.look(|view| view.requests(api))
}

async fn until_shared(cluster: &FakeCluster, counts: &[usize]) {
    let sorted = || {
        let mut found = cluster.look(|view| view.assigned_counts("billing"));
        found.sort_unstable();
        found
    };
    eventually(&format!("partitions shared as {counts:?}"), || sorted() == counts).await;
}

/// How often each record was handled.
fn times(all: &[Vec<(i32, i64, String)>]) -> BTreeMap<(i32, i64), usize> {
    let mut times = BTreeMap::new();
    for (partition, offset, _) in all.iter().flatten() {
        *times.entry((*partition, *offset)).or_default() += 1;
    }
    times
}

#[tokio::test]
async fn the_new_protocol_is_taken_where_the_coordinator_has_it() {
    let cluster = cluster("orders", 2);
    fill(&cluster, 2, "a");
    let client = client(&cluster).await;
    let running = Running::start(auto(&client));
    eventually("both committed", || (0..2).all(|partition| committed(&cluster, partition) == Some(1))).await;
    assert_eq!(requests(&cluster, JOIN_GROUP), 0);
    assert!(requests(&cluster, CONSUMER_GROUP_HEARTBEAT) > 0);
    assert_eq!(running.handle.metrics().rebalances, 1);
    running.stop().await;
    assert!(cluster.look(|view| view.members("billing").is_empty()), "it has left");
}

#[tokio::test]
async fn the_classic_protocol_is_taken_where_it_is_asked_for_or_all_there_is() {
    for version in [None, Some(-1), Some(0)] {
        let cluster = cluster("orders", 1);
        cluster.limit_version(CONSUMER_GROUP_HEARTBEAT, version);
        fill(&cluster, 1, "a");
        let client = client(&cluster).await;
        // A setting that only the classic protocol has is a choice.
        let builder = auto(&client);
        let builder = if version.is_none() { builder.property("heartbeat.interval.ms", "50") } else { builder };
        let running = Running::start(builder);
        eventually("committed", || committed(&cluster, 0) == Some(1)).await;
        assert_eq!(requests(&cluster, CONSUMER_GROUP_HEARTBEAT), 0, "{version:?}");
        running.stop().await;
    }
}

#[tokio::test]
async fn a_group_of_classic_members_is_joined_as_one() {
    let cluster = cluster("orders", 2);
    fill(&cluster, 2, "a");
    let client = client(&cluster).await;
    let classic = Running::start(auto(&client).property("heartbeat.interval.ms", "50"));
    eventually("committed", || (0..2).all(|partition| committed(&cluster, partition) == Some(1))).await;
    let second = Running::start(auto(&client));
    eventually("a rebalance", || classic.handle.metrics().rebalances >= 2).await;
    fill(&cluster, 2, "b");
    eventually("committed", || (0..2).all(|partition| committed(&cluster, partition) == Some(2))).await;
    assert_eq!(second.partitions().len(), 1);
    second.stop().await;
    classic.stop().await;
    // Whoever asks for the new one, and cannot have it, is told.
    let classic = Running::start(auto(&client).property("heartbeat.interval.ms", "50"));
    eventually("a member", || !cluster.look(|view| view.members("billing").is_empty())).await;
    let error = billing(&client).run(|_| async { Ok::<(), String>(()) }).await.unwrap_err();
    assert!(error.to_string().contains("GROUP_ID_NOT_FOUND"), "{error}");
    classic.stop().await;
}

/// A second member joins while a handler holds a partition that has to move: that one moves when the handler is done and
/// its record is committed; the partition that stays goes on all the while.
#[tokio::test]
async fn a_partition_that_stays_is_not_paused_and_one_that_moves_waits_for_its_handler() {
    let cluster = cluster("orders", 2);
    fill(&cluster, 2, "a");
    let client = client(&cluster).await;
    let (go, gate) = watch::channel(false);
    // The coordinator takes away the last partition.
    let first = Running::holding(billing(&client), 1, gate);
    eventually("both at work", || first.seen.len() == 2).await;
    let second = Running::start(billing(&client));
    eventually("two members", || cluster.look(|view| view.members("billing").len()) == 2).await;
    let beats = requests(&cluster, CONSUMER_GROUP_HEARTBEAT);
    for round in 1..=5 {
        write(&cluster, "orders", 0, &["stays"]);
        eventually("the partition that stays goes on", || committed(&cluster, 0) == Some(1 + round)).await;
    }
    eventually("heartbeats go on", || requests(&cluster, CONSUMER_GROUP_HEARTBEAT) > beats + 10).await;
    assert!(committed(&cluster, 1).is_none_or(|offset| offset == 0), "at most where the group begins");
    assert_eq!(second.seen.len(), 0, "nothing moves before its handler is done");
    go.send(true).unwrap();
    write(&cluster, "orders", 1, &["moved"]);
    eventually("the other member goes on", || committed(&cluster, 1) == Some(2)).await;
    assert_eq!(first.handle.metrics().rebalances, 1, "nothing new was given to the first");
    let all = [first.stop().await, second.stop().await];
    assert!(times(&all).values().all(|count| *count == 1), "each record once: {all:?}");
    assert_eq!(all[1], [(1, 1, "moved".to_owned())]);
}

/// Members come and go in order: everything is handled once, whoever has it.
#[tokio::test]
async fn members_come_and_go_and_each_record_is_handled_once() {
    let cluster = cluster("orders", 6);
    let client = client(&cluster).await;
    let first = Running::start(billing(&client));
    until_shared(&cluster, &[6]).await;
    fill(&cluster, 6, "alone");
    let second = Running::start(billing(&client));
    fill(&cluster, 6, "two are coming");
    until_shared(&cluster, &[3, 3]).await;
    let third = Running::start(billing(&client));
    fill(&cluster, 6, "three are coming");
    until_shared(&cluster, &[2, 2, 2]).await;
    fill(&cluster, 6, "three");
    eventually("all committed", || (0..6).all(|partition| committed(&cluster, partition) == Some(4))).await;
    let second = second.stop().await;
    fill(&cluster, 6, "one has gone");
    until_shared(&cluster, &[3, 3]).await;
    let third = third.stop().await;
    fill(&cluster, 6, "two have gone");
    eventually("all committed", || (0..6).all(|partition| committed(&cluster, partition) == Some(6))).await;
    let times = times(&[first.stop().await, second, third]);
    assert_eq!(times.len(), 36);
    assert!(times.values().all(|count| *count == 1), "{times:?}");
}

/// A member that is cut off from its coordinator is given up after its session, and the other one takes over what it had.
/// What it goes on to handle is not committed; when it is back, it joins again.
#[tokio::test]
async fn a_silent_member_is_given_up_and_joins_again() {
    let cluster = FakeCluster::builder().brokers(3).consumer_session_timeout(Duration::from_secs(1)).start();
    cluster.create_topic("orders", 2);
    let named = |name| Client::builder(cluster.bootstrap()).client_id(name).build();
    let (one, two) = (named("one").await.unwrap(), named("two").await.unwrap());
    let first = Running::start(billing(&one));
    let second = Running::start(billing(&two));
    until_shared(&cluster, &[1, 1]).await;
    for api in [CONSUMER_GROUP_HEARTBEAT, OFFSET_COMMIT] {
        cluster.inject(Fault::always(FaultAction::DropBeforeApply).api(api).client_id("two"));
    }
    until_shared(&cluster, &[2]).await;
    fill(&cluster, 2, "a");
    eventually("both with the first", || first.partitions() == [0, 1]).await;
    eventually("both committed", || (0..2).all(|partition| committed(&cluster, partition) == Some(1))).await;
    // Where a group begins is committed by whoever begins.
    let commits = cluster.ledger().commits.into_iter().filter(|commit| commit.offset > 0);
    let members: BTreeSet<String> = commits.map(|commit| commit.member).collect();
    assert_eq!(members.len(), 1, "only the first has committed what was handled");
    cluster.clear_faults();
    until_shared(&cluster, &[1, 1]).await;
    fill(&cluster, 2, "b");
    eventually("both committed", || (0..2).all(|partition| committed(&cluster, partition) == Some(2))).await;
    assert!(second.handle.metrics().rebalances >= 2);
    first.stop().await;
    second.stop().await;
}

/// The coordinator takes a member out while its handler works: what it had is lost, the late completion has no effect, and
/// it is handled again under the next epoch.
#[tokio::test]
async fn a_fenced_member_loses_what_it_has_and_joins_again() {
    let cluster = cluster("orders", 1);
    fill(&cluster, 1, "a");
    let client = client(&cluster).await;
    let (go, gate) = watch::channel(false);
    let running = Running::holding(billing(&client), 0, gate);
    eventually("the handler is at work", || running.seen.len() == 1).await;
    let member = cluster.look(|view| view.members("billing")).remove(0);
    assert!(cluster.fence_member("billing", &member));
    eventually("a second assignment", || running.handle.metrics().rebalances >= 2).await;
    assert_eq!(cluster.look(|view| view.members("billing")), [member], "under the same id");
    go.send(true).unwrap();
    eventually("committed", || committed(&cluster, 0) == Some(1)).await;
    running.handle.shutdown();
    let summary = running.task.await.unwrap().unwrap();
    assert_eq!((summary.records, summary.discarded), (1, 1), "the late completion has no effect");
    assert_eq!(running.seen.len(), 2);
}

#[tokio::test]
async fn coordinator_moves() {
    let cluster = cluster("orders", 1);
    fill(&cluster, 1, "a");
    let client = client(&cluster).await;
    let running = Running::start(billing(&client));
    eventually("the first commit", || committed(&cluster, 0) == Some(1)).await;
    let old = cluster.look(|view| view.coordinator("billing")).unwrap();
    let new = cluster.brokers().into_iter().find(|broker| *broker != old).unwrap();
    cluster.move_coordinator("billing", new);
    fill(&cluster, 1, "b");
    eventually("a commit at the new coordinator", || committed(&cluster, 0) == Some(2)).await;
    let refusals = Fault::always(FaultAction::Error(NOT_COORDINATOR)).api(CONSUMER_GROUP_HEARTBEAT).times(3);
    let refusals = cluster.inject(refusals);
    eventually("refused", || cluster.look(|view| view.struck(refusals)) == 3).await;
    cluster.kill(new);
    fill(&cluster, 1, "c");
    eventually("a commit after the death", || committed(&cluster, 0) == Some(3)).await;
    assert_eq!(running.handle.metrics().rebalances, 1, "a coordinator's move costs no partition");
    assert_eq!(running.stop().await.len(), 3);
}

/// Answers to heartbeats are lost, after their effect: nothing of it is lost or handled twice.
#[tokio::test]
async fn lost_answers_of_heartbeats_cost_nothing() {
    let cluster = cluster("orders", 4);
    fill(&cluster, 4, "a");
    let client = client(&cluster).await;
    let fault = || {
        let fault = Fault::always(FaultAction::DropAfterApply).api(CONSUMER_GROUP_HEARTBEAT);
        cluster.inject(fault.times(2))
    };
    fault();
    let first = Running::start(billing(&client));
    eventually("all committed", || (0..4).all(|partition| committed(&cluster, partition) == Some(1))).await;
    let second = Running::start(billing(&client));
    for round in 2..6 {
        let fault = fault();
        eventually("lost", || cluster.look(|view| view.struck(fault)) == 2).await;
        fill(&cluster, 4, "b");
        eventually("all committed", || (0..4).all(|partition| committed(&cluster, partition) == Some(round))).await;
    }
    until_shared(&cluster, &[2, 2]).await;
    let times = times(&[first.stop().await, second.stop().await]);
    assert!(times.values().all(|count| *count == 1), "{times:?}");
    assert_eq!(times.len(), 20);
}

/// A coordinator says that the epoch of a commit is stale: nothing is lost, and it goes through later.
#[tokio::test]
async fn a_commit_of_a_stale_epoch_is_repeated() {
    let cluster = cluster("orders", 1);
    let client = client(&cluster).await;
    let stale = Fault::always(FaultAction::Error(STALE_MEMBER_EPOCH)).api(OFFSET_COMMIT).times(3);
    let stale = cluster.inject(stale);
    let running = Running::start(billing(&client));
    fill(&cluster, 1, "a");
    eventually("refused", || cluster.look(|view| view.struck(stale)) == 3).await;
    eventually("committed", || committed(&cluster, 0) == Some(1)).await;
    assert_eq!(running.handle.metrics().rebalances, 1);
    assert_eq!(running.stop().await.len(), 1);
}

/// The epoch changes while a last commit is refused as stale: it is repeated under the new one.
#[tokio::test]
async fn a_last_commit_goes_under_the_newest_epoch() {
    let cluster = cluster("orders", 2);
    let client = client(&cluster).await;
    let first = Running::start(billing(&client).commit_interval(Duration::from_secs(60)));
    until_shared(&cluster, &[2]).await;
    fill(&cluster, 2, "a");
    eventually("handled", || first.seen.len() == 2).await;
    let member = cluster.look(|view| view.members("billing")).remove(0);
    let epoch = cluster.look(|view| view.member_epoch("billing", &member)).unwrap();
    cluster.inject(Fault::always(FaultAction::Error(STALE_MEMBER_EPOCH)).api(OFFSET_COMMIT));
    first.handle.shutdown();
    // Somebody else's topic changes the group's epoch, and nothing of the assignment.
    let other = client.consumer("billing").topics(["nothing-there"]).property("group.protocol", "consumer");
    let other = Running::start(other);
    let now = || cluster.look(|view| view.member_epoch("billing", &member)).unwrap();
    eventually("a new epoch", || now() > epoch).await;
    cluster.clear_faults();
    assert_eq!(first.task.await.unwrap().unwrap().reason, StopReason::Shutdown);
    assert_eq!([0, 1].map(|partition| committed(&cluster, partition)), [Some(1); 2]);
    let commits = cluster.ledger().commits;
    assert!(commits.iter().filter(|commit| commit.offset > 0).all(|commit| commit.generation > epoch), "{commits:?}");
    other.stop().await;
}

/// A static member is restarted: its partitions wait for it, and the other member keeps its own.
#[tokio::test]
async fn a_static_member_comes_back_to_its_partitions() {
    let cluster = cluster("orders", 2);
    let client = client(&cluster).await;
    let first = Running::start(billing(&client).instance_id("one"));
    let second = Running::start(billing(&client).instance_id("two"));
    until_shared(&cluster, &[1, 1]).await;
    fill(&cluster, 2, "a");
    eventually("committed", || (0..2).all(|partition| committed(&cluster, partition) == Some(1))).await;
    let (mine, rebalances) = (first.partitions(), second.handle.metrics().rebalances);
    first.stop().await;
    assert_eq!(cluster.look(|view| view.members("billing").len()), 2, "its place is kept");
    let first = Running::start(billing(&client).instance_id("one"));
    fill(&cluster, 2, "b");
    eventually("committed", || (0..2).all(|partition| committed(&cluster, partition) == Some(2))).await;
    assert_eq!(first.partitions(), mine);
    assert_eq!(second.handle.metrics().rebalances, rebalances);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn topics_come_by_pattern_and_partitions_are_added() {
    let cluster = cluster("orders", 1);
    fill(&cluster, 1, "a");
    let client = client(&cluster).await;
    let builder = client.consumer("billing").pattern("ord.*").property("group.protocol", "consumer");
    let running = Running::start(builder.commit_interval(Duration::from_millis(50)));
    eventually("the first", || running.seen.len() == 1).await;
    cluster.add_partitions("orders", 2);
    write(&cluster, "orders", 1, &["added"]);
    eventually("the added partition", || running.seen.len() == 2).await;
    cluster.create_topic("ordinary", 1);
    write(&cluster, "ordinary", 0, &["new"]);
    eventually("the new topic", || running.seen.len() == 3).await;
    assert_eq!(running.stop().await.len(), 3);
}

#[tokio::test]
async fn what_the_coordinator_says_against_a_member_is_told() {
    let cluster = cluster("orders", 1);
    let client = client(&cluster).await;
    let builder = billing(&client).property("group.remote.assignor", "nonsense");
    let error = builder.run(|_| async { Ok::<(), String>(()) }).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ConsumeError::Group { .. }), "{error:?}");
    assert!(text.contains("UNSUPPORTED_ASSIGNOR") && text.contains("refused by the fake cluster"), "{text}");
}

/// The coordinator matches a pattern with Kafka's own topics too. Read, the one that keeps commits would never end: each of
/// ours is a record of it.
#[tokio::test]
async fn a_pattern_never_reads_kafkas_own_topics() {
    let cluster = cluster("orders", 1);
    for own in ["__consumer_offsets", "__transaction_state", "__share_group_state"] {
        cluster.create_topic(own, 2);
        write(&cluster, own, 0, &["not for applications"]);
    }
    write(&cluster, "orders", 0, &["a", "b"]);
    let client = client(&cluster).await;
    let seen = Seen::default();
    let noting = seen.clone();
    let builder = client.consumer("billing").pattern(".*").property("group.protocol", "consumer");
    let run = builder.stop_at_end().run(move |delivery| {
        noting.note(&delivery);
        async { Ok::<(), String>(()) }
    });
    let summary = tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap();
    assert_eq!((summary.reason, seen.values()), (StopReason::End, vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(committed(&cluster, 0), Some(2));
    assert_eq!(cluster.ledger().committed("billing", "__consumer_offsets", 0), None);
}

/// Its offsets are nobody's any more: nothing waits for their last commit, and least of all what comes in its place.
#[tokio::test]
async fn a_deleted_topic_holds_nothing_up() {
    let cluster = cluster("orders", 1);
    fill(&cluster, 1, "a");
    let client = client(&cluster).await;
    // Handled, and not committed when the topic goes.
    let builder = billing(&client).topics(["returns"]).commit_interval(Duration::from_secs(3600));
    let running = Running::start(builder);
    eventually("the record", || running.seen.len() == 1).await;
    cluster.delete_topic("orders");
    cluster.create_topic("returns", 1);
    write(&cluster, "returns", 0, &["b"]);
    eventually("the record of the other topic", || running.seen.len() == 2).await;
    running.stop().await;
}
