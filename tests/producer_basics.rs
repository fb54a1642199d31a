//! The producer on a healthy cluster, and what it refuses.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use indelible::{Client, Record, SendCause, SendError};
use proto_tests::fake::FakeCluster;
use std::time::Duration;

async fn client(cluster: &FakeCluster) -> Client {
    Client::builder(cluster.bootstrap()).build().await.unwrap()
}

#[tokio::test]
async fn records_arrive_once_and_in_order_with_their_places() {
    let cluster = FakeCluster::start(3);
    cluster.create_topic("orders", 3);
    let producer = client(&cluster).await.producer().build().await.unwrap();
    let mut receipts = vec![];
    for i in 0..1000 {
        let value = format!("v{i}");
        receipts.push((i, producer.send(Record::to("orders").partition(i % 3).value(&value)).await.unwrap()));
    }
    for (i, receipt) in receipts {
        let place = receipt.delivered().await.unwrap();
        assert_eq!((place.topic(), place.partition(), place.offset()), ("orders", i % 3, Some(i64::from(i / 3))));
    }
    let ledger = cluster.ledger();
    for partition in 0..3 {
        let records = ledger.records("orders", partition);
        let values: Vec<_> =
            records.iter().map(|r| String::from_utf8(r.value.clone().unwrap().to_vec()).unwrap()).collect();
        let expected: Vec<_> = (0..1000).filter(|i| i % 3 == partition).map(|i| format!("v{i}")).collect();
        assert_eq!(values, expected);
    }
    producer.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn keys_headers_and_nulls_arrive_as_they_are() {
    let cluster = FakeCluster::start(1);
    cluster.create_topic("t", 1);
    let producer = client(&cluster).await.producer().build().await.unwrap();
    let record = Record::to("t").key("k").header("a", Some(b"1")).header("a", None).timestamp(1_700_000_000_000);
    producer.send(record).await.unwrap().delivered().await.unwrap();
    let records = cluster.ledger().records("t", 0);
    assert_eq!(records[0].key.as_deref(), Some(&b"k"[..]));
    assert_eq!(records[0].value, None);
    assert_eq!(records[0].timestamp, 1_700_000_000_000);
    assert_eq!(records[0].headers.len(), 2);
}

#[tokio::test]
async fn every_codec_is_read_back() {
    use indelible::types::Compression::*;
    let cluster = FakeCluster::start(1);
    for codec in [None, Gzip, Snappy, Lz4, Zstd] {
        let topic = codec.name();
        cluster.create_topic(topic, 1);
        let producer = client(&cluster).await.producer().compression(codec).build().await.unwrap();
        for i in 0..200 {
            let value = format!("{{\"id\":{i},\"state\":\"paid\"}}");
            let _ = producer.send(Record::to(topic).value(&value)).await.unwrap();
        }
        producer.flush().await;
        assert_eq!(cluster.ledger().values(topic).len(), 200, "{codec}");
    }
}

#[tokio::test]
async fn without_a_key_batches_spread_over_the_partitions() {
    let cluster = FakeCluster::start(3);
    cluster.create_topic("t", 4);
    let producer = client(&cluster).await.producer().batch_size(1000).build().await.unwrap();
    for i in 0..4000 {
        let value = format!("value {i} of a good length");
        let _ = producer.send(Record::to("t").value(&value)).await.unwrap();
    }
    producer.flush().await;
    let ledger = cluster.ledger();
    for partition in 0..4 {
        assert!(ledger.records("t", partition).len() > 100, "partition {partition}");
    }
}

#[tokio::test]
async fn a_callback_is_told_the_place() {
    let cluster = FakeCluster::start(1);
    cluster.create_topic("t", 1);
    let producer = client(&cluster).await.producer().build().await.unwrap();
    let (give, take) = std::sync::mpsc::channel();
    for i in 0..10 {
        let give = give.clone();
        producer.send_with(Record::to("t").value("v"), move |place| give.send((i, place)).unwrap()).await.unwrap();
    }
    producer.flush().await;
    let places: Vec<_> = take.try_iter().map(|(i, place)| (i, place.unwrap().offset().unwrap())).collect();
    assert_eq!(places, (0..10).map(|i| (i, i)).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_cannot_be_sent_comes_back_whole() {
    let cluster = FakeCluster::start(1);
    cluster.create_topic("t", 2);
    let producer = client(&cluster).await.producer().property("max.block.ms", "300").build().await.unwrap();
    let large = vec![7; 2 << 20];
    let error = producer.send(Record::to("t").key("k").value(&large)).await.unwrap_err();
    assert!(matches!(error.cause(), SendCause::TooLarge { limit: 1_048_576, .. }), "{error}");
    assert_eq!(error.into_record().value.unwrap().len(), large.len());

    let error = producer.send(Record::to("t").partition(9).value("v")).await.unwrap_err();
    assert!(matches!(error.cause(), SendCause::NoSuchPartition { partitions: 2, .. }), "{error}");

    let error = producer.send(Record::to("nowhere").value("v")).await.unwrap_err();
    assert!(matches!(error, SendError::NotDelivered(_)));
    assert!(error.to_string().contains("\"nowhere\" does not exist"), "{error}");
    producer.close(Duration::from_secs(1)).await.unwrap();
    let error = producer.send(Record::to("t").value("v")).await.unwrap_err();
    assert!(matches!(error.cause(), SendCause::Closed));
}

#[tokio::test]
async fn try_send_never_waits() {
    let cluster = FakeCluster::start(1);
    cluster.create_topic("t", 1);
    let producer = client(&cluster).await.producer().buffer_memory(1 << 20).batch_size(1 << 18).build().await.unwrap();
    let error = producer.try_send(Record::to("t").value("v")).unwrap_err();
    assert!(matches!(error.cause(), SendCause::NotYetKnown(_)));
    producer.send(Record::to("t").value("v")).await.unwrap().delivered().await.unwrap();
    cluster.hold_replication("t", 0, true);
    let value = [1; 100_000];
    let full = (0..100).find_map(|_| producer.try_send(Record::to("t").value(&value)).err()).unwrap();
    assert!(matches!(full.cause(), SendCause::BufferFull { .. }), "{full}");
    cluster.hold_replication("t", 0, false);
    producer.flush().await;
    let _ = producer.try_send(Record::to("t").value("v")).unwrap();
}

#[test]
fn needs_no_runtime_of_the_application() {
    let cluster = FakeCluster::start(1);
    cluster.create_topic("t", 1);
    let place = pollster(async {
        let producer = client(&cluster).await.producer().build().await.unwrap();
        producer.send(Record::to("t").value("v")).await.unwrap().delivered().await.unwrap()
    });
    assert_eq!(place.offset(), Some(0));
}

/// The smallest executor there is.
fn pollster<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
