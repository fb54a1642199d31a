//! What the application's threads and the sender share: queues, memory, signals.

mod closing;
mod cut;
mod unpartitioned;

use super::budget::Budget;
use crate::config::{ProducerConfig, SpoolConfig};
use crate::core::produce::accumulator::{
    Append, Appended, BatchConfig, PartitionQueue, Permit, Room, Sealing, record_size,
};
use crate::core::produce::partitioner::Partitioner;
use crate::error::{MetadataError, SendCause};
use crate::io::cluster::Cluster;
use crate::io::spool::Spool;
use crate::record::Record;
use crate::sync::lock;
use crate::types::TopicPartition;
use crate::wire::batch::HEADER_LEN;
use cut::Sources;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// Why a record is refused that has a position.
const POSITION: &str =
    "a record's position needs a spool that is written ahead: build the producer with spool(directory)";
/// No partition is being filled.
const NO_PARTITION: usize = usize::MAX;

pub(crate) struct Shared {
    pub(crate) config: ProducerConfig,
    pub(crate) cluster: Cluster,
    pub(crate) budget: Arc<Budget>,
    /// Where batches are kept, if anywhere.
    pub(crate) spool: Option<Spool>,
    /// Up to where each source's records were in the spool, or delivered, when it was opened.
    pub(crate) recovered_positions: BTreeMap<Arc<str>, u64>,
    /// Batches are written to the spool before they are sent.
    write_ahead: bool,
    sources: Sources,
    /// When the producer was made.
    since: Instant,
    batch: Arc<BatchConfig>,
    partitioner: Box<dyn Partitioner>,
    topics: RwLock<HashMap<Arc<str>, Arc<TopicQueues>>>,
    /// All queues in the order of their ids.
    queues: Mutex<Vec<Arc<PartitionQueue>>>,
    /// How many topics have an unpartitioned queue.
    undivided: AtomicUsize,
    signals: Mutex<Vec<Arc<PartitionQueue>>>,
    notify: Notify,
    /// Somebody asked for memory in vain.
    urged: AtomicBool,
    /// Why, if not because it was closed.
    refusal: OnceLock<SendCause>,
    /// How many wait for memory.
    memory_waiters: AtomicUsize,
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
    queues: RwLock<Queues>,
    /// The partition that records without a key go to until its batch is full (KIP-480).
    sticky: AtomicUsize,
}

#[derive(Default)]
struct Queues {
    /// By partition. Empty while they are not known.
    partitions: Vec<Arc<PartitionQueue>>,
    /// For records accepted while the partitions were not known; goes when it is drained.
    unpartitioned: Option<Arc<PartitionQueue>>,
}

impl TopicQueues {
    fn new(name: &Arc<str>) -> TopicQueues {
        TopicQueues { name: name.clone(), queues: RwLock::default(), sticky: AtomicUsize::new(NO_PARTITION) }
    }
}

/// An open spool, and what it remembered for the application.
pub(crate) struct SpoolSide {
    /// The spool.
    pub(crate) spool: Spool,
    /// Up to where each source's records are in it, or delivered.
    pub(crate) positions: BTreeMap<Arc<str>, u64>,
}

/// A record on its way into a batch.
struct Appending<'a, 'r> {
    record: &'a Record<'r>,
    /// The most bytes it takes.
    size: usize,
    /// Room brought along, or found on the way.
    room: &'a mut Option<Room>,
    /// What was sealed on the way, to be finished when no lock is held any more.
    sealed: Vec<(Arc<PartitionQueue>, Sealing)>,
}

/// Why a record is not in a batch yet.
pub(crate) enum Wait {
    /// The topic's metadata is not there.
    Topic,
    /// There is no room for a batch of so many bytes.
    Memory { bytes: usize },
    /// There is no space in the spool for a batch of so many bytes.
    Space { bytes: usize },
    /// It will never be.
    Refused(SendCause),
}

impl Shared {
    /// `spooled`: the spool of the configuration, opened.
    pub(crate) fn new(
        config: ProducerConfig,
        partitioner: Box<dyn Partitioner>,
        cluster: Cluster,
        spooled: Option<SpoolSide>,
    ) -> Shared {
        let spooling = config.spool.is_some();
        let write_ahead = config.spool.as_ref().is_some_and(SpoolConfig::is_write_ahead);
        let (spool, recovered_positions) = match spooled {
            Some(SpoolSide { spool, positions }) => (Some(spool), positions),
            None => (None, BTreeMap::new()),
        };
        let batch = Arc::new(BatchConfig {
            // A batch larger than a request could never be sent.
            batch_size: config.batch_size.min(config.max_request_size),
            compression: config.compression,
            level: config.compression_level,
            // What is in a spool is not given up.
            delivery_timeout: (!spooling).then_some(config.delivery_timeout),
        });
        let counters = cluster.counters().clone();
        let budget = Budget::new(config.buffer_memory, batch.room_for(0), counters, spooling);
        Shared {
            config,
            budget: Arc::new(budget),
            spool,
            write_ahead,
            sources: Sources::new(&recovered_positions),
            recovered_positions,
            since: cluster.thread().now(),
            batch,
            partitioner,
            cluster,
            topics: RwLock::default(),
            queues: Mutex::default(),
            undivided: AtomicUsize::new(0),
            signals: Mutex::default(),
            notify: Notify::new(),
            urged: AtomicBool::new(false),
            refusal: OnceLock::new(),
            memory_waiters: AtomicUsize::new(0),
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
        let mut appending = Appending { record, size, room, sealed: Vec::new() };
        let appended = self.append_locked(&mut appending);
        for (queue, sealing) in appending.sealed {
            queue.finish(sealing);
            self.signal(&queue);
        }
        appended
    }

    fn append_locked(&self, appending: &mut Appending<'_, '_>) -> Result<Appended, Wait> {
        let record = appending.record;
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, which `refuse_more` waits for.
        if self.closed.load(Ordering::Acquire) {
            return Err(Wait::Refused(self.refusal.get().cloned().unwrap_or(SendCause::Closed)));
        }
        let topic = topics.get(record.topic).ok_or(Wait::Topic)?;
        match record.position {
            None => self.append_to(topic, appending),
            Some(_) if !self.write_ahead => Err(Wait::Refused(SendCause::NeedsSpool(POSITION))),
            // Under the lock, too: a cut has both the record and its position, or neither.
            Some((source, position)) => self.sources.advance(source, position, || self.append_to(topic, appending)),
        }
    }

    fn append_to(&self, topic: &TopicQueues, appending: &mut Appending<'_, '_>) -> Result<Appended, Wait> {
        let record = appending.record;
        let queues = topic.queues.read().unwrap_or_else(PoisonError::into_inner);
        let partitions = &queues.partitions;
        if partitions.is_empty() {
            let queue = queues.unpartitioned.as_ref().ok_or(Wait::Topic)?;
            return self.append_unpartitioned(queue, appending);
        }
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
        loop {
            let Some(queue) = partitions.get(at) else {
                return Err(Wait::Refused(SendCause::NoSuchPartition {
                    topic: topic.name.clone(),
                    partition: chosen.unwrap_or(-1),
                    partitions: partitions.len(),
                }));
            };
            if let Some(appended) = self.append_once(queue, appending)? {
                return Ok(appended);
            }
            if sticky {
                at = self.next_sticky(topic, partitions.len());
            }
        }
    }

    /// None when a new batch was needed and there is room for it now: it is to be tried again, perhaps elsewhere.
    #[inline]
    fn append_once(
        &self,
        queue: &Arc<PartitionQueue>,
        appending: &mut Appending<'_, '_>,
    ) -> Result<Option<Appended>, Wait> {
        let Appending { record, size, room, sealed } = appending;
        let thread = self.cluster.thread();
        let timestamp = record.timestamp.unwrap_or_else(|| thread.coarse_millis());
        let mut sealing: Option<Sealing> = None;
        let now = || (thread.now(), thread.coarse_millis());
        let appended = queue.append(record, *size, timestamp, room, &mut sealing, now);
        sealed.extend(sealing.map(|sealing| (queue.clone(), sealing)));
        match appended {
            Append::Done(appended) => {
                if appended.opened {
                    self.signal(queue);
                }
                Ok(Some(appended))
            }
            Append::TooLarge => {
                let limit = self.config.max_request_size;
                Err(Wait::Refused(SendCause::TooLarge { size: HEADER_LEN + *size, limit }))
            }
            Append::NeedsRoom => {
                **room = Some(self.try_reserve(self.batch.room_for(*size))?);
                Ok(None)
            }
        }
    }

    fn try_reserve(&self, bytes: usize) -> Result<Room, Wait> {
        // Space first, here and below: whoever waits for it holds no memory, with which batches could be read back,
        // delivered, and so make space.
        let space = match &self.spool {
            Some(spool) if self.write_ahead => Some(spool.try_reserve(bytes).ok_or(Wait::Space { bytes })?),
            _ => None,
        };
        let room = self.budget.try_reserve(bytes).ok_or(Wait::Memory { bytes })?;
        Ok(Room { space, ..room })
    }

    /// Another partition for records without a key: one with a leader, by chance.
    fn next_sticky(&self, topic: &TopicQueues, count: usize) -> usize {
        let next = self.any_partition(&topic.name, count);
        topic.sticky.store(next, Ordering::Relaxed);
        next
    }

    fn any_partition(&self, topic: &str, count: usize) -> usize {
        let view = self.cluster.view();
        let led = |at: &usize| {
            let partition = view.topic(topic).and_then(|topic| topic.partitions.get(*at));
            partition.is_some_and(|partition| partition.leader.is_some())
        };
        let random = self.cluster.thread().random().next() as usize;
        let start = random % count.max(1);
        (0..count).map(|i| (start + i) % count).find(led).unwrap_or(start)
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
        // The producer, and its spool, may be gone before the answer comes.
        let (shared, cluster) = (Arc::downgrade(self), self.cluster.clone());
        let (topic, timeout): (Arc<str>, _) = (Arc::from(topic), self.config.max_block);
        self.cluster.thread().spawn(async move {
            match cluster.topic(&topic, timeout).await {
                Ok(view) => {
                    if let Some(shared) = shared.upgrade() {
                        shared.add_partitions(&topic, view.partitions.len());
                    }
                }
                Err(error) => tracing::debug!(%error, "topic asked for by try_send"),
            }
        });
    }

    /// Makes the queues of a topic's partitions that are new. With the first ones the topic's unpartitioned queue takes no
    /// more records: its open batch is sealed, and the sender told.
    pub(crate) fn add_partitions(&self, name: &Arc<str>, count: usize) {
        if count == 0 {
            return;
        }
        let (unpartitioned, sealing) = {
            let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
            let topic = topics.entry(name.clone()).or_insert_with(|| Arc::new(TopicQueues::new(name)));
            let mut of_topic = topic.queues.write().unwrap_or_else(PoisonError::into_inner);
            let unpartitioned = of_topic.unpartitioned.clone().filter(|_| of_topic.partitions.is_empty());
            while of_topic.partitions.len() < count {
                let partition = of_topic.partitions.len() as i32;
                of_topic.partitions.push(self.new_queue(name, partition));
            }
            let sealing = unpartitioned.as_ref().and_then(|queue| queue.seal().0);
            (unpartitioned, sealing)
        };
        if let Some(queue) = unpartitioned {
            if let Some(sealing) = sealing {
                queue.finish(sealing);
            }
            self.signal(&queue);
        }
    }

    fn new_queue(&self, topic: &Arc<str>, partition: i32) -> Arc<PartitionQueue> {
        let mut queues = lock(&self.queues);
        let partition = TopicPartition::new(topic.clone(), partition);
        let queue = Arc::new(PartitionQueue::new(queues.len(), partition, self.batch.clone()));
        queues.push(queue.clone());
        queue
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
        let thread = self.cluster.thread();
        let deadline = thread.deadline(timeout);
        let space = match self.spool.clone().filter(|_| self.write_ahead) {
            Some(spool) => Some(self.reserve_space(spool, bytes, timeout).await?),
            None => None,
        };
        if let Some(room) = self.budget.try_reserve(bytes) {
            return Ok(Room { space, ..room });
        }
        let _waiter = Waiter::new(&self.memory_waiters);
        self.urge();
        let (reserve, left) = (self.budget.clone().reserve(bytes), deadline.saturating_duration_since(thread.now()));
        match thread.run(async move { tokio::time::timeout(left, reserve).await }).await {
            Some(Ok(Some(room))) => Ok(Room { space, ..room }),
            Some(Err(_)) => Err(self.memory_full(bytes, self.config.max_block)),
            Some(Ok(None)) | None => Err(SendCause::Closed),
        }
    }

    /// There is no memory for so many bytes, for so long: of a producer that overflows because its spool has no space.
    pub(crate) fn memory_full(&self, bytes: usize, waited: Duration) -> SendCause {
        match self.spool.as_ref().filter(|_| !self.write_ahead) {
            Some(spool) if spool.try_reserve(bytes).is_none() => self.spool_full(waited),
            _ => SendCause::BufferFull { limit: self.config.buffer_memory, waited },
        }
    }

    async fn reserve_space(&self, spool: Spool, bytes: usize, timeout: Duration) -> Result<Box<dyn Permit>, SendCause> {
        if let Some(space) = spool.try_reserve(bytes) {
            return Ok(space);
        }
        let reserve = async move { tokio::time::timeout(timeout, spool.reserve(bytes)).await };
        match self.cluster.thread().run(reserve).await {
            Some(Ok(Some(space))) => Ok(space),
            Some(Err(_)) => Err(self.spool_full(self.config.max_block)),
            Some(Ok(None)) | None => Err(SendCause::Closed),
        }
    }

    /// The spool has no space, for so long.
    pub(crate) fn spool_full(&self, waited: Duration) -> SendCause {
        let state = self.spool.as_ref().map(Spool::state).unwrap_or_default();
        SendCause::SpoolFull { used: state.used, limit: state.limit, waited }
    }

    /// Has the sender make room in memory, where a spool lets it.
    pub(crate) fn urge(&self) {
        if self.config.spool.is_some() && !self.urged.swap(true, Ordering::AcqRel) {
            self.notify.notify_one();
        }
    }

    /// Whether somebody waits for memory, or asked for it in vain since the last call.
    pub(crate) fn take_urged(&self) -> bool {
        let urged = self.urged.swap(false, Ordering::AcqRel);
        urged || self.config.spool.is_some() && self.memory_waiters.load(Ordering::Acquire) > 0
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

    /// No more records are taken, for this cause. False when that was said before.
    pub(crate) fn refuse(&self, cause: SendCause) -> bool {
        let first = self.refusal.set(cause).is_ok();
        self.refuse_more();
        first
    }

    /// Ends the sender. What it has not delivered is given up.
    pub(crate) fn stop(&self) {
        self.refuse_more();
        self.stop.store(true, Ordering::Release);
        self.budget.close();
        self.notify.notify_one();
    }

    /// Whether the sender shall end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// The sender has ended and gave up so many batches; with a spool, those that are neither delivered nor in it.
    pub(crate) fn set_ended(&self, left: usize) {
        self.ended.send_replace(Some(left));
    }
}

/// Counts one who waits, for as long as it does.
struct Waiter<'a>(&'a AtomicUsize);

impl Waiter<'_> {
    fn new(count: &AtomicUsize) -> Waiter<'_> {
        count.fetch_add(1, Ordering::AcqRel);
        Waiter(count)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("config", &self.config).field("budget", &self.budget).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
