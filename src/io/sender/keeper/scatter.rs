//! Records accepted before their topic's partitions were known are divided when they are.

use crate::core::produce::accumulator::ReadyBatch;
use crate::core::spool::{Op, Outcome, Target};
use crate::io::sender::Sender;
use std::sync::Arc;
use std::time::Instant;

impl Sender {
    /// Topics whose partitions are known by now.
    pub(in crate::io::sender) fn scatter_known(&mut self, now: Instant) {
        if self.keeper.is_none() {
            return;
        }
        for queue in self.shared.undivided() {
            let topic = queue.partition.topic.clone();
            let known = self.view.borrow().topic(&topic).is_some_and(|topic| topic.is_usable());
            if known && let Some(keeper) = &mut self.keeper {
                keeper.scattering.insert(topic);
                self.ensure_parts(queue.id);
                self.scatter(queue.id, now);
            }
        }
    }

    /// Whether records of the topic of part `id` have to be divided first.
    pub(in crate::io::sender) fn is_behind_undivided(&self, id: usize) -> bool {
        let (Some(keeper), Some(part)) = (&self.keeper, self.parts.get(id)) else { return false };
        !keeper.scattering.is_empty() && keeper.scattering.contains(&part.queue.partition.topic)
    }

    /// Goes on where bytes had to be read back first.
    pub(super) fn on_read_back(&mut self, id: usize) {
        if self.parts.get(id).is_some_and(|part| part.queue.partition.partition < 0) && self.is_behind_undivided(id) {
            self.scatter(id, Instant::now());
        }
    }

    /// Divides what the unpartitioned part `id` has, as far as it is in memory.
    fn scatter(&mut self, id: usize, now: Instant) {
        // Nothing enters the queue any more, so this takes all there will ever be.
        self.take_all(id, now);
        let Some(topic) = self.parts.get(id).map(|part| part.queue.partition.topic.clone()) else { return };
        loop {
            if !self.is_loaded(id) {
                return;
            }
            let Some(whole) = self.parts.get_mut(id).and_then(|part| part.window.pop_pending()) else { break };
            self.divide(&topic, whole);
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.scattering.remove(&topic);
        }
        self.shared.drained(&topic);
        for id in 0..self.parts.len() {
            if self.parts.get(id).is_some_and(|part| part.queue.partition.topic == topic) {
                self.pull(id, now);
                self.stamp_ahead(id);
                self.make_runnable(id);
            }
        }
    }

    fn divide(&mut self, topic: &Arc<str>, whole: ReadyBatch) {
        let count = self.shared.partitions(topic);
        let scattered = match self.shared.scatter(whole, count) {
            Ok(scattered) => scattered,
            Err((whole, cause)) => {
                // Unreadable bytes of our own: kept for a person.
                if let (Some(keeper), Some(stored)) = (&mut self.keeper, &whole.stored) {
                    let outcome = Outcome::Dead { unknown: false, reason: Arc::from(cause.to_string()) };
                    keeper.outgoing.ops.push(Op::Outcome { batch: stored.id, outcome });
                }
                return whole.fail(false, cause, None);
            }
        };
        let old = scattered.whole;
        for mut batch in scattered.parts {
            let partition = batch.cell().partition().clone();
            let Some(id) = self.shared.queue_id(&partition) else { continue };
            self.ensure_parts(id);
            let (Some(part), Some(keeper)) = (self.parts.get_mut(id), &mut self.keeper) else { continue };
            keeper.note_topic(topic, part.topic_id, count);
            keeper.write(id, Target::Partition(partition), part.topic_id, &mut batch);
            part.push(batch);
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.outgoing.ops.push(Op::Outcome { batch: old, outcome: Outcome::Replaced });
        }
    }
}
