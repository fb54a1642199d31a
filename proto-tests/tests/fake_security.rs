//! TLS and SASL at the fake's listeners, as Kafka's `SaslServerAuthenticator` has them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use bytes::Bytes;
use kafka_protocol::messages::{
    ApiVersionsRequest, MetadataRequest, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
    SaslHandshakeResponse,
};
use kafka_protocol::protocol::StrBytes;
use proto_tests::certs::Authority;
use proto_tests::fake::{FakeCluster, FakeSasl, FakeTls, SaslFault, TlsFault, code};
use proto_tests::raw::RawClient;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn start(sasl: FakeSasl) -> (FakeCluster, RawClient) {
    let cluster = FakeCluster::builder().sasl(sasl.user("alice", "pw").token("t0ken")).raw_bytes(4096).start();
    let client = connect(&cluster);
    (cluster, client)
}

fn connect(cluster: &FakeCluster) -> RawClient {
    RawClient::connect(cluster.address(1)).unwrap()
}

fn handshake(client: &mut RawClient, mechanism: &str) -> SaslHandshakeResponse {
    let mechanism = StrBytes::from_string(mechanism.to_owned());
    client.call(1, &SaslHandshakeRequest::default().with_mechanism(mechanism)).unwrap()
}

fn token(client: &mut RawClient, token: &[u8]) -> std::io::Result<SaslAuthenticateResponse> {
    client.call(2, &SaslAuthenticateRequest::default().with_auth_bytes(Bytes::copy_from_slice(token)))
}

fn log_in(client: &mut RawClient) -> SaslAuthenticateResponse {
    assert_eq!(handshake(client, "PLAIN").error_code, code::NONE);
    token(client, b"\0alice\0pw").unwrap()
}

#[test]
fn nothing_is_answered_before_authentication() {
    let (cluster, mut client) = start(FakeSasl::new());
    assert!(client.metadata(None).is_err(), "closed");
    let mut client = connect(&cluster);
    client.call(0, &ApiVersionsRequest::default()).unwrap();
    assert!(client.call(0, &ApiVersionsRequest::default()).is_err(), "versions are told once");
    let mut client = connect(&cluster);
    handshake(&mut client, "PLAIN");
    assert!(client.metadata(None).is_err(), "not between handshake and token");
    let mut client = connect(&cluster);
    client.call(0, &ApiVersionsRequest::default()).unwrap();
    assert_eq!(log_in(&mut client).error_code, code::NONE);
    client.metadata(None).unwrap();
    client.call(0, &ApiVersionsRequest::default()).unwrap();
    let seen = cluster.security().broker(1);
    assert_eq!((seen.refused_unauthenticated, seen.authentications(), seen.reauthentications()), (3, 1, 0));
    assert!(cluster.security().connections.iter().any(|one| one.contains(b"\0alice\0pw") && !one.is_tls()));
}

#[test]
fn the_words_of_a_refusal() {
    let (cluster, mut client) = start(FakeSasl::new().mechanisms(&["PLAIN", "OAUTHBEARER", "SCRAM-SHA-512"]));
    let offered = handshake(&mut client, "GSSAPI");
    assert_eq!(offered.error_code, code::UNSUPPORTED_SASL_MECHANISM);
    let names: Vec<&str> = offered.mechanisms.iter().map(StrBytes::as_str).collect();
    assert_eq!(names, ["PLAIN", "OAUTHBEARER", "SCRAM-SHA-512"]);
    assert!(client.metadata(None).is_err(), "closed");
    for (mechanism, bytes, words) in [
        ("PLAIN", &b"\0alice\0wrong"[..], "Authentication failed: Invalid username or password"),
        ("PLAIN", b"\0alice\0", "Authentication failed: password not specified"),
        (
            "SCRAM-SHA-512",
            b"n,,n=nobody,r=1",
            "Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-512",
        ),
    ] {
        let mut client = connect(&cluster);
        handshake(&mut client, mechanism);
        let refused = token(&mut client, bytes).unwrap();
        assert_eq!(refused.error_code, code::SASL_AUTHENTICATION_FAILED);
        assert_eq!(refused.error_message.unwrap().as_str(), words);
        assert!(client.metadata(None).is_err(), "closed");
    }
}

#[test]
fn a_bad_token_is_a_challenge_first() {
    let (cluster, mut client) = start(FakeSasl::new());
    handshake(&mut client, "OAUTHBEARER");
    let good = token(&mut client, b"n,,\x01auth=Bearer t0ken\x01logicalCluster=lkc-1\x01\x01").unwrap();
    assert_eq!((good.error_code, good.auth_bytes.len()), (code::NONE, 0));
    assert_eq!(cluster.security().broker(1).extensions, [("logicalCluster".to_owned(), "lkc-1".to_owned())]);
    cluster.set_tokens(&["other"]);
    let mut client = connect(&cluster);
    handshake(&mut client, "OAUTHBEARER");
    let challenge = token(&mut client, b"n,,\x01auth=Bearer t0ken\x01\x01").unwrap();
    assert_eq!(challenge.error_code, code::NONE);
    assert_eq!(&challenge.auth_bytes[..], br#"{"status":"invalid_token"}"#);
    let refused = token(&mut client, b"\x01").unwrap();
    assert_eq!(refused.error_code, code::SASL_AUTHENTICATION_FAILED);
    assert_eq!(refused.error_message.unwrap().as_str(), r#"{"status":"invalid_token"}"#);
}

#[test]
fn sessions_end_and_are_renewed() {
    let (cluster, mut client) = start(FakeSasl::new().session_lifetime(SECOND));
    assert_eq!(log_in(&mut client).session_lifetime_ms, 1000);
    cluster.advance_time(SECOND / 2);
    assert_eq!(log_in(&mut client).error_code, code::NONE);
    cluster.advance_time(SECOND * 3 / 4);
    client.metadata(None).unwrap();
    cluster.advance_time(SECOND);
    assert!(client.metadata(None).is_err(), "the session is over");
    let seen = cluster.security().broker(1);
    assert_eq!((seen.authentications(), seen.reauthentications(), seen.expired), (1, 1, 1));

    let mut client = connect(&cluster);
    log_in(&mut client);
    cluster.advance_time(SECOND * 2);
    assert_eq!(log_in(&mut client).error_code, code::NONE, "late, but the first thing that is said");
    assert_eq!(handshake(&mut client, "OAUTHBEARER").error_code, code::NONE);
    assert!(token(&mut client, b"n,,\x01auth=Bearer t0ken\x01\x01").is_err(), "another mechanism");
    let mut client = connect(&cluster);
    log_in(&mut client);
    cluster.set_user("bob", "pw");
    handshake(&mut client, "PLAIN");
    let refused = token(&mut client, b"\0bob\0pw").unwrap().error_message.unwrap();
    assert_eq!(refused.as_str(), "Cannot change principals during re-authentication from User.alice: User.bob");
}

#[test]
fn who_is_not_asked_may_not_answer() {
    let cluster = FakeCluster::start(1);
    let mut client = connect(&cluster);
    assert_eq!(handshake(&mut client, "PLAIN").error_code, code::ILLEGAL_SASL_STATE);
    assert_eq!(token(&mut client, b"\0alice\0pw").unwrap().error_code, code::ILLEGAL_SASL_STATE);
    client.metadata(None).unwrap();
    // Nor who has no need to, or not yet.
    let (cluster, mut client) = start(FakeSasl::new().reauthentication_interval(SECOND));
    log_in(&mut client);
    assert_eq!(handshake(&mut client, "PLAIN").error_code, code::ILLEGAL_SASL_STATE);
    cluster.set_session_lifetime(Some(SECOND * 10));
    log_in(&mut client);
    assert_eq!(handshake(&mut client, "PLAIN").error_code, code::ILLEGAL_SASL_STATE);
    cluster.advance_time(SECOND);
    log_in(&mut client);
}

#[test]
fn lies_are_told() {
    let (cluster, _) = start(FakeSasl::new());
    for (fault, begin) in [
        (SaslFault::ForeignNonce, "r=xabc"),
        (SaslFault::UnextendedNonce, "r=abc,s="),
        (SaslFault::ServerFirst("r={nonce},s=!".to_owned()), "r=abc"),
        (SaslFault::EndlessChallenges("again".to_owned()), "again"),
        (SaslFault::SuccessAtOnce, ""),
    ] {
        cluster.set_sasl_fault(Some(fault));
        let mut client = connect(&cluster);
        handshake(&mut client, "SCRAM-SHA-256");
        let answer = token(&mut client, b"n,,n=alice,r=abc").unwrap().auth_bytes;
        assert!(answer.starts_with(begin.as_bytes()), "{answer:?}");
    }
    cluster.set_sasl_fault(Some(SaslFault::Iterations(1_000_000_000)));
    let mut client = connect(&cluster);
    handshake(&mut client, "SCRAM-SHA-256");
    assert!(token(&mut client, b"n,,n=alice,r=abc").unwrap().auth_bytes.ends_with(b",i=1000000000"));
}

type TlsClient = StreamOwned<ClientConnection, TcpStream>;

fn tls(cluster: &FakeCluster, authority: &Authority, client: Option<&proto_tests::certs::Issued>) -> TlsClient {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some(issued) => {
            let chain = CertificateDer::pem_slice_iter(issued.chain.as_bytes()).collect::<Result<_, _>>().unwrap();
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap()).unwrap()
        }
    };
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(cluster.address(1)).unwrap();
    stream.set_read_timeout(Some(SECOND * 5)).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
}

/// ApiVersions, version 0.
fn ask(client: &mut TlsClient) -> std::io::Result<usize> {
    client.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 255, 255])?;
    let mut head = [0; 8];
    client.read_exact(&mut head)?;
    assert_eq!(head[4..], [0, 0, 0, 7]);
    Ok(usize::from(head[3]))
}

#[test]
fn brokers_speak_tls_with_the_certificate_of_the_day() {
    let (authority, other) = (Authority::new("one"), Authority::new("two"));
    let cluster = FakeCluster::builder()
        .tls(FakeTls::new(authority.server(&["localhost"])))
        .advertised_host("localhost")
        .raw_bytes(100)
        .start();
    assert!(ask(&mut tls(&cluster, &authority, None)).unwrap() > 0);
    assert!(ask(&mut tls(&cluster, &other, None)).is_err());
    assert!(cluster.wait_for(|view| !view.security(1).tls_failures.is_empty(), SECOND));
    cluster.set_certificate(1, other.server(&["localhost"]));
    assert!(ask(&mut tls(&cluster, &other, None)).unwrap() > 0);
    let seen = cluster.security();
    assert_eq!((seen.broker(1).tls_handshakes, seen.broker(1).tls_failures.len()), (2, 1));
    assert_eq!(seen.broker(1).server_names[0].as_deref(), Some("localhost"));
    assert!(seen.connections.len() == 3 && seen.connections.iter().all(|one| one.is_tls() && one.bytes.len() == 100));
    assert_eq!(cluster.bootstrap_as("localhost")[0], format!("localhost:{}", cluster.address(1).port()));
}

#[test]
fn clients_must_show_a_certificate() {
    let authority = Authority::new("one");
    let server = FakeTls::new(authority.server(&["localhost"])).client_ca(authority.pem());
    for server in [server.clone(), server.only_1_2()] {
        let cluster = FakeCluster::builder().tls(server).start();
        assert!(ask(&mut tls(&cluster, &authority, None)).is_err());
        assert!(ask(&mut tls(&cluster, &authority, Some(&authority.client("app")))).unwrap() > 0);
        assert_eq!(cluster.security().broker(1).client_certificates.len(), 1);
    }
}

#[test]
fn handshakes_go_wrong() {
    let authority = Authority::new("one");
    let cluster = FakeCluster::builder().tls(FakeTls::new(authority.server(&["localhost"]))).start();
    for (fault, ends) in [
        (TlsFault::Silent, false),
        (TlsFault::Close, true),
        (TlsFault::Garbage(Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\n\r\n")), true),
        (TlsFault::Stall(50), false),
    ] {
        cluster.set_tls_fault(1, Some(fault));
        let mut client = tls(&cluster, &authority, None);
        client.sock.set_read_timeout(Some(SECOND / 10)).unwrap();
        let error = ask(&mut client).unwrap_err();
        let waits = matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
        assert_eq!(waits, !ends, "{error}");
    }
    cluster.set_tls_fault(1, None);
    assert!(ask(&mut tls(&cluster, &authority, None)).unwrap() > 0);
}

#[test]
fn metadata_names_the_advertised_host() {
    let cluster = FakeCluster::builder().brokers(2).advertised_host("localhost").advertised_host_of(2, "b2").start();
    let hosts = |client: &mut RawClient| -> Vec<String> {
        let answer = client.call(9, &MetadataRequest::default()).unwrap();
        answer.brokers.iter().map(|broker| broker.host.to_string()).collect()
    };
    assert_eq!(hosts(&mut connect(&cluster)), ["localhost", "b2"]);
    cluster.advertise(1, "elsewhere");
    assert_eq!(hosts(&mut connect(&cluster)), ["elsewhere", "b2"]);
}
