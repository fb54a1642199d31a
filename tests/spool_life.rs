//! A producer with a spool through its life: written ahead, closed with records left, opened again.

mod producer_support;

use indelible::{Client, Durability, Producer, Record, SendError};
use producer_support::*;
use proto_tests::fake::{Fault, FaultAction};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A directory that goes with the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("indelible-life-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Dir(std::env::temp_dir().join(name))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn spooling(client: &Client, dir: &Dir) -> Producer {
    one_by_one(client).spool(&dir.0).build().await.unwrap()
}

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
