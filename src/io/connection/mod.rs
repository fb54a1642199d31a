//! One connection to one broker: requests go out in the order of their submission, answers come back in the same.
//!
//! The handle queues and the driver, a task on the I/O thread, owns the socket. The bytes of a request are frozen when it
//! is submitted; the driver writes what is queued in vectored writes, without a copy.

mod driver;
#[cfg(test)]
mod tests;
mod throttle;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::stream::Stream;
use super::thread::IoThread;
use crate::config::ClientConfig;
use crate::error::{CallError, CallErrorKind};
use crate::metrics::Counters;
use crate::sync::lock;
use crate::types::BrokerId;
use crate::wire::frame::FrameDecoder;
use crate::wire::{ApiKey, ApiVersions, Request, WireError, encode_request, split_response_header};
pub(super) use driver::Session;
use driver::{Driver, Reauthentication};
pub(crate) use throttle::Throttled;

/// A connection that has shaken hands. When the last clone is dropped it is closed, after what is in flight.
#[derive(Clone)]
pub(crate) struct Connection {
    handle: Arc<Handle>,
}

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BrokerAddress {
    /// The host as metadata or settings give it.
    pub(crate) host: Arc<str>,
    /// The port.
    pub(crate) port: u16,
    /// What the host was resolved to.
    pub(crate) socket: SocketAddr,
}

/// Dropped with the last [`Connection`].
struct Handle {
    shared: Arc<Shared>,
}

/// What handles and driver share.
struct Shared {
    broker: BrokerId,
    address: BrokerAddress,
    versions: ApiVersions,
    client_id: String,
    counters: Arc<Counters>,
    queue: Mutex<Queue>,
    /// Requests submitted and not resolved.
    in_flight: AtomicUsize,
}

struct Queue {
    requests: VecDeque<Outgoing>,
    next_correlation: i32,
    /// The driver's waker, while it sleeps.
    waker: Option<Waker>,
    /// Until when the broker wants silence.
    throttled_until: Option<Instant>,
    /// How the last handle or [`Connection::close`] asked for the end.
    /// Nobody holds the connection any more: it ends when nothing is in flight.
    draining: bool,
    /// Why the connection has ended.
    ended: Option<CallErrorKind>,
}

impl Queue {
    /// Whether nobody holds the connection any more, and nothing waits to be sent.
    fn is_drained(&self) -> bool {
        self.draining && self.requests.is_empty()
    }

    /// The next request's number.
    fn take_correlation(&mut self) -> i32 {
        let next = self.next_correlation.checked_add(1).unwrap_or(0);
        std::mem::replace(&mut self.next_correlation, next)
    }
}

/// A request on its way to the driver.
struct Outgoing {
    parts: Vec<Bytes>,
    ticket: Ticket,
}

/// Who waits for what.
struct Ticket {
    correlation: i32,
    api: ApiKey,
    version: i16,
    timeout: Duration,
    waiter: Waiter,
}

type AnswerFn = Box<dyn FnOnce(Result<Bytes, CallError>, &mut dyn FnMut(Duration)) + Send>;

enum Waiter {
    /// Takes the response frame. Tells for how long the broker wants silence before it tells whoever waits.
    Answer(AnswerFn),
    /// acks=0: the broker does not answer.
    Written(oneshot::Sender<Result<(), CallError>>),
    /// The driver itself.
    Sasl,
}

/// The answer to a request. Resolves under any executor.
///
/// # Cancel safety
/// Dropping it does not take the request back: it may have been sent, or will be.
#[derive(Debug)]
#[must_use = "the request is under way; its outcome is in here"]
pub(crate) struct Answer<T>(oneshot::Receiver<Result<T, CallError>>);

impl<T> Future for Answer<T> {
    type Output = Result<T, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // The sender is only dropped unused when the I/O thread is torn down with its tasks; then nothing is known.
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|outcome| outcome.unwrap_or_else(|_| Err(CallError::new(CallErrorKind::Closed).sent(true))))
    }
}

/// What the handshake leaves to the connection.
pub(super) struct Established {
    pub(super) stream: Stream,
    pub(super) decoder: FrameDecoder,
    pub(super) versions: ApiVersions,
    pub(super) next_correlation: i32,
    /// When the broker wants to be told again who this is.
    pub(super) session: Option<Session>,
}

impl Connection {
    /// Starts the driver of a connection that has shaken hands.
    pub(super) fn start(
        broker: BrokerId,
        address: BrokerAddress,
        established: Established,
        config: &ClientConfig,
        thread: &IoThread,
        counters: &Arc<Counters>,
    ) -> Connection {
        let shared = Arc::new(Shared {
            broker,
            address,
            versions: established.versions,
            client_id: config.client_id.clone(),
            counters: counters.clone(),
            queue: Mutex::new(Queue {
                requests: VecDeque::new(),
                next_correlation: established.next_correlation,
                waker: None,
                throttled_until: None,
                draining: false,
                ended: None,
            }),
            in_flight: AtomicUsize::new(0),
        });
        let idle = Some(config.connections_max_idle).filter(|idle| !idle.is_zero());
        let session = established.session.map(|session| Reauthentication::new(session, config.request_timeout));
        let driver = Driver::new(shared.clone(), established.stream, established.decoder, idle, session);
        thread.spawn(driver.run());
        Connection { handle: Arc::new(Handle { shared }) }
    }

    /// The broker's id; below 0 for a bootstrap address, whose broker is not known.
    pub(crate) fn broker(&self) -> BrokerId {
        self.handle.shared.broker
    }

    /// Where it leads.
    pub(crate) fn address(&self) -> &BrokerAddress {
        &self.handle.shared.address
    }

    /// What the broker offers.
    pub(crate) fn versions(&self) -> &ApiVersions {
        &self.handle.shared.versions
    }

    /// Whether it has ended, or is about to.
    pub(crate) fn is_closed(&self) -> bool {
        let queue = lock(&self.handle.shared.queue);
        queue.ended.is_some() || queue.draining
    }

    /// Requests submitted and not resolved.
    pub(crate) fn in_flight(&self) -> usize {
        self.handle.shared.in_flight.load(Ordering::Relaxed)
    }

    /// Until when the broker wants silence, if it does (KIP-219). The connection keeps it by itself.
    pub(crate) fn throttled_until(&self) -> Option<Instant> {
        lock(&self.handle.shared.queue).throttled_until
    }

    /// Queues `request` at once, after all submitted before it, in the highest version both sides speak.
    ///
    /// # Errors
    /// Resolves to [`CallError`]; `timeout` counts from when the request is given to the socket.
    ///
    /// # Cancel safety
    /// Dropping the future does not take the request back.
    pub(crate) fn submit<R: Request>(&self, request: &R, timeout: Duration) -> Answer<R::Response>
    where
        R::Response: Throttled + Send + 'static,
    {
        self.submit_at_most(request, timeout, i16::MAX)
    }

    /// As [`Connection::submit`], in no version above `ceiling`: for what only older versions can say, such as topics by
    /// name while their ids are unknown.
    pub(crate) fn submit_at_most<R: Request>(&self, request: &R, timeout: Duration, ceiling: i16) -> Answer<R::Response>
    where
        R::Response: Throttled + Send + 'static,
    {
        let (give, take) = oneshot::channel();
        let shared = &self.handle.shared;
        match shared.versions.pick_at_most::<R>(ceiling) {
            Err(error) => {
                let _ = give.send(Err(shared.error(CallErrorKind::Wire(error)).during(R::KEY, None)));
            }
            Ok(version) => {
                let weak = Arc::downgrade(shared);
                let waiter = Waiter::Answer(Box::new(move |frame, throttle| {
                    let decoded = frame.and_then(|frame| {
                        decode::<R>(version, frame).map_err(|error| {
                            let error = CallErrorKind::Wire(error);
                            match weak.upgrade() {
                                Some(shared) => shared.error(error),
                                None => CallError::new(error),
                            }
                            .during(R::KEY, Some(version))
                            .sent(true)
                        })
                    });
                    throttle(decoded.as_ref().map_or(Duration::ZERO, Throttled::throttle));
                    let _ = give.send(decoded);
                }));
                shared.submit(request, version, timeout, waiter);
            }
        }
        Answer(take)
    }

    /// Queues a request that the broker does not answer (Produce with acks=0). Resolves when its last byte is written,
    /// which says nothing about its fate.
    pub(crate) fn submit_unanswered<R: Request>(&self, request: &R, timeout: Duration) -> Answer<()> {
        let (give, take) = oneshot::channel();
        let shared = &self.handle.shared;
        match shared.versions.pick::<R>() {
            Err(error) => {
                let _ = give.send(Err(shared.error(CallErrorKind::Wire(error)).during(R::KEY, None)));
            }
            Ok(version) => shared.submit(request, version, timeout, Waiter::Written(give)),
        }
        Answer(take)
    }

    /// What two clones of one connection share.
    #[cfg(test)]
    pub(crate) fn handle_for_tests(&self) -> Arc<impl Sized + use<>> {
        self.handle.clone()
    }
}

fn decode<R: Request>(version: i16, frame: Bytes) -> Result<R::Response, WireError> {
    let (_, body) = split_response_header(R::KEY, version, frame)?;
    R::decode(version, body)
}

impl Shared {
    /// An error that names this broker.
    fn error(&self, kind: CallErrorKind) -> CallError {
        CallError::new(kind).at(self.broker, &self.address)
    }

    fn submit<R: Request>(&self, request: &R, version: i16, timeout: Duration, waiter: Waiter) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.counters.requests.add(1);
        let mut ticket = Ticket { correlation: 0, api: R::KEY, version, timeout, waiter };
        let mut queue = lock(&self.queue);
        if let Some(why) = queue.ended.clone() {
            drop(queue);
            return self.fail(ticket, why, false);
        }
        // Encoded under the lock: the correlation id is part of the bytes, and the order of both must be one.
        ticket.correlation = queue.next_correlation;
        match encode_request(request, version, ticket.correlation, &self.client_id) {
            Err(error) => {
                drop(queue);
                self.fail(ticket, CallErrorKind::Wire(error), false);
            }
            Ok(parts) => {
                queue.take_correlation();
                queue.requests.push_back(Outgoing { parts, ticket });
                let waker = queue.waker.take();
                drop(queue);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        }
    }

    /// Resolves a request with an error.
    fn fail(&self, ticket: Ticket, why: CallErrorKind, sent: bool) {
        let error = self.error(why).during(ticket.api, Some(ticket.version)).sent(sent);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        match ticket.waiter {
            Waiter::Answer(take) => take(Err(error), &mut |_| {}),
            Waiter::Written(give) => {
                let _ = give.send(Err(error));
            }
            Waiter::Sasl => {}
        }
    }

    fn drain(&self) {
        let mut queue = lock(&self.queue);
        queue.draining = true;
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.drain();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection(broker {}, {})", self.broker(), self.address())
    }
}

impl fmt::Display for BrokerAddress {
    /// `kafka-1:9092, 10.0.0.7`, or just `10.0.0.7:9092` when that is how it was given.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = self.socket.ip().to_string();
        match *self.host == *ip {
            true => self.socket.fmt(f),
            false => write!(f, "{}:{}, {ip}", self.host, self.port),
        }
    }
}
