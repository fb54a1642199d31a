//! Tells the broker again who this is, before the session ends (KIP-368).
//!
//! ```text
//! Resting -> Beginning -> Asking -> Resting ...
//! ```
//!
//! A token or ticket is got while requests go on. Then the queue is held, as by a throttle, and SaslHandshake and
//! SaslAuthenticate go out behind what is in flight: the broker answers in order, and takes nothing else until they are
//! over. What was queued meanwhile is a little later, and not lost. What fails ends the connection with the reason.
//!
//! An idle connection authenticates again too, so that no request meets a session that is over; that is no use of the
//! connection, which still ends after `connections.max.idle.ms`.
//!
//! Kafka refuses a second re-authentication within one second, so sessions of a real broker
//! (`connections.max.reauth.ms`) have to live longer than about 1.2 s.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracing::{debug, warn};

use super::{Driver, End, InFlight, disconnected};
use crate::core::sasl::SaslMechanism;
use crate::error::{CallErrorKind, Human, SaslFailure};
use crate::io::clock::after;
use crate::io::connection::{Ticket, Waiter, decode};
use crate::io::random::Random;
use crate::io::sasl::{Dialogue, Step, begin, no_token, wipe};
use crate::sync::lock;
use crate::wire::requests::sasl_authenticate::SaslAuthenticateRequest;
use crate::wire::requests::sasl_handshake::SaslHandshakeRequest;
use crate::wire::{ApiKey, ErrorCode, Request, encode_request};

/// The least time between two, whatever the broker says: a session of one millisecond must not keep a client busy.
const LEAST_PAUSE: Duration = Duration::from_millis(100);
/// Sessions shorter than this are a mistake in the broker's settings.
const SHORT: Duration = Duration::from_secs(2);

/// A session that ends.
pub(in crate::io) struct Session {
    pub(in crate::io) mechanism: Arc<dyn SaslMechanism>,
    pub(in crate::io) host: Arc<str>,
    /// For how long from now.
    pub(in crate::io) lifetime: Duration,
}

/// When and how far.
pub(in crate::io::connection) struct Reauthentication {
    mechanism: Arc<dyn SaslMechanism>,
    host: Arc<str>,
    timeout: Duration,
    random: Random,
    expires: Instant,
    phase: Phase,
}

enum Phase {
    /// Until then; for ever if the broker has stopped to ask.
    Resting(Option<Instant>),
    /// Waits for a token or ticket, until then.
    Beginning(Pin<Box<dyn Future<Output = Result<Dialogue, SaslFailure>> + Send>>, Instant),
    Asking {
        dialogue: Dialogue,
        /// When the connection was used last, if nothing else was in flight.
        unused_since: Option<Instant>,
        /// What was sent.
        sent: Vec<Bytes>,
    },
}

impl Reauthentication {
    pub(in crate::io::connection) fn new(session: Session, timeout: Duration) -> Reauthentication {
        let now = Instant::now();
        if session.lifetime < SHORT {
            let lifetime = Human(session.lifetime).to_string();
            warn!(host = %session.host, lifetime, "the broker's sessions are too short: Kafka renews one a second");
        }
        let mut of = Reauthentication {
            mechanism: session.mechanism,
            host: session.host,
            timeout,
            random: Random::new(),
            expires: now,
            phase: Phase::Resting(None),
        };
        of.rest(Some(session.lifetime), now);
        of
    }

    /// Rests for 85 to 95 % of the session, as Java's client: another part each time, so that not all connections come at
    /// once.
    fn rest(&mut self, lifetime: Option<Duration>, now: Instant) {
        let part = 850 + self.random.next() % 100;
        let wake = lifetime.map(|lifetime| {
            self.expires = after(now, lifetime);
            let pause = u64::try_from(lifetime.as_millis()).map_or(lifetime, |lifetime| {
                Duration::from_millis(lifetime / 1000 * part + lifetime % 1000 * part / 1000)
            });
            after(now, pause.max(LEAST_PAUSE))
        });
        self.phase = Phase::Resting(wake);
    }

    /// When there is something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Resting(wake) => *wake,
            Phase::Beginning(_, deadline) => Some(*deadline),
            // The deadline of the request in flight counts.
            Phase::Asking { .. } => None,
        }
    }

    /// Whether no request may be sent now.
    pub(super) fn holds(&self, now: Instant) -> bool {
        match &self.phase {
            Phase::Resting(_) => false,
            Phase::Beginning(..) => now >= self.expires,
            Phase::Asking { .. } => true,
        }
    }
}

impl Driver {
    /// Begins when it is time, and asks when there is something to ask with.
    pub(super) fn reauthenticate(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), End> {
        let quiet = self.is_quiet();
        let Some(of) = &mut self.reauthentication else { return Ok(()) };
        if let Phase::Resting(Some(wake)) = of.phase
            && wake <= now
        {
            let (mechanism, host) = (of.mechanism.clone(), of.host.clone());
            let beginning = Box::pin(async move { begin(&mechanism, &host).await });
            of.phase = Phase::Beginning(beginning, after(now, of.timeout));
        }
        let Phase::Beginning(beginning, deadline) = &mut of.phase else { return Ok(()) };
        match beginning.as_mut().poll(cx) {
            Poll::Pending if *deadline <= now => Err(failed(&no_token(&*of.mechanism, of.timeout))),
            Poll::Pending => Ok(()),
            Poll::Ready(Err(failure)) => Err(failed(&failure)),
            Poll::Ready(Ok(dialogue)) => {
                let handshake = dialogue.handshake();
                let unused_since = quiet.then_some(self.last_traffic);
                of.phase = Phase::Asking { dialogue, unused_since, sent: Vec::new() };
                self.ask(&handshake, now)
            }
        }
    }

    /// Takes the answer to [`Driver::ask`].
    pub(super) fn sasl_answered(&mut self, api: ApiKey, version: i16, frame: Bytes, now: Instant) -> Result<(), End> {
        let Some(of) = &mut self.reauthentication else { return Ok(()) };
        let Phase::Asking { dialogue, unused_since, sent } = &mut of.phase else { return Ok(()) };
        sent.drain(..).for_each(wipe);
        let step = match api {
            ApiKey::SaslHandshake => {
                let answer = decode::<SaslHandshakeRequest>(version, frame).map_err(CallErrorKind::Wire)?;
                dialogue.shaken(&answer)
            }
            _ => {
                let answer = decode::<SaslAuthenticateRequest>(version, frame).map_err(CallErrorKind::Wire)?;
                dialogue.answered(&answer)
            }
        };
        self.go_round = true;
        let step = step.map_err(|failure| match failure {
            // The listener did ask before: it is too soon, or the broker does not know re-authentication.
            SaslFailure::NotAsked => SaslFailure::Refused {
                mechanism: of.mechanism.name().to_owned(),
                message: "it takes no SaslHandshake now (Kafka's brokers take one a second)".to_owned(),
                code: ErrorCode::ILLEGAL_SASL_STATE,
            },
            failure => failure,
        });
        match step.map_err(|failure| failed(&failure))? {
            Step::Send(request) => self.ask(&request, now),
            Step::Done(lifetime) => {
                debug!(broker = self.shared.broker, address = %self.shared.address, ?lifetime, "authenticated again");
                if let Some(since) = *unused_since {
                    self.last_traffic = since;
                }
                of.rest(lifetime, now);
                Ok(())
            }
        }
    }

    /// Sends a request of the driver's own, past the queue.
    fn ask<R: Request>(&mut self, request: &R, now: Instant) -> Result<(), End> {
        let Some(of) = &mut self.reauthentication else { return Ok(()) };
        let version = self.shared.versions.pick::<R>().map_err(CallErrorKind::Wire)?;
        let correlation = lock(&self.shared.queue).take_correlation();
        let parts =
            encode_request(request, version, correlation, &self.shared.client_id).map_err(CallErrorKind::Wire)?;
        if let Phase::Asking { sent, .. } = &mut of.phase {
            sent.clone_from(&parts);
        }
        let ticket = Ticket { correlation, api: R::KEY, version, timeout: of.timeout, waiter: Waiter::Sasl };
        let start = self.queued;
        self.queued += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        self.out.extend(parts.into_iter().filter(|part| !part.is_empty()));
        self.shared.in_flight.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // A broker that throttles reads nothing until that is over.
        let read = self.throttled_until.map_or(now, |until| until.max(now));
        self.in_flight.push_back(InFlight { ticket, start, end: self.queued, deadline: after(read, of.timeout) });
        Ok(())
    }

    /// Some brokers and proxies refuse by hanging up.
    pub(super) fn refused_silently(&mut self, end: End) -> End {
        let asked = self.in_flight.front().filter(|entry| matches!(entry.ticket.waiter, Waiter::Sasl));
        let phase = self.reauthentication.as_mut().map(|of| mem::replace(&mut of.phase, Phase::Resting(None)));
        match (asked, phase, &end) {
            (
                Some(entry),
                Some(Phase::Asking { dialogue, .. }),
                End { why: CallErrorKind::Disconnected(_), timed_out: None },
            ) => failed(&dialogue.closed(entry.ticket.api)),
            _ => end,
        }
    }
}

fn failed(failure: &SaslFailure) -> End {
    disconnected(format!("it could not be authenticated again: {failure}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SaslConfig;

    #[test]
    fn it_rests_for_85_to_95_percent_of_the_session() {
        let mechanism = SaslConfig::plain("a", "b").mechanism;
        let session = Session { mechanism, host: "a".into(), lifetime: Duration::from_secs(100) };
        let mut of = Reauthentication::new(session, Duration::from_secs(30));
        let now = Instant::now();
        let mut rests = |lifetime: Duration| {
            of.rest(Some(lifetime), now);
            (of.due().expect("due") - now, of.expires - now)
        };
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let (rest, life) = rests(Duration::from_secs(3600));
            assert!((3060..3420).contains(&rest.as_secs()) && life.as_secs() == 3600, "{rest:?}");
            seen.insert(rest);
        }
        assert!(seen.len() > 90, "spread");
        let (rest, _) = rests(Duration::from_millis(1));
        assert_eq!(rest, LEAST_PAUSE);
        let (rest, life) = rests(Duration::from_millis(u64::MAX));
        assert!(rest <= life && life > Duration::from_secs(300 * 24 * 3600));
        of.rest(None, now);
        assert!(of.due().is_none() && !of.holds(now + Duration::from_secs(9999)));
    }
}
