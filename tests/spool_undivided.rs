//! Records accepted before their topic's partitions were known come before the newer ones, while those are being sent.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a scenario may fail loudly")]

mod producer_support;

use indelible::types::Compression;
use indelible::{Durability, Record};
use producer_support::spools::Dir;
use producer_support::*;
use std::collections::HashMap;
use std::time::Duration;

const RECORDS: u64 = 2000;
const KEYS: u64 = 7;

async fn brokers_come_while_records_are_sent(positions: bool) {
    let (cluster, dir) = (cluster(1), Dir::new());
    cluster.kill(1);
    let client = impatient(&cluster).build_lazy().unwrap();
    let producer = client.producer().spool(&dir.0).durability(Durability::ProcessCrash).batch_size(300);
    let producer = producer.compression(Compression::Lz4).linger(Duration::from_millis(1)).build().await.unwrap();
    let mut receipts = Vec::new();
    for i in 0..RECORDS {
        let (key, value) = (format!("k{}", i % KEYS), i.to_string());
        let record = Record::to("t").key(&key).value(&value);
        let record = if positions { record.position("source", i + 1) } else { record };
        receipts.push(producer.send(record).await.unwrap());
        if i == 500 {
            cluster.restart(1);
        }
        if i % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
    tokio::time::timeout(PATIENCE, producer.flush()).await.expect("a flush in time");
    assert!(receipts.iter().all(|receipt| receipt.is_delivered() == Some(true)));
    let (mut last, mut total) = (HashMap::new(), 0);
    for value in (0..2).flat_map(|partition| cluster.ledger().partition_values("t", partition)) {
        let value: u64 = value.parse().unwrap();
        let before = last.insert(value % KEYS, value);
        assert!(before.is_none_or(|before| before < value), "{value} after {before:?}");
        total += 1;
    }
    assert_eq!(total, RECORDS);
}

#[tokio::test]
async fn in_order() {
    brokers_come_while_records_are_sent(false).await;
}

#[tokio::test]
async fn in_order_with_positions() {
    brokers_come_while_records_are_sent(true).await;
}
