//! A producer with a spool through its life: written ahead, closed with records left, opened again.

#![allow(clippy::unwrap_used, reason = "a scenario may fail loudly")]

mod producer_support;

use indelible::{Durability, Record, SendError};
use producer_support::spools::{Dir, spilling, spooling};
use producer_support::*;
use proto_tests::fake::{FakeCluster, Fault, FaultAction};
use std::time::Duration;

#[tokio::test]
async fn delivered_records_leave_the_spool_empty() {
    let (cluster, dir) = (cluster(3), Dir::new());
    let client = client(&cluster).await;
    let producer = spooling(&client, &dir).await;
    let receipts = send_some(&producer, "a", 100).await;
    for receipt in &receipts {
        receipt.spooled().await.unwrap();
    }
    assert_eq!(all_delivered(&receipts).await, (0..100).map(Some).collect::<Vec<_>>());
    producer.close(PATIENCE).await.unwrap();
    let left = indelible::spool::inspect(&dir.0).unwrap();
    assert_eq!(left.batches.len(), 0, "{left:?}");
    let producer = spooling(&client, &dir).await;
    producer.flush().await;
    producer.close(PATIENCE).await.unwrap();
    assert_eq!(values(&cluster), numbered("a", 100));
}

#[tokio::test]
async fn what_was_left_is_delivered_by_the_next_producer_before_its_own() {
    let (cluster, dir) = (cluster(1), Dir::new());
    let client = client(&cluster).await;
    let producer = spooling(&client, &dir).await;
    all_delivered(&send_some(&producer, "w", 3).await).await;
    cluster.inject(Fault::always(FaultAction::DropBeforeApply).api(PRODUCE));
    let receipts = send_some(&producer, "a", 20).await;
    for receipt in &receipts {
        receipt.spooled().await.unwrap();
    }
    producer.close(Duration::ZERO).await.unwrap();
    for receipt in &receipts {
        let error = receipt.delivered().await.unwrap_err();
        assert!(matches!(error, SendError::Spooled(_)), "{error}");
    }
    cluster.clear_faults();
    let producer = spooling(&client, &dir).await;
    all_delivered(&send_some(&producer, "b", 5).await).await;
    producer.flush().await;
    assert_eq!(values(&cluster), [numbered("w", 3), numbered("a", 20), numbered("b", 5)].concat());
}

#[tokio::test]
async fn accepted_with_no_broker_there_and_no_topic_known() {
    let (cluster, dir) = (cluster(1), Dir::new());
    cluster.kill(1);
    let away = impatient(&cluster).build_lazy().unwrap();
    let producer = away.producer().spool(&dir.0).durability(Durability::ProcessCrash).build().await.unwrap();
    for i in 0..2000 {
        let (key, value) = (format!("k{}", i % 7), format!("v{i}"));
        let _ = producer.send(Record::to("t").key(&key).value(&value)).await.unwrap();
    }
    producer.flush_to_spool().await.unwrap();
    producer.close(Duration::ZERO).await.unwrap();
    drop(away);
    cluster.restart(1);
    let producer = spooling(&client(&cluster).await, &dir).await;
    producer.flush().await;
    let mut all: Vec<String> = (0..2).flat_map(|partition| cluster.ledger().partition_values("t", partition)).collect();
    assert_eq!(all.len(), 2000);
    for key in 0..7 {
        let of_key: Vec<_> = all.iter().filter_map(|v| v[1..].parse::<u32>().ok()).filter(|n| n % 7 == key).collect();
        assert!(of_key.is_sorted(), "{key}");
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 2000);
}

#[tokio::test]
async fn positions_over_many_partitions() {
    let (cluster, dir) = (cluster(1), Dir::new());
    let client = client(&cluster).await;
    let mut next = 0u64;
    // Each life ends somewhere in the middle, with brokers away for half of it.
    for life in 0..6 {
        let producer =
            client.producer().spool(&dir.0).batch_size(300).linger(Duration::from_millis(1)).build().await.unwrap();
        assert_eq!(producer.recovered_positions().get("source").copied().unwrap_or(0), next);
        if life % 2 == 0 {
            cluster.inject(Fault::always(FaultAction::DropBeforeApply).api(PRODUCE));
        }
        for position in next + 1..=next + 150 {
            let value = format!("{position}");
            let record = Record::to("t").key(&value).value(&value).position("source", position);
            let _ = producer.send(record).await.unwrap();
        }
        next += 150;
        producer.close(Duration::from_millis(10)).await.unwrap();
        cluster.clear_faults();
    }
    let producer = spooling(&client, &dir).await;
    producer.flush().await;
    let mut all: Vec<u64> = (0..2)
        .flat_map(|partition| cluster.ledger().partition_values("t", partition))
        .map(|value| value.parse().unwrap())
        .collect();
    all.sort_unstable();
    assert_eq!(all, (1..=next).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_too_large_is_dead_and_its_neighbours_go_through() {
    let (cluster, dir) = (cluster(1), Dir::new());
    let config = proto_tests::fake::TopicConfig { max_message_bytes: 400, ..Default::default() };
    cluster.create_topic_with("small", 1, config);
    let client = client(&cluster).await;
    let producer = client.producer().spool(&dir.0).linger(Duration::from_millis(50)).build().await.unwrap();
    let large = "x".repeat(1000);
    let mut receipts = Vec::new();
    for value in ["a", "b", &large, "c", "d", "e"] {
        receipts.push(producer.send(Record::to("small").value(value)).await.unwrap());
    }
    for (i, receipt) in receipts.iter().enumerate() {
        match receipt.delivered().await {
            Ok(_) => assert_ne!(i, 2),
            Err(error) => assert!(i == 2 && !error.may_be_delivered(), "{i}: {error}"),
        }
    }
    assert_eq!(cluster.ledger().partition_values("small", 0), ["a", "b", "c", "d", "e"]);
    producer.close(PATIENCE).await.unwrap();
    // It is not sent again by the next one.
    let producer = spooling(&client, &dir).await;
    producer.flush().await;
    assert_eq!(cluster.ledger().partition_values("small", 0).len(), 5);
}

#[tokio::test]
async fn overflow_goes_to_disk_when_time_is_up_and_comes_back() {
    let (cluster, dir) = (cluster(1), Dir::new());
    let client = client(&cluster).await;
    let producer = spilling(&client, &dir).await;
    all_delivered(&send_some(&producer, "w", 3).await).await;
    cluster.kill(1);
    let receipts = send_some(&producer, "a", 20).await;
    for receipt in &receipts {
        receipt.spooled().await.unwrap();
    }
    cluster.restart(1);
    all_delivered(&receipts).await;
    assert_eq!(values(&cluster), [numbered("w", 3), numbered("a", 20)].concat());

    // What is left at the end goes there too.
    cluster.kill(1);
    let receipts = send_some(&producer, "b", 20).await;
    producer.close(Duration::ZERO).await.unwrap();
    assert!(matches!(receipts[7].delivered().await, Err(SendError::Spooled(_))));
    cluster.restart(1);
    let producer = spilling(&client, &dir).await;
    producer.flush().await;
    assert_eq!(values(&cluster), [numbered("w", 3), numbered("a", 20), numbered("b", 20)].concat());
}

#[tokio::test]
async fn used_up_retries_park_and_do_not_give_up() {
    let (cluster, dir) = (cluster(1), Dir::new());
    let client = client(&cluster).await;
    let producer = one_by_one(&client).spool(&dir.0).retries(1).build().await.unwrap();
    all_delivered(&send_some(&producer, "w", 1).await).await;
    // NOT_ENOUGH_REPLICAS, again and again.
    cluster.inject(Fault::always(FaultAction::Error(19)).api(PRODUCE));
    let receipts = send_some(&producer, "a", 5).await;
    // Parked: nobody waits any longer, and nothing is given up.
    tokio::time::timeout(PATIENCE, producer.flush()).await.unwrap();
    assert!(receipts.iter().all(|receipt| receipt.try_delivered().is_none()));
    cluster.clear_faults();
    all_delivered(&receipts).await;
    assert_eq!(values(&cluster), [numbered("w", 1), numbered("a", 5)].concat());
}

#[tokio::test]
async fn a_small_memory_does_not_stop_a_spool_while_brokers_are_away() {
    let (cluster, dir) = (cluster(1), Dir::new());
    let client = client(&cluster).await;
    let producer = client
        .producer()
        .spool(&dir.0)
        .durability(Durability::ProcessCrash)
        .batch_size(1000)
        .max_request_size(4000)
        .buffer_memory(8000)
        .build()
        .await
        .unwrap();
    let _ = send(&producer, 0, "first").await.delivered().await.unwrap();
    cluster.kill(1);
    let value = "x".repeat(100);
    for i in 0..5000 {
        let value = format!("{i} {value}");
        let _ = send(&producer, i % 2, value).await;
    }
    cluster.restart(1);
    producer.flush().await;
    for partition in 0..2 {
        let values = cluster.ledger().partition_values("t", partition);
        let numbers: Vec<i32> = values.iter().filter_map(|value| value.split(' ').next()?.parse().ok()).collect();
        assert_eq!(numbers, (0..5000).filter(|i| i % 2 == partition).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_spool_of_another_cluster_is_refused_and_can_be_adopted() {
    let (first, dir) = (cluster(1), Dir::new());
    let second = FakeCluster::builder().brokers(1).cluster_id("the-other-one").start();
    second.create_topic("t", 2);
    let client_1 = client(&first).await;
    let producer = spooling(&client_1, &dir).await;
    all_delivered(&send_some(&producer, "w", 3).await).await;
    first.inject(Fault::always(FaultAction::DropBeforeApply).api(PRODUCE));
    let receipts = send_some(&producer, "a", 3).await;
    receipts[2].spooled().await.unwrap();
    producer.close(Duration::ZERO).await.unwrap();
    let client_2 = client(&second).await;
    let producer = spooling(&client_2, &dir).await;
    let error = loop {
        match producer.send(Record::to("t").partition(0).value("b")).await {
            Ok(receipt) => drop(receipt),
            Err(error) => break error.to_string(),
        }
        tokio::task::yield_now().await;
    };
    assert!(error.contains("the spool belongs to cluster") && error.contains("spool.adopt"), "{error}");
    producer.close(Duration::ZERO).await.unwrap();
    assert!(values(&second).is_empty());

    let adopting = || one_by_one(&client_2).spool(&dir.0).property("spool.adopt", "true").build();
    let producer = adopting().await.unwrap();
    producer.flush().await;
    producer.close(PATIENCE).await.unwrap();
    assert_eq!(values(&second)[..3], numbered("a", 3));
    let producer = spooling(&client_2, &dir).await;
    all_delivered(&send_some(&producer, "c", 1).await).await;
}
