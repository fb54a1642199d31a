//! What the scenarios of TLS and SASL share: certificates, clients that do not wait long, and a strict look at errors.

#![allow(dead_code, unreachable_pub, reason = "each scenario file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a scenario may fail loudly")]
#![allow(clippy::disallowed_methods, reason = "a test may look at the clock")]

use indelible::{Client, ClientBuilder, Producer, Record, SaslConfig, TlsConfig};
use proto_tests::certs::{Authority, Issued};
use proto_tests::fake::{FakeCluster, FakeSasl, FakeTls, View};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub const API_VERSIONS: i16 = 18;
pub const SASL_HANDSHAKE: i16 = 17;
pub const SASL_AUTHENTICATE: i16 = 36;
/// How long anything may take before a scenario is given up.
pub const PATIENCE: Duration = Duration::from_secs(15);
pub const USER: &str = "alice";
pub const PASSWORD: &str = "pass-4711-word";
pub const TOKEN: &str = "tok-4711.en";

/// The authority that clients trust.
pub static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("trusted test authority"));

/// A certificate for where the fake listens.
pub fn good() -> Issued {
    AUTHORITY.server(&["localhost", "127.0.0.1"])
}

pub fn trusting() -> TlsConfig {
    TlsConfig::new().ca_pem(AUTHORITY.pem())
}

pub fn sasl() -> FakeSasl {
    FakeSasl::new().user(USER, PASSWORD).token(TOKEN)
}

pub fn scram() -> SaslConfig {
    SaslConfig::scram_sha_256(USER, PASSWORD)
}

/// One broker that speaks TLS, with the topic "t".
pub fn tls_cluster(issued: Issued) -> FakeCluster {
    with_topic(FakeCluster::builder().tls(FakeTls::new(issued)).raw_bytes(4096).start())
}

/// One broker that speaks TLS and asks who one is, with the topic "t".
pub fn secure_cluster() -> FakeCluster {
    with_topic(FakeCluster::builder().tls(FakeTls::new(good())).sasl(sasl()).raw_bytes(4096).start())
}

/// One broker in the clear that asks who one is, with the topic "t".
pub fn sasl_cluster(sasl: FakeSasl) -> FakeCluster {
    with_topic(FakeCluster::builder().sasl(sasl).raw_bytes(4096).start())
}

pub fn with_topic(cluster: FakeCluster) -> FakeCluster {
    cluster.create_topic("t", 1);
    cluster
}

/// Short waits: retries come after 10 ms, and the build gives up after two seconds.
pub fn impatient(addresses: Vec<String>) -> ClientBuilder {
    Client::builder(addresses)
        .property("default.api.timeout.ms", "2000")
        .property("retry.backoff.ms", "10")
        .property("retry.backoff.max.ms", "40")
        .property("reconnect.backoff.ms", "5")
        .property("reconnect.backoff.max.ms", "40")
}

/// By TLS, trusting the test's authority.
pub fn by_tls(cluster: &FakeCluster) -> ClientBuilder {
    impatient(cluster.bootstrap()).tls(trusting())
}

/// The text of the error with which a client cannot be built: one line that names `address` and says all of `words`.
pub async fn refused(builder: ClientBuilder, address: &str, words: &[&str]) -> String {
    let started = Instant::now();
    let error =
        tokio::time::timeout(PATIENCE, builder.build()).await.expect("an answer").expect_err("it must not build");
    let text = error.to_string();
    strict(&text, address, words);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}: {text}", started.elapsed());
    text
}

/// One line that names the address and the check, and no secret.
pub fn strict(text: &str, address: &str, words: &[&str]) {
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    for word in std::iter::once(&address).chain(words) {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    for secret in [PASSWORD, TOKEN] {
        assert!(!text.contains(secret), "a secret in: {text}");
    }
    // For whoever reads the run: the words as a person gets them.
    println!("{text}");
}

pub fn address(cluster: &FakeCluster) -> String {
    cluster.address(1).to_string()
}

/// A producer of single records.
pub async fn producer(client: &Client) -> Producer {
    client.producer().batch_size(0).linger(Duration::ZERO).build().await.unwrap()
}

/// One record from the client to the log.
pub async fn delivers(producer: &Producer, value: &str) {
    let receipt = producer.send(Record::to("t").partition(0).value(value)).await.unwrap();
    let outcome = tokio::time::timeout(PATIENCE, receipt.delivered()).await.expect("an outcome in time");
    outcome.unwrap_or_else(|error| panic!("{value} is not delivered: {error}"));
}

pub fn until(cluster: &FakeCluster, what: &str, done: impl FnMut(View<'_>) -> bool) {
    assert!(cluster.wait_for(done, PATIENCE), "never: {what}");
}

/// For what announces itself nowhere.
pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A directory that goes with the test.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new() -> Dir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("indelible-security-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    /// Writes a file as a careful program does: a new one beside it, then renamed over it.
    pub fn put(&self, name: &str, text: &str) -> PathBuf {
        let (new, path) = (self.0.join("new"), self.0.join(name));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &path).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
