//! A spool that is full pushes back, and goes on when brokers take its records.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a scenario may fail loudly")]

mod producer_support;

use indelible::{Durability, Producer, Receipt, Record, SendCause, SendError, SpoolConfig};
use producer_support::spools::Dir;
use producer_support::*;
use std::time::Duration;

/// Sends until a record is refused. Answers what was accepted, and why that one was not.
async fn fill(producer: &Producer, value: &str) -> (Vec<Receipt>, SendError) {
    let mut accepted = Vec::new();
    loop {
        match producer.send(Record::to("t").partition(0).value(value)).await {
            Ok(receipt) => accepted.push(receipt),
            Err(error) => return (accepted, error),
        }
        assert!(accepted.len() < 1000, "never full");
    }
}

#[tokio::test]
async fn a_full_spool_pushes_back_until_brokers_are_back() {
    let (cluster, dir) = (cluster(1), Dir::new());
    let client = client(&cluster).await;
    let mut spool = SpoolConfig::new(&dir.0);
    (spool.segment_bytes, spool.max_bytes) = (64 << 10, 400 << 10);
    let producer = client.producer().spool_config(spool).batch_size(2000).linger(Duration::from_millis(1));
    let producer = producer.property("max.block.ms", "300").build().await.unwrap();
    let _ = send(&producer, 0, "first").await.delivered().await.unwrap();
    cluster.kill(1);
    let value = "v".repeat(1000);
    let (mut accepted, error) = fill(&producer, &value).await;
    let SendCause::SpoolFull { used, limit, waited } = error.cause() else { panic!("{error}") };
    assert!(*used > *limit / 4 && *used <= *limit && waited.as_millis() == 300, "{error}");
    assert!(error.is_retryable() && error.record().value.is_some());
    let error = producer.try_send(Record::to("t").partition(0).value(&value)).unwrap_err();
    assert!(matches!(error.cause(), SendCause::SpoolFull { waited, .. } if waited.is_zero()), "{error}");
    producer.flush_to_spool().await.unwrap();
    cluster.restart(1);
    all_delivered(&accepted).await;
    for _ in 0..300 {
        accepted.push(producer.send(Record::to("t").partition(0).value(&value)).await.unwrap());
    }
    producer.close(PATIENCE).await.unwrap();
    assert_eq!(values(&cluster).len(), 1 + accepted.len());
}

/// What overflows is bounded like what is written ahead: the disk is not filled for as long as brokers are away.
#[tokio::test]
async fn a_full_overflow_pushes_back_until_brokers_are_back() {
    let (cluster, dir) = (cluster(1), Dir::new());
    let client = client(&cluster).await;
    let mut spool = SpoolConfig::new(&dir.0);
    (spool.segment_bytes, spool.max_bytes, spool.durability) = (64 << 10, 400 << 10, Durability::Memory);
    let producer = client.producer().spool_config(spool).batch_size(2000).linger(Duration::from_millis(1));
    let producer = producer.buffer_memory(64 << 10).max_request_size(8000).property("max.block.ms", "3000");
    let producer = producer.build().await.unwrap();
    let _ = send(&producer, 0, "first").await.delivered().await.unwrap();
    cluster.kill(1);
    let value = "v".repeat(1000);
    let (accepted, error) = fill(&producer, &value).await;
    let SendCause::SpoolFull { used, limit, .. } = error.cause() else { panic!("{error}") };
    assert!(*used > *limit / 4 && *used <= *limit, "{error}");
    cluster.restart(1);
    all_delivered(&accepted).await;
    producer.close(PATIENCE).await.unwrap();
    assert_eq!(values(&cluster).len(), 1 + accepted.len());
}
