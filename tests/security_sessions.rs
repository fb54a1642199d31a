//! Sessions of SASL that end and are renewed (KIP-368) while records flow, and a spool over TLS and SASL.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a scenario may fail loudly")]
#![allow(clippy::disallowed_methods, reason = "a test may look at the clock")]

mod security_support;

use indelible::{Client, Receipt, Record, SaslConfig, SendError, Token};
use proto_tests::fake::{FakeCluster, FakeTls, Fault, FaultAction, SaslFault};
use security_support::*;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const LIFETIME: Duration = Duration::from_millis(300);

fn cluster(brokers: usize) -> FakeCluster {
    let sasl = sasl().session_lifetime(LIFETIME);
    with_topic(FakeCluster::builder().brokers(brokers).tls(FakeTls::new(good())).sasl(sasl).start())
}

async fn client(cluster: &FakeCluster, sasl: SaslConfig) -> Client {
    by_tls(cluster).sasl(sasl).build().await.unwrap()
}

/// Sends `v0`, `v1` and so on for `time`, and waits until all are delivered. Answers how many.
async fn load(producer: &indelible::Producer, time: Duration) -> usize {
    let started = Instant::now();
    let mut receipts: Vec<Receipt> = Vec::new();
    while started.elapsed() < time {
        let value = format!("v{}", receipts.len());
        receipts.push(producer.send(Record::to("t").partition(0).value(&value)).await.unwrap());
        if receipts.len().is_multiple_of(16) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    for (index, receipt) in receipts.iter().enumerate() {
        let outcome = tokio::time::timeout(PATIENCE, receipt.delivered()).await.expect("an outcome in time");
        assert!(outcome.is_ok(), "v{index}: {:?}", outcome.err());
    }
    receipts.len()
}

fn once_and_in_order(cluster: &FakeCluster, count: usize) {
    let values = cluster.ledger().values("t");
    assert_eq!(values.len(), count);
    assert!(values.iter().enumerate().all(|(index, value)| *value == format!("v{index}")), "out of order");
}

#[tokio::test]
async fn sessions_are_renewed_under_load() {
    for config in [scram(), SaslConfig::plain(USER, PASSWORD), SaslConfig::oauthbearer(Token::new(TOKEN))] {
        let cluster = cluster(1);
        // Told, not kept to: how early a renewal begins has a test of its own, beside the code. The few milliseconds that it
        // leaves of so short a session are nothing to rely on while the machine has other things to do.
        cluster.set_sasl_fault(Some(SaslFault::Lifetime(300)));
        let client = client(&cluster, config).await;
        let producer = client.producer().linger(Duration::ZERO).build().await.unwrap();
        let count = load(&producer, LIFETIME * 6).await;
        once_and_in_order(&cluster, count);
        let seen = cluster.security().broker(1);
        assert!(seen.reauthentications() >= 4, "{} of {}", seen.reauthentications(), seen.authentications());
        assert_eq!((seen.refusals.len(), client.metrics().disconnects), (0, 0), "nobody was cut off");
    }
}

/// A connection that nobody uses is not renewed in vain for ever, and not used when it is too old.
#[tokio::test]
async fn an_idle_connection_is_still_good() {
    let cluster = cluster(1);
    let client = client(&cluster, scram()).await;
    let producer = producer(&client).await;
    for value in ["v0", "v1", "v2"] {
        delivers(&producer, value).await;
        tokio::time::sleep(LIFETIME * 2).await;
    }
    once_and_in_order(&cluster, 3);
    assert_eq!(cluster.security().broker(1).expired, 0);
}

/// The password is changed within a session: the renewal is refused, records wait, and go on with the right one.
#[tokio::test]
async fn a_renewal_that_is_refused() {
    let cluster = cluster(1);
    let client = client(&cluster, scram()).await;
    let producer = client.producer().linger(Duration::ZERO).build().await.unwrap();
    let (first, other) = tokio::join!(load(&producer, LIFETIME * 4), async {
        tokio::time::sleep(LIFETIME / 2).await;
        cluster.set_user(USER, "another-pw-2");
        until_async(&cluster, |seen| !seen.refusals.is_empty()).await;
        cluster.set_user(USER, PASSWORD);
        cluster.security().broker(1).refusals[0].clone()
    });
    assert!(other.contains("re-authentication"), "{other}");
    once_and_in_order(&cluster, first);
}

async fn until_async(cluster: &FakeCluster, done: impl Fn(&proto_tests::fake::BrokerSecurity) -> bool) {
    eventually("what the broker is to see", || done(&cluster.security().broker(1))).await;
}

/// Each thing that can happen to a renewal: silence, a cut, a lie. Each record arrives once and in order.
#[tokio::test]
async fn a_renewal_that_fails() {
    for (api, action) in [
        (SASL_HANDSHAKE, FaultAction::DropBeforeApply),
        (SASL_HANDSHAKE, FaultAction::Error(34)),
        (SASL_AUTHENTICATE, FaultAction::DropAfterApply),
        (SASL_AUTHENTICATE, FaultAction::HalfFrame),
        (SASL_AUTHENTICATE, FaultAction::WrongCorrelationId),
        (SASL_AUTHENTICATE, FaultAction::Error(58)),
    ] {
        let cluster = cluster(1);
        let client = client(&cluster, scram()).await;
        let fault = cluster.inject(Fault::once(action.clone()).api(api));
        let producer = client.producer().linger(Duration::ZERO).build().await.unwrap();
        let count = load(&producer, LIFETIME * 3).await;
        once_and_in_order(&cluster, count);
        assert_eq!(cluster.look(|view| view.struck(fault)), 1, "{action:?}");
    }
    // A renewal that is never answered must not hold the connection longer than a request.
    let cluster = cluster(1);
    let client = by_tls(&cluster).sasl(scram()).property("request.timeout.ms", "300").build().await.unwrap();
    cluster.inject(Fault::once(FaultAction::NoAnswerBefore).api(SASL_AUTHENTICATE));
    let producer = client.producer().linger(Duration::ZERO).build().await.unwrap();
    let count = load(&producer, LIFETIME * 3).await;
    once_and_in_order(&cluster, count);
}

/// The signature is checked at renewals too: nothing more is said to who cannot give it.
#[tokio::test]
async fn a_renewal_by_a_liar() {
    let cluster = cluster(1);
    let client = client(&cluster, scram()).await;
    let producer = producer(&client).await;
    delivers(&producer, "v0").await;
    cluster.set_sasl_fault(Some(SaslFault::WrongServerSignature));
    tokio::time::sleep(LIFETIME).await;
    let waiting = producer.send(Record::to("t").partition(0).value("v1")).await.unwrap();
    until_async(&cluster, |seen| seen.reauthentications() > 0).await;
    eventually("the connection is given up", || client.metrics().connect_failures > 0).await;
    assert!(waiting.try_delivered().is_none());
    assert_eq!(cluster.ledger().values("t"), ["v0"], "a record for a liar");
    cluster.set_sasl_fault(None);
    tokio::time::timeout(PATIENCE, waiting.delivered()).await.expect("in time").unwrap();
    once_and_in_order(&cluster, 2);
}

/// Lifetimes that no real broker names.
#[tokio::test]
async fn odd_lifetimes() {
    for told in [-1, i64::MIN, i64::MAX, 1] {
        let cluster = secure_cluster();
        cluster.set_sasl_fault(Some(SaslFault::Lifetime(told)));
        let client = client(&cluster, scram()).await;
        let producer = client.producer().linger(Duration::ZERO).build().await.unwrap();
        let count = load(&producer, Duration::from_millis(300)).await;
        once_and_in_order(&cluster, count);
        let again = cluster.security().broker(1).reauthentications();
        assert!(told == 1 || again == 0, "{told}: {again} renewals");
        assert!(again < 300, "{told}: a storm of {again} renewals");
    }
}

/// Short-lived tokens, each good for one or two sessions.
#[tokio::test]
async fn tokens_that_change() {
    let cluster = cluster(1);
    let given = Arc::new(Mutex::new(Vec::new()));
    let (notes, keeper) = (given.clone(), cluster.clone());
    let provider = move || {
        let mut given = notes.lock().unwrap();
        let token = format!("tok-{}", given.len());
        given.push(token.clone());
        // The broker knows the two newest: one may be on its way over another connection.
        let newest: Vec<&str> = given.iter().rev().take(2).map(String::as_str).collect();
        keeper.set_tokens(&newest);
        async move { Ok::<_, std::io::Error>(Token::new(token).expires_in(Duration::from_millis(400))) }
    };
    let client = client(&cluster, SaslConfig::oauthbearer(provider)).await;
    let producer = client.producer().linger(Duration::ZERO).build().await.unwrap();
    let count = load(&producer, LIFETIME * 5).await;
    once_and_in_order(&cluster, count);
    assert!(given.lock().unwrap().len() >= 3, "{:?}", given.lock().unwrap());
    assert_eq!(cluster.security().broker(1).refusals.len(), 0);
}

/// Produce, stop with records left, recover: over TLS and SASL as in the clear.
#[tokio::test]
async fn a_spool_is_recovered_over_tls_and_sasl() {
    let (cluster, dir) = (cluster(3), Dir::new());
    let path = dir.0.join("spool");
    let first = client(&cluster, scram()).await;
    let producer = first.producer().spool(&path).build().await.unwrap();
    delivers(&producer, "v0").await;
    cluster.inject(Fault::always(FaultAction::DropBeforeApply).api(0));
    let mut receipts = Vec::new();
    for i in 1..50 {
        let value = format!("v{i}");
        receipts.push(producer.send(Record::to("t").partition(0).value(&value)).await.unwrap());
    }
    for receipt in &receipts {
        receipt.spooled().await.unwrap();
    }
    producer.close(Duration::ZERO).await.unwrap();
    assert!(matches!(receipts[0].delivered().await, Err(SendError::Spooled(_))));
    drop((producer, first));
    cluster.kill_all();
    cluster.clear_faults();
    cluster.restart_all();
    let second = client(&cluster, SaslConfig::scram_sha_512(USER, PASSWORD)).await;
    let producer = second.producer().spool(&path).build().await.unwrap();
    tokio::time::timeout(PATIENCE, producer.flush()).await.expect("in time");
    delivers(&producer, "v50").await;
    once_and_in_order(&cluster, 51);
    producer.close(PATIENCE).await.unwrap();
}
