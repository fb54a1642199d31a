//! Records through producer, fake cluster and consumer, all in this process: for changes of more than one part at a time.
//! The fake cluster's share is large; against other clients measure with a null broker.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use indelible::types::Compression;
use indelible::{Client, Record};
use proto_tests::fake::FakeCluster;
use std::convert::Infallible;
use std::time::{Duration, Instant};

const RECORDS: u64 = 20_000;

async fn produce(client: &Client, topic: &str, size: usize, compression: Compression) {
    let producer = client.producer().batch_size(1 << 18).compression(compression).build().await.unwrap();
    let value = vec![b'x'; size];
    for i in 0..RECORDS {
        let _ = producer.send(Record::to(topic).partition((i % 6) as i32).value(&value)).await.unwrap();
    }
    producer.close(Duration::from_secs(60)).await.unwrap();
}

fn end_to_end(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let cluster = FakeCluster::start(3);
    let client = runtime.block_on(Client::builder(cluster.bootstrap()).build()).unwrap();
    let mut round = 0;
    let mut group = c.benchmark_group("end to end");
    group.throughput(Throughput::Elements(RECORDS)).sample_size(10);
    for (size, compression) in [(100, Compression::None), (1024, Compression::None), (1024, Compression::Lz4)] {
        group.bench_function(BenchmarkId::new(compression.name(), size), |b| {
            b.iter_custom(|iterations| {
                let mut spent = Duration::ZERO;
                for _ in 0..iterations {
                    round += 1;
                    let topic = format!("t{round}");
                    cluster.create_topic(&topic, 6);
                    let start = Instant::now();
                    runtime.block_on(async {
                        produce(&client, &topic, size, compression).await;
                        let consumer = client.consumer_without_group().assign((0..6).map(|p| (topic.as_str(), p)));
                        let consumer = consumer.stop_after(RECORDS);
                        let summary = consumer.run(|_| std::future::ready(Ok::<(), Infallible>(()))).await.unwrap();
                        assert_eq!(summary.records, RECORDS);
                    });
                    spent += start.elapsed();
                    cluster.delete_topic(&topic);
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group!(benches, end_to_end);
criterion_main!(benches);
