//! SASL as an application meets it: who may come in, what a hostile broker may not do, and what each refusal says.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a scenario may fail loudly")]
#![allow(clippy::disallowed_methods, reason = "a test may look at the clock")]

mod security_support;

use bytes::Bytes;
use indelible::{Client, ClientBuilder, SaslConfig, Secret, Token};
use proto_tests::fake::{FakeCluster, FakeTls, Fault, FaultAction, SaslFault};
use security_support::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

fn with(cluster: &FakeCluster, sasl: SaslConfig) -> ClientBuilder {
    impatient(cluster.bootstrap()).sasl(sasl)
}

fn secure(cluster: &FakeCluster, sasl: SaslConfig) -> ClientBuilder {
    by_tls(cluster).sasl(sasl)
}

fn bearer(token: &str) -> SaslConfig {
    SaslConfig::oauthbearer(Token::new(token).extension("logicalCluster", "lkc-1"))
}

#[tokio::test]
async fn every_mechanism_carries_records() {
    let cluster = secure_cluster();
    for (count, (name, config)) in (1..).zip([
        ("PLAIN", SaslConfig::plain(USER, PASSWORD)),
        ("SCRAM-SHA-256", scram()),
        ("SCRAM-SHA-512", SaslConfig::scram_sha_512(USER, PASSWORD)),
        ("OAUTHBEARER", bearer(TOKEN)),
    ]) {
        let client = secure(&cluster, config).build().await.unwrap();
        delivers(&producer(&client).await, name).await;
        let seen = cluster.security().broker(1);
        let (mechanism, principal) = seen.authenticated.last().map(|one| (&*one.mechanism, &*one.principal)).unwrap();
        assert_eq!((mechanism, principal), (name, if name == "OAUTHBEARER" { "token" } else { USER }));
        assert_eq!(cluster.ledger().values("t").len(), count);
    }
    let seen = cluster.security();
    assert!(seen.broker(1).extensions.contains(&("logicalCluster".to_owned(), "lkc-1".to_owned())));
    assert_eq!((seen.broker(1).refused_unauthenticated, seen.broker(1).refusals.len()), (0, 0));
    assert!(!seen.connections.iter().any(|one| one.is_in_the_clear()), "a byte in the clear");
}

/// Names and passwords that a careless client would send wrongly.
#[tokio::test]
async fn odd_names_and_passwords() {
    for (name, password) in [("a=b,c", "p,=w"), ("Zoë ", " \u{2168}\u{AD}pass\u{A0}word "), ("n=2C", "\u{1F511}")] {
        let cluster = with_topic(
            FakeCluster::builder().tls(FakeTls::new(good())).sasl(sasl().user(name, password).iterations(8192)).start(),
        );
        for config in [
            SaslConfig::plain(name, password),
            SaslConfig::scram_sha_256(name, password),
            SaslConfig::scram_sha_512(name, Secret::new(password)),
        ] {
            secure(&cluster, config).build().await.unwrap();
        }
        assert!(cluster.security().broker(1).authenticated.iter().all(|one| one.principal == name));
    }
}

#[tokio::test]
async fn wrong_password() {
    let cluster = secure_cluster();
    for config in [
        SaslConfig::plain(USER, "wrong-pw-1"),
        SaslConfig::plain("nobody", "wrong-pw-1"),
        SaslConfig::scram_sha_256(USER, "wrong-pw-1"),
        SaslConfig::scram_sha_512(USER, "wrong-pw-1"),
        SaslConfig::scram_sha_512("nobody", "wrong-pw-1"),
    ] {
        let mechanism = format!("{config:?}");
        let text = refused(secure(&cluster, config), &address(&cluster), &["SASL: ", "was refused: "]).await;
        assert!(!text.contains("wrong-pw-1") && !mechanism.contains("wrong-pw-1"), "{text}");
    }
    assert_eq!(cluster.security().broker(1).authenticated, []);
}

/// A refusal is not an invitation to try a thousand times: accounts get locked. With the default back-off.
#[tokio::test]
async fn refused_credentials_are_tried_seldom() {
    let cluster = secure_cluster();
    let builder = Client::builder(cluster.bootstrap()).tls(trusting()).sasl(SaslConfig::plain(USER, "wrong-pw-1"));
    let client = builder.build_lazy().unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let tried = cluster.security().broker(1).refusals.len();
    assert!((1..=10).contains(&tried), "{tried} attempts in three seconds");
    // The right password comes in once an operator has set it.
    cluster.set_user(USER, "wrong-pw-1");
    until(&cluster, "it comes in", |view| view.security(1).authentications() > 0);
    drop(client);
}

#[tokio::test]
async fn mechanism_not_offered() {
    let cluster = secure_cluster();
    cluster.set_mechanisms(&["SCRAM-SHA-512", "OAUTHBEARER"]);
    let words = ["SASL: the broker does not offer PLAIN: it offers SCRAM-SHA-512, OAUTHBEARER"];
    refused(secure(&cluster, SaslConfig::plain(USER, PASSWORD)), &address(&cluster), &words).await;
    cluster.set_mechanisms(&[]);
    let words = ["SASL: the broker does not offer SCRAM-SHA-256: it offers none"];
    refused(secure(&cluster, scram()), &address(&cluster), &words).await;
    // A liar that goes on about it on many lines.
    cluster.set_mechanisms(&["A\nB", "C\r\nD\u{1b}[31m"]);
    refused(secure(&cluster, scram()), &address(&cluster), &["does not offer SCRAM-SHA-256"]).await;
    let names: Vec<String> = (0..5000).map(|number| format!("X-{number}")).collect();
    cluster.set_mechanisms(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let text =
        refused(secure(&cluster, scram()), &address(&cluster), &["it offers X-0, X-1, ", "X-9, 4990 more"]).await;
    assert!(text.len() < 1000, "{} characters", text.len());
}

#[tokio::test]
async fn expired_token() {
    let cluster = secure_cluster();
    cluster.set_tokens(&["newer"]);
    let words = ["SASL: OAUTHBEARER was refused", "invalid_token"];
    refused(secure(&cluster, bearer(TOKEN)), &address(&cluster), &words).await;
    // One that is known to be over is not even sent.
    let before = cluster.security().broker(1).extensions.len();
    let over = Token::new(TOKEN).expires_at(SystemTime::now() - Duration::from_secs(90));
    let words = ["SASL: OAUTHBEARER", "the token expired", "ago"];
    refused(secure(&cluster, SaslConfig::oauthbearer(over)), &address(&cluster), &words).await;
    assert_eq!(cluster.security().broker(1).extensions.len(), before);
    // A provider that has none.
    let none = || async { Err::<Token, _>("the token file is gone") };
    let words = ["SASL: OAUTHBEARER", "the token file is gone"];
    refused(secure(&cluster, SaslConfig::oauthbearer(none)), &address(&cluster), &words).await;
    // A provider that gives a good one at last.
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let later = move || {
        let turn = counted.fetch_add(1, Ordering::Relaxed);
        async move { Ok::<_, std::io::Error>(Token::new(if turn == 0 { "older" } else { "newer" })) }
    };
    let client = secure(&cluster, SaslConfig::oauthbearer(later)).build_lazy().unwrap();
    let producer = client.producer().build().await;
    let producer = producer.unwrap();
    delivers(&producer, "a").await;
    assert!(asked.load(Ordering::Relaxed) >= 2);
}

/// RFC 7628, 3.2.2: the error comes as a challenge, which may hold anything.
#[tokio::test]
async fn oauth_error_challenges() {
    let cluster = secure_cluster();
    for (challenge, words) in [
        (r#"{"status":"insufficient_scope","scope":"kafka:write"}"#, "insufficient_scope"),
        (r#"{"status":"invalid_token","openid-configuration":"https://a.example/x"}"#, "invalid_token"),
        ("not json\nbut two lines", "SASL: OAUTHBEARER"),
        ("{\"status\":", "SASL: OAUTHBEARER"),
        ("\u{1}", "SASL: OAUTHBEARER"),
        (&"[".repeat(60_000), "SASL: OAUTHBEARER"),
    ] {
        cluster.set_sasl_fault(Some(SaslFault::ErrorChallenge(challenge.to_owned())));
        let text = refused(secure(&cluster, bearer(TOKEN)), &address(&cluster), &[words]).await;
        assert!(text.len() < 1000, "{}", text.len());
    }
    cluster.set_sasl_fault(Some(SaslFault::EndlessChallenges("{}".to_owned())));
    refused(secure(&cluster, bearer(TOKEN)), &address(&cluster), &["SASL: OAUTHBEARER"]).await;
}

#[tokio::test]
async fn scram_bad_server_signature() {
    let cluster = secure_cluster();
    for (fault, words) in [
        (SaslFault::WrongServerSignature, "the broker's signature is wrong"),
        (SaslFault::ServerFinal("v=AAAA".to_owned()), "SCRAM-SHA-256: the broker's"),
        (SaslFault::ServerFinal(String::new()), "SCRAM-SHA-256: the broker's"),
        (SaslFault::ServerFinal("v=".to_owned()), "SCRAM-SHA-256: the broker's"),
        (SaslFault::ServerFinal("v=%%%".to_owned()), "SCRAM-SHA-256: the broker's"),
        (SaslFault::ServerFinal("e=other-error".to_owned()), "other-error"),
        (SaslFault::ServerFinal("e=two\nlines".to_owned()), "SCRAM-SHA-256"),
        (SaslFault::SuccessAtOnce, "SCRAM-SHA-256: the broker's"),
        (SaslFault::EndlessChallenges("v=AAAA".to_owned()), "SCRAM-SHA-256: the broker's"),
    ] {
        cluster.set_sasl_fault(Some(fault.clone()));
        let before = cluster.ledger().requests.len();
        refused(secure(&cluster, scram()), &address(&cluster), &["SASL: ", words]).await;
        let asked: Vec<_> = cluster.ledger().requests[before..].iter().map(|request| request.api_key).collect();
        let allowed = [API_VERSIONS, SASL_HANDSHAKE, SASL_AUTHENTICATE];
        assert!(asked.iter().all(|key| allowed.contains(key)), "{fault:?}: said more to a liar: {asked:?}");
    }
    cluster.set_sasl_fault(None);
    secure(&cluster, scram()).build().await.unwrap();
}

#[tokio::test]
async fn scram_foreign_nonce() {
    let cluster = secure_cluster();
    for fault in [SaslFault::ForeignNonce, SaslFault::ServerFirst("r=,s=QUJD,i=4096".to_owned())] {
        cluster.set_sasl_fault(Some(fault));
        refused(secure(&cluster, scram()), &address(&cluster), &["SASL: SCRAM-SHA-256: the broker's", "nonce"]).await;
    }
    // RFC 5802, 5.1: the broker adds its own.
    cluster.set_sasl_fault(Some(SaslFault::UnextendedNonce));
    refused(secure(&cluster, scram()), &address(&cluster), &["SASL: SCRAM-SHA-256: the broker's", "nonce"]).await;
}

#[tokio::test]
async fn scram_iterations_out_of_bounds() {
    let cluster = secure_cluster();
    for asked in [0, 1, 4095, 1_000_000_000, u64::from(u32::MAX) + 4096] {
        cluster.set_sasl_fault(Some(SaslFault::Iterations(asked)));
        let started = Instant::now();
        let words = ["SASL: SCRAM-SHA-256: the broker asks for", &asked.to_string(), "iterations"];
        refused(secure(&cluster, scram()), &address(&cluster), &words).await;
        assert!(started.elapsed() < Duration::from_secs(3), "{asked} were computed: {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn scram_malformed() {
    let cluster = secure_cluster();
    for first in [
        "",
        ",",
        "r={nonce}",
        "r={nonce},s=QUJD",
        "s=QUJD,r={nonce},i=4096",
        "r={nonce},s=,i=4096",
        "r={nonce},s=%%%%,i=4096",
        "r={nonce},s=QUJD,i=",
        "r={nonce},s=QUJD,i=-1",
        "r={nonce},s=QUJD,i=4096x",
        "r={nonce},s=QUJD,i=99999999999999999999999999",
        "m=ext,r={nonce},s=QUJD,i=4096",
        "e=no-resources",
        "r={nonce}\n,s=QUJD,i=4096",
    ] {
        cluster.set_sasl_fault(Some(SaslFault::ServerFirst(first.to_owned())));
        refused(secure(&cluster, scram()), &address(&cluster), &["SASL: SCRAM-SHA-256"]).await;
    }
    let huge = format!("r={{nonce}},s={},i=4096", "QUJD".repeat(15_000));
    cluster.set_sasl_fault(Some(SaslFault::ServerFirst(huge)));
    let text = refused(secure(&cluster, scram()), &address(&cluster), &["SASL: SCRAM-SHA-256"]).await;
    assert!(text.len() < 1000);
}

#[tokio::test]
async fn listener_without_sasl() {
    let cluster = tls_cluster(good());
    for config in [SaslConfig::plain(USER, PASSWORD), scram(), bearer(TOKEN)] {
        let words = ["SASL: the broker's listener does not ask who one is"];
        refused(secure(&cluster, config), &address(&cluster), &words).await;
    }
    let asked = cluster.ledger();
    assert_eq!(asked.request_count(SASL_AUTHENTICATE), 0, "credentials for somebody who did not ask");
}

/// The reverse: a client without SASL at a listener that asks for it.
#[tokio::test]
async fn client_without_sasl() {
    let cluster = secure_cluster();
    let text = refused(by_tls(&cluster), &address(&cluster), &[]).await;
    assert!(text.contains("closed") && text.to_lowercase().contains("sasl"), "{text}");
}

#[tokio::test]
async fn cleartext_credentials_are_refused() {
    for config in [SaslConfig::plain(USER, PASSWORD), bearer(TOKEN)] {
        let cluster = sasl_cluster(sasl());
        let error = with(&cluster, config.clone()).build().await.expect_err("in the clear").to_string();
        strict(&error, "SASL_SSL", &[]);
        let text = cluster.security();
        assert!(
            text.connections.iter().all(|one| !one.contains(PASSWORD.as_bytes()) && !one.contains(TOKEN.as_bytes()))
        );
        with(&cluster, config.dangerously_allow_cleartext_credentials()).build().await.unwrap();
    }
    // SCRAM proves the password without sending it.
    let cluster = sasl_cluster(sasl());
    with(&cluster, scram()).build().await.unwrap();
    assert!(cluster.security().connections.iter().all(|one| !one.contains(PASSWORD.as_bytes())));
}

#[tokio::test]
async fn silence_in_authentication_is_bounded() {
    let cluster = secure_cluster();
    let impatient = || {
        secure(&cluster, scram())
            .property("request.timeout.ms", "200")
            .property("socket.connection.setup.timeout.ms", "150")
            .property("socket.connection.setup.timeout.max.ms", "150")
    };
    for (api, skip) in [(API_VERSIONS, 0), (SASL_HANDSHAKE, 0), (SASL_AUTHENTICATE, 0), (SASL_AUTHENTICATE, 1)] {
        cluster.inject(Fault::always(FaultAction::NoAnswerBefore).api(api).skip(skip));
        let started = Instant::now();
        refused(impatient(), &address(&cluster), &["no answer within 150 ms"]).await;
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        cluster.clear_faults();
        until(&cluster, "the sockets are closed", |view| view.connections(1) == 0);
    }
    // One byte at a time, without end in sight.
    cluster.inject(Fault::always(FaultAction::SlowBytes(1, Duration::from_millis(100))).api(SASL_AUTHENTICATE));
    refused(impatient(), &address(&cluster), &["no answer within 150 ms"]).await;
    // A provider that never answers.
    cluster.clear_faults();
    let never = SaslConfig::oauthbearer(std::future::pending::<Result<Token, std::io::Error>>);
    let builder = secure(&cluster, never)
        .property("request.timeout.ms", "200")
        .property("socket.connection.setup.timeout.ms", "150")
        .property("socket.connection.setup.timeout.max.ms", "150");
    refused(builder, &address(&cluster), &["150 ms"]).await;
}

/// The limit of frames holds until the broker has proved who it is.
#[tokio::test]
async fn a_large_answer_in_authentication() {
    let cluster = secure_cluster();
    for api in [SASL_HANDSHAKE, SASL_AUTHENTICATE] {
        for len in [64 * 1024 + 1, i32::MAX, -1] {
            let bytes = Bytes::from(len.to_be_bytes().to_vec());
            cluster.inject(Fault::always(FaultAction::RawBytes(bytes)).api(api));
            refused(secure(&cluster, scram()), &address(&cluster), &[&len.to_string()]).await;
            cluster.clear_faults();
        }
        for action in [FaultAction::WrongCorrelationId, FaultAction::HalfFrame, FaultAction::DropBeforeApply] {
            cluster.inject(Fault::always(action).api(api));
            refused(secure(&cluster, scram()), &address(&cluster), &[]).await;
            cluster.clear_faults();
        }
        cluster.inject(Fault::always(FaultAction::SplitEvery(1)).api(api));
        secure(&cluster, scram()).build().await.unwrap();
        cluster.clear_faults();
        let short = Bytes::from_static(&[0, 0, 0, 6, 0, 0, 0, 1, 127, 255]);
        cluster.inject(Fault::always(FaultAction::RawBytes(short)).api(api));
        refused(secure(&cluster, scram()), &address(&cluster), &[]).await;
        cluster.clear_faults();
    }
}

/// Refusals tell what the broker says, on one line and not for ever.
#[tokio::test]
async fn the_words_of_a_broker_are_tamed() {
    let cluster = secure_cluster();
    let words = format!("no\r\nsuch \u{1b}[31muser {}", "x".repeat(20_000));
    cluster.set_sasl_fault(Some(SaslFault::Refuse(words)));
    let text =
        refused(secure(&cluster, scram()), &address(&cluster), &["SASL: SCRAM-SHA-256 was refused: no", "such"]).await;
    assert!(text.len() < 1000 && !text.chars().any(char::is_control), "{text:?}");
}

/// The password is changed while the client runs: what is connected stays, what is new comes in by the new one only.
#[tokio::test]
async fn credentials_changed() {
    let cluster = secure_cluster();
    let client = secure(&cluster, scram()).build().await.unwrap();
    let producer = producer(&client).await;
    delivers(&producer, "a").await;
    cluster.set_user(USER, "another-pw-2");
    delivers(&producer, "b").await;
    cluster.cut_connections(1);
    let waiting = producer.send(indelible::Record::to("t").partition(0).value("c")).await.unwrap();
    until(&cluster, "it is refused", |view| !view.security(1).refusals.is_empty());
    assert!(waiting.try_delivered().is_none(), "kept while the operator thinks");
    cluster.set_user(USER, PASSWORD);
    tokio::time::timeout(PATIENCE, waiting.delivered()).await.unwrap().unwrap();
    assert_eq!(cluster.ledger().values("t"), ["a", "b", "c"]);
    cluster.remove_user(USER);
    let again = Client::builder(cluster.bootstrap()).tls(trusting()).sasl(scram());
    refused(again.property("default.api.timeout.ms", "2000"), &address(&cluster), &["SASL: SCRAM-SHA-256 was refused"])
        .await;
}
