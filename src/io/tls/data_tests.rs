//! Requests and answers through TLS, also when the other side does not read.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto_tests::certs::{Authority, Issued};
use proto_tests::fake::FakeCluster;
use rustls::ServerConfig;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::ClientConfig;
use crate::error::CallErrorKind;
use crate::io::connect::Secured;
use crate::io::connection::Connection;
use crate::io::test_support::{block_on, connect_within, connector};
use crate::wire::requests::metadata::{MetadataRequest, MetadataTopics};

const LONG: Duration = Duration::from_secs(60);

/// TLS in front of a broker that has none.
struct Terminator {
    address: SocketAddr,
    /// Whether it reads what the client sends.
    reads: watch::Sender<bool>,
    /// What it has read.
    read: Arc<AtomicU64>,
    /// How the connections came to their end: by close_notify (true) or without.
    ended: watch::Receiver<Vec<bool>>,
}

impl Terminator {
    fn start(issued: &Issued, broker: SocketAddr) -> Terminator {
        let config = ServerConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                pem::certificates(issued.chain.as_bytes()).unwrap(),
                pem::private_key(issued.key.as_bytes(), None).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        SockRef::from(&listener).set_recv_buffer_size(32 * 1024).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (reads, may_read) = watch::channel(true);
        let (at_end, ended) = watch::channel(Vec::new());
        let read = Arc::new(AtomicU64::new(0));
        let counter = read.clone();
        std::thread::spawn(move || {
            block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let acceptor = TlsAcceptor::from(Arc::new(config));
                while let Ok((socket, _)) = listener.accept().await {
                    let Ok(stream) = acceptor.accept(socket).await else { continue };
                    let upstream = TcpStream::connect(broker).await.unwrap();
                    let (mut may_read, counter, at_end) = (may_read.clone(), counter.clone(), at_end.clone());
                    let (mut from_client, mut to_client) = split(stream);
                    let (mut from_broker, mut to_broker) = upstream.into_split();
                    tokio::spawn(async move {
                        let _ = tokio::io::copy(&mut from_broker, &mut to_client).await;
                        let _ = to_client.flush().await;
                    });
                    tokio::spawn(async move {
                        let mut buffer = vec![0; 64 * 1024];
                        while may_read.wait_for(|may| *may).await.is_ok() {
                            let read = tokio::select! {
                                biased;
                                _ = may_read.wait_for(|may| !*may) => continue,
                                read = from_client.read(&mut buffer) => read,
                            };
                            let Ok(count @ 1..) = read else {
                                at_end.send_modify(|ended| ended.push(read.is_ok()));
                                break;
                            };
                            counter.fetch_add(count as u64, Ordering::SeqCst);
                            let _ = to_broker.write_all(&buffer[..count]).await;
                        }
                    });
                }
            });
        });
        Terminator { address, reads, read, ended }
    }
}

fn connect(address: SocketAddr, authority: &Authority) -> Connection {
    let tls = TlsContext::load(&TlsConfig::new().ca_pem(authority.pem())).unwrap();
    let config = ClientConfig { send_buffer: Some(32 * 1024), ..ClientConfig::default() };
    connect_within(&connector(config, Secured { tls: Some(tls), ..Secured::default() }), address, LONG).unwrap()
}

/// A request of about `bytes` bytes, answered with more.
fn ask(bytes: usize) -> MetadataRequest {
    let names = (0..bytes.div_ceil(240)).map(|i| format!("{i:0238}").into()).collect();
    MetadataRequest { topics: MetadataTopics::Names(names), allow_auto_create: false }
}

#[test]
fn large_and_small_requests_and_answers_pass_whole_and_in_order() {
    let authority = Authority::new("ca");
    let cluster = FakeCluster::start(1);
    let terminator = Terminator::start(&authority.server(&["127.0.0.1"]), cluster.address(1));
    let connection = connect(terminator.address, &authority);
    let sizes = [1, 100, 20_000, 1, 16_384, 700_000, 1, 300_000, 50];
    let answers: Vec<_> = sizes.iter().map(|size| connection.submit(&ask(*size), LONG)).collect();
    for (size, answer) in sizes.into_iter().zip(answers) {
        assert_eq!(block_on(answer).unwrap().topics.len(), size.div_ceil(240));
    }
    let mut ended = terminator.ended.clone();
    drop(connection);
    assert_eq!(
        *block_on(ended.wait_for(|ended| !ended.is_empty())).unwrap(),
        [true],
        "it says that nothing more comes"
    );
}

#[test]
fn what_tls_keeps_is_not_reported_as_written() {
    let authority = Authority::new("ca");
    let cluster = FakeCluster::start(1);
    let terminator = Terminator::start(&authority.server(&["127.0.0.1"]), cluster.address(1));
    let connection = connect(terminator.address, &authority);
    let before = terminator.read.load(Ordering::SeqCst);
    terminator.reads.send(false).unwrap();
    // What the kernel takes is written, whether anybody reads it or not.
    block_on(connection.submit_unanswered(&ask(1), LONG)).unwrap();
    let size = 32 * 1024;
    let mut unanswered: Vec<_> = (0..100).map(|_| connection.submit_unanswered(&ask(size), LONG)).collect();
    // By the time this one is given up, all that goes has gone.
    let late = block_on(connection.submit(&ask(1), Duration::from_millis(500))).unwrap_err();
    assert!(matches!(late.kind(), CallErrorKind::TimedOut(_)), "{late}");
    assert!(!late.may_have_been_applied(), "{late}");
    let outcomes: Vec<_> = unanswered.drain(..).map(block_on).collect();
    let written = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let doubtful =
        outcomes.iter().filter(|outcome| outcome.as_ref().is_err_and(|error| error.may_have_been_applied())).count();
    assert!(outcomes.iter().take(written).all(Result::is_ok), "in order");
    assert!(written + doubtful < 100, "{written} written, {doubtful} in doubt");
    assert!(doubtful > 0, "what TLS had taken may have been sent");
    // Now the other side reads all that the kernel had.
    let mut ended = terminator.ended.clone();
    terminator.reads.send(true).unwrap();
    drop(block_on(ended.wait_for(|ended| !ended.is_empty())).unwrap());
    let read = terminator.read.load(Ordering::SeqCst) - before;
    assert!(read >= (written * size) as u64, "{written} requests reported as written, {read} bytes came");
    assert!(read <= ((written + doubtful) * (size + 1024)) as u64, "more came than was said to be in doubt");
}

#[test]
fn a_stalled_peer_that_reads_again_gets_everything() {
    let authority = Authority::new("ca");
    let cluster = FakeCluster::start(1);
    let terminator = Terminator::start(&authority.server(&["127.0.0.1"]), cluster.address(1));
    let connection = connect(terminator.address, &authority);
    terminator.reads.send(false).unwrap();
    let answers: Vec<_> = (0..60).map(|_| connection.submit(&ask(30_000), LONG)).collect();
    let last = connection.submit(&ask(1), LONG);
    terminator.reads.send(true).unwrap();
    for answer in answers {
        assert_eq!(block_on(answer).unwrap().topics.len(), 125);
    }
    block_on(last).unwrap();
}
