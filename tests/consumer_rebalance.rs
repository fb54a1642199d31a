//! Partitions that move: what a member has not handled is never committed by it, and what comes late has no effect.

mod consumer_support;

use std::time::Duration;

use consumer_support::{HEARTBEAT, OFFSET_COMMIT, Seen, billing, client, cluster, committed, eventually, write};
use indelible::{Client, ConsumeError, ConsumerBuilder, StopReason};
use proto_tests::fake::{Fault, FaultAction, GroupPhase};
use tokio::sync::watch;

/// Kafka's ILLEGAL_GENERATION.
const ILLEGAL_GENERATION: i16 = 22;
/// Kafka's REBALANCE_IN_PROGRESS.
const REBALANCE_IN_PROGRESS: i16 = 27;
/// Kafka's COORDINATOR_LOAD_IN_PROGRESS.
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
/// Kafka's FENCED_INSTANCE_ID.
const FENCED_INSTANCE_ID: i16 = 82;
/// Kafka's NOT_COORDINATOR.
const NOT_COORDINATOR: i16 = 16;
/// Kafka's GROUP_ID_NOT_FOUND.
const GROUP_ID_NOT_FOUND: i16 = 69;
/// Kafka's INCONSISTENT_GROUP_PROTOCOL.
const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
/// Kafka's GROUP_AUTHORIZATION_FAILED.
const GROUP_AUTHORIZATION_FAILED: i16 = 30;

#[tokio::test]
async fn fetched_not_handled_then_revoked() {
    let cluster = cluster("orders", 2);
    for partition in 0..2 {
        write(&cluster, "orders", partition, &["1", "2", "3"]);
    }
    let client = client(&cluster).await;
    // The first member has all records fetched, and handles the first of each partition when it is told to.
    let (go, gate) = watch::channel(false);
    let first = billing(&client).build().unwrap();
    let (first_handle, first_seen) = (first.handle(), Seen::default());
    let noting = first_seen.clone();
    let first = tokio::spawn(first.run(move |delivery| {
        noting.note(&delivery);
        let mut gate = gate.clone();
        async move {
            gate.wait_for(|open| *open).await.unwrap();
            Ok::<(), String>(())
        }
    }));
    eventually("two handlers at work", || first_seen.len() == 2).await;
    // The second member joins; the first has to give back before it gets anything.
    let second = billing(&client).build().unwrap();
    let (second_handle, second_seen) = (second.handle(), Seen::default());
    let noting = second_seen.clone();
    let second = tokio::spawn(second.run(move |delivery| {
        noting.note(&delivery);
        async { Ok::<(), String>(()) }
    }));
    tokio::time::sleep(Duration::from_millis(300)).await;
    // At most the starting point of the group.
    assert!((0..2).all(|partition| committed(&cluster, partition).is_none_or(|offset| offset == 0)));
    go.send(true).unwrap();
    eventually("all records handled", || first_seen.len() + second_seen.len() >= 6).await;
    eventually("all committed", || (0..2).all(|partition| committed(&cluster, partition) == Some(3))).await;
    first_handle.shutdown();
    second_handle.shutdown();
    assert_eq!(first.await.unwrap().unwrap().reason, StopReason::Shutdown);
    second.await.unwrap().unwrap();
    let all: Vec<String> = [first_seen.values(), second_seen.values()].concat();
    assert_eq!(all.len(), 6, "each record once: what was in a handler was committed before the partition moved");
    assert!(second_seen.len() >= 2, "the second member has a partition");
}

#[tokio::test]
async fn handler_outlives_rebalance() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["slow", "next"]);
    let client = client(&cluster).await;
    let (go, gate) = watch::channel(false);
    let consumer = billing(&client).stop_after(2).build().unwrap();
    let (handle, seen) = (consumer.handle(), Seen::default());
    let noting = seen.clone();
    let running = tokio::spawn(consumer.run(move |delivery| {
        noting.note(&delivery);
        let mut gate = gate.clone();
        async move {
            if delivery.value() == b"slow" {
                gate.wait_for(|open| *open).await.unwrap();
            }
            Ok::<(), String>(())
        }
    }));
    eventually("the handler is at work", || seen.len() == 1).await;
    // The generation is over without this member: its partitions are lost at once, then it joins anew.
    cluster.inject(Fault::once(FaultAction::Error(ILLEGAL_GENERATION)).api(HEARTBEAT));
    eventually("a second assignment", || handle.metrics().rebalances >= 2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(seen.len(), 1, "one record of a partition at a time, across assignments too");
    go.send(true).unwrap();
    let summary = running.await.unwrap().unwrap();
    assert_eq!((summary.records, summary.discarded), (2, 1), "the late completion has no effect");
    assert_eq!(seen.values(), ["next", "slow", "slow"], "handled again under the new assignment");
    assert_eq!(committed(&cluster, 0), Some(2));
}

#[tokio::test]
async fn a_run_that_is_dropped_commits_what_was_handled_and_leaves() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["handled", "stuck"]);
    let client = client(&cluster).await;
    let seen = Seen::default();
    let noting = seen.clone();
    let run = billing(&client).commit_interval(Duration::from_secs(60)).run(move |delivery| {
        noting.note(&delivery);
        async move {
            if delivery.value() == b"stuck" {
                std::future::pending::<()>().await;
            }
            Ok::<(), String>(())
        }
    });
    let running = tokio::spawn(run);
    eventually("the second handler is at work", || seen.len() == 2).await;
    running.abort();
    eventually("what was handled is committed", || committed(&cluster, 0) == Some(1)).await;
    eventually("the member leaves", || cluster.look(|view| view.members("billing").is_empty())).await;
}

#[tokio::test]
async fn commit_of_old_generation() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["a", "b", "c"]);
    let client = client(&cluster).await;
    cluster.inject(Fault::once(FaultAction::Error(ILLEGAL_GENERATION)).api(OFFSET_COMMIT));
    // All three are handled when the first commit is made.
    let consumer = billing(&client).property("commit.records", "3").commit_interval(Duration::from_secs(60));
    let consumer = consumer.build().unwrap();
    let (handle, seen) = (consumer.handle(), Seen::default());
    let noting = seen.clone();
    let running = tokio::spawn(consumer.run(move |delivery| {
        noting.note(&delivery);
        async { Ok::<(), String>(()) }
    }));
    eventually("joined again and committed", || committed(&cluster, 0) == Some(3)).await;
    assert!(handle.metrics().rebalances >= 2);
    handle.shutdown();
    running.await.unwrap().unwrap();
    let generations: Vec<i32> = cluster.ledger().commits.iter().map(|commit| commit.generation).collect();
    assert!(generations.iter().all(|generation| *generation >= 2), "nothing in the old generation: {generations:?}");
    assert_eq!(seen.len(), 6, "handled again, since it was not committed");
}

#[tokio::test]
async fn coordinator_moves() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["a"]);
    let client = client(&cluster).await;
    let consumer = billing(&client).build().unwrap();
    let (handle, seen) = (consumer.handle(), Seen::default());
    let noting = seen.clone();
    let running = tokio::spawn(consumer.run(move |delivery| {
        noting.note(&delivery);
        async { Ok::<(), String>(()) }
    }));
    eventually("the first commit", || committed(&cluster, 0) == Some(1)).await;
    let old = cluster.look(|view| view.coordinator("billing")).unwrap();
    let new = cluster.brokers().into_iter().find(|broker| *broker != old).unwrap();
    cluster.move_coordinator("billing", new);
    write(&cluster, "orders", 0, &["b"]);
    eventually("a commit at the new coordinator", || committed(&cluster, 0) == Some(2)).await;
    cluster.inject(Fault::always(FaultAction::Error(NOT_COORDINATOR)).api(OFFSET_COMMIT).times(3));
    write(&cluster, "orders", 0, &["c"]);
    eventually("a commit after refusals", || committed(&cluster, 0) == Some(3)).await;
    handle.shutdown();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_coordinator_dies() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["a"]);
    let client = client(&cluster).await;
    let consumer = billing(&client).build().unwrap();
    let handle = consumer.handle();
    let running = tokio::spawn(consumer.run(|_| async { Ok::<(), String>(()) }));
    eventually("the first commit", || committed(&cluster, 0) == Some(1)).await;
    let coordinator = cluster.look(|view| view.coordinator("billing")).unwrap();
    cluster.kill(coordinator);
    write(&cluster, "orders", 0, &["b"]);
    eventually("a commit after the death", || committed(&cluster, 0) == Some(2)).await;
    handle.shutdown();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_fenced_instance_stops() {
    let cluster = cluster("orders", 1);
    let client = client(&cluster).await;
    cluster.inject(Fault::once(FaultAction::Error(FENCED_INSTANCE_ID)).api(HEARTBEAT));
    let error = billing(&client).instance_id("one").run(|_| async { Ok::<(), String>(()) }).await.unwrap_err();
    assert!(matches!(error, ConsumeError::Group { .. }), "{error:?}");
    assert!(error.to_string().contains("FENCED_INSTANCE_ID"), "{error}");
}

#[tokio::test]
async fn a_commit_that_cannot_be_done_is_told() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["a", "b"]);
    let client = client(&cluster).await;
    cluster.inject(Fault::always(FaultAction::Error(GROUP_AUTHORIZATION_FAILED)).api(OFFSET_COMMIT));
    let error = billing(&client).run(|_| async { Ok::<(), String>(()) }).await.unwrap_err();
    match error {
        ConsumeError::Commit { group, uncommitted, reason } => {
            assert_eq!(&*group, "billing");
            assert_eq!(uncommitted.len(), 1);
            assert!(reason.contains("GROUP_AUTHORIZATION_FAILED"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(committed(&cluster, 0), None);
}

#[tokio::test]
async fn partition_added() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["old"]);
    let client = client(&cluster).await;
    let consumer = billing(&client).offset_reset(indelible::OffsetReset::Latest).build().unwrap();
    let (handle, seen) = (consumer.handle(), Seen::default());
    let noting = seen.clone();
    let running = tokio::spawn(consumer.run(move |delivery| {
        noting.note(&delivery);
        async { Ok::<(), String>(()) }
    }));
    eventually("the starting point is committed", || committed(&cluster, 0) == Some(1)).await;
    cluster.add_partitions("orders", 2);
    write(&cluster, "orders", 1, &["in the new partition"]);
    // Any refresh of metadata finds it; here a moved leader causes one.
    let leader = cluster.look(|view| view.leader("orders", 0)).unwrap();
    cluster.move_leader("orders", 0, leader % 3 + 1);
    eventually("the new partition from its beginning", || seen.values() == ["in the new partition"]).await;
    handle.shutdown();
    running.await.unwrap().unwrap();
}

/// Story: a rebalance waits for a handler that hangs, and the application stops the consumer. The last commit waited
/// for the handler, too, for most of `max.poll.interval.ms`, and was never made; `run` said that all was well.
#[tokio::test]
async fn shutdown_during_a_rebalance_that_waits_for_a_handler_commits_the_rest() {
    let cluster = cluster("orders", 2);
    write(&cluster, "orders", 0, &["stuck"]);
    write(&cluster, "orders", 1, &["handled"]);
    let client = client(&cluster).await;
    let billing =
        billing(&client).commit_interval(Duration::from_secs(60)).shutdown_timeout(Duration::from_millis(500));
    let consumer = billing.build().unwrap();
    let handle = consumer.handle();
    let running = tokio::spawn(consumer.run(|delivery| async move {
        if delivery.value() == b"stuck" {
            std::future::pending::<()>().await;
        }
        Ok::<(), String>(())
    }));
    eventually("one is handled", || handle.metrics().records == 1).await;
    // Heartbeats say so until the member joins again, which it does when its handler is done.
    let generation = cluster.look(|view| view.generation("billing"));
    let told = cluster.inject(Fault::once(FaultAction::Error(REBALANCE_IN_PROGRESS)).api(HEARTBEAT));
    eventually("the member is told", || cluster.look(|view| view.struck(told)) == 1).await;
    // It goes on with heartbeats while it waits.
    let heartbeats = cluster.ledger().request_count(HEARTBEAT);
    eventually("it waits", || cluster.ledger().request_count(HEARTBEAT) > heartbeats).await;
    assert_eq!(cluster.look(|view| view.generation("billing")), generation);
    handle.shutdown();
    let summary = tokio::time::timeout(consumer_support::PATIENCE, running).await.expect("it stops").unwrap().unwrap();
    assert_eq!(summary.records, 1);
    assert_eq!(committed(&cluster, 1), Some(1), "what was handled is committed");
    assert_eq!(committed(&cluster, 0), Some(0), "what was not is not");
}

/// Story: the last commit cannot be made because the generation is lost meanwhile; `run` said that all was committed.
#[tokio::test]
async fn a_last_commit_that_the_group_does_not_take_is_told() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["handled"]);
    let client = client(&cluster).await;
    let consumer = billing(&client).commit_interval(Duration::from_secs(60)).build().unwrap();
    let handle = consumer.handle();
    let running = tokio::spawn(consumer.run(|_| async { Ok::<(), String>(()) }));
    eventually("it is handled", || handle.metrics().records == 1).await;
    let refusing = Fault::always(FaultAction::Error(COORDINATOR_LOAD_IN_PROGRESS)).api(OFFSET_COMMIT);
    cluster.inject(refusing);
    handle.shutdown();
    eventually("the last commit is tried", || handle.metrics().commit_failures >= 1).await;
    cluster.inject(Fault::once(FaultAction::Error(ILLEGAL_GENERATION)).api(HEARTBEAT));
    match running.await.unwrap().unwrap_err() {
        ConsumeError::Commit { uncommitted, .. } => assert_eq!(uncommitted.len(), 1),
        other => panic!("{other:?}"),
    }
}

/// Story: the consumer is stopped while its join waits for another member. The leave waited for the join's answer.
#[tokio::test]
async fn shutdown_while_joining_does_not_wait_for_the_other_members() {
    let cluster = cluster("orders", 2);
    write(&cluster, "orders", 0, &["stuck"]);
    let client = client(&cluster).await;
    let slow = billing(&client).build().unwrap();
    let (slow_handle, seen) = (slow.handle(), Seen::default());
    let noting = seen.clone();
    let slow_running = tokio::spawn(slow.run(move |delivery| {
        noting.note(&delivery);
        std::future::pending::<Result<(), String>>()
    }));
    eventually("a handler hangs", || seen.len() == 1).await;
    let late = billing(&client).build().unwrap();
    let late_handle = late.handle();
    let late_running = tokio::spawn(late.run(|_| async { Ok::<(), String>(()) }));
    eventually("the second member's join waits", || cluster.look(|view| view.members("billing").len()) == 2).await;
    late_handle.shutdown();
    // Twice the shutdown timeout would be 10 s.
    let stopped = tokio::time::timeout(Duration::from_secs(5), late_running).await;
    stopped.expect("it leaves at once").unwrap().unwrap();
    eventually("it has left", || cluster.look(|view| view.members("billing").len()) == 1).await;
    slow_handle.shutdown();
    slow_running.abort();
}

/// A member in whose rebalances only what moves stops.
fn cooperative(client: &Client) -> ConsumerBuilder {
    billing(client).property("partition.assignment.strategy", "cooperative-sticky")
}

/// Partitions of `seen`, each with its offsets in the order in which they were handled.
fn offsets(seen: &Seen, partition: i32) -> Vec<i64> {
    seen.all().into_iter().filter(|(at, ..)| *at == partition).map(|(_, offset, _)| offset).collect()
}

/// The rebalance is held open by a member that gives up everything first and has a slow handler: an application that is
/// being moved from range to cooperative-sticky, as KIP-429 asks for. What the cooperative member owns is handled and
/// committed all the while; what stays with it comes without a gap, a repeat, or a pause.
#[tokio::test]
async fn partitions_that_stay_are_never_paused() {
    const PARTITIONS: i32 = 6;
    let cluster = cluster("orders", PARTITIONS);
    let client = client(&cluster).await;
    let consumer = cooperative(&client).build().unwrap();
    let (handle, seen) = (consumer.handle(), Seen::default());
    let noting = seen.clone();
    let running = tokio::spawn(consumer.run(move |delivery| {
        noting.note(&delivery);
        assert!(!delivery.is_revoked());
        async { Ok::<(), String>(()) }
    }));
    eventually("all partitions", || handle.metrics().handled.len() == PARTITIONS as usize).await;

    let (go, gate) = watch::channel(false);
    let slow = billing(&client).property("partition.assignment.strategy", "cooperative-sticky,range").build().unwrap();
    let (slow_handle, slow_seen) = (slow.handle(), Seen::default());
    let noting = slow_seen.clone();
    let slow_running = tokio::spawn(slow.run(move |delivery| {
        noting.note(&delivery);
        let mut gate = gate.clone();
        async move {
            gate.wait_for(|open| *open).await.unwrap();
            Ok::<(), String>(())
        }
    }));
    eventually("its half", || slow_handle.metrics().handled.len() == 3 && handle.metrics().handled.len() == 3).await;
    let own: Vec<i32> = handle.metrics().handled.iter().map(|(partition, _)| partition.partition).collect();
    let other = (0..PARTITIONS).find(|partition| !own.contains(partition)).unwrap();
    write(&cluster, "orders", other, &["slow"]);
    eventually("the slow handler is at work", || slow_seen.len() == 1).await;

    let third = cooperative(&client).build().unwrap();
    let third_handle = third.handle();
    let third_running = tokio::spawn(third.run(|_| async { Ok::<(), String>(()) }));
    let phase = || cluster.look(|view| view.group_phase("billing"));
    eventually("the rebalance begins", || phase() == Some(GroupPhase::PreparingRebalance)).await;
    for round in 1..=5 {
        for partition in &own {
            write(&cluster, "orders", *partition, &["a", "b"]);
        }
        eventually("they are handled", || own.iter().all(|p| offsets(&seen, *p).len() == 2 * round)).await;
        eventually("and committed", || own.iter().all(|p| committed(&cluster, *p) == Some(2 * round as i64))).await;
    }
    assert_eq!(phase(), Some(GroupPhase::PreparingRebalance), "the rebalance is not over");
    let rebalances = handle.metrics().rebalances;
    go.send(true).unwrap();
    eventually("each has two", || {
        [&handle, &slow_handle, &third_handle].iter().all(|handle| handle.metrics().handled.len() == 2)
    })
    .await;
    let stayed: Vec<i32> = handle.metrics().handled.iter().map(|(partition, _)| partition.partition).collect();
    for partition in &own {
        write(&cluster, "orders", *partition, &["c"]);
    }
    eventually("what stayed goes on", || stayed.iter().all(|p| offsets(&seen, *p).len() == 11)).await;
    for partition in stayed {
        assert!(own.contains(&partition));
        assert_eq!(offsets(&seen, partition), (0..11).collect::<Vec<_>>(), "no gap and no repeat");
    }
    assert!(handle.metrics().rebalances > rebalances);
    assert_eq!(handle.metrics().discarded, 0);
    for handle in [handle, slow_handle, third_handle] {
        handle.shutdown();
    }
    for running in [running, slow_running, third_running] {
        running.await.unwrap().unwrap();
    }
}

/// While the handler of a record is waited for whose partition moves, the partition that stays goes on, and nobody gets the
/// one that moves. What was fetched of it and not handled is handled by its next owner.
#[tokio::test]
async fn what_moves_waits_for_its_handler_and_the_rest_goes_on() {
    let cluster = cluster("orders", 2);
    write(&cluster, "orders", 1, &["slow", "next", "last"]);
    let client = client(&cluster).await;
    let (go, gate) = watch::channel(false);
    let consumer = cooperative(&client).build().unwrap();
    let (handle, seen) = (consumer.handle(), Seen::default());
    let noting = seen.clone();
    let running = tokio::spawn(consumer.run(move |delivery| {
        noting.note(&delivery);
        let mut gate = gate.clone();
        async move {
            if delivery.value() == b"slow" {
                gate.wait_for(|open| *open).await.unwrap();
            }
            Ok::<(), String>(())
        }
    }));
    eventually("the slow handler is at work", || seen.len() == 1).await;
    let second = cooperative(&client).build().unwrap();
    let (second_handle, second_seen) = (second.handle(), Seen::default());
    let noting = second_seen.clone();
    let second_running = tokio::spawn(second.run(move |delivery| {
        noting.note(&delivery);
        async { Ok::<(), String>(()) }
    }));
    // With nothing for the second member yet: the partition is still with the first.
    eventually("the first rebalance", || second_handle.metrics().rebalances == 1).await;
    for count in 1..=5 {
        write(&cluster, "orders", 0, &["a"]);
        eventually("the other partition goes on", || offsets(&seen, 0).len() == count).await;
    }
    assert_eq!(second_seen.len(), 0);
    assert_eq!(committed(&cluster, 1).unwrap_or(0), 0, "nothing of it is handled");
    go.send(true).unwrap();
    eventually("the second member handles the rest", || second_seen.len() == 2).await;
    assert_eq!(offsets(&seen, 1), [0]);
    assert_eq!(offsets(&second_seen, 1), [1, 2], "where the first had committed");
    for handle in [handle, second_handle] {
        handle.shutdown();
    }
    for running in [running, second_running] {
        running.await.unwrap().unwrap();
    }
    assert_eq!((committed(&cluster, 0), committed(&cluster, 1)), (Some(5), Some(3)));
}

/// Only the partition that is added begins; the handler of another one is not even waited for.
#[tokio::test]
async fn partition_added_while_another_is_handled() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["slow"]);
    let client = client(&cluster).await;
    let (go, gate) = watch::channel(false);
    let consumer = cooperative(&client).build().unwrap();
    let (handle, seen) = (consumer.handle(), Seen::default());
    let noting = seen.clone();
    let running = tokio::spawn(consumer.run(move |delivery| {
        noting.note(&delivery);
        let mut gate = gate.clone();
        async move {
            if delivery.value() == b"slow" {
                gate.wait_for(|open| *open).await.unwrap();
                assert!(!delivery.is_revoked());
            }
            Ok::<(), String>(())
        }
    }));
    eventually("the slow handler is at work", || seen.len() == 1).await;
    cluster.add_partitions("orders", 2);
    write(&cluster, "orders", 1, &["in the new partition"]);
    let leader = cluster.look(|view| view.leader("orders", 0)).unwrap();
    cluster.move_leader("orders", 0, leader % 3 + 1);
    eventually("the new partition from its beginning", || offsets(&seen, 1) == [0]).await;
    go.send(true).unwrap();
    eventually("all committed", || committed(&cluster, 0) == Some(1) && committed(&cluster, 1) == Some(1)).await;
    assert_eq!(offsets(&seen, 0), [0], "handled once");
    handle.shutdown();
    running.await.unwrap().unwrap();
}

/// Story: commits of the old generation are refused while all members have joined and the answer to the join is on its
/// way. The member took its generation for lost, and handled everything again.
#[tokio::test]
async fn commit_of_old_generation_in_a_cooperative_rebalance_is_made_in_the_new_one() {
    const JOIN_GROUP: i16 = 11;
    let cluster = cluster("orders", 2);
    let client = client(&cluster).await;
    let consumer = cooperative(&client).build().unwrap();
    let (handle, seen) = (consumer.handle(), Seen::default());
    let noting = seen.clone();
    let running = tokio::spawn(consumer.run(move |delivery| {
        noting.note(&delivery);
        async { Ok::<(), String>(()) }
    }));
    eventually("all partitions", || handle.metrics().handled.len() == 2).await;
    let refused = cluster.inject(Fault::always(FaultAction::Error(ILLEGAL_GENERATION)).api(OFFSET_COMMIT));
    let late = cluster.inject(Fault::once(FaultAction::DelayAnswer(Duration::from_millis(500))).api(JOIN_GROUP));
    cluster.inject(Fault::once(FaultAction::Error(REBALANCE_IN_PROGRESS)).api(HEARTBEAT));
    eventually("it joins again", || cluster.look(|view| view.struck(late)) == 1).await;
    write(&cluster, "orders", 0, &["a"]);
    eventually("a commit is refused", || cluster.look(|view| view.struck(refused)) >= 1).await;
    cluster.remove_fault(refused);
    eventually("it is made", || committed(&cluster, 0) == Some(1)).await;
    assert_eq!(seen.len(), 1, "nothing was lost");
    handle.shutdown();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn slow_handler_keeps_membership() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["slow"]);
    let client = client(&cluster).await;
    let (go, gate) = watch::channel(false);
    let consumer = billing(&client).property("max.poll.interval.ms", "100").build().unwrap();
    let handle = consumer.handle();
    let running = tokio::spawn(consumer.run(move |_| {
        let mut gate = gate.clone();
        async move {
            gate.wait_for(|open| *open).await.unwrap();
            Ok::<(), String>(())
        }
    }));
    eventually("it is told, and told again", || handle.metrics().slow_handlers >= 2).await;
    assert_eq!(cluster.look(|view| view.generation("billing")), Some(1), "no rebalance");
    assert_eq!(handle.metrics().rebalances, 1);
    go.send(true).unwrap();
    eventually("it is committed", || committed(&cluster, 0) == Some(1)).await;
    handle.shutdown();
    assert_eq!(running.await.unwrap().unwrap().discarded, 0);
}

/// Topics that match are read when they come, and given back when they are gone; the others go on.
#[tokio::test]
async fn topics_of_a_pattern_come_and_go() {
    for cooperative_only in [false, true] {
        let cluster = cluster("orders-1", 1);
        cluster.create_topic("other-orders-1", 1);
        write(&cluster, "orders-1", 0, &["1"]);
        write(&cluster, "other-orders-1", 0, &["other"]);
        let client = Client::builder(cluster.bootstrap()).property("metadata.max.age.ms", "100").build().await.unwrap();
        let assignors = if cooperative_only { "cooperative-sticky" } else { "range" };
        let consumer = client
            .consumer("billing")
            .pattern("orders-[0-9]+")
            .property("heartbeat.interval.ms", "50")
            .property("partition.assignment.strategy", assignors)
            .build()
            .unwrap();
        let (handle, seen) = (consumer.handle(), Seen::default());
        let noting = seen.clone();
        let running = tokio::spawn(consumer.run(move |delivery| {
            noting.note(&delivery);
            async { Ok::<(), String>(()) }
        }));
        eventually("the first topic", || seen.values() == ["1"]).await;
        cluster.create_topic("orders-2", 1);
        write(&cluster, "orders-2", 0, &["2"]);
        eventually("the second topic", || seen.values() == ["1", "2"]).await;
        cluster.delete_topic("orders-1");
        let topics = || -> Vec<String> {
            handle.metrics().handled.iter().map(|(partition, _)| partition.topic.to_string()).collect()
        };
        eventually("the first is given back", || topics() == ["orders-2"]).await;
        handle.shutdown();
        running.await.unwrap().unwrap();
        assert_eq!(seen.values(), ["1", "2"]);
    }
}

/// A static member that is away for less than its session finds its partitions as they were.
#[tokio::test]
async fn a_static_member_that_comes_back_moves_nothing() {
    let cluster = cluster("orders", 2);
    let client = client(&cluster).await;
    let start = |instance: &str| {
        let consumer = billing(&client).instance_id(instance).build().unwrap();
        (consumer.handle(), tokio::spawn(consumer.run(|_| async { Ok::<(), String>(()) })))
    };
    let (one, one_running) = start("one");
    eventually("the first member", || one.metrics().handled.len() == 2).await;
    let (two, two_running) = start("two");
    eventually("each has one", || one.metrics().handled.len() == 1 && two.metrics().handled.len() == 1).await;
    let (had, rebalances) = (two.metrics().handled, one.metrics().rebalances);
    two.shutdown();
    two_running.await.unwrap().unwrap();
    let (again, again_running) = start("two");
    eventually("it is back", || again.metrics().handled.len() == 1).await;
    assert_eq!(again.metrics().handled[0].0, had[0].0);
    assert_eq!(one.metrics().rebalances, rebalances, "the other member heard nothing of it");
    for handle in [one, again] {
        handle.shutdown();
    }
    for running in [one_running, again_running] {
        running.await.unwrap().unwrap();
    }
}

/// The protocol of KIP-848 is spoken where the coordinator has it, unless a setting asks for the classic one; a group that
/// has classic members only takes others of their kind.
#[tokio::test]
async fn the_protocol_is_the_coordinators_unless_something_speaks_against_it() {
    const JOIN_GROUP: i16 = 11;
    const CONSUMER_GROUP_HEARTBEAT: i16 = 68;
    for (settings, refusal, next) in [
        (vec![], None, true),
        (vec![("group.protocol", "consumer")], None, true),
        (vec![("group.protocol", "classic")], None, false),
        (vec![("session.timeout.ms", "45000")], None, false),
        (vec![], Some(GROUP_ID_NOT_FOUND), false),
        (vec![], Some(INCONSISTENT_GROUP_PROTOCOL), false),
    ] {
        let cluster = cluster("orders", 1);
        write(&cluster, "orders", 0, &["a"]);
        let client = client(&cluster).await;
        if let Some(code) = refusal {
            cluster.inject(Fault::once(FaultAction::Error(code)).api(CONSUMER_GROUP_HEARTBEAT));
        }
        let mut builder = client.consumer("billing").topics(["orders"]).stop_after(1);
        for (name, value) in settings {
            builder = builder.property(name, value);
        }
        builder.run(|_| async { Ok::<(), String>(()) }).await.unwrap();
        assert_eq!(committed(&cluster, 0), Some(1));
        assert_eq!(cluster.ledger().request_count(JOIN_GROUP) == 0, next);
    }
    // A broker that lacks it.
    let cluster = cluster("orders", 1);
    cluster.limit_version(CONSUMER_GROUP_HEARTBEAT, Some(0));
    write(&cluster, "orders", 0, &["a"]);
    let client = client(&cluster).await;
    let consumer = client.consumer("billing").topics(["orders"]).stop_after(1);
    consumer.run(|_| async { Ok::<(), String>(()) }).await.unwrap();
    assert_eq!(cluster.ledger().request_count(CONSUMER_GROUP_HEARTBEAT), 0);
}

/// Story: the consumer is stopped when all members have joined and the answer to its own join is still on its way. Its last
/// commit named the old generation and was refused, and `run` told that handled records were not committed.
#[tokio::test]
async fn shutdown_in_a_cooperative_rebalance_commits_the_rest() {
    const JOIN_GROUP: i16 = 11;
    let cluster = cluster("orders", 2);
    write(&cluster, "orders", 0, &["a"]);
    let client = client(&cluster).await;
    let consumer = cooperative(&client).commit_interval(Duration::from_secs(60)).build().unwrap();
    let handle = consumer.handle();
    let running = tokio::spawn(consumer.run(|_| async { Ok::<(), String>(()) }));
    eventually("it is handled", || handle.metrics().records == 1).await;
    let late = cluster.inject(Fault::once(FaultAction::DelayAnswer(Duration::from_millis(500))).api(JOIN_GROUP));
    cluster.inject(Fault::once(FaultAction::Error(REBALANCE_IN_PROGRESS)).api(HEARTBEAT));
    eventually("it joins again", || cluster.look(|view| view.struck(late)) == 1).await;
    handle.shutdown();
    running.await.unwrap().unwrap();
    assert_eq!(committed(&cluster, 0), Some(1));
    assert!(cluster.look(|view| view.members("billing").is_empty()), "it has left");
}
