//! What becomes of a record whose handler failed for the last time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::dead_letter::{Family, History, Letter, Origin, Writer};
use super::delivery::Delivery;
use super::offer::Withdrawn;
use super::retry_topics::RetryTopics;
use crate::client::Client;
use crate::config::{ConsumerConfig, OnFailure};
use crate::error::{ConsumeError, HandlerFailure, MetadataError};
use crate::io::inbox::Stats;

/// How long the topics for failed records are looked for at the start.
const LOOK: Duration = Duration::from_secs(30);

/// The policy of a consumer, with what it needs to carry it out.
#[derive(Clone, Debug)]
pub(super) struct Disposer {
    on_failure: OnFailure,
    retry_topics: RetryTopics,
    group: Option<Arc<str>>,
    client: Client,
    writer: Writer,
    stats: Arc<Stats>,
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
    pub(super) fn new(
        config: &ConsumerConfig,
        group: Option<&Arc<str>>,
        client: &Client,
        stats: &Arc<Stats>,
    ) -> Disposer {
        Disposer {
            on_failure: config.on_failure.clone(),
            retry_topics: RetryTopics::new(config),
            group: group.cloned(),
            client: client.clone(),
            writer: Writer::new(client.clone(), config.decompressed_max_bytes),
            stats: stats.clone(),
        }
    }

    /// Says at once in the log if the dead letter topic does not exist, and not when the first record fails. Retry topics
    /// are subscribed to, which tells the same.
    pub(super) fn look_for_topics(&self) {
        if let OnFailure::DeadLetter(topic) = &self.on_failure {
            let (cluster, topic) = (self.client.cluster().clone(), topic.clone());
            self.client.cluster().thread().spawn(async move {
                if let Err(error @ MetadataError::UnknownTopic { .. }) = cluster.look_up(&topic, LOOK).await {
                    tracing::warn!(%error, "a record that cannot be handled would stop the consumer: no dead letter topic");
                }
            });
        }
    }

    /// Disposes of a record that was handled `attempts` times here, the last time with `failure`.
    pub(super) fn dispose(&self, delivery: &Delivery, attempts: u32, failure: HandlerFailure) -> Disposal {
        if Withdrawn::is(&failure) {
            // Only a consumer that stops withdraws what is not revoked: this reason comes after the first, and is not seen.
            return Box::pin(std::future::ready(Disposed::Stop(ConsumeError::Closed)));
        }
        let (partition, offset) = (delivery.topic_partition().clone(), delivery.offset());
        let retry = self.retry_topics.position(delivery);
        let history = history(delivery, retry.is_some(), attempts);
        let attempts = history.attempts;
        if let Some(next) = self.retry_topics.after(retry) {
            let now = self.client.cluster().thread().coarse_millis();
            let due = now.saturating_add(i64::try_from(next.delay.as_millis()).unwrap_or(i64::MAX));
            tracing::warn!(%partition, offset, attempts, %failure, retry_topic = %next.topic, "handled again later");
            return self.write(delivery, Family::Retry, next.topic.clone(), Some(due), history, failure);
        }
        let outcome = match &self.on_failure {
            OnFailure::Skip => {
                tracing::error!(%partition, offset, attempts, %failure, "a record could not be handled and is skipped");
                self.stats.skipped.add(1);
                Disposed::Handled
            }
            OnFailure::Stop => {
                Disposed::Stop(ConsumeError::Handler { partition, offset, attempts, failure, commit: None })
            }
            OnFailure::DeadLetter(topic) => {
                tracing::error!(%partition, offset, attempts, %failure, dead_letter_topic = %topic, "a record could not be handled");
                return self.write(delivery, Family::DeadLetter, topic.clone(), None, history, failure);
            }
        };
        Box::pin(std::future::ready(outcome))
    }

    /// Writes the record elsewhere. It counts as handled when that is acknowledged, and not before.
    fn write(
        &self,
        delivery: &Delivery,
        family: Family,
        topic: Arc<str>,
        due: Option<i64>,
        history: History,
        failure: HandlerFailure,
    ) -> Disposal {
        let letter =
            Letter { family, topic: &topic, group: self.group.as_deref(), history: &history, failure: &failure, due };
        let record = letter.record(delivery);
        let (partition, offset) = (delivery.topic_partition().clone(), delivery.offset());
        let (writer, stats) = (self.writer.clone(), self.stats.clone());
        let written = self.client.cluster().thread().run(async move { writer.write(record).await });
        Box::pin(async move {
            match written.await {
                Some(Ok(())) => {
                    let counter = if family == Family::Retry { &stats.retried_later } else { &stats.dead_letters };
                    counter.add(1);
                    Disposed::Handled
                }
                Some(Err(error)) => {
                    let (attempts, error) = (history.attempts, Box::new(error));
                    Disposed::Stop(ConsumeError::DeadLetter { partition, offset, topic, attempts, failure, error })
                }
                None => Disposed::Stop(ConsumeError::Closed),
            }
        })
    }

    /// Before which moment, in milliseconds since 1970, the record must not be handled: it comes from a retry topic.
    #[inline]
    pub(super) fn due(&self, delivery: &Delivery) -> Option<i64> {
        self.retry_topics.due(delivery)
    }
}

/// Headers are believed only where this consumer's group writes them.
fn history(delivery: &Delivery, from_retry_topic: bool, attempts: u32) -> History {
    let here = || Origin {
        partition: delivery.topic_partition().clone(),
        offset: delivery.offset(),
        timestamp: delivery.timestamp(),
    };
    if !from_retry_topic {
        return History { origin: here(), attempts };
    }
    let before: u32 = Family::Retry.number(delivery, "attempts").unwrap_or(0);
    let origin = Family::Retry.origin(delivery).unwrap_or_else(here);
    History { origin, attempts: before.saturating_add(attempts) }
}
