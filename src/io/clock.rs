//! A wall clock that costs one atomic load per record.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

/// How long a tick sleeps. tokio's timer rounds up to whole milliseconds, so a tick comes each millisecond.
const TICK: Duration = Duration::from_micros(500);
/// Ticks without a reader after which the clock stops.
const QUIET_TICKS: u32 = 50;

/// Unix milliseconds, refreshed by the I/O thread each millisecond while somebody reads them.
///
/// When nobody has read for a while the ticking stops; the next reader then asks the system itself and starts it again,
/// so an idle client neither wakes up nor serves a stale time.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    millis: AtomicI64,
    ticking: AtomicBool,
    read: AtomicBool,
    start: Notify,
}

impl Clock {
    /// Milliseconds since the Unix epoch.
    pub(crate) fn coarse_millis(&self) -> i64 {
        if !self.read.load(Ordering::Relaxed) {
            self.read.store(true, Ordering::Relaxed);
        }
        if self.ticking.load(Ordering::Acquire) {
            return self.millis.load(Ordering::Relaxed);
        }
        let now = exact_millis();
        self.millis.store(now, Ordering::Relaxed);
        self.start.notify_one();
        now
    }

    /// Takes the time once more, when the I/O thread was woken by something else anyhow.
    pub(crate) fn refresh(&self) {
        if self.ticking.load(Ordering::Relaxed) {
            self.millis.store(exact_millis(), Ordering::Relaxed);
        }
    }

    /// Ticks while there are readers. Never ends.
    pub(crate) async fn run(&self) {
        loop {
            self.start.notified().await;
            self.millis.store(exact_millis(), Ordering::Relaxed);
            self.ticking.store(true, Ordering::Release);
            let mut quiet = 0;
            while quiet < QUIET_TICKS {
                tokio::time::sleep(TICK).await;
                self.millis.store(exact_millis(), Ordering::Relaxed);
                quiet = if self.read.swap(false, Ordering::Relaxed) { 0 } else { quiet + 1 };
            }
            self.ticking.store(false, Ordering::Release);
        }
    }
}

/// `wait` after `now`. An application may say "for ever" with a duration that no clock can hold: a year then.
pub(crate) fn after(now: Instant, wait: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    now + wait.min(YEAR)
}

/// The system's wall clock; 0 before 1970.
pub(crate) fn exact_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
