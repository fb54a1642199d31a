//! Who refused this client's credentials, and how long to leave them alone: accounts are locked after a few wrong
//! passwords, and whoever opens one connection after another locks its own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::clock::after;
use crate::core::retry::Backoff;
use crate::error::{ConnectCause, ConnectFailure};
use crate::sync::lock;

/// The pause grows up to so many times `reconnect.backoff.max.ms`.
const MOST_PAUSES: u32 = 10;

/// Addresses at which SASL failed. Shared by all connections of a client, whatever their lane, bootstrap included.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<(Arc<str>, u16), Refusal>>);

#[derive(Debug)]
struct Refusal {
    failures: Vec<ConnectFailure>,
    times: u32,
    until: Instant,
}

impl Refusals {
    /// Why the address is not to be asked now. When the pause is over one is let through, and the others wait for what
    /// comes of it, or for another `pause`.
    pub(super) fn standing(
        &self,
        host: &Arc<str>,
        port: u16,
        pause: Duration,
        now: Instant,
    ) -> Option<Vec<ConnectFailure>> {
        let mut refusals = lock(&self.0);
        let refusal = refusals.get_mut(&(host.clone(), port))?;
        if now < refusal.until {
            return Some(refusal.failures.clone());
        }
        refusal.until = after(now, pause);
        None
    }

    /// Notes what came of an attempt. After a failure of SASL the address is left alone for at least `pause`
    /// (`reconnect.backoff.max.ms`), and twice as long after each further one, up to ten times of it.
    pub(super) fn note(
        &self,
        host: &Arc<str>,
        port: u16,
        failures: &[ConnectFailure],
        pause: Duration,
        (now, random): (Instant, u64),
    ) {
        let mut refusals = lock(&self.0);
        let address = (host.clone(), port);
        if !failures.iter().any(|failure| matches!(failure.cause, ConnectCause::Sasl(_))) {
            refusals.remove(&address);
            return;
        }
        let times = refusals.get(&address).map_or(0, |refusal| refusal.times).saturating_add(1);
        let grown = Backoff::new(pause, pause.saturating_mul(MOST_PAUSES)).delay(times, random);
        let until = after(now, grown.max(pause));
        refusals.insert(address, Refusal { failures: failures.to_vec(), times, until });
    }
}

/// What was last said about each address, so that a log does not fill with one sentence.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<HashMap<SocketAddr, String>>);

impl Told {
    /// Whether this was not the last thing said about the address.
    pub(super) fn is_news(&self, address: SocketAddr, text: &str) -> bool {
        lock(&self.0).insert(address, text.to_owned()).is_none_or(|last| last != text)
    }

    /// All is well there: the same again would be news.
    pub(super) fn forget(&self, address: SocketAddr) {
        lock(&self.0).remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_about_an_address_is_told_once_until_it_was_well() {
        let (told, one, two) = (Told::default(), "127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        assert!(told.is_news(one, "a") && !told.is_news(one, "a"));
        assert!(told.is_news(two, "a") && told.is_news(one, "b") && told.is_news(one, "a"));
        told.forget(one);
        assert!(told.is_news(one, "a") && !told.is_news(two, "a"));
    }

    use crate::error::SaslFailure;

    #[test]
    fn each_further_refusal_is_left_alone_for_longer() {
        let (refusals, pause, start) = (Refusals::default(), Duration::from_secs(1), Instant::now());
        let host: Arc<str> = "a".into();
        let failed = |cause| vec![ConnectFailure { address: "a:1".into(), cause }];
        let refused = failed(ConnectCause::Sasl(SaslFailure::NotAsked));
        let standing = |port, seconds: f64| {
            refusals.standing(&host, port, pause, start + Duration::from_secs_f64(seconds)).is_some()
        };
        assert!(!standing(1, 0.0));
        for (random, seconds) in [(0, 1.0), (400, 2.4), (200, 4.0), (200, 8.0), (0, 8.0), (400, 12.0)] {
            refusals.note(&host, 1, &refused, pause, (start, random));
            assert!(standing(1, seconds - 0.01));
            assert!(!standing(1, seconds), "one is let through after {seconds} s");
            assert!(standing(1, seconds + 0.99) && !standing(1, seconds + 1.0), "the others wait");
        }
        assert!(!standing(2, 0.0), "another address");
        for answer in [failed(ConnectCause::ClosedInHandshake), Vec::new()] {
            refusals.note(&host, 1, &refused, pause, (start, 0));
            refusals.note(&host, 1, &answer, pause, (start, 0));
            assert!(!standing(1, 0.0), "it is not about credentials any more");
        }
        refusals.note(&host, 1, &refused, pause, (start, 0));
        assert!(standing(1, 0.99) && !standing(1, 1.0), "counted from the beginning");
    }
}
