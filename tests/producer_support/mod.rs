//! What the producer's scenarios share: clients that do not wait long, and a strict look at the log.

#![allow(dead_code, unreachable_pub, reason = "each scenario file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a scenario may fail loudly")]
#![allow(clippy::disallowed_methods, reason = "a test may look at the clock")]

pub mod spools;

use indelible::{Client, ClientBuilder, Place, Producer, ProducerBuilder, Receipt, Record, SendError};
use proto_tests::fake::{FakeCluster, Fault, FaultAction};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

pub const PRODUCE: i16 = 0;
pub const METADATA: i16 = 3;
pub const INIT_PRODUCER_ID: i16 = 22;
pub const DESCRIBE_PRODUCERS: i16 = 61;
/// How long anything may take before a scenario is given up.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// So many brokers and the topic "t" with two partitions.
pub fn cluster(brokers: usize) -> FakeCluster {
    let cluster = FakeCluster::start(brokers);
    cluster.create_topic("t", 2);
    cluster
}

/// Short waits: a request fails after 300 ms, retries come after 10 ms.
pub fn impatient(cluster: &FakeCluster) -> ClientBuilder {
    Client::builder(cluster.bootstrap())
        .request_timeout(Duration::from_millis(300))
        .property("retry.backoff.ms", "10")
        .property("retry.backoff.max.ms", "40")
        .property("reconnect.backoff.ms", "5")
        .property("reconnect.backoff.max.ms", "40")
}

pub async fn client(cluster: &FakeCluster) -> Client {
    impatient(cluster).build().await.unwrap()
}

/// Every record is a batch of its own and goes at once.
pub fn one_by_one(client: &Client) -> ProducerBuilder {
    client.producer().batch_size(0).linger(Duration::ZERO)
}

/// A producer of single records, on a client of its own.
pub async fn single(cluster: &FakeCluster) -> Producer {
    one_by_one(&client(cluster).await).build().await.unwrap()
}

pub async fn send(producer: &Producer, partition: i32, value: impl Into<String>) -> Receipt {
    let value = value.into();
    producer.send(Record::to("t").partition(partition).value(&value)).await.unwrap()
}

/// Sends `prefix` followed by 0, 1, 2 and so on to partition 0.
pub async fn send_some(producer: &Producer, prefix: &str, count: usize) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    for i in 0..count {
        receipts.push(send(producer, 0, format!("{prefix}{i}")).await);
    }
    receipts
}

/// What became of a record; a scenario that waits for ever fails here.
pub async fn outcome(receipt: &Receipt) -> Result<Place, SendError> {
    tokio::time::timeout(PATIENCE, receipt.delivered()).await.expect("an outcome in time")
}

/// The offset of a record that must have been delivered.
pub async fn offset(receipt: &Receipt) -> Option<i64> {
    match outcome(receipt).await {
        Ok(place) => place.offset(),
        Err(error) => panic!("not delivered: {error}"),
    }
}

/// All delivered, and one after the other where offsets are known.
pub async fn all_delivered(receipts: &[Receipt]) -> Vec<Option<i64>> {
    let mut offsets = Vec::new();
    for receipt in receipts {
        offsets.push(offset(receipt).await);
    }
    let known: Vec<_> = offsets.iter().flatten().collect();
    assert!(known.is_sorted(), "{known:?}");
    offsets
}

/// What partition 0 of "t" holds.
pub fn values(cluster: &FakeCluster) -> Vec<String> {
    cluster.ledger().partition_values("t", 0)
}

pub fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{prefix}{i}")).collect()
}

/// Producer id, epoch and first sequence of each batch in the log of a partition of "t".
pub fn stamps(cluster: &FakeCluster, partition: i32) -> Vec<(i64, i16, i32)> {
    let stamp = |batch: &bytes::Bytes| {
        let (id, rest) = batch[43..].split_first_chunk::<8>().unwrap();
        let (epoch, rest) = rest.split_first_chunk::<2>().unwrap();
        let sequence = rest.first_chunk::<4>().unwrap();
        (i64::from_be_bytes(*id), i16::from_be_bytes(*epoch), i32::from_be_bytes(*sequence))
    };
    cluster.ledger().batches("t", partition).iter().map(stamp).collect()
}

/// `action` at the next Produce request.
pub fn next_produce(action: FaultAction) -> Fault {
    Fault::once(action).api(PRODUCE)
}

/// For what announces itself nowhere: figures of the client.
pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub fn until(cluster: &FakeCluster, what: &str, done: impl FnMut(proto_tests::fake::View<'_>) -> bool) {
    assert!(cluster.wait_for(done, PATIENCE), "never: {what}");
}

/// Runs a future on a thread of its own, without any runtime.
pub fn thread<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    std::thread::spawn(move || {
        let waker = Arc::new(Unpark(std::thread::current())).into();
        let mut future = pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(value) => return value,
                Poll::Pending => std::thread::park(),
            }
        }
    })
}
