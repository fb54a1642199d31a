//! TLS as an application meets it: every check by name, also for brokers that only metadata names, and certificates that
//! are renewed while the client runs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a scenario may fail loudly")]
#![allow(clippy::disallowed_methods, reason = "a test may look at the clock")]

mod security_support;

use bytes::Bytes;
use indelible::{Client, SaslConfig, TlsConfig, TlsVersions};
use proto_tests::certs::{Authority, EXPIRED, NOT_YET};
use proto_tests::fake::{FakeCluster, FakeTls, Fault, FaultAction, TlsFault};
use security_support::*;
use std::time::{Duration, Instant};

#[tokio::test]
async fn both_versions_carry_records() {
    for versions in [TlsVersions::Both, TlsVersions::Only12, TlsVersions::Only13] {
        let cluster = tls_cluster(good());
        let client = impatient(cluster.bootstrap()).tls(trusting().versions(versions)).build().await.unwrap();
        delivers(&producer(&client).await, "a").await;
        assert_eq!(cluster.ledger().values("t"), ["a"]);
        assert!(!cluster.security().connections.iter().any(|one| one.is_in_the_clear()), "a byte in the clear");
    }
}

#[tokio::test]
async fn versions_that_do_not_meet() {
    for (server, versions) in
        [(FakeTls::new(good()).only_1_2(), TlsVersions::Only13), (FakeTls::new(good()).only_1_3(), TlsVersions::Only12)]
    {
        let cluster = FakeCluster::builder().tls(server).start();
        let builder = impatient(cluster.bootstrap()).tls(trusting().versions(versions));
        refused(builder, &address(&cluster), &["TLS", "ssl.enabled.protocols"]).await;
    }
}

#[tokio::test]
async fn wrong_name() {
    let cluster = tls_cluster(AUTHORITY.server(&["broker-7.example", "10.11.12.13"]));
    let words = ["TLS: the certificate is not for \"127.0.0.1\"", "broker-7.example"];
    refused(by_tls(&cluster), &address(&cluster), &words).await;
    let by_name = impatient(cluster.bootstrap_as("localhost")).tls(trusting());
    refused(by_name, "localhost:", &["TLS: the certificate is not for \"localhost\"", "broker-7.example"]).await;
    // Only alternative names count, the common name does not (RFC 9525).
    cluster.set_certificate(1, AUTHORITY.issue(&[], "127.0.0.1", proto_tests::certs::VALID));
    refused(by_tls(&cluster), &address(&cluster), &["TLS: the certificate is not for \"127.0.0.1\""]).await;
    assert_eq!(cluster.ledger().requests.len(), 0, "nothing is said to a stranger");
}

#[tokio::test]
async fn expired() {
    let cluster = tls_cluster(AUTHORITY.issue(&["127.0.0.1"], "late", EXPIRED));
    refused(by_tls(&cluster), &address(&cluster), &["TLS: the certificate expired"]).await;
    cluster.set_certificate(1, AUTHORITY.issue(&["127.0.0.1"], "early", NOT_YET));
    refused(by_tls(&cluster), &address(&cluster), &["TLS: the certificate is valid only from"]).await;
    assert_eq!(cluster.ledger().requests.len(), 0);
    cluster.set_certificate(1, good());
    by_tls(&cluster).build().await.unwrap();
}

#[tokio::test]
async fn unknown_ca() {
    let cluster = tls_cluster(Authority::new("somebody else").server(&["127.0.0.1"]));
    refused(by_tls(&cluster), &address(&cluster), &["TLS: the certificate's issuer is not trusted", "truststore"])
        .await;
    // The system's roots do not know a test's authority either.
    let system = impatient(cluster.bootstrap()).tls(TlsConfig::new());
    let error = system.build().await.expect_err("not trusted").to_string();
    assert!(error.contains("TLS"), "{error}");
    assert_eq!(cluster.ledger().requests.len(), 0);
    // An authority of the same name is another one.
    cluster.set_certificate(1, Authority::new("trusted test authority").server(&["127.0.0.1"]));
    refused(by_tls(&cluster), &address(&cluster), &["TLS: "]).await;
    assert_eq!(cluster.ledger().requests.len(), 0);
}

/// Without a truststore the system's roots count, which are looked up once for a process: in another one, then.
#[tokio::test]
async fn the_systems_roots() {
    const PORT: &str = "INDELIBLE_TEST_OF_SYSTEM_ROOTS";
    if let Ok(port) = std::env::var(PORT) {
        // Not impatient: another process has to start on a busy machine.
        let builder = Client::builder([format!("localhost:{port}")]).tls(TlsConfig::new());
        let outcome = builder.build().await.map(drop).map_err(|error| error.to_string());
        println!("\nof the child: {outcome:?}");
        return;
    }
    let (cluster, dir) = (tls_cluster(good()), Dir::new());
    let known = dir.put("known.pem", &(Authority::new("another").pem() + &AUTHORITY.pem()));
    let unknown = dir.put("unknown.pem", &Authority::new("another").pem());
    for (roots, told) in [
        (known, "Ok(())"),
        (unknown, "TLS: the certificate's issuer is not trusted"),
        (dir.0.join("none.pem"), "ssl.truststore.location: it is not set, and the system has no root certificates"),
    ] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "the_systems_roots", "--nocapture"]);
        child.env("SSL_CERT_FILE", &roots).env_remove("SSL_CERT_DIR");
        child.env(PORT, cluster.address(1).port().to_string());
        let output = tokio::task::spawn_blocking(move || child.output()).await.unwrap().unwrap();
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = output.lines().find(|line| line.starts_with("of the child: "));
        assert!(line.is_some_and(|line| line.contains(told)), "{roots:?}: {output}");
    }
}

/// The first broker is who it says, and names a second one whose certificate is for somewhere else.
#[tokio::test]
async fn broker_address_from_metadata_is_verified_too() {
    let tls = FakeTls::new(AUTHORITY.server(&["127.0.0.1"])).broker(2, AUTHORITY.server(&["localhost"]));
    let cluster = FakeCluster::builder().brokers(2).tls(tls).start();
    cluster.create_topic("t", 1);
    cluster.move_leader("t", 0, 2);
    let bootstrap = vec![cluster.address(1).to_string()];
    let client = impatient(bootstrap).tls(trusting()).build().await.unwrap();
    let producer = client.producer().delivery_timeout(Duration::from_secs(1)).build().await.unwrap();
    let receipt = producer.send(indelible::Record::to("t").partition(0).value("a")).await.unwrap();
    let error = tokio::time::timeout(PATIENCE, receipt.delivered()).await.unwrap().expect_err("never there");
    strict(
        &error.to_string(),
        &cluster.address(2).to_string(),
        &["the certificate is not for \"127.0.0.1\"", "localhost"],
    );
    assert!(cluster.ledger().requests.iter().all(|request| request.broker == 1), "said to broker 2");
    drop(producer);

    // It is the name in metadata that counts, not the address behind it.
    cluster.advertise(2, "localhost");
    delivers(&security_support::producer(&client).await, "b").await;
    assert_eq!(cluster.ledger().values("t"), ["b"]);
    assert_eq!(cluster.security().broker(2).server_names[0].as_deref(), Some("localhost"));
}

/// Somebody answers in the clear where TLS was asked for: what they get is a hello, and no name or password.
#[tokio::test]
async fn plaintext_port_gets_no_credentials() {
    let cluster = FakeCluster::builder().raw_bytes(64 << 10).start();
    for sasl in [SaslConfig::plain(USER, PASSWORD), scram()] {
        refused(by_tls(&cluster).sasl(sasl), &address(&cluster), &["TLS: "]).await;
    }
    // One that answers at once, in its own words.
    let tls = FakeCluster::builder().tls(FakeTls::new(good())).raw_bytes(64 << 10).start();
    tls.set_tls_fault(1, Some(TlsFault::Garbage(Bytes::from_static(b"\0\0\0\x06\0\0\0\0\0\x23"))));
    let words = ["the port does not speak TLS", "security.protocol"];
    refused(by_tls(&tls).sasl(SaslConfig::plain(USER, PASSWORD)), &address(&tls), &words).await;
    for cluster in [&cluster, &tls] {
        let seen = cluster.security();
        assert!(seen.connections.iter().any(|one| one.is_tls()));
        for one in &seen.connections {
            assert!(!one.is_in_the_clear(), "{:?}", one.bytes);
            assert!(!one.contains(PASSWORD.as_bytes()) && !one.contains(USER.as_bytes()));
        }
        assert_eq!(cluster.ledger().requests.len(), 0);
    }
}

/// A client in the clear at a TLS port: Kafka answers with an alert, or closes.
#[tokio::test]
async fn tls_alert_as_length() {
    let cluster = tls_cluster(good());
    refused(impatient(cluster.bootstrap()), &address(&cluster), &["TLS", "security.protocol"]).await;
    cluster.set_tls_fault(1, Some(TlsFault::Garbage(Bytes::from_static(&[0x15, 3, 3, 0, 2, 2, 80]))));
    refused(impatient(cluster.bootstrap()), &address(&cluster), &["TLS", "security.protocol"]).await;
    assert_eq!(cluster.ledger().requests.len(), 0);
}

#[tokio::test]
async fn a_silent_handshake_is_bounded() {
    let cluster = tls_cluster(good());
    for fault in [TlsFault::Silent, TlsFault::Stall(40), TlsFault::Stall(700)] {
        cluster.set_tls_fault(1, Some(fault));
        let started = Instant::now();
        let builder = by_tls(&cluster)
            .property("request.timeout.ms", "200")
            .property("socket.connection.setup.timeout.ms", "100")
            .property("socket.connection.setup.timeout.max.ms", "100");
        refused(builder, &address(&cluster), &["no answer within 100 ms"]).await;
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        until(&cluster, "the sockets are closed", |view| view.connections(1) == 0);
    }
    cluster.set_tls_fault(1, Some(TlsFault::Close));
    refused(by_tls(&cluster), &address(&cluster), &["TLS: "]).await;
}

/// 64 KiB and one byte announced as the first answer.
#[tokio::test]
async fn a_large_answer_before_authentication() {
    let frame = |len: i32| Bytes::from(len.to_be_bytes().to_vec());
    let cluster = tls_cluster(good());
    for len in [64 * 1024 + 1, 100 << 20, i32::MAX, -1] {
        cluster.inject(Fault::always(FaultAction::RawBytes(frame(len))).api(API_VERSIONS));
        refused(by_tls(&cluster), &address(&cluster), &[&len.to_string()]).await;
        cluster.clear_faults();
    }
}

#[tokio::test]
async fn a_client_certificate_is_asked_for() {
    let ours = AUTHORITY.client("app");
    let stranger = Authority::new("somebody else").client("app");
    for server in [FakeTls::new(good()).only_1_3(), FakeTls::new(good()).only_1_2()] {
        let cluster = with_topic(FakeCluster::builder().tls(server.client_ca(AUTHORITY.pem())).start());
        let words = ["TLS: the broker refuses this client's certificate", "ssl.keystore.location"];
        refused(by_tls(&cluster), &address(&cluster), &words).await;
        let with = |issued: &proto_tests::certs::Issued| {
            let tls = trusting().client_certificate_pem(issued.chain.clone(), issued.key.clone());
            impatient(cluster.bootstrap()).tls(tls)
        };
        let words = ["TLS: the broker refuses this client's certificate"];
        refused(with(&stranger), &address(&cluster), &words).await;
        let client = with(&ours).build().await.unwrap();
        delivers(&producer(&client).await, "a").await;
        assert!(!cluster.security().broker(1).client_certificates.is_empty());
    }
}

/// Certificates last for weeks, and processes for longer: the files are renewed under them.
#[tokio::test]
async fn certificates_renewed_on_disk_while_the_client_runs() {
    let dir = Dir::new();
    let (old, new) = (Authority::new("authority of last year"), Authority::new("authority of this year"));
    let server = FakeTls::new(old.server(&["127.0.0.1"])).client_ca(old.pem());
    let cluster = with_topic(FakeCluster::builder().tls(server).start());
    let app = old.client("app");
    let (ca, chain, key) = (dir.put("ca", &old.pem()), dir.put("chain", &app.chain), dir.put("key", &app.key));
    let tls = TlsConfig::new().ca_file(&ca).client_certificate_files(chain, key);
    let client = impatient(cluster.bootstrap()).tls(tls).build().await.unwrap();
    let producer = producer(&client).await;
    delivers(&producer, "a").await;

    // All at once. What is connected stays so.
    let renewed = new.client("app");
    dir.put("ca", &new.pem());
    dir.put("key", &renewed.key);
    dir.put("chain", &renewed.chain);
    delivers(&producer, "b").await;
    cluster.set_certificate(1, new.server(&["127.0.0.1"]));
    cluster.set_client_ca(Some(&new.pem()));
    cluster.cut_connections(1);
    delivers(&producer, "c").await;

    // Half a file, as a careless program leaves it for a moment: what was is used until it is whole.
    dir.put("ca", &new.pem()[..100]);
    cluster.cut_connections(1);
    delivers(&producer, "d").await;
    dir.put("ca", "");
    cluster.cut_connections(1);
    delivers(&producer, "e").await;
    std::fs::remove_file(&ca).unwrap();
    cluster.cut_connections(1);
    delivers(&producer, "f").await;
    // Both, for a connection may be made again between the two.
    dir.put("ca", &(new.pem() + &old.pem()));
    cluster.set_certificate(1, old.server(&["127.0.0.1"]));
    cluster.cut_connections(1);
    delivers(&producer, "g").await;
    assert_eq!(cluster.ledger().values("t"), ["a", "b", "c", "d", "e", "f", "g"]);
    assert_eq!(cluster.security().broker(1).tls_failures, Vec::<String>::new());
}

/// The broker's certificate expires under a client that is connected: it goes on, and comes back when it is renewed.
#[tokio::test]
async fn a_certificate_that_expires_and_is_renewed() {
    let cluster = tls_cluster(good());
    let client = by_tls(&cluster).build().await.unwrap();
    let producer = producer(&client).await;
    delivers(&producer, "a").await;
    cluster.set_certificate(1, AUTHORITY.issue(&["127.0.0.1"], "late", EXPIRED));
    delivers(&producer, "b").await;
    cluster.cut_connections(1);
    let waiting = producer.send(indelible::Record::to("t").partition(0).value("c")).await.unwrap();
    until(&cluster, "the client refuses", |view| !view.security(1).tls_failures.is_empty());
    assert!(cluster.security().broker(1).tls_failures[0].contains("CertificateExpired"));
    cluster.set_certificate(1, good());
    tokio::time::timeout(PATIENCE, waiting.delivered()).await.unwrap().unwrap();
    assert_eq!(cluster.ledger().values("t"), ["a", "b", "c"]);
}

/// Nothing but this method switches the checks off, and it says so each time.
#[tokio::test]
async fn verification_is_off_only_by_name() {
    let cluster = tls_cluster(Authority::new("somebody else").issue(&["elsewhere"], "late", EXPIRED));
    assert!(by_tls(&cluster).build().await.is_err());
    let unverified = TlsConfig::new().dangerously_disable_certificate_verification();
    impatient(cluster.bootstrap()).tls(unverified).build().await.unwrap();
    for (name, value) in
        [("ssl.endpoint.identification.algorithm", ""), ("enable.ssl.certificate.verification", "false")]
    {
        let error = by_tls(&cluster).property(name, value).build_lazy().expect_err(name).to_string();
        strict(&error, name, &[]);
    }
}

/// Files that cannot be used are told before anything is connected.
#[tokio::test]
async fn files_that_cannot_be_used() {
    let dir = Dir::new();
    let issued = AUTHORITY.client("app");
    let (chain, key) = (dir.put("chain.pem", &issued.chain), dir.put("key.pem", &issued.key));
    let junk = dir.put("junk.pem", "not a certificate");
    let other = dir.put("other.pem", &AUTHORITY.client("app").key);
    for (tls, file) in [
        (TlsConfig::new().ca_file(dir.0.join("none.pem")), "none.pem"),
        (TlsConfig::new().ca_file(&junk), "junk.pem"),
        (trusting().client_certificate_files(&chain, &junk), "junk.pem"),
        (trusting().client_certificate_files(&junk, &key), "junk.pem"),
        (trusting().client_certificate_files(&chain, &other), "key"),
    ] {
        let error = Client::builder(["127.0.0.1:1"]).tls(tls).build_lazy().expect_err(file).to_string();
        strict(&error, file, &[]);
        assert!(!error.contains(issued.key.lines().nth(1).unwrap()), "{error}");
    }
}
