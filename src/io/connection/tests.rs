//! What a connection does when its broker misbehaves.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto_tests::fake::{FakeCluster, Fault, FaultAction};

use super::Connection;
use crate::config::ClientConfig;
use crate::error::{CallError, CallErrorKind, ConnectCause};
use crate::io::connect::{Connector, Secured, Target};
use crate::io::test_support::{self, LONG, block_on, connect_to, until};
use crate::wire::frame::FrameError;
use crate::wire::requests::metadata::{MetadataRequest, MetadataResponse, MetadataTopics};
use crate::wire::{ApiKey, ApiVersions};

const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;

fn connector(config: ClientConfig) -> Connector {
    test_support::connector(config, Secured::default())
}

fn connect(cluster: &FakeCluster) -> Connection {
    connect_to(&connector(ClientConfig::default()), cluster.address(1)).expect("connection")
}

fn ask() -> MetadataRequest {
    MetadataRequest { topics: MetadataTopics::All, allow_auto_create: false }
}

fn call(connection: &Connection, timeout: Duration) -> Result<MetadataResponse, CallError> {
    block_on(connection.submit(&ask(), timeout))
}

#[test]
fn answers_come_in_the_order_of_the_requests() {
    let cluster = FakeCluster::start(1);
    let connection = connect(&cluster);
    let answers: Vec<_> = (0..200).map(|_| connection.submit(&ask(), LONG)).collect();
    for answer in answers {
        assert_eq!(block_on(answer).expect("answer").brokers.len(), 1);
    }
    assert_eq!(connection.in_flight(), 0);
    assert_eq!(connection.versions().pick::<MetadataRequest>(), Ok(13));
}

#[test]
fn half_open_connection() {
    let cluster = FakeCluster::start(1);
    let connection = connect(&cluster);
    cluster.inject(Fault::once(FaultAction::NoAnswerBefore).api(METADATA));
    let first = connection.submit(&ask(), Duration::from_millis(50));
    let second = connection.submit(&ask(), LONG);
    let error = block_on(first).expect_err("time-out");
    assert!(matches!(error.kind(), CallErrorKind::TimedOut(_)), "{error}");
    assert!(error.may_have_been_applied());
    assert!(error.to_string().starts_with("request Metadata v13 to broker 1 (127.0.0.1:"), "{error}");
    assert!(error.to_string().contains("timed out after 50 ms"), "{error}");
    // What was behind it cannot be answered any more either, and says why.
    let error = block_on(second).expect_err("closed with it");
    assert!(matches!(error.kind(), CallErrorKind::Disconnected(_)), "{error}");
    assert!(error.may_have_been_applied() && error.is_retryable());
    assert!(connection.is_closed());
    let error = call(&connection, LONG).expect_err("closed");
    assert!(!error.may_have_been_applied(), "never sent: {error}");
}

#[test]
fn correlation_id_mismatch() {
    let cluster = FakeCluster::start(1);
    let connection = connect(&cluster);
    cluster.inject(Fault::once(FaultAction::WrongCorrelationId).api(METADATA));
    let answers: Vec<_> = (0..3).map(|_| connection.submit(&ask(), LONG)).collect();
    for (i, answer) in answers.into_iter().enumerate() {
        let error = block_on(answer).expect_err("mismatch");
        assert!(matches!(error.kind(), CallErrorKind::Unsolicited { .. }), "{error}");
        // The wrong answer may come before the others are written; then they are known not to be applied.
        assert!(i > 0 || error.may_have_been_applied(), "unknown, not failed: {error}");
    }
    assert!(connection.is_closed());
}

#[test]
fn an_answer_to_nothing_closes_the_connection() {
    let cluster = FakeCluster::start(1);
    let connection = connect(&cluster);
    // Two frames where one is due: the second answers nothing.
    let mut twice = Vec::new();
    for _ in 0..2 {
        twice.extend([0, 0, 0, 4, 0x7f, 0, 0, 1]);
    }
    cluster.inject(Fault::once(FaultAction::RawBytes(Bytes::from(twice))).api(METADATA));
    assert!(call(&connection, LONG).is_err());
    until("closed", || connection.is_closed());
}

#[test]
fn response_split_at_every_byte() {
    let cluster = FakeCluster::start(3);
    cluster.create_topic("t", 7);
    let connection = connect(&cluster);
    let whole = call(&connection, LONG).expect("answer");
    for size in 1..60 {
        cluster.inject(Fault::once(FaultAction::SplitEvery(size)).api(METADATA));
        assert_eq!(call(&connection, LONG).expect("answer"), whole, "pieces of {size} bytes");
    }
    cluster.inject(Fault::once(FaultAction::HalfFrame).api(METADATA));
    let error = call(&connection, LONG).expect_err("half an answer");
    assert!(error.to_string().contains("in the middle of an answer"), "{error}");
}

#[test]
fn tls_alert_as_length() {
    let cluster = FakeCluster::start(1);
    let alert = Bytes::from_static(&[0x15, 3, 3, 0, 2, 2, 70]);
    cluster.inject(Fault::always(FaultAction::RawBytes(alert)).api(API_VERSIONS));
    let error = connect_to(&connector(ClientConfig::default()), cluster.address(1)).expect_err("TLS");
    assert!(error.to_string().contains("speaks TLS"), "{error}");
    let CallErrorKind::Connect(failures) = error.kind() else { panic!("{error}") };
    assert!(matches!(failures[0].cause, ConnectCause::Frame(FrameError::Tls)), "{error}");
}

#[test]
fn negative_or_huge_length() {
    let cluster = FakeCluster::start(1);
    for (bytes, words) in [([0xff; 4], "-1 bytes"), ([0x7f, 0, 0, 0], "the limit is"), ([0; 4], "too short")] {
        let connection = connect(&cluster);
        cluster.inject(Fault::once(FaultAction::RawBytes(Bytes::copy_from_slice(&bytes))).api(METADATA));
        let error = call(&connection, LONG).expect_err("no frame");
        assert!(matches!(error.kind(), CallErrorKind::Frame(_)), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(connection.is_closed());
    }
}

#[test]
fn throttle_honoured() {
    let cluster = FakeCluster::start(1);
    let connection = connect(&cluster);
    cluster.inject(Fault::once(FaultAction::Throttle(1500)).api(METADATA));
    let started = Instant::now();
    assert_eq!(call(&connection, LONG).expect("answered at once").throttle_ms, 1500);
    assert!(started.elapsed() < Duration::from_millis(1490), "the answer itself is not held back");
    assert!(connection.throttled_until().is_some());
    // A request timeout below the silence does not run while the request is held back.
    call(&connection, Duration::from_secs(1)).expect("after the silence");
    assert!(started.elapsed() >= Duration::from_millis(1500), "{:?}", started.elapsed());
    assert!(connection.throttled_until().is_none());
}

#[test]
fn api_versions_downgrade_mid_upgrade() {
    let cluster = FakeCluster::start(1);
    let connector = connector(ClientConfig::default());
    let new = connect_to(&connector, cluster.address(1)).expect("connection");
    assert_eq!(new.versions().range(ApiKey::Metadata), Some((0, 13)));
    // The broker is rolled back to an older version that does not even know our ApiVersions.
    cluster.limit_version(METADATA, Some(9));
    cluster.limit_version(API_VERSIONS, Some(2));
    cluster.cut_connections(1);
    assert!(call(&new, LONG).is_err());
    let old = connect_to(&connector, cluster.address(1)).expect("connection");
    assert_eq!(old.versions().pick::<MetadataRequest>(), Ok(9));
    assert_eq!(call(&old, LONG).expect("answer").brokers.len(), 1);
    let seen = cluster.ledger().requests;
    assert!(seen.iter().any(|request| (request.api_key, request.version) == (METADATA, 9)));
}

#[test]
fn a_broker_that_hangs_up_on_new_versions_is_asked_in_the_oldest() {
    let cluster = FakeCluster::start(1);
    cluster.inject(Fault::once(FaultAction::DropBeforeApply).api(API_VERSIONS));
    let connection = connect(&cluster);
    assert_ne!(*connection.versions(), ApiVersions::default());
    let seen = cluster.ledger().requests;
    let versions: Vec<i16> = seen.iter().map(|request| request.version).collect();
    assert_eq!(versions, [4, 0]);
}

#[test]
fn an_idle_connection_is_closed() {
    let cluster = FakeCluster::start(1);
    let config = ClientConfig { connections_max_idle: Duration::from_secs(1), ..ClientConfig::default() };
    let connection = connect_to(&connector(config), cluster.address(1)).expect("connection");
    call(&connection, LONG).expect("not idle yet");
    until("closed when idle", || connection.is_closed());
}

#[test]
fn dropping_the_last_handle_waits_for_what_is_in_flight() {
    let cluster = FakeCluster::start(1);
    let connector = connector(ClientConfig::default());
    let connection = connect_to(&connector, cluster.address(1)).expect("connection");
    cluster.inject(Fault::once(FaultAction::DelayAnswer(Duration::from_millis(30))).api(METADATA));
    let answer = connection.submit(&ask(), LONG);
    drop(connection);
    block_on(answer).expect("answered all the same");
    let answered = Instant::now();
    until("closed afterwards", || connector.counters.connections.get() == 0);
    assert!(answered.elapsed() < LONG / 4, "closed by the answer, not by a timer: {:?}", answered.elapsed());
}

/// Story: the kernel takes a few bytes at a time, so that a request of many parts is written in pieces that end anywhere.
#[test]
fn a_large_request_through_a_small_buffer_arrives_whole() {
    let cluster = FakeCluster::start(1);
    let config = ClientConfig { send_buffer: Some(2048), ..ClientConfig::default() };
    let connection = connect_to(&connector(config), cluster.address(1)).expect("connection");
    let names = (0..20_000).map(|i| Arc::from(format!("topic-with-quite-a-long-name-{i}"))).collect();
    let request = MetadataRequest { topics: MetadataTopics::Names(names), allow_auto_create: false };
    let answers: Vec<_> = (0..3).map(|_| connection.submit(&request, LONG)).collect();
    for answer in answers {
        assert_eq!(block_on(answer).expect("answer").topics.len(), 20_000);
    }
}

#[test]
fn not_kafka_and_silence_are_told_apart() {
    let http = TcpListener::bind("127.0.0.1:0").expect("port");
    let address = http.local_addr().expect("address");
    std::thread::spawn(move || {
        for mut stream in http.incoming().flatten() {
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let error = connect_to(&connector(ClientConfig::default()), address).expect_err("HTTP");
    assert!(error.to_string().contains("speaks HTTP"), "{error}");

    let silent = TcpListener::bind("127.0.0.1:0").expect("port");
    let target = Target { broker: -1, host: "127.0.0.1".into(), port: silent.local_addr().expect("address").port() };
    let connector = connector(ClientConfig::default());
    let connecting = connector.clone();
    let limit = Duration::from_millis(40);
    let error = block_on(connector.thread.run(async move { connecting.connect(&target, limit).await }))
        .expect("no panic")
        .expect_err("silence");
    assert!(error.to_string().contains("no answer within 40 ms"), "{error}");
}

#[test]
fn a_timeout_that_no_clock_can_hold_is_no_panic() {
    let cluster = FakeCluster::start(1);
    let config = ClientConfig { connections_max_idle: Duration::MAX, ..ClientConfig::default() };
    let connection = connect_to(&connector(config), cluster.address(1)).expect("connection");
    call(&connection, Duration::MAX).expect("answer");
}
