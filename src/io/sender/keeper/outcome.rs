//! What became of spooled batches, and of partitions that make no progress.

use super::{Keeper, target};
use crate::config::{OnDead, OnUnknown};
use crate::core::metadata::ClusterView;
use crate::core::produce::accumulator::ReadyBatch;
use crate::core::produce::sequence::advance;
use crate::core::produce::window::{Reason, Setback, Stampable};
use crate::core::spool::{Noted, Op, Outcome, Target};
use crate::error::{SendCause, SpoolError};
use crate::io::sender::Sender;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Sender {
    /// A batch is in the log: the spool may forget it.
    pub(in crate::io::sender) fn note_delivered(
        &mut self,
        id: usize,
        batch: &ReadyBatch,
        base_offset: Option<i64>,
        leader_epoch: i32,
    ) {
        let Some(part) = self.parts.get_mut(id) else { return };
        if let Some(base) = base_offset {
            part.noted = Some(Noted { offset: base + i64::from(batch.count()), leader_epoch });
        }
        part.on_progress(Instant::now());
        let (Some(keeper), Some(stored)) = (&mut self.keeper, &batch.stored) else { return };
        let outcome = Outcome::Delivered { base_offset, leader_epoch };
        keeper.later.ops.push(Op::Outcome { batch: stored.id, outcome });
        if let (Some(stamp), Some(noted)) = (stored.stamp, part.noted.or(stored.stamp.and_then(|stamp| stamp.noted))) {
            // Also one after it may be acknowledged already.
            let own = advance(stamp.base_sequence, batch.count() - 1);
            let newest = part.window.acknowledged().filter(|_| part.window.identity() == Some(stamp.identity));
            let last_sequence = newest.unwrap_or(own);
            keeper.later.ops.push(Op::Acknowledged {
                partition: part.queue.partition.clone(),
                identity: stamp.identity,
                last_sequence,
                newest: batch.newest_timestamp(),
                noted,
            });
        }
    }

    /// A batch was refused or cannot be told about. Returns it when its receipts are to be told as without a spool.
    pub(in crate::io::sender) fn keep_undelivered(
        &mut self,
        id: usize,
        mut batch: ReadyBatch,
        unknown: bool,
        reason: Reason,
        last: Option<Setback>,
    ) -> Option<ReadyBatch> {
        let cause = self.cause(reason);
        let text: Arc<str> = Arc::from(match &last {
            Some(last) => format!("{cause}; last: {last}"),
            None => cause.to_string(),
        });
        let (Some(part), Some(keeper)) = (self.parts.get_mut(id), &mut self.keeper) else { return Some(batch) };
        part.on_progress(Instant::now());
        if batch.stored.is_none() {
            // In memory only so far, as overflow has it.
            if !batch.is_loaded() {
                return Some(batch);
            }
            keeper.write(id, Target::Partition(part.queue.partition.clone()), part.topic_id, &mut batch);
        }
        let Some(name) = batch.stored.as_ref().map(|stored| stored.id) else { return Some(batch) };
        let partition = part.queue.partition.clone();
        match reason {
            Reason::Refused | Reason::RecordRefused if !unknown => {
                keeper
                    .outgoing
                    .ops
                    .push(Op::Outcome { batch: name, outcome: Outcome::Dead { unknown, reason: text.clone() } });
                let stop = keeper.config.on_dead == OnDead::Stop;
                tracing::error!(%partition, batch = %name, reason = %text, "a batch was refused for good: it stays in the spool as dead");
                if stop {
                    self.hold(id, &text);
                }
                Some(batch)
            }
            Reason::Fenced | Reason::Outdated => {
                keeper
                    .outgoing
                    .ops
                    .push(Op::Outcome { batch: name, outcome: Outcome::Parked { unknown, reason: text.clone() } });
                self.hold(id, &text);
                batch.keep(cause, last);
                None
            }
            _ if keeper.config.on_unknown == OnUnknown::Resend => {
                tracing::warn!(%partition, batch = %name, reason = %text, "a batch that may be in the topic is sent again (spool.on.unknown)");
                keeper.outgoing.ops.push(Op::Outcome { batch: name, outcome: Outcome::Ready { afresh: true } });
                if let Some(stored) = &mut batch.stored {
                    stored.stamp = None;
                }
                part.window.push_front(batch);
                self.make_runnable(id);
                None
            }
            _ => {
                keeper
                    .outgoing
                    .ops
                    .push(Op::Outcome { batch: name, outcome: Outcome::Parked { unknown, reason: text.clone() } });
                self.hold(id, &text);
                Some(batch)
            }
        }
    }

    /// As [`Self::hold`]; the reason is told of the first batch that waits, for whoever looks into the spool.
    pub(in crate::io::sender) fn hold_from_first(&mut self, id: usize, why: &str) {
        let (Some(part), Some(keeper)) = (self.parts.get_mut(id), &mut self.keeper) else { return };
        if part.held.is_none()
            && let Some(stored) = part.window.batches_mut().find_map(|batch| batch.stored.as_ref())
        {
            let outcome = Outcome::Parked { unknown: false, reason: Arc::from(why) };
            // Behind the batch itself, which may be on its way there.
            keeper.outgoing.ops.push(Op::Outcome { batch: stored.id, outcome });
        }
        self.hold(id, why);
    }

    /// Part `id` goes no further until a person has decided; what it has is in the spool.
    pub(super) fn hold(&mut self, id: usize, why: &str) {
        let Some(part) = self.parts.get_mut(id) else { return };
        if part.held.is_none() {
            tracing::error!(
                partition = %part.queue.partition, why,
                "the partition is held: its records stay in the spool until somebody decides (indelible spool list, retry)"
            );
        }
        part.held = Some(Arc::from(why));
        part.window.batches_mut().for_each(ReadyBatch::release_live);
    }

    /// How often what is parked is looked at again, if there is a spool.
    pub(in crate::io::sender) fn rescan(&self) -> Option<Duration> {
        self.keeper.as_ref().map(|keeper| keeper.config.rescan)
    }

    /// Gives the halves of a batch that was too large names of their own.
    pub(in crate::io::sender) fn adopt_halves(&mut self, id: usize) {
        let (Some(part), Some(keeper)) = (self.parts.get_mut(id), &mut self.keeper) else { return };
        let (target, topic_id) = (Target::Partition(part.queue.partition.clone()), part.topic_id);
        let mut parents = Vec::new();
        for (batch, _) in part.window.stamped_mut().filter(|(batch, _)| batch.stored.is_none()) {
            if let Some(split) = batch.split_of {
                keeper.write(id, target.clone(), topic_id, batch);
                batch.split_of = None;
                parents.push(split.parent);
            }
        }
        parents.dedup();
        let replaced = |batch| Op::Outcome { batch, outcome: Outcome::Replaced };
        keeper.outgoing.ops.extend(parents.into_iter().map(replaced));
    }

    /// Overflow: what part `id` has in memory goes to disk, as far as there is space, and the stamps of what was sent
    /// with it. Without space it stays in memory, and `send` waits.
    pub(super) fn spill(&mut self, id: usize) {
        self.spill_while(id, Keeper::set_aside);
    }

    /// As [`Self::spill`], all of it: what is not written now is lost.
    pub(super) fn spill_all(&mut self, id: usize) {
        self.spill_while(id, |_, _| true);
    }

    fn spill_while(&mut self, id: usize, has_space: impl Fn(&Keeper, &mut ReadyBatch) -> bool) {
        // What is still in the queue overflows as well, unless older records have to come before it.
        if !self.is_behind_undivided(id) {
            self.take_all(id);
        }
        let (Some(part), Some(keeper)) = (self.parts.get_mut(id), &mut self.keeper) else { return };
        let (partition, topic_id, noted) = (part.queue.partition.clone(), part.topic_id, part.noted);
        if let Some(identity) = part.window.identity() {
            for (batch, base_sequence) in part.window.stamped_mut().filter(|(batch, _)| batch.stored.is_none()) {
                if !has_space(keeper, batch) {
                    return;
                }
                keeper.write(id, target(&partition, batch), topic_id, batch);
                let stamp = crate::core::spool::Stamp { identity, base_sequence, noted };
                if let Some(stored) = &mut batch.stored {
                    stored.stamp = Some(stamp);
                    keeper.outgoing.ops.push(Op::Stamp { batch: stored.id, stamp });
                }
            }
        }
        for batch in part.window.batches_mut().filter(|batch| batch.stored.is_none()) {
            if !has_space(keeper, batch) {
                return;
            }
            keeper.write(id, target(&partition, batch), topic_id, batch);
        }
    }

    /// Compares what the spool was written for with what the brokers say.
    pub(in crate::io::sender) fn check_cluster(&mut self, view: &ClusterView) {
        let Some(cluster) = view.cluster_id.clone() else { return };
        let Some(keeper) = &mut self.keeper else { return };
        match &keeper.cluster {
            None => {
                keeper.outgoing.ops.push(Op::Cluster(cluster.clone()));
                keeper.cluster = Some(cluster);
            }
            Some(spool) if *spool != cluster => {
                let error = SpoolError::OtherCluster { spool: spool.clone(), cluster };
                keeper.foreign = Some(Arc::from(error.to_string()));
                if self.shared.refuse(SendCause::Spool(error.clone())) {
                    tracing::error!(%error, "nothing is sent");
                }
                for id in 0..self.parts.len() {
                    self.hold_from_first(id, &error.to_string());
                }
            }
            Some(_) => {}
        }
    }

    /// Whether the batch that goes next was accepted for the topic as it is now; the partition is held if not.
    pub(in crate::io::sender) fn is_for_this_topic(&mut self, id: usize) -> bool {
        let (Some(part), Some(keeper)) = (self.parts.get(id), &self.keeper) else { return true };
        let Some(stored) = part.window.peek().and_then(|batch| batch.stored.as_ref()) else { return true };
        if !stored.topic_id.is_some()
            || !part.topic_id.is_some()
            || stored.topic_id == part.topic_id
            || keeper.config.adopt
        {
            return true;
        }
        let why = format!(
            "topic {} was deleted and created again since: its id was {}, and is {}",
            part.queue.partition.topic, stored.topic_id, part.topic_id
        );
        self.hold_from_first(id, &why);
        false
    }
}
