//! A partition as the sender sees it.

use crate::core::metadata::ClusterView;
use crate::core::produce::accumulator::{PartitionQueue, ReadyBatch, Sealing, Take};
use crate::core::produce::window::{Leadership, Window, WindowConfig};
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
    /// The producer id it was given last.
    pub(super) used_id: Option<i64>,
    /// Its entry among the sender's timers.
    pub(super) timer: Option<Instant>,
}

impl Part {
    pub(super) fn new(queue: Arc<PartitionQueue>, window: WindowConfig, view: &ClusterView) -> Part {
        let mut part = Part {
            queue,
            window: Window::new(window),
            leader: None,
            topic_id: TopicId::NONE,
            runnable: false,
            probing: false,
            used_id: None,
            timer: None,
        };
        part.on_view(view);
        part
    }

    /// Takes over leader and topic id. True when the leader changed.
    pub(super) fn on_view(&mut self, view: &ClusterView) -> bool {
        let partition = &self.queue.partition;
        if let Some(topic) = view.topic(&partition.topic) {
            self.topic_id = topic.id;
        }
        let leader = view.leader(partition).map(|(broker, epoch)| Leadership { broker, epoch });
        std::mem::replace(&mut self.leader, leader) != leader
    }

    /// Fills the window with one batch more, if it has none waiting. Returns a batch to be finished first, and when the
    /// open batch is due.
    pub(super) fn pull(&mut self, now: Instant, linger: Duration) -> (Option<Sealing>, Option<Instant>) {
        while self.window.pending() == 0 {
            match self.queue.take(now, linger) {
                Take::Batch(batch) => self.window.push(batch),
                Take::Finish(sealing) => return (Some(sealing), None),
                Take::Due(at) => return (None, Some(at)),
                // Only with a spool, which takes batches by cuts then.
                Take::Nothing | Take::Cut => break,
            }
        }
        (None, None)
    }
}
