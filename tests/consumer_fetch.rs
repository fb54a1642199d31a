//! Fetching: positions outside of the log, logs that were cut, leaders that move, bytes that are damaged.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod consumer_support;

use std::time::Duration;

use consumer_support::{FETCH, Seen, billing, client, cluster, committed, eventually, write, write_garbage};
use indelible::{Client, ConsumeError, OffsetReset, OutOfRange, SeekTo, StopReason};
use proto_tests::fake::{FakeCluster, Fault, FaultAction};
use tokio::sync::watch;

const QUIET: Duration = Duration::from_millis(300);
/// Kafka's OFFSET_OUT_OF_RANGE.
const OFFSET_OUT_OF_RANGE: i16 = 1;
/// Kafka's FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH and FETCH_SESSION_TOPIC_ID_ERROR.
const SESSION_ERRORS: [i16; 3] = [70, 71, 106];

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

/// Story: somebody mistypes an offset, by hand or in a seek. The consumer stops, and the group goes on where it was.
#[tokio::test]
async fn a_place_that_is_not_in_the_log_is_not_committed() {
    const NEVER: Duration = Duration::from_secs(3600);
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["1", "2", "3"]);
    let client = client(&cluster).await;
    billing(&client).stop_after(2).run(|_| async { Ok::<(), String>(()) }).await.unwrap();
    let by_hand = client.consumer("billing").assign_from([("orders", 0, 1000)]).commit_interval(NEVER);
    let error = by_hand.run(|_| async { Ok::<(), String>(()) }).await.unwrap_err();
    assert!(matches!(error, ConsumeError::OffsetOutOfRange { offset: 1000, first: 0, last: 3, .. }), "{error:?}");
    assert_eq!(committed(&cluster, 0), Some(2));

    let consumer = billing(&client).build().unwrap();
    let handle = consumer.handle();
    let run = consumer.run(|_| async { Ok::<(), String>(()) });
    let seek = async {
        eventually("the last one is committed", || committed(&cluster, 0) == Some(3)).await;
        handle.pause([("orders", 0)]).await.unwrap();
        handle.seek("orders", 0, SeekTo::Offset(1)).await.unwrap();
        eventually("a place in the log is committed", || committed(&cluster, 0) == Some(1)).await;
        handle.resume([("orders", 0)]).await.unwrap();
        eventually("and again", || committed(&cluster, 0) == Some(3)).await;
        handle.shutdown();
    };
    let (stopped, ()) = tokio::join!(run, seek);
    assert_eq!(stopped.unwrap().reason, StopReason::Shutdown);
    let consumer = billing(&client).commit_interval(NEVER).build().unwrap();
    let handle = consumer.handle();
    let run = consumer.run(|_| async { Ok::<(), String>(()) });
    let seek = async {
        eventually("the partition", || !handle.metrics().handled.is_empty()).await;
        handle.seek("orders", 0, SeekTo::Offset(1000)).await.unwrap();
    };
    let (stopped, ()) = tokio::join!(run, seek);
    assert!(matches!(stopped.unwrap_err(), ConsumeError::OffsetOutOfRange { offset: 1000, .. }));
    assert_eq!(committed(&cluster, 0), Some(3));
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

/// What a broker was asked for, so far.
fn fetches(cluster: &FakeCluster, broker: i32) -> u64 {
    let counts = cluster.ledger().request_counts;
    counts.iter().filter(|(key, _)| key.0 == FETCH && key.2 == broker).map(|(_, count)| count).sum()
}

#[tokio::test]
async fn each_broker_has_one_session_that_goes_on_and_one_that_is_lost_costs_requests_only() {
    let cluster = cluster("orders", 6);
    let client = client(&cluster).await;
    let consumer = billing(&client).build().unwrap();
    let (handle, seen) = (consumer.handle(), Seen::default());
    let noting = seen.clone();
    let running = tokio::spawn(consumer.run(move |delivery| {
        noting.note(&delivery);
        async { Ok::<(), String>(()) }
    }));
    let mut written = 0;
    let mut round = async |what: &str| {
        (0..6).for_each(|partition| write(&cluster, "orders", partition, &["a", "b"]));
        written += 12;
        eventually(what, || seen.len() == written).await;
    };
    for _ in 0..3 {
        round("a round").await;
    }
    for broker in 1..=3 {
        let sessions = cluster.look(|view| view.fetch_sessions(broker));
        assert!(matches!(sessions[..], [(3.., 2)]), "broker {broker}: {sessions:?}");
    }
    for error in SESSION_ERRORS {
        let fault = cluster.inject(Fault::always(FaultAction::Error(error)).api(FETCH).times(3));
        eventually("the session to be lost", || cluster.look(|view| view.struck(fault)) == 3).await;
        round("after the loss of a session").await;
    }
    cluster.kill(2);
    cluster.restart(2);
    round("after a restart").await;
    assert!(handle.metrics().fetch_failures >= 9);
    handle.shutdown();
    running.await.unwrap().unwrap();
    let mut offsets: Vec<_> = seen.all().into_iter().map(|(partition, offset, _)| (partition, offset)).collect();
    offsets.sort_unstable();
    offsets.dedup();
    assert_eq!(offsets.len(), written, "none twice");
}

/// Brokers before 1.1 have no sessions; those up to 2.7 know topics by name only.
#[tokio::test]
async fn fetching_with_older_brokers() {
    for version in [4, 6, 7, 10, 11, 12] {
        let cluster = FakeCluster::builder().brokers(2).max_version(FETCH, version).start();
        cluster.create_topic("orders", 4);
        let client = client(&cluster).await;
        let consumer = billing(&client).stop_after(24).build().unwrap();
        let seen = Seen::default();
        let noting = seen.clone();
        let running = tokio::spawn(consumer.run(move |delivery| {
            noting.note(&delivery);
            async { Ok::<(), String>(()) }
        }));
        for round in 1..=3 {
            (0..4).for_each(|partition| write(&cluster, "orders", partition, &["a", "b"]));
            eventually(&format!("version {version}"), || seen.len() == round * 8).await;
        }
        running.await.unwrap().unwrap();
    }
}

/// A fetch is under way when its partition moves to another member: what it brings is of no use to the old owner, whose
/// handler must not see it.
#[tokio::test]
async fn fetch_answer_after_reassignment() {
    const LATE: Duration = Duration::from_secs(3);
    let cluster = cluster("orders", 2);
    let client = client(&cluster).await;
    let late = cluster.inject(Fault::always(FaultAction::DelayAnswer(LATE)).api(FETCH));
    let first = billing(&client).property("fetch.max.wait.ms", "20000").build().unwrap();
    let (first_handle, first_seen) = (first.handle(), Seen::default());
    let noting = first_seen.clone();
    let first = tokio::spawn(first.run(move |delivery| {
        noting.note(&delivery);
        async { Ok::<(), String>(()) }
    }));
    let held = |handle: &indelible::ConsumerHandle| handle.metrics().handled.len();
    eventually("a fetch of each partition", || cluster.look(|view| view.struck(late)) == 2).await;
    for partition in 0..2 {
        write(&cluster, "orders", partition, &["1", "2", "3"]);
    }
    let second = billing(&client).build().unwrap();
    let (second_handle, second_seen) = (second.handle(), Seen::default());
    let noting = second_seen.clone();
    let second = tokio::spawn(second.run(move |delivery| {
        noting.note(&delivery);
        async { Ok::<(), String>(()) }
    }));
    eventually("a partition to have moved", || held(&second_handle) == 1 && held(&first_handle) == 1).await;
    assert_eq!(first_seen.len(), 0, "the answers were not late");
    cluster.remove_fault(late);
    eventually("all to be handled", || first_seen.len() + second_seen.len() >= 6).await;
    tokio::time::sleep(LATE).await; // until the last of them is there
    assert!(!second_seen.all().is_empty());
    assert_eq!(first_seen.len() + second_seen.len(), 6, "{:?} {:?}", first_seen.all(), second_seen.all());
    for handle in [first_handle, second_handle] {
        handle.shutdown();
    }
    assert_eq!(first.await.unwrap().unwrap().discarded + second.await.unwrap().unwrap().discarded, 0);
}

/// Story: the handlers of most partitions hang. The others go on, many times what the buffer holds, and the memory for
/// what is fetched stays within its bound.
#[tokio::test]
async fn stuck_handlers_never_stop_other_partitions() {
    const BUFFER: u64 = 256 * 1024;
    let cluster = cluster("orders", 8);
    let client = client(&cluster).await;
    let large = "x".repeat(4000);
    let values = [large.as_str(); 4];
    let consumer = billing(&client)
        .property("fetch.buffer.bytes", &BUFFER.to_string())
        .property("max.partition.fetch.bytes", "65536")
        .build()
        .unwrap();
    let (handle, seen) = (consumer.handle(), Seen::default());
    let (go, gate) = watch::channel(false);
    let noting = seen.clone();
    let running = tokio::spawn(consumer.run(move |delivery| {
        let (mut gate, stuck) = (gate.clone(), delivery.partition() >= 2);
        let noting = noting.clone();
        async move {
            if stuck {
                gate.wait_for(|open| *open).await.map_err(|error| error.to_string())?;
            }
            noting.note(&delivery);
            Ok::<(), String>(())
        }
    }));
    // Deep backlogs of those that hang, so that every answer could bring some of them.
    for partition in 2..8 {
        (0..8).for_each(|_| write(&cluster, "orders", partition, &values));
    }
    let mut most = 0;
    for round in 1..=40 {
        (0..2).for_each(|partition| write(&cluster, "orders", partition, &values));
        eventually("partitions 0 and 1 to go on", || {
            most = most.max(handle.metrics().buffered_bytes);
            seen.len() == round * 8
        })
        .await;
    }
    // A batch that is alone in its answer comes whole, whatever is left of the buffer.
    assert!(most <= BUFFER + 20_000, "{most} bytes");
    go.send(true).unwrap();
    eventually("the others, too", || seen.len() == 40 * 8 + 6 * 32).await;
    handle.shutdown();
    running.await.unwrap().unwrap();
    assert_eq!(handle.metrics().buffered_bytes, 0);
}

/// Three brokers in three racks; broker 1 leads.
async fn racks() -> (FakeCluster, Client) {
    let cluster = FakeCluster::builder().brokers(3).racks(&["a", "b", "c"]).start();
    cluster.create_topic("orders", 1);
    cluster.move_leader("orders", 0, 1);
    let client = Client::builder(cluster.bootstrap()).rack("b").build().await.unwrap();
    (cluster, client)
}

#[tokio::test]
async fn a_replica_in_the_own_rack_is_read_and_left_for_the_leader_when_it_fails() {
    let (cluster, client) = racks().await;
    let consumer = billing(&client).build().unwrap();
    let (handle, seen) = (consumer.handle(), Seen::default());
    let noting = seen.clone();
    let running = tokio::spawn(consumer.run(move |delivery| {
        noting.note(&delivery);
        async { Ok::<(), String>(()) }
    }));
    let mut written = 0;
    let mut round = async |what: &str| {
        write(&cluster, "orders", 0, &["a", "b"]);
        written += 2;
        eventually(what, || seen.len() == written).await;
    };
    for _ in 0..5 {
        round("records").await;
    }
    assert!(fetches(&cluster, 1) <= 2, "{} fetches at the leader", fetches(&cluster, 1));
    assert!(fetches(&cluster, 2) >= 5, "{} fetches in the own rack", fetches(&cluster, 2));
    // A follower that lags says nothing about the log.
    let fault = Fault::always(FaultAction::Error(OFFSET_OUT_OF_RANGE)).api(FETCH).broker(2).partition(0).times(2);
    let fault = cluster.inject(fault);
    eventually("the follower to refuse", || cluster.look(|view| view.struck(fault)) == 2).await;
    round("after the refusals").await;
    cluster.kill(2);
    round("without the follower").await;
    cluster.restart(2);
    round("with it again").await;
    handle.shutdown();
    assert_eq!(running.await.unwrap().unwrap().records, written as u64);
}

#[tokio::test]
async fn data_loss_goes_on_behind_the_common_history_when_asked_to() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["1", "2"]);
    write(&cluster, "orders", 0, &["3"]);
    let client = client(&cluster).await;
    let consumer = billing(&client).property("data.loss", "continue").build().unwrap();
    let (handle, seen) = (consumer.handle(), Seen::default());
    let noting = seen.clone();
    let running = tokio::spawn(consumer.run(move |delivery| {
        noting.note(&delivery);
        async { Ok::<(), String>(()) }
    }));
    eventually("all committed", || committed(&cluster, 0) == Some(3)).await;
    cluster.unclean_election("orders", 0, 1);
    write(&cluster, "orders", 0, &["other 3", "4"]);
    eventually("the new history to be committed", || committed(&cluster, 0) == Some(4)).await;
    assert_eq!(handle.metrics().data_losses, 1);
    handle.shutdown();
    running.await.unwrap().unwrap();
    let offsets: Vec<_> = seen.all().into_iter().map(|(_, offset, value)| (offset, value)).collect();
    let expected =
        [(0, "1"), (1, "2"), (2, "3"), (2, "other 3"), (3, "4")].map(|(offset, value)| (offset, value.to_owned()));
    assert_eq!(offsets, expected);
}
