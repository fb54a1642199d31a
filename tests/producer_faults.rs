//! Faults that break what a producer promises: each record once, in order, and the truth about what was not delivered.
//! Each scenario names the defect that it would show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a scenario may fail loudly")]
#![allow(clippy::disallowed_methods, reason = "a test may look at the clock")]

mod producer_support;

use indelible::{Record, SendCause};
use producer_support::*;
use proto_tests::fake::{FakeCluster, Fault, FaultAction, TopicConfig, code};
use std::time::Duration;

/// Defect: a retry under another sequence.
#[tokio::test]
async fn ack_lost_after_append() {
    let cluster = cluster(1);
    let fault = cluster.inject(next_produce(FaultAction::DropAfterApply));
    let producer = single(&cluster).await;
    let receipt = send(&producer, 0, "a").await;
    assert_eq!(offset(&receipt).await, Some(0), "the offset it had from the beginning");
    assert_eq!(cluster.look(|view| view.struck(fault)), 1);
    assert_eq!(values(&cluster), ["a"]);
}

/// Defect: taking a lost request for a delivered one.
#[tokio::test]
async fn request_lost_before_append() {
    let cluster = cluster(1);
    cluster.inject(next_produce(FaultAction::DropBeforeApply));
    let producer = single(&cluster).await;
    assert_eq!(offset(&send(&producer, 0, "a").await).await, Some(0));
    assert_eq!(values(&cluster), ["a"]);
}

/// Defect: a dropped future takes its record's sequence with it, or gives it to the next one.
#[tokio::test]
async fn cancelled_send_in_flight() {
    let cluster = cluster(1);
    let client = client(&cluster).await;
    let producer = one_by_one(&client).max_request_size(1000).buffer_memory(1000).build().await.unwrap();
    all_delivered(&send_some(&producer, "w", 1).await).await;
    cluster.inject(next_produce(FaultAction::Delay(Duration::from_millis(100))));
    let a = send(&producer, 0, "a".repeat(800)).await;
    eventually("in flight", || client.metrics().batches_in_flight == 1).await;
    drop(a.delivered());
    drop(a);
    // Cancelled while it waits for memory: not sent. 1000 bytes do not hold both.
    let b = "b".repeat(800);
    let waiting = producer.send(Record::to("t").partition(0).value(&b));
    assert!(tokio::time::timeout(Duration::from_millis(20), waiting).await.is_err());
    all_delivered(&[send(&producer, 0, "c").await]).await;
    assert_eq!(values(&cluster), ["w0", &"a".repeat(800), "c"]);
    let stamps: Vec<_> = stamps(&cluster, 0).iter().map(|stamp| (stamp.1, stamp.2)).collect();
    assert_eq!(stamps, [(0, 0), (0, 1), (0, 2)]);
    eventually("memory is given back", || client.metrics().buffered_bytes == 0).await;
}

/// Defects: a new sequence after a time-out; a batch called failed that is in the log; a gap after it.
#[tokio::test]
async fn timed_out_but_appended() {
    let cluster = cluster(1);
    cluster.inject(next_produce(FaultAction::NoAnswerAfter));
    let producer = single(&cluster).await;
    assert_eq!(offset(&send(&producer, 0, "a").await).await, Some(0));
    assert_eq!(values(&cluster), ["a"]);

    // Given up before the request timed out: nobody knows, and the next ones go on.
    let client = client(&cluster).await;
    let hasty = one_by_one(&client).delivery_timeout(Duration::from_millis(100)).build().await.unwrap();
    all_delivered(&[send(&hasty, 0, "b").await]).await;
    cluster.inject(next_produce(FaultAction::NoAnswerAfter));
    let error = outcome(&send(&hasty, 0, "c").await).await.unwrap_err();
    assert!(error.may_be_delivered() && matches!(error.cause(), SendCause::TimedOut(_)), "{error}");
    let last = error.last().unwrap_or_default();
    assert!(last.contains("broker 1"), "where it hangs: {error}");
    eventually("the request timed out", || client.metrics().request_timeouts > 0).await;
    all_delivered(&[send(&hasty, 0, "d").await]).await;
    assert_eq!(values(&cluster), ["a", "b", "c", "d"]);
}

/// Defect: two threads share a sequence, or one overtakes itself.
#[tokio::test]
async fn concurrent_sends_one_partition() {
    let cluster = cluster(1);
    for skip in [2, 9, 17] {
        cluster.inject(next_produce(FaultAction::DropAfterApply).skip(skip));
        cluster.inject(next_produce(FaultAction::DropBeforeApply).skip(skip + 2));
    }
    let client = client(&cluster).await;
    let producer = client.producer().batch_size(500).linger(Duration::ZERO).build().await.unwrap();
    let mut tasks = Vec::new();
    for task in 0..8 {
        let producer = producer.clone();
        tasks.push(thread(async move {
            for i in 0..100 {
                let _ = send(&producer, 0, format!("{task}-{i}")).await;
            }
        }));
    }
    for task in tasks {
        task.join().unwrap();
    }
    tokio::time::timeout(PATIENCE, producer.flush()).await.unwrap();
    let values = values(&cluster);
    assert_eq!(values.len(), 800);
    for task in 0..8 {
        let own: Vec<_> = values.iter().filter(|value| value.starts_with(&format!("{task}-"))).cloned().collect();
        assert_eq!(own, numbered(&format!("{task}-"), 100));
    }
}

/// Defect: counters that start again with the metadata (librdkafka's changelog).
#[tokio::test]
async fn topic_vanishes_from_metadata_and_returns() {
    let cluster = cluster(1);
    let producer = single(&cluster).await;
    all_delivered(&send_some(&producer, "a", 3).await).await;
    cluster.hide_topic("t", true);
    let refreshes = cluster.look(|view| view.requests(METADATA));
    let fault = cluster.inject(Fault::always(FaultAction::Error(code::UNKNOWN_TOPIC_OR_PARTITION)).api(PRODUCE));
    let receipts = send_some(&producer, "b", 2).await;
    until(&cluster, "metadata asked for", |view| view.requests(METADATA) > refreshes + 1 && view.struck(fault) > 1);
    cluster.hide_topic("t", false);
    cluster.clear_faults();
    all_delivered(&receipts).await;
    assert_eq!(values(&cluster), ["a0", "a1", "a2", "b0", "b1"]);
    let stamps = stamps(&cluster, 0);
    let id = stamps[0].0;
    assert_eq!(stamps, (0..5).map(|sequence| (id, 0, sequence)).collect::<Vec<_>>());
}

/// Defect: the four behind the first overtake it.
#[tokio::test]
async fn first_of_five_fails() {
    for failure in [FaultAction::Error(code::NOT_ENOUGH_REPLICAS), FaultAction::DropBeforeApply] {
        let cluster = cluster(1);
        let client = client(&cluster).await;
        let producer = one_by_one(&client).build().await.unwrap();
        all_delivered(&send_some(&producer, "w", 1).await).await;
        // Behind a slow one the others pile up.
        cluster.inject(next_produce(FaultAction::Delay(Duration::from_millis(100))));
        cluster.inject(next_produce(failure).skip(1));
        let receipts = send_some(&producer, "a", 9).await;
        eventually("five in flight", || client.metrics().batches_in_flight == 5).await;
        all_delivered(&receipts).await;
        assert_eq!(values(&cluster)[1..], numbered("a", 9));
        assert!(stamps(&cluster, 0).iter().all(|stamp| stamp.1 == 0), "nothing was given up: no epoch was closed");
    }
}

/// Defects: 45 taken for delivered, or for the end; a new epoch for partitions that had no trouble (Dekaf#3346).
#[tokio::test]
async fn out_of_order_on_one_partition_leaves_others_alone() {
    let cluster = cluster(2);
    let client = client(&cluster).await;
    let producer = one_by_one(&client).build().await.unwrap();
    for partition in [0, 1] {
        for i in 0..3 {
            offset(&send(&producer, partition, format!("{partition}-{i}")).await).await;
        }
    }
    // The leader loses the last two although it acknowledged them: 45 from now on.
    cluster.unclean_election("t", 0, 2);
    for partition in [0, 1] {
        offset(&send(&producer, partition, format!("{partition}-3")).await).await;
    }
    let ledger = cluster.ledger();
    assert_eq!(ledger.partition_values("t", 0), ["0-0", "0-3"]);
    assert_eq!(ledger.partition_values("t", 1), ["1-0", "1-1", "1-2", "1-3"]);
    assert_eq!(client.metrics().acknowledged_lost, 1, "loss is told");
    let marks = |partition| stamps(&cluster, partition).iter().map(|stamp| (stamp.1, stamp.2)).collect::<Vec<_>>();
    assert_eq!(marks(0), [(0, 0), (1, 0)]);
    assert_eq!(marks(1), [(0, 0), (0, 1), (0, 2), (0, 3)]);
}

/// Defect: no warm-up. A broker that does not know the producer takes any sequence, so the second would be written first.
#[tokio::test]
async fn first_batch_refused_second_in_flight() {
    let cluster = cluster(1);
    // All five are there before the first may go.
    cluster.inject(Fault::once(FaultAction::Delay(Duration::from_millis(50))).api(INIT_PRODUCER_ID));
    cluster.inject(next_produce(FaultAction::Error(code::NOT_ENOUGH_REPLICAS)));
    let producer = single(&cluster).await;
    all_delivered(&send_some(&producer, "a", 5).await).await;
    assert_eq!(values(&cluster), numbered("a", 5));
}

/// Defects: believing a probe of the dead leader; sending the newest first.
#[tokio::test]
async fn unreplicated_batches_lost_by_clean_election() {
    let cluster = cluster(3);
    let client = impatient(&cluster).request_timeout(Duration::from_millis(100)).build().await.unwrap();
    let producer = one_by_one(&client).build().await.unwrap();
    all_delivered(&send_some(&producer, "w", 1).await).await;
    cluster.hold_replication("t", 0, true);
    let receipts = send_some(&producer, "a", 3).await;
    until(&cluster, "on the leader only", |view| view.end_offset("t", 0) >= Some(2));
    cluster.elect_clean_without("t", 0).unwrap();
    cluster.hold_replication("t", 0, false);
    assert_eq!(all_delivered(&receipts).await, [Some(1), Some(2), Some(3)]);
    assert!(!cluster.ledger().lost("t", 0).is_empty(), "the election took something away");
    assert_eq!(values(&cluster), ["w0", "a0", "a1", "a2"]);
}

/// Defect: a re-send that the broker cannot recognise. The first request is taken up only after its connection is gone.
#[tokio::test]
async fn late_request_of_the_dead_process() {
    let cluster = cluster(1);
    let client = impatient(&cluster).request_timeout(Duration::from_millis(100)).build().await.unwrap();
    let producer = one_by_one(&client).build().await.unwrap();
    let late = cluster.inject(next_produce(FaultAction::Delay(Duration::from_millis(300))));
    let receipts = send_some(&producer, "a", 3).await;
    assert_eq!(all_delivered(&receipts).await, [Some(0), Some(1), Some(2)]);
    assert_eq!(cluster.look(|view| view.struck(late)), 1);
    // The fake notices the end of the first connection only once the late request is handled.
    let open = client.metrics().connections as usize;
    until(&cluster, "the late request was handled", |view| view.connections(1) <= open);
    assert_eq!(values(&cluster), numbered("a", 3));
}

/// Defect: a gap in the sequence, after which every send fails for good (confluent-kafka-dotnet#704).
#[tokio::test]
async fn given_up_batch_closes_its_epoch() {
    let cluster = cluster(1);
    let client = client(&cluster).await;
    let producer = one_by_one(&client).retries(2).build().await.unwrap();
    for partition in [0, 1] {
        offset(&send(&producer, partition, "w").await).await;
    }
    let refusal = Fault::always(FaultAction::Error(code::NOT_ENOUGH_REPLICAS)).api(PRODUCE).topic("t").partition(0);
    let fault = cluster.inject(refusal.times(3));
    // After the first refusal one is in flight at a time, so that all three strike the first.
    let mut receipts = vec![send(&producer, 0, "a0").await];
    eventually("refused", || client.metrics().batch_setbacks > 0).await;
    for i in 1..4 {
        receipts.push(send(&producer, 0, format!("a{i}")).await);
    }
    let other = send(&producer, 1, "x").await;
    let error = outcome(&receipts[0]).await.unwrap_err();
    assert!(!error.may_be_delivered(), "refused three times before it was appended: {error}");
    assert!(matches!(error.cause(), SendCause::RetriesUsedUp(2)), "{error}");
    assert!(error.last().unwrap().contains("NOT_ENOUGH_REPLICAS"), "{error}");
    all_delivered(&receipts[1..]).await;
    offset(&other).await;
    assert_eq!(cluster.look(|view| view.struck(fault)), 3);
    assert_eq!(values(&cluster), ["w", "a1", "a2", "a3"]);
    let marks = |partition| stamps(&cluster, partition).iter().map(|stamp| (stamp.1, stamp.2)).collect::<Vec<_>>();
    assert_eq!(marks(0), [(0, 0), (1, 0), (1, 1), (1, 2)]);
    assert_eq!(marks(1), [(0, 0), (0, 1)], "other partitions keep their epoch");
}

/// Defect: the whole batch refused for one record, or the small ones lost or doubled in the splitting.
#[tokio::test]
async fn message_too_large() {
    let cluster = FakeCluster::start(1);
    cluster.create_topic_with("t", 2, TopicConfig { max_message_bytes: 1000, ..TopicConfig::default() });
    let producer = client(&cluster).await.producer().linger(Duration::from_millis(20)).build().await.unwrap();
    let mut receipts = Vec::new();
    for i in 0..20 {
        let value = if i == 13 { "x".repeat(2000) } else { format!("a{i}") };
        receipts.push(send(&producer, 0, value).await);
    }
    for (i, receipt) in receipts.iter().enumerate() {
        match outcome(receipt).await {
            Ok(_) => assert_ne!(i, 13),
            Err(error) => {
                assert_eq!(i, 13, "{error}");
                assert!(!error.may_be_delivered() && matches!(error.cause(), SendCause::RecordRefused), "{error}");
                assert_eq!(error.record().value.as_ref().unwrap().len(), 2000, "it comes back whole");
            }
        }
    }
    assert_eq!(values(&cluster), (0..20).filter(|i| *i != 13).map(|i| format!("a{i}")).collect::<Vec<_>>());
    // Each place is where the record is.
    for (i, receipt) in receipts.iter().enumerate().filter(|(i, _)| *i != 13) {
        assert_eq!(offset(receipt).await, Some(i as i64 - i64::from(i > 13)));
    }
}

/// Defect: a partition that the answer leaves out waits for ever; of two answers the wrong one is believed.
#[tokio::test]
async fn duplicate_or_missing_partition_in_response() {
    for action in [FaultAction::MissingPartition, FaultAction::DuplicatePartition] {
        let cluster = cluster(1);
        let producer = single(&cluster).await;
        all_delivered(&send_some(&producer, "w", 1).await).await;
        cluster.inject(next_produce(action));
        let receipts = send_some(&producer, "a", 4).await;
        assert_eq!(all_delivered(&receipts).await, [Some(1), Some(2), Some(3), Some(4)]);
        assert_eq!(values(&cluster)[1..], numbered("a", 4));
    }
}

/// Defect: a blind re-send of what the broker may have forgotten. Here it has: appended, then expired at once, because
/// the record is dated two days back.
#[tokio::test]
async fn old_timestamp_producer_id_expired() {
    let cluster = cluster(1);
    let client = impatient(&cluster).property("retry.backoff.ms", "300").build().await.unwrap();
    let producer = one_by_one(&client).build().await.unwrap();
    let old = cluster.now_ms() - 48 * 3_600_000;
    cluster.inject(next_produce(FaultAction::DropAfterApply));
    let receipt = producer.send(Record::to("t").partition(0).timestamp(old).value("a")).await.unwrap();
    until(&cluster, "appended", |view| view.end_offset("t", 0) == Some(1));
    cluster.check_producer_expiry();
    assert_eq!(offset(&receipt).await, Some(0), "the log itself has it");
    all_delivered(&[send(&producer, 0, "b").await]).await;
    assert_eq!(values(&cluster), ["a", "b"]);

    // Not expired yet: the probe sees it, and the same bytes are recognised.
    cluster.inject(next_produce(FaultAction::DropAfterApply));
    let receipt = producer.send(Record::to("t").partition(0).timestamp(old).value("c")).await.unwrap();
    assert_eq!(offset(&receipt).await, Some(2));
    assert!(client.metrics().probes >= 2);
    assert_eq!(values(&cluster), ["a", "b", "c"]);
}

/// Defect: five appended and unanswered, sent again as new ones, or in another order.
#[tokio::test]
async fn resend_of_the_five_in_flight() {
    let cluster = cluster(1);
    let producer = single(&cluster).await;
    all_delivered(&send_some(&producer, "w", 1).await).await;
    cluster.inject(next_produce(FaultAction::SwallowAnswer).times(5));
    let receipts = send_some(&producer, "a", 7).await;
    until(&cluster, "appended", |view| view.end_offset("t", 0) == Some(6));
    cluster.cut_connections(1);
    assert_eq!(all_delivered(&receipts).await, (1..8).map(Some).collect::<Vec<_>>());
    assert_eq!(values(&cluster)[1..], numbered("a", 7));
}

/// Defect: 45 for a stored batch taken for a gap (librdkafka#4953: a new producer id, and duplicates). After a restart
/// the broker remembers the newest batch only.
#[tokio::test]
async fn resend_after_clean_broker_restart() {
    five_appended_then(1, |cluster| {
        cluster.kill(1);
        cluster.restart(1);
    })
    .await;
}

/// The same with all brokers gone at once.
#[tokio::test]
async fn resend_after_all_brokers_killed() {
    five_appended_then(3, |cluster| {
        cluster.kill_all();
        cluster.restart_all();
    })
    .await;
}

async fn five_appended_then(brokers: usize, happens: impl FnOnce(&FakeCluster)) {
    let cluster = cluster(brokers);
    let producer = single(&cluster).await;
    all_delivered(&send_some(&producer, "w", 1).await).await;
    cluster.inject(next_produce(FaultAction::SwallowAnswer).times(5));
    let receipts = send_some(&producer, "a", 8).await;
    until(&cluster, "appended", |view| view.end_offset("t", 0) == Some(6));
    happens(&cluster);
    let offsets = all_delivered(&receipts).await;
    assert_eq!(offsets[4..], [Some(5), Some(6), Some(7), Some(8)], "known where the broker remembers");
    assert_eq!(values(&cluster)[1..], numbered("a", 8));
    assert!(stamps(&cluster, 0).iter().all(|stamp| stamp.1 == 0), "nothing was given up");
}

/// Defect: error 6 taken for a refusal. A leader that steps down answers it to requests whose batch it has appended and
/// the next leader may have too.
#[tokio::test]
async fn leader_moves_mid_batch() {
    for retries in [0, 1000] {
        let cluster = FakeCluster::start(3);
        cluster.create_topic_with("t", 1, TopicConfig { min_insync: Some(2), ..TopicConfig::default() });
        let client = client(&cluster).await;
        let producer = one_by_one(&client).retries(retries).build().await.unwrap();
        all_delivered(&send_some(&producer, "w", 1).await).await;
        let leader = cluster.look(|view| view.leader("t", 0)).unwrap();
        cluster.hold_replication("t", 0, true);
        let a = send(&producer, 0, "a").await;
        until(&cluster, "appended", |view| view.end_offset("t", 0) == Some(2));
        // Another replica gets it, but the leader does not learn that in time to acknowledge it.
        cluster.set_isr("t", 0, &[leader]);
        let next = if leader == 1 { 2 } else { 1 };
        cluster.move_leader("t", 0, next);
        cluster.set_isr("t", 0, &[1, 2, 3]);
        cluster.hold_replication("t", 0, false);
        if retries == 0 {
            let error = outcome(&a).await.unwrap_err();
            assert!(error.may_be_delivered(), "it is in the log: {error}");
        } else {
            assert_eq!(offset(&a).await, Some(1));
        }
        // With no retries the first meets the old leader, or the end of its connection.
        let mut tries = 0;
        while let Err(error) = outcome(&send(&producer, 0, "b").await).await {
            tries += 1;
            assert!(tries < 50, "{error}");
        }
        let values = values(&cluster);
        assert_eq!(values[..2], ["w0", "a"]);
        assert!(values.last().is_some_and(|last| last == "b"));
    }
}
