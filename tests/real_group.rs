//! Consumer groups on a real cluster: nothing is committed that was not handled, and nothing is left out.

#![allow(clippy::unwrap_used, reason = "scenarios on a real cluster")]

mod real_support;

use indelible::{Client, ConsumeError, ConsumerBuilder, ConsumerHandle, Delivery, Record, Summary};
use kafka_protocol::messages::{DescribeGroupsRequest, GroupId};
use kafka_protocol::protocol::StrBytes;
use proto_tests::raw::RawClient;
use proto_tests::real::RealCluster;
use real_support::{builder, client, committed, expect, topic, unique, until, wait};
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

type Seen = Arc<Mutex<BTreeSet<(i32, i64)>>>;

/// A consumer that notices failures soon.
fn group(client: &Client, name: &str, topic: &str) -> ConsumerBuilder {
    client
        .consumer(name)
        .topics([topic])
        .property("session.timeout.ms", "3000")
        .property("heartbeat.interval.ms", "300")
        .commit_interval(Duration::from_millis(50))
}

/// A consumer on a thread of its own.
struct Running {
    handle: ConsumerHandle,
    thread: JoinHandle<Result<Summary, ConsumeError>>,
}

impl Running {
    fn start<F>(builder: ConsumerBuilder, handler: impl FnMut(Delivery) -> F + Send + 'static) -> Running
    where
        F: Future<Output = io::Result<()>>,
    {
        let consumer = builder.build().unwrap();
        let handle = consumer.handle();
        Running { handle, thread: std::thread::spawn(move || wait(consumer.run(handler))) }
    }

    fn noting(builder: ConsumerBuilder, seen: &Seen) -> Running {
        let seen = seen.clone();
        Running::start(builder, move |delivery| {
            seen.lock().unwrap().insert((delivery.partition(), delivery.offset()));
            async { Ok(()) }
        })
    }

    fn stop(self) -> Summary {
        self.handle.shutdown();
        self.thread.join().unwrap().unwrap()
    }
}

fn fill(client: &Client, topic: &str, partition: i32, count: usize) {
    wait(async {
        let producer = client.producer().build().await.unwrap();
        let mut receipts = Vec::new();
        for n in 0..count {
            let value = n.to_string();
            receipts.push(producer.send(Record::to(topic).partition(partition).value(&value)).await.unwrap());
        }
        for receipt in receipts {
            receipt.delivered().await.unwrap();
        }
    });
}

fn until_seen(seen: &Seen, count: usize) {
    until(&format!("{count} records"), || expect(seen.lock().unwrap().len(), count));
}

fn until_committed(cluster: &RealCluster, group: &str, topic: &str, partition: i32, offset: i64) {
    until(&format!("a commit of {offset}"), || expect(committed(cluster, group, topic, partition), Some(offset)));
}

/// The broker that coordinates the group is killed: the group goes on with another one, and commits there.
#[test]
fn coordinator_moves() {
    let cluster = RealCluster::shared_alone().unwrap();
    let client = client(&cluster);
    let topic = topic(&cluster, "coordinator", 1, &[]);
    let name = unique("coordinator");
    let seen = Seen::default();
    let running = Running::noting(group(&client, &name, &topic), &seen);
    fill(&client, &topic, 0, 100);
    until_seen(&seen, 100);
    until_committed(&cluster, &name, &topic, 0, 100);
    let coordinator = cluster.group_coordinator(&name).unwrap();
    cluster.kill(coordinator).unwrap();
    fill(&client, &topic, 0, 100);
    until_seen(&seen, 200);
    until_committed(&cluster, &name, &topic, 0, 200);
    cluster.start_broker(coordinator).unwrap();
    running.stop();
    assert_eq!(committed(&cluster, &name, &topic, 0), Some(200));
}

/// Partitions are added to a topic that is being read, and written to at once: they are read from their beginning.
#[test]
fn partition_added() {
    let cluster = RealCluster::shared().unwrap();
    let client = wait(builder(&cluster).metadata_max_age(Duration::from_secs(1)).build()).unwrap();
    let topic = topic(&cluster, "added", 1, &[]);
    let name = unique("added");
    let seen = Seen::default();
    fill(&client, &topic, 0, 10);
    let running = Running::noting(group(&client, &name, &topic), &seen);
    until_seen(&seen, 10);
    cluster.create_partitions(&topic, 3).unwrap();
    let writer = real_support::client(&cluster);
    fill(&writer, &topic, 1, 10);
    fill(&writer, &topic, 2, 10);
    until_seen(&seen, 30);
    assert!(running.handle.metrics().rebalances >= 2);
    running.stop();
    assert_eq!([0, 1, 2].map(|partition| committed(&cluster, &name, &topic, partition)), [Some(10); 3]);
}

/// Records that a group has not handled yet are deleted: the group is told so, with the offsets there are, and does not
/// jump anywhere.
#[test]
fn offset_out_of_range() {
    let cluster = RealCluster::shared().unwrap();
    let client = client(&cluster);
    let topic = topic(&cluster, "out-of-range", 1, &[]);
    let name = unique("out-of-range");
    fill(&client, &topic, 0, 100);
    let first = wait(group(&client, &name, &topic).stop_after(10).run(|_| async { Ok::<_, io::Error>(()) }));
    assert_eq!(first.unwrap().records, 10);
    assert_eq!(committed(&cluster, &name, &topic, 0), Some(10));
    let leader = cluster.leader(&topic, 0).unwrap();
    let mut raw = RawClient::connect(cluster.address(leader)).unwrap();
    assert_eq!(raw.delete_records(&topic, 0, 50).unwrap(), (0, 50));
    let error = wait(group(&client, &name, &topic).run(|_| async { Ok::<_, io::Error>(()) })).unwrap_err();
    assert!(matches!(error, ConsumeError::OffsetOutOfRange { offset: 10, first: 50, last: 100, .. }), "{error}");
    assert_eq!(committed(&cluster, &name, &topic, 0), Some(10));
}

/// A member has fetched all records and is busy with one of each partition when another member joins. It finishes these,
/// and what it fetched and did not handle is not committed: the new owner goes on exactly there, and nothing is handled
/// twice.
#[test]
fn fetched_not_handled_then_revoked() {
    let cluster = RealCluster::shared().unwrap();
    let client = client(&cluster);
    let topic = topic(&cluster, "revoked", 2, &[]);
    let name = unique("revoked");
    for partition in [0, 1] {
        fill(&client, &topic, partition, 100);
    }
    let seen = Seen::default();
    let (go, gate) = tokio::sync::watch::channel(false);
    let noted = seen.clone();
    let first = Running::start(group(&client, &name, &topic), move |delivery| {
        let (mut gate, noted) = (gate.clone(), noted.clone());
        async move {
            if delivery.offset() >= 10 {
                let _ = gate.wait_for(|open| *open).await;
                // Work enough for the next heartbeat to come before the last record.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert!(noted.lock().unwrap().insert((delivery.partition(), delivery.offset())), "{delivery:?} again");
            Ok(())
        }
    });
    until_seen(&seen, 20);
    for partition in [0, 1] {
        until_committed(&cluster, &name, &topic, partition, 10);
    }
    let others = Seen::default();
    let second = Running::noting(group(&client, &name, &topic), &others);
    until("the second member to join", || expect(state(&cluster, &name), "PreparingRebalance".to_owned()));
    assert_eq!([0, 1].map(|partition| committed(&cluster, &name, &topic, partition)), [Some(10); 2]);
    go.send(true).unwrap();
    until("all records", || expect(seen.lock().unwrap().len() + others.lock().unwrap().len(), 200));
    first.stop();
    second.stop();
    let (seen, others) = (seen.lock().unwrap(), others.lock().unwrap());
    assert!(seen.is_disjoint(&others), "handled twice: {:?}", seen.intersection(&others).collect::<Vec<_>>());
    assert!(!others.is_empty(), "nothing moved to the second member");
    assert_eq!([0, 1].map(|partition| committed(&cluster, &name, &topic, partition)), [Some(100); 2]);
}

/// A record takes its handler longer than the session and the poll interval last. The membership goes on, nothing is
/// rebalanced, and it is told.
#[test]
fn slow_handler_keeps_membership() {
    let cluster = RealCluster::shared().unwrap();
    let client = client(&cluster);
    for protocol in ["classic", "consumer"] {
        let topic = topic(&cluster, "slow", 2, &[]);
        let name = unique("slow");
        fill(&client, &topic, 0, 10);
        fill(&client, &topic, 1, 10);
        let seen = Seen::default();
        let noting = seen.clone();
        let builder = group(&client, &name, &topic).property("group.protocol", protocol);
        let running = Running::start(builder.property("max.poll.interval.ms", "2000"), move |delivery| {
            let noting = noting.clone();
            async move {
                if (delivery.partition(), delivery.offset()) == (0, 3) {
                    // Brokers of the tests give a silent member of either protocol up after 3 and 6 s.
                    tokio::time::sleep(Duration::from_secs(8)).await;
                }
                assert!(noting.lock().unwrap().insert((delivery.partition(), delivery.offset())), "{delivery:?} again");
                Ok(())
            }
        });
        until_committed(&cluster, &name, &topic, 1, 10);
        assert!(seen.lock().unwrap().len() < 20, "the slow record holds up its partition only");
        until_seen(&seen, 20);
        let metrics = running.handle.metrics();
        assert!(metrics.slow_handlers >= 1, "{metrics:?}");
        assert_eq!(metrics.rebalances, 1, "{metrics:?}");
        running.stop();
        assert_eq!([0, 1].map(|partition| committed(&cluster, &name, &topic, partition)), [Some(10); 2]);
    }
}

/// Compaction leaves gaps, and at the end of a producer a batch without records: the position passes both, and the group
/// commits up to the end of the log.
#[test]
fn compacted_empty_or_control_batches() {
    let cluster = RealCluster::shared().unwrap();
    let client = client(&cluster);
    let configs = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("segment.ms", "500"),
        ("max.compaction.lag.ms", "1"),
    ];
    let topic = topic(&cluster, "compacted", 1, &configs);
    // Each producer writes both keys, and is followed by one that does the same.
    let write = |key: &str, value: String| {
        wait(async {
            let producer = client.producer().build().await.unwrap();
            producer.send(Record::to(&topic).key(key).value(&value)).await.unwrap().delivered().await.unwrap();
        });
    };
    for round in 0..5 {
        write("a", format!("a{round}"));
        write("b", format!("b{round}"));
    }
    // Something is written now and then, for a segment is compacted only when the next one has begun.
    let mut last = 10;
    let left = until("compaction", || {
        std::thread::sleep(Duration::from_millis(600));
        write("c", format!("c{last}"));
        last += 1;
        let left = real_support::records(&cluster, &topic, 0, 1);
        // Neither key of the first rounds is there any more.
        if left.len() < 10 && left[0].offset > 0 { Ok(left) } else { Err(format!("{} records", left.len())) }
    });
    // A transaction ends with a control batch.
    if real_support::has_kcat() {
        let mut kcat = std::process::Command::new("kcat")
            .args(["-P", "-b", &cluster.bootstrap().join(","), "-t", &topic, "-K:", "-X", "transactional.id=compacted"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut kcat.stdin.take().unwrap(), b"t:in a transaction\n").unwrap();
        assert!(kcat.wait().unwrap().success());
    }
    let control = i64::from(real_support::has_kcat());
    let end = until("the end of the log", || {
        let leader = cluster.leader(&topic, 0).map_err(|error| error.to_string())?;
        let mut raw = RawClient::connect(cluster.address(leader)).map_err(|error| error.to_string())?;
        let (code, end, _) = raw.list_offset(&topic, 0, -1).map_err(|error| error.to_string())?;
        // The mark is written soon after the transaction has ended.
        expect((code, end), (0, last + 2 * control)).map(|(_, end)| end)
    });
    let expected: BTreeSet<(i32, i64)> =
        left.iter().map(|record| (0, record.offset)).chain((last..end - control).map(|offset| (0, offset))).collect();
    let name = unique("compacted");
    let seen = Seen::default();
    let running = Running::noting(group(&client, &name, &topic), &seen);
    until_committed(&cluster, &name, &topic, 0, end);
    running.stop();
    let seen = seen.lock().unwrap();
    // Compaction may have gone on since.
    assert!(seen.is_subset(&expected), "{seen:?} of {expected:?}");
    assert!(seen.contains(&(0, end - 1 - control)) && seen.len() < 12, "{seen:?}");
}

/// What the coordinator says of a group, such as `Stable`.
fn state(cluster: &RealCluster, group: &str) -> String {
    let id = GroupId(StrBytes::from_string(group.to_owned()));
    let mut raw = RawClient::connect(cluster.address(cluster.group_coordinator(group).unwrap())).unwrap();
    let answer = raw.call(5, &DescribeGroupsRequest::default().with_groups(vec![id])).unwrap();
    answer.groups[0].group_state.to_string()
}
