//! Tokens for OAUTHBEARER: where they come from, and for how long one is used.

use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::SaslError;
use crate::config::Secret;
use crate::error::words;
use crate::sync::lock;

/// A bearer token, and how long it is good for.
///
/// Its lifetime is the shortest of what [`Token::expires_in`] and [`Token::expires_at`] say and of its `exp` claim, if it
/// is a JSON Web Token (read without verifying it, which is the broker's to do). A token of unknown lifetime is asked for
/// anew for each authentication.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    value: Secret,
    expires_in: Option<Duration>,
    expires_at: Option<SystemTime>,
    extensions: Vec<(String, String)>,
}

impl Token {
    /// The token as it is sent: letters, digits, `-._~+/`, and `=` at its end.
    #[must_use]
    pub fn new(value: impl Into<Secret>) -> Token {
        Token { value: value.into(), expires_in: None, expires_at: None, extensions: Vec::new() }
    }

    /// For how long it is good from when it was asked for: OAuth's `expires_in`.
    #[must_use]
    pub fn expires_in(mut self, lifetime: Duration) -> Token {
        self.expires_in = Some(lifetime);
        self
    }

    /// Until when it is good.
    #[must_use]
    pub fn expires_at(mut self, time: SystemTime) -> Token {
        self.expires_at = Some(time);
        self
    }

    /// A SASL extension sent with it (KIP-342), such as Confluent's `logicalCluster`. The name is of letters only and not
    /// `auth`; the value is printable ASCII.
    #[must_use]
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Token {
        self.extensions.push((name.into(), value.into()));
        self
    }

    pub(super) fn value(&self) -> &str {
        self.value.expose()
    }

    pub(super) fn extensions(&self) -> &[(String, String)] {
        &self.extensions
    }

    /// When it expires, for a token asked for at `asked`.
    fn expiry(&self, asked: SystemTime) -> Option<SystemTime> {
        let relative = self.expires_in.and_then(|lifetime| asked.checked_add(lifetime));
        [relative, self.expires_at, jwt_expiry(self.value())].into_iter().flatten().min()
    }

    /// Whether it can be sent now.
    pub(super) fn check(&self, now: SystemTime) -> Result<(), SaslError> {
        let wrong = |why: &str| Err(SaslError::Credentials(why.to_owned()));
        // RFC 6750, 2.1.
        let body = self.value().trim_end_matches('=');
        match (self.value(), body) {
            ("", _) => return wrong("the token is empty"),
            (_, body) if body.is_empty() || !body.bytes().all(is_token_byte) => {
                return wrong("the token has characters that no bearer token has");
            }
            _ => {}
        }
        for (name, value) in &self.extensions {
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
                return wrong("a SASL extension's name is of letters only, and not empty");
            }
            if name == "auth" {
                return wrong("the SASL extension \"auth\" is reserved for the token");
            }
            if value.is_empty() || !value.bytes().all(is_value_byte) {
                return wrong(&format!("the SASL extension {name:?} has a value that is empty or not printable ASCII"));
            }
        }
        // A relative lifetime was told just now, so it cannot be over.
        let expiry = [self.expires_at, jwt_expiry(self.value())].into_iter().flatten().min();
        match expiry.filter(|expiry| *expiry <= now) {
            Some(expiry) => Err(SaslError::TokenExpired { ago: now.duration_since(expiry).unwrap_or(Duration::ZERO) }),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.extensions.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Token")
            .field("value", &self.value)
            .field("expires_in", &self.expires_in)
            .field("expires_at", &self.expires_at)
            .field("extensions", &names)
            .finish()
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte)
}

/// RFC 7628, 3.1, as Kafka's brokers check it.
fn is_value_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() || b" \t\r\n".contains(&byte)
}

/// The `exp` claim of a JSON Web Token (RFC 7519, 4.1.4). None for anything else.
pub(super) fn jwt_expiry(token: &str) -> Option<SystemTime> {
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let claims = zeroize::Zeroizing::new(URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?);
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let exp = claims.get("exp")?;
    // A number, which may have a fraction; casts of floats saturate.
    let seconds = exp.as_u64().or_else(|| exp.as_f64().map(|seconds| seconds as u64))?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// The token, or why there is none: one line without the secret.
pub type TokenFuture<'a> = Pin<Box<dyn Future<Output = Result<Token, Box<dyn Error + Send + Sync>>> + Send + 'a>>;

/// Gives tokens for OAUTHBEARER. A [`Token`] gives itself, and a closure that returns a future what that resolves to:
///
/// ```
/// use indelible::{SaslConfig, Token};
///
/// let sasl = SaslConfig::oauthbearer(|| async { std::fs::read_to_string("/run/token").map(|text| Token::new(text.trim())) });
/// # let _ = sasl;
/// ```
///
/// It is asked when a connection is made or authenticated again, and there is no token any more of which less than 80 % of
/// the lifetime is over. All connections of a client share one question. A token that a broker refused is not used again.
pub trait TokenProvider: Send + Sync + 'static {
    /// Gets a token. Runs on the client's I/O thread, inside a tokio runtime: work that blocks must go elsewhere. It has as
    /// long as the connection has to be made (`socket.connection.setup.timeout.ms`); dropping it gives up.
    fn token<'a>(&'a self) -> TokenFuture<'a>;
}

impl TokenProvider for Token {
    fn token<'a>(&'a self) -> TokenFuture<'a> {
        Box::pin(std::future::ready(Ok(self.clone())))
    }
}

impl<F, T, E> TokenProvider for F
where
    F: Fn() -> T + Send + Sync + 'static,
    T: Future<Output = Result<Token, E>> + Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    fn token<'a>(&'a self) -> TokenFuture<'a> {
        let asked = self();
        Box::pin(async move { asked.await.map_err(Into::into) })
    }
}

/// Keeps a token until most of its lifetime is over. Who comes while one is fetched waits for it.
pub(super) struct TokenCache {
    provider: Box<dyn TokenProvider>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    fetching: bool,
    waiting: Vec<Waker>,
    /// Fetches that ended, and how the last one did.
    ended: u64,
    last: Option<Result<Token, SaslError>>,
}

struct Held {
    token: Token,
    /// From when on another one is asked for.
    stale: SystemTime,
    expires: SystemTime,
}

enum Turn {
    Take(Result<Token, SaslError>),
    Fetch,
}

impl TokenCache {
    pub(super) fn new(provider: Box<dyn TokenProvider>) -> TokenCache {
        TokenCache { provider, state: Mutex::default() }
    }

    /// A token that is not stale at `now`.
    ///
    /// # Errors
    /// [`SaslError::Token`] when the provider has none, and no held one is still good.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the fetch to the next one who waits.
    pub(super) async fn get(&self, now: SystemTime) -> Result<Token, SaslError> {
        let arrived = lock(&self.state).ended;
        match poll_fn(|cx| self.turn(cx, arrived, now)).await {
            Turn::Take(outcome) => outcome,
            Turn::Fetch => {
                let fetching = Fetching(self);
                let fetched = self.provider.token().await;
                let fetched = fetched.map_err(|error| SaslError::Token(words(&chain(&*error))));
                let outcome = self.keep(fetched, now);
                drop(fetching);
                outcome
            }
        }
    }

    fn turn(&self, cx: &mut Context<'_>, arrived: u64, now: SystemTime) -> Poll<Turn> {
        let mut state = lock(&self.state);
        if state.fetching {
            if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.waiting.push(cx.waker().clone());
            }
            return Poll::Pending;
        }
        if state.ended != arrived
            && let Some(last) = state.last.clone()
        {
            return Poll::Ready(Turn::Take(last));
        }
        if let Some(held) = state.held.as_ref().filter(|held| now < held.stale) {
            return Poll::Ready(Turn::Take(Ok(held.token.clone())));
        }
        state.fetching = true;
        Poll::Ready(Turn::Fetch)
    }

    fn keep(&self, fetched: Result<Token, SaslError>, asked: SystemTime) -> Result<Token, SaslError> {
        let mut state = lock(&self.state);
        let outcome = match fetched {
            Ok(token) => {
                state.held = token.expiry(asked).filter(|expiry| *expiry > asked).map(|expires| {
                    let lifetime = expires.duration_since(asked).unwrap_or(Duration::ZERO);
                    // Java's sasl.login.refresh.window.factor.
                    Held { token: token.clone(), stale: asked + lifetime / 5 * 4, expires }
                });
                Ok(token)
            }
            // The old one still serves for the rest of its time.
            Err(error) => match state.held.as_ref().filter(|held| asked < held.expires) {
                Some(held) => Ok(held.token.clone()),
                None => Err(error),
            },
        };
        state.ended += 1;
        state.last = Some(outcome.clone());
        outcome
    }

    /// The next one is asked for anew.
    pub(super) fn forget(&self) {
        lock(&self.state).held = None;
    }
}

/// Somebody fetches. Its drop lets the others go on, whatever came of it.
struct Fetching<'a>(&'a TokenCache);

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.fetching = false;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
