//! What the consumer's scenarios share: a cluster with records, written by hand over a socket of their own, so that no
//! producer has to be right for them.

#![allow(dead_code, unreachable_pub, reason = "each scenario file uses its part")]
#![allow(clippy::unwrap_used, reason = "a scenario cannot go on without its cluster")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use indelible::types::{Acks, ProducerIdentity, TopicId};
use indelible::wire::batch::{RecordsBuilder, SealedBatch};
use indelible::wire::requests::offset_commit::{OffsetCommitPartition, OffsetCommitRequest, OffsetCommitResponse};
use indelible::wire::requests::produce::{ProducePartition, ProduceRequest, ProduceTopic};
use indelible::wire::{Request, encode_request, split_response_header};
use indelible::{Client, ConsumerBuilder, Delivery};
use proto_tests::fake::FakeCluster;

pub const PRODUCE: i16 = 0;
pub const FETCH: i16 = 1;
pub const OFFSET_COMMIT: i16 = 8;
pub const HEARTBEAT: i16 = 12;
/// How long anything may take before a scenario is given up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Three brokers and a topic.
pub fn cluster(topic: &str, partitions: i32) -> FakeCluster {
    let cluster = FakeCluster::start(3);
    cluster.create_topic(topic, partitions);
    cluster
}

pub async fn client(cluster: &FakeCluster) -> Client {
    Client::builder(cluster.bootstrap()).build().await.unwrap()
}

/// A consumer of group "billing" that does not let a scenario wait.
pub fn billing(client: &Client) -> ConsumerBuilder {
    client
        .consumer("billing")
        .topics(["orders"])
        .property("heartbeat.interval.ms", "50")
        .property("fetch.max.wait.ms", "50")
        .commit_interval(Duration::from_millis(50))
        .shutdown_timeout(Duration::from_secs(5))
}

/// Writes one batch of these values.
pub fn write(cluster: &FakeCluster, topic: &str, partition: i32, values: &[&str]) {
    let mut builder = RecordsBuilder::new(BytesMut::new());
    for value in values {
        builder.push(cluster.now_ms(), Some(b"key"), Some(value.as_bytes()), &[("h", Some(b"v"))]).unwrap();
    }
    let batch = SealedBatch::new(builder.finish());
    let header = batch.stamp(ProducerIdentity::NONE, -1, false);
    write_batch(cluster, topic, partition, [header, batch.section().bytes.clone()]);
}

/// Writes one batch of these keys and values.
pub fn write_keyed<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    cluster: &FakeCluster,
    topic: &str,
    partition: i32,
    records: impl IntoIterator<Item = (Option<K>, V)>,
) {
    let mut builder = RecordsBuilder::new(BytesMut::new());
    for (key, value) in records {
        builder.push(cluster.now_ms(), key.as_ref().map(AsRef::as_ref), Some(value.as_ref()), &[]).unwrap();
    }
    let batch = SealedBatch::new(builder.finish());
    let header = batch.stamp(ProducerIdentity::NONE, -1, false);
    write_batch(cluster, topic, partition, [header, batch.section().bytes.clone()]);
}

/// Writes a batch whose checksum is right and whose records are garbage.
pub fn write_garbage(cluster: &FakeCluster, topic: &str, partition: i32) {
    let mut builder = RecordsBuilder::new(BytesMut::new());
    builder.push(cluster.now_ms(), Some(b"key"), Some(b"value"), &[]).unwrap();
    let mut section = builder.finish();
    section.bytes = Bytes::from(vec![0xff; section.bytes.len()]);
    let batch = SealedBatch::new(section);
    let header = batch.stamp(ProducerIdentity::NONE, -1, false);
    write_batch(cluster, topic, partition, [header, batch.section().bytes.clone()]);
}

fn write_batch(cluster: &FakeCluster, topic: &str, partition: i32, batch: [Bytes; 2]) {
    const VERSION: i16 = 9;
    let leader = cluster.look(|view| view.leader(topic, partition)).unwrap();
    let request = ProduceRequest {
        acks: Acks::All,
        timeout_ms: 5000,
        topics: vec![ProduceTopic {
            name: Arc::from(topic),
            id: TopicId::NONE,
            partitions: vec![ProducePartition { partition, batch }],
        }],
    };
    let response = call(cluster, leader, &request, VERSION);
    assert!(response.topics[0].partitions[0].error.is_ok(), "{response:?}");
}

/// Commits an offset, its leader epoch and a text from outside of the group's members.
pub fn write_commit(
    cluster: &FakeCluster,
    group: &str,
    topic: &str,
    partition: i32,
    (offset, leader_epoch): (i64, i32),
    metadata: &str,
) {
    const VERSION: i16 = 7;
    let coordinator = cluster.look(|view| view.coordinator(group)).unwrap();
    let committed = OffsetCommitPartition { partition, offset, leader_epoch, metadata: metadata.to_owned() };
    let request = OffsetCommitRequest {
        group: Arc::from(group),
        generation: -1,
        member_id: String::new(),
        instance_id: None,
        topics: vec![(Arc::from(topic), vec![committed])],
    };
    let response: OffsetCommitResponse = call(cluster, coordinator, &request, VERSION);
    assert!(response.topics[0].1[0].1.is_ok(), "{response:?}");
}

fn call<R: Request>(cluster: &FakeCluster, broker: i32, request: &R, version: i16) -> R::Response {
    let mut socket = TcpStream::connect(cluster.address(broker)).unwrap();
    for part in encode_request(request, version, 1, "writer").unwrap() {
        socket.write_all(&part).unwrap();
    }
    let mut length = [0; 4];
    socket.read_exact(&mut length).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut frame).unwrap();
    let (_, body) = split_response_header(R::KEY, version, frame.into()).unwrap();
    R::decode(version, body).unwrap()
}

/// Values as they came to a handler.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<Mutex<Vec<(i32, i64, String)>>>);

impl Seen {
    pub fn note(&self, delivery: &Delivery) {
        let value = String::from_utf8_lossy(delivery.value()).into_owned();
        self.0.lock().unwrap().push((delivery.partition(), delivery.offset(), value));
    }

    pub fn all(&self) -> Vec<(i32, i64, String)> {
        self.0.lock().unwrap().clone()
    }

    pub fn values(&self) -> Vec<String> {
        let mut values: Vec<String> = self.all().into_iter().map(|(_, _, value)| value).collect();
        values.sort();
        values
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Waits until `done`, without blocking the executor.
pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "waited in vain: {what}");
}

/// The offset that the group "billing" has committed.
pub fn committed(cluster: &FakeCluster, partition: i32) -> Option<i64> {
    cluster.ledger().committed("billing", "orders", partition)
}
