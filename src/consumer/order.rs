//! Order by key: which keys are busy, and the records that wait behind them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::delivery::{Delivery, Section};
use crate::core::consume::watermark::HandedOut;

/// Records of one partition that may be read ahead and kept: behind busy keys, or between two attempts. Then the partition
/// is not read on until one of them is out of the way.
pub(super) const KEPT_RECORDS: usize = 10_000;
/// Bytes of their keys and values.
pub(super) const KEPT_BYTES: u64 = 4 << 20;

/// The keys of one partition that are with handlers.
///
/// Keys are told apart by their bytes: two keys of one hash do not wait for each other, and nobody who chooses keys can
/// make them wait.
#[derive(Debug, Default)]
pub(super) struct Keys {
    busy: HashMap<Bytes, VecDeque<Waiting>>,
    /// How many wait.
    waiting: usize,
    /// The fetched batch that the last of them share with other records.
    shared: Option<Arc<Section>>,
}

/// A record behind another one of its key. Open on the watermark.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) delivery: Delivery,
    pub(super) token: HandedOut,
}

impl Keys {
    /// Whether no key is with a handler.
    #[inline]
    pub(super) fn are_free(&self) -> bool {
        self.busy.is_empty()
    }

    /// Whether a record of this key is with a handler, or between two attempts.
    pub(super) fn is_busy(&self, key: &[u8]) -> bool {
        self.busy.contains_key(key)
    }

    /// A record of `key` goes to a handler and stays there. What names the key when it is done.
    pub(super) fn occupy(&mut self, key: &[u8]) -> Bytes {
        let key = Bytes::copy_from_slice(key);
        self.busy.entry(key.clone()).or_default();
        key
    }

    /// `waiting` waits behind its key, which is busy.
    pub(super) fn wait(&mut self, waiting: Waiting) {
        if let Some(queue) = waiting.delivery.key().and_then(|key| self.busy.get_mut(key)) {
            self.shared = Some(waiting.delivery.section().clone());
            queue.push_back(waiting);
            self.waiting += 1;
        }
    }

    /// The record in hand of `key` is out of the way. The next one, for which the key stays busy.
    pub(super) fn release(&mut self, key: &Bytes) -> Option<Waiting> {
        let next = self.busy.get_mut(key).and_then(VecDeque::pop_front);
        match &next {
            Some(_) => self.waiting -= 1,
            None => _ = self.busy.remove(key),
        }
        if self.waiting == 0 {
            self.shared = None;
        }
        next
    }

    /// How many records wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// A record of `section` was read: what waits from batches before is copied out, so that it does not keep them.
    #[inline]
    pub(super) fn on_read(&mut self, section: &Arc<Section>) {
        if self.shared.as_ref().is_some_and(|shared| !Arc::ptr_eq(shared, section)) {
            self.detach();
        }
    }

    /// Copies out what shares a fetched batch with other records: nobody knows how long it waits.
    pub(super) fn detach(&mut self) {
        let Some(shared) = self.shared.take() else { return };
        for queue in self.busy.values_mut() {
            // What is of its own already lies in front.
            for waiting in queue.iter_mut().rev().take_while(|waiting| Arc::ptr_eq(waiting.delivery.section(), &shared))
            {
                waiting.delivery = waiting.delivery.clone().detached();
            }
        }
    }

    /// Drops all that waits. Keys stay busy for as long as they are with handlers. Bytes of what was dropped.
    pub(super) fn clear(&mut self) -> u64 {
        (self.waiting, self.shared) = (0, None);
        let dropped = self.busy.values_mut().flat_map(|queue| queue.drain(..));
        dropped.map(|waiting| waiting.delivery.payload_len()).sum()
    }
}
