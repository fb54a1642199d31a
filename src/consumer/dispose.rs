//! What becomes of a record whose handler failed for the last time.

use std::future::Future;
use std::pin::Pin;

use super::delivery::Delivery;
use super::offer::Withdrawn;
use crate::config::{ConsumerConfig, OnFailure};
use crate::error::{ConsumeError, HandlerFailure};

/// The policy of a consumer, with what it needs to carry it out.
#[derive(Clone, Debug)]
pub(super) struct Disposer {
    on_failure: OnFailure,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Disposed {
    /// The record counts as handled: it is skipped, or written elsewhere and that write acknowledged.
    Handled,
    /// It does not, and the consumer stops with this.
    Stop(ConsumeError),
}

/// Goes on until the record is out of the way or cannot be brought there.
pub(super) type Disposal = Pin<Box<dyn Future<Output = Disposed> + Send>>;

impl Disposer {
    /// As the configuration says.
    pub(super) fn new(config: &ConsumerConfig) -> Disposer {
        Disposer { on_failure: config.on_failure.clone() }
    }

    /// Disposes of a record that was handled `attempts` times, the last time with `failure`.
    pub(super) fn dispose(&self, delivery: &Delivery, attempts: u32, failure: HandlerFailure) -> Disposal {
        if Withdrawn::is(&failure) {
            // Only a consumer that stops withdraws what is not revoked: this reason comes after the first and is not seen.
            return Box::pin(std::future::ready(Disposed::Stop(ConsumeError::Closed)));
        }
        let (partition, offset) = (delivery.topic_partition().clone(), delivery.offset());
        let outcome = match self.on_failure {
            OnFailure::Skip => {
                tracing::error!(%partition, offset, attempts, %failure, "a record could not be handled and is skipped");
                Disposed::Handled
            }
            OnFailure::Stop | OnFailure::DeadLetter(_) => {
                Disposed::Stop(ConsumeError::Handler { partition, offset, attempts, failure, commit: None })
            }
        };
        Box::pin(std::future::ready(outcome))
    }
}
