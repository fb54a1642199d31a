//! The provider towards an https server of the test, which writes its answers by hand.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use proto_tests::certs::{Authority, EXPIRED, Issued};
use proto_tests::fake::{FakeCluster, FakeSasl, FakeTls};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{Client, SaslConfig};

const SECRET: &str = "hun ter2/+%:";
const TOKEN: &str = "eyJh.eyJz.c2ln";

/// What the server does with a request.
#[derive(Clone, Copy)]
enum Reply {
    /// Sends this and closes.
    Raw(&'static str),
    /// Sends a head that promises as many bytes, and goes on until nobody reads.
    Endless,
    /// Reads and says nothing.
    Silence,
    /// Closes the connection without a word.
    Close,
}

struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Answers one connection after the other with the next reply, and all further ones with the last.
    async fn start(issued: &Issued, replies: Vec<Reply>) -> Server {
        let chain = CertificateDer::pem_slice_iter(issued.chain.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (noted, accepted) = (requests.clone(), connections.clone());
        let task = tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                accepted.fetch_add(1, Ordering::Relaxed);
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let request = read_request(&mut stream).await;
                noted.lock().unwrap().push(request);
                match replies[number.min(replies.len() - 1)] {
                    Reply::Raw(text) => {
                        stream.write_all(text.as_bytes()).await.unwrap();
                        let _ = stream.shutdown().await;
                    }
                    Reply::Endless => {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
                        while stream.write_all(format!("1000\r\n{}\r\n", "x".repeat(0x1000)).as_bytes()).await.is_ok() {
                        }
                    }
                    Reply::Silence => {
                        let _ = stream.read_u8().await;
                    }
                    Reply::Close => {}
                }
            }
        });
        Server { port, requests, connections, task }
    }

    fn provider(&self, authority: &Authority) -> OidcClientCredentials {
        self.provider_at("localhost", authority)
    }

    fn provider_at(&self, host: &str, authority: &Authority) -> OidcClientCredentials {
        let url = format!("https://{host}:{}/oauth2/token?key=tenant", self.port);
        OidcClientCredentials::new(&url, "orders & co", SECRET)
            .unwrap()
            .tls(TlsConfig::new().ca_pem(authority.pem()))
            .timeout(Duration::from_secs(30))
            .retry_backoff(Duration::from_millis(1), Duration::from_millis(1))
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Head and body of a POST.
async fn read_request(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() >= length.parse().unwrap() {
                return text;
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap() == 0 {
            return text;
        }
    }
}

fn authority() -> (Authority, Issued) {
    let authority = Authority::new("test CA");
    let issued = authority.server(&["localhost"]);
    (authority, issued)
}

/// The error, which has no secret, no token, one line, and names the endpoint without its query.
async fn refused(provider: &OidcClientCredentials) -> String {
    let error = provider.token().await.expect_err("no token").to_string();
    let seen = format!("{error} {provider:?}");
    let pair = STANDARD.encode(format!("{}:{}", form_urlencoded("orders & co"), form_urlencoded(SECRET)));
    for hidden in [SECRET, &form_urlencoded(SECRET), &pair, TOKEN, "tenant", "\n"] {
        assert!(!seen.contains(hidden), "{hidden:?} in {seen}");
    }
    assert!(error.starts_with("https://localhost:") && error.contains("/oauth2/token: "), "{error}");
    error
}

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n\
    {\"access_token\":\"eyJh.eyJz.c2ln\",\"token_type\":\"Bearer\",\"expires_in\":300}";

#[tokio::test]
async fn a_token_is_asked_for_as_the_rfc_says() {
    let (authority, issued) = authority();
    let server = Server::start(&issued, vec![Reply::Raw(GOOD)]).await;
    let provider = server.provider(&authority).scope("kafka:read write").extension("logicalCluster", "lkc-1");
    let token = provider.token().await.unwrap();
    let expected = Token::new(TOKEN).expires_in(Duration::from_secs(300)).extension("logicalCluster", "lkc-1");
    assert_eq!(token, expected);
    assert!(!format!("{token:?}").contains(TOKEN));

    let requests = server.requests();
    let [request] = &requests[..] else { panic!("{requests:?}") };
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "grant_type=client_credentials&scope=kafka%3Aread+write");
    assert!(head.starts_with("POST /oauth2/token?key=tenant HTTP/1.1\r\n"), "{head}");
    // RFC 6749, 2.3.1: both parts form-urlencoded, then joined by a colon, then base64.
    let basic = STANDARD.encode("orders+%26+co:hun+ter2%2F%2B%25%3A");
    for line in [
        &format!("authorization: Basic {basic}"),
        &format!("host: localhost:{}", server.port),
        "content-type: application/x-www-form-urlencoded",
        "accept: application/json",
    ] {
        assert!(head.lines().any(|it| it == line), "{line} in {head}");
    }
    drop(server);
}

#[tokio::test]
async fn credentials_go_as_they_are_where_the_endpoint_wants_that() {
    let (authority, issued) = authority();
    let server = Server::start(&issued, vec![Reply::Raw(GOOD)]).await;
    server.provider(&authority).urlencode_header(false).token().await.unwrap();
    let basic = STANDARD.encode(format!("orders & co:{SECRET}"));
    assert!(server.requests()[0].contains(&format!("authorization: Basic {basic}\r\n")));
    assert!(server.requests()[0].ends_with("\r\n\r\ngrant_type=client_credentials"));
}

#[tokio::test]
async fn an_answer_in_chunks_is_put_together() {
    let (authority, issued) = authority();
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        12\r\n{\"access_token\":\"a\r\n7\r\nbc\",\"a\"\r\n3\r\n:1}\r\n0\r\n\r\n";
    let server = Server::start(&issued, vec![Reply::Raw(chunked)]).await;
    assert_eq!(server.provider(&authority).token().await.unwrap(), Token::new("abc"));
}

#[tokio::test]
async fn a_refusal_is_told_in_the_endpoints_words_and_not_repeated() {
    let (authority, issued) = authority();
    let refusal = "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\n\r\n\
        {\"error\":\"invalid_client\",\"error_description\":\"no client with\\nsecret hun ter2/+%: or hun+ter2%2F%2B%25%3A\"}";
    let server = Server::start(&issued, vec![Reply::Raw(refusal)]).await;
    let error = refused(&server.provider(&authority)).await;
    assert!(
        error.ends_with(": it answers 401 Unauthorized, invalid_client: no client with secret *** or ***"),
        "{error}"
    );
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn what_is_no_answer_is_refused_at_once() {
    let (authority, issued) = authority();
    for (reply, word) in [
        (Reply::Raw("HTTP/1.1 200 OK\r\n\r\n<html>eyJh.eyJz.c2ln</html>"), "not with JSON"),
        (Reply::Raw("HTTP/1.1 200 OK\r\n\r\n{\"id_token\":\"eyJh.eyJz.c2ln\"}"), "without an access_token"),
        (Reply::Endless, "larger than 64 KiB"),
        (Reply::Raw("HTTP/1.1 302 Found\r\nLocation: https://localhost:1/\r\n\r\n"), "redirects are not followed"),
        (Reply::Raw("HTTP/1.1 307 Temporary Redirect\r\nLocation: http://localhost:1/\r\n\r\n"), "not followed"),
    ] {
        let server = Server::start(&issued, vec![reply]).await;
        let error = refused(&server.provider(&authority)).await;
        assert!(error.contains(word), "{error}");
        assert_eq!(server.requests().len(), 1, "{word}");
    }
}

#[tokio::test]
async fn what_passes_is_tried_again_and_not_for_ever() {
    let (authority, issued) = authority();
    let busy = Reply::Raw("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    let slow_down = Reply::Raw("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n");
    let garbage = Reply::Raw("SSH-2.0-OpenSSH_9.6\r\n");
    let server = Server::start(&issued, vec![busy, slow_down, Reply::Close, garbage, Reply::Raw(GOOD)]).await;
    server.provider(&authority).token().await.unwrap();
    assert_eq!(server.requests().len(), 5);

    let server = Server::start(&issued, vec![busy]).await;
    let error = refused(&server.provider(&authority)).await;
    assert!(error.ends_with("it answers 503 Service Unavailable (after 5 attempts)"), "{error}");
    assert_eq!(server.requests().len(), 5);
}

/// Story: the name has an address of each kind, and that of IPv6 leads into a hole.
#[tokio::test]
async fn an_address_that_is_silent_leaves_time_for_the_next() {
    let (authority, issued) = authority();
    let server = Server::start(&issued, vec![Reply::Raw(GOOD)]).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [silent.local_addr().unwrap(), SocketAddr::from(([127, 0, 0, 1], server.port))];
    let provider = server.provider(&authority).timeout(Duration::from_secs(6));
    let tls = provider.shared.load().await.unwrap();
    timeout(provider.shared.limit, provider.shared.reach(&tls, &addresses)).await.expect("in time").unwrap();
    // Alone it has all of the time, for it may just be slow.
    let alone = provider.timeout(Duration::from_millis(200));
    let failure = alone.shared.reach(&tls, &addresses[..1]).await.err();
    let told = format!("{} does not answer within 200 ms", addresses[0]);
    assert_eq!(failure, Some(Failure::Passing(told)));
}

#[tokio::test]
async fn silence_ends_with_the_time_limit() {
    let (authority, issued) = authority();
    let server = Server::start(&issued, vec![Reply::Raw("HTTP/1.1 500 Oops\r\n\r\n"), Reply::Silence]).await;
    let limit = Duration::from_millis(300);
    let provider = server.provider(&authority).timeout(limit);
    let error = timeout(limit * 30, refused(&provider)).await.expect("in time");
    assert!(error.contains("no token within 300ms; before that: it answers 500"), "{error}");
}

#[tokio::test]
async fn a_server_with_a_wrong_certificate_gets_no_secret() {
    let (authority, issued) = authority();
    let stranger = Authority::new("stranger");
    for (issued, host) in [
        (stranger.server(&["localhost"]), "localhost"),
        (authority.server(&["id.example.com"]), "localhost"),
        (authority.issue(&["localhost"], "localhost", EXPIRED), "localhost"),
    ] {
        let server = Server::start(&issued, vec![Reply::Raw(GOOD)]).await;
        let error = refused(&server.provider_at(host, &authority)).await;
        assert!(error.contains("TLS") && !error.contains("ssl.truststore"), "{error}");
        assert_eq!(server.requests().len(), 0);
        assert_eq!(server.connections.load(Ordering::Relaxed), 1, "tried again: {error}");
    }
    // The same way ends well with the right one.
    let server = Server::start(&issued, vec![Reply::Raw(GOOD)]).await;
    server.provider(&authority).token().await.unwrap();
}

#[tokio::test]
async fn missing_roots_are_told_with_the_endpoint() {
    let provider = OidcClientCredentials::new("https://localhost:1/oauth2/token?key=tenant", "a", SECRET).unwrap();
    let error = refused(&provider.tls(TlsConfig::new().ca_file("/nowhere/ca.pem"))).await;
    assert!(error.contains("/nowhere/ca.pem"), "{error}");
}

/// From the token server to the broker, by TLS to both, and what is told when the first one refuses.
#[tokio::test]
async fn a_client_logs_in_with_the_token_that_it_was_given() {
    let authority = Authority::new("test CA");
    let issued = authority.server(&["localhost", "127.0.0.1"]);
    let cluster = FakeCluster::builder().tls(FakeTls::new(issued.clone())).sasl(FakeSasl::new().token(TOKEN)).start();
    let build = |server: &Server| {
        Client::builder(cluster.bootstrap())
            .tls(TlsConfig::new().ca_pem(authority.pem()))
            .sasl(SaslConfig::oauthbearer(server.provider(&authority)))
            .build()
    };
    let server = Server::start(&issued, vec![Reply::Raw(GOOD)]).await;
    let client = build(&server).await.unwrap();
    client.admin().create_topics([crate::NewTopic::new("t")]).await.unwrap();
    assert_eq!(server.requests().len(), 1, "connections share a token while it is good");

    let refusal = Reply::Raw("HTTP/1.1 400 Bad Request\r\n\r\n{\"error\":\"invalid_scope\"}");
    let server = Server::start(&issued, vec![refusal]).await;
    let error = build(&server).await.unwrap_err().to_string();
    let told = format!("https://localhost:{}/oauth2/token: it answers 400 Bad Request, invalid_scope", server.port);
    assert!(error.contains("SASL: OAUTHBEARER: no token: ") && error.contains(&told), "{error}");
    assert!(!error.contains(SECRET) && error.lines().count() == 1, "{error}");
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let new = |url, id| OidcClientCredentials::new(url, id, SECRET).unwrap_err().to_string();
    assert!(new("http://localhost/token", "a").contains("http would send the client's secret in clear"));
    assert!(new("file:///etc/passwd", "a").contains("a file is no token endpoint"));
    assert!(new("https://localhost/token", "").starts_with("clientId: it is empty"));
    let empty = OidcClientCredentials::new("https://localhost/token", "a", "").unwrap_err();
    assert!(empty.to_string().starts_with("clientSecret: it is empty"));
}
