//! Figures of a running client: counters behind atomics, and the snapshot that shows them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What the client has done so far and holds now. A snapshot: the figures are read one after another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Connections open now.
    pub connections: u64,
    /// Connections opened, the handshake included.
    pub connects: u64,
    /// Addresses that could not be connected to.
    pub connect_failures: u64,
    /// Connections that ended by a fault: closed by the broker, a time-out, bytes that are not Kafka's.
    pub disconnects: u64,
    /// Requests given to connections.
    pub requests: u64,
    /// Requests whose answer did not come in time.
    pub request_timeouts: u64,
    /// Bytes written to brokers.
    pub bytes_out: u64,
    /// Bytes read from brokers.
    pub bytes_in: u64,
    /// Answers that asked this client to hold back (KIP-219).
    pub throttles: u64,
    /// How long connections were asked to hold back, in all.
    pub throttled: Duration,
    /// Metadata answers taken over.
    pub metadata_refreshes: u64,
    /// Metadata refreshes that no broker answered.
    pub metadata_refresh_failures: u64,
    /// How often the client started over from the addresses it was given (KIP-899).
    pub rebootstraps: u64,
}

/// The counters of one client.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections: Counter,
    pub(crate) connects: Counter,
    pub(crate) connect_failures: Counter,
    pub(crate) disconnects: Counter,
    pub(crate) requests: Counter,
    pub(crate) request_timeouts: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) throttles: Counter,
    pub(crate) throttled_millis: Counter,
    pub(crate) metadata_refreshes: Counter,
    pub(crate) metadata_refresh_failures: Counter,
    pub(crate) rebootstraps: Counter,
}

impl Counters {
    /// The figures now.
    pub(crate) fn snapshot(&self) -> Metrics {
        Metrics {
            connections: self.connections.get(),
            connects: self.connects.get(),
            connect_failures: self.connect_failures.get(),
            disconnects: self.disconnects.get(),
            requests: self.requests.get(),
            request_timeouts: self.request_timeouts.get(),
            bytes_out: self.bytes_out.get(),
            bytes_in: self.bytes_in.get(),
            throttles: self.throttles.get(),
            throttled: Duration::from_millis(self.throttled_millis.get()),
            metadata_refreshes: self.metadata_refreshes.get(),
            metadata_refresh_failures: self.metadata_refresh_failures.get(),
            rebootstraps: self.rebootstraps.get(),
        }
    }
}

/// A number that goes up, and for gauges down.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds `by`.
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// Takes `by` away, down to 0.
    pub(crate) fn sub(&self, by: u64) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(by)));
    }

    /// The value now.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
