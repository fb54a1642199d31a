//! A partition as the sender sees it.

use crate::core::metadata::ClusterView;
use crate::core::produce::accumulator::{PartitionQueue, ReadyBatch, Sealing, Take};
use crate::core::produce::window::{Leadership, Window};
use crate::core::spool::Noted;
use crate::types::TopicId;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) struct Part {
    pub(super) queue: Arc<PartitionQueue>,
    pub(super) window: Window<ReadyBatch>,
    pub(super) leader: Option<Leadership>,
    pub(super) topic_id: TopicId,
    /// On its leader's list.
    pub(super) runnable: bool,
    /// A probe is under way.
    pub(super) probing: bool,
    /// A scan is under way.
    pub(super) scanning: bool,
    /// The producer id it was given last.
    pub(super) used_id: Option<i64>,
    /// Its entry among the sender's timers.
    pub(super) timer: Option<Instant>,
    /// The leader was asked whether it knows this producer further than the spool does: a spool restored from a backup
    /// would give out epochs and sequences a second time, and brokers throw such batches away in silence.
    pub(super) asked: bool,
    /// There is a spool.
    spooled: bool,
    /// How many partitions the topic has; 0 while that is not known.
    pub(super) partitions: usize,
    /// Where the log stood when it acknowledged something last.
    pub(super) noted: Option<Noted>,
    /// Batches being read back.
    pub(super) loading: usize,
    /// Since when nothing was delivered, or there was nothing to deliver.
    pub(super) progress: Instant,
    /// Nothing was delivered for so long that nobody waits for it any more.
    pub(super) parked: bool,
    /// Why it goes no further until a person decides.
    pub(super) held: Option<Arc<str>>,
}

impl Part {
    pub(super) fn new(
        queue: Arc<PartitionQueue>,
        window: Window<ReadyBatch>,
        noted: Option<Noted>,
        asked: bool,
        spooled: bool,
        view: &ClusterView,
        now: Instant,
    ) -> Part {
        let mut part = Part {
            queue,
            used_id: window.identity().map(|identity| identity.id),
            window,
            leader: None,
            topic_id: TopicId::NONE,
            runnable: false,
            probing: false,
            scanning: false,
            timer: None,
            asked,
            spooled,
            partitions: 0,
            noted,
            loading: 0,
            progress: now,
            parked: false,
            held: None,
        };
        part.on_view(view);
        part
    }

    /// Takes over leader and topic id. True when the leader changed.
    pub(super) fn on_view(&mut self, view: &ClusterView) -> bool {
        let partition = &self.queue.partition;
        if let Some(topic) = view.topic(&partition.topic) {
            self.topic_id = topic.id;
            self.partitions = topic.partitions.len();
        }
        let leader = view.leader(partition).map(|(broker, epoch)| Leadership { broker, epoch });
        std::mem::replace(&mut self.leader, leader) != leader
    }

    /// A batch for the window; in a parked or held partition nobody waits for it.
    pub(super) fn push(&mut self, mut batch: ReadyBatch) {
        if self.is_unawaited() {
            batch.release_live();
        }
        self.window.push(batch);
    }

    /// Whether flushes wait for nothing of it.
    fn is_unawaited(&self) -> bool {
        self.parked || self.held.is_some()
    }

    /// When a batch of it has to be given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        // In a spool nothing is, and its backlog is long.
        if self.spooled { None } else { self.window.next_deadline() }
    }

    /// Something was delivered, or got out of the way.
    pub(super) fn on_progress(&mut self, now: Instant) {
        self.progress = now;
        self.parked = false;
    }

    /// Fills the window with one batch more, if it has none waiting; where nobody waits for them, with all there are.
    /// Returns a batch to be finished first, and when the open batch is due.
    pub(super) fn pull(&mut self, now: Instant, linger: Duration) -> (Option<Sealing>, Option<Instant>) {
        while self.window.pending() == 0 || self.is_unawaited() {
            match self.queue.take(now, linger) {
                Take::Batch(batch) => self.push(batch),
                Take::Finish(sealing) => return (Some(sealing), None),
                Take::Due(at) => return (None, Some(at)),
                // Only with a spool, which takes batches by cuts then.
                Take::Nothing | Take::Cut => break,
            }
        }
        (None, None)
    }
}
