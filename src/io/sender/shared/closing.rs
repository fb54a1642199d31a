//! Flushing and closing.

use super::Shared;
use crate::error::{CloseError, SendCause};
use crate::io::sender::budget::Lost;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Why there is nothing to flush to.
const FLUSH: &str = "flush_to_spool needs a spool: build the producer with spool(directory), or use flush";
/// For how long nothing may go to the spool before a `close` gives up, at least.
const STALLED: Duration = Duration::from_secs(10);

impl Shared {
    /// Resolves when every batch of before is settled or parked.
    pub(crate) async fn flush(&self) {
        let settled = self.budget.settled();
        self.make_due();
        // An error means that the sender is gone, and with it everything is settled.
        let _ = settled.await;
    }

    /// Resolves when every batch of before is in the spool, or delivered; with why the first was not, if one was not.
    pub(crate) async fn flush_to_spool(&self) -> Result<(), SendCause> {
        match self.flush_to_spool_counting().await? {
            None => Ok(()),
            Some(lost) => Err(lost.cause),
        }
    }

    async fn flush_to_spool_counting(&self) -> Result<Option<Lost>, SendCause> {
        let Some(spooled) = self.budget.spooled() else { return Err(SendCause::NeedsSpool(FLUSH)) };
        self.make_due();
        // Without a write-ahead nothing goes there by itself.
        self.notify.notify_one();
        spooled.await.map_err(|_| SendCause::Closed)
    }

    /// Whether somebody waits until everything is in the spool: a producer that only overflows into it writes all it has.
    pub(crate) fn is_spooling_awaited(&self) -> bool {
        self.budget.is_spooling_awaited()
    }

    fn make_due(&self) {
        for queue in self.queues_from(0) {
            if queue.make_due() {
                self.signal(&queue);
            }
        }
    }

    pub(crate) async fn close(self: &Arc<Self>, timeout: Duration) -> Result<(), CloseError> {
        self.refuse_more();
        let shared = self.clone();
        let lost = self.cluster.thread().run(async move { shared.drain(timeout).await }).await.unwrap_or(0);
        self.stop();
        let mut ended = self.ended.subscribe();
        let left = ended.wait_for(Option::is_some).await.ok().and_then(|left| *left);
        // An error means that the I/O thread is gone, and whatever is left with it.
        let gone = || if self.config.spool.is_some() { self.budget.unspooled() } else { self.budget.live() };
        let batches = lost + left.unwrap_or_else(gone);
        if batches == 0 { Ok(()) } else { Err(CloseError { batches, waited: timeout }) }
    }

    /// Waits for what `close` has to wait for. Says how many batches were given up on the way to the spool.
    async fn drain(&self, timeout: Duration) -> usize {
        // Ahead of delivery everything goes to the spool; what only overflows has its chance of delivery first.
        let lost = if self.write_ahead { self.drain_to_spool(timeout).await } else { 0 };
        if self.budget.unspooled() == 0 || !self.write_ahead {
            let _ = tokio::time::timeout(timeout, self.flush()).await;
        }
        if self.config.spool.is_none() || self.write_ahead { lost } else { self.drain_to_spool(timeout).await }
    }

    /// Waits until everything is in the spool, for as long as something still gets there.
    async fn drain_to_spool(&self, timeout: Duration) -> usize {
        let mut spooled = pin!(self.flush_to_spool_counting());
        let mut left = self.budget.unspooled();
        loop {
            match tokio::time::timeout(timeout.max(STALLED), &mut spooled).await {
                Ok(outcome) => return outcome.ok().flatten().map_or(0, |lost| lost.batches),
                Err(_) if self.budget.unspooled() < left => left = self.budget.unspooled(),
                Err(_) => return 0,
            }
        }
    }

    /// From here on no record enters a batch: whoever is about to append has done so.
    pub(super) fn refuse_more(&self) {
        self.closed.store(true, Ordering::Release);
        drop(self.topics.write().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}
