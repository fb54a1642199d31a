//! What came back: each partition's answer goes to its window, each settled batch to its receipts.

use super::leader::InFlight;
use super::{Event, Sender};
use crate::core::produce::accumulator::ReadyBatch;
use crate::core::produce::window::{Answer, Leadership, Reason, Setback, Settled, Stampable};
use crate::core::verdict::produce::{ProduceVerdict, produce};
use crate::error::{CallError, SendCause, words};
use crate::io::clock::exact_millis;
use crate::types::{Acks, BrokerId, TopicPartition};
use crate::wire::ErrorCode;
use crate::wire::requests::produce::{ProducePartitionResponse, ProduceResponse};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

impl Sender {
    pub(super) fn on_event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Answer { broker, batches, result } => self.on_answer(broker, batches, result, now),
            Event::Connected { broker, result } => self.on_connected(broker, result, now),
            Event::Probed { part, leader, answer } => self.on_probed(part, leader, answer, now),
            Event::Scanned { part, leader, answer } => self.on_scanned(part, leader, answer, now),
            Event::Identity(result) => self.on_identity(result),
            Event::Durable(durable) => self.on_durable(durable),
            Event::Loaded { part, batch, result, permit } => self.on_loaded(part, batch, result, permit),
            Event::Expiration(expiration) => self.on_expiration(expiration),
        }
    }

    fn on_answer(
        &mut self,
        broker: BrokerId,
        batches: Vec<InFlight>,
        result: Result<ProduceResponse, CallError>,
        now: Instant,
    ) {
        if let Some(leader) = self.leaders.get_mut(&broker) {
            leader.in_flight = leader.in_flight.saturating_sub(1);
        }
        self.shared.cluster.counters().batches_in_flight.sub(batches.len() as u64);
        match result {
            Err(error) => self.on_no_answer(&batches, &error, now),
            Ok(_) if self.shared.config.acks == Acks::None => {
                let unanswered = ProducePartitionResponse::unanswered();
                for batch in &batches {
                    self.on_partition(broker, batch, Some(&unanswered), now);
                }
            }
            Ok(response) => {
                let answers = by_partition(&response);
                for batch in &batches {
                    let by_id = answers.get(&(Arc::from(""), batch.topic_id.0, batch.partition));
                    let answer = by_id.or_else(|| answers.get(&(batch.topic.clone(), [0; 16], batch.partition)));
                    // Answered twice is as good as not at all: nobody can tell which one holds.
                    self.on_partition(broker, batch, answer.copied().flatten(), now);
                }
            }
        }
        for batch in batches {
            self.stamp_ahead(batch.part);
            self.make_runnable(batch.part);
        }
    }

    fn on_no_answer(&mut self, batches: &[InFlight], error: &CallError, now: Instant) {
        let sent = error.may_have_been_applied();
        let setback: Arc<str> = Arc::from(error.to_string());
        self.shared.cluster.request_refresh("a produce request was not answered");
        for batch in batches {
            let retry_at = self.retry_at(batch.part, now);
            let Some(part) = self.parts.get_mut(batch.part) else { continue };
            let mut settled = Vec::new();
            let first = part.window.batch(batch.id).map(|(_, first)| first);
            tracing::debug!(partition = %part.queue.partition, broker = batch.leader.broker, first, sent, %setback, "no answer");
            part.window.set_wall(exact_millis());
            part.window.on_no_answer(batch.id, sent, setback.clone(), retry_at, &mut settled);
            self.shared.cluster.counters().batch_setbacks.add(1);
            self.settle(batch.part, settled);
        }
    }

    fn on_partition(
        &mut self,
        broker: BrokerId,
        batch: &InFlight,
        answer: Option<&ProducePartitionResponse>,
        now: Instant,
    ) {
        let retry_at = self.retry_at(batch.part, now);
        let mut settled = Vec::new();
        let Some(part) = self.parts.get_mut(batch.part) else { return };
        let Some(answer) = answer else {
            let setback = format!("broker {broker} answered {}-{} not, or twice", batch.topic, batch.partition);
            part.window.set_wall(exact_millis());
            part.window.on_no_answer(batch.id, true, Arc::from(setback), retry_at, &mut settled);
            return self.settle(batch.part, settled);
        };
        let verdict = produce(answer.error);
        let mut said = Answer {
            leader: batch.leader,
            verdict,
            base_offset: known_offset(answer.base_offset),
            setback: Setback::default(),
        };
        let mut retry_at = retry_at;
        if verdict != ProduceVerdict::Delivered {
            said.setback = setback(broker, &part.queue.partition, answer);
            let first = part.window.batch(batch.id).map(|(_, first)| first);
            tracing::debug!(partition = %part.queue.partition, broker, first, setback = %said.setback, "batch not taken");
            self.shared.cluster.counters().batch_setbacks.add(1);
            if self.follow_leader(batch, verdict, answer) {
                // A leader that is known already need not be waited for.
                retry_at = now;
            }
        }
        if let Some(part) = self.parts.get_mut(batch.part) {
            part.window.on_answer(batch.id, said, retry_at, &mut settled);
        }
        // Another may lead by now, but the offset is this one's.
        self.settle_under(batch.part, batch.leader.epoch, settled);
    }

    /// Takes over the leader named in the answer (KIP-951), else has the metadata asked for. True when there is another
    /// leader now than the batch was sent to.
    fn follow_leader(&self, batch: &InFlight, verdict: ProduceVerdict, answer: &ProducePartitionResponse) -> bool {
        let refresh =
            matches!(verdict, ProduceVerdict::Retry { refresh: true } | ProduceVerdict::RetryInDoubt { refresh: true });
        if !refresh {
            return false;
        }
        let cluster = &self.shared.cluster;
        let partition = TopicPartition::new(batch.topic.clone(), batch.partition);
        if let Some((leader, epoch)) = answer.current_leader.filter(|(leader, _)| *leader >= 0) {
            cluster.learn_leader(&partition, leader, epoch);
        }
        let now = cluster.view().leader(&partition).map(|(broker, epoch)| Leadership { broker, epoch });
        let moved = now.is_some_and(|now| now != batch.leader);
        if !moved {
            cluster.request_refresh("a broker answered that it does not lead a partition");
        }
        moved
    }

    /// The end of the backoff after one more failure of part `id`.
    pub(super) fn retry_at(&self, id: usize, now: Instant) -> Instant {
        let failures = self.parts.get(id).map_or(0, |part| part.window.failures());
        now + self.backoff.delay(failures.saturating_add(1), self.shared.cluster.thread().random().next())
    }

    /// Tells the receipts.
    pub(super) fn settle(&mut self, id: usize, settled: Vec<Settled<ReadyBatch>>) {
        let leader = self.parts.get(id).and_then(|part| part.leader);
        self.settle_under(id, leader.map_or(-1, |leader| leader.epoch), settled);
    }

    /// As [`Self::settle`], said by a leader of `leader_epoch`.
    fn settle_under(&mut self, id: usize, leader_epoch: i32, settled: Vec<Settled<ReadyBatch>>) {
        self.adopt_halves(id);
        let counters = self.shared.cluster.counters().clone();
        for settled in settled {
            match settled {
                Settled::Delivered { batch, base_offset } => {
                    if let Some(part) = self.parts.get(id) {
                        let stamp = batch.stored.as_ref().and_then(|stored| stored.stamp);
                        let first = stamp.map(|stamp| stamp.base_sequence);
                        let records = batch.count();
                        tracing::debug!(partition = %part.queue.partition, first, records, base_offset, "delivered");
                    }
                    counters.records_delivered.add(batch.count().unsigned_abs().into());
                    self.note_delivered(id, &batch, base_offset, leader_epoch);
                    if let Some(buffer) = batch.deliver(base_offset) {
                        self.shared.budget.recycle(buffer);
                    }
                }
                Settled::Failed { batch, reason, setback } => {
                    counters.records_failed.add(batch.count().unsigned_abs().into());
                    let last = setback.or_else(|| self.excuse(id));
                    if let Some(batch) = self.keep_undelivered(id, batch, false, reason, last.clone()) {
                        batch.fail(false, self.cause(reason), last);
                    }
                }
                Settled::Unknown { batch, reason, setback } => {
                    counters.records_unknown.add(batch.count().unsigned_abs().into());
                    let last = setback.or_else(|| self.excuse(id)).or_else(|| self.unanswered(id));
                    if let Some(batch) = self.keep_undelivered(id, batch, true, reason, last.clone()) {
                        batch.fail(true, self.cause(reason), last);
                    }
                }
                Settled::AcknowledgedLost { identity, found, expected } => {
                    counters.acknowledged_lost.add(1);
                    if let Some(part) = self.parts.get(id) {
                        tracing::error!(
                            partition = %part.queue.partition, %identity, ?found, expected,
                            "the leader has less than was acknowledged: records were lost on the brokers; see \
                             unclean.leader.election.enable and min.insync.replicas"
                        );
                    }
                }
                Settled::Beyond { identity, found, expected } => {
                    if let Some(part) = self.parts.get(id) {
                        tracing::warn!(
                            partition = %part.queue.partition, %identity, found, expected,
                            "the leader has more of this producer than its spool: was the spool restored from a backup, \
                             or does a copy of it run?"
                        );
                    }
                }
            }
        }
    }

    /// What is known of a batch of part `id` whose first request is still under way.
    fn unanswered(&self, id: usize) -> Option<Arc<str>> {
        let broker = self.parts.get(id)?.leader?.broker;
        Some(Arc::from(format!("sent to broker {broker}, which has not answered yet")))
    }

    pub(super) fn cause(&self, reason: Reason) -> SendCause {
        match reason {
            Reason::TimedOut => SendCause::TimedOut(self.shared.config.delivery_timeout),
            Reason::RetriesUsedUp => SendCause::RetriesUsedUp(self.shared.config.retries),
            Reason::Refused => SendCause::Refused,
            Reason::RecordRefused => SendCause::RecordRefused,
            Reason::Fenced | Reason::Outdated => SendCause::Fenced,
            Reason::CannotTell => SendCause::CannotTell,
        }
    }
}

/// Topic name (empty from version 13 on), topic id (zero before), partition.
type Asked = (Arc<str>, [u8; 16], i32);

/// The answers by partition; none for a partition that was answered more than once.
fn by_partition(response: &ProduceResponse) -> HashMap<Asked, Option<&ProducePartitionResponse>> {
    let mut answers = HashMap::new();
    for topic in &response.topics {
        for answer in &topic.partitions {
            answers
                .entry((topic.name.clone(), topic.id.0, answer.partition))
                .and_modify(|twice| *twice = None)
                .or_insert(Some(answer));
        }
    }
    answers
}

/// An offset from which any batch can be counted on; -1 is how brokers say that they do not know.
fn known_offset(offset: i64) -> Option<i64> {
    Some(offset).filter(|offset| *offset >= 0 && offset.checked_add(i64::from(i32::MAX)).is_some())
}

fn setback(broker: BrokerId, partition: &TopicPartition, answer: &ProducePartitionResponse) -> Arc<str> {
    let said = answer.record_errors.iter().find_map(|(_, said)| said.as_deref()).or(answer.error_message.as_deref());
    let said = said.map_or_else(|| answer.error.meaning().to_owned(), words);
    Arc::from(format!("broker {broker} answered {} for {partition}: {said}{}", answer.error, hint(answer.error)))
}

/// What would help, where the code alone does not say.
fn hint(error: ErrorCode) -> &'static str {
    match error {
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => "; the principal needs WRITE on the topic",
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED => "; the principal needs IDEMPOTENT_WRITE on the cluster",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_beyond_counting_is_not_known() {
        for (told, known) in [(-1, None), (0, Some(0)), (i64::MAX, None), (i64::MAX - 5, None)] {
            assert_eq!(known_offset(told), known, "{told}");
        }
    }
}
