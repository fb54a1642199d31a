//! The end: what was not delivered is in the spool, and the next producer that opens it goes on.

use super::watch::Told;
use crate::core::produce::accumulator::{ReadyBatch, Stored};
use crate::error::SendCause;
use crate::io::sender::Sender;
use std::time::{Duration, Instant};

/// How long the disk may take for what is left.
const CLOSING: Duration = Duration::from_secs(30);

impl Sender {
    /// Writes what is not written yet, frees the spool, and tells the receipts. Returns how many batches are neither
    /// delivered nor on disk.
    pub(in crate::io::sender) async fn leave_to_spool(&mut self) -> usize {
        let now = Instant::now();
        self.ensure_parts(usize::MAX);
        loop {
            // Whoever has compressed one tells only of a queue that was looked at since it told last.
            self.shared.take_signals(&mut self.signalled);
            self.signalled.drain(..).for_each(|queue| queue.looked());
            if self.take_last(now) {
                break;
            }
            self.shared.signalled().await;
        }
        let mut left: Vec<(usize, ReadyBatch, bool)> = Vec::new();
        for id in 0..self.parts.len() {
            self.spill_all(id);
        }
        self.flush_to_spool();
        for id in 0..self.parts.len() {
            if let Some(part) = self.parts.get_mut(id) {
                left.extend(part.window.drain().into_iter().map(|(batch, maybe)| (id, batch, maybe)));
            }
        }
        self.tell(Told::default(), 0);
        if let Some(keeper) = self.keeper.take() {
            let spool = keeper.spool.clone();
            drop(keeper);
            if tokio::time::timeout(CLOSING, spool.clone().close()).await.is_err() {
                tracing::error!(trouble = spool.state().trouble.as_deref(), "the spool cannot be written to its end");
            }
        }
        let (mut kept, mut lost) = (0, 0);
        for (id, batch, maybe) in left {
            let last = self.excuse(id);
            if batch.stored.as_deref().is_some_and(Stored::is_durable) {
                kept += 1;
                batch.keep(SendCause::Closed, last);
            } else {
                lost += 1;
                // It was given to the disk, so it may turn up.
                let written = batch.stored.is_some();
                batch.fail(maybe || written, SendCause::Closed, last);
            }
        }
        if kept > 0 {
            tracing::info!(batches = kept, "the producer ended; what was not delivered is in the spool");
        }
        lost
    }

    /// Takes what is left in the queues. False when that was not all.
    fn take_last(&mut self, now: Instant) -> bool {
        if self.shared.uses_cuts() {
            // With positions only a cut may be written. This is the last one: no record is accepted any more.
            (0..self.parts.len()).for_each(|id| self.want_cut(id, now));
            self.cut_if_due(now + self.shared.config.linger);
        } else {
            (0..self.parts.len()).for_each(|id| self.take_all(id));
        }
        self.parts.iter().all(|part| part.queue.is_empty())
    }
}
