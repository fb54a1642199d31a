//! How long to wait before the next attempt.

use std::time::Duration;

/// Exponential backoff with jitter: `base`, doubled at each further attempt up to `max`, then spread by a fifth to each
/// side so that many clients do not come back at the same instant (KIP-144, KIP-580).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// The wait after the first failure.
    pub(crate) base: Duration,
    /// The longest wait, before jitter.
    pub(crate) max: Duration,
}

impl Backoff {
    /// Names both bounds; a `max` below `base` counts as `base`.
    pub(crate) fn new(base: Duration, max: Duration) -> Backoff {
        Backoff { base, max: max.max(base) }
    }

    /// The wait before attempt `attempt`: 0 is the first attempt, which does not wait.
    pub(crate) fn delay(&self, attempt: u32, random: u64) -> Duration {
        if attempt == 0 {
            return Duration::ZERO;
        }
        let doubled = self.base.saturating_mul(1u32 << (attempt - 1).min(30)).min(self.max);
        // 0.8 to 1.2 of it, in steps of a thousandth.
        let factor = 800 + u32::try_from(random % 401).unwrap_or(200);
        doubled.saturating_mul(factor) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_bound_and_stays_within_the_jitter() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        assert_eq!(backoff.delay(0, 7), Duration::ZERO);
        assert_eq!(backoff.delay(1, 200), Duration::from_millis(100));
        assert_eq!(backoff.delay(3, 200), Duration::from_millis(400));
        assert_eq!(backoff.delay(u32::MAX, 200), Duration::from_secs(1));
        for random in 0..1000 {
            let delay = backoff.delay(9, random);
            assert!(delay >= Duration::from_millis(800) && delay <= Duration::from_millis(1200));
        }
    }
}
