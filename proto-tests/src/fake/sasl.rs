//! SASL on the fake's listeners: settings, what one connection has proved so far, and the lies of a hostile broker.
//!
//! The order of requests, the words of refusals and what is closed without an answer are those of Kafka's
//! `SaslServerAuthenticator`: before authentication ApiVersions once, SaslHandshake, then SaslAuthenticate until it is over;
//! afterwards everything, until the session ends (KIP-368). Left out: tokens without a header (SaslHandshake version 0),
//! GSSAPI, delegation tokens.

use super::code;
use super::scram::{Credential, Hash, ScramServer};
use super::security::{Authenticated, SecuritySeen};
use super::state::State;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Iterations of SCRAM unless a test says otherwise; Kafka's least.
const ITERATIONS: u32 = 4096;

/// Who may log in, and how. Given to the builder of the cluster.
#[derive(Debug, Clone)]
pub struct FakeSasl {
    mechanisms: Vec<String>,
    users: BTreeMap<String, User>,
    tokens: Vec<String>,
    iterations: u32,
    session_lifetime: Option<Duration>,
    reauthentication_interval: Duration,
    failure_delay: Duration,
    pub(crate) fault: Option<SaslFault>,
}

#[derive(Debug, Clone)]
struct User {
    password: String,
    scram: Vec<(Hash, Credential)>,
}

impl User {
    fn new(password: &str, iterations: u32) -> Self {
        let one = |hash| (hash, Credential::new(hash, password, iterations));
        Self { password: password.to_owned(), scram: vec![one(Hash::Sha256), one(Hash::Sha512)] }
    }
}

impl Default for FakeSasl {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeSasl {
    /// PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER, and nobody who may log in; sessions do not end.
    #[must_use]
    pub fn new() -> Self {
        let all = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];
        Self {
            mechanisms: all.map(str::to_owned).to_vec(),
            users: BTreeMap::new(),
            tokens: Vec::new(),
            iterations: ITERATIONS,
            session_lifetime: None,
            reauthentication_interval: Duration::ZERO,
            failure_delay: Duration::ZERO,
            fault: None,
        }
    }

    /// A user of PLAIN and SCRAM; one of the same name is replaced.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.set_user(name, password);
        self
    }

    /// A token that OAUTHBEARER takes. Its principal is `token`.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.tokens.push(token.to_owned());
        self
    }

    /// The mechanisms offered, instead of all four.
    #[must_use]
    pub fn mechanisms(mut self, mechanisms: &[&str]) -> Self {
        self.set_mechanisms(mechanisms);
        self
    }

    /// `connections.max.reauth.ms`: how long a session lives unless it is proved again. Default: for ever.
    #[must_use]
    pub fn session_lifetime(mut self, lifetime: Duration) -> Self {
        self.session_lifetime = Some(lifetime);
        self
    }

    /// How soon after the last one a connection may authenticate again. Default 0, so that tests are quick; a real broker
    /// wants one second, and refuses an earlier SaslHandshake with ILLEGAL_SASL_STATE.
    #[must_use]
    pub fn reauthentication_interval(mut self, interval: Duration) -> Self {
        self.reauthentication_interval = interval;
        self
    }

    /// `connection.failed.authentication.delay.ms`: how late a refusal is told. Default 0; a real broker's is 100 ms.
    #[must_use]
    pub fn failure_delay(mut self, delay: Duration) -> Self {
        self.failure_delay = delay;
        self
    }

    /// Iterations of SCRAM for the users named after this. Default 4096.
    #[must_use]
    pub fn iterations(mut self, iterations: u32) -> Self {
        self.iterations = iterations;
        self
    }

    /// A lie from the start.
    #[must_use]
    pub fn fault(mut self, fault: SaslFault) -> Self {
        self.fault = Some(fault);
        self
    }

    pub(crate) fn set_user(&mut self, name: &str, password: &str) {
        self.users.insert(name.to_owned(), User::new(password, self.iterations));
    }

    pub(crate) fn remove_user(&mut self, name: &str) {
        self.users.remove(name);
    }

    pub(crate) fn set_tokens(&mut self, tokens: &[&str]) {
        self.tokens = tokens.iter().map(|token| (*token).to_owned()).collect();
    }

    pub(crate) fn set_mechanisms(&mut self, mechanisms: &[&str]) {
        self.mechanisms = mechanisms.iter().map(|name| (*name).to_owned()).collect();
    }

    pub(crate) fn set_session_lifetime(&mut self, lifetime: Option<Duration>) {
        self.session_lifetime = lifetime;
    }
}

/// A lie of a hostile or broken broker, told in every exchange until it is taken back. For frames that are too large, for
/// silence and for answers that are no answers there is [`super::FaultAction`] with API key 17 or 36.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SaslFault {
    /// The signature that is to prove that the broker knows the password is another.
    WrongServerSignature,
    /// The nonce does not begin with the client's.
    ForeignNonce,
    /// The nonce is the client's, with nothing of the broker's behind it.
    UnextendedNonce,
    /// So many iterations.
    Iterations(u64),
    /// SCRAM's first answer, word by word; `{nonce}` becomes the right nonce.
    ServerFirst(String),
    /// SCRAM's last answer, word by word; empty is a success without a proof.
    ServerFinal(String),
    /// Says at the first message of the client that all is well.
    SuccessAtOnce,
    /// OAUTHBEARER: this challenge instead of success (RFC 7628, 3.2.2), whatever the token.
    ErrorChallenge(String),
    /// Asks again for ever.
    EndlessChallenges(String),
    /// Refuses in these words, after the first message.
    Refuse(String),
    /// Names this lifetime of the session, in milliseconds, and does not keep to it.
    Lifetime(i64),
}

/// How an exchange goes on.
#[derive(Debug)]
pub(crate) enum Step {
    Challenge(Vec<u8>),
    Done {
        answer: Vec<u8>,
        principal: String,
    },
    /// In these words.
    Refused(String),
    /// In the words that tell nothing.
    BadCredentials,
}

/// What one connection has proved.
#[derive(Debug, Default)]
pub(crate) struct Session(Mutex<Proved>);

#[derive(Debug, Default)]
struct Proved {
    phase: Phase,
    /// Mechanism and principal of the first authentication: later ones must keep them.
    first: Option<(String, String)>,
    expires_ms: Option<i64>,
    reauthenticated_ms: Option<i64>,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Initial,
    /// ApiVersions was answered: the handshake is next.
    VersionsTold,
    Exchange {
        mechanism: String,
        scram: Box<ScramServer>,
        oauth_error: Option<String>,
    },
    Complete,
    /// Closed once the answer is written.
    Failed,
}

/// The answer to SaslAuthenticate.
pub(crate) struct Verdict {
    pub(crate) code: i16,
    pub(crate) message: Option<String>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) lifetime_ms: i64,
}

impl Session {
    fn lock(&self) -> MutexGuard<'_, Proved> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request with this API key is answered now; if not, the connection is closed.
    pub(crate) fn admits(&self, state: &mut State, broker: i32, api_key: i16, now_ms: i64) -> bool {
        if state.settings.sasl.is_none() {
            return true;
        }
        let proved = self.lock();
        match (&proved.phase, api_key) {
            (Phase::Initial, 17 | 18) | (Phase::VersionsTold, 17) | (Phase::Exchange { .. }, 36) => true,
            (Phase::Complete, 17) => true,
            (Phase::Complete, _) => {
                let alive = proved.expires_ms.is_none_or(|end| now_ms <= end);
                if !alive {
                    state.security.of(broker).expired += 1;
                }
                alive
            }
            _ => {
                state.security.of(broker).refused_unauthenticated += 1;
                false
            }
        }
    }

    pub(crate) fn versions_told(&self) {
        let mut proved = self.lock();
        if matches!(proved.phase, Phase::Initial) {
            proved.phase = Phase::VersionsTold;
        }
    }

    /// How late the connection is closed, when it is to be.
    pub(crate) fn failed(&self, state: &State) -> Option<Duration> {
        let failed = matches!(self.lock().phase, Phase::Failed);
        failed.then(|| state.settings.sasl.as_ref().map_or(Duration::ZERO, |sasl| sasl.failure_delay))
    }

    /// SaslHandshake: the error code, and the mechanisms offered.
    pub(crate) fn handshake(&self, state: &mut State, broker: i32, mechanism: &str, now_ms: i64) -> (i16, Vec<String>) {
        let Some(sasl) = state.settings.sasl.as_ref() else { return (code::ILLEGAL_SASL_STATE, Vec::new()) };
        state.security.of(broker).mechanisms.push(mechanism.to_owned());
        let mut proved = self.lock();
        if matches!(proved.phase, Phase::Complete) {
            let interval = i64::try_from(sasl.reauthentication_interval.as_millis()).unwrap_or(i64::MAX);
            let too_soon = proved.reauthenticated_ms.is_some_and(|last| now_ms - last < interval);
            if sasl.session_lifetime.is_none() || too_soon {
                return (code::ILLEGAL_SASL_STATE, Vec::new());
            }
            proved.reauthenticated_ms = Some(now_ms);
        }
        if !sasl.mechanisms.iter().any(|offered| offered == mechanism) {
            proved.phase = Phase::Failed;
            return (code::UNSUPPORTED_SASL_MECHANISM, sasl.mechanisms.clone());
        }
        let mechanism = mechanism.to_owned();
        proved.phase = Phase::Exchange { mechanism, scram: Box::default(), oauth_error: None };
        (code::NONE, sasl.mechanisms.clone())
    }

    /// SaslAuthenticate. `None`: closed without an answer.
    pub(crate) fn authenticate(&self, state: &mut State, broker: i32, token: &[u8], now_ms: i64) -> Option<Verdict> {
        let refused =
            |code, message: String| Verdict { code, message: Some(message), bytes: Vec::new(), lifetime_ms: 0 };
        let mut proved = self.lock();
        let Some(sasl) = state.settings.sasl.as_ref() else {
            let message = "SaslAuthenticate request received after successful authentication";
            return Some(refused(code::ILLEGAL_SASL_STATE, message.to_owned()));
        };
        let Proved { phase, first, .. } = &mut *proved;
        let Phase::Exchange { mechanism, scram, oauth_error } = phase else {
            let message = "SaslAuthenticate request received after successful authentication";
            return Some(refused(code::ILLEGAL_SASL_STATE, message.to_owned()));
        };
        if first.as_ref().is_some_and(|(before, _)| before != mechanism) {
            proved.phase = Phase::Failed;
            return None;
        }
        let mechanism = mechanism.clone();
        let step = sasl.step(&mechanism, scram, oauth_error, token, &mut state.security, broker);
        let what = if first.is_some() { "re-authentication" } else { "authentication" };
        let message = match step {
            Step::Challenge(bytes) => return Some(Verdict { code: code::NONE, message: None, bytes, lifetime_ms: 0 }),
            Step::Done { answer, principal } => match first {
                Some((_, before)) if *before != principal => {
                    format!("Cannot change principals during re-authentication from User.{before}: User.{principal}")
                }
                _ => {
                    let (told, kept) = sasl.lifetime();
                    let again = first.is_some();
                    state.security.of(broker).authenticated(Authenticated {
                        mechanism: mechanism.clone(),
                        principal: principal.clone(),
                        again,
                    });
                    *first = Some((mechanism, principal));
                    proved.expires_ms = kept.map(|lifetime| now_ms.saturating_add(lifetime));
                    proved.phase = Phase::Complete;
                    return Some(Verdict { code: code::NONE, message: None, bytes: answer, lifetime_ms: told });
                }
            },
            Step::Refused(message) => message,
            Step::BadCredentials => {
                format!(
                    "Authentication failed during {what} due to invalid credentials with SASL mechanism {mechanism}"
                )
            }
        };
        state.security.of(broker).refusals.push(message.clone());
        proved.phase = Phase::Failed;
        Some(refused(code::SASL_AUTHENTICATION_FAILED, message))
    }
}

impl FakeSasl {
    /// In milliseconds: the lifetime told to the client, and the one kept.
    fn lifetime(&self) -> (i64, Option<i64>) {
        let kept = self.session_lifetime.map(|lifetime| i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX));
        match self.fault {
            Some(SaslFault::Lifetime(told)) => (told, None),
            _ => (kept.unwrap_or(0), kept),
        }
    }

    fn step(
        &self,
        mechanism: &str,
        scram: &mut ScramServer,
        oauth_error: &mut Option<String>,
        token: &[u8],
        seen: &mut SecuritySeen,
        broker: i32,
    ) -> Step {
        match &self.fault {
            Some(SaslFault::EndlessChallenges(text)) => return Step::Challenge(text.clone().into_bytes()),
            Some(SaslFault::Refuse(message)) => return Step::Refused(message.clone()),
            Some(SaslFault::SuccessAtOnce) => {
                return Step::Done { answer: Vec::new(), principal: "anybody".to_owned() };
            }
            _ => {}
        }
        match Hash::of(mechanism) {
            Some(hash) => {
                let of_hash = |user: &User| Some(user.scram.iter().find(|(one, _)| *one == hash)?.1.clone());
                scram.step(token, |name| self.users.get(name).and_then(of_hash), self.fault.as_ref())
            }
            None if mechanism == "PLAIN" => self.plain(token),
            None if mechanism == "OAUTHBEARER" => self.oauthbearer(token, oauth_error, seen, broker),
            None => Step::BadCredentials,
        }
    }

    /// RFC 4616, with the words of Kafka's `PlainSaslServer`.
    fn plain(&self, message: &[u8]) -> Step {
        let refused = |why: &str| Step::Refused(format!("Authentication failed: {why}"));
        let parts: Option<Vec<&str>> =
            message.split(|byte| *byte == 0).map(|part| std::str::from_utf8(part).ok()).collect();
        let Some([authorization, name, password]) =
            parts.as_deref().and_then(|parts| <[&str; 3]>::try_from(parts).ok())
        else {
            return Step::BadCredentials;
        };
        if name.is_empty() {
            return refused("username not specified");
        }
        if password.is_empty() {
            return refused("password not specified");
        }
        if self.users.get(name).is_none_or(|user| user.password != password) {
            return refused("Invalid username or password");
        }
        if !authorization.is_empty() && authorization != name {
            return refused("Client requested an authorization id that is different from username");
        }
        Step::Done { answer: Vec::new(), principal: name.to_owned() }
    }

    /// RFC 7628, KIP-255: an error is a challenge, and the refusal follows the client's single byte 1.
    fn oauthbearer(&self, message: &[u8], told: &mut Option<String>, seen: &mut SecuritySeen, broker: i32) -> Step {
        if let Some(error) = told.take() {
            return if message == [1] { Step::Refused(error) } else { Step::BadCredentials };
        }
        let Some((token, extensions)) = oauth_first(message) else { return Step::BadCredentials };
        seen.of(broker).extensions.extend(extensions);
        let error = match &self.fault {
            Some(SaslFault::ErrorChallenge(error)) => error.clone(),
            _ if self.tokens.contains(&token) => {
                return Step::Done { answer: Vec::new(), principal: "token".to_owned() };
            }
            _ => r#"{"status":"invalid_token"}"#.to_owned(),
        };
        *told = Some(error.clone());
        Step::Challenge(error.into_bytes())
    }
}

type Extensions = Vec<(String, String)>;

/// Token and extensions of OAUTHBEARER's first message.
fn oauth_first(message: &[u8]) -> Option<(String, Extensions)> {
    let message = std::str::from_utf8(message).ok()?;
    let (header, pairs) = message.split_once('\u{1}')?;
    let authorization = header.strip_prefix("n,")?.strip_suffix(',')?;
    if !(authorization.is_empty() || authorization.starts_with("a=")) {
        return None;
    }
    let pairs = pairs.strip_suffix("\u{1}\u{1}")?;
    let mut token = None;
    let mut extensions = Vec::new();
    for pair in pairs.split('\u{1}') {
        let (key, value) = pair.split_once('=')?;
        let legal = |c: char| c.is_ascii_graphic() || matches!(c, ' ' | '\t' | '\r' | '\n');
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphabetic()) || !value.chars().all(legal) {
            return None;
        }
        if key == "auth" {
            let (scheme, given) = value.split_once(' ')?;
            token = scheme.eq_ignore_ascii_case("bearer").then(|| given.trim_start().to_owned());
        } else {
            extensions.push((key.to_owned(), value.to_owned()));
        }
    }
    Some((token?, extensions))
}
