//! The end: what was not delivered is in the spool, and the next producer that opens it goes on.

use crate::core::produce::accumulator::ReadyBatch;
use crate::error::SendCause;
use crate::io::sender::Sender;
use std::time::Instant;

impl Sender {
    /// Writes what is not written yet, frees the spool, and tells the receipts. Returns how many batches are neither
    /// delivered nor on disk.
    pub(in crate::io::sender) async fn leave_to_spool(&mut self) -> usize {
        let now = Instant::now();
        self.ensure_parts(usize::MAX);
        // With positions only a cut may be written, and this is the last one.
        if self.shared.uses_cuts() {
            self.want_cut(now);
            self.cut_if_due(now + self.shared.config.linger);
        }
        let mut left: Vec<(usize, ReadyBatch, bool)> = Vec::new();
        for id in 0..self.parts.len() {
            self.take_all(id, now);
            self.spill(id, now);
        }
        self.flush_to_spool();
        for id in 0..self.parts.len() {
            if let Some(part) = self.parts.get_mut(id) {
                left.extend(part.window.drain().into_iter().map(|(batch, maybe)| (id, batch, maybe)));
            }
        }
        if let Some(keeper) = self.keeper.take() {
            keeper.spool.close().await;
        }
        let (mut kept, mut lost) = (0, 0);
        for (id, batch, maybe) in left {
            let last = self.excuse(id);
            if batch.cell().is_spooled() {
                kept += 1;
                batch.keep(SendCause::Closed, last);
            } else {
                lost += 1;
                // It was given to the disk, so it may turn up.
                batch.fail(maybe || batch.stored.is_some(), SendCause::Closed, last);
            }
        }
        if kept > 0 {
            tracing::info!(batches = kept, "the producer ended; what was not delivered is in the spool");
        }
        lost
    }
}
