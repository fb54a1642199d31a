//! What the hand on a running consumer does: partitions are held, and go on elsewhere.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod consumer_support;

use std::time::Duration;

use consumer_support::{
    FETCH, OFFSET_COMMIT, Seen, billing, client, cluster, committed, eventually, write, write_commit,
};
use indelible::types::TopicPartition;
use indelible::{
    Client, ConsumeError, ConsumerBuilder, ConsumerHandle, ControlError, OffsetReset, OnDataLoss, SeekTo, Summary,
};
use proto_tests::fake::{FakeCluster, Fault, FaultAction};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const LIST_OFFSETS: i16 = 2;
const OFFSET_FOR_LEADER_EPOCH: i16 = 23;
/// Kafka's UNKNOWN_MEMBER_ID.
const UNKNOWN_MEMBER_ID: i16 = 25;
/// Kafka's TOPIC_AUTHORIZATION_FAILED.
const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
/// Kafka's UNKNOWN_LEADER_EPOCH.
const UNKNOWN_LEADER_EPOCH: i16 = 75;

struct Running {
    handle: ConsumerHandle,
    seen: Seen,
    task: JoinHandle<Result<Summary, ConsumeError>>,
}

impl Running {
    /// Notes what it is given.
    fn noting(builder: ConsumerBuilder) -> Running {
        let consumer = builder.build().unwrap();
        let (handle, seen) = (consumer.handle(), Seen::default());
        let noting = seen.clone();
        let task = tokio::spawn(consumer.run(move |delivery| {
            noting.note(&delivery);
            async { Ok::<(), String>(()) }
        }));
        Running { handle, seen, task }
    }

    async fn stop(self) -> Summary {
        self.handle.shutdown();
        self.task.await.unwrap().unwrap()
    }
}

/// Ten records in each partition of "orders", each a batch of its own.
fn filled(partitions: i32) -> FakeCluster {
    let cluster = cluster("orders", partitions);
    for partition in 0..partitions {
        (0..10).for_each(|n| write(&cluster, "orders", partition, &[&n.to_string()]));
    }
    cluster
}

fn offsets(seen: &Seen) -> Vec<i64> {
    seen.all().into_iter().map(|(_, offset, _)| offset).collect()
}

async fn by_hand(client: &Client) -> ConsumerBuilder {
    client
        .consumer("billing")
        .property("fetch.max.wait.ms", "50")
        .commit_interval(Duration::from_millis(20))
        .shutdown_timeout(Duration::from_secs(5))
}

#[tokio::test]
async fn a_seek_goes_on_elsewhere_and_the_new_place_is_committed_even_when_it_is_lower() {
    let cluster = filled(1);
    let running = Running::noting(billing(&client(&cluster).await));
    eventually("all are handled", || running.seen.len() == 10).await;
    eventually("and committed", || committed(&cluster, 0) == Some(10)).await;
    running.handle.pause([("orders", 0)]).await.unwrap();
    running.handle.seek("orders", 0, SeekTo::Offset(7)).await.unwrap();
    // Paused as it was, so that nothing is handed out: what is committed is the place itself.
    eventually("the place is committed", || committed(&cluster, 0) == Some(7)).await;
    let place = TopicPartition::new("orders", 0);
    eventually("the handle knows", || running.handle.metrics().committed == [(place.clone(), 7)]).await;
    assert_eq!(running.seen.len(), 10);
    running.handle.resume([("orders", 0)]).await.unwrap();
    eventually("the rest again", || running.seen.len() == 13).await;
    running.handle.seek("orders", 0, SeekTo::Beginning).await.unwrap();
    eventually("all again", || running.seen.len() == 23).await;
    running.handle.seek("orders", 0, SeekTo::End).await.unwrap();
    write(&cluster, "orders", 0, &["new"]);
    eventually("what is new", || running.seen.len() == 24).await;
    let expected: Vec<i64> = (0..10).chain(7..10).chain(0..10).chain([10]).collect();
    assert_eq!(offsets(&running.seen), expected);
    assert_eq!(running.stop().await.records, 24);
    assert_eq!(committed(&cluster, 0), Some(11));
}

#[tokio::test]
async fn a_seek_to_a_time_begins_at_the_first_record_that_is_not_older() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["early"]);
    cluster.advance_time(Duration::from_secs(60));
    let between = cluster.now_ms() - 30_000;
    write(&cluster, "orders", 0, &["late"]);
    let running = Running::noting(billing(&client(&cluster).await));
    eventually("both", || running.seen.len() == 2).await;
    running.handle.seek("orders", 0, SeekTo::Timestamp(between)).await.unwrap();
    eventually("the late one again", || running.seen.len() == 3).await;
    running.handle.seek("orders", 0, SeekTo::Timestamp(-5)).await.unwrap();
    eventually("both again", || running.seen.len() == 5).await;
    // No record is so late: the end, not the beginning.
    running.handle.seek("orders", 0, SeekTo::Timestamp(between + 3_600_000)).await.unwrap();
    write(&cluster, "orders", 0, &["new"]);
    eventually("the new one", || running.seen.len() == 6).await;
    assert_eq!(offsets(&running.seen), [0, 1, 1, 0, 1, 2]);
    running.stop().await;
}

/// Story: a handler is at work on a record that lies behind the place sought to. Were its completion taken for the new
/// position, the records in between would be committed unhandled.
#[tokio::test]
async fn what_is_with_a_handler_during_a_seek_counts_for_nothing() {
    let cluster = filled(1);
    let (go, gate) = watch::channel(false);
    let consumer = billing(&client(&cluster).await).build().unwrap();
    let (handle, seen) = (consumer.handle(), Seen::default());
    let noting = seen.clone();
    let running = tokio::spawn(consumer.run(move |delivery| {
        let first = noting.all().iter().all(|(_, offset, _)| *offset != delivery.offset());
        noting.note(&delivery);
        let mut gate = gate.clone();
        async move {
            if delivery.offset() == 5 && first {
                gate.wait_for(|open| *open).await.unwrap();
            }
            Ok::<(), String>(())
        }
    }));
    eventually("the handler is at work", || seen.len() == 6).await;
    handle.seek("orders", 0, SeekTo::Offset(2)).await.unwrap();
    eventually("the place is committed", || committed(&cluster, 0) == Some(2)).await;
    go.send(true).unwrap();
    eventually("the rest", || seen.len() == 14).await;
    assert_eq!(offsets(&seen), [0, 1, 2, 3, 4, 5, 2, 3, 4, 5, 6, 7, 8, 9]);
    handle.shutdown();
    let summary = running.await.unwrap().unwrap();
    assert_eq!((summary.records, summary.discarded), (13, 1));
    assert_eq!(committed(&cluster, 0), Some(10));
}

/// Story: a fetch is under way when the position is set elsewhere; its answer comes later, and belongs nowhere.
#[tokio::test]
async fn fetch_answer_after_a_seek() {
    let cluster = filled(1);
    let running = Running::noting(billing(&client(&cluster).await));
    eventually("all", || running.seen.len() == 10).await;
    let late = cluster.inject(Fault::once(FaultAction::DelayAnswer(Duration::from_millis(300))).api(FETCH));
    running.handle.seek("orders", 0, SeekTo::Beginning).await.unwrap();
    eventually("the answer is held back", || cluster.look(|view| view.struck(late)) == 1).await;
    running.handle.seek("orders", 0, SeekTo::Offset(7)).await.unwrap();
    eventually("from there on", || running.seen.len() >= 13).await;
    write(&cluster, "orders", 0, &["new"]);
    eventually("and on", || offsets(&running.seen).ends_with(&[10])).await;
    assert_eq!(offsets(&running.seen), (0..10).chain(7..11).collect::<Vec<_>>());
    running.stop().await;
}

#[tokio::test]
async fn a_paused_partition_waits_and_others_go_on() {
    let cluster = filled(2);
    let running = Running::noting(billing(&client(&cluster).await));
    eventually("all", || running.seen.len() == 20).await;
    running.handle.pause([("orders", 1)]).await.unwrap();
    for partition in 0..2 {
        write(&cluster, "orders", partition, &["new", "newer"]);
    }
    eventually("those of the other", || running.seen.len() == 22).await;
    // A sign that time has passed at the broker.
    let fetches = cluster.ledger().request_count(FETCH);
    eventually("fetches", || cluster.ledger().request_count(FETCH) > fetches + 3).await;
    let of = |wanted: i32| running.seen.all().into_iter().filter(|(partition, ..)| *partition == wanted).count();
    assert_eq!((of(0), of(1)), (12, 10));
    running.handle.resume([("orders", 1)]).await.unwrap();
    eventually("the rest", || running.seen.len() == 24).await;
    running.stop().await;
    assert_eq!((committed(&cluster, 0), committed(&cluster, 1)), (Some(12), Some(12)));
}

#[tokio::test]
async fn what_cannot_be_done_is_told_and_changes_nothing() {
    let cluster = filled(1);
    let running = Running::noting(billing(&client(&cluster).await));
    eventually("all", || running.seen.len() == 10).await;
    let error = running.handle.pause([("orders", 0), ("orders", 7)]).await.unwrap_err();
    assert!(matches!(&error, ControlError::NotAssigned { partition } if partition.partition == 7), "{error:?}");
    assert_eq!(error.to_string(), "orders-7 is not assigned to this consumer");
    let error = running.handle.seek("parcels", 0, SeekTo::End).await.unwrap_err();
    assert!(matches!(error, ControlError::NotAssigned { .. }), "{error:?}");
    let error = running.handle.seek("orders", 0, SeekTo::Offset(-3)).await.unwrap_err();
    assert!(matches!(error, ControlError::Offset { offset: -3, .. }), "{error:?}");
    cluster.inject(Fault::once(FaultAction::Error(TOPIC_AUTHORIZATION_FAILED)).api(LIST_OFFSETS));
    let error = running.handle.seek("orders", 0, SeekTo::Beginning).await.unwrap_err();
    assert!(matches!(error, ControlError::LookUp { .. }), "{error:?}");
    assert!(error.to_string().contains("TOPIC_AUTHORIZATION_FAILED"), "{error}");
    write(&cluster, "orders", 0, &["new"]);
    eventually("it goes on, not paused, where it was", || running.seen.len() == 11).await;
    let handle = running.handle.clone();
    running.stop().await;
    for error in [handle.seek("orders", 0, SeekTo::End).await, handle.resume([("orders", 0)]).await] {
        assert!(matches!(error, Err(ControlError::Stopped)), "{error:?}");
    }
}

#[tokio::test]
async fn partitions_by_hand_begin_at_a_time() {
    let cluster = cluster("orders", 2);
    (0..2).for_each(|partition| write(&cluster, "orders", partition, &["early"]));
    cluster.advance_time(Duration::from_secs(60));
    let between = cluster.now_ms() - 30_000;
    write(&cluster, "orders", 0, &["late"]);
    let client = client(&cluster).await;
    let builder = client.consumer_without_group().assign_at([("orders", 0), ("orders", 1)], SeekTo::Timestamp(between));
    let running = Running::noting(builder.property("fetch.max.wait.ms", "50"));
    eventually("the late one", || running.seen.len() == 1).await;
    write(&cluster, "orders", 1, &["new"]);
    eventually("and what is new", || running.seen.len() == 2).await;
    assert_eq!(running.seen.values(), ["late", "new"]);
    running.stop().await;
}

/// Story: partitions are assigned by hand under the name of a group that has members. Their commits were refused again and
/// again, with a warning for ever.
#[tokio::test]
async fn a_commit_by_hand_into_a_group_with_members_is_told() {
    let cluster = filled(1);
    let client = client(&cluster).await;
    cluster.inject(Fault::always(FaultAction::Error(UNKNOWN_MEMBER_ID)).api(OFFSET_COMMIT));
    let running = Running::noting(by_hand(&client).await.assign([("orders", 0)]));
    let error = tokio::time::timeout(consumer_support::PATIENCE, running.task).await.expect("it stops");
    match error.unwrap().unwrap_err() {
        ConsumeError::Commit { uncommitted, reason, .. } => {
            assert_eq!(uncommitted.len(), 1);
            assert!(reason.contains("UNKNOWN_MEMBER_ID"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

/// Six handled and committed, the last two in batches that an unclean election loses; others stand there then.
async fn truncated() -> (FakeCluster, Client) {
    let cluster = filled(1);
    let client = client(&cluster).await;
    let first = Running::noting(billing(&client).stop_after(6));
    first.task.await.unwrap().unwrap();
    assert_eq!(committed(&cluster, 0), Some(6));
    cluster.unclean_election("orders", 0, 6);
    for value in ["a", "b", "c", "d", "e"] {
        write(&cluster, "orders", 0, &[value]);
    }
    (cluster, client)
}

/// Story: while the consumer is down the log is cut below its committed offset, and has grown beyond it again. Going on
/// there would skip the two records that stand in the place of those that were handled.
#[tokio::test]
async fn log_truncated_while_the_consumer_is_down() {
    let (cluster, client) = truncated().await;
    let error = Running::noting(billing(&client)).task.await.unwrap().unwrap_err();
    match error {
        ConsumeError::DataLoss { position, end, .. } => assert_eq!((position, end), (6, 4)),
        other => panic!("{other:?}"),
    }
    assert_eq!(committed(&cluster, 0), Some(6), "the decision is not taken");
    let running = Running::noting(billing(&client).data_loss(OnDataLoss::Continue));
    eventually("what stands there now", || running.seen.len() == 5).await;
    running.stop().await;
    assert_eq!(committed(&cluster, 0), Some(9));
}

#[tokio::test]
async fn data_loss_that_is_accepted_goes_on_where_the_common_history_ends() {
    let (cluster, client) = truncated().await;
    let running = Running::noting(billing(&client).data_loss(OnDataLoss::Continue));
    eventually("what stands there now", || running.seen.len() == 5).await;
    assert_eq!(offsets(&running.seen), [4, 5, 6, 7, 8]);
    running.stop().await;
    assert_eq!(committed(&cluster, 0), Some(9));
}

/// A log that shares no leader epoch with the commit: nothing of it is known to be handled.
#[tokio::test]
async fn a_commit_of_an_unknown_leader_epoch_is_data_loss() {
    let cluster = filled(1);
    let client = client(&cluster).await;
    write_commit(&cluster, "billing", "orders", 0, (6, 40), "");
    let running = Running::noting(billing(&client).data_loss(OnDataLoss::Continue));
    eventually("all", || running.seen.len() == 10).await;
    running.stop().await;
    write_commit(&cluster, "billing", "orders", 0, (6, 40), "");
    let error = Running::noting(billing(&client)).task.await.unwrap().unwrap_err();
    assert!(matches!(error, ConsumeError::DataLoss { position: 6, end: 0, leader_epoch: -1, .. }), "{error:?}");
}

#[tokio::test]
async fn a_broker_that_cannot_tell_epochs_does_not_hold_up_the_start() {
    let cluster = filled(2);
    let client = client(&cluster).await;
    for partition in 0..2 {
        write_commit(&cluster, "billing", "orders", partition, (6, 0), "");
    }
    cluster.inject(Fault::once(FaultAction::Error(UNKNOWN_LEADER_EPOCH)).api(OFFSET_FOR_LEADER_EPOCH));
    cluster.inject(
        Fault::once(FaultAction::Error(TOPIC_AUTHORIZATION_FAILED)).api(OFFSET_FOR_LEADER_EPOCH).partition(1).skip(1),
    );
    let running = Running::noting(billing(&client));
    eventually("the rest", || running.seen.len() == 8).await;
    running.stop().await;
    cluster.limit_version(OFFSET_FOR_LEADER_EPOCH, None);
    for partition in 0..2 {
        write_commit(&cluster, "billing", "orders", partition, (6, 0), "");
    }
    let running = Running::noting(billing(&consumer_support::client(&cluster).await));
    eventually("the rest again", || running.seen.len() == 8).await;
    running.stop().await;
}

#[tokio::test]
async fn metadata_of_others_is_nothing_to_stop_at() {
    let cluster = filled(1);
    let client = client(&cluster).await;
    for (metadata, epoch) in [("moved by hand, ticket 4711", -1), ("i1.AAAAAAAAAAAA", 0), ("i1.%", 0)] {
        write_commit(&cluster, "billing", "orders", 0, (6, epoch), metadata);
        let running = Running::noting(billing(&client).offset_reset(OffsetReset::Error));
        eventually("the rest", || running.seen.len() == 4).await;
        assert_eq!(offsets(&running.seen), [6, 7, 8, 9], "{metadata}");
        running.stop().await;
        assert_eq!(committed(&cluster, 0), Some(10));
    }
}
