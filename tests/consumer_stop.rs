//! A consumer can be stopped at any moment of its beginning.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod consumer_support;

use consumer_support::*;
use indelible::{Client, ConsumeError, SeekTo, StopReason};
use std::time::Duration;
use tokio::time::timeout;

#[tokio::test]
async fn a_consumer_that_is_stopped_while_it_begins_ends() {
    for protocol in ["classic", "auto"] {
        let cluster = cluster("orders", 3);
        for round in 0..60u32 {
            write(&cluster, "orders", 0, &["record"]);
            let client = client(&cluster).await;
            let consumer = client.consumer("billing").topics(["orders"]).property("group.protocol", protocol);
            let consumer = consumer.build().unwrap();
            let handle = consumer.handle();
            let running = tokio::spawn(consumer.run(|_| async { Ok::<(), String>(()) }));
            tokio::time::sleep(Duration::from_micros(u64::from(round) * 150)).await;
            handle.shutdown();
            let ended = timeout(PATIENCE, running).await;
            assert!(ended.is_ok(), "{protocol}: stopped after {} µs, and does not end", round * 150);
            ended.unwrap().unwrap().unwrap();
        }
    }
}

/// A limit that was computed, and came to nothing.
#[tokio::test]
async fn a_limit_of_no_records_is_reached_at_once() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["record"]);
    let run = billing(&client(&cluster).await).stop_after(0).run(|_| async { Err::<(), _>("a record was handed out") });
    let summary = timeout(PATIENCE, run).await.unwrap().unwrap();
    assert_eq!((summary.records, summary.reason), (0, StopReason::MaxRecords));
}

/// Other clients have numbers below 0 for the ends of a log; committed, such a one would be the group's place no more.
#[tokio::test]
async fn places_that_cannot_be_are_refused_before_anything_is_committed() {
    let cluster = cluster("orders", 2);
    let client = client(&cluster).await;
    let by_hand = || client.consumer("billing");
    for (what, builder) in [
        ("offset -1", by_hand().assign_from([("orders", 0, -1)])),
        ("offset -2", by_hand().assign_at([("orders", 0)], SeekTo::Offset(-2))),
        ("partition -1", by_hand().assign([("orders", -1)])),
        ("orders-1 is named twice", by_hand().assign([("orders", 0), ("orders", 1)]).assign_from([("orders", 1, 5)])),
    ] {
        let error = builder.build().unwrap_err();
        assert!(matches!(error, ConsumeError::Config(_)) && error.to_string().contains(what), "{what}: {error}");
    }
    assert!(by_hand().assign([("orders", 0), ("orders", 1)]).build().is_ok());
}

/// A client that waits for its brokers for ever, and never asks for metadata by itself.
#[tokio::test]
async fn settings_may_say_for_ever() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["record"]);
    let builder = Client::builder(cluster.bootstrap()).request_timeout(Duration::MAX).metadata_max_age(Duration::MAX);
    let client = builder.rack("r1").build().await.unwrap();
    for protocol in ["classic", "auto"] {
        let group = client.consumer(protocol).pattern("orders").property("group.protocol", protocol);
        let run = group.stop_after(1).run(|_| async { Ok::<(), String>(()) });
        assert_eq!(timeout(PATIENCE, run).await.unwrap().unwrap().records, 1, "{protocol}");
    }
}
