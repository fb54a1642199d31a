//! Every fault, told from the client's side.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may panic and look at the clock")]

use bytes::Bytes;
use kafka_protocol::messages::{ApiVersionsRequest, HeartbeatRequest, MetadataRequest};
use proto_tests::fake::{FakeCluster, Fault, FaultAction, code};
use proto_tests::raw::{RawClient, batch, produce_request};
use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

const PRODUCE: i16 = 0;
const SECOND: Duration = Duration::from_secs(1);

/// One broker, the topic "t" with two partitions, a connection.
fn setting() -> (FakeCluster, RawClient) {
    let cluster = FakeCluster::start(1);
    cluster.create_topic("t", 2);
    let client = RawClient::connect(cluster.address(1)).unwrap();
    (cluster, client)
}

fn one() -> Bytes {
    batch(-1, -1, -1, &["a"])
}

fn again(cluster: &FakeCluster) -> RawClient {
    RawClient::connect(cluster.address(1)).unwrap()
}

#[test]
fn request_lost_before_append() {
    let (cluster, mut client) = setting();
    let fault = cluster.inject(Fault::once(FaultAction::DropBeforeApply).api(PRODUCE));
    let error = client.produce_batch("t", 0, &one(), -1).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
    assert_eq!(cluster.look(|view| (view.end_offset("t", 0), view.struck(fault))), (Some(0), 1));
    assert_eq!(again(&cluster).produce_batch("t", 0, &one(), -1).unwrap(), (0, 0), "once only");
}

#[test]
fn ack_lost_after_append() {
    let (cluster, mut client) = setting();
    cluster.inject(Fault::once(FaultAction::DropAfterApply).api(PRODUCE));
    let bytes = batch(7, 0, 0, &["a"]);
    client.produce_batch("t", 0, &bytes, -1).unwrap_err();
    assert_eq!(again(&cluster).produce_batch("t", 0, &bytes, -1).unwrap(), (0, 0), "the offset it had");
    assert_eq!(cluster.ledger().values("t"), ["a"]);
}

#[test]
fn half_open_connection() {
    for (action, appended) in [(FaultAction::NoAnswerBefore, 0), (FaultAction::NoAnswerAfter, 1)] {
        let (cluster, mut client) = setting();
        cluster.inject(Fault::once(action).api(PRODUCE));
        client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let error = client.produce_batch("t", 0, &one(), -1).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        assert!(client.metadata(None).is_err(), "nothing is ever answered on it again");
        assert_eq!(cluster.look(|view| view.end_offset("t", 0)), Some(appended));
        assert!(again(&cluster).metadata(None).is_ok(), "other connections are");
        drop(client);
        assert!(cluster.wait_for(|view| view.connections(1) == 0, SECOND));
    }
}

#[test]
fn slow_answers() {
    for action in [
        FaultAction::Delay(Duration::from_millis(150)),
        FaultAction::DelayAnswer(Duration::from_millis(150)),
        FaultAction::SlowBytes(4, Duration::from_millis(20)),
    ] {
        let (cluster, mut client) = setting();
        cluster.inject(Fault::once(action).api(PRODUCE));
        let started = Instant::now();
        assert_eq!(client.produce_batch("t", 0, &one(), -1).unwrap(), (0, 0));
        assert!(started.elapsed() >= Duration::from_millis(150), "{:?}", started.elapsed());
    }
}

#[test]
fn delayed_request_is_not_applied_before_its_time_and_delayed_answer_is() {
    for (action, appended) in [(FaultAction::Delay(SECOND), false), (FaultAction::DelayAnswer(SECOND), true)] {
        let (cluster, mut client) = setting();
        cluster.inject(Fault::once(action).api(PRODUCE));
        client.send(9, &produce_request("t", 0, &one(), -1, SECOND)).unwrap();
        assert_eq!(cluster.wait_for(|view| view.end_offset("t", 0) == Some(1), SECOND / 4), appended);
    }
}

#[test]
fn error_without_effect_and_with() {
    for (action, appended) in [
        (FaultAction::Error(code::NOT_LEADER_OR_FOLLOWER), 0),
        (FaultAction::ErrorAfterApply(code::NOT_LEADER_OR_FOLLOWER), 1),
    ] {
        let (cluster, mut client) = setting();
        cluster.inject(Fault::once(action).api(PRODUCE));
        assert_eq!(client.produce_batch("t", 0, &one(), -1).unwrap().0, 6);
        assert_eq!(cluster.look(|view| view.end_offset("t", 0)), Some(appended));
    }
}

#[test]
fn error_on_one_partition_leaves_the_other_alone() {
    let (cluster, mut client) = setting();
    cluster.inject(Fault::always(FaultAction::Error(45)).api(PRODUCE).topic("t").partition(1));
    let mut request = produce_request("t", 0, &one(), -1, SECOND);
    let second = produce_request("t", 1, &one(), -1, SECOND).topic_data.remove(0).partition_data.remove(0);
    request.topic_data[0].partition_data.push(second);
    let response = client.call(9, &request).unwrap();
    let codes: Vec<i16> = response.responses[0].partition_responses.iter().map(|row| row.error_code).collect();
    assert_eq!(codes, [0, 45]);
    assert_eq!(cluster.look(|view| (view.end_offset("t", 0), view.end_offset("t", 1))), (Some(1), Some(0)));
}

#[test]
fn error_in_an_api_that_has_one_field() {
    let (cluster, mut client) = setting();
    cluster.inject(Fault::once(FaultAction::Error(27)).api(12));
    let response = client.call(3, &HeartbeatRequest::default()).unwrap();
    assert_eq!(response.error_code, 27);
}

#[test]
fn half_frame_then_close() {
    let (cluster, mut client) = setting();
    cluster.inject(Fault::once(FaultAction::HalfFrame).api(PRODUCE));
    assert_eq!(client.produce_batch("t", 0, &one(), -1).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(cluster.ledger().values("t"), ["a"], "but it was appended");
}

#[test]
fn correlation_id_mismatch() {
    let (cluster, mut client) = setting();
    cluster.inject(Fault::once(FaultAction::WrongCorrelationId).api(PRODUCE));
    let error = client.produce_batch("t", 0, &one(), -1).unwrap_err();
    assert!(error.to_string().contains("correlation id 2, expected 1"), "{error}");
}

#[test]
fn raw_bytes_instead_of_an_answer() {
    let (cluster, mut client) = setting();
    // A TLS alert, as from a port that speaks TLS.
    let alert = Bytes::from_static(&[0x15, 3, 3, 0, 2, 2, 70]);
    cluster.inject(Fault::once(FaultAction::RawBytes(alert.clone())));
    client.send(0, &ApiVersionsRequest::default()).unwrap();
    let mut got = [0; 7];
    client.stream().read_exact(&mut got).unwrap();
    assert_eq!(got, alert.as_ref());
}

#[test]
fn throttle_is_told() {
    let (cluster, mut client) = setting();
    cluster.inject(Fault::once(FaultAction::Throttle(1234)));
    assert_eq!(client.call(9, &MetadataRequest::default()).unwrap().throttle_time_ms, 1234);
    assert_eq!(client.call(9, &MetadataRequest::default()).unwrap().throttle_time_ms, 0);
}

#[test]
fn duplicate_or_missing_partition_in_response() {
    for (action, count) in [(FaultAction::DuplicatePartition, 3), (FaultAction::MissingPartition, 0)] {
        let (cluster, mut client) = setting();
        cluster.inject(Fault::once(action).api(PRODUCE));
        let response = client.call(9, &produce_request("t", 0, &one(), -1, SECOND)).unwrap();
        assert_eq!(response.responses[0].partition_responses.len(), count);
        assert_eq!(cluster.look(|view| view.end_offset("t", 0)), Some(1));
    }
}

#[test]
fn response_split_at_every_byte() {
    let (cluster, mut client) = setting();
    cluster.inject(Fault::always(FaultAction::SplitEvery(1)));
    assert_eq!(client.produce_batch("t", 0, &one(), -1).unwrap(), (0, 0));
    assert_eq!(client.metadata(None).unwrap().topics.len(), 1);
}

#[test]
fn skip_times_client_and_clear() {
    let (cluster, mut client) = setting();
    let fault = cluster.inject(Fault::once(FaultAction::Error(6)).api(PRODUCE).client_id("raw").skip(1).times(2));
    let mut other = RawClient::connect_as(cluster.address(1), "other").unwrap();
    assert_eq!(other.produce_batch("t", 0, &one(), -1).unwrap().0, 0, "another client is not counted");
    let codes: Vec<i16> = (0..4).map(|_| client.produce_batch("t", 0, &one(), -1).unwrap().0).collect();
    assert_eq!(codes, [0, 6, 6, 0]);
    assert_eq!(cluster.look(|view| view.struck(fault)), 2);
    cluster.inject(Fault::always(FaultAction::Error(6)));
    cluster.clear_faults();
    assert_eq!(client.produce_batch("t", 0, &one(), -1).unwrap().0, 0);
}

#[test]
fn absurd_lengths_and_unknown_apis_close_the_connection() {
    let hostile: [&[u8]; 4] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0, 2, 0, 0],
        &[0, 0, 0, 10, 3, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
    ];
    for bytes in hostile {
        let (_cluster, mut client) = setting();
        std::io::Write::write_all(client.stream(), bytes).unwrap();
        let closed = client.stream().read(&mut [0; 16]);
        assert!(matches!(closed, Ok(0)) || closed.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset), "{bytes:?}");
    }
}
