//! A producer on a bad network, with brokers that fall silent, and at its own end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a scenario may fail loudly")]
#![allow(clippy::disallowed_methods, reason = "a test may look at the clock")]

mod producer_support;

use bytes::Bytes;
use indelible::types::{Acks, Compression};
use indelible::{Record, SendCause, SendError};
use producer_support::*;
use proto_tests::fake::{FakeCluster, Fault, FaultAction, TopicConfig, code};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Defect: a send that waits for ever, or memory without a bound; and records lost when the brokers return.
#[tokio::test]
async fn all_brokers_down_for_long() {
    let cluster = cluster(3);
    let client = client(&cluster).await;
    let producer = one_by_one(&client)
        .max_request_size(1000)
        .buffer_memory(2000)
        .property("max.block.ms", "150")
        .build()
        .await
        .unwrap();
    all_delivered(&send_some(&producer, "w", 1).await).await;
    cluster.kill_all();
    let (mut receipts, started) = (Vec::new(), Instant::now());
    let error = loop {
        match producer.send(Record::to("t").partition(0).value(&format!("a{}", receipts.len()))).await {
            Ok(receipt) => receipts.push(receipt),
            Err(error) => break error,
        }
        assert!(receipts.len() < 100);
    };
    assert!(started.elapsed() >= Duration::from_millis(140), "send waits for room");
    assert!(matches!(error.cause(), SendCause::BufferFull { limit: 2000, .. }), "{error}");
    assert!(matches!(error, SendError::NotDelivered(_)));
    assert!(client.metrics().buffered_bytes <= 2000);
    cluster.restart_all();
    all_delivered(&receipts).await;
    all_delivered(&[send(&producer, 0, "z").await]).await;
    let mut expected = numbered("a", receipts.len());
    expected.push("z".to_owned());
    assert_eq!(values(&cluster)[1..], expected);
}

/// Defect: delivery stops without an error (librdkafka#5605).
#[tokio::test]
async fn all_addresses_change() {
    let cluster = cluster(3);
    let producer = single(&cluster).await;
    all_delivered(&send_some(&producer, "a", 3).await).await;
    // One after the other, so that somebody can always tell where the others are.
    for broker in [1, 2, 3] {
        cluster.readdress(broker);
        all_delivered(&[send(&producer, 0, format!("b{broker}")).await]).await;
    }
    assert_eq!(values(&cluster), ["a0", "a1", "a2", "b1", "b2", "b3"]);
}

#[tokio::test]
async fn slow_link_one_byte_at_a_time() {
    let cluster = cluster(1);
    let producer = single(&cluster).await;
    for action in [FaultAction::SlowBytes(1, Duration::from_micros(200)), FaultAction::SplitEvery(1)] {
        cluster.inject(Fault::always(action).times(5));
        all_delivered(&send_some(&producer, "a", 5).await).await;
    }
    assert_eq!(values(&cluster).len(), 10);
}

/// Defects: half an answer believed; an answer given to the wrong request; garbage read as an answer.
#[tokio::test]
async fn broken_answers_lose_and_double_nothing() {
    let negative = Bytes::from_static(&[0xff; 8]);
    let huge = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1]);
    for action in [
        FaultAction::HalfFrame,
        FaultAction::WrongCorrelationId,
        FaultAction::RawBytes(negative),
        FaultAction::RawBytes(huge),
        FaultAction::NoAnswerBefore,
        FaultAction::NoAnswerAfter,
    ] {
        let cluster = cluster(1);
        let producer = single(&cluster).await;
        all_delivered(&send_some(&producer, "w", 1).await).await;
        let fault = cluster.inject(next_produce(action.clone()).skip(1));
        let offsets = all_delivered(&send_some(&producer, "a", 6).await).await;
        assert_eq!(offsets, (1..7).map(Some).collect::<Vec<_>>(), "{action:?}");
        assert_eq!(values(&cluster)[1..], numbered("a", 6), "{action:?}");
        assert_eq!(cluster.look(|view| view.struck(fault)), 1);
    }
}

/// Defect: a client that goes on sending, for which a quota punishes everybody behind the same principal.
#[tokio::test]
async fn throttle_honoured() {
    let cluster = cluster(1);
    let producer = single(&cluster).await;
    all_delivered(&send_some(&producer, "w", 1).await).await;
    cluster.inject(next_produce(FaultAction::Throttle(250)));
    all_delivered(&send_some(&producer, "a", 1).await).await;
    all_delivered(&send_some(&producer, "b", 1).await).await;
    let requests = cluster.ledger().requests;
    let at: Vec<_> = requests.iter().filter(|seen| seen.api_key == PRODUCE).map(|seen| seen.at).collect();
    assert_eq!(at.len(), 3);
    assert!(at[2] - at[1] >= Duration::from_millis(240), "{at:?}");
}

/// Defect: waiting for the answer that never comes; sequences where the broker checks none.
#[tokio::test]
async fn acks_0_and_1_are_not_idempotent() {
    let cluster = cluster(1);
    let client = client(&cluster).await;
    for (acks, prefix) in [(Acks::None, "a"), (Acks::Leader, "b")] {
        let producer = one_by_one(&client).acks(acks).build().await.unwrap();
        let offsets = all_delivered(&send_some(&producer, prefix, 5).await).await;
        assert!(offsets.iter().all(|offset| offset.is_some() == (acks == Acks::Leader)), "{acks:?} {offsets:?}");
        tokio::time::timeout(PATIENCE, producer.flush()).await.unwrap();
    }
    until(&cluster, "all there", |view| view.end_offset("t", 0) == Some(10));
    let mut expected = numbered("a", 5);
    expected.extend(numbered("b", 5));
    assert_eq!(values(&cluster), expected);
    assert!(stamps(&cluster, 0).iter().all(|stamp| *stamp == (-1, -1, -1)));
    assert_eq!(cluster.look(|view| view.requests(INIT_PRODUCER_ID)), 0);
}

/// Defect: receipts that hang when nobody is left to resolve them.
#[tokio::test]
async fn drop_of_the_last_producer_reports_what_is_left() {
    let cluster = cluster(1);
    let client = client(&cluster).await;
    let producer = one_by_one(&client).build().await.unwrap();
    all_delivered(&send_some(&producer, "w", 1).await).await;
    cluster.inject(next_produce(FaultAction::NoAnswerBefore));
    let receipts = send_some(&producer, "a", 8).await;
    eventually("five in flight", || client.metrics().batches_in_flight == 5).await;
    let clone = producer.clone();
    drop(producer);
    assert!(receipts[0].try_delivered().is_none(), "a clone is left");
    drop(clone);
    for (i, receipt) in receipts.iter().enumerate() {
        let error = outcome(receipt).await.unwrap_err();
        assert!(matches!(error.cause(), SendCause::Closed), "{error}");
        assert_eq!(error.may_be_delivered(), i < 5, "{i}: {error}");
        assert_eq!(error.record().value.as_deref(), Some(format!("a{i}").as_bytes()));
    }
}

/// Defect: a close that hangs, or that keeps silent about what it left.
#[tokio::test]
async fn close_with_brokers_down_returns_and_tells() {
    let cluster = cluster(1);
    let client = client(&cluster).await;
    let producer = one_by_one(&client).build().await.unwrap();
    all_delivered(&send_some(&producer, "w", 1).await).await;
    cluster.kill(1);
    // A request that is written to a dying connection is in doubt, which is another story.
    eventually("the client knows", || client.metrics().connections == 0).await;
    let receipts = send_some(&producer, "a", 3).await;
    let started = Instant::now();
    let error = producer.close(Duration::from_millis(200)).await.unwrap_err();
    assert!((190..2000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    assert_eq!(error.batches, 3, "{error}");
    for receipt in &receipts {
        let error = receipt.try_delivered().expect("resolved when close returns").unwrap_err();
        assert!(matches!(error.cause(), SendCause::Closed), "{error}");
        assert!(!error.may_be_delivered(), "nothing was sent: {error}");
        assert!(error.last().is_some_and(|last| last.contains("refused")), "why it was not: {error}");
    }
    eventually("memory is given back", || client.metrics().buffered_bytes == 0).await;
}

/// Defect: a record accepted while the producer closes, whose receipt nobody resolves.
#[tokio::test]
async fn every_receipt_resolves_when_sends_race_with_close() {
    for round in 0..60 {
        let cluster = FakeCluster::start(1);
        cluster.create_topic("t", 2);
        let producer = client(&cluster).await.producer().batch_size(200).build().await.unwrap();
        all_delivered(&[send(&producer, 0, "w").await]).await;
        let mut threads = Vec::new();
        for _ in 0..2 {
            let producer = producer.clone();
            threads.push(std::thread::spawn(move || {
                let mut receipts = Vec::new();
                while let Ok(receipt) = producer.try_send(Record::to("t").partition(0).value("v")) {
                    receipts.push(receipt);
                }
                receipts
            }));
        }
        let closed = producer.close(Duration::from_millis(round % 3)).await;
        let mut left = 0;
        for thread in threads {
            for receipt in thread.join().unwrap() {
                left += usize::from(outcome(&receipt).await.is_err());
            }
        }
        assert_eq!(closed.is_err(), left > 0, "{closed:?}, {left} left");
    }
}

/// Defect: a flush that never ends while others go on sending (franz-go#930).
#[tokio::test]
async fn flush_concurrent_with_sends_ends() {
    let cluster = cluster(1);
    let producer = client(&cluster).await.producer().linger(Duration::from_secs(5)).build().await.unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (sending, stopped) = (producer.clone(), stop.clone());
    let other = thread(async move {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            let _ = send(&sending, 1, "v").await;
        }
    });
    for i in 0..10 {
        let receipt = send(&producer, 0, format!("a{i}")).await;
        tokio::time::timeout(Duration::from_secs(2), producer.flush()).await.expect("flush ends");
        assert_eq!(receipt.is_delivered(), Some(true), "and what was sent before it is settled");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    other.join().unwrap();
    producer.close(PATIENCE).await.unwrap();
}

/// Sends further records until one is delivered. Whatever the ones before it came to, each is in the log behind "w" once
/// at most, and that one is.
async fn goes_on(producer: &indelible::Producer, cluster: &FakeCluster) {
    let mut sent = Vec::new();
    loop {
        sent.push(format!("b{}", sent.len()));
        match outcome(&send(producer, 0, &sent[sent.len() - 1]).await).await {
            Ok(_) => break,
            Err(error) => assert!(sent.len() < 20, "{error}"),
        }
    }
    let values = values(cluster);
    let delivered = sent.pop();
    sent.retain(|value| values.contains(value));
    sent.extend(delivered);
    sent.insert(0, "w".to_owned());
    assert_eq!(values, sent);
}

/// Defect: "message timed out" with no cause (librdkafka#998, #1840), or a certainty that nobody has.
#[tokio::test]
async fn a_delivery_timeout_names_cause_and_last_event() {
    let brief = Duration::from_millis(400);
    // (what goes wrong, whether it may be in the log, what the error says)
    let cases = [
        (FaultAction::Error(code::NOT_ENOUGH_REPLICAS), false, "broker 1 answered NOT_ENOUGH_REPLICAS (19) for t-0"),
        (FaultAction::Error(code::UNKNOWN_TOPIC_OR_PARTITION), false, "broker 1 answered UNKNOWN_TOPIC_OR_PARTITION"),
        (FaultAction::Error(code::REQUEST_TIMED_OUT), true, "broker 1 answered REQUEST_TIMED_OUT (7) for t-0"),
        (FaultAction::Error(-1), true, "broker 1 answered UNKNOWN_SERVER_ERROR"),
        (FaultAction::Error(1234), true, "1234"),
        (FaultAction::DropBeforeApply, true, "to broker 1 (127.0.0.1:"),
        (FaultAction::NoAnswerBefore, true, "broker 1"),
    ];
    for (action, maybe, words) in cases {
        let cluster = cluster(1);
        // Longer than the time-out, which therefore never strikes while a second attempt is under way.
        let client = impatient(&cluster).property("retry.backoff.ms", "600").build().await.unwrap();
        let producer = one_by_one(&client).delivery_timeout(brief).build().await.unwrap();
        all_delivered(&[send(&producer, 0, "w").await]).await;
        cluster.inject(Fault::always(action.clone()).api(PRODUCE));
        let error = outcome(&send(&producer, 0, "a").await).await.unwrap_err();
        assert!(matches!(error.cause(), SendCause::TimedOut(after) if *after == brief), "{error}");
        assert_eq!(error.may_be_delivered(), maybe, "{action:?}: {error}");
        assert!(error.last().is_some_and(|last| last.contains(words)), "{action:?}: {error}");
        assert!(error.is_retryable());
        cluster.clear_faults();
        // Whatever happened, it goes on.
        goes_on(&producer, &cluster).await;
    }
}

#[tokio::test]
async fn without_a_leader_the_error_says_so() {
    let cluster = cluster(1);
    let client = client(&cluster).await;
    let producer = one_by_one(&client).delivery_timeout(Duration::from_millis(200)).build().await.unwrap();
    all_delivered(&[send(&producer, 0, "w").await]).await;
    cluster.kill(1);
    eventually("the end of the connections is seen", || client.metrics().connections == 0).await;
    let error = outcome(&send(&producer, 0, "a").await).await.unwrap_err();
    assert!(matches!(error, SendError::NotDelivered(_)), "{error}");
    assert!(error.last().is_some_and(|last| last.contains("connection refused")), "{error}");
    cluster.restart(1);
    goes_on(&producer, &cluster).await;
}

/// Defect: retried until the time-out although it will never be allowed.
#[tokio::test]
async fn unauthorized_is_refused_at_once_with_a_hint() {
    let cluster = cluster(1);
    let client = client(&cluster).await;
    let producer = one_by_one(&client).build().await.unwrap();
    all_delivered(&[send(&producer, 0, "w").await]).await;
    let refusal = Fault::always(FaultAction::Error(29)).api(PRODUCE);
    let fault = cluster.inject(refusal);
    let started = Instant::now();
    let error = outcome(&send(&producer, 0, "a").await).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(1));
    assert!(matches!(error, SendError::NotDelivered(_)) && matches!(error.cause(), SendCause::Refused), "{error}");
    assert!(!error.is_retryable());
    let text = error.to_string();
    assert!(text.contains("TOPIC_AUTHORIZATION_FAILED") && text.contains("WRITE"), "{text}");
    assert_eq!(cluster.look(|view| view.struck(fault)), 1, "not tried again");
    cluster.clear_faults();
    all_delivered(&[send(&producer, 0, "b").await]).await;
    assert_eq!(values(&cluster), ["w", "b"]);
}

/// Defect: a producer id asked for once only, or records lost while there is none.
#[tokio::test]
async fn a_producer_id_is_asked_for_until_there_is_one() {
    let cluster = cluster(1);
    cluster.inject(Fault::once(FaultAction::Error(code::COORDINATOR_LOAD_IN_PROGRESS)).api(INIT_PRODUCER_ID).times(3));
    cluster.inject(Fault::once(FaultAction::DropBeforeApply).api(INIT_PRODUCER_ID));
    let producer = single(&cluster).await;
    all_delivered(&send_some(&producer, "a", 3).await).await;
    assert_eq!(values(&cluster), numbered("a", 3));

    cluster.inject(Fault::always(FaultAction::Error(31)).api(INIT_PRODUCER_ID));
    let producer = single(&cluster).await;
    let error = outcome(&send(&producer, 0, "b").await).await.unwrap_err();
    assert!(matches!(error, SendError::NotDelivered(_)) && matches!(error.cause(), SendCause::Refused), "{error}");
    assert!(error.last().unwrap().contains("IDEMPOTENT_WRITE"), "{error}");
}

/// Defect: a batch in doubt that is refused for good is called failed although an earlier attempt was appended.
#[tokio::test]
async fn refused_after_an_attempt_in_doubt_is_told_truthfully() {
    for (first, in_log) in [(FaultAction::DropAfterApply, true), (FaultAction::DropBeforeApply, false)] {
        let cluster = cluster(1);
        let producer = single(&cluster).await;
        all_delivered(&[send(&producer, 0, "w").await]).await;
        cluster.inject(next_produce(first));
        cluster.inject(next_produce(FaultAction::Error(29)).skip(1));
        let error = outcome(&send(&producer, 0, "a").await).await.unwrap_err();
        assert_eq!(error.may_be_delivered(), in_log, "{error}");
        assert!(cluster.look(|view| view.requests(DESCRIBE_PRODUCERS)) > 0);
        all_delivered(&[send(&producer, 0, "b").await]).await;
        assert_eq!(values(&cluster).contains(&"a".to_owned()), in_log);
    }
}

/// Defect: a partition that has moved goes on waiting for its former leader, which takes no more requests.
#[tokio::test]
async fn a_hung_leader_does_not_hold_what_has_moved() {
    let cluster = cluster(2);
    cluster.move_leader("t", 0, 1);
    cluster.move_leader("t", 1, 1);
    let client = impatient(&cluster)
        .request_timeout(Duration::from_secs(5))
        .metadata_max_age(Duration::from_millis(30))
        .build()
        .await
        .unwrap();
    let producer = one_by_one(&client).build().await.unwrap();
    all_delivered(&send_some(&producer, "w", 1).await).await;
    cluster.inject(next_produce(FaultAction::NoAnswerBefore));
    let receipts = send_some(&producer, "a", 5).await;
    eventually("five in flight", || client.metrics().batches_in_flight == 5).await;
    let moved = send(&producer, 1, "b").await;
    cluster.move_leader("t", 1, 2);
    let started = Instant::now();
    offset(&moved).await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    cluster.cut_connections(1);
    all_delivered(&receipts).await;
}

/// Defect: a batch that is still being compressed when the producer ends is said to be perhaps delivered.
#[tokio::test]
async fn what_was_never_sent_is_never_in_doubt() {
    let cluster = cluster(1);
    let client = client(&cluster).await;
    let value: Vec<u8> = (0..4u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 27) as u8).collect();
    for round in 0..4 {
        let producer =
            one_by_one(&client).compression(Compression::Gzip).max_request_size(8 << 20).build().await.unwrap();
        all_delivered(&send_some(&producer, "w", 1).await).await;
        cluster.kill(1);
        let receipt = producer.send(Record::to("t").partition(0).value(&value)).await.unwrap();
        // Long enough to begin, too short to end.
        tokio::time::sleep(Duration::from_millis(5)).await;
        if round % 2 == 0 {
            drop(producer);
        } else {
            assert_eq!(producer.close(Duration::ZERO).await.unwrap_err().batches, 1);
        }
        let error = outcome(&receipt).await.unwrap_err();
        assert!(!error.may_be_delivered() && matches!(error.cause(), SendCause::Closed), "{error}");
        assert_eq!(error.record().value.as_ref().map(|value| value.len()), Some(value.len()));
        cluster.restart(1);
    }
}

/// The only replica is down, and metadata says "no leader" again and again. That is no news, so nothing but the producer
/// itself makes it ask once more.
#[tokio::test]
async fn a_partition_without_leader_is_asked_for_until_it_has_one() {
    let cluster = FakeCluster::start(2);
    cluster.create_topic_with("t", 1, TopicConfig { replication: Some(1), ..TopicConfig::default() });
    let producer = single(&cluster).await;
    assert_eq!(offset(&send(&producer, 0, "before").await).await, Some(0));
    let leader = cluster.look(|view| view.leader("t", 0)).unwrap();
    cluster.kill(leader);
    let waiting = send(&producer, 0, "meanwhile").await;
    let asked = cluster.look(|view| view.requests(METADATA));
    assert!(cluster.wait_for(|view| view.requests(METADATA) >= asked + 5, PATIENCE), "asks again and again");
    cluster.restart(leader);
    assert_eq!(offset(&waiting).await, Some(1));
}
