//! Where a real cluster serves records from, and what it says about logs that were cut.

#![allow(clippy::unwrap_used, reason = "scenarios on a real cluster")]

mod real_support;

use indelible::{ConsumeError, Record};
use proto_tests::real::{RealCluster, RealConfig};
use real_support::{builder, client, expect, topic_of, until, wait};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;

fn write(client: &indelible::Client, topic: &str, values: std::ops::Range<usize>) {
    let producer = wait(client.producer().build()).unwrap();
    wait(async {
        let mut receipts = Vec::new();
        for number in values {
            let value = format!("{number:0>1000}");
            receipts.push(producer.send(Record::to(topic).partition(0).value(&value)).await.unwrap());
        }
        for receipt in receipts {
            receipt.delivered().await.unwrap();
        }
    });
}

/// Three racks (KIP-392). A consumer in the rack of broker 2 goes on reading while the leader, broker 1, is stopped in its
/// tracks: the follower serves it. When the follower dies it goes back to the leader.
#[test]
fn a_follower_in_the_own_rack_serves() {
    let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let mut config =
        RealConfig::default().config("replica.selector.class", selector).config("broker.session.timeout.ms", "120000");
    for broker in 1..=3 {
        config = config.broker_config(broker, "broker.rack", &format!("rack-{broker}"));
    }
    let cluster = RealCluster::start(config).unwrap();
    let topic = topic_of(&cluster, "near", 1, 3, &[]);
    cluster.move_leader(&topic, 0, 1).unwrap();
    write(&client(&cluster), &topic, 0..2000);
    cluster.wait_until_in_sync(&topic).unwrap();

    let near = wait(builder(&cluster).rack("rack-2").build()).unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let (go, gate) = watch::channel(1usize);
    // Requests of 64 KiB at most: when the leader stops, most records are still at the brokers.
    let consumer = near
        .consumer_without_group()
        .assign([(topic.as_str(), 0)])
        .property("fetch.buffer.bytes", "131072")
        .property("max.partition.fetch.bytes", "65536")
        .build()
        .unwrap();
    let handle = consumer.handle();
    let noted = seen.clone();
    let running = std::thread::spawn(move || {
        wait(consumer.run(move |_| {
            let (mut gate, noted) = (gate.clone(), noted.clone());
            async move {
                let number = noted.fetch_add(1, Ordering::SeqCst);
                let _ = gate.wait_for(|open| *open > number).await;
                Ok::<_, io::Error>(())
            }
        }))
    });
    let handled = || usize::try_from(handle.metrics().records).unwrap();
    // Far enough for several requests, and for the follower to be asked.
    go.send(500).unwrap();
    until("the first records", || expect(handled(), 500));
    cluster.pause(1).unwrap();
    go.send(1900).unwrap();
    until("records while the leader does nothing", || expect(handled(), 1900));
    cluster.resume(1).unwrap();
    cluster.kill(2).unwrap();
    go.send(usize::MAX).unwrap();
    write(&client(&cluster), &topic, 2000..2100);
    until("records without the follower", || expect(handled(), 2100));
    handle.shutdown();
    running.join().unwrap().unwrap();
}

/// The leader dies with records that nobody else has, after they were handled; an unclean election cuts the log below the
/// consumer's position. It is told so, with both offsets, and does not read on as if nothing had been.
#[test]
fn log_truncated_under_the_consumer() {
    let cluster = RealCluster::shared_alone().unwrap();
    let topic = topic_of(&cluster, "truncated", 1, 2, &[("min.insync.replicas", "1")]);
    cluster.reassign(&topic, 0, &[1, 2]).unwrap();
    cluster.move_leader(&topic, 0, 1).unwrap();
    write(&client(&cluster), &topic, 0..10);
    let consumer = client(&cluster).consumer_without_group().assign([(topic.as_str(), 0)]).build().unwrap();
    let handle = consumer.handle();
    let running = std::thread::spawn(move || wait(consumer.run(|_| async { Ok::<_, io::Error>(()) })));
    until("ten records", || expect(handle.metrics().records, 10));
    cluster.kill(2).unwrap();
    write(&client(&cluster), &topic, 10..15);
    until("the records that will be lost", || expect(handle.metrics().records, 15));
    cluster.kill(1).unwrap();
    cluster.start_broker(2).unwrap();
    until("broker 2 to lead", || {
        cluster.elect_unclean(&topic, 0).map_err(|error| error.to_string()).and_then(|id| expect(id, 2))
    });
    let error = running.join().unwrap().unwrap_err();
    assert!(matches!(error, ConsumeError::DataLoss { position: 15, end: 10, .. }), "{error}");
}
