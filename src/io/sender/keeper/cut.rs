//! Cuts: with positions, what is on disk has to be a prefix of every source, so the batches of all partitions are sealed
//! together and written as one group with the positions they reach.

use crate::core::produce::accumulator::{PartitionQueue, ReadyBatch, Take};
use crate::core::spool::Op;
use crate::io::sender::Sender;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A cut whose batches are still being compressed.
pub(super) struct CutInProgress {
    /// How many batches each queue still owes.
    left: Vec<(Arc<PartitionQueue>, usize)>,
    batches: Vec<(usize, ReadyBatch)>,
    positions: Vec<(Arc<str>, u64)>,
}

impl Sender {
    /// Batches are taken by cuts only, and there is something to take.
    pub(in crate::io::sender) fn want_cut(&mut self, now: Instant) {
        let linger = self.shared.config.linger;
        if let Some(keeper) = &mut self.keeper {
            let at = if self.shared.is_flushing() { now } else { now + linger };
            keeper.cut_at = Some(keeper.cut_at.map_or(at, |earlier| earlier.min(at)));
        }
    }

    pub(super) fn cut_if_due(&mut self, now: Instant) {
        let Some(keeper) = &mut self.keeper else { return };
        let due = keeper.cut_at.is_some_and(|at| at <= now) || (keeper.urged.is_some() && keeper.cut_at.is_some());
        if keeper.cut.is_none() && due {
            keeper.cut_at = None;
            let cut = self.shared.cut();
            keeper.cut = Some(CutInProgress { left: cut.queues, batches: Vec::new(), positions: cut.positions });
        }
        self.continue_cut(now);
    }

    fn continue_cut(&mut self, now: Instant) {
        let Some(mut cut) = self.keeper.as_mut().and_then(|keeper| keeper.cut.take()) else { return };
        for (queue, left) in &mut cut.left {
            while *left > 0 {
                // Sealed ones stand in front, so the open one is never sealed here.
                let Take::Batch(batch) = queue.take(now, Duration::MAX) else { break };
                cut.batches.push((queue.id, batch));
                *left -= 1;
            }
        }
        if cut.left.iter().any(|(_, left)| *left > 0) {
            if let Some(keeper) = &mut self.keeper {
                keeper.cut = Some(cut);
            }
            return;
        }
        for (id, batch) in cut.batches {
            self.ensure_parts(id);
            self.accept(id, batch);
            self.stamp_ahead(id);
            self.make_runnable(id);
        }
        if let Some(keeper) = &mut self.keeper {
            let positions = cut.positions.into_iter();
            keeper.outgoing.ops.extend(positions.map(|(source, position)| Op::Position { source, position }));
        }
    }
}
