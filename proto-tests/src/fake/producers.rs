//! What the brokers remember of idempotent producers in one partition.
//!
//! One memory serves all replicas of the partition. Each replica looks at it through its own [`Horizon`], since a broker
//! that was restarted has forgotten more than one that was not.

use super::batch::{BatchHeader, add_sequence};
use super::code;
use std::collections::{BTreeMap, VecDeque};

/// KIP-98: the broker recognises the last 5 batches of a producer in a partition.
const WINDOW: usize = 5;

/// One remembered batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) epoch: i16,
    pub(crate) first_sequence: i32,
    pub(crate) last_sequence: i32,
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    /// Largest timestamp in the batch, milliseconds; expiry goes by it.
    pub(crate) timestamp: i64,
}

/// What one replica can still see.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Horizon {
    /// Log end when the broker last stopped: of the batches below it only each producer's newest is remembered.
    pub(crate) restarted_at: i64,
    /// Batches below it were never seen by this replica, which was built from the retained log.
    pub(crate) built_from: i64,
    /// Batches from here on have not reached this replica.
    pub(crate) log_end: i64,
}

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Append it.
    New,
    /// It is there already, at these offsets.
    Duplicate { base_offset: i64, last_offset: i64 },
    /// Answer this error.
    Refused(i16),
}

/// The memory of one partition: per producer id its batches, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    by_id: BTreeMap<i64, VecDeque<Entry>>,
}

impl Producers {
    /// Compares a batch with what the replica behind `horizon` remembers.
    pub(crate) fn check(&self, header: &BatchHeader, horizon: &Horizon) -> Check {
        let window = self.window(header.producer_id, horizon);
        // An unknown or expired producer id may begin with any sequence.
        let Some(newest) = window.first() else { return Check::New };
        if header.producer_epoch < newest.epoch {
            return Check::Refused(code::INVALID_PRODUCER_EPOCH);
        }
        if header.producer_epoch > newest.epoch {
            return if header.base_sequence == 0 {
                Check::New
            } else {
                Check::Refused(code::OUT_OF_ORDER_SEQUENCE_NUMBER)
            };
        }
        let same = |entry: &&Entry| {
            entry.first_sequence == header.base_sequence && entry.last_sequence == header.last_sequence()
        };
        if let Some(entry) = window.iter().find(same) {
            return Check::Duplicate { base_offset: entry.base_offset, last_offset: entry.last_offset };
        }
        if header.base_sequence == add_sequence(newest.last_sequence, 1) {
            Check::New
        } else {
            Check::Refused(code::OUT_OF_ORDER_SEQUENCE_NUMBER)
        }
    }

    /// Remembers an appended batch. `replicated` is the offset up to which no election can lose anything: below it five
    /// batches suffice, above it all are kept because a truncation may need the older ones again.
    pub(crate) fn record(&mut self, header: &BatchHeader, base_offset: i64, timestamp: i64, replicated: i64) {
        let entries = self.by_id.entry(header.producer_id).or_default();
        entries.push_back(Entry {
            epoch: header.producer_epoch,
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset,
            last_offset: base_offset + i64::from(header.last_offset_delta),
            timestamp,
        });
        while entries.len() > WINDOW && entries[WINDOW].base_offset < replicated {
            entries.pop_front();
        }
    }

    /// Forgets the batches from `end` on.
    pub(crate) fn truncate(&mut self, end: i64) {
        self.by_id.retain(|_, entries| {
            while entries.back().is_some_and(|entry| entry.base_offset >= end) {
                entries.pop_back();
            }
            !entries.is_empty()
        });
    }

    /// Forgets every producer whose newest batch has a timestamp at least `expiration_ms` ago.
    pub(crate) fn expire(&mut self, now_ms: i64, expiration_ms: i64) {
        self.by_id.retain(|_, entries| {
            entries.back().is_some_and(|entry| now_ms.saturating_sub(entry.timestamp) < expiration_ms)
        });
    }

    /// Each producer's newest batch as the replica sees it, for DescribeProducers.
    pub(crate) fn active(&self, horizon: &Horizon) -> Vec<(i64, Entry)> {
        self.by_id.keys().filter_map(|id| Some((*id, *self.window(*id, horizon).first()?))).collect()
    }

    /// The remembered batches of the newest epoch, newest first.
    fn window(&self, producer_id: i64, horizon: &Horizon) -> Vec<Entry> {
        let mut window: Vec<Entry> = Vec::with_capacity(WINDOW);
        let Some(entries) = self.by_id.get(&producer_id) else { return window };
        for entry in entries.iter().rev() {
            if entry.base_offset >= horizon.log_end {
                continue;
            }
            let new_epoch = window.first().is_some_and(|newest| newest.epoch != entry.epoch);
            if window.len() == WINDOW || entry.base_offset < horizon.built_from || new_epoch {
                break;
            }
            let forgotten = entry.base_offset < horizon.restarted_at;
            if forgotten && window.last().is_some_and(|last| last.base_offset < horizon.restarted_at) {
                break;
            }
            window.push(*entry);
        }
        window
    }
}
