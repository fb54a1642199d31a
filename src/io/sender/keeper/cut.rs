//! Cuts: with positions, what is on disk has to be a prefix of every source, so the batches of all partitions are sealed
//! together and written as one group with the positions they reach.

use crate::core::produce::accumulator::{PartitionQueue, ReadyBatch};
use crate::core::spool::Op;
use crate::io::sender::Sender;
use std::sync::Arc;
use std::time::Instant;

/// A cut whose batches are still being compressed.
pub(super) struct CutInProgress {
    /// How many batches each queue still owes.
    left: Vec<(Arc<PartitionQueue>, usize)>,
    batches: Vec<(usize, ReadyBatch)>,
    positions: Vec<(Arc<str>, u64)>,
}

impl Sender {
    /// Batches are taken by cuts only: the next one comes when something of part `id` is due.
    pub(in crate::io::sender) fn want_cut(&mut self, id: usize, now: Instant) {
        let linger = self.shared.config.linger;
        let due = self.parts.get(id).and_then(|part| part.queue.due_at(now, linger));
        if let (Some(keeper), Some(due)) = (&mut self.keeper, due) {
            keeper.cut_at = Some(keeper.cut_at.map_or(due, |earlier| earlier.min(due)));
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
        self.continue_cut();
    }

    fn continue_cut(&mut self) {
        let Some(mut cut) = self.keeper.as_mut().and_then(|keeper| keeper.cut.take()) else { return };
        for (queue, left) in &mut cut.left {
            while *left > 0 {
                let Some(batch) = queue.take_sealed() else { break };
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
        self.scatter_on(Instant::now());
    }
}
