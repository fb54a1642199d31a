//! `buffer.memory`: how many bytes of batches there may be, which batches are not settled, and their used buffers.

use crate::core::produce::accumulator::{Permit, Room};
use crate::metrics::Counters;
use crate::sync::lock;
use bytes::BytesMut;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};
use tokio::sync::{Semaphore, oneshot};

/// Buffers kept for the next batches: a share of the budget, so that memory stays near it.
const POOLED_SHARE: usize = 4;

pub(crate) struct Budget {
    bytes: Semaphore,
    counters: Arc<Counters>,
    live: Mutex<Live>,
    pool: Mutex<Vec<BytesMut>>,
    pooled_buffers: usize,
    buffer_size: usize,
}

#[derive(Default)]
struct Live {
    next: u64,
    batches: BTreeSet<u64>,
    /// Told when no batch below their number is left.
    flushes: Vec<(u64, oneshot::Sender<()>)>,
}

impl Budget {
    pub(crate) fn new(limit: usize, buffer_size: usize, counters: Arc<Counters>) -> Budget {
        Budget {
            bytes: Semaphore::new(limit.min(Semaphore::MAX_PERMITS)),
            counters,
            live: Mutex::default(),
            pool: Mutex::default(),
            pooled_buffers: (limit / POOLED_SHARE / buffer_size.max(1)).clamp(1, 256),
            buffer_size,
        }
    }

    /// Room for a batch of `bytes`, if there is any.
    pub(crate) fn try_reserve(self: &Arc<Self>, bytes: usize) -> Option<Room> {
        let permits = u32::try_from(bytes).ok()?;
        self.bytes.try_acquire_many(permits).ok()?.forget();
        Some(self.room(permits))
    }

    /// Room for a batch of `bytes`, when it is there; callers are served in turn. None once the budget is closed.
    pub(crate) async fn reserve(self: Arc<Self>, bytes: usize) -> Option<Room> {
        let permits = u32::try_from(bytes).ok()?;
        self.bytes.acquire_many(permits).await.ok()?.forget();
        Some(self.room(permits))
    }

    fn room(self: &Arc<Self>, bytes: u32) -> Room {
        let id = {
            let mut live = lock(&self.live);
            let id = live.next;
            live.next += 1;
            live.batches.insert(id);
            id
        };
        self.counters.buffered_bytes.add(u64::from(bytes));
        let pooled = if bytes as usize <= self.buffer_size { lock(&self.pool).pop() } else { None };
        let buffer = pooled.unwrap_or_else(|| BytesMut::with_capacity(bytes as usize));
        Room { buffer, permit: Box::new(Held { budget: self.clone(), bytes, id }) }
    }

    /// Takes a settled batch's buffer back.
    pub(crate) fn recycle(&self, buffer: BytesMut) {
        let mut pool = lock(&self.pool);
        // One grown for a large record would hold more than its share.
        if pool.len() < self.pooled_buffers
            && (self.buffer_size / 2..=self.buffer_size * 2).contains(&buffer.capacity())
        {
            pool.push(buffer);
        }
    }

    /// Resolves when every batch opened before now is settled. The sender is dropped unused with the budget.
    pub(crate) fn settled(&self) -> oneshot::Receiver<()> {
        let (done, settled) = oneshot::channel();
        let mut live = lock(&self.live);
        let next = live.next;
        if live.batches.is_empty() {
            let _ = done.send(());
        } else {
            live.flushes.push((next, done));
        }
        settled
    }

    /// Batches not settled.
    pub(crate) fn live(&self) -> usize {
        lock(&self.live).batches.len()
    }

    /// Wakes whoever waits for room: there will be none.
    pub(crate) fn close(&self) {
        self.bytes.close();
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("left", &self.bytes.available_permits()).finish_non_exhaustive()
    }
}

/// A batch's share.
struct Held {
    budget: Arc<Budget>,
    bytes: u32,
    id: u64,
}

impl Permit for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.bytes.add_permits(self.bytes as usize);
        self.budget.counters.buffered_bytes.sub(u64::from(self.bytes));
        let mut live = lock(&self.budget.live);
        live.batches.remove(&self.id);
        if !live.flushes.is_empty() {
            let oldest = live.batches.first().copied().unwrap_or(u64::MAX);
            for (below, done) in std::mem::take(&mut live.flushes) {
                if below <= oldest {
                    // Whoever dropped the flush does not want to know.
                    let _ = done.send(());
                } else {
                    live.flushes.push((below, done));
                }
            }
        }
    }
}
