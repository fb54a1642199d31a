//! Looking after the spool once a second: what makes no progress, and the figures of what lies there.

use super::LOOK_EVERY;
use crate::core::produce::accumulator::ReadyBatch;
use crate::core::produce::window::Stampable;
use crate::core::spool::{Op, Outcome};
use crate::error::{MetadataError, SendCause};
use crate::io::clock::exact_millis;
use crate::io::sender::Sender;
use crate::wire::ErrorCode;
use std::sync::Arc;
use std::time::Instant;

/// What the client's metrics were told of this spool last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    batches: u64,
    records: u64,
    bytes: u64,
    held: u64,
}

impl Sender {
    pub(super) fn look_after(&mut self, now: Instant) {
        let Some(keeper) = self.keeper.as_mut().filter(|keeper| keeper.look_at <= now) else { return };
        keeper.look_at = now + LOOK_EVERY;
        let timeout = self.shared.config.delivery_timeout;
        for id in 0..self.parts.len() {
            let Some(part) = self.parts.get_mut(id) else { continue };
            if part.window.is_empty() {
                part.progress = now;
                continue;
            }
            let used_up = now >= part.progress + timeout || part.window.failures() > self.shared.config.retries;
            if !part.parked && part.held.is_none() && used_up {
                self.park(id);
            }
        }
        self.tell_metrics();
    }

    /// The retries or the delivery timeout of part `id` are used up: it is still tried, but nobody waits for it.
    fn park(&mut self, id: usize) {
        if self.is_topic_unknown(id) {
            return self.bury(id);
        }
        let why = self.excuse(id).unwrap_or_else(|| Arc::from("no broker has taken it"));
        if self.keeper.as_ref().is_some_and(|keeper| !keeper.is_write_ahead()) {
            self.spill(id);
        }
        let (Some(part), Some(keeper)) = (self.parts.get_mut(id), &mut self.keeper) else { return };
        part.parked = true;
        tracing::warn!(
            partition = %part.queue.partition, %why,
            "not delivered within delivery.timeout.ms or retries: the records stay in the spool and are tried again"
        );
        if let Some(stored) = part.window.batches_mut().find_map(|batch| batch.stored.as_ref()) {
            // Behind the batch itself, which has just overflowed.
            let outcome = Outcome::Parked { unknown: false, reason: why };
            keeper.outgoing.ops.push(Op::Outcome { batch: stored.id, outcome });
        }
        part.window.batches_mut().for_each(ReadyBatch::release_live);
    }

    /// Whether brokers answer that there is no such topic.
    fn is_topic_unknown(&self, id: usize) -> bool {
        let Some(part) = self.parts.get(id) else { return false };
        let view = self.view.borrow();
        let topic = view.topic(&part.queue.partition.topic);
        topic.is_some_and(|topic| topic.error == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION))
    }

    /// What is for a topic that the cluster has not had for long is dead: kept for a person.
    fn bury(&mut self, id: usize) {
        self.take_all(id);
        self.spill_all(id);
        let (Some(part), Some(keeper)) = (self.parts.get_mut(id), &mut self.keeper) else { return };
        let topic = part.queue.partition.topic.clone();
        let cause = SendCause::Metadata(MetadataError::UnknownTopic {
            topic: topic.clone(),
            waited: self.shared.config.delivery_timeout,
        });
        let reason: Arc<str> = Arc::from(cause.to_string());
        tracing::error!(%topic, "the cluster has had no such topic for long: its records stay in the spool as dead");
        let counters = self.shared.cluster.counters();
        for (batch, maybe) in part.window.drain() {
            if let Some(stored) = &batch.stored {
                let outcome = Outcome::Dead { unknown: maybe, reason: reason.clone() };
                keeper.outgoing.ops.push(Op::Outcome { batch: stored.id, outcome });
            }
            let counter = if maybe { &counters.records_unknown } else { &counters.records_failed };
            counter.add(batch.count().unsigned_abs().into());
            batch.fail(maybe, cause.clone(), None);
        }
        part.progress = Instant::now();
    }

    fn tell_metrics(&mut self) {
        let Some(keeper) = &mut self.keeper else { return };
        let (mut now, mut oldest) = (Told { bytes: keeper.spool.state().used, ..Told::default() }, i64::MAX);
        for part in &mut self.parts {
            now.held += u64::from(part.held.is_some());
            for batch in part.window.batches_mut().filter(|batch| batch.stored.is_some()) {
                now.batches += 1;
                now.records += u64::from(batch.count().unsigned_abs());
                oldest = oldest.min(batch.accepted_at);
            }
        }
        let age = if now.batches == 0 { 0 } else { exact_millis().saturating_sub(oldest).max(0) };
        self.tell(now, age.unsigned_abs());
    }

    /// The metrics' share of this spool becomes `now`.
    pub(super) fn tell(&mut self, now: Told, oldest_millis: u64) {
        let Some(keeper) = &mut self.keeper else { return };
        let counters = self.shared.cluster.counters();
        let Told { batches, records, bytes, held } = std::mem::replace(&mut keeper.told, now);
        counters.spool_batches.change(batches, now.batches);
        counters.spool_records.change(records, now.records);
        counters.spool_bytes.change(bytes, now.bytes);
        counters.spool_held.change(held, now.held);
        counters.spool_oldest_millis.set(oldest_millis);
    }
}
