//! What can go wrong between this client and a broker, and while it learns where topics are.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{SaslFailure, TlsFailure};
use crate::types::BrokerId;
use crate::wire::frame::FrameError;
use crate::wire::{ApiKey, ErrorCode, WireError};

/// A request to a broker that got no usable answer, or a connection that could not be made. Cheap to clone: everybody
/// who waited for the same thing gets the same cause.
#[derive(Clone)]
pub struct CallError(Arc<Call>);

#[derive(Clone)]
struct Call {
    broker: Option<BrokerId>,
    address: Option<String>,
    api: Option<(ApiKey, Option<i16>)>,
    kind: CallErrorKind,
    sent: bool,
}

/// The cause of a [`CallError`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CallErrorKind {
    /// No connection could be made: every address tried, each with its cause.
    Connect(Vec<ConnectFailure>),
    /// The connection ended before the answer came; why, as far as it is known.
    Disconnected(String),
    /// The answer did not come within this time. The connection is closed: nobody could tell a late answer apart from
    /// the next one's delay.
    TimedOut(Duration),
    /// This client has closed the connection or is shutting down.
    Closed,
    /// The request cannot be said in a version that the broker speaks, or its answer cannot be read.
    Wire(WireError),
    /// What came is not a frame of Kafka's protocol.
    Frame(FrameError),
    /// A whole frame came that answers no request of ours, or another one than is due.
    Unsolicited {
        /// The correlation id that came.
        got: i32,
        /// The one that was due; none when nothing was in flight.
        due: Option<i32>,
    },
    /// The broker answered with an error.
    Broker(ErrorCode, Option<String>),
    /// The cluster's metadata does not know a broker of this id.
    UnknownBroker,
}

/// One address that could not be connected to.
#[derive(Clone, Debug)]
pub struct ConnectFailure {
    /// The name as given, and the address it was resolved to: `kafka-1:9092 (10.0.0.7:9092)`.
    pub address: String,
    /// Why not.
    pub cause: ConnectCause,
}

/// Why an address could not be connected to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectCause {
    /// The name has no address, or the look-up failed.
    Lookup(String),
    /// The operating system refused: connection refused, network unreachable, ...
    Io(io::ErrorKind, String),
    /// No connection, or no answer to the handshake, within this time.
    TimedOut(Duration),
    /// Connected, but closed before the handshake was answered.
    ClosedInHandshake,
    /// Connected, but what answered does not speak Kafka's protocol in the clear.
    Frame(FrameError),
    /// The handshake's answer cannot be read.
    Wire(WireError),
    /// The handshake was answered with another correlation id than asked with.
    Correlation {
        /// The one that came.
        got: i32,
        /// The one that was due.
        due: i32,
    },
    /// The broker refused the handshake.
    Broker(ErrorCode),
    /// Connected, but not by TLS: which check failed.
    Tls(TlsFailure),
    /// Connected, but the broker and this client do not agree who it is.
    Sasl(SaslFailure),
    /// Connected, but the first request failed.
    Call(CallError),
}

impl CallError {
    /// An error of `kind`, nothing of the request sent.
    pub(crate) fn new(kind: CallErrorKind) -> CallError {
        CallError(Arc::new(Call { broker: None, address: None, api: None, kind, sent: false }))
    }

    fn with(self, change: impl FnOnce(&mut Call)) -> CallError {
        let mut call = Arc::unwrap_or_clone(self.0);
        change(&mut call);
        CallError(Arc::new(call))
    }

    /// Names the broker. Ids below 0 stand for an address whose broker is not known yet.
    pub(crate) fn at(self, broker: BrokerId, address: impl fmt::Display) -> CallError {
        self.with(|call| {
            call.broker = (broker >= 0).then_some(broker);
            call.address = Some(address.to_string());
        })
    }

    /// Names the broker that has no address.
    pub(crate) fn at_broker(self, broker: BrokerId) -> CallError {
        self.with(|call| call.broker = (broker >= 0).then_some(broker))
    }

    /// Names the request.
    pub(crate) fn during(self, api: ApiKey, version: Option<i16>) -> CallError {
        self.with(|call| call.api = Some((api, version)))
    }

    /// Says whether bytes of the request may have reached the broker.
    pub(crate) fn sent(self, sent: bool) -> CallError {
        self.with(|call| call.sent = sent)
    }

    /// The cause.
    pub fn kind(&self) -> &CallErrorKind {
        &self.0.kind
    }

    /// The broker's id, when it is known.
    pub fn broker(&self) -> Option<BrokerId> {
        self.0.broker
    }

    /// The broker's address, when there is one.
    pub fn address(&self) -> Option<&str> {
        self.0.address.as_deref()
    }

    /// The request's API, unless the error happened before there was a request.
    pub fn api(&self) -> Option<ApiKey> {
        self.0.api.map(|(api, _)| api)
    }

    /// Whether the broker may have done what the request asked although no answer came: bytes of it may have left this
    /// process. When this is false the request was certainly not applied.
    pub fn may_have_been_applied(&self) -> bool {
        self.0.sent
    }

    /// The broker's error code, when the error is its answer.
    pub fn code(&self) -> Option<ErrorCode> {
        match &self.0.kind {
            CallErrorKind::Broker(code, _) => Some(*code),
            _ => None,
        }
    }

    /// Whether the same call may succeed later without anybody changing the settings. Of what a broker answered only
    /// its own verdict table can tell, so this is false for [`CallErrorKind::Broker`], save for the two codes that mean
    /// that a coordinator is not ready yet: a fresh cluster answers them until it has made its offsets topic.
    pub fn is_retryable(&self) -> bool {
        match &self.0.kind {
            CallErrorKind::Connect(_)
            | CallErrorKind::Disconnected(_)
            | CallErrorKind::TimedOut(_)
            | CallErrorKind::Frame(_)
            | CallErrorKind::Unsolicited { .. }
            | CallErrorKind::UnknownBroker => true,
            CallErrorKind::Broker(code, _) => {
                matches!(*code, ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
            }
            CallErrorKind::Closed | CallErrorKind::Wire(_) => false,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let call = &*self.0;
        match call.api {
            Some((api, Some(version))) => write!(f, "request {api} v{version}")?,
            Some((api, None)) => write!(f, "request {api}")?,
            None => f.write_str("connection")?,
        }
        match (call.broker, &call.address) {
            (Some(broker), Some(address)) => write!(f, " to broker {broker} ({address})")?,
            (Some(broker), None) => write!(f, " to broker {broker}")?,
            (None, Some(address)) => write!(f, " to {address}")?,
            (None, None) => {}
        }
        match &call.kind {
            CallErrorKind::TimedOut(after) => write!(f, " timed out after {}", Human(*after))?,
            kind => write!(f, " failed: {kind}")?,
        }
        match (&call.kind, call.sent) {
            (CallErrorKind::Broker(..) | CallErrorKind::Connect(_) | CallErrorKind::UnknownBroker, _) => Ok(()),
            (_, true) => f.write_str("; the broker may have applied it"),
            (_, false) if call.api.is_some() => f.write_str("; it was not sent"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallError({self})")
    }
}

impl std::error::Error for CallError {}

impl fmt::Display for CallErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallErrorKind::Connect(failures) if failures.is_empty() => f.write_str("there was no address to try"),
            CallErrorKind::Connect(failures) => {
                for (i, failure) in failures.iter().enumerate() {
                    write!(f, "{}{failure}", if i == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
            CallErrorKind::Disconnected(why) => write!(f, "the connection ended: {why}"),
            CallErrorKind::TimedOut(after) => write!(f, "no answer within {}", Human(*after)),
            CallErrorKind::Closed => f.write_str("this client has closed the connection"),
            CallErrorKind::Wire(error) => error.fmt(f),
            CallErrorKind::Frame(error) => error.fmt(f),
            CallErrorKind::Unsolicited { got, due: Some(due) } => {
                write!(f, "an answer with correlation id {got} came where {due} was due; the connection is closed")
            }
            CallErrorKind::Unsolicited { got, due: None } => {
                write!(
                    f,
                    "an answer with correlation id {got} came although nothing was asked; the connection is closed"
                )
            }
            CallErrorKind::Broker(code, None) => write!(f, "{code}: {}", code.meaning()),
            CallErrorKind::Broker(code, Some(message)) => write!(f, "{code}: {message}"),
            CallErrorKind::UnknownBroker => f.write_str("the cluster's metadata has no broker of this id"),
        }
    }
}

impl fmt::Display for ConnectFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.cause)
    }
}

impl fmt::Display for ConnectCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectCause::Lookup(why) => write!(f, "the name cannot be resolved: {why}"),
            ConnectCause::Io(io::ErrorKind::ConnectionRefused, _) => {
                f.write_str("connection refused: nothing listens on this port")
            }
            ConnectCause::Io(_, why) => f.write_str(why),
            ConnectCause::TimedOut(after) => write!(
                f,
                "no connection or no answer within {}: check firewall and port; a listener that expects TLS, or does \
                 not, may also stay silent",
                Human(*after)
            ),
            ConnectCause::ClosedInHandshake => f.write_str(
                "connected, but closed before the first answer: the port may expect TLS or SASL, or not be Kafka's",
            ),
            ConnectCause::Frame(error) => error.fmt(f),
            ConnectCause::Tls(failure) => failure.fmt(f),
            ConnectCause::Sasl(failure) => failure.fmt(f),
            ConnectCause::Wire(error) => error.fmt(f),
            ConnectCause::Correlation { got, due } => {
                write!(f, "the handshake was answered with correlation id {got} where {due} was due")
            }
            ConnectCause::Call(error) => write!(f, "connected, but the {error}"),
            ConnectCause::Broker(code) => write!(f, "the handshake was refused: {code}: {}", code.meaning()),
        }
    }
}

/// Why a topic's partitions could not be learnt.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The brokers answered, and none knew the topic.
    #[error("topic {topic:?} does not exist{}; create it, or check its name", unknown_for(.waited))]
    UnknownTopic {
        /// Its name.
        topic: Arc<str>,
        /// How long this client asked.
        waited: Duration,
    },
    /// The principal may not describe the topic.
    #[error("not authorized for topic {topic:?}: the principal needs DESCRIBE, and WRITE or READ, on it")]
    NotAuthorized {
        /// Its name.
        topic: Arc<str>,
    },
    /// No topic can have this name.
    #[error("{topic:?} is no valid topic name: it takes 1 to 249 letters, digits, '.', '_' and '-', not '.' or '..'")]
    InvalidTopicName {
        /// The name.
        topic: Arc<str>,
    },
    /// The brokers answered for the topic with another error until the time was up.
    #[error("the brokers answered {code} for topic {topic:?} for {}: {}", Human(*.waited), .code.meaning())]
    Broker {
        /// Its name.
        topic: Arc<str>,
        /// The last answer.
        code: ErrorCode,
        /// How long this client asked.
        waited: Duration,
    },
    /// No broker could be asked until the time was up.
    #[error("no broker could be asked for metadata: {0}")]
    NoBrokerReachable(CallError),
    /// The client is shutting down.
    #[error("the client is shutting down")]
    Closed,
}

/// How long the brokers did not know a topic, where it was asked for more than once.
fn unknown_for(waited: &Duration) -> String {
    if waited.is_zero() { String::new() } else { format!(": the brokers did not know it for {}", Human(*waited)) }
}

/// A duration as people write it: `30 s`, `250 ms`, `1.5 s`.
pub(crate) struct Human(pub(crate) Duration);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            millis if millis < 1000 => write!(f, "{millis} ms"),
            millis if millis % 1000 == 0 => write!(f, "{} s", millis / 1000),
            _ => write!(f, "{:.1} s", self.0.as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_where_and_whether_it_may_have_been_applied() {
        let error = CallError::new(CallErrorKind::TimedOut(Duration::from_secs(30)))
            .at(2, "10.0.0.7:9092")
            .during(ApiKey::Produce, Some(11))
            .sent(true);
        assert_eq!(
            error.to_string(),
            "request Produce v11 to broker 2 (10.0.0.7:9092) timed out after 30 s; the broker may have applied it"
        );
        let error = CallError::new(CallErrorKind::Connect(vec![
            ConnectFailure {
                address: "a:1".into(),
                cause: ConnectCause::Io(io::ErrorKind::ConnectionRefused, "".into()),
            },
            ConnectFailure { address: "b:2".into(), cause: ConnectCause::ClosedInHandshake },
        ]));
        assert!(error.to_string().starts_with("connection failed: a:1: connection refused"), "{error}");
        assert!(error.to_string().contains("; b:2: connected, but closed"), "{error}");
    }
}
