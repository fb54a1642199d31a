//! What is handled beyond the committed offset, on real brokers: they keep the text, give it back, and other clients of the
//! group are not disturbed by it, nor we by theirs.

#![allow(clippy::unwrap_used, reason = "scenarios on a real cluster")]

mod real_support;

use indelible::{Client, ConsumerBuilder, Order, Record};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest};
use kafka_protocol::protocol::StrBytes;
use proto_tests::raw::{self, RawClient};
use proto_tests::real::RealCluster;
use real_support::{client, committed, expect, has_kcat, topic, unique, until, wait};
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Offsets = Arc<Mutex<BTreeSet<i64>>>;

fn by_hand(client: &Client, group: &str, topic: &str) -> ConsumerBuilder {
    let builder = client.consumer(group).assign([(topic, 0)]).commit_interval(Duration::from_millis(50));
    builder.order(Order::None).workers(64)
}

fn fill(client: &Client, topic: &str, count: usize) {
    wait(async {
        let producer = client.producer().build().await.unwrap();
        let mut receipts = Vec::new();
        for n in 0..count {
            let value = n.to_string();
            receipts.push(producer.send(Record::to(topic).partition(0).value(&value)).await.unwrap());
        }
        for receipt in receipts {
            receipt.delivered().await.unwrap();
        }
    });
}

/// Handles all but those of `stuck`, until it has handled `count`; then it is dropped with the others in their handlers.
fn die_after(builder: ConsumerBuilder, stuck: fn(i64) -> bool, count: usize) -> BTreeSet<i64> {
    let handled = Offsets::default();
    let noting = handled.clone();
    let running = builder.run(move |delivery| {
        let noting = noting.clone();
        async move {
            if stuck(delivery.offset()) {
                std::future::pending::<()>().await;
            }
            noting.lock().unwrap().insert(delivery.offset());
            Ok::<(), io::Error>(())
        }
    });
    wait(async {
        let seen = async {
            while handled.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            ended = running => panic!("it ended by itself: {ended:?}"),
            () = seen => {}
        }
    });
    let handled = handled.lock().unwrap();
    handled.clone()
}

/// Handles all there is, up to `end`.
fn rest(builder: ConsumerBuilder, count: u64) -> BTreeSet<i64> {
    let handled = Offsets::default();
    let noting = handled.clone();
    let run = builder.stop_after(count).run(move |delivery| {
        let noting = noting.clone();
        async move {
            assert!(noting.lock().unwrap().insert(delivery.offset()), "{delivery:?} again");
            Ok::<(), io::Error>(())
        }
    });
    wait(run).unwrap();
    let handled = handled.lock().unwrap();
    handled.clone()
}

/// A consumer dies with a few records in its handlers and hundreds handled behind them: the next one handles those few.
#[test]
fn a_restart_repeats_nothing_that_was_committed_in_metadata() {
    let cluster = RealCluster::shared().unwrap();
    let client = client(&cluster);
    let topic = topic(&cluster, "beyond", 1, &[]);
    let name = unique("beyond");
    fill(&client, &topic, 1000);
    let stuck = |offset: i64| offset % 100 == 37;
    let first = die_after(by_hand(&client, &name, &topic), stuck, 990);
    until("the last commit", || expect(committed(&cluster, &name, &topic, 0), Some(37)));
    // Told by the commit alone: this process knows nothing of the other.
    let second = rest(by_hand(&real_support::client(&cluster), &name, &topic), 10);
    assert!(first.is_disjoint(&second), "repeated: {:?}", first.intersection(&second).collect::<Vec<_>>());
    assert_eq!(second, (0..1000).filter(|offset| stuck(*offset)).collect());
    // It ended with the last of those; what lies behind them is still remembered.
    assert!(committed(&cluster, &name, &topic, 0) >= Some(938));
    assert_eq!(rest(by_hand(&client, &name, &topic).stop_at_end(), u64::MAX), BTreeSet::new());
    assert_eq!(committed(&cluster, &name, &topic, 0), Some(1000));
}

/// The offset was committed by somebody else, with a note of theirs.
#[test]
fn notes_of_others_are_left_alone() {
    let cluster = RealCluster::shared().unwrap();
    let client = client(&cluster);
    let topic = topic(&cluster, "notes", 1, &[]);
    let name = unique("notes");
    fill(&client, &topic, 20);
    commit(&cluster, &name, &topic, 12, "i1.moved by hand");
    assert_eq!(rest(by_hand(&client, &name, &topic), 8), (12..20).collect());
    assert_eq!(committed(&cluster, &name, &topic, 0), Some(20));
}

/// kcat begins at a committed offset that has as long a note of ours as brokers take.
#[test]
fn kcat_goes_on_from_a_commit_with_metadata() {
    if !has_kcat() {
        return;
    }
    let cluster = RealCluster::shared().unwrap();
    let client = client(&cluster);
    let topic = topic(&cluster, "noted", 1, &[]);
    let name = unique("noted");
    fill(&client, &topic, 20);
    commit(&cluster, &name, &topic, 12, &format!("i1.{}", "A".repeat(4093)));
    let ran = std::process::Command::new("kcat")
        .args(["-b", &cluster.bootstrap().join(","), "-G", &name, "-q", "-c", "1", "-f", "%o\\n"])
        .args(["-X", "auto.offset.reset=error", &topic])
        .output()
        .unwrap();
    let read = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert_eq!(read.lines().next(), Some("12"), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// Somebody else commits.
fn commit(cluster: &RealCluster, group: &str, topic: &str, offset: i64, metadata: &str) {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(-1)
        .with_committed_metadata(Some(text(metadata)));
    let asked = OffsetCommitRequestTopic::default().with_name(raw::name(topic)).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![asked]);
    until("the foreign commit", || {
        let coordinator = cluster.group_coordinator(group).map_err(|error| error.to_string())?;
        let mut raw = RawClient::connect(cluster.address(coordinator)).map_err(|error| error.to_string())?;
        let answer = raw.call(7, &request).map_err(|error| error.to_string())?;
        expect(answer.topics[0].partitions[0].error_code, 0)
    });
}
