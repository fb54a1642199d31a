//! `buffer.memory`: how many bytes of batches there may be, which batches are not settled, and their used buffers.

mod outstanding;

use crate::core::produce::accumulator::{Permit, Room, Token};
use crate::metrics::Counters;
use crate::sync::lock;
use bytes::BytesMut;
pub(super) use outstanding::Lost;
use outstanding::Outstanding;
use std::fmt;
use std::sync::{Arc, Mutex};
use tokio::sync::{Semaphore, oneshot};

/// Buffers kept for the next batches: a share of the budget, so that memory stays near it.
const POOLED_SHARE: usize = 4;

pub(crate) struct Budget {
    bytes: Semaphore,
    counters: Arc<Counters>,
    /// Batches that are not settled.
    live: Arc<Outstanding>,
    /// Batches that are not in the spool, if there is one.
    unspooled: Option<Arc<Outstanding>>,
    pool: Mutex<Vec<BytesMut>>,
    pooled_buffers: usize,
    buffer_size: usize,
}

impl Budget {
    pub(crate) fn new(limit: usize, buffer_size: usize, counters: Arc<Counters>, spool: bool) -> Budget {
        Budget {
            bytes: Semaphore::new(limit.min(Semaphore::MAX_PERMITS)),
            counters,
            live: Arc::default(),
            unspooled: spool.then(Arc::default),
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

    /// What flushes wait for: batches that were found in the spool have none of their own.
    pub(crate) fn live_token(&self) -> Token {
        self.live.enter()
    }

    fn room(self: &Arc<Self>, bytes: u32) -> Room {
        let pooled = if bytes as usize <= self.buffer_size { lock(&self.pool).pop() } else { None };
        let buffer = pooled.unwrap_or_else(|| BytesMut::with_capacity(bytes as usize));
        let unspooled = self.unspooled.as_ref().map(|unspooled| unspooled.enter() as _);
        Room { buffer, permit: self.hold(bytes), live: Some(self.live.enter()), space: None, unspooled }
    }

    fn hold(self: &Arc<Self>, bytes: u32) -> Box<dyn Permit> {
        self.counters.buffered_bytes.add(u64::from(bytes));
        Box::new(Held { budget: self.clone(), bytes })
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

    /// Resolves when every batch opened before now is settled or parked. The sender is dropped unused with the budget.
    pub(crate) fn settled(&self) -> oneshot::Receiver<Option<Lost>> {
        self.live.none_left()
    }

    /// Batches not settled.
    pub(crate) fn live(&self) -> usize {
        self.live.len()
    }

    /// Resolves when every batch opened before now is in the spool, or settled, with those that did not get there.
    /// None without a spool.
    pub(crate) fn spooled(&self) -> Option<oneshot::Receiver<Option<Lost>>> {
        self.unspooled.as_ref().map(|unspooled| unspooled.none_left())
    }

    /// Batches that are neither in the spool nor settled; 0 without a spool.
    pub(crate) fn unspooled(&self) -> usize {
        self.unspooled.as_ref().map_or(0, |unspooled| unspooled.len())
    }

    /// Whether somebody waits for [`Self::spooled`].
    pub(crate) fn is_spooling_awaited(&self) -> bool {
        self.unspooled.as_ref().is_some_and(|unspooled| unspooled.is_awaited())
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
}

impl Permit for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.bytes.add_permits(self.bytes as usize);
        self.budget.counters.buffered_bytes.sub(u64::from(self.bytes));
    }
}
