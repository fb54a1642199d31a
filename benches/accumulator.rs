//! What `send` costs an application's thread: look-up, partition, encoding, receipt. The sender and the fake cluster run
//! beside it on threads of their own; only the loop of sends is timed.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use indelible::{Client, Producer, Record};
use proto_tests::fake::FakeCluster;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Few enough that memory never runs out within one round: waiting is not what is measured.
const ROUND: u64 = 50_000;

fn producer(runtime: &Runtime, cluster: &FakeCluster) -> Producer {
    runtime.block_on(async {
        let client = Client::builder(cluster.bootstrap()).build().await.unwrap();
        let producer = client.producer().batch_size(1 << 18).build().await.unwrap();
        producer.send(Record::to("t").value("v")).await.unwrap().delivered().await.unwrap();
        producer
    })
}

fn send(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let cluster = FakeCluster::start(1);
    cluster.create_topic("t", 6);
    let producer = producer(&runtime, &cluster);
    let value = [b'x'; 100];
    let mut group = c.benchmark_group("send");
    group.throughput(Throughput::Elements(1)).sample_size(10);
    for (name, key) in [("explicit partition", None), ("by key", Some(b"customer-42"))] {
        group.bench_function(name, |b| {
            b.iter_custom(|iterations| {
                let (mut spent, mut left) = (Duration::ZERO, iterations);
                while left > 0 {
                    let round = left.min(ROUND);
                    let start = Instant::now();
                    for i in 0..round {
                        let record = Record::to("t").value(&value);
                        let record = match key {
                            Some(key) => record.key(key),
                            None => record.partition((i % 6) as i32),
                        };
                        let _ = producer.try_send(record).unwrap();
                    }
                    spent += start.elapsed();
                    runtime.block_on(producer.flush());
                    left -= round;
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group!(benches, send);
criterion_main!(benches);
