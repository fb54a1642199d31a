//! TLS and SASL with a real broker: who comes in, what everybody else is told, and sessions that outlive their time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "scenarios on a real cluster")]

mod real_support;

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use indelible::{
    Client, ClientBuilder, NewTopic, Record, SaslConfig, SaslContext, SaslError, SaslExchange, SaslFuture,
    SaslMechanism, TlsConfig, Token,
};
use proto_tests::certs::Authority;
use proto_tests::real::{Operation, RealCluster, Resource, unsigned_token};
use real_support::load::Load;
use real_support::secure::{PASSWORD, at, by, guarded, tls};
use zeroize::Zeroizing;

use real_support::{topic_of, unique, wait};

/// How long a session lasts where the tests below look at that.
const SESSION: Duration = Duration::from_secs(3);
/// A listener and mechanism with such sessions. Tokens end their sessions themselves.
const SHORT: &str = "listener.name.sasl_ssl.scram-sha-512.connections.max.reauth.ms";
const SHORT_CLEAR: &str = "listener.name.sasl_plaintext.plain.connections.max.reauth.ms";

/// One broker for all tests of this program; it ends with the process.
static CLUSTER: LazyLock<RealCluster> = LazyLock::new(|| {
    let session = SESSION.as_millis().to_string();
    RealCluster::start(guarded().user("bob", PASSWORD).brokers(1).config(SHORT, &session).config(SHORT_CLEAR, &session))
        .unwrap()
});

/// Each of the ways in which alice can say who she is.
fn mechanisms() -> [(&'static str, SaslConfig); 4] {
    [
        ("PLAIN", SaslConfig::plain("alice", PASSWORD)),
        ("SCRAM-SHA-256", SaslConfig::scram_sha_256("alice", PASSWORD)),
        ("SCRAM-SHA-512", SaslConfig::scram_sha_512("alice", PASSWORD)),
        ("OAUTHBEARER", SaslConfig::oauthbearer(Token::new(unsigned_token("alice", 600)))),
    ]
}

/// Makes a topic, sends records to it, reads them with a group and deletes it.
async fn there_and_back(client: &Client, story: &str) {
    const RECORDS: usize = 100;
    let topic = unique(story);
    client.admin().create_topics([NewTopic::new(topic.as_str()).partitions(2)]).await.unwrap();
    let producer = client.producer().build().await.unwrap();
    let mut receipts = Vec::new();
    for n in 0..RECORDS {
        let value = n.to_string();
        let record = Record::to(&topic).partition(i32::try_from(n % 2).unwrap()).value(&value);
        receipts.push(producer.send(record).await.unwrap());
    }
    for receipt in receipts {
        receipt.delivered().await.unwrap();
    }
    let seen = Mutex::new(Vec::new());
    let consumer = client.consumer(unique(story)).topics([&topic]).stop_after(RECORDS as u64);
    let ended = consumer.run(|delivery| {
        let number: usize = std::str::from_utf8(delivery.value()).unwrap().parse().unwrap();
        seen.lock().unwrap().push(number);
        async { Ok::<_, std::io::Error>(()) }
    });
    assert_eq!(ended.await.unwrap().records, RECORDS as u64);
    let mut seen = seen.into_inner().unwrap();
    seen.sort_unstable();
    assert_eq!(seen, (0..RECORDS).collect::<Vec<_>>());
    client.admin().delete_topics([topic]).await.unwrap();
}

#[test]
fn produce_consume_and_admin_by_every_listener_and_mechanism() {
    let mut ways = vec![("SSL", "", None), ("MUTUAL", "", None)];
    for listener in ["SASL_PLAINTEXT", "SASL_SSL"] {
        ways.extend(mechanisms().map(|(mechanism, sasl)| (listener, mechanism, Some(sasl))));
    }
    for (listener, mechanism, sasl) in ways {
        let begin = Instant::now();
        wait(async {
            let client = by(&CLUSTER, listener, sasl).build().await.unwrap();
            there_and_back(&client, "everywhere").await;
        });
        println!("{listener} {mechanism}: {:?}", begin.elapsed());
    }
}

/// Asks for a mechanism that no broker has.
#[derive(Debug)]
struct Unheard;

impl SaslMechanism for Unheard {
    fn name(&self) -> &str {
        "SCRAM-SHA-3"
    }

    fn begin<'a>(&'a self, _: SaslContext<'a>) -> SaslFuture<'a> {
        Box::pin(async { Ok(Box::new(Unheard) as Box<dyn SaslExchange>) })
    }

    fn sends_secret(&self) -> bool {
        false
    }
}

impl SaslExchange for Unheard {
    fn first(&mut self) -> Result<Zeroizing<Vec<u8>>, SaslError> {
        Ok(Zeroizing::new(b"nobody asks for this".to_vec()))
    }

    fn next(&mut self, _: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, SaslError> {
        Err(SaslError::Refused("nobody answers this".to_owned()))
    }
}

/// One way to be refused: one line, soon, with the address and the check that failed. Nothing of it holds the secrets.
#[track_caller]
fn refused(story: &str, builder: ClientBuilder, address: &str, parts: &[&str]) {
    let begin = Instant::now();
    let error = wait(builder.build()).expect_err(story).to_string();
    println!("{story}, after {:?}: {error}", begin.elapsed());
    assert_eq!(error.lines().count(), 1, "{story}: {error}");
    assert!(begin.elapsed() < Duration::from_secs(8), "{story}: after {:?}: {error}", begin.elapsed());
    for part in [address].iter().chain(parts) {
        assert!(error.contains(part), "{story}: {part:?} is missing: {error}");
    }
    for secret in [PASSWORD, "not this one", "eyJhbGciOiJub25lIn0"] {
        assert!(!error.contains(secret), "{story}: {error}");
    }
}

#[test]
fn wrong_certificates_are_refused_by_name() {
    let cluster = &*CLUSTER;
    let (ssl, mutual) = (cluster.bootstrap_of("SSL").remove(0), cluster.bootstrap_of("MUTUAL").remove(0));
    let stranger = Authority::new("a stranger");
    let trusting = |tls: TlsConfig, address: &str| Client::builder([address]).tls(tls);

    let foreign = TlsConfig::new().ca_pem(stranger.pem());
    refused("wrong CA", trusting(foreign, &ssl), &ssl, &["TLS", "issuer is not trusted", "ssl.truststore.location"]);
    let by_name = ssl.replace("127.0.0.1", "localhost");
    refused("wrong name", trusting(tls(cluster), &by_name), &by_name, &["TLS", "\"localhost\"", "127.0.0.1"]);
    refused("no certificate", trusting(tls(cluster), &mutual), &mutual, &["TLS", "client", "certificate"]);
    let theirs = stranger.client("alice");
    let theirs = tls(cluster).client_certificate_pem(theirs.chain, theirs.key);
    refused("foreign certificate", trusting(theirs, &mutual), &mutual, &["TLS", "client", "certificate"]);
    let expired = cluster.certificates().authority.issue(&[], "alice", proto_tests::certs::EXPIRED);
    let expired = tls(cluster).client_certificate_pem(expired.chain, expired.key);
    refused("expired certificate", trusting(expired, &mutual), &mutual, &["TLS", "client", "certificate"]);
}

#[test]
fn wrong_credentials_are_refused_by_name() {
    let cluster = &*CLUSTER;
    for listener in ["SASL_PLAINTEXT", "SASL_SSL"] {
        let address = &cluster.bootstrap_of(listener)[0];
        let attempt = |story: &str, sasl: SaslConfig, parts: &[&str]| {
            let story = format!("{listener}, {story}");
            refused(&story, by(cluster, listener, Some(sasl)), address, &[&["SASL"], parts].concat());
        };
        for user in ["alice", "nobody"] {
            let story = |mechanism| format!("{user} with a wrong password, {mechanism}");
            let wrong = "not this one";
            attempt(&story("PLAIN"), SaslConfig::plain(user, wrong), &["PLAIN", "refused"]);
            let scram = SaslConfig::scram_sha_256(user, wrong);
            attempt(&story("SCRAM-SHA-256"), scram, &["SCRAM-SHA-256", "refused"]);
            let scram = SaslConfig::scram_sha_512(user, wrong);
            attempt(&story("SCRAM-SHA-512"), scram, &["SCRAM-SHA-512", "refused"]);
        }
        let offered = ["SCRAM-SHA-3", "does not offer", "PLAIN", "SCRAM-SHA-512", "OAUTHBEARER"];
        attempt("wrong mechanism", SaslConfig::mechanism(Unheard), &offered);
        let expired = Token::new(unsigned_token("alice", -120));
        attempt("expired token", SaslConfig::oauthbearer(expired), &["OAUTHBEARER", "expired"]);
        // One whose time the client does not know: the broker tells.
        let unknown = Token::new("no.token.at-all");
        attempt("no token at all", SaslConfig::oauthbearer(unknown), &["OAUTHBEARER", "refused", "invalid_token"]);
    }
}

/// Plain text and TLS, with SASL and without: whoever knocks at the wrong port is told so.
#[test]
fn wrong_ports_are_told() {
    let cluster = &*CLUSTER;
    let of = |listener: &str| match listener {
        "PLAINTEXT" => cluster.bootstrap().remove(0),
        other => cluster.bootstrap_of(other).remove(0),
    };
    let scram = || Some(SaslConfig::scram_sha_256("alice", PASSWORD));
    for port in ["SSL", "SASL_SSL"] {
        let port = of(port);
        refused("plain text to TLS", Client::builder([port.as_str()]), &port, &["TLS"]);
        let builder = at(cluster, "SASL_PLAINTEXT", vec![port.clone()], scram());
        refused("SASL in plain text to TLS", builder, &port, &["TLS"]);
    }
    for port in ["PLAINTEXT", "SASL_PLAINTEXT"] {
        let port = of(port);
        refused("TLS to plain text", at(cluster, "SSL", vec![port.clone()], None), &port, &["does not speak TLS"]);
        let builder = at(cluster, "SASL_SSL", vec![port.clone()], scram());
        refused("SASL by TLS to plain text", builder, &port, &["does not speak TLS"]);
    }
    for (listener, port) in [("SASL_SSL", "SSL"), ("SASL_PLAINTEXT", "PLAINTEXT")] {
        let (story, port) = (format!("{listener} at {port}"), of(port));
        refused(&story, at(cluster, listener, vec![port.clone()], scram()), &port, &["SASL", "listener"]);
    }
    for (listener, port) in [("SSL", "SASL_SSL"), ("PLAINTEXT", "SASL_PLAINTEXT")] {
        let (story, port) = (format!("{listener} at {port}"), of(port));
        let builder = match listener {
            "PLAINTEXT" => Client::builder([port.as_str()]),
            _ => at(cluster, listener, vec![port.clone()], None),
        };
        refused(&story, builder, &port, &["SASL"]);
    }
}

/// A new token each time it is asked for one, good for `SESSION`.
fn short_tokens(asked: &Arc<AtomicUsize>) -> SaslConfig {
    let asked = asked.clone();
    SaslConfig::oauthbearer(move || {
        asked.fetch_add(1, Ordering::Relaxed);
        async move {
            let seconds = i64::try_from(SESSION.as_secs()).unwrap() + 1;
            Ok::<_, std::io::Error>(Token::new(unsigned_token("alice", seconds)))
        }
    })
}

/// Sessions end, by the broker's setting or with the token, in the middle of a load, several times. Each is renewed on its
/// connection in time: none is lost, every record arrives once and is read once, in order.
#[test]
fn sessions_are_renewed_under_load() {
    const LIFETIMES: u32 = 4;
    let cluster = &*CLUSTER;
    let asked = Arc::new(AtomicUsize::new(0));
    let ways = [
        ("SASL_SSL", "SCRAM-SHA-512", SaslConfig::scram_sha_512("alice", PASSWORD)),
        ("SASL_SSL", "OAUTHBEARER", short_tokens(&asked)),
        ("SASL_PLAINTEXT", "PLAIN", SaslConfig::plain("alice", PASSWORD)),
    ];
    std::thread::scope(|scope| {
        for (listener, mechanism, sasl) in ways {
            scope.spawn(move || {
                let topic = topic_of(cluster, &format!("renewed-{}", mechanism.to_lowercase()), 2, 1, &[]);
                let client = wait(by(cluster, listener, Some(sasl)).build()).unwrap();
                let producer = wait(client.producer().build()).unwrap();
                let load = Load::start(&producer, &topic, 2);
                let next = [AtomicI64::new(0), AtomicI64::new(0)];
                let consumer = client.consumer(unique("renewed")).topics([&topic]).build().unwrap();
                let handle = consumer.handle();
                std::thread::scope(|scope| {
                    let reading = scope.spawn(|| {
                        wait(consumer.run(|delivery| {
                            let partition = usize::try_from(delivery.partition()).unwrap();
                            let due = next[partition].fetch_add(1, Ordering::Relaxed);
                            assert_eq!(delivery.offset(), due, "{mechanism}");
                            async { Ok::<_, std::io::Error>(()) }
                        }))
                    });
                    let connects = client.metrics().connects;
                    std::thread::sleep(SESSION * LIFETIMES);
                    let sent = load.finish(cluster);
                    real_support::until("the consumer to have read everything", || {
                        let read = next.iter().map(|next| next.load(Ordering::Relaxed)).sum::<i64>();
                        real_support::expect(usize::try_from(read).unwrap(), sent)
                    });
                    handle.shutdown();
                    reading.join().unwrap().unwrap();
                    let metrics = client.metrics();
                    println!("{listener} {mechanism}: {sent} records, {connects} connections, {metrics:?}");
                    // The group's own connection may come after the first look.
                    assert!(metrics.connects <= connects + 2, "{mechanism}: {connects}, then {metrics:?}");
                    assert_eq!((metrics.disconnects, metrics.connect_failures), (0, 0), "{mechanism}: {metrics:?}");
                });
            });
        }
    });
    // A broker that does not end sessions would prove nothing.
    let tokens = asked.load(Ordering::Relaxed);
    assert!(tokens >= LIFETIMES as usize, "{tokens} tokens in {LIFETIMES} lifetimes");
}

/// Bob, in each of the ways in which he may come: the names that the rules have for him, and a client.
fn bob() -> Vec<(&'static str, Client)> {
    let cluster = &*CLUSTER;
    let issued = cluster.certificates().client("bob");
    let certificate = tls(cluster).client_certificate_pem(issued.chain, issued.key);
    let token = SaslConfig::oauthbearer(Token::new(unsigned_token("bob's token", 600)));
    [
        ("User:bob", by(cluster, "SASL_SSL", Some(SaslConfig::scram_sha_256("bob", PASSWORD)))),
        ("User:bob's token", by(cluster, "SASL_SSL", Some(token))),
        ("User:CN=bob", Client::builder(cluster.bootstrap_of("MUTUAL")).tls(certificate)),
    ]
    .map(|(principal, builder)| (principal, wait(builder.build()).unwrap()))
    .into()
}

/// What a principal may not do fails with the permission that is missing, the same for whoever asks; what it may do works.
#[test]
fn a_missing_permission_is_named() {
    let cluster = &*CLUSTER;
    let [written, read] = ["written", "read"].map(|name| topic_of(cluster, name, 1, 1, &[]));
    let mut told: Vec<Vec<String>> = Vec::new();
    for (principal, client) in bob() {
        let mut errors = Vec::new();
        let mut refused = |story: &str, error: String, parts: &[&str]| {
            println!("{principal}, {story}: {error}");
            assert_eq!(error.lines().count(), 1, "{story}: {error}");
            for part in parts {
                assert!(error.contains(part), "{principal}, {story}: {part:?} is missing: {error}");
            }
            let port = if principal == "User:CN=bob" { "MUTUAL" } else { "SASL_SSL" };
            errors.push(error.replace(&cluster.bootstrap_of(port)[0], "the broker"));
        };
        let send = |topic: &str| {
            wait(async {
                let producer = client.producer().build().await.map_err(|error| error.to_string())?;
                let receipt = producer.send(Record::to(topic).partition(0).value("a")).await;
                receipt.map_err(|error| error.to_string())?.delivered().await.map_err(|error| error.to_string())
            })
        };
        let nothing = |_: indelible::Delivery| std::future::ready(Ok::<_, std::io::Error>(()));
        let fetch = |topic: &str| {
            let consumer = client.consumer_without_group().assign([(topic, 0)]).stop_after(1);
            wait(consumer.run(nothing)).map_err(|error| error.to_string())
        };
        let join = |topic: &str| {
            let consumer = client.consumer("closed group").topics([topic]).stop_after(1);
            wait(consumer.run(nothing)).map_err(|error| error.to_string())
        };
        let create = || wait(client.admin().create_topics([NewTopic::new("of-bob").partitions(1)]));
        // Nothing is allowed at all, to begin with: not even to see the topic, and no WRITE anywhere.
        refused("sees nothing", send(&written).unwrap_err(), &[&written, "not authorized", "WRITE"]);
        refused("creates", create().unwrap_err().to_string(), &["of-bob", "CREATE"]);

        cluster.allow(principal, Operation::Read, &[Resource::Topic(&read)]).unwrap();
        real_support::until("the rule", || {
            wait(client.admin().describe_topics([read.as_str()])).map_err(|e| e.to_string())
        });
        // The producer's id is refused, which any WRITE would give.
        refused("no WRITE anywhere", send(&read).unwrap_err(), &["uthoriz", "WRITE"]);
        refused("no READ on the group", join(&read).unwrap_err(), &["closed group", "uthoriz", "READ"]);
        refused(
            "deletes",
            wait(client.admin().delete_topics([read.as_str()])).unwrap_err().to_string(),
            &[&read, "DELETE"],
        );

        cluster.allow(principal, Operation::Write, &[Resource::Topic(&written)]).unwrap();
        real_support::until("the rule", || {
            wait(client.admin().describe_topics([written.as_str()])).map_err(|e| e.to_string())
        });
        send(&written).unwrap();
        refused("no READ", fetch(&written).unwrap_err(), &[&written, "uthoriz", "READ"]);
        refused("no WRITE", send(&read).unwrap_err(), &[&read, "uthoriz", "WRITE"]);

        told.push(errors);
    }
    for others in &told[1..] {
        assert_eq!(&told[0], others);
    }
}
