//! Which batches have their bytes in memory: those whose turn it is. The others have them on disk.

use super::Keeper;
use crate::core::produce::accumulator::{Permit, ReadyBatch, Stored};
use crate::core::spool::BatchId;
use crate::error::SpoolError;
use crate::io::sender::{Event, Sender};
use crate::wire::batch::SealedBatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// When `send` waits for memory, the batches of partitions that have delivered nothing for so long give theirs up. Where
/// deliveries come they free it soon, and reading back costs more.
pub(super) const PATIENCE: Duration = Duration::from_millis(50);

/// How many batches of a partition are read back ahead of their turn.
const AHEAD: usize = 8;

/// The memory of a batch that was read back.
struct Loaded {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Permit for Loaded {}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Keeper {
    /// Memory for `bytes` to be read back: half as much as batches have otherwise, and at least one batch.
    fn permit(&self, bytes: usize, buffer_memory: usize) -> Option<Loaded> {
        let held = self.loaded.load(Ordering::Relaxed);
        if held > 0 && held + bytes > buffer_memory / 2 {
            return None;
        }
        self.loaded.fetch_add(bytes, Ordering::Relaxed);
        Some(Loaded { bytes, all: self.loaded.clone() })
    }
}

impl Sender {
    /// Whether the next batch of part `id` is in memory. If not, it is being read back, and the part gets its turn then.
    pub(in crate::io::sender) fn is_loaded(&mut self, id: usize) -> bool {
        let Some(part) = self.parts.get(id).filter(|_| self.keeper.is_some()) else { return true };
        if part.window.peek().is_none_or(ReadyBatch::is_loaded) {
            self.load_ahead(id);
            return true;
        }
        if self.load_ahead(id) {
            return false;
        }
        // Read back too early: they cannot go before it, and hold what it needs.
        if let Some(part) = self.parts.get_mut(id) {
            part.window.idle_mut().take(4 * AHEAD).for_each(unload);
        }
        if !self.load_ahead(id)
            && let Some(keeper) = &mut self.keeper
        {
            keeper.hungry.push_back(id);
        }
        false
    }

    /// Has the next batches of part `id` read back, as far as there is memory. False when there was not for the first.
    fn load_ahead(&mut self, id: usize) -> bool {
        let (Some(part), Some(keeper)) = (self.parts.get_mut(id), &self.keeper) else { return true };
        if part.loading > 0 {
            return true;
        }
        let on_disk = |batch: &ReadyBatch| {
            let stored = batch.stored.as_ref().filter(|_| !batch.is_loaded())?;
            Some((stored.id, batch.len()))
        };
        // However many there are before the next one that will go anew, after it.
        let next = part.window.peek().and_then(on_disk);
        let ahead = part.window.batches_mut().take(AHEAD).filter_map(|batch| on_disk(batch));
        let ahead: Vec<_> = next.into_iter().chain(ahead.filter(|batch| Some(*batch) != next)).collect();
        let mut wanted = 0;
        for (name, len) in ahead {
            let Some(permit) = keeper.permit(len, self.shared.config.buffer_memory) else { break };
            let report = self.report.clone();
            keeper.spool.read(
                name,
                Box::new(move |result| {
                    let _ = report.send(Event::Loaded { part: id, batch: name, result, permit: Box::new(permit) });
                }),
            );
            wanted += 1;
        }
        part.loading = wanted;
        wanted > 0
    }

    pub(in crate::io::sender) fn on_loaded(
        &mut self,
        id: usize,
        name: BatchId,
        result: Result<SealedBatch, SpoolError>,
        permit: Box<dyn Permit>,
    ) {
        let Some(part) = self.parts.get_mut(id) else { return };
        part.loading = part.loading.saturating_sub(1);
        match result {
            Ok(sealed) => {
                if let Some(batch) = find(part.window.batches_mut(), name) {
                    batch.load(sealed, Some(permit));
                }
            }
            Err(error) => self.hold(id, &format!("a batch cannot be read back: {error}; see indelible spool verify")),
        }
        self.on_read_back(id);
        self.make_runnable(id);
    }

    /// Gives those a try that found no memory.
    pub(in crate::io::sender) fn feed_hungry(&mut self) {
        let Some(keeper) = &mut self.keeper else { return };
        for id in std::mem::take(&mut keeper.hungry) {
            // What is being divided has no turn at a leader.
            self.on_read_back(id);
            self.make_runnable(id);
        }
    }

    /// `send` waits for memory: what is on disk gives its own up, and what is not goes there.
    pub(super) fn make_room(&mut self, now: Instant) {
        let Some(keeper) = &mut self.keeper else { return };
        keeper.urged = Some(now);
        let write_ahead = keeper.is_write_ahead();
        for id in 0..self.parts.len() {
            if self.parts.get(id).is_none_or(|part| now < part.progress + PATIENCE) {
                continue;
            }
            if !write_ahead {
                self.spill(id);
            }
            let Some(part) = self.parts.get_mut(id) else { continue };
            for batch in part.window.idle_mut() {
                unload(batch);
            }
        }
    }

    /// Takes the bytes of a batch out of memory, if it is not just being sent.
    pub(super) fn unload_one(&mut self, id: usize, name: BatchId) {
        let Some(part) = self.parts.get_mut(id) else { return };
        if let Some(batch) = find(part.window.idle_mut().rev(), name) {
            unload(batch);
        }
    }
}

fn find<'a>(mut batches: impl Iterator<Item = &'a mut ReadyBatch>, name: BatchId) -> Option<&'a mut ReadyBatch> {
    batches.find(|batch| batch.stored.as_ref().is_some_and(|stored| stored.id == name))
}

fn unload(batch: &mut ReadyBatch) {
    if batch.stored.as_deref().is_some_and(Stored::is_durable) {
        batch.unload();
    }
}
