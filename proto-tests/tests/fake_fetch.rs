//! Reading from the fake cluster: waiting, limits, epochs, sessions.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may panic and look at the clock")]

use kafka_protocol::messages::fetch_request::ForgottenTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest, OffsetForLeaderEpochRequest};
use proto_tests::fake::{FakeCluster, code};
use proto_tests::raw::{RawClient, batch, fetch_request, name};
use std::time::{Duration, Instant};

fn setting() -> (FakeCluster, RawClient) {
    let cluster = FakeCluster::start(1);
    cluster.create_topic("t", 2);
    let client = RawClient::connect(cluster.address(1)).unwrap();
    (cluster, client)
}

fn produce(cluster: &FakeCluster, partition: i32) {
    let mut client = RawClient::connect(cluster.address(1)).unwrap();
    assert_eq!(client.produce_batch("t", partition, &batch(-1, -1, -1, &["a"]), -1).unwrap().0, 0);
}

/// Two partitions from the beginning.
fn both() -> FetchRequest {
    let mut request = fetch_request("t", 0, 0);
    let second = fetch_request("t", 1, 0).topics.remove(0).partitions.remove(0);
    request.topics[0].partitions.push(second);
    request.with_max_wait_ms(0)
}

#[test]
fn waits_for_bytes_and_wakes_on_append() {
    let (cluster, mut client) = setting();
    let started = Instant::now();
    let correlation = client.send(11, &fetch_request("t", 0, 0).with_max_wait_ms(20_000)).unwrap();
    assert!(cluster.wait_for(|view| view.requests(1) == 1, Duration::from_secs(5)));
    produce(&cluster, 0);
    let response = client.receive::<FetchRequest>(11, correlation).unwrap();
    assert!(!response.responses[0].partitions[0].records.as_ref().unwrap().is_empty());
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn limits_hold_except_for_the_first_batch() {
    let (cluster, mut client) = setting();
    (0..3).for_each(|_| produce(&cluster, 0));
    produce(&cluster, 1);
    let one = cluster.ledger().batches("t", 0)[0].len();
    let mut sizes = |max_bytes: usize, partition_bytes: usize| {
        let mut request = both().with_max_bytes(i32::try_from(max_bytes).unwrap());
        for partition in &mut request.topics[0].partitions {
            partition.partition_max_bytes = i32::try_from(partition_bytes).unwrap();
        }
        let response = client.call(11, &request).unwrap();
        let sizes = response.responses[0].partitions.iter().map(|row| row.records.as_ref().unwrap().len() / one);
        sizes.collect::<Vec<_>>()
    };
    assert_eq!(sizes(1, 1), [1, 0]);
    assert_eq!(sizes(1 << 20, 2 * one), [2, 1]);
    assert_eq!(sizes(3 * one, 1 << 20), [3, 0]);
    assert_eq!(sizes(1 << 20, 1 << 20), [3, 1]);
}

/// KIP-320: the reader's leader epoch is older, or newer, than the broker's.
#[test]
fn leader_epochs_are_compared() {
    let (cluster, mut client) = setting();
    cluster.move_leader("t", 0, 1);
    let mut ask = |epoch| {
        let mut request = fetch_request("t", 0, 0).with_max_wait_ms(0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        client.call(12, &request).unwrap().responses[0].partitions[0].error_code
    };
    assert_eq!((ask(0), ask(1), ask(2)), (code::FENCED_LEADER_EPOCH, 0, code::UNKNOWN_LEADER_EPOCH));
}

/// An unclean election: the end of the old epoch tells from where on the reader has read what no longer exists.
#[test]
fn log_truncated_under_the_consumer() {
    let (cluster, mut client) = setting();
    (0..3).for_each(|_| produce(&cluster, 0));
    cluster.unclean_election("t", 0, 2);
    produce(&cluster, 0);
    produce(&cluster, 0);
    let one = OffsetForLeaderPartition::default().with_partition(0).with_current_leader_epoch(1).with_leader_epoch(0);
    let topic = OffsetForLeaderTopic::default().with_topic(name("t")).with_partitions(vec![one]);
    let request = OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    let row = client.call(4, &request).unwrap().topics.remove(0).partitions.remove(0);
    assert_eq!((row.error_code, row.leader_epoch, row.end_offset), (0, 0, 1));
    let mut request = fetch_request("t", 0, 3).with_max_wait_ms(0);
    request.topics[0].partitions[0].last_fetched_epoch = 0;
    let row = client.call(12, &request).unwrap().responses.remove(0).partitions.remove(0);
    assert_eq!((row.diverging_epoch.epoch, row.diverging_epoch.end_offset), (0, 1));
}

/// KIP-227: the session remembers both partitions, answers name only what is new, epochs must follow one another.
#[test]
fn incremental_session() {
    let (cluster, mut client) = setting();
    let opened = client.call(11, &both().with_session_epoch(0)).unwrap();
    assert!(opened.session_id > 0);
    assert_eq!(opened.responses[0].partitions.len(), 2);
    let next = |epoch| {
        FetchRequest::default()
            .with_session_id(opened.session_id)
            .with_session_epoch(epoch)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
    };
    assert!(client.call(11, &next(1)).unwrap().responses.is_empty());
    produce(&cluster, 1);
    let told = client.call(11, &next(2)).unwrap();
    let named: Vec<i32> = told.responses.iter().flat_map(|t| &t.partitions).map(|p| p.partition_index).collect();
    assert_eq!(named, [1]);
    assert_eq!(client.call(11, &next(2)).unwrap().error_code, code::INVALID_FETCH_SESSION_EPOCH);
    let forgotten = vec![ForgottenTopic::default().with_topic(name("t")).with_partitions(vec![1])];
    assert!(client.call(11, &next(3).with_forgotten_topics_data(forgotten)).unwrap().responses.is_empty());
    assert_eq!(client.call(11, &next(1).with_session_id(99)).unwrap().error_code, code::FETCH_SESSION_ID_NOT_FOUND);
    cluster.kill(1);
    cluster.restart(1);
    let mut client = RawClient::connect(cluster.address(1)).unwrap();
    assert_eq!(client.call(11, &next(4)).unwrap().error_code, code::FETCH_SESSION_ID_NOT_FOUND);
}

/// From version 13 on topics go by id; a deleted topic's id is unknown although the name exists again.
#[test]
fn topics_by_id() {
    let (cluster, mut client) = setting();
    produce(&cluster, 0);
    let by_id = |cluster: &FakeCluster| {
        let mut request = fetch_request("", 0, 0).with_max_wait_ms(0);
        request.topics[0].topic_id = cluster.look(|view| view.topic_id("t")).unwrap();
        request
    };
    let old = by_id(&cluster);
    let row = client.call(13, &old).unwrap().responses.remove(0);
    assert_eq!((row.topic_id, row.partitions[0].error_code), (old.topics[0].topic_id, 0));
    assert!(!row.partitions[0].records.as_ref().unwrap().is_empty());
    cluster.delete_topic("t");
    cluster.create_topic("t", 1);
    assert_eq!(client.call(13, &old).unwrap().responses[0].partitions[0].error_code, code::UNKNOWN_TOPIC_ID);
    assert_eq!(client.call(17, &by_id(&cluster)).unwrap().responses[0].partitions[0].error_code, 0);
}
