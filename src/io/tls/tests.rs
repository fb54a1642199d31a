//! Handshakes with servers of this process, good and bad.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use proto_tests::certs::{Authority, Days, EXPIRED, Issued, NOT_YET, pem as to_pem};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, ProtocolVersion, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::config::{ClientConfig, TlsVersions};
use crate::error::{CallErrorKind, ConnectCause};
use crate::io::connect::Secured;
use crate::io::test_support::{block_on, connect_within, connector, until};

const BOTH: TlsVersions = TlsVersions::Both;

/// A server that shakes hands with those who connect, one after the other, and answers each line with itself.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    /// What came of each connection: the version agreed on, or the error.
    seen: Arc<Mutex<Vec<Result<ProtocolVersion, String>>>>,
}

/// How a server is set up.
#[derive(Clone)]
pub(super) struct Setup {
    issued: Issued,
    clients: Option<String>,
    versions: TlsVersions,
}

impl Setup {
    pub(super) fn new(issued: Issued) -> Setup {
        Setup { issued, clients: None, versions: BOTH }
    }

    /// Asks for certificates that this authority has signed.
    pub(super) fn clients(mut self, authority: &Authority) -> Setup {
        self.clients = Some(authority.pem());
        self
    }

    fn versions(mut self, versions: TlsVersions) -> Setup {
        self.versions = versions;
        self
    }

    fn config(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls_graviola::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&material::versions(self.versions))
            .unwrap();
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(pem::certificates(pem.as_bytes()).unwrap());
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = pem::certificates(self.issued.chain.as_bytes()).unwrap();
        Arc::new(builder.with_single_cert(chain, pem::private_key(self.issued.key.as_bytes(), None).unwrap()).unwrap())
    }

    pub(super) fn start(self) -> Server {
        let config = self.config();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let list = seen.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (Ok(mut socket), Ok(mut session)) = (socket, ServerConnection::new(config.clone())) else { break };
                let outcome = loop {
                    match session.complete_io(&mut socket) {
                        Ok(_) if session.is_handshaking() => {}
                        Ok(_) => break Ok(session.protocol_version().unwrap()),
                        Err(error) => break Err(error.to_string()),
                    }
                };
                let shaken = outcome.is_ok();
                list.lock().unwrap().push(outcome);
                if shaken {
                    std::thread::spawn(move || echo(StreamOwned::new(session, socket)));
                } else {
                    // The alert is to arrive before the reset for what was not read.
                    let _ = socket.shutdown(std::net::Shutdown::Write);
                    let _ = std::io::copy(&mut socket, &mut std::io::sink());
                }
            }
        });
        Server { address, seen }
    }
}

fn echo(mut stream: StreamOwned<ServerConnection, std::net::TcpStream>) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..read]).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

impl Server {
    /// Connects as `host`, and has a line come back.
    fn hail(&self, tls: &TlsConfig, host: &str) -> Result<(), TlsFailure> {
        let context = TlsContext::load(tls).unwrap();
        block_on(self.hail_with(&context, host))
    }

    pub(super) async fn hail_with(&self, context: &TlsContext, host: &str) -> Result<(), TlsFailure> {
        self.hailed(context, host).await.map(drop)
    }

    /// How they shook hands.
    async fn hailed(&self, context: &TlsContext, host: &str) -> Result<HandshakeKind, TlsFailure> {
        let socket = TcpStream::connect(self.address).await.unwrap();
        let mut stream = context.connect(host, socket).await?;
        let mut back = [0; 5];
        let talk = async {
            stream.write_all(b"hello").await?;
            stream.flush().await?;
            stream.read_exact(&mut back).await
        };
        if let Err(error) = talk.await {
            return Err(stream.why_broken(&error).await.unwrap_or(TlsFailure::ClosedAfter));
        }
        assert_eq!(&back, b"hello");
        Ok(stream.handshake_kind().unwrap())
    }

    fn versions(&self) -> Vec<Result<ProtocolVersion, String>> {
        self.seen.lock().unwrap().clone()
    }
}

/// What says the failure in one line, as a user sees it.
fn line(outcome: Result<(), TlsFailure>) -> String {
    let text = outcome.expect_err("a failure").to_string();
    assert!(!text.contains('\n') && text.starts_with("TLS: "), "{text}");
    text
}

pub(super) fn trusting(authority: &Authority) -> TlsConfig {
    TlsConfig::new().ca_pem(authority.pem())
}

pub(super) fn with(tls: TlsConfig, issued: &Issued) -> TlsConfig {
    tls.client_certificate_pem(issued.chain.clone(), issued.key.clone())
}

#[test]
fn good_chain_by_name_and_by_address() {
    let authority = Authority::new("ca");
    let server = Setup::new(authority.server(&["broker.test", "*.brokers.test", "127.0.0.1", "::1"])).start();
    for host in ["broker.test", "b7.brokers.test", "127.0.0.1", "::1", "[::1]", "::1%lo", "BROKER.TEST", "broker.test."]
    {
        server.hail(&trusting(&authority), host).unwrap();
    }
    assert!(server.versions().iter().all(|version| *version == Ok(ProtocolVersion::TLSv1_3)));
}

#[test]
fn wrong_name() {
    let authority = Authority::new("ca");
    let server = Setup::new(authority.server(&["broker.test", "*.brokers.test", "10.1.2.3"])).start();
    for host in ["other.test", "a.b.brokers.test", "127.0.0.1", "::1"] {
        let failure = server.hail(&trusting(&authority), host).unwrap_err();
        let presented = ["broker.test", "*.brokers.test", "10.1.2.3"].map(str::to_owned).to_vec();
        assert_eq!(failure, TlsFailure::WrongName { expected: host.to_owned(), presented });
    }
    let unnamed = Setup::new(authority.issue(&[], "broker.test", Days(-1, 1))).start();
    assert!(line(unnamed.hail(&trusting(&authority), "broker.test")).contains("common name does not count"));
    let text = line(server.hail(&trusting(&authority), "no name"));
    assert!(text.contains("\"no name\" can be no name"), "{text}");
}

#[test]
fn expired_and_not_yet_valid() {
    let authority = Authority::new("ca");
    for (days, said) in [(EXPIRED, "expired 20"), (NOT_YET, "valid only from 20")] {
        let server = Setup::new(authority.issue(&["localhost"], "x", days)).start();
        let text = line(server.hail(&trusting(&authority), "localhost"));
        assert!(text.contains(said) && text.contains(" UTC"), "{text}");
    }
}

#[test]
fn unknown_ca() {
    let (authority, other) = (Authority::new("ca"), Authority::new("Another Company's CA"));
    let server = Setup::new(other.server(&["localhost"])).start();
    let text = line(server.hail(&trusting(&authority), "localhost"));
    assert!(text.contains("(CN=Another Company's CA)") && text.contains("ssl.truststore.location"), "{text}");
    // The one that only shares its name is as unknown.
    let twin = Setup::new(Authority::new("ca").server(&["localhost"])).start();
    assert!(matches!(
        twin.hail(&trusting(&authority), "localhost"),
        Err(TlsFailure::UnknownIssuer { .. } | TlsFailure::Certificate(_))
    ));
    // Several sources are trusted together.
    server.hail(&trusting(&authority).ca_pem(other.pem()), "localhost").unwrap();
    assert!(server.versions()[0].as_ref().unwrap_err().contains("UnknownCA"), "the broker's log says it too");
}

#[test]
fn client_certificate_required() {
    let (authority, clients, others) = (Authority::new("ca"), Authority::new("clients"), Authority::new("others"));
    for versions in [BOTH, TlsVersions::Only12] {
        let setup = Setup::new(authority.server(&["localhost"])).clients(&clients).versions(versions);
        let server = setup.start();
        let trusting = trusting(&authority);
        server.hail(&with(trusting.clone(), &clients.client("me")), "localhost").unwrap();
        let text = line(server.hail(&trusting, "localhost"));
        assert!(
            text.contains("refuses this client's certificate") && text.contains("set ssl.keystore.location"),
            "{text}"
        );
        let text = line(server.hail(&with(trusting.clone(), &others.client("me")), "localhost"));
        assert!(text.contains("refuses this client's certificate") && text.contains("unknown_ca"), "{text}");
        let expired = clients.issue(&[], "me", EXPIRED);
        let text = line(server.hail(&with(trusting, &expired), "localhost"));
        assert!(text.contains("certificate_expired: it has expired"), "{text}");
    }
}

#[test]
fn a_refused_client_certificate_is_named_by_the_whole_connection_too() {
    let authority = Authority::new("ca");
    let server = Setup::new(authority.server(&["127.0.0.1"])).clients(&authority).start();
    let text = connect(server.address, &trusting(&authority), Duration::from_secs(20)).unwrap_err();
    assert!(text.contains("refuses this client's certificate") && text.contains("certificate_required"), "{text}");
    // The client may know before the server's thread has noted it.
    until("seen", || !server.versions().is_empty());
    assert_eq!(server.versions().len(), 1, "it is not tried twice");
}

#[test]
fn versions_are_those_that_both_sides_have() {
    let authority = Authority::new("ca");
    let tls = trusting(&authority);
    let [old, new] = [TlsVersions::Only12, TlsVersions::Only13]
        .map(|versions| Setup::new(authority.server(&["localhost"])).versions(versions).start());
    for versions in [BOTH, TlsVersions::Only12] {
        old.hail(&tls.clone().versions(versions), "localhost").unwrap();
    }
    for versions in [BOTH, TlsVersions::Only13] {
        new.hail(&tls.clone().versions(versions), "localhost").unwrap();
    }
    assert_eq!(old.versions(), [Ok(ProtocolVersion::TLSv1_2), Ok(ProtocolVersion::TLSv1_2)]);
    assert_eq!(new.versions(), [Ok(ProtocolVersion::TLSv1_3), Ok(ProtocolVersion::TLSv1_3)]);
    for text in [
        line(old.hail(&tls.clone().versions(TlsVersions::Only13), "localhost")),
        line(new.hail(&tls.versions(TlsVersions::Only12), "localhost")),
    ] {
        assert!(text.contains("ssl.enabled.protocols"), "{text}");
    }
}

#[test]
fn a_broken_handshake_is_no_lasting_harm() {
    let authority = Authority::new("ca");
    let server = Setup::new(authority.server(&["localhost"])).start();
    let context = TlsContext::load(&trusting(&authority)).unwrap();
    block_on(async {
        for _ in 0..5 {
            assert!(server.hail_with(&context, "other").await.is_err());
            server.hail_with(&context, "localhost").await.unwrap();
        }
    });
}

/// A session is resumed without its certificate being shown again. So it is for the name that was verified, and for who
/// verified it.
#[test]
fn sessions_are_resumed_for_the_same_name_and_settings_only() {
    let (authority, other) = (Authority::new("ca"), Authority::new("other"));
    let files = super::files_tests::Files::new();
    for versions in [TlsVersions::Only13, TlsVersions::Only12] {
        let server = Setup::new(authority.server(&["localhost", "127.0.0.1"])).versions(versions).start();
        let tls = TlsConfig::new().ca_file(files.put("ca.pem", authority.pem()));
        let context = TlsContext::load(&tls).unwrap();
        block_on(async {
            assert_eq!(server.hailed(&context, "localhost").await, Ok(HandshakeKind::Full));
            assert_eq!(server.hailed(&context, "localhost").await, Ok(HandshakeKind::Resumed));
            assert!(matches!(server.hailed(&context, "elsewhere").await, Err(TlsFailure::WrongName { .. })));
            assert_eq!(server.hailed(&context, "127.0.0.1").await, Ok(HandshakeKind::Full));
            let stranger = TlsContext::load(&trusting(&other)).unwrap();
            assert!(server.hailed(&stranger, "localhost").await.is_err());
            // Who is not trusted any more is not let in by what was said before.
            files.put("ca.pem", other.pem());
            assert!(server.hailed(&context, "localhost").await.is_err());
        });
    }
}

/// A server that says `answer` to whatever comes, and gives back all that came.
fn other_language(answer: &'static [u8]) -> (SocketAddr, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let all = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut got = vec![0; 4096];
        let read = socket.read(&mut got).unwrap();
        got.truncate(read);
        socket.write_all(answer).unwrap();
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let _ = socket.read_to_end(&mut got);
        got
    });
    (address, all)
}

/// Connects as a client does, with TLS and a SASL that nothing asks for.
fn connect(address: SocketAddr, tls: &TlsConfig, limit: Duration) -> Result<(), String> {
    let secured = Secured { tls: Some(TlsContext::load(tls).unwrap()), ..Secured::default() };
    let connecting = connect_within(&connector(ClientConfig::default(), secured), address, limit);
    connecting.map(drop).map_err(|error| {
        let CallErrorKind::Connect(failures) = error.kind() else { panic!("{error}") };
        assert_eq!(failures.len(), 1);
        assert!(matches!(failures[0].cause, ConnectCause::Tls(_) | ConnectCause::TimedOut(_)), "{error}");
        failures[0].to_string()
    })
}

#[test]
fn plaintext_port_gets_no_credentials() {
    let authority = Authority::new("ca");
    let tls = with(trusting(&authority), &authority.client("the-name-of-this-client"));
    for (answer, said) in [
        (&b"\x00\x00\x00\x0a\x00\x00\x00\x00\x00\x23\x00\x00\x00\x00"[..], "does not speak TLS"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak TLS"),
        (b"no", "does not speak TLS"),
        (b"", "as a port that does not speak TLS does"),
        (b"\x16\x03", "half-way"),
    ] {
        let (address, all) = other_language(answer);
        let text = connect(address, &tls, Duration::from_secs(20)).unwrap_err();
        assert!(text.starts_with(&format!("{address}: TLS: ")) && text.contains(said), "{answer:?}: {text}");
        let all = all.join().unwrap();
        assert_eq!(all[..2], [0x16, 3], "a ClientHello");
        let length = usize::from(u16::from_be_bytes([all[3], all[4]]));
        // At most an alert, which is a record of 7 bytes, follows.
        assert!(all.len() - 5 - length <= 7, "{} bytes behind the ClientHello", all.len() - 5 - length);
        assert!(!all.windows(8).any(|bytes| bytes == b"the-name"), "not even the certificate");
    }
}

#[test]
fn a_silent_port_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let started = Instant::now();
    let limit = Duration::from_millis(200);
    let text = connect(listener.local_addr().unwrap(), &trusting(&Authority::new("ca")), limit).unwrap_err();
    assert!(text.contains("within 200 ms"), "{text}");
    assert!(started.elapsed() >= limit);
}

#[test]
fn keys_in_every_form_prove_who_the_client_is() {
    let authority = Authority::new("ca");
    let server = Setup::new(authority.server(&["localhost"])).clients(&authority).start();
    let tls = trusting(&authority);
    let mine = authority.client("me");
    let rustls::pki_types::PrivateKeyDer::Pkcs8(key) = pem::private_key(mine.key.as_bytes(), None).unwrap() else {
        panic!("not PKCS#8")
    };
    let der = key.secret_pkcs8_der();
    let salted = pkcs8::pkcs5::pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(10, &[7; 8], [9; 16]).unwrap();
    let data = salted.encrypt("p w", der).unwrap();
    let encrypted = pkcs8::EncryptedPrivateKeyInfoRef {
        encryption_algorithm: salted.into(),
        encrypted_data: pkcs8::der::asn1::OctetStringRef::new(&data).unwrap(),
    };
    let encrypted = to_pem("ENCRYPTED PRIVATE KEY", &pkcs8::der::Encode::to_der(&encrypted).unwrap());
    server
        .hail(&tls.clone().client_certificate_pem(mine.chain.clone(), encrypted).key_password("p w"), "localhost")
        .unwrap();
    // PKCS#8 holds what SEC1 is as its third element.
    let inside = pem::Der::new(der).next().unwrap().content;
    let sec1 = to_pem("EC PRIVATE KEY", pem::Der::new(inside).nth(2).unwrap().content);
    server.hail(&tls.clone().client_certificate_pem(mine.chain, sec1), "localhost").unwrap();
    let rsa = authority.client_with_rsa("me");
    assert!(rsa.key.starts_with("-----BEGIN RSA PRIVATE KEY-----"));
    server.hail(&with(tls, &rsa), "localhost").unwrap();
}

#[test]
fn without_verification_anybody_is_believed_who_has_the_key() {
    let stranger = Authority::new("stranger");
    let server = Setup::new(stranger.issue(&["elsewhere"], "x", EXPIRED)).start();
    let tls = TlsConfig::new().dangerously_disable_certificate_verification();
    server.hail(&tls, "localhost").unwrap();
    server.hail(&tls.versions(TlsVersions::Only12), "localhost").unwrap();
    assert!(line(server.hail(&trusting(&stranger), "localhost")).contains("expired"));
}

#[cfg(feature = "rustcrypto")]
#[test]
fn the_portable_cryptography_shakes_hands_too() {
    let authority = Authority::new("ca");
    let server = Setup::new(authority.server(&["localhost"])).clients(&authority).start();
    let provider = Arc::new(rustls_rustcrypto::provider());
    for versions in [TlsVersions::Only13, TlsVersions::Only12] {
        let tls = trusting(&authority).crypto_provider(provider.clone()).versions(versions);
        server.hail(&with(tls.clone(), &authority.client("me")), "localhost").unwrap();
        assert!(matches!(server.hail(&tls, "other"), Err(TlsFailure::WrongName { .. })));
        // It cannot tell whether key and certificate belong together; the broker does.
        let _ = TlsContext::load(&tls.client_certificate_pem(authority.client("a").chain, authority.client("b").key));
    }
}

#[test]
fn an_alert_with_a_reset_behind_it_is_still_read() {
    let authority = Authority::new("ca");
    let config = Setup::new(authority.server(&["127.0.0.1"])).clients(&authority).config();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (Ok(mut socket), Ok(mut session)) = (socket, ServerConnection::new(config.clone())) else { break };
            while session.complete_io(&mut socket).is_ok() && session.is_handshaking() {}
            // Closed with bytes of the client unread: the kernel then sends a reset.
            let _ = socket.peek(&mut [0]);
        }
    });
    for _ in 0..20 {
        let text = connect(address, &trusting(&authority), Duration::from_secs(20)).unwrap_err();
        assert!(text.contains("certificate_required: it asks for one"), "{text}");
    }
}
