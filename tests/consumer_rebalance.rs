//! Partitions that move: what a member has not handled is never committed by it, and what comes late has no effect.

mod consumer_support;

use std::time::Duration;

use consumer_support::{HEARTBEAT, OFFSET_COMMIT, Seen, billing, client, cluster, committed, eventually, write};
use indelible::{ConsumeError, StopReason};
use proto_tests::fake::{Fault, FaultAction};
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
    let consumer = billing(&client).build().unwrap();
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
