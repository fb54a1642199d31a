//! Against the fake's SASL, which is as Kafka's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use proto_tests::fake::{FakeCluster, FakeSasl, Fault, FaultAction, SaslFault};

use crate::config::{ClientConfig, SaslConfig};
use crate::core::sasl::{SaslError, Token};
use crate::error::{CallError, CallErrorKind, ConnectCause, SaslFailure};
use crate::io::connect::{Connector, Secured, Target};
use crate::io::connection::Connection;
use crate::io::test_support::{self, LONG, block_on, connect_to, until};
use crate::wire::ErrorCode;
use crate::wire::requests::metadata::{MetadataRequest, MetadataResponse, MetadataTopics};

const METADATA: i16 = 3;
const SASL_HANDSHAKE: i16 = 17;
const SASL_AUTHENTICATE: i16 = 36;

fn fake(sasl: FakeSasl) -> FakeCluster {
    FakeCluster::builder().sasl(sasl.user("alice", "secret-of-alice").token("t0ken")).raw_bytes(4096).start()
}

fn connector_with(sasl: SaslConfig, config: ClientConfig) -> Connector {
    test_support::connector(config, Secured { sasl: Some(sasl), ..Secured::default() })
}

fn connector(sasl: SaslConfig) -> Connector {
    let config = ClientConfig { reconnect_backoff_max: Duration::ZERO, ..ClientConfig::default() };
    connector_with(sasl, config)
}

fn connect_with(connector: &Connector, cluster: &FakeCluster) -> Result<Connection, CallError> {
    connect_to(connector, cluster.address(1))
}

fn connect(sasl: SaslConfig, cluster: &FakeCluster) -> Result<Connection, CallError> {
    connect_with(&connector(sasl), cluster)
}

fn plain() -> SaslConfig {
    SaslConfig::plain("alice", "secret-of-alice").dangerously_allow_cleartext_credentials()
}

fn scram() -> SaslConfig {
    SaslConfig::scram_sha_512("alice", "secret-of-alice")
}

fn oauth(token: &str) -> SaslConfig {
    SaslConfig::oauthbearer(Token::new(token)).dangerously_allow_cleartext_credentials()
}

fn refused(sasl: SaslConfig, cluster: &FakeCluster) -> SaslFailure {
    let error = connect(sasl, cluster).expect_err("refused");
    let text = format!("{error} {error:?}");
    assert!(!text.contains("secret") && !text.contains('\n'), "{text}");
    let CallErrorKind::Connect(failures) = error.kind() else { panic!("{error}") };
    match &failures[..] {
        [failure] => match &failure.cause {
            ConnectCause::Sasl(failure) => failure.clone(),
            cause => panic!("{cause}"),
        },
        _ => panic!("{error}"),
    }
}

fn call(connection: &Connection) -> Result<MetadataResponse, CallError> {
    let ask = MetadataRequest { topics: MetadataTopics::All, allow_auto_create: false };
    block_on(connection.submit(&ask, LONG))
}

#[test]
fn each_mechanism_connects() {
    let cluster = fake(FakeSasl::new());
    let scram_256 = SaslConfig::scram_sha_256("alice", "secret-of-alice");
    for sasl in [plain(), scram_256, scram(), oauth("t0ken")] {
        let connection = connect(sasl, &cluster).expect("connection");
        assert_eq!(call(&connection).expect("answer").brokers.len(), 1);
    }
    let seen = cluster.security().broker(1);
    let principals: Vec<_> =
        seen.authenticated.iter().map(|one| (one.mechanism.as_str(), one.principal.as_str())).collect();
    assert_eq!(
        principals,
        [("PLAIN", "alice"), ("SCRAM-SHA-256", "alice"), ("SCRAM-SHA-512", "alice"), ("OAUTHBEARER", "token")]
    );
    assert_eq!(seen.refused_unauthenticated, 0);
}

#[test]
fn a_wrong_password_name_token_and_mechanism_are_told_apart() {
    let cluster = fake(FakeSasl::new().mechanisms(&["PLAIN", "OAUTHBEARER", "SCRAM-SHA-512"]));
    let wrong = SaslConfig::plain("alice", "secret").dangerously_allow_cleartext_credentials();
    let told = refused(wrong, &cluster).to_string();
    assert_eq!(told, "SASL: PLAIN was refused: Authentication failed: Invalid username or password");
    for wrong in [SaslConfig::scram_sha_512("alice", "secret"), SaslConfig::scram_sha_512("bob", "secret-of-alice")] {
        let told = refused(wrong, &cluster).to_string();
        assert!(told.starts_with("SASL: SCRAM-SHA-512 was refused: Authentication failed during"), "{told}");
    }
    let told = refused(oauth("other"), &cluster).to_string();
    assert_eq!(told, "SASL: OAUTHBEARER was refused: invalid_token");
    let told = refused(SaslConfig::scram_sha_256("alice", "secret-of-alice"), &cluster).to_string();
    assert_eq!(told, "SASL: the broker does not offer SCRAM-SHA-256: it offers PLAIN, OAUTHBEARER, SCRAM-SHA-512");
}

#[test]
fn a_listener_without_sasl_is_told() {
    let cluster = FakeCluster::start(1);
    assert_eq!(refused(scram(), &cluster), SaslFailure::NotAsked);
}

/// Story: security.protocol says SASL_PLAINTEXT where SASL_SSL was meant.
#[test]
fn plaintext_port_gets_no_credentials() {
    let cluster = fake(FakeSasl::new());
    let plain = SaslConfig::plain("alice", "secret-of-alice");
    let token = SaslConfig::oauthbearer(Token::new("t0ken"));
    for (sasl, mechanism) in [(plain, "PLAIN"), (token, "OAUTHBEARER")] {
        assert_eq!(refused(sasl, &cluster), SaslFailure::Cleartext { mechanism: mechanism.to_owned() });
    }
    assert!(cluster.security().connections.is_empty(), "nothing was even connected");
}

#[test]
fn an_expired_token_is_told_before_it_is_sent() {
    let cluster = fake(FakeSasl::new());
    let expired = Token::new("t0ken").expires_at(SystemTime::now() - Duration::from_secs(3600));
    let sasl = SaslConfig::oauthbearer(expired).dangerously_allow_cleartext_credentials();
    let told = refused(sasl, &cluster).to_string();
    assert!(told.starts_with("SASL: OAUTHBEARER: the token expired 36"), "{told}");
    assert!(cluster.security().broker(1).mechanisms.is_empty());
    let none = || async { Err::<Token, _>("the provider is down") };
    let sasl = SaslConfig::oauthbearer(none).dangerously_allow_cleartext_credentials();
    assert_eq!(refused(sasl, &cluster).to_string(), "SASL: OAUTHBEARER: no token: the provider is down");
}

/// Story: whoever gives the tokens hangs. That is what is told, not that the broker is slow.
#[test]
fn a_provider_that_hangs_is_told() {
    let cluster = fake(FakeSasl::new());
    let hangs = || std::future::pending::<Result<Token, &str>>();
    let connector = connector(SaslConfig::oauthbearer(hangs).dangerously_allow_cleartext_credentials());
    let target = Target { broker: 1, host: "127.0.0.1".into(), port: cluster.address(1).port() };
    let (connecting, limit) = (connector.clone(), Duration::from_secs(1));
    let connected = block_on(connector.thread.run(async move { connecting.connect(&target, limit).await }));
    let error = connected.expect("no panic").expect_err("no token").to_string();
    assert!(error.contains("SASL: OAUTHBEARER: no token: its provider has given none within 1 s"), "{error}");

    let cluster = fake(FakeSasl::new().session_lifetime(LONG).fault(SaslFault::Lifetime(200)));
    let asked = AtomicU32::new(0);
    let once = move || {
        let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            match first {
                true => Ok::<_, &str>(Token::new("t0ken")),
                false => std::future::pending().await,
            }
        }
    };
    let config = ClientConfig { request_timeout: Duration::from_millis(300), ..ClientConfig::default() };
    let sasl = SaslConfig::oauthbearer(once).dangerously_allow_cleartext_credentials();
    let connection = connect_with(&connector_with(sasl, config), &cluster).expect("connection");
    until("ended", || connection.is_closed());
    let error = call(&connection).expect_err("ended").to_string();
    assert!(error.contains("authenticated again: SASL: OAUTHBEARER: no token: its provider has given none"), "{error}");
}

/// Story: what answers is not our broker. It does not know the password, and tries each way to make us believe it.
#[test]
fn a_hostile_broker_is_never_believed() {
    let cluster = fake(FakeSasl::new());
    let signature = SaslError::ServerSignature;
    let nonce = SaslError::Nonce;
    let malformed = |words: &'static str| {
        move |failure: &SaslFailure| {
            matches!(failure, SaslFailure::Exchange { error: SaslError::Malformed { .. }, .. })
                && failure.to_string().contains(words)
        }
    };
    let exactly = |expected: SaslError| move |failure: &SaslFailure| matches!(failure, SaslFailure::Exchange { error, .. } if *error == expected);
    type Check = Box<dyn Fn(&SaslFailure) -> bool>;
    let cases: Vec<(SaslFault, Check)> = vec![
        (SaslFault::WrongServerSignature, Box::new(exactly(signature))),
        (SaslFault::ForeignNonce, Box::new(exactly(nonce))),
        (SaslFault::UnextendedNonce, Box::new(malformed("just ours"))),
        (SaslFault::Iterations(4095), Box::new(|failure| failure.to_string().contains("4095 iterations"))),
        (SaslFault::Iterations(u64::MAX), Box::new(|failure| failure.to_string().contains("4096 to 262144"))),
        (SaslFault::SuccessAtOnce, Box::new(malformed("it is empty"))),
        (SaslFault::ServerFinal(String::new()), Box::new(malformed("it is empty"))),
        (SaslFault::ServerFinal("v=".into()), Box::new(exactly(SaslError::ServerSignature))),
        (SaslFault::ServerFirst("m=1,r={nonce},s=QQ==,i=4096".into()), Box::new(malformed("mandatory"))),
        (
            SaslFault::ServerFinal("e=other-error".into()),
            Box::new(|failure| matches!(failure, SaslFailure::Refused { message, .. } if message == "other-error")),
        ),
        (
            SaslFault::Refuse("no\nentry".into()),
            Box::new(|failure| failure.to_string() == "SASL: SCRAM-SHA-512 was refused: no entry"),
        ),
    ];
    for (fault, check) in cases {
        cluster.set_sasl_fault(Some(fault.clone()));
        let failure = refused(scram(), &cluster);
        assert!(check(&failure), "{fault:?}: {failure}");
    }
    cluster
        .set_sasl_fault(Some(SaslFault::ErrorChallenge(r#"{"status":"insufficient_scope","scope":"kafka"}"#.into())));
    let failure = refused(oauth("t0ken"), &cluster).to_string();
    assert_eq!(failure, "SASL: OAUTHBEARER was refused: insufficient_scope; scope: kafka");
    cluster.set_sasl_fault(None);
    connect(scram(), &cluster).expect("the truth is believed");
}

/// A mechanism that is never satisfied.
#[derive(Debug)]
struct Endless;

impl crate::SaslMechanism for Endless {
    fn name(&self) -> &str {
        "PLAIN"
    }

    fn begin<'a>(&'a self, context: crate::SaslContext<'a>) -> crate::SaslFuture<'a> {
        assert_eq!(context.host, "127.0.0.1");
        Box::pin(async { Ok(Box::new(Endless) as Box<dyn crate::SaslExchange>) })
    }

    fn sends_secret(&self) -> bool {
        false
    }
}

impl crate::SaslExchange for Endless {
    fn first(&mut self) -> Result<zeroize::Zeroizing<Vec<u8>>, SaslError> {
        Ok(zeroize::Zeroizing::default())
    }

    fn next(&mut self, challenge: &[u8]) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>, SaslError> {
        Ok(Some(zeroize::Zeroizing::new(challenge.to_vec())))
    }
}

#[test]
fn an_exchange_ends_within_ten_rounds() {
    let cluster = fake(FakeSasl::new());
    cluster.set_sasl_fault(Some(SaslFault::EndlessChallenges("again".into())));
    let failure = refused(SaslConfig::mechanism(Endless), &cluster);
    assert_eq!(failure, SaslFailure::Endless { mechanism: "PLAIN".into(), rounds: 10 });
    let asked = cluster.ledger().requests.iter().filter(|one| one.api_key == SASL_AUTHENTICATE).count();
    assert_eq!(asked, 10);
}

/// A mechanism, or its exchange, with a bug in one place.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Buggy {
    Begin,
    Wait,
    First,
    Next,
}

impl crate::SaslMechanism for Buggy {
    fn name(&self) -> &str {
        "PLAIN"
    }

    fn begin<'a>(&'a self, _: crate::SaslContext<'a>) -> crate::SaslFuture<'a> {
        assert_ne!(*self, Buggy::Begin, "secret");
        Box::pin(async {
            tokio::task::yield_now().await;
            assert_ne!(*self, Buggy::Wait, "secret");
            Ok(Box::new(*self) as Box<dyn crate::SaslExchange>)
        })
    }

    fn sends_secret(&self) -> bool {
        false
    }
}

impl crate::SaslExchange for Buggy {
    fn first(&mut self) -> Result<zeroize::Zeroizing<Vec<u8>>, SaslError> {
        assert_ne!(*self, Buggy::First, "secret");
        Ok(zeroize::Zeroizing::default())
    }

    fn next(&mut self, _: &[u8]) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>, SaslError> {
        panic!("secret");
    }

    fn refusal(&self) -> Option<String> {
        panic!("secret");
    }
}

/// Story: a mechanism of the user's has a bug. The task that connects must outlive it, or nobody ever connects again, and
/// `build` waits for it until its time is over.
#[test]
fn a_mechanism_that_panics_is_told() {
    let cluster = fake(FakeSasl::new().fault(SaslFault::EndlessChallenges("again".into())));
    for buggy in [Buggy::Begin, Buggy::Wait, Buggy::First, Buggy::Next] {
        let failure = refused(SaslConfig::mechanism(buggy), &cluster);
        let error = SaslError::Panicked;
        assert_eq!(failure, SaslFailure::Exchange { mechanism: "PLAIN".into(), error }, "{buggy:?}");
    }
    let builder = crate::Client::builder(cluster.bootstrap()).sasl(SaslConfig::mechanism(Buggy::Wait));
    let built = block_on(async { tokio::time::timeout(LONG, builder.build()).await });
    let told = built.expect("at once").expect_err("a bug").to_string();
    assert!(told.contains("SASL: PLAIN: the mechanism or token provider panicked"), "{told}");

    // One bad moment: the next attempt is another one.
    let cluster = fake(FakeSasl::new());
    let asked = AtomicU32::new(0);
    let once = move || {
        assert_ne!(asked.fetch_add(1, Ordering::SeqCst), 0, "a bad moment");
        std::future::ready(Ok::<_, &str>(Token::new("t0ken")))
    };
    let sasl = SaslConfig::oauthbearer(once).dangerously_allow_cleartext_credentials();
    let client = crate::Client::builder(cluster.bootstrap()).sasl(sasl).build_lazy().expect("client");
    until("connected", || client.cluster_id().is_some());
}

#[test]
fn a_broker_that_hangs_up_or_sends_too_much_is_told() {
    let cluster = fake(FakeSasl::new());
    for (api, words) in [
        (SASL_HANDSHAKE, "closed the connection at SaslHandshake for PLAIN: the listener may not take SASL"),
        (SASL_AUTHENTICATE, "closed the connection at SaslAuthenticate for PLAIN: it may have refused the credentials"),
    ] {
        let before = cluster.security().broker(1).mechanisms.len();
        cluster.inject(Fault::once(FaultAction::DropBeforeApply).api(api));
        let told = refused(plain(), &cluster).to_string();
        assert!(told.contains(words), "{told}");
        assert!(cluster.security().broker(1).mechanisms.len() <= before + 1, "tried once only");
    }
    // A frame of 64 KiB and a byte.
    let long = bytes::Bytes::from_static(&[0, 1, 0, 1, 0, 0, 0, 0]);
    cluster.inject(Fault::once(FaultAction::RawBytes(long)).api(SASL_AUTHENTICATE));
    let error = connect(plain(), &cluster).expect_err("too long");
    assert!(error.to_string().contains("the limit is"), "{error}");
}

#[test]
fn the_version_that_the_broker_speaks_is_asked_in() {
    let cluster = fake(FakeSasl::new().session_lifetime(LONG));
    for version in [0, 1, 2] {
        cluster.limit_version(SASL_AUTHENTICATE, Some(version));
        connect(scram(), &cluster).expect("connection");
        let asked = cluster.ledger().requests;
        let last = asked.iter().rev().find(|one| one.api_key == SASL_AUTHENTICATE).expect("asked");
        assert_eq!(last.version, version);
    }
}

/// Story: a password is wrong, and the account is locked after a few attempts. However often and on however many lanes
/// the client wants a connection, it asks seldom.
#[test]
fn refused_credentials_are_not_sent_again_and_again() {
    let cluster = fake(FakeSasl::new());
    let config = ClientConfig { reconnect_backoff_max: Duration::from_millis(300), ..ClientConfig::default() };
    let connector = connector_with(SaslConfig::scram_sha_512("alice", "secret"), config);
    let started = Instant::now();
    let first = connect_with(&connector, &cluster).expect_err("refused").to_string();
    let mut asked = 0;
    while started.elapsed() < Duration::from_millis(250) {
        assert_eq!(connect_with(&connector, &cluster).expect_err("refused").to_string(), first);
        asked += 1;
    }
    let refusals = || cluster.security().broker(1).refusals.len();
    assert!(started.elapsed() >= Duration::from_millis(300) || refusals() == 1, "{} of {asked}", refusals());
    // It is tried again by itself, without anybody's doing.
    cluster.set_user("alice", "secret");
    until("connected", || connect_with(&connector, &cluster).is_ok());
    assert!(refusals() <= 2);
}

/// Story: sessions live for 300 ms, and requests go on for several of them. None fails, and none is lost. (The broker
/// does not end them, so that a machine that stops for a moment fails no test.)
#[test]
fn a_session_is_renewed_under_load() {
    for sasl in [plain(), scram(), oauth("t0ken")] {
        let cluster = fake(FakeSasl::new().session_lifetime(LONG).fault(SaslFault::Lifetime(300)));
        let connection = connect(sasl, &cluster).expect("connection");
        let renewed = || cluster.security().broker(1).reauthentications();
        let ask = MetadataRequest { topics: MetadataTopics::All, allow_auto_create: false };
        let mut answers = std::collections::VecDeque::new();
        let started = Instant::now();
        while renewed() < 4 {
            assert!(started.elapsed() < LONG);
            answers.push_back(connection.submit(&ask, LONG));
            if answers.len() > 20 {
                block_on(answers.pop_front().expect("one")).expect("answer");
            }
        }
        for answer in answers {
            block_on(answer).expect("answer");
        }
        assert!(!connection.is_closed());
        assert_eq!(connection.in_flight(), 0);
        let seen = cluster.security().broker(1);
        assert_eq!((seen.expired, seen.refusals.len(), seen.authentications()), (0, 0, 1), "{seen:?}");
        assert!(started.elapsed() >= Duration::from_millis(4 * 255), "not before 85 % of the session");
    }
}

/// Story: nobody uses the connection for several sessions; the next request is answered on it.
#[test]
fn an_idle_connection_keeps_its_session_and_is_still_idle() {
    let cluster = fake(FakeSasl::new().session_lifetime(Duration::from_millis(200)));
    let connection = connect(scram(), &cluster).expect("connection");
    until("renewed", || cluster.security().broker(1).reauthentications() >= 3);
    call(&connection).expect("answer");
    assert_eq!(cluster.security().broker(1).expired, 0);

    let config = ClientConfig { connections_max_idle: Duration::from_millis(500), ..ClientConfig::default() };
    let connection = connect_with(&connector_with(scram(), config), &cluster).expect("connection");
    until("ended for idleness", || connection.is_closed());
    let error = call(&connection).expect_err("closed");
    assert!(error.to_string().contains("it was idle for 500 ms"), "{error}");
}

/// Story: the password is changed on the brokers. Open connections end when their session does, with the reason.
#[test]
fn a_failed_renewal_ends_the_connection_with_its_reason() {
    let cluster = fake(FakeSasl::new().session_lifetime(Duration::from_millis(200)));
    let connection = connect(scram(), &cluster).expect("connection");
    call(&connection).expect("answer");
    cluster.set_user("alice", "another");
    until("ended", || connection.is_closed());
    let error = call(&connection).expect_err("ended");
    assert!(
        error.to_string().contains(
            "the connection ended: it could not be authenticated again: SASL: SCRAM-SHA-512 was refused: Authentication \
             failed during re-authentication"
        ),
        "{error}"
    );
    assert!(!error.may_have_been_applied(), "{error}");
    let SaslFailure::Refused { code, .. } = refused(scram(), &cluster) else { panic!("refused") };
    assert_eq!(code, ErrorCode::SASL_AUTHENTICATION_FAILED);
}

/// Story: sessions are so short that Kafka, which takes one renewal a second, refuses the second one.
#[test]
fn a_renewal_that_comes_too_soon_is_told() {
    let sasl = FakeSasl::new().session_lifetime(Duration::from_millis(300)).reauthentication_interval(LONG);
    let cluster = fake(sasl);
    let connection = connect(scram(), &cluster).expect("connection");
    until("ended", || connection.is_closed());
    assert_eq!(cluster.security().broker(1).reauthentications(), 1);
    let error = call(&connection).expect_err("ended").to_string();
    assert!(error.contains("again: SASL: SCRAM-SHA-512 was refused: it takes no SaslHandshake now"), "{error}");
}

/// Story: the broker hangs up in place of an answer, and another one says nothing.
#[test]
fn a_renewal_without_an_answer_ends_the_connection() {
    for (action, words) in [
        (FaultAction::DropBeforeApply, "closed the connection at SaslAuthenticate for SCRAM-SHA-512"),
        (FaultAction::NoAnswerBefore, "a SaslAuthenticate request got no answer within 1 s"),
    ] {
        let cluster = fake(FakeSasl::new().session_lifetime(Duration::from_millis(200)));
        let config = ClientConfig { request_timeout: Duration::from_secs(1), ..ClientConfig::default() };
        let connection = connect_with(&connector_with(scram(), config), &cluster).expect("connection");
        cluster.inject(Fault::once(action).api(SASL_AUTHENTICATE));
        until("ended", || connection.is_closed());
        let error = call(&connection).expect_err("ended");
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// Story: an answer is late, and the session is renewed behind it. What is asked meanwhile waits for both.
#[test]
fn requests_in_flight_are_answered_before_the_renewal() {
    let cluster = fake(FakeSasl::new().session_lifetime(Duration::from_millis(300)));
    let connection = connect(scram(), &cluster).expect("connection");
    cluster.inject(Fault::once(FaultAction::Delay(Duration::from_millis(450))).api(METADATA));
    let ask = MetadataRequest { topics: MetadataTopics::All, allow_auto_create: false };
    let late = connection.submit(&ask, LONG);
    until("the renewal is in flight", || connection.in_flight() == 2);
    let held: Vec<_> = (0..3).map(|_| connection.submit(&ask, LONG)).collect();
    block_on(late).expect("the late one");
    for answer in held {
        block_on(answer).expect("held");
    }
    let seen = cluster.security().broker(1);
    assert_eq!((seen.expired, seen.authentications()), (0, 1));
    let keys: Vec<i16> = cluster.ledger().requests.iter().map(|one| one.api_key).collect();
    let order: Vec<i16> = keys.into_iter().skip_while(|key| *key != METADATA).take(6).collect();
    assert_eq!(order, [METADATA, SASL_HANDSHAKE, SASL_AUTHENTICATE, SASL_AUTHENTICATE, METADATA, METADATA]);
}

/// Story: a quota is exceeded, and the broker reads nothing for longer than a request may take. A renewal that falls into
/// that time is answered late, and nobody is to blame.
#[test]
fn a_renewal_while_the_broker_throttles_has_time() {
    let cluster = fake(FakeSasl::new().session_lifetime(LONG).fault(SaslFault::Lifetime(1500)));
    let config = ClientConfig { request_timeout: Duration::from_millis(500), ..ClientConfig::default() };
    let connection = connect_with(&connector_with(scram(), config), &cluster).expect("connection");
    cluster.inject(Fault::once(FaultAction::Throttle(4000)).api(METADATA));
    cluster.inject(Fault::once(FaultAction::Delay(Duration::from_millis(1000))).api(SASL_HANDSHAKE));
    call(&connection).expect("answered at once");
    until("renewed", || cluster.security().broker(1).reauthentications() > 0 || connection.is_closed());
    call(&connection).expect("answered after the silence");
    assert_eq!(cluster.security().broker(1).authentications(), 1);
}

/// Story: the provider is slow. Requests go on meanwhile, and wait only when the session is over.
#[test]
fn a_slow_token_holds_up_nothing_until_the_session_is_over() {
    let cluster = fake(FakeSasl::new().session_lifetime(LONG).fault(SaslFault::Lifetime(2000)));
    let asked = Arc::new(AtomicU32::new(0));
    let (give, gate) = tokio::sync::watch::channel(false);
    let provider = {
        let asked = asked.clone();
        move || {
            let (first, mut gate) = (asked.fetch_add(1, Ordering::SeqCst) == 0, gate.clone());
            async move {
                if !first {
                    gate.wait_for(|open| *open).await?;
                }
                Ok::<_, tokio::sync::watch::error::RecvError>(Token::new("t0ken"))
            }
        }
    };
    let sasl = SaslConfig::oauthbearer(provider).dangerously_allow_cleartext_credentials();
    let connection = connect(sasl, &cluster).expect("connection");
    let connected = Instant::now();
    until("asked for another token", || asked.load(Ordering::SeqCst) == 2);
    let ask = MetadataRequest { topics: MetadataTopics::All, allow_auto_create: false };
    let before = connection.submit(&ask, LONG);
    let submitted = connected.elapsed();
    std::thread::sleep(Duration::from_millis(2010).saturating_sub(connected.elapsed()));
    let arrived = || cluster.ledger().requests.iter().filter(|one| one.api_key == METADATA).count();
    let answered = arrived();
    assert!(answered == 1 || submitted > Duration::from_millis(1950), "not held while the session lasts");
    let held = connection.submit(&ask, LONG);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(arrived(), answered, "held");
    give.send(true).expect("waiting");
    block_on(before).expect("answered");
    block_on(held).expect("answered after the renewal");
    assert_eq!(cluster.security().broker(1).reauthentications(), 1);
}
