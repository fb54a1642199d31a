//! What the application's threads and the sender share: queues, memory, signals.

use super::budget::Budget;
use crate::config::ProducerConfig;
use crate::core::produce::accumulator::{Append, Appended, BatchConfig, PartitionQueue, Room, Sealing, record_size};
use crate::core::produce::partitioner::Partitioner;
use crate::error::{CloseError, MetadataError, SendCause};
use crate::io::cluster::Cluster;
use crate::record::Record;
use crate::sync::lock;
use crate::types::TopicPartition;
use crate::wire::batch::HEADER_LEN;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// No partition is being filled.
const NO_PARTITION: usize = usize::MAX;

pub(crate) struct Shared {
    pub(crate) config: ProducerConfig,
    pub(crate) cluster: Cluster,
    pub(crate) budget: Arc<Budget>,
    batch: Arc<BatchConfig>,
    partitioner: Box<dyn Partitioner>,
    topics: RwLock<HashMap<Arc<str>, Arc<TopicQueues>>>,
    /// All queues in the order of their ids.
    queues: Mutex<Vec<Arc<PartitionQueue>>>,
    signals: Mutex<Vec<Arc<PartitionQueue>>>,
    notify: Notify,
    /// No more records are taken.
    closed: AtomicBool,
    /// The sender ends.
    stop: AtomicBool,
    /// Set when the sender has ended: how many batches it gave up then.
    ended: watch::Sender<Option<usize>>,
}

/// The queues of one topic.
struct TopicQueues {
    name: Arc<str>,
    partitions: RwLock<Vec<Arc<PartitionQueue>>>,
    /// The partition that records without a key go to until its batch is full (KIP-480).
    sticky: AtomicUsize,
}

/// Why a record is not in a batch yet.
pub(crate) enum Wait {
    /// The topic's metadata is not there.
    Topic,
    /// There is no room for a batch of so many bytes.
    Memory { bytes: usize },
    /// It will never be.
    Refused(SendCause),
}

impl Shared {
    pub(crate) fn new(config: ProducerConfig, partitioner: Box<dyn Partitioner>, cluster: Cluster) -> Shared {
        let batch = Arc::new(BatchConfig {
            // A batch larger than a request could never be sent.
            batch_size: config.batch_size.min(config.max_request_size),
            compression: config.compression,
            level: config.compression_level,
            delivery_timeout: config.delivery_timeout,
        });
        let budget = Budget::new(config.buffer_memory, batch.room_for(0), cluster.counters().clone());
        Shared {
            config,
            budget: Arc::new(budget),
            batch,
            partitioner,
            cluster,
            topics: RwLock::default(),
            queues: Mutex::default(),
            signals: Mutex::default(),
            notify: Notify::new(),
            closed: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            ended: watch::Sender::new(None),
        }
    }

    /// Puts the record into its partition's open batch, if nothing has to be waited for.
    pub(crate) fn append(&self, record: &Record<'_>, room: &mut Option<Room>) -> Result<Appended, Wait> {
        let size = record_size(record);
        let limit = self.config.max_request_size;
        if HEADER_LEN + size > limit {
            return Err(Wait::Refused(SendCause::TooLarge { size: HEADER_LEN + size, limit }));
        }
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, which `refuse_more` waits for.
        if self.closed.load(Ordering::Acquire) {
            return Err(Wait::Refused(SendCause::Closed));
        }
        let topic = topics.get(record.topic).ok_or(Wait::Topic)?;
        let partitions = topic.partitions.read().unwrap_or_else(PoisonError::into_inner);
        let chosen = record
            .partition
            .or_else(|| self.partitioner.partition(record.topic, record.key, record.value, partitions.len() as i32));
        let sticky = chosen.is_none();
        let mut at = match chosen {
            Some(partition) => usize::try_from(partition).unwrap_or(usize::MAX),
            None => topic.sticky.load(Ordering::Relaxed),
        };
        if sticky && at >= partitions.len() {
            at = self.next_sticky(topic, partitions.len());
        }
        let timestamp = record.timestamp.unwrap_or_else(|| self.cluster.thread().coarse_millis());
        loop {
            let Some(queue) = partitions.get(at) else {
                return Err(Wait::Refused(SendCause::NoSuchPartition {
                    topic: topic.name.clone(),
                    partition: chosen.unwrap_or(-1),
                    partitions: partitions.len(),
                }));
            };
            let mut sealing: Option<Sealing> = None;
            let appended = queue.append(record, size, timestamp, room, &mut sealing, || self.cluster.thread().now());
            if let Some(sealing) = sealing {
                queue.finish(sealing);
                self.signal(queue);
            }
            match appended {
                Append::Done(appended) => {
                    if appended.opened {
                        self.signal(queue);
                    }
                    return Ok(appended);
                }
                Append::TooLarge => {
                    return Err(Wait::Refused(SendCause::TooLarge { size: HEADER_LEN + size, limit }));
                }
                Append::NeedsRoom => {
                    let bytes = self.batch.room_for(size);
                    *room = Some(self.budget.try_reserve(bytes).ok_or(Wait::Memory { bytes })?);
                    if sticky {
                        at = self.next_sticky(topic, partitions.len());
                    }
                }
            }
        }
    }

    /// Another partition for records without a key: one with a leader, by chance.
    fn next_sticky(&self, topic: &TopicQueues, count: usize) -> usize {
        let view = self.cluster.view();
        let led = |at: &usize| {
            let partition = view.topic(&topic.name).and_then(|topic| topic.partitions.get(*at));
            partition.is_some_and(|partition| partition.leader.is_some())
        };
        let random = self.cluster.thread().random().next() as usize;
        let start = random % count.max(1);
        let next = (0..count).map(|i| (start + i) % count).find(led).unwrap_or(start);
        topic.sticky.store(next, Ordering::Relaxed);
        next
    }

    /// Learns the topic's partitions and makes queues for them.
    pub(crate) async fn learn_topic(&self, topic: &str, timeout: Duration) -> Result<(), MetadataError> {
        let name: Arc<str> = Arc::from(topic);
        let view = self.cluster.topic(&name, timeout).await?;
        self.add_partitions(&name, view.partitions.len());
        Ok(())
    }

    /// Has the topic's metadata asked for in the background.
    pub(crate) fn ask_for_topic(self: &Arc<Self>, topic: &str) {
        let (shared, topic, timeout) = (self.clone(), topic.to_owned(), self.config.max_block);
        self.cluster.thread().spawn(async move {
            if let Err(error) = shared.learn_topic(&topic, timeout).await {
                tracing::debug!(%error, "topic asked for by try_send");
            }
        });
    }

    /// Makes the queues of a topic's partitions that are new.
    pub(crate) fn add_partitions(&self, name: &Arc<str>, count: usize) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let topic = topics.entry(name.clone()).or_insert_with(|| {
            let sticky = AtomicUsize::new(NO_PARTITION);
            Arc::new(TopicQueues { name: name.clone(), partitions: RwLock::default(), sticky })
        });
        let mut partitions = topic.partitions.write().unwrap_or_else(PoisonError::into_inner);
        let mut queues = lock(&self.queues);
        while partitions.len() < count {
            let partition = TopicPartition::new(name.clone(), partitions.len() as i32);
            let queue = Arc::new(PartitionQueue::new(queues.len(), partition, self.batch.clone()));
            queues.push(queue.clone());
            partitions.push(queue);
        }
    }

    /// The queues from id `from` on.
    pub(crate) fn queues_from(&self, from: usize) -> Vec<Arc<PartitionQueue>> {
        lock(&self.queues).get(from..).unwrap_or_default().to_vec()
    }

    /// The names of the topics with queues.
    pub(crate) fn topic_names(&self) -> Vec<Arc<str>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Room for a batch, waited for up to `timeout`.
    pub(crate) async fn reserve(&self, bytes: usize, timeout: Duration) -> Result<Room, SendCause> {
        let reserve = self.budget.clone().reserve(bytes);
        let waited = self.cluster.thread().run(async move { tokio::time::timeout(timeout, reserve).await }).await;
        match waited {
            Some(Ok(Some(room))) => Ok(room),
            Some(Err(_)) => {
                Err(SendCause::BufferFull { limit: self.config.buffer_memory, waited: self.config.max_block })
            }
            Some(Ok(None)) | None => Err(SendCause::Closed),
        }
    }

    /// Tells the sender to look at `queue`.
    pub(crate) fn signal(&self, queue: &Arc<PartitionQueue>) {
        if queue.signal() {
            lock(&self.signals).push(queue.clone());
            self.notify.notify_one();
        }
    }

    /// Waits for [`Shared::signal`] or [`Shared::stop`].
    pub(crate) async fn signalled(&self) {
        self.notify.notified().await;
    }

    /// The queues signalled since the last call.
    pub(crate) fn take_signals(&self, into: &mut Vec<Arc<PartitionQueue>>) {
        into.append(&mut lock(&self.signals));
    }

    pub(crate) async fn flush(&self) {
        let settled = self.budget.settled();
        for queue in self.queues_from(0) {
            if queue.make_due() {
                self.signal(&queue);
            }
        }
        // An error means that the sender is gone, and with it everything is settled.
        let _ = settled.await;
    }

    pub(crate) async fn close(self: &Arc<Self>, timeout: Duration) -> Result<(), CloseError> {
        self.refuse_more();
        let shared = self.clone();
        let flush = async move { tokio::time::timeout(timeout, shared.flush()).await.is_ok() };
        self.cluster.thread().run(flush).await;
        self.stop();
        let mut ended = self.ended.subscribe();
        let left = ended.wait_for(Option::is_some).await.ok().and_then(|left| *left);
        // An error means that the I/O thread is gone, and whatever is left with it.
        let batches = left.unwrap_or_else(|| self.budget.live());
        if batches == 0 { Ok(()) } else { Err(CloseError { batches, waited: timeout }) }
    }

    /// Ends the sender. What it has not delivered is given up.
    pub(crate) fn stop(&self) {
        self.refuse_more();
        self.stop.store(true, Ordering::Release);
        self.budget.close();
        self.notify.notify_one();
    }

    /// From here on no record enters a batch: whoever is about to append has done so.
    fn refuse_more(&self) {
        self.closed.store(true, Ordering::Release);
        drop(self.topics.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether the sender shall end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// The sender has ended and gave up so many batches.
    pub(crate) fn set_ended(&self, left: usize) {
        self.ended.send_replace(Some(left));
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("config", &self.config).field("budget", &self.budget).finish_non_exhaustive()
    }
}
