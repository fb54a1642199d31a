//! Records accepted before their topic's partitions were known are divided when they are.

use crate::core::produce::accumulator::{ReadyBatch, Scattered};
use crate::core::spool::{Op, Outcome, Target};
use crate::io::sender::Sender;
use crate::types::TopicPartition;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

impl Sender {
    /// Topics whose partitions are known by now.
    pub(in crate::io::sender) fn scatter_known(&mut self, now: Instant) {
        if self.keeper.is_none() {
            return;
        }
        for topic in self.shared.topic_names() {
            let Some(queue) = self.shared.unpartitioned(&topic) else { continue };
            let known = self.view.borrow().topic(&topic).is_some_and(|topic| topic.is_usable());
            if known && let Some(keeper) = &mut self.keeper {
                keeper.scattering.insert(topic);
                self.ensure_parts(queue.id);
                self.scatter(queue.id, now);
            }
        }
    }

    /// Whether part `id` has to wait: records of its topic that are older have no partition yet. The part of those is
    /// itself held only while they are divided, which takes them out.
    pub(in crate::io::sender) fn is_behind_undivided(&self, id: usize) -> bool {
        let (Some(keeper), Some(part)) = (&self.keeper, self.parts.get(id)) else { return false };
        let topic = &part.queue.partition.topic;
        // Whoever learnt the partitions, newer records may be in their queues before this has seen the metadata.
        if part.queue.is_unpartitioned() { keeper.scattering.contains(topic) } else { self.shared.is_undivided(topic) }
    }

    /// Goes on with dividing where a cut or a compression had to come first.
    pub(super) fn scatter_on(&mut self, now: Instant) {
        let topics = self.keeper.as_ref().map(|keeper| keeper.scattering.clone()).unwrap_or_default();
        for topic in topics {
            if let Some(queue) = self.shared.unpartitioned(&topic) {
                self.scatter(queue.id, now);
            }
        }
    }

    /// Goes on where bytes had to be read back first.
    pub(super) fn on_read_back(&mut self, id: usize) {
        if self.parts.get(id).is_some_and(|part| part.queue.partition.partition < 0) && self.is_behind_undivided(id) {
            self.scatter(id, Instant::now());
        }
    }

    /// Divides what the unpartitioned part `id` has, as far as it is in memory.
    fn scatter(&mut self, id: usize, now: Instant) {
        // Of another cluster's topic, or unreadable: nothing may be divided before somebody decides.
        if self.parts.get(id).is_none_or(|part| part.held.is_some()) {
            return;
        }
        // Nothing enters the queue any more, so this takes all there will ever be. With positions a cut has to.
        if self.shared.uses_cuts() {
            self.want_cut(id, now);
        } else {
            self.take_all(id);
        }
        let Some(topic) = self.parts.get(id).map(|part| part.queue.partition.topic.clone()) else { return };
        // The metadata may be newer than what this was called for, and name partitions that have no queue yet.
        let count = self.view.borrow().topic(&topic).map_or(0, |topic| topic.partitions.len());
        if count == 0 {
            return;
        }
        self.shared.add_partitions(&topic, count);
        loop {
            if !self.is_loaded(id) {
                return;
            }
            let Some(whole) = self.parts.get_mut(id).and_then(|part| part.window.pop_pending()) else { break };
            self.divide(&topic, count, whole);
        }
        if !self.shared.drained(&topic) {
            // One of its batches is being finished, or in a cut; `scatter_on` goes on then.
            return;
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.scattering.remove(&topic);
        }
        for id in 0..self.parts.len() {
            if self.parts.get(id).is_some_and(|part| part.queue.partition.topic == topic) {
                self.sort_pending(id);
                self.pull(id, now);
                self.stamp_ahead(id);
                self.make_runnable(id);
            }
        }
    }

    /// A cut, or an earlier run, may have brought newer batches before the divided ones.
    fn sort_pending(&mut self, id: usize) {
        let Some(part) = self.parts.get_mut(id) else { return };
        let mut pending: Vec<ReadyBatch> = std::iter::from_fn(|| part.window.pop_pending()).collect();
        pending.sort_by_key(|batch| batch.stored.as_ref().map(|stored| stored.order));
        pending.into_iter().for_each(|batch| part.window.push(batch));
    }

    fn divide(&mut self, topic: &Arc<str>, count: usize, whole: ReadyBatch) {
        let Scattered { parts, refused, places } = match self.shared.scatter(&whole, count) {
            Ok(scattered) => scattered,
            Err(cause) => {
                // Unreadable bytes of our own: kept for a person.
                if let (Some(keeper), Some(stored)) = (&mut self.keeper, &whole.stored) {
                    let outcome = Outcome::Dead { unknown: false, reason: Arc::from(cause.to_string()) };
                    keeper.outgoing.ops.push(Op::Outcome { batch: stored.id, outcome });
                }
                return whole.fail(false, cause, None);
            }
        };
        self.ensure_parts(usize::MAX);
        let ids: HashMap<TopicPartition, usize> =
            self.parts.iter().enumerate().map(|(id, part)| (part.queue.partition.clone(), id)).collect();
        for mut batch in parts {
            let partition = batch.cell().partition().clone();
            let Some(id) = ids.get(&partition).copied() else { continue };
            let (Some(part), Some(keeper)) = (self.parts.get_mut(id), &mut self.keeper) else { continue };
            keeper.note_topic(topic, part.topic_id, count);
            keeper.write(id, Target::Partition(partition), part.topic_id, &mut batch);
            part.push(batch);
        }
        if let (Some(keeper), Some(stored)) = (&mut self.keeper, &whole.stored) {
            for (mut batch, cause) in refused {
                keeper.write_dead(&mut batch, &cause);
                batch.fail(false, cause, None);
            }
            keeper.outgoing.ops.push(Op::Outcome { batch: stored.id, outcome: Outcome::Replaced });
        }
        whole.resolve_scattered(places);
    }
}
