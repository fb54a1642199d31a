//! Carries a SASL exchange: SaslHandshake, then SaslAuthenticate until both sides are satisfied.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use zeroize::{Zeroize, Zeroizing};

use super::connect::Greeting;
use crate::config::SaslConfig;
use crate::core::sasl::{SaslContext, SaslError, SaslExchange, SaslMechanism, without};
use crate::error::{ConnectCause, Human, SaslFailure, words};
use crate::wire::requests::sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use crate::wire::requests::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};
use crate::wire::{ApiKey, ApiVersions, ErrorCode};

/// The most answers to SaslAuthenticate in one exchange. SCRAM needs 2, GSSAPI about 3.
const MOST_ROUNDS: u32 = 10;

/// Mechanisms in a message, at most.
const MOST_OFFERED: usize = 10;

/// What the broker granted.
#[derive(Debug)]
pub(super) struct Authenticated {
    pub(super) next_correlation: i32,
    /// After how long it expects to be asked again (KIP-368).
    pub(super) lifetime: Option<Duration>,
}

/// Refuses to send a password or token in the clear. Asked before anything is sent.
pub(super) fn refuse_cleartext(sasl: &SaslConfig, encrypted: bool) -> Result<(), ConnectCause> {
    if sasl.mechanism.sends_secret() && !encrypted && !sasl.clear {
        let mechanism = sasl.mechanism.name().to_owned();
        return Err(ConnectCause::Sasl(SaslFailure::Cleartext { mechanism }));
    }
    Ok(())
}

/// Proves who this client is.
pub(super) async fn authenticate(
    sasl: &SaslConfig,
    mut dialogue: Dialogue,
    greeting: &mut Greeting<'_>,
    versions: &ApiVersions,
    next_correlation: i32,
) -> Result<Authenticated, ConnectCause> {
    refuse_cleartext(sasl, greeting.is_encrypted())?;
    if versions.range(ApiKey::SaslHandshake).is_none() {
        return Err(ConnectCause::Sasl(SaslFailure::NotAsked));
    }
    let handshake = versions.pick::<SaslHandshakeRequest>().map_err(ConnectCause::Wire)?;
    let version = versions.pick::<SaslAuthenticateRequest>().map_err(ConnectCause::Wire)?;
    let mut correlation = next_correlation;
    let answer = greeting.ask(&dialogue.handshake(), handshake, correlation).await;
    let answer = answer.map_err(|cause| dialogue.broken(cause, ApiKey::SaslHandshake))?;
    let mut step = dialogue.shaken(&answer).map_err(ConnectCause::Sasl)?;
    loop {
        correlation = correlation.wrapping_add(1);
        match step {
            Step::Send(request) => {
                let answer = greeting.ask(&request, version, correlation).await;
                let answer = answer.map_err(|cause| dialogue.broken(cause, ApiKey::SaslAuthenticate))?;
                step = dialogue.answered(&answer).map_err(ConnectCause::Sasl)?;
            }
            Step::Done(lifetime) => {
                return Ok(Authenticated { next_correlation: correlation, lifetime });
            }
        }
    }
}

/// Begins an exchange: waits for a token or ticket, and sends nothing yet.
pub(super) async fn begin(mechanism: &Arc<dyn SaslMechanism>, host: &str) -> Result<Dialogue, SaslFailure> {
    let name = mechanism.name().to_owned();
    let failed = |error| SaslFailure::Exchange { mechanism: name.clone(), error };
    let mut random = Zeroizing::new([0; 24]);
    getrandom::fill(&mut *random).map_err(|error| {
        failed(SaslError::Credentials(format!("the operating system gives no random bytes: {error}")))
    })?;
    let context = SaslContext { host, now: SystemTime::now(), random: &random };
    let mut beginning = pin!(async { mechanism.begin(context).await });
    let begun = poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| beginning.as_mut().poll(cx))).unwrap_or(Poll::Ready(Err(SaslError::Panicked)))
    });
    let mut exchange = begun.await.map_err(&failed)?;
    let first = caught(|| exchange.first()).map_err(&failed)?;
    let sent = if mechanism.sends_secret() { first.clone() } else { Zeroizing::default() };
    Ok(Dialogue { mechanism: name.clone(), exchange, first: Some(first), sent, rounds: 0 })
}

/// What a mechanism does, which may be the user's: its panic is its own failure, and must not end the task that asks, on
/// which all connections of the client depend.
fn caught<T>(act: impl FnOnce() -> Result<T, SaslError>) -> Result<T, SaslError> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or(Err(SaslError::Panicked))
}

/// Whoever was asked for a token or ticket has not answered.
pub(super) fn no_token(mechanism: &dyn SaslMechanism, within: Duration) -> SaslFailure {
    let why = format!("its provider has given none within {}", Human(within));
    SaslFailure::Exchange { mechanism: mechanism.name().to_owned(), error: SaslError::Token(why) }
}

/// What to do next.
pub(super) enum Step {
    Send(SaslAuthenticateRequest),
    /// Both sides are satisfied; for so long, if the broker says.
    Done(Option<Duration>),
}

/// One authentication under way, whoever carries its requests.
pub(super) struct Dialogue {
    mechanism: String,
    exchange: Box<dyn SaslExchange>,
    first: Option<Zeroizing<Vec<u8>>>,
    /// The credentials, if they are sent as they are: a broker may repeat them in its words.
    sent: Zeroizing<Vec<u8>>,
    rounds: u32,
}

impl Dialogue {
    pub(super) fn handshake(&self) -> SaslHandshakeRequest {
        SaslHandshakeRequest { mechanism: self.mechanism.clone() }
    }

    /// The answer to the handshake.
    pub(super) fn shaken(&mut self, answer: &SaslHandshakeResponse) -> Result<Step, SaslFailure> {
        match answer.error {
            ErrorCode::NONE => Ok(Step::Send(request(self.first.take().unwrap_or_default()))),
            ErrorCode::UNSUPPORTED_SASL_MECHANISM => {
                Err(SaslFailure::Mechanism { asked: self.mechanism.clone(), offered: offered(&answer.mechanisms) })
            }
            ErrorCode::ILLEGAL_SASL_STATE => Err(SaslFailure::NotAsked),
            code => Err(self.refused(code, None)),
        }
    }

    /// An answer to [`Step::Send`].
    pub(super) fn answered(&mut self, answer: &SaslAuthenticateResponse) -> Result<Step, SaslFailure> {
        if let Some(code) = answer.error.err() {
            return Err(self.refused(code, answer.error_message.as_deref()));
        }
        // The broker's word is not enough: the exchange says whether it has proved what it must.
        let next = caught(|| self.exchange.next(&answer.auth_bytes)).map_err(|error| match error {
            SaslError::Refused(message) => self.refused(ErrorCode::SASL_AUTHENTICATION_FAILED, Some(&message)),
            error => SaslFailure::Exchange { mechanism: self.mechanism.clone(), error },
        })?;
        self.rounds += 1;
        match next {
            None => {
                let lifetime = u64::try_from(answer.session_lifetime_ms).unwrap_or(0);
                Ok(Step::Done(Some(Duration::from_millis(lifetime)).filter(|lifetime| !lifetime.is_zero())))
            }
            Some(_) if self.rounds == MOST_ROUNDS => {
                Err(SaslFailure::Endless { mechanism: self.mechanism.clone(), rounds: MOST_ROUNDS })
            }
            Some(bytes) => Ok(Step::Send(request(bytes))),
        }
    }

    fn refused(&self, code: ErrorCode, message: Option<&str>) -> SaslFailure {
        let said = message.map(words).filter(|message| !message.is_empty());
        // The mechanism knows more than Kafka's words about it, or the same in JSON.
        let said = self.refusal().or(said).map(|said| without(&said, &self.sent));
        let message = said.unwrap_or_else(|| code.meaning().to_owned());
        SaslFailure::Refused { mechanism: self.mechanism.clone(), message, code }
    }

    fn refusal(&self) -> Option<String> {
        caught(|| Ok(self.exchange.refusal())).unwrap_or_default()
    }

    fn broken(&self, cause: ConnectCause, api: ApiKey) -> ConnectCause {
        match cause {
            // Not to be taken for a broker that does not know our ApiVersions, and tried once more.
            ConnectCause::ClosedInHandshake => ConnectCause::Sasl(self.closed(api)),
            cause => cause,
        }
    }

    /// The broker closed the connection in place of an answer.
    pub(super) fn closed(&self, api: ApiKey) -> SaslFailure {
        match self.refusal() {
            Some(_) => self.refused(ErrorCode::SASL_AUTHENTICATION_FAILED, None),
            None => SaslFailure::Closed { mechanism: self.mechanism.clone(), api },
        }
    }
}

/// The names for people. A broker has a handful; one that names thousands fills no log.
fn offered(mechanisms: &[String]) -> Vec<String> {
    let mut offered: Vec<String> = mechanisms.iter().take(MOST_OFFERED).map(|name| words(name)).collect();
    if mechanisms.len() > MOST_OFFERED {
        offered.push(format!("{} more", mechanisms.len() - MOST_OFFERED));
    }
    offered
}

fn request(bytes: Zeroizing<Vec<u8>>) -> SaslAuthenticateRequest {
    // Shared with whoever encodes it, and overwritten when that is done.
    SaslAuthenticateRequest { auth_bytes: Bytes::from_owner(Cleared(bytes)) }
}

struct Cleared(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Cleared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Overwrites what was sent, for it may hold a password, if nobody else has it any more.
pub(super) fn wipe(part: Bytes) {
    if let Ok(mut part) = part.try_into_mut() {
        part.zeroize();
    }
}

#[cfg(test)]
mod tests;
