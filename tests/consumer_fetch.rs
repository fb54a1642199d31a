//! Fetching: positions outside of the log, logs that were cut, leaders that move, bytes that are damaged.

mod consumer_support;

use std::time::Duration;

use consumer_support::{FETCH, Seen, billing, client, cluster, committed, eventually, write, write_garbage};
use indelible::{ConsumeError, OffsetReset, OutOfRange, StopReason};
use proto_tests::fake::{Fault, FaultAction};

const QUIET: Duration = Duration::from_millis(300);

#[tokio::test]
async fn offset_out_of_range() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["1", "2", "3", "4", "5"]);
    let client = client(&cluster).await;
    billing(&client).stop_after(1).run(|_| async { Ok::<(), String>(()) }).await.unwrap();
    cluster.delete_records("orders", 0, 3);
    let error =
        billing(&client).offset_reset(OffsetReset::Latest).run(|_| async { Ok::<(), String>(()) }).await.unwrap_err();
    match &error {
        ConsumeError::OffsetOutOfRange { group: Some(group), partition, offset: 1, first: 3, last: 5 } => {
            assert_eq!((&**group, partition.to_string().as_str()), ("billing", "orders-0"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(committed(&cluster, 0), Some(1), "no jump");

    let seen = Seen::default();
    let noting = seen.clone();
    let jump = billing(&client).out_of_range(OutOfRange::Earliest).stop_when_idle(QUIET).run(move |delivery| {
        noting.note(&delivery);
        async { Ok::<(), String>(()) }
    });
    jump.await.unwrap();
    assert_eq!(seen.values(), ["4", "5"]);
    assert_eq!(committed(&cluster, 0), Some(5));
}

#[tokio::test]
async fn no_committed_offset_and_no_policy_is_an_error() {
    let cluster = cluster("orders", 1);
    let client = client(&cluster).await;
    let error =
        billing(&client).offset_reset(OffsetReset::Error).run(|_| async { Ok::<(), String>(()) }).await.unwrap_err();
    assert!(matches!(error, ConsumeError::NoOffset { .. }), "{error:?}");
}

#[tokio::test]
async fn log_truncated_under_the_consumer() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["1", "2"]);
    write(&cluster, "orders", 0, &["3"]);
    let client = client(&cluster).await;
    let consumer = billing(&client).build().unwrap();
    let handle = consumer.handle();
    let running = tokio::spawn(consumer.run(|_| async { Ok::<(), String>(()) }));
    eventually("all handled", || handle.metrics().records == 3).await;
    cluster.unclean_election("orders", 0, 1);
    match running.await.unwrap().unwrap_err() {
        ConsumeError::DataLoss { position: 3, end: 2, .. } => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn leaders_move_and_brokers_die_without_a_record_lost_or_doubled() {
    let cluster = cluster("orders", 2);
    let client = client(&cluster).await;
    let consumer = billing(&client).build().unwrap();
    let (handle, seen) = (consumer.handle(), Seen::default());
    let noting = seen.clone();
    let running = tokio::spawn(consumer.run(move |delivery| {
        noting.note(&delivery);
        async { Ok::<(), String>(()) }
    }));
    let mut written = 0;
    for round in 0..4 {
        for partition in 0..2 {
            write(&cluster, "orders", partition, &["x", "y"]);
            written += 2;
        }
        eventually("the round", || seen.len() >= written).await;
        let leader = cluster.look(|view| view.leader("orders", 0)).unwrap();
        if round == 2 { cluster.kill(leader) } else { cluster.move_leader("orders", 0, leader % 3 + 1) }
    }
    handle.shutdown();
    running.await.unwrap().unwrap();
    let mut places: Vec<(i32, i64)> =
        seen.all().into_iter().map(|(partition, offset, _)| (partition, offset)).collect();
    places.sort_unstable();
    assert_eq!(places, (0..2).flat_map(|p| (0..8).map(move |offset| (p, offset))).collect::<Vec<_>>());
}

#[tokio::test]
async fn requests_that_are_lost_or_late_cost_time_and_nothing_else() {
    let cluster = cluster("orders", 1);
    let client = client(&cluster).await;
    for action in [FaultAction::DropBeforeApply, FaultAction::DropAfterApply, FaultAction::HalfFrame] {
        cluster.inject(Fault::once(action).api(FETCH));
    }
    write(&cluster, "orders", 0, &["a", "b", "c"]);
    let seen = Seen::default();
    let noting = seen.clone();
    let summary = billing(&client)
        .stop_after(3)
        .run(move |delivery| {
            noting.note(&delivery);
            async { Ok::<(), String>(()) }
        })
        .await
        .unwrap();
    assert_eq!(summary.reason, StopReason::MaxRecords);
    assert_eq!(seen.values(), ["a", "b", "c"]);
}

#[tokio::test]
async fn crc_right_records_wrong() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["good"]);
    write_garbage(&cluster, "orders", 0);
    write(&cluster, "orders", 0, &["behind"]);
    let client = client(&cluster).await;
    let seen = Seen::default();
    let noting = seen.clone();
    let error = billing(&client)
        .run(move |delivery| {
            noting.note(&delivery);
            async { Ok::<(), String>(()) }
        })
        .await
        .unwrap_err();
    assert!(matches!(error, ConsumeError::Batch { position: 1, .. }), "{error:?}");
    assert_eq!(seen.values(), ["good"]);
    assert_eq!(committed(&cluster, 0), Some(1), "the position does not advance");
}

#[tokio::test]
async fn partitions_by_hand_commit_without_a_generation_or_not_at_all() {
    let cluster = cluster("orders", 2);
    write(&cluster, "orders", 0, &["a", "b", "c"]);
    write(&cluster, "orders", 1, &["other"]);
    let client = client(&cluster).await;
    let run = client.consumer("billing").assign([("orders", 0)]).stop_after(2).run(|_| async { Ok::<(), String>(()) });
    assert_eq!(run.await.unwrap().records, 2);
    assert_eq!(committed(&cluster, 0), Some(2));
    assert!(cluster.ledger().commits.iter().all(|commit| commit.generation == -1));

    let seen = Seen::default();
    let noting = seen.clone();
    let free = client.consumer_without_group().assign_from([("orders", 0, 1), ("orders", 1, 0)]).stop_after(3);
    free.run(move |delivery| {
        noting.note(&delivery);
        async { Ok::<(), String>(()) }
    })
    .await
    .unwrap();
    assert_eq!(seen.values(), ["b", "c", "other"]);
    assert_eq!(committed(&cluster, 0), Some(2));
}

#[tokio::test]
async fn settings_that_contradict_are_refused_before_anything_is_sent() {
    let cluster = cluster("orders", 1);
    let client = client(&cluster).await;
    assert!(client.consumer("g").build().is_err());
    assert!(client.consumer("").topics(["orders"]).build().is_err());
    assert!(client.consumer_without_group().topics(["orders"]).build().is_err());
    assert!(client.consumer("g").topics(["orders"]).property("auto.offset.rest", "latest").build().is_err());
}

/// Story: a partition is given to a member whose metadata does not have it yet. Its committed offset was not asked for,
/// so that it was read from its beginning once more, and the commit went back.
#[tokio::test]
async fn a_partition_that_metadata_does_not_have_yet_goes_on_behind_its_commit() {
    let cluster = cluster("orders", 1);
    let behind = client(&cluster).await;
    let known = behind.consumer("other").assign([("orders", 0)]).stop_when_idle(QUIET);
    known.run(|_| async { Ok::<(), String>(()) }).await.unwrap();
    cluster.add_partitions("orders", 2);
    write(&cluster, "orders", 1, &["1", "2", "3"]);
    let ahead = client(&cluster).await;
    let first = ahead.consumer("billing").assign([("orders", 1)]).stop_after(2);
    first.run(|_| async { Ok::<(), String>(()) }).await.unwrap();
    assert_eq!(committed(&cluster, 1), Some(2));

    let seen = Seen::default();
    let noting = seen.clone();
    let second = behind.consumer("billing").assign([("orders", 1)]).stop_after(1);
    let handler = move |delivery: indelible::Delivery| {
        noting.note(&delivery);
        async { Ok::<(), String>(()) }
    };
    second.run(handler).await.unwrap();
    assert_eq!(seen.values(), ["3"]);
    assert_eq!(committed(&cluster, 1), Some(3));
}

#[tokio::test]
async fn a_small_fetch_buffer_reads_all_partitions_of_all_leaders() {
    let cluster = cluster("orders", 3);
    for partition in 0..3 {
        write(&cluster, "orders", partition, &["a", "b"]);
    }
    let client = client(&cluster).await;
    let small = billing(&client)
        .property("fetch.buffer.bytes", "8192")
        .property("max.partition.fetch.bytes", "4096")
        .stop_after(6)
        .run(|_| async { Ok::<(), String>(()) });
    let summary = tokio::time::timeout(consumer_support::PATIENCE, small).await.expect("all are read").unwrap();
    assert_eq!(summary.records, 6);
}
