//! Requests to one leader: at most five unanswered, each with at most one batch per partition.

use super::{Event, Sender};
use crate::core::produce::window::{EntryId, Leadership, Next, Stampable};
use crate::error::CallError;
use crate::io::cluster::Lane;
use crate::io::connection::Connection;
use crate::types::{Acks, BrokerId, TopicId};
use crate::wire::requests::LAST_VERSION_BY_NAME;
use crate::wire::requests::produce::{ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

#[derive(Default)]
pub(super) struct Leader {
    pub(super) connection: Option<Connection>,
    pub(super) connecting: bool,
    pub(super) in_flight: usize,
    /// Parts that may have something to send, each once.
    pub(super) runnable: VecDeque<usize>,
    /// Why the last attempt to reach it failed.
    pub(super) trouble: Option<Arc<str>>,
}

/// A batch in a request.
pub(super) struct InFlight {
    pub(super) part: usize,
    pub(super) id: EntryId,
    pub(super) leader: Leadership,
    pub(super) topic: Arc<str>,
    pub(super) topic_id: TopicId,
    pub(super) partition: i32,
}

/// A request being put together.
#[derive(Default)]
struct Draft {
    topics: Vec<ProduceTopic>,
    batches: Vec<InFlight>,
    bytes: usize,
    /// A part was found that another broker leads by now.
    handed_over: bool,
}

impl Sender {
    pub(super) fn fill_all(&mut self, now: Instant) {
        // A part on the list of its former leader is handed to the present one, which may have had its turn already. No
        // event would come to wake that one, so it gets another turn.
        let mut handed_over = true;
        while std::mem::take(&mut handed_over) {
            let busy: Vec<BrokerId> =
                self.leaders.iter().filter(|(_, leader)| !leader.runnable.is_empty()).map(|(id, _)| *id).collect();
            for broker in busy {
                handed_over |= self.fill(broker, now);
            }
        }
    }

    /// Sends to `broker` what may go. True when a part was handed over to another leader.
    fn fill(&mut self, broker: BrokerId, now: Instant) -> bool {
        let limit = self.shared.config.max_in_flight;
        let mut handed_over = false;
        loop {
            let Some(leader) = self.leaders.get_mut(&broker) else { return handed_over };
            if leader.in_flight >= limit || leader.runnable.is_empty() {
                return handed_over;
            }
            let Some(connection) = leader.connection.clone().filter(|connection| !connection.is_closed()) else {
                self.connect(broker);
                return handed_over;
            };
            let draft = self.draft(broker, now);
            handed_over |= draft.handed_over;
            if draft.batches.is_empty() {
                return handed_over;
            }
            self.submit(broker, &connection, draft);
        }
    }

    /// Goes once over the runnable parts of `broker`.
    fn draft(&mut self, broker: BrokerId, now: Instant) -> Draft {
        let mut draft = Draft::default();
        let rounds = self.leaders.get(&broker).map_or(0, |leader| leader.runnable.len());
        for _ in 0..rounds {
            let Some(id) = self.leaders.get_mut(&broker).and_then(|leader| leader.runnable.pop_front()) else { break };
            let Some(part) = self.parts.get_mut(id) else { continue };
            part.runnable = false;
            let Some(leadership) = part.leader.filter(|leader| leader.broker == broker) else {
                self.make_runnable(id);
                draft.handed_over = true;
                continue;
            };
            self.pull(id, now);
            let Some(part) = self.parts.get_mut(id) else { continue };
            if part.held.is_some() || !self.is_loaded(id) || !self.is_for_this_topic(id) {
                continue;
            }
            let Some(part) = self.parts.get_mut(id) else { continue };
            let size = part.window.peek().map_or(0, |batch| batch.len());
            if !draft.batches.is_empty() && draft.bytes + size > self.shared.config.max_request_size {
                part.runnable = true;
                if let Some(leader) = self.leaders.get_mut(&broker) {
                    leader.runnable.push_front(id);
                }
                break;
            }
            if let Next::Send(entry) = self.step(id, leadership, now) {
                if !self.add(&mut draft, id, entry, leadership)
                    && let Some(part) = self.parts.get_mut(id)
                {
                    let why = Arc::from("its bytes had not been read back");
                    part.window.on_no_answer(entry, false, why, now, &mut Vec::new());
                }
                self.pull(id, now);
                self.make_runnable(id);
            }
            if let Some(at) = self.parts.get(id).and_then(|part| part.deadline()) {
                self.arm(id, at);
            }
        }
        draft
    }

    /// False when its bytes are not there to be sent.
    fn add(&self, draft: &mut Draft, id: usize, entry: EntryId, leader: Leadership) -> bool {
        let Some(part) = self.parts.get(id) else { return false };
        let (Some((batch, first)), Some(identity)) = (part.window.batch(entry), part.window.identity()) else {
            return false;
        };
        let first = if self.window.idempotent { first } else { -1 };
        let Some(sealed) = batch.sealed() else { return false };
        tracing::debug!(
            partition = %part.queue.partition,
            broker = leader.broker,
            leader_epoch = leader.epoch,
            %identity,
            first,
            records = batch.count(),
            newest = batch.newest_timestamp(),
            attempt = part.window.attempts(entry),
            "send"
        );
        let parts = [sealed.stamp(identity, first, false), sealed.section().bytes.clone()];
        let partition = &part.queue.partition;
        draft.bytes += batch.len();
        draft.batches.push(InFlight {
            part: id,
            id: entry,
            leader,
            topic: partition.topic.clone(),
            topic_id: part.topic_id,
            partition: partition.partition,
        });
        let body = ProducePartition { partition: partition.partition, batch: parts };
        match draft.topics.iter_mut().find(|topic| topic.name == partition.topic) {
            Some(topic) => topic.partitions.push(body),
            None => draft.topics.push(ProduceTopic {
                name: partition.topic.clone(),
                id: part.topic_id,
                partitions: vec![body],
            }),
        }
        true
    }

    fn submit(&mut self, broker: BrokerId, connection: &Connection, draft: Draft) {
        let timeout = self.shared.cluster.config().request_timeout;
        let ceiling = if draft.topics.iter().all(|topic| topic.id.is_some()) { i16::MAX } else { LAST_VERSION_BY_NAME };
        let request = ProduceRequest {
            acks: self.shared.config.acks,
            timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
            topics: draft.topics,
        };
        let batches = draft.batches;
        let counters = self.shared.cluster.counters();
        counters.batches_sent.add(batches.len() as u64);
        counters.batches_in_flight.add(batches.len() as u64);
        if let Some(leader) = self.leaders.get_mut(&broker) {
            leader.in_flight += 1;
        }
        let report = self.report.clone();
        let thread = self.shared.cluster.thread();
        if request.acks == Acks::None {
            let written = connection.submit_unanswered(&request, timeout);
            thread.spawn(async move {
                let result = written.await.map(|()| ProduceResponse::default());
                let _ = report.send(Event::Answer { broker, batches, result });
            });
        } else {
            let answer = connection.submit_at_most(&request, timeout, ceiling);
            thread.spawn(async move {
                let result = answer.await;
                let _ = report.send(Event::Answer { broker, batches, result });
            });
        }
    }

    fn connect(&mut self, broker: BrokerId) {
        let Some(leader) = self.leaders.get_mut(&broker).filter(|leader| !leader.connecting) else { return };
        leader.connecting = true;
        leader.connection = None;
        let (cluster, report) = (self.shared.cluster.clone(), self.report.clone());
        self.shared.cluster.thread().spawn(async move {
            let result = cluster.broker(broker, Lane::Produce).await;
            let _ = report.send(Event::Connected { broker, result });
        });
    }

    pub(super) fn on_connected(&mut self, broker: BrokerId, result: Result<Connection, CallError>, now: Instant) {
        let Some(leader) = self.leaders.get_mut(&broker) else { return };
        leader.connecting = false;
        match result {
            Ok(connection) => {
                leader.connection = Some(connection);
                leader.trouble = None;
            }
            Err(error) => {
                leader.trouble = Some(Arc::from(error.to_string()));
                self.shared.cluster.request_refresh("a leader cannot be reached");
                // The parts are looked at again after a while, with whatever leader they have then.
                let waiting = std::mem::take(&mut leader.runnable);
                let retry_at = now + self.backoff.delay(1, self.shared.cluster.thread().random().next());
                for id in waiting {
                    if let Some(part) = self.parts.get_mut(id) {
                        part.runnable = false;
                    }
                    self.arm(id, retry_at);
                }
            }
        }
    }

    /// What keeps part `id` from being sent, as far as it is known.
    pub(super) fn excuse(&self, id: usize) -> Option<Arc<str>> {
        let part = self.parts.get(id)?;
        let Some(leader) = part.leader else {
            return Some(Arc::from(format!("partition {} has no leader", part.queue.partition)));
        };
        let trouble = self.leaders.get(&leader.broker).and_then(|leader| leader.trouble.clone());
        trouble.or_else(|| self.identity_trouble.clone().filter(|_| self.identity.is_none()))
    }
}
