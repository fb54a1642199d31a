//! The pull form: the application asks for records, and says of each what came of it.

use std::fmt;
use std::ops::Deref;

use tokio::sync::mpsc;

use super::builder::ConsumerBuilder;
use super::delivery::Delivery;
use super::handle::ConsumerHandle;
use super::offer::{Offer, Running, Taken, Terms, offer};
use super::run::Summary;
use super::start::Consumer;
use crate::error::{ConsumeError, HandlerFailure};

/// Records that wait to be pulled, at most; each partition has no more there than may be with handlers at once.
const OFFERED: usize = 64;

/// Records to be pulled, in an order that `handler.order` allows. Made by [`Consumer::deliveries`].
///
/// Dropping it behaves as dropping the future of [`Consumer::run`]: records that were pulled and not answered are not
/// committed, even if they are answered later; what was handled is committed in the background, then the group is left.
/// [`Deliveries::finish`] does it in good order, and tells how it went.
#[must_use = "pull records with next(), and end with finish()"]
pub struct Deliveries {
    /// Dropped before the offers: what a consumer that ends has on offer did not fail.
    running: Running,
    offers: mpsc::Receiver<Offer>,
    handle: ConsumerHandle,
}

/// A record that was pulled: a [`Delivery`] that has to be answered with [`Pulled::done`] or [`Pulled::failed`].
///
/// Dropped without an answer it counts as failed: it is retried, and then `handler.on.failure` decides. It can go to
/// another task or thread and be answered there; answers need not come in the order of the records.
#[must_use = "dropped without done() it counts as failed"]
pub struct Pulled {
    taken: Taken,
}

impl Consumer {
    /// Starts the consumer, and has the application pull records.
    ///
    /// ```no_run
    /// # async fn bill(_: &[u8]) -> Result<(), std::io::Error> { Ok(()) }
    /// # async fn example(client: indelible::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut deliveries = client.consumer("billing").topics(["orders"]).deliveries()?;
    /// while let Some(delivery) = deliveries.next().await {
    ///     match bill(delivery.value()).await {
    ///         Ok(()) => delivery.done(),
    ///         Err(error) => delivery.failed(error),
    ///     }
    /// }
    /// deliveries.finish().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Everything that [`Consumer::run`] promises holds here too. As many records can be pulled before the first is
    /// answered as could be with handlers at once: one of each partition, or `handler.workers` with another
    /// `handler.order`. [`Deliveries::next`] waits when all of these are out.
    ///
    /// Commits, heartbeats and rebalances go on while nobody pulls: a record that is on offer and not pulled is withdrawn
    /// when its partition is revoked. `handler.timeout.ms` counts from the moment when a record was pulled; a record that
    /// is answered later has failed, and its answer has no effect.
    pub fn deliveries(mut self) -> Deliveries {
        let (handle, terms) = (self.handle(), Terms::of(&mut self));
        let (give, offers) = mpsc::channel(OFFERED);
        let running = Running::start(self, terms.clone(), move |delivery: Delivery| {
            let give = give.clone();
            offer(terms.clone(), delivery, async move |offer| {
                // An error drops the offer, which withdraws it.
                let _ = give.send(offer).await;
            })
        });
        Deliveries { running, offers, handle }
    }
}

impl ConsumerBuilder {
    /// Builds the consumer and starts it: see [`Consumer::deliveries`].
    ///
    /// # Errors
    /// As [`ConsumerBuilder::build`].
    pub fn deliveries(self) -> Result<Deliveries, ConsumeError> {
        Ok(self.build()?.deliveries())
    }
}

impl Deliveries {
    /// The next record. None when the consumer has stopped, for whatever reason: [`Deliveries::finish`] tells it.
    ///
    /// # Cancel safety
    /// Dropping the future takes no record away: the next call gets it.
    pub async fn next(&mut self) -> Option<Pulled> {
        loop {
            // Nothing is awaited between here and the return.
            if let Some(taken) = self.offers.recv().await?.take() {
                return Some(Pulled { taken });
            }
        }
    }

    /// A hand on the consumer, to stop it and to read its figures.
    pub fn handle(&self) -> ConsumerHandle {
        self.handle.clone()
    }

    /// Stops the consumer in good order, if it runs: waits for the answers of records that were pulled, for up to
    /// `shutdown.timeout.ms`, commits what is handled, leaves the group, and tells what it did.
    ///
    /// # Errors
    /// As [`Consumer::run`].
    ///
    /// # Cancel safety
    /// Dropping the future behaves as dropping the `Deliveries`.
    pub async fn finish(mut self) -> Result<Summary, ConsumeError> {
        // In this order: what is withdrawn after the consumer was told to stop is not offered again.
        self.handle.shutdown();
        self.withdraw();
        self.running.outcome().await
    }

    fn withdraw(&mut self) {
        self.offers.close();
        while self.offers.try_recv().is_ok() {}
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        if let Some(error) = self.running.unseen_error() {
            tracing::error!(%error, "a consumer stopped, and nobody asked why: Deliveries::finish tells it");
        }
    }
}

impl fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliveries").finish_non_exhaustive()
    }
}

impl Pulled {
    /// The record is handled: the offset behind it can be committed. It has no effect if the partition was revoked and
    /// waited for in vain, if the time limit was over, or if the consumer has ended.
    pub fn done(mut self) {
        self.taken.answer(Ok(()));
    }

    /// The record could not be handled: nothing of it is committed. It is tried again `handler.retries` times, pulled
    /// each time as a new record; then `handler.on.failure` decides.
    pub fn failed(mut self, reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) {
        self.taken.answer(Err(HandlerFailure::Error(reason.into())));
    }
}

impl Deref for Pulled {
    type Target = Delivery;

    fn deref(&self) -> &Delivery {
        &self.taken.delivery
    }
}

impl fmt::Debug for Pulled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pulled").field(&self.taken.delivery).finish()
    }
}
