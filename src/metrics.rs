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
    /// Records the brokers acknowledged.
    pub records_delivered: u64,
    /// Records given up that are certainly not in their topic.
    pub records_failed: u64,
    /// Records given up that may be in their topic.
    pub records_unknown: u64,
    /// Batches given to a connection, repetitions included.
    pub batches_sent: u64,
    /// Batches that an attempt did not deliver.
    pub batch_setbacks: u64,
    /// Batches given to a connection and not answered.
    pub batches_in_flight: u64,
    /// Bytes of `buffer.memory` in use, of all producers.
    pub buffered_bytes: u64,
    /// How often leaders were asked what they have of a producer.
    pub probes: u64,
    /// How often a leader turned out to have less than it had acknowledged.
    pub acknowledged_lost: u64,
    /// Batches in spools that are not delivered, dead ones aside. The figures of spools are at most a second old.
    pub spool_batches: u64,
    /// Records in them.
    pub spool_records: u64,
    /// Bytes of spools in use or set aside.
    pub spool_bytes: u64,
    /// How long ago the oldest of them was accepted.
    pub spool_oldest: Duration,
    /// Partitions that wait for a person's decision.
    pub spool_held: u64,
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
    pub(crate) records_delivered: Counter,
    pub(crate) records_failed: Counter,
    pub(crate) records_unknown: Counter,
    pub(crate) batches_sent: Counter,
    pub(crate) batch_setbacks: Counter,
    pub(crate) batches_in_flight: Counter,
    pub(crate) buffered_bytes: Counter,
    pub(crate) probes: Counter,
    pub(crate) acknowledged_lost: Counter,
    pub(crate) spool_batches: Counter,
    pub(crate) spool_records: Counter,
    pub(crate) spool_bytes: Counter,
    pub(crate) spool_oldest_millis: Counter,
    pub(crate) spool_held: Counter,
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
            records_delivered: self.records_delivered.get(),
            records_failed: self.records_failed.get(),
            records_unknown: self.records_unknown.get(),
            batches_sent: self.batches_sent.get(),
            batch_setbacks: self.batch_setbacks.get(),
            batches_in_flight: self.batches_in_flight.get(),
            buffered_bytes: self.buffered_bytes.get(),
            probes: self.probes.get(),
            acknowledged_lost: self.acknowledged_lost.get(),
            spool_batches: self.spool_batches.get(),
            spool_records: self.spool_records.get(),
            spool_bytes: self.spool_bytes.get(),
            spool_oldest: Duration::from_millis(self.spool_oldest_millis.get()),
            spool_held: self.spool_held.get(),
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

    /// Adds `by` where nobody else ever adds: what two cores may write to costs more than all the rest of a record.
    #[inline]
    pub(crate) fn add_alone(&self, by: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    }

    /// Takes `by` away, down to 0.
    pub(crate) fn sub(&self, by: u64) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(by)));
    }

    /// A gauge's share goes from `from` to `to`.
    pub(crate) fn change(&self, from: u64, to: u64) {
        if to >= from { self.add(to - from) } else { self.sub(from - to) }
    }

    /// Makes it `to`.
    pub(crate) fn set(&self, to: u64) {
        self.0.store(to, Ordering::Relaxed);
    }

    /// The value now.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
