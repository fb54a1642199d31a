//! SASL mechanisms without sockets: what to send, and whether the answers prove what they must.
//!
//! A mechanism is a factory of exchanges, one for each authentication. The exchange is asked for its first bytes, then is
//! given each challenge of the broker until it says that it is satisfied. `io::sasl` carries the bytes by
//! SaslHandshake and SaslAuthenticate (KIP-43, KIP-152, KIP-368).

mod hidden;
mod oauthbearer;
mod plain;
mod scram;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use crate::error::Human;

pub(crate) use hidden::without;
pub(crate) use oauthbearer::OAuthBearer;
pub(crate) use plain::Plain;
pub(crate) use scram::{Hash, Scram};
pub use token::{Token, TokenFuture, TokenProvider};

/// A SASL mechanism: how one proves who one is. PLAIN, SCRAM and OAUTHBEARER come with this crate
/// ([`crate::SaslConfig`]); implement it for others, such as GSSAPI by a library of your choice, and give it to
/// [`crate::SaslConfig::mechanism`]. A panic in it, or in its exchange, fails the authentication, as an error does.
pub trait SaslMechanism: fmt::Debug + Send + Sync + 'static {
    /// Its name as the broker offers it: `SCRAM-SHA-512`, `GSSAPI`.
    fn name(&self) -> &str;

    /// Begins an authentication: when a connection is made, and on an open connection before its session ends (KIP-368).
    /// May wait for a ticket or token; it runs on the client's I/O thread, so work that blocks must go elsewhere.
    fn begin<'a>(&'a self, context: SaslContext<'a>) -> SaslFuture<'a>;

    /// Whether what is sent lets whoever reads it log in: such a mechanism is refused without TLS.
    fn sends_secret(&self) -> bool;
}

/// What an authentication begins with.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct SaslContext<'a> {
    /// The broker's host, as the address from settings or metadata names it.
    pub host: &'a str,
    /// The time.
    pub now: SystemTime,
    /// 24 bytes from the operating system's random generator, for a nonce. New each time.
    pub random: &'a [u8; 24],
}

impl fmt::Debug for SaslContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslContext").field("host", &self.host).field("now", &self.now).finish_non_exhaustive()
    }
}

/// The exchange to be, or why there is none.
pub type SaslFuture<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn SaslExchange>, SaslError>> + Send + 'a>>;

/// One authentication under way.
pub trait SaslExchange: Send {
    /// The bytes to begin with; empty for a mechanism in which the broker begins.
    ///
    /// # Errors
    /// [`SaslError`]: nothing is sent then.
    fn first(&mut self) -> Result<Zeroizing<Vec<u8>>, SaslError>;

    /// Takes the broker's answer. `Some` are the next bytes to send; `None` says that the broker has proved what it
    /// must, and ends the exchange. It is not called again after that, or after an error.
    ///
    /// # Errors
    /// [`SaslError`]: the broker failed a check. The connection is closed.
    fn next(&mut self, challenge: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, SaslError>;

    /// Why the broker is going to refuse, if an answer before said so in the mechanism's own words. Told in the error.
    /// Default none.
    fn refusal(&self) -> Option<String> {
        None
    }
}

/// Why an authentication failed on this side: which check, in one line, without any secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SaslError {
    /// What the broker sent is not what the mechanism says.
    #[error("the broker's {message} is malformed: {why}")]
    Malformed {
        /// Which message.
        message: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The broker's nonce does not begin with ours (RFC 5802, 5.1).
    #[error("the broker's nonce does not begin with ours: its answer belongs to another exchange")]
    Nonce,
    /// The broker asks for too few iterations to protect the password, or for too many to be computed.
    #[error("the broker asks for {asked} iterations of its hash; {least} to {most} are accepted")]
    Iterations {
        /// What it asks for.
        asked: u64,
        /// The least accepted.
        least: u32,
        /// The most accepted.
        most: u32,
    },
    /// The broker does not know the password either.
    #[error("the broker's signature is wrong: it does not know the password, and may not be your broker")]
    ServerSignature,
    /// The broker refused, in the mechanism's own words.
    #[error("the broker refused: {0}")]
    Refused(String),
    /// A user name or password that the mechanism cannot take.
    #[error("{0}")]
    Credentials(String),
    /// There is no token, or ticket.
    #[error("no token: {0}")]
    Token(String),
    /// The token is of no use any more; it was not sent.
    #[error("the token expired {} ago by this machine's clock: its provider must give a newer one", Human(*.ago))]
    TokenExpired {
        /// For how long.
        ago: Duration,
    },
    /// The code of a mechanism or token provider panicked. Its message is not repeated: it may hold anything.
    #[error("the mechanism or token provider panicked: that is a bug in it, told on standard error")]
    Panicked,
}
