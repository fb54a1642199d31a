//! How a window behaves, and which times follow from that.

use super::millis;
use std::time::Duration;

/// A broker takes up one request of a connection after the other, each when the one before it is answered, which takes up to
/// the request's time-out. It does so once more after the connection has ended, of its client's death for instance. So long
/// it may be busy with other things beside that, in milliseconds.
const LATE_MARGIN: i64 = 1000;

/// How a window behaves; the same for all of a producer.
#[derive(Clone, Debug)]
pub(crate) struct WindowConfig {
    /// Sequences, epochs, probes. Without it one batch is in flight and a retry may write twice.
    pub idempotent: bool,
    /// Unanswered batches per partition, 1 to 5.
    pub max_in_flight: usize,
    /// Attempts after the first.
    pub retries: u32,
    /// When brokers forget an idle producer: `producer.id.expiration.ms`.
    pub producer_id_expiration: Duration,
    /// How long a request waits for its answer, here and at the broker: `request.timeout.ms`.
    pub request_timeout: Duration,
    /// Stamps go to disk before the batch goes to a broker ([`super::Next::Save`]).
    pub durable: bool,
}

impl WindowConfig {
    /// Up to which age a batch is protected by the broker's memory for as long as a request of it can be under way, in
    /// milliseconds. Negative where that is longer than the memory.
    pub(super) fn young_for(&self) -> i64 {
        let expiration = millis(self.producer_id_expiration);
        // Until its answer is given up, and as long again after that.
        let under_way = millis(self.request_timeout).saturating_add(self.late());
        // Clocks differ, so half of the expiry counts as old anyhow.
        (expiration / 2).min(expiration.saturating_sub(under_way))
    }

    /// For how long after the end of its connection a request may be taken up, in milliseconds.
    pub(super) fn late(&self) -> i64 {
        millis(self.request_timeout).saturating_add(LATE_MARGIN)
    }

    /// Whether no batch is young enough to be simply sent again.
    pub(crate) fn forgets_while_sending(&self) -> bool {
        self.young_for() <= 0
    }
}
