//! What the scenarios on a real cluster share. Whatever checks the client goes around it: raw requests and files of the
//! brokers.

#![allow(dead_code, unreachable_pub, reason = "each scenario file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "scenarios on a real cluster")]

pub mod commits;
pub mod load;
pub mod log;
pub mod proxy;
pub mod secure;
pub mod spools;

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use indelible::{Client, ClientBuilder};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{GroupId, OffsetFetchRequest};
use proto_tests::fake::Record as Stored;
use proto_tests::raw::RawClient;
use proto_tests::real::RealCluster;

/// How long anything may take before a scenario is given up: elections and starts of brokers are in it, on a machine
/// that does other things beside.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Runs a future of the client, which needs no particular executor.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub fn builder(cluster: &RealCluster) -> ClientBuilder {
    Client::builder(cluster.bootstrap())
}

pub fn client(cluster: &RealCluster) -> Client {
    wait(builder(cluster).build()).unwrap()
}

/// A new topic with three replicas in sync, of which two must be.
pub fn topic(cluster: &RealCluster, story: &str, partitions: i32, configs: &[(&str, &str)]) -> String {
    let configs: Vec<_> = [("min.insync.replicas", "2")].iter().chain(configs).copied().collect();
    topic_of(cluster, story, partitions, 3, &configs)
}

pub fn topic_of(
    cluster: &RealCluster,
    story: &str,
    partitions: i32,
    replicas: i16,
    configs: &[(&str, &str)],
) -> String {
    let name = unique(story);
    cluster.create_topic(&name, partitions, replicas, configs).unwrap();
    cluster.wait_until_in_sync(&name).unwrap();
    name
}

/// A name that no other test nor an earlier run on the same cluster has.
pub fn unique(story: &str) -> String {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    // Two tests of a process may ask in the same millisecond.
    let given = GIVEN.fetch_add(1, Ordering::Relaxed);
    format!("{story}-{}-{}-{given}", std::process::id(), now.as_millis() % 1_000_000_000)
}

/// Waits for an event that is looked for again and again; `seen` tells what there is instead.
pub fn until<T>(awaited: &str, mut seen: impl FnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match seen() {
            Ok(value) => return value,
            Err(instead) if begin.elapsed() > PATIENCE => panic!("waited in vain for {awaited}: {instead}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Checks a condition for [`until`].
pub fn expect<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Result<T, String> {
    if found == expected { Ok(found) } else { Err(format!("{found:?} instead of {expected:?}")) }
}

/// Every record that consumers can see in a partition, once there are `count` of them and all replicas agree. More than
/// `count` are returned too.
pub fn records(cluster: &RealCluster, topic: &str, partition: i32, count: usize) -> Vec<Stored> {
    cluster.wait_until_in_sync(topic).unwrap();
    until(&format!("{count} records in {topic}-{partition}"), || {
        let found = read(cluster, topic, partition)?;
        if found.len() < count { Err(format!("{} records", found.len())) } else { Ok(found) }
    })
}

fn read(cluster: &RealCluster, topic: &str, partition: i32) -> Result<Vec<Stored>, String> {
    let leader = cluster.leader(topic, partition).map_err(|error| error.to_string())?;
    let mut raw = RawClient::connect(cluster.address(leader)).map_err(|error| error.to_string())?;
    let mut found: Vec<Stored> = Vec::new();
    loop {
        let next = found.last().map_or(0, |record| record.offset + 1);
        match raw.fetch(topic, partition, next).map_err(|error| error.to_string())? {
            (0, more) if more.is_empty() => return Ok(found),
            (0, more) => found.extend(more),
            (code, _) => return Err(format!("Fetch from {next}: error {code}")),
        }
    }
}

pub fn value(record: &Stored) -> String {
    String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()
}

pub fn values(cluster: &RealCluster, topic: &str, partition: i32, count: usize) -> Vec<String> {
    records(cluster, topic, partition, count).iter().map(value).collect()
}

/// The leader epochs of the batches that a broker's own log of a partition holds, replicated or not.
pub fn batches_on_disk(cluster: &RealCluster, broker: i32, topic: &str, partition: i32) -> Vec<i32> {
    let folder = cluster.log_dir(broker).join(format!("{topic}-{partition}"));
    let log = std::fs::read(folder.join("00000000000000000000.log")).unwrap_or_default();
    let mut rest = log.as_slice();
    let mut epochs = Vec::new();
    let number = |bytes: &[u8]| i32::from_be_bytes(bytes.try_into().unwrap());
    while let Some(head) = rest.get(8..16) {
        let length = usize::try_from(number(&head[..4])).unwrap() + 12;
        // Segments may be extended by zeros in advance.
        let Some(next) = rest.get(length..).filter(|_| length > 12) else { break };
        rest = next;
        epochs.push(number(&head[4..]));
    }
    epochs
}

/// Waits until the broker's own log of a partition holds `count` batches.
pub fn until_on_disk(cluster: &RealCluster, broker: i32, topic: &str, partition: i32, count: usize) {
    until(&format!("{count} batches of {topic}-{partition} on broker {broker}"), || {
        expect(batches_on_disk(cluster, broker, topic, partition).len(), count)
    });
}

/// The offset that a group has committed.
pub fn committed(cluster: &RealCluster, group: &str, topic: &str, partition: i32) -> Option<i64> {
    until(&format!("the committed offset of {group} for {topic}-{partition}"), || {
        let coordinator = cluster.group_coordinator(group).map_err(|error| error.to_string())?;
        let asked = OffsetFetchRequestTopic::default()
            .with_name(proto_tests::raw::name(topic))
            .with_partition_indexes(vec![partition]);
        let request = OffsetFetchRequest::default()
            .with_group_id(GroupId(kafka_protocol::protocol::StrBytes::from_string(group.to_owned())))
            .with_topics(Some(vec![asked]))
            .with_require_stable(true);
        let mut raw = RawClient::connect(cluster.address(coordinator)).map_err(|error| error.to_string())?;
        let answer = raw.call(7, &request).map_err(|error| error.to_string())?;
        let row = answer.topics.first().and_then(|topic| topic.partitions.first()).ok_or("no partition")?;
        match (answer.error_code, row.error_code) {
            (0, 0) => Ok(Some(row.committed_offset).filter(|offset| *offset >= 0)),
            codes => Err(format!("OffsetFetch: errors {codes:?}")),
        }
    })
}

/// Whether kcat is there to compare with. Its absence is told by `scripts/test`.
pub fn has_kcat() -> bool {
    let found = std::process::Command::new("kcat").arg("-V").output().is_ok();
    if !found {
        eprintln!("!!!! not compared with kcat, which is not there");
    }
    found
}

/// What kcat reads of a topic from its beginning to its end: partition, offset, value.
pub fn kcat(cluster: &RealCluster, topic: &str) -> Vec<(i32, i64, String)> {
    let output = std::process::Command::new("kcat")
        .args(["-C", "-q", "-e", "-o", "beginning", "-X", "check.crcs=true", "-f", "%p %o %s\\n", "-t", topic, "-b"])
        .arg(cluster.bootstrap().join(","))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default();
        (word().parse().unwrap(), word().parse().unwrap(), word().to_owned())
    };
    text.lines().map(line).collect()
}
