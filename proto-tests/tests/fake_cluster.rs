//! Killing, electing, holding back: what a test does to the cluster, told from the client's side.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use bytes::Bytes;
use proto_tests::fake::{FakeCluster, TopicConfig, code};
use proto_tests::raw::{BatchSpec, RawClient, batch};
use std::thread::spawn;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn setting() -> FakeCluster {
    let cluster = FakeCluster::start(3);
    cluster.create_topic("t", 1);
    cluster
}

fn leader(cluster: &FakeCluster) -> RawClient {
    let id = cluster.look(|view| view.leader("t", 0)).unwrap();
    RawClient::connect(cluster.address(id)).unwrap()
}

fn fill(cluster: &FakeCluster, count: i32, acks: i16) -> Vec<Bytes> {
    let mut client = leader(cluster);
    (0..count)
        .map(|sequence| {
            let bytes = batch(7, 0, sequence, &[&format!("v{sequence}")]);
            assert_eq!(client.produce_batch("t", 0, &bytes, acks).unwrap(), (0, i64::from(sequence)));
            bytes
        })
        .collect()
}

fn produce(cluster: &FakeCluster, bytes: &Bytes) -> (i16, i64) {
    leader(cluster).produce_batch("t", 0, bytes, -1).unwrap()
}

fn last_sequences(cluster: &FakeCluster) -> Vec<i32> {
    let rows = leader(cluster).describe_producers("t", 0).unwrap().unwrap();
    rows.iter().map(|row| row.last_sequence).collect()
}

/// The row that cost the most thought: the probe at A said 2; B is elected without the three batches; the newest alone is
/// accepted there as offset 0, and the two older are lost for ever.
#[test]
fn unreplicated_batches_lost_by_clean_election() {
    let cluster = setting();
    cluster.hold_replication("t", 0, true);
    let batches = fill(&cluster, 3, 1);
    assert_eq!(last_sequences(&cluster), [2]);
    let old = cluster.look(|view| view.leader("t", 0)).unwrap();
    cluster.kill(old);
    assert_ne!(cluster.look(|view| view.leader("t", 0)), Some(old));
    assert!(last_sequences(&cluster).is_empty());
    cluster.hold_replication("t", 0, false);
    assert_eq!(produce(&cluster, &batches[2]), (0, 0));
    assert_eq!(produce(&cluster, &batches[0]).0, code::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(produce(&cluster, &batches[1]).0, code::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(cluster.ledger().values("t"), ["v2"]);
    assert_eq!(cluster.ledger().lost("t", 0).len(), 3);
    cluster.restart(old);
    assert_eq!(cluster.look(|view| view.isr("t", 0).len()), 3);
    assert_eq!(cluster.ledger().values("t"), ["v2"], "the old leader does not bring them back");
}

/// The same, without killing anybody.
#[test]
fn election_without_the_unreplicated() {
    let cluster = setting();
    let mut batches = fill(&cluster, 2, -1);
    cluster.hold_replication("t", 0, true);
    let third = batch(7, 0, 2, &["v2"]);
    assert_eq!(leader(&cluster).produce_batch("t", 0, &third, 1).unwrap(), (0, 2));
    batches.push(third);
    let next = cluster.elect_clean_without("t", 0).unwrap();
    assert_eq!(cluster.look(|view| (view.leader("t", 0), view.leader_epoch("t", 0))), (Some(next), Some(1)));
    cluster.hold_replication("t", 0, false);
    assert_eq!(last_sequences(&cluster), [1]);
    assert_eq!(produce(&cluster, &batches[1]), (0, 1));
    assert_eq!(produce(&cluster, &batches[2]), (0, 2));
}

/// Eight batches on the leader, four replicated: the follower has a window over the four, not over the newest five.
#[test]
fn truncation_gives_the_follower_its_own_window() {
    let cluster = setting();
    let mut batches = fill(&cluster, 4, -1);
    cluster.hold_replication("t", 0, true);
    for sequence in 4..12 {
        let bytes = batch(7, 0, sequence, &[&format!("v{sequence}")]);
        assert_eq!(leader(&cluster).produce_batch("t", 0, &bytes, 1).unwrap().0, 0);
        batches.push(bytes);
    }
    cluster.elect_clean_without("t", 0).unwrap();
    cluster.hold_replication("t", 0, false);
    for (offset, bytes) in (0..).zip(&batches).take(4) {
        assert_eq!(produce(&cluster, bytes), (0, offset));
    }
}

/// acks=all waits for the followers: in vain, until they copy again. A duplicate waits as well.
#[test]
fn acks_all_waits_for_replication() {
    let cluster = setting();
    cluster.hold_replication("t", 0, true);
    let bytes = batch(7, 0, 0, &["a"]);
    let short = Duration::from_millis(100);
    for _ in 0..2 {
        let (error, offset) = leader(&cluster).produce_with("t", 0, &bytes, -1, short).unwrap();
        assert_eq!((error, offset), (code::REQUEST_TIMED_OUT, 0));
    }
    assert_eq!(cluster.look(|view| (view.end_offset("t", 0), view.high_watermark("t", 0))), (Some(1), Some(0)));
    assert_eq!(leader(&cluster).fetch("t", 0, 0).unwrap(), (0, Vec::new()), "not readable yet");
    let waiting = {
        let (cluster, bytes) = (cluster.clone(), bytes.clone());
        spawn(move || produce(&cluster, &bytes))
    };
    assert!(cluster.wait_for(|view| view.requests(0) == 3, SECOND));
    cluster.hold_replication("t", 0, false);
    assert_eq!(waiting.join().unwrap(), (0, 0));
    assert_eq!(leader(&cluster).fetch("t", 0, 0).unwrap().1.len(), 1);
}

/// The ISR shrinks while acks=all waits; the batch stays on the leader. Old brokers have a code for it.
#[test]
fn not_enough_replicas_after_append() {
    let cluster = FakeCluster::builder().brokers(3).high_watermark_below_min_insync(true).start();
    cluster.create_topic_with("t", 1, TopicConfig { min_insync: Some(2), ..TopicConfig::default() });
    cluster.hold_replication("t", 0, true);
    let waiting = {
        let cluster = cluster.clone();
        spawn(move || produce(&cluster, &batch(7, 0, 0, &["a"])))
    };
    assert!(cluster.wait_for(|view| view.end_offset("t", 0) == Some(1), SECOND));
    cluster.set_isr("t", 0, &[]);
    assert_eq!(waiting.join().unwrap().0, code::NOT_ENOUGH_REPLICAS_AFTER_APPEND);
    assert_eq!(produce(&cluster, &batch(7, 0, 1, &["b"])).0, code::NOT_ENOUGH_REPLICAS);
    assert_eq!(last_sequences(&cluster), [0]);
}

/// The same on a broker of today: the high watermark stands still, so the request ends in a time-out; then even the
/// duplicate is refused before anybody looks whether it is one.
#[test]
fn in_sync_replicas_shrink_while_acks_all_waits() {
    let cluster = FakeCluster::start(3);
    cluster.create_topic_with("t", 1, TopicConfig { min_insync: Some(2), ..TopicConfig::default() });
    cluster.hold_replication("t", 0, true);
    let waiting = {
        let cluster = cluster.clone();
        let bytes = batch(7, 0, 0, &["a"]);
        spawn(move || leader(&cluster).produce_with("t", 0, &bytes, -1, SECOND / 2).unwrap())
    };
    assert!(cluster.wait_for(|view| view.end_offset("t", 0) == Some(1), SECOND));
    cluster.set_isr("t", 0, &[]);
    assert_eq!(waiting.join().unwrap(), (code::REQUEST_TIMED_OUT, 0));
    assert_eq!(produce(&cluster, &batch(7, 0, 0, &["a"])), (code::NOT_ENOUGH_REPLICAS, -1));
}

/// Acknowledged records are gone; epochs and end offsets tell where.
#[test]
fn unclean_election_loses_acked_records() {
    let cluster = setting();
    let batches = fill(&cluster, 5, -1);
    cluster.unclean_election("t", 0, 2);
    assert_eq!(cluster.look(|view| (view.end_offset("t", 0), view.high_watermark("t", 0))), (Some(3), Some(3)));
    assert_eq!(cluster.ledger().lost("t", 0).len(), 2);
    assert_eq!(last_sequences(&cluster), [2]);
    assert_eq!(produce(&cluster, &batches[4]).0, code::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(produce(&cluster, &batches[3]), (0, 3));
    assert_eq!(leader(&cluster).fetch("t", 0, 5).unwrap().0, code::OFFSET_OUT_OF_RANGE);
}

/// Nobody has the partition; metadata says so, and the data is there when its broker is back.
#[test]
fn all_replicas_down() {
    let cluster = FakeCluster::start(2);
    cluster.create_topic_with("t", 1, TopicConfig { replication: Some(1), ..TopicConfig::default() });
    fill(&cluster, 1, -1);
    cluster.kill(1);
    assert!(RawClient::connect(cluster.address(1)).is_err());
    let mut other = RawClient::connect(cluster.address(2)).unwrap();
    let metadata = other.metadata(Some("t")).unwrap();
    let row = &metadata.topics[0].partitions[0];
    assert_eq!((row.error_code, row.leader_id.0), (code::LEADER_NOT_AVAILABLE, -1));
    assert_eq!(metadata.brokers.len(), 1);
    let before = cluster.address(1);
    cluster.restart(1);
    assert_eq!(cluster.address(1), before, "on its old port");
    assert_eq!(cluster.ledger().values("t"), ["v0"]);
    assert_eq!(leader(&cluster).fetch("t", 0, 0).unwrap().1.len(), 1);
}

/// A connection that waits for acks=all when its broker is killed gets no answer, least of all an error code.
#[test]
fn killed_broker_does_not_answer() {
    let cluster = setting();
    cluster.hold_replication("t", 0, true);
    let mut client = leader(&cluster);
    let waiting = spawn(move || client.produce_batch("t", 0, &batch(7, 0, 0, &["a"]), -1));
    assert!(cluster.wait_for(|view| view.end_offset("t", 0) == Some(1), SECOND));
    cluster.kill(cluster.look(|view| view.leader("t", 0)).unwrap());
    assert!(waiting.join().unwrap().is_err());
}

/// All producers silent for a day, by the timestamps of their batches, are forgotten at the next check.
#[test]
fn old_timestamp_producer_id_expired() {
    let cluster = setting();
    let spec = BatchSpec::new(7, 0, 0, &["new"]);
    let old = BatchSpec::new(8, 0, 0, &["old"]).at(spec.timestamp - 86_000_000).build();
    let new = spec.build();
    produce(&cluster, &old);
    produce(&cluster, &new);
    cluster.advance_time(Duration::from_secs(599));
    assert_eq!(produce(&cluster, &old), (0, 0), "expired, but not checked yet");
    cluster.advance_time(Duration::from_secs(1));
    assert_eq!(produce(&cluster, &old), (0, 2), "a re-send is written twice");
    assert_eq!(produce(&cluster, &new), (0, 1));
    cluster.advance_time(2 * DAY);
    assert!(last_sequences(&cluster).is_empty());
    assert_eq!(produce(&cluster, &batch(7, 0, 99, &["x"])), (0, 3), "any sequence");
}

/// A new replica leads after the log was trimmed: it never saw the old batches.
#[test]
fn new_replica_leads_after_trim() {
    let cluster = setting();
    let batches = fill(&cluster, 3, -1);
    cluster.delete_records("t", 0, 2);
    assert_eq!(produce(&cluster, &batches[0]), (0, 0), "the old leader remembers");
    cluster.replace_replica("t", 0, 2);
    cluster.move_leader("t", 0, 2);
    assert_eq!(produce(&cluster, &batches[2]), (0, 2));
    assert_eq!(produce(&cluster, &batches[0]).0, code::OUT_OF_ORDER_SEQUENCE_NUMBER);
    cluster.delete_records("t", 0, 3);
    cluster.replace_replica("t", 0, 3);
    cluster.move_leader("t", 0, 3);
    assert!(last_sequences(&cluster).is_empty());
}

/// Metadata of one broker lags behind; the epoch tells which answer is older.
#[test]
fn stale_metadata() {
    let cluster = setting();
    cluster.freeze_metadata(2, true);
    cluster.move_leader("t", 0, 3);
    let told = |broker| {
        let metadata = RawClient::connect(cluster.address(broker)).unwrap().metadata(Some("t")).unwrap();
        let row = &metadata.topics[0].partitions[0];
        (row.leader_id.0, row.leader_epoch)
    };
    assert_eq!((told(2), told(1)), ((1, 0), (3, 1)));
    cluster.freeze_metadata(2, false);
    assert_eq!(told(2), (3, 1));
}

#[test]
fn topic_vanishes_from_metadata_and_returns() {
    let cluster = setting();
    let code = || leader(&cluster).metadata(Some("t")).unwrap().topics[0].error_code;
    cluster.hide_topic("t", true);
    assert_eq!(code(), 3);
    assert!(leader(&cluster).metadata(None).unwrap().topics.is_empty());
    cluster.hide_topic("t", false);
    assert_eq!(code(), 0);
}

#[test]
fn all_addresses_change() {
    let cluster = setting();
    let before = cluster.bootstrap();
    cluster.brokers().into_iter().for_each(|id| cluster.readdress(id));
    let after = cluster.bootstrap();
    assert!(after.iter().all(|address| !before.contains(address)), "{before:?} {after:?}");
    let metadata = RawClient::connect(&after[0]).unwrap().metadata(None).unwrap();
    let told: Vec<String> = metadata.brokers.iter().map(|one| format!("{}:{}", one.host, one.port)).collect();
    assert_eq!(told, after);
}

#[test]
fn api_versions_downgrade_mid_upgrade() {
    let cluster = FakeCluster::builder().max_version(0, 9).max_version(61, -1).start();
    cluster.create_topic("t", 1);
    let mut client = RawClient::connect(cluster.address(1)).unwrap();
    let request = kafka_protocol::messages::ApiVersionsRequest::default();
    let keys = client.call(0, &request).unwrap().api_keys;
    let max = |key| keys.iter().find(|one| one.api_key == key).map(|one| one.max_version);
    assert_eq!((max(0), max(1), max(61)), (Some(9), Some(17), None));
    assert!(client.describe_producers("t", 0).is_err(), "closed");
    cluster.limit_version(61, None);
    assert!(RawClient::connect(cluster.address(1)).unwrap().describe_producers("t", 0).is_ok());
}

#[test]
fn ledger_counts_requests_and_stops() {
    let cluster = setting();
    fill(&cluster, 3, -1);
    let ledger = cluster.ledger();
    assert_eq!(ledger.request_count(0), 3);
    assert_eq!(ledger.request_counts.get(&(0, 9, 1, "raw".to_owned())), Some(&3));
    let record = &ledger.records("t", 0)[1];
    assert_eq!((record.offset, record.producer_id, record.sequence), (1, 7, 1));
    assert!(ledger.damage().is_empty());
    cluster.shutdown();
    assert!(RawClient::connect(cluster.address(1)).is_err());
}
