//! The one place of this program that reads a clock.

use std::time::{Duration, Instant, SystemTime};

/// A stopwatch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[allow(clippy::disallowed_methods, reason = "the program's own clock; no decision of the library depends on it")]
    pub(crate) fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// Since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Now, in Unix milliseconds.
#[allow(clippy::disallowed_methods, reason = "the program's own clock; no decision of the library depends on it")]
pub(crate) fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// How long ago that was, as a person says it.
pub(crate) fn age(millis: i64, now: i64) -> String {
    let seconds = now.saturating_sub(millis).max(0) / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        assert_eq!(age(5000, 1000), "0 s");
        assert_eq!(age(0, 119_999), "119 s");
        assert_eq!(age(0, 120_000), "2 min");
        assert_eq!(age(0, 7_200_000), "2 h");
        assert_eq!(age(0, 172_800_000), "2 d");
    }
}
