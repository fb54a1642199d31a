//! Records for topics whose partitions nobody could tell yet: with a spool they are accepted all the same, into the
//! topic's *unpartitioned* queue, and go to partitions when the metadata comes.

use super::{Appending, Shared, TopicQueues, Wait};
use crate::core::produce::accumulator::{Appended, PartitionQueue, ReadyBatch, Scattered, UNPARTITIONED};
use crate::error::{MetadataError, SendCause, SpoolError};
use crate::io::cluster::is_legal_name;
use crate::types::TopicId;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How long `send` waits for a topic's partitions before it accepts records without them, if no broker answers.
const BROKER_PATIENCE: Duration = Duration::from_millis(500);
/// How long a topic is asked for at a stretch. The producer is not held meanwhile.
const ASK_ROUND: Duration = Duration::from_secs(5);

impl Shared {
    /// Makes queues for topics that the spool remembers: name, id and partition count.
    pub(crate) fn with_known_topics(self: &Arc<Self>, topics: &BTreeMap<Arc<str>, (TopicId, i32)>) {
        for (name, (_, partitions)) in topics {
            self.add_partitions(name, usize::try_from(*partitions).unwrap_or(0));
            // Nothing else does: `send` finds the queues there, and asks nobody for the leaders.
            self.ask_until_known(name.clone());
        }
    }

    /// As [`Shared::learn_topic`]. With a spool, and if no broker can be asked, the topic gets an unpartitioned queue.
    pub(crate) async fn learn_topic_or_spool(
        self: &Arc<Self>,
        topic: &str,
        timeout: Duration,
    ) -> Result<(), MetadataError> {
        if self.config.spool.is_none() {
            return self.learn_topic(topic, timeout).await;
        }
        let now = self.cluster.thread().now();
        // With a client that no broker has answered in this time one topic is like the other.
        let silent = self.has_heard_nothing() && now >= self.since + BROKER_PATIENCE;
        let brief = if silent { Duration::ZERO } else { BROKER_PATIENCE.min(timeout) };
        let mut outcome = self.learn_topic(topic, brief).await;
        if let Err(MetadataError::UnknownTopic { .. } | MetadataError::Broker { .. }) = &outcome
            && self.is_answered_for(topic)
        {
            // Brokers answer, so it goes as without a spool: the topic may be being created.
            let left = timeout.saturating_sub(self.cluster.thread().now().saturating_duration_since(now));
            outcome = self.learn_topic(topic, left).await;
        }
        match outcome {
            Err(MetadataError::NoBrokerReachable(_)) => {}
            // Time ran out, and nobody said anything.
            Err(MetadataError::UnknownTopic { .. }) if !self.is_answered_for(topic) => {}
            other => return other,
        }
        tracing::info!(topic, "no broker can be asked for the topic: its records get their partitions later");
        self.unpartitioned_queue(&Arc::from(topic));
        Ok(())
    }

    /// Whether no broker has ever answered this client.
    fn has_heard_nothing(&self) -> bool {
        self.cluster.view().version == 0
    }

    fn is_answered_for(&self, topic: &str) -> bool {
        self.cluster.view().topic(topic).is_some()
    }

    /// As [`Self::learn_topic_or_spool`], without waiting: the unpartitioned queue is made if no broker was ever heard.
    pub(crate) fn try_spool_topic(self: &Arc<Self>, topic: &str) -> Result<(), Wait> {
        if self.config.spool.is_none() || !self.has_heard_nothing() {
            return Err(Wait::Topic);
        }
        let name: Arc<str> = Arc::from(topic);
        if !is_legal_name(topic) {
            return Err(Wait::Refused(MetadataError::InvalidTopicName { topic: name }.into()));
        }
        self.unpartitioned_queue(&name);
        Ok(())
    }

    /// The topic's unpartitioned queue, made if there is none. It takes records only while the partitions are not known;
    /// until they are, they are asked for.
    pub(crate) fn unpartitioned_queue(self: &Arc<Self>, name: &Arc<str>) -> Arc<PartitionQueue> {
        let (queue, is_new) = {
            let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
            let topic = topics.entry(name.clone()).or_insert_with(|| Arc::new(TopicQueues::new(name)));
            let mut of_topic = topic.queues.write().unwrap_or_else(PoisonError::into_inner);
            let unknown = of_topic.partitions.is_empty();
            match &of_topic.unpartitioned {
                Some(queue) => (queue.clone(), false),
                None => {
                    self.undivided.fetch_add(1, Ordering::AcqRel);
                    (of_topic.unpartitioned.insert(self.new_queue(name, UNPARTITIONED)).clone(), unknown)
                }
            }
        };
        if is_new {
            self.ask_until_known(name.clone());
        }
        queue
    }

    /// The topic's unpartitioned queue, while it is not drained. Until then nothing of the topic's partitions is to be
    /// taken: it is newer.
    pub(crate) fn unpartitioned(&self, topic: &str) -> Option<Arc<PartitionQueue>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let queues = topics.get(topic)?.queues.read().unwrap_or_else(PoisonError::into_inner);
        queues.unpartitioned.clone()
    }

    /// Whether the topic has an unpartitioned queue that is not drained, whoever learnt its partitions meanwhile. Cheap
    /// while no topic has one.
    pub(crate) fn is_undivided(&self, topic: &str) -> bool {
        self.undivided.load(Ordering::Acquire) > 0 && self.unpartitioned(topic).is_some()
    }

    /// Everything of the topic's unpartitioned queue has got its partitions. False when that cannot be: records are, or
    /// may come, in it.
    pub(crate) fn drained(&self, topic: &str) -> bool {
        let topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let Some(topic) = topics.get(topic) else { return true };
        let mut queues = topic.queues.write().unwrap_or_else(PoisonError::into_inner);
        if queues.partitions.is_empty() || queues.unpartitioned.as_ref().is_some_and(|queue| !queue.is_empty()) {
            return false;
        }
        if queues.unpartitioned.take().is_some() {
            self.undivided.fetch_sub(1, Ordering::AcqRel);
        }
        true
    }

    pub(super) fn append_unpartitioned(
        &self,
        queue: &Arc<PartitionQueue>,
        appending: &mut Appending<'_, '_>,
    ) -> Result<Appended, Wait> {
        if let Some(partition) = appending.record.partition.filter(|partition| *partition < 0) {
            let topic = queue.partition.topic.clone();
            return Err(Wait::Refused(SendCause::NoSuchPartition { topic, partition, partitions: 0 }));
        }
        loop {
            if let Some(appended) = self.append_once(queue, appending)? {
                return Ok(appended);
            }
        }
    }

    /// Distributes the records of `batch`, which is loaded and unpartitioned, among the topic's `partitions`: where the
    /// application chose, else by the partitioner; records without a key stay together.
    pub(crate) fn scatter(&self, batch: &ReadyBatch, partitions: usize) -> Result<Scattered, SendCause> {
        let topic = &batch.cell().partition().topic;
        let count = i32::try_from(partitions).unwrap_or(i32::MAX);
        let mut sticky = None;
        let scattered = batch.scatter(&self.batch, |chosen, key, value| {
            let chosen = Some(chosen).filter(|chosen| *chosen != UNPARTITIONED);
            let chosen = chosen.or_else(|| self.partitioner.partition(topic, key, value, count));
            let partition = chosen.unwrap_or_else(|| {
                *sticky.get_or_insert_with(|| i32::try_from(self.any_partition(topic, partitions)).unwrap_or(0))
            });
            let refusal = || SendCause::NoSuchPartition { topic: topic.clone(), partition, partitions };
            if (0..count).contains(&partition) { Ok(partition) } else { Err((partition, refusal())) }
        });
        scattered.ok_or_else(|| {
            SendCause::Spool(SpoolError::Damaged {
                path: self.config.spool.as_ref().map(|spool| spool.directory.clone()).unwrap_or_default(),
                offset: 0,
                what: format!("a batch for topic {topic} cannot be taken apart into its records"),
            })
        })
    }

    /// Asks for the topic until it is known, or the producer is gone.
    pub(crate) fn ask_until_known(self: &Arc<Self>, topic: Arc<str>) {
        let (shared, cluster) = (Arc::downgrade(self), self.cluster.clone());
        self.cluster.thread().spawn(async move {
            let backoff = cluster.retry_backoff();
            for failures in 1.. {
                let found = cluster.topic(&topic, ASK_ROUND).await;
                let Some(shared) = shared.upgrade().filter(|shared| !shared.is_stopping()) else { return };
                match found {
                    Ok(view) => return shared.add_partitions(&topic, view.partitions.len()),
                    Err(error) => tracing::debug!(%error, "the partitions of spooled records are still not known"),
                }
                drop(shared);
                tokio::time::sleep(backoff.delay(failures, cluster.thread().random().next())).await;
            }
        });
    }
}
