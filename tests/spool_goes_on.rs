//! What once kept a spool from going on, or from staying where it is.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a scenario may fail loudly")]

mod producer_support;

use indelible::spool::{self, Filter};
use indelible::types::Compression;
use indelible::{BuildError, Durability, Producer, Record, SpoolError};
use producer_support::spools::{Dir, spilling, spooling};
use producer_support::*;
use proto_tests::fake::{FakeCluster, Fault, FaultAction, TopicConfig};
use std::time::Duration;

async fn flush_in_time(producer: &Producer) {
    tokio::time::timeout(PATIENCE, producer.flush()).await.expect("a flush in time");
}

/// Records for a topic that no broker could be asked for, accepted by a process that found none.
async fn undivided(cluster: &FakeCluster, dir: &Dir, topic: &str, count: usize) {
    let away = impatient(cluster).build_lazy().unwrap();
    let producer = away.producer().spool(&dir.0).durability(Durability::ProcessCrash).batch_size(1000);
    let producer = producer.build().await.unwrap();
    for i in 0..count {
        let value = format!("{i:0100}");
        let _ = producer.send(Record::to(topic).value(&value)).await.unwrap();
    }
    producer.flush_to_spool().await.unwrap();
    producer.close(Duration::ZERO).await.unwrap();
}

/// A dozen refused records that a person wants sent again lie before the ones in doubt: the bytes of those are needed
/// first.
#[tokio::test]
async fn many_retried_before_those_in_doubt() {
    let (cluster, dir) = (cluster(1), Dir::new());
    cluster.create_topic_with("small", 1, TopicConfig { max_message_bytes: 400, ..Default::default() });
    let client = client(&cluster).await;
    let producer = spooling(&client, &dir).await;
    let small = |value: &'static str| producer.send(Record::to("small").value(value));
    let _ = small("a").await.unwrap().delivered().await.unwrap();
    let large = "x".repeat(1000);
    for _ in 0..12 {
        let receipt = producer.send(Record::to("small").value(&large)).await.unwrap();
        assert!(!outcome(&receipt).await.unwrap_err().may_be_delivered());
    }
    let _ = small("b").await.unwrap().delivered().await.unwrap();
    cluster.inject(Fault::always(FaultAction::DropBeforeApply).api(PRODUCE));
    for value in ["c", "d", "e"] {
        small(value).await.unwrap().spooled().await.unwrap();
    }
    until(&cluster, "an attempt", |view| view.requests(PRODUCE) > 15);
    producer.close(Duration::ZERO).await.unwrap();
    assert_eq!(spool::retry(&dir.0, &Filter::dead()).unwrap().batches, 12);
    cluster.clear_faults();
    let producer = spooling(&client, &dir).await;
    flush_in_time(&producer).await;
    assert_eq!(cluster.ledger().partition_values("small", 0), ["a", "b", "c", "d", "e"]);
}

/// Their bytes are read back piece by piece, in what memory there is, while the same broker takes other records.
#[tokio::test]
async fn more_undivided_than_memory_holds() {
    let (cluster, dir) = (cluster(1), Dir::new());
    cluster.create_topic("u", 2);
    cluster.kill(1);
    undivided(&cluster, &dir, "u", 400).await;
    cluster.hide_topic("u", true);
    cluster.restart(1);
    let client = client(&cluster).await;
    let producer = client.producer().spool(&dir.0).batch_size(1000).max_request_size(4000).buffer_memory(8000);
    let producer = producer.build().await.unwrap();
    let _ = send(&producer, 0, "first").await.delivered().await.unwrap();
    cluster.hide_topic("u", false);
    flush_in_time(&producer).await;
    let ledger = cluster.ledger();
    let mut all: Vec<u32> =
        (0..2).flat_map(|partition| ledger.partition_values("u", partition)).map(|v| v.parse().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..400).collect::<Vec<_>>());
}

/// Brokers that turn out to be another cluster's get nothing, also not what has no partition yet.
#[tokio::test]
async fn undivided_records_do_not_go_to_another_cluster() {
    let (first, dir) = (cluster(1), Dir::new());
    let second = FakeCluster::builder().brokers(1).cluster_id("the-other-one").start();
    second.create_topic("u", 2);
    let client_1 = client(&first).await;
    let producer = spooling(&client_1, &dir).await;
    all_delivered(&send_some(&producer, "w", 1).await).await;
    producer.close(PATIENCE).await.unwrap();
    second.kill(1);
    undivided(&second, &dir, "u", 20).await;
    second.restart(1);
    let client_2 = client(&second).await;
    let producer = spooling(&client_2, &dir).await;
    assert!(!second.wait_for(|view| view.record_count("u") > 0, Duration::from_millis(500)), "written all the same");
    producer.close(Duration::ZERO).await.unwrap();
    let left: u64 = spool::inspect(&dir.0).unwrap().batches.iter().map(|batch| batch.records).sum();
    assert_eq!(left, 20);
}

/// Dropped while a batch is being compressed: it is awaited, written, and the directory is free.
#[tokio::test]
async fn dropped_while_a_batch_is_compressed() {
    let cluster = cluster(1);
    let client = client(&cluster).await;
    let mut random = 1u64;
    let noise = std::iter::repeat_with(|| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 32) as u8
    });
    let noise: Vec<u8> = noise.take(6 << 20).collect();
    for _ in 0..5 {
        let dir = Dir::new();
        let build = || {
            let producer = client.producer().spool(&dir.0).linger(Duration::ZERO).compression(Compression::Gzip);
            producer.max_request_size(8 << 20).build()
        };
        let producer = build().await.unwrap();
        let _ = producer.send(Record::to("t").partition(0).value("known")).await.unwrap().delivered().await.unwrap();
        let _ = producer.send(Record::to("t").partition(0).value(&noise)).await.unwrap();
        // The compressor has it by then.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let _ = producer.send(Record::to("t").partition(0).value("last")).await.unwrap();
        drop(producer);
        let free = async {
            while let Err(BuildError::Spool(SpoolError::InUse { .. })) = build().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, free).await.expect("the directory to be free");
    }
}

/// What a person is told of a batch that overflowed: why it waits.
#[tokio::test]
async fn a_parked_batch_that_overflowed_tells_why() {
    let (cluster, dir) = (cluster(1), Dir::new());
    let client = client(&cluster).await;
    let producer = spilling(&client, &dir).await;
    all_delivered(&send_some(&producer, "w", 1).await).await;
    cluster.kill(1);
    let receipts = send_some(&producer, "a", 3).await;
    receipts[2].spooled().await.unwrap();
    eventually("the reason", || {
        let spool = spool::inspect(&dir.0).unwrap();
        spool.batches.first().is_some_and(|batch| batch.status.reason().is_some())
    })
    .await;
    producer.close(Duration::ZERO).await.unwrap();
}

/// A topic that is gone for long: what is still being gathered for it stays with its position, which is written later.
#[tokio::test]
async fn a_vanished_topic_takes_no_record_without_its_position() {
    let (cluster, dir) = (cluster(1), Dir::new());
    let client = client(&cluster).await;
    let patience = Duration::from_millis(1000);
    let producer = client.producer().spool(&dir.0).linger(patience).delivery_timeout(patience).build().await.unwrap();
    let put = |position: u64| producer.send(Record::to("t").partition(0).value("v").position("source", position));
    let first = put(1).await.unwrap();
    producer.flush().await;
    let _ = offset(&first).await;
    eventually("an empty spool", || spool::inspect(&dir.0).unwrap().batches.is_empty()).await;
    cluster.hide_topic("t", true);
    cluster.inject(Fault::always(FaultAction::Error(3)).api(PRODUCE));
    for position in 2.. {
        assert!(position < 500, "never a dead batch");
        let _ = put(position).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let spool = spool::inspect(&dir.0).unwrap();
        let records: u64 = spool.batches.iter().map(|batch| batch.records).sum();
        assert_eq!(1 + records, spool.positions["source"], "as in every moment");
        if spool.batches.iter().any(|batch| batch.status.is_dead()) {
            break;
        }
    }
}

/// What only overflows keeps no stamps on disk, and yet the next process must know which epochs this one has used.
#[tokio::test]
async fn epochs_used_in_memory_are_known_to_the_next() {
    let (cluster, dir) = (cluster(1), Dir::new());
    cluster.create_topic_with("small", 1, TopicConfig { max_message_bytes: 400, ..Default::default() });
    let client = client(&cluster).await;
    let opened = || one_by_one(&client).spill(&dir.0).build();
    let producer = opened().await.unwrap();
    let large = "x".repeat(1000);
    for (value, is_taken) in [("a", true), (&large, false), ("b", true)] {
        let receipt = producer.send(Record::to("small").value(value)).await.unwrap();
        assert_eq!(outcome(&receipt).await.is_ok(), is_taken);
    }
    // The refused one has closed an epoch. Of another partition something is left, of the first epoch.
    cluster.inject(Fault::always(FaultAction::DropBeforeApply).api(PRODUCE));
    let _ = send(&producer, 0, "left").await;
    let before = cluster.look(|view| view.requests(PRODUCE));
    until(&cluster, "an attempt", |view| view.requests(PRODUCE) > before);
    producer.close(Duration::ZERO).await.unwrap();
    cluster.clear_faults();
    let producer = opened().await.unwrap();
    let receipt = producer.send(Record::to("small").value("c")).await.unwrap();
    outcome(&receipt).await.unwrap();
    flush_in_time(&producer).await;
    assert_eq!(cluster.ledger().partition_values("small", 0), ["a", "b", "c"]);
    assert_eq!(values(&cluster), ["left"]);
}

/// Adopted once, and not emptied in that run: what is left is this cluster's then.
#[tokio::test]
async fn an_adopted_spool_stays_adopted() {
    let (first, dir) = (cluster(1), Dir::new());
    let client_1 = client(&first).await;
    let producer = spooling(&client_1, &dir).await;
    all_delivered(&send_some(&producer, "w", 1).await).await;
    first.inject(Fault::always(FaultAction::DropBeforeApply).api(PRODUCE));
    send_some(&producer, "a", 3).await[2].spooled().await.unwrap();
    producer.close(Duration::ZERO).await.unwrap();
    let second = FakeCluster::builder().brokers(1).cluster_id("the-other-one").start();
    // Topic ids are given one after the other.
    second.create_topic("other", 1);
    second.create_topic("t", 2);
    second.inject(Fault::always(FaultAction::DropBeforeApply).api(PRODUCE));
    let client_2 = client(&second).await;
    let adopting = one_by_one(&client_2).spool(&dir.0).property("spool.adopt", "true").build().await.unwrap();
    send_some(&adopting, "b", 1).await[0].spooled().await.unwrap();
    adopting.close(Duration::ZERO).await.unwrap();
    second.clear_faults();
    let producer = spooling(&client_2, &dir).await;
    flush_in_time(&producer).await;
    assert_eq!(values(&second), [numbered("a", 3), numbered("b", 1)].concat());
}

/// What is sent while its partition is parked is not waited for either, also where only what overflows goes to disk.
#[tokio::test]
async fn a_flush_does_not_wait_for_what_comes_behind_parked_records() {
    let (cluster, dir) = (cluster(1), Dir::new());
    let client = client(&cluster).await;
    let producer = spilling(&client, &dir).await;
    all_delivered(&send_some(&producer, "w", 1).await).await;
    cluster.kill(1);
    let mut receipts = send_some(&producer, "a", 3).await;
    flush_in_time(&producer).await;
    receipts.extend(send_some(&producer, "b", 3).await);
    flush_in_time(&producer).await;
    cluster.restart(1);
    all_delivered(&receipts).await;
    assert_eq!(values(&cluster), [numbered("w", 1), numbered("a", 3), numbered("b", 3)].concat());
}
