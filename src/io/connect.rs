//! From a host and a port to a connection that has shaken hands.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::connection::{BrokerAddress, Connection, Established, Session};
use super::refusals::{Refusals, Told};
use super::sasl;
use super::stream::Stream;
use super::thread::IoThread;
use super::tls::TlsContext;
use crate::config::{ClientConfig, ConfigError, SaslConfig};
use crate::error::{CallError, CallErrorKind, ConnectCause, ConnectFailure, SaslFailure, TlsFailure};
use crate::metrics::Counters;
use crate::types::BrokerId;
use crate::wire::frame::{FrameDecoder, SpareBuffers};
use crate::wire::requests::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::wire::{ApiVersions, Request, encode_request, split_response_header};

/// The largest answer before the other side has shown that it is a broker we trust.
const HANDSHAKE_LIMIT: usize = 64 * 1024;
/// The target of the warning that TLS or SASL has failed: told once for each address and cause.
const REFUSED: &str = "indelible::refused";
/// When the kernel starts to ask whether an idle peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The broker's id; -1 for a bootstrap address.
    pub(super) broker: BrokerId,
    pub(super) host: Arc<str>,
    pub(super) port: u16,
}

/// What every connection of a client shares.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pub(super) config: Arc<ClientConfig>,
    pub(super) thread: IoThread,
    pub(super) counters: Arc<Counters>,
    pub(super) spare: Arc<SpareBuffers>,
    pub(super) security: Arc<Secured>,
}

/// What is done with a socket before Kafka's protocol is trusted to it.
#[derive(Debug, Default)]
pub(crate) struct Secured {
    pub(super) tls: Option<TlsContext>,
    pub(super) sasl: Option<SaslConfig>,
    pub(super) refusals: Refusals,
    pub(super) told: Told,
}

impl Secured {
    /// Reads what the settings name.
    ///
    /// # Errors
    /// [`ConfigError`] for settings that contradict each other, and files that cannot be used.
    pub(crate) fn load(config: &ClientConfig) -> Result<Secured, ConfigError> {
        let security = config.security()?;
        let tls = security.tls.map(|tls| TlsContext::load(&tls)).transpose()?;
        if let Some(sasl) = security.sasl.as_ref().filter(|sasl| sasl.clear && sasl.mechanism.sends_secret())
            && tls.is_none()
        {
            warn!(mechanism = sasl.mechanism.name(), "credentials are sent in the clear: whoever listens can use them");
        }
        Ok(Secured { tls, sasl: security.sasl, refusals: Refusals::default(), told: Told::default() })
    }
}

impl Connector {
    /// Connects to the first of the target's addresses that answers the handshake within `limit` each. An address that
    /// refused the credentials is left alone for a while; what it said is said again.
    pub(super) async fn connect(&self, target: &Target, limit: Duration) -> Result<Connection, CallError> {
        let (refusals, pause) = (&self.security.refusals, self.config.reconnect_backoff_max);
        if let Some(failures) = refusals.standing(&target.host, target.port, pause, self.thread.now()) {
            return Err(self.failed(target, failures));
        }
        let outcome = self.try_addresses(target, limit).await;
        let failures = outcome.as_ref().err().map_or(&[][..], Vec::as_slice);
        let now = (self.thread.now(), self.thread.random().next());
        refusals.note(&target.host, target.port, failures, pause, now);
        outcome.map_err(|failures| self.failed(target, failures))
    }

    async fn try_addresses(&self, target: &Target, limit: Duration) -> Result<Connection, Vec<ConnectFailure>> {
        let name = format!("{}:{}", target.host, target.port);
        let addresses = match timeout(limit, lookup_host((&*target.host, target.port))).await {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => return Err(vec![lookup_failure(name, error)]),
            Err(_) => {
                let cause = ConnectCause::Lookup(format!("no answer within {limit:?}"));
                return Err(vec![ConnectFailure { address: name, cause }]);
            }
        };
        let mut addresses: Vec<SocketAddr> = addresses;
        addresses.dedup();
        let mut failures = Vec::new();
        for socket in addresses {
            let address = BrokerAddress { host: target.host.clone(), port: target.port, socket };
            match self.establish(&target.host, socket, limit).await {
                Ok(established) => {
                    self.security.told.forget(socket);
                    debug!(broker = target.broker, %address, "connected");
                    return Ok(Connection::start(
                        target.broker,
                        address,
                        established,
                        &self.config,
                        &self.thread,
                        &self.counters,
                    ));
                }
                Err(cause) => {
                    let of_settings = matches!(cause, ConnectCause::Tls(_) | ConnectCause::Sasl(_));
                    if of_settings && self.security.told.is_news(socket, &cause.to_string()) {
                        // It will not pass by itself, and whoever waits for a broker to come back waits in vain.
                        warn!(target: REFUSED, "{address}: {cause}");
                    } else {
                        debug!(broker = target.broker, %address, %cause, "cannot connect");
                    }
                    self.counters.connect_failures.add(1);
                    // The same broker by another address refuses the same credentials, and counts the attempts.
                    let refused = matches!(cause, ConnectCause::Sasl(SaslFailure::Refused { .. }));
                    failures.push(ConnectFailure { address: address.to_string(), cause });
                    if refused {
                        break;
                    }
                }
            }
        }
        if failures.is_empty() {
            let cause = ConnectCause::Lookup("the name has no address".to_owned());
            failures.push(ConnectFailure { address: name, cause });
        }
        Err(failures)
    }

    fn failed(&self, target: &Target, failures: Vec<ConnectFailure>) -> CallError {
        CallError::new(CallErrorKind::Connect(failures)).at(target.broker, format!("{}:{}", target.host, target.port))
    }

    async fn establish(&self, host: &str, address: SocketAddr, limit: Duration) -> Result<Established, ConnectCause> {
        let provider = Waiting::default();
        let attempt = async {
            match self.shake_hands(host, address, ApiVersionsRequest::VERSIONS.1, &provider).await {
                // Brokers before KIP-511 close the connection when they do not know the version: ask in the oldest.
                Err(ConnectCause::ClosedInHandshake) => self.shake_hands(host, address, 0, &provider).await,
                outcome => outcome,
            }
            .map_err(|cause| match cause {
                ConnectCause::ClosedInHandshake if self.security.tls.is_some() => {
                    ConnectCause::Tls(TlsFailure::ClosedAfter)
                }
                cause => cause,
            })
        };
        timeout(limit, attempt).await.unwrap_or_else(|_| match &self.security.sasl {
            Some(sasl) if provider.is_awaited() => Err(ConnectCause::Sasl(sasl::no_token(&*sasl.mechanism, limit))),
            _ => Err(ConnectCause::TimedOut(limit)),
        })
    }

    /// Connects and asks which versions the broker speaks (KIP-35, KIP-511). Nothing of an earlier connection is
    /// believed: the broker may have been upgraded or downgraded since.
    async fn shake_hands(
        &self,
        host: &str,
        address: SocketAddr,
        version: i16,
        provider: &Waiting,
    ) -> Result<Established, ConnectCause> {
        if let Some(sasl) = &self.security.sasl {
            sasl::refuse_cleartext(sasl, self.security.tls.is_some())?;
        }
        let stream = self.open(address).await.map_err(|error| ConnectCause::Io(error.kind(), error.to_string()))?;
        let stream = match &self.security.tls {
            Some(tls) => tls.connect(host, stream).await.map_err(ConnectCause::Tls)?,
            None => Stream::Plain(stream),
        };
        let decoder = FrameDecoder::with_spare(HANDSHAKE_LIMIT, self.spare.clone());
        let mut greeting = Greeting { stream, decoder, client_id: &self.config.client_id };
        let mut answer = greeting.ask_versions(version, 0).await?;
        let mut next_correlation = 1;
        if let Some(older) = answer.retry_version() {
            info!(%address, older, "the broker does not know ApiVersions v{version}");
            answer = greeting.ask_versions(older, 1).await?;
            next_correlation = 2;
        }
        if let Some(code) = answer.error.err() {
            return Err(ConnectCause::Broker(code));
        }
        let versions = ApiVersions::new(&answer);
        let mut session = None;
        if let Some(sasl) = &self.security.sasl {
            let dialogue = provider.during(sasl::begin(&sasl.mechanism, host)).await.map_err(ConnectCause::Sasl)?;
            let authenticated = sasl::authenticate(sasl, dialogue, &mut greeting, &versions, next_correlation).await?;
            debug!(%address, mechanism = sasl.mechanism.name(), lifetime = ?authenticated.lifetime, "authenticated");
            next_correlation = authenticated.next_correlation;
            let (mechanism, host) = (sasl.mechanism.clone(), Arc::from(host));
            session = authenticated.lifetime.map(|lifetime| Session { mechanism, host, lifetime });
        }
        let mut decoder = greeting.decoder;
        decoder.set_limit(self.config.max_response_bytes);
        Ok(Established { stream: greeting.stream, decoder, versions, next_correlation, session })
    }

    async fn open(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // Requests are whole when they are written: waiting for more would only delay them.
        socket.set_nodelay(true)?;
        if let Some(bytes) = self.config.send_buffer {
            SockRef::from(&socket).set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.config.receive_buffer {
            SockRef::from(&socket).set_recv_buffer_size(bytes)?;
        }
        SockRef::from(&socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
        socket.connect(address).await
    }
}

/// Whether a token or ticket is awaited, for whoever gives up waiting.
#[derive(Default)]
struct Waiting(AtomicBool);

impl Waiting {
    async fn during<T>(&self, awaited: impl Future<Output = T>) -> T {
        self.0.store(true, Ordering::Relaxed);
        let outcome = awaited.await;
        self.0.store(false, Ordering::Relaxed);
        outcome
    }

    fn is_awaited(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A socket before it is a connection: one question at a time.
pub(super) struct Greeting<'a> {
    stream: Stream,
    decoder: FrameDecoder,
    client_id: &'a str,
}

impl Greeting<'_> {
    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    async fn ask_versions(&mut self, version: i16, correlation: i32) -> Result<ApiVersionsResponse, ConnectCause> {
        let request = ApiVersionsRequest {
            client_software_name: env!("CARGO_PKG_NAME"),
            client_software_version: env!("CARGO_PKG_VERSION"),
        };
        self.ask(&request, version, correlation).await
    }

    pub(super) async fn ask<R: Request>(
        &mut self,
        request: &R,
        version: i16,
        correlation: i32,
    ) -> Result<R::Response, ConnectCause> {
        let parts = encode_request(request, version, correlation, self.client_id).map_err(ConnectCause::Wire)?;
        for part in parts {
            let written = self.stream.write_all(&part).await;
            sasl::wipe(part);
            if let Err(error) = written {
                return Err(self.broken(error).await);
            }
        }
        if let Err(error) = self.stream.flush().await {
            return Err(self.broken(error).await);
        }
        let frame = loop {
            if let Some(frame) = self.decoder.next().map_err(ConnectCause::Frame)? {
                break frame;
            }
            match self.stream.read_buf(self.decoder.buffer()).await {
                Ok(0) => return Err(ConnectCause::ClosedInHandshake),
                Ok(_) => {}
                Err(error) => return Err(self.broken(error).await),
            }
        };
        let (got, body) = split_response_header(R::KEY, version, frame).map_err(ConnectCause::Wire)?;
        if got != correlation {
            return Err(ConnectCause::Correlation { got, due: correlation });
        }
        R::decode(version, body).map_err(ConnectCause::Wire)
    }

    /// A broken connection during the handshake: a reset is how many servers say that they do not like what they read.
    async fn broken(&mut self, error: io::Error) -> ConnectCause {
        if let Some(failure) = self.stream.why_broken(&error).await {
            return ConnectCause::Tls(failure);
        }
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
                ConnectCause::ClosedInHandshake
            }
            kind => ConnectCause::Io(kind, error.to_string()),
        }
    }
}

fn lookup_failure(address: String, error: io::Error) -> ConnectFailure {
    ConnectFailure { address, cause: ConnectCause::Lookup(error.to_string()) }
}
