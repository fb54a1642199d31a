//! Asking a leader what it has of this producer (DescribeProducers, KIP-664).

use super::identity::expiration;
use super::scan::{EARLIEST, LATEST, list_offset};
use super::{Event, Sender};
use crate::core::produce::window::{Leadership, ProbeAnswer};
use crate::io::clock::exact_millis;
use crate::io::cluster::{Cluster, Lane};
use crate::types::TopicPartition;
use crate::wire::requests::describe_producers::DescribeProducersRequest;
use crate::wire::{ApiKey, ErrorCode};
use std::time::Instant;

impl Sender {
    /// Starts a probe of part `id`, unless one is under way.
    pub(super) fn probe(&mut self, id: usize, leader: Leadership) {
        let Some(part) = self.parts.get_mut(id).filter(|part| !part.probing) else { return };
        let Some(identity) = part.window.identity().or(self.identity) else { return };
        part.probing = true;
        let partition = part.queue.partition.clone();
        let (cluster, report) = (self.shared.cluster.clone(), self.report.clone());
        cluster.counters().probes.add(1);
        tracing::debug!(%partition, broker = leader.broker, leader_epoch = leader.epoch, %identity, "probe");
        // A producer whose id comes from its spool has not asked yet, and what an answer proves depends on it.
        let ask_expiration = !self.expiration_known;
        self.shared.cluster.thread().spawn(async move {
            if ask_expiration {
                match expiration(&cluster).await {
                    Some(Some(expiration)) => drop(report.send(Event::Expiration(expiration))),
                    Some(None) => {}
                    // Without it nobody can say what an answer proves: asked again.
                    None => return drop(report.send(Event::Probed { part: id, leader, answer: None })),
                }
            }
            let answer = match ask(&cluster, &partition, leader, identity.id).await {
                Ok(answer) => Some(answer),
                Err(cause) => {
                    tracing::debug!(%partition, %cause, "probe failed");
                    None
                }
            };
            let _ = report.send(Event::Probed { part: id, leader, answer });
        });
    }

    pub(super) fn on_probed(&mut self, id: usize, leader: Leadership, answer: Option<ProbeAnswer>, now: Instant) {
        let retry_at = self.retry_at(id, now);
        let Some(part) = self.parts.get_mut(id) else { return };
        part.probing = false;
        let mut settled = Vec::new();
        match answer.filter(|_| part.leader == Some(leader)) {
            Some(answer) if !part.asked => return self.on_first_asked(id, answer),
            Some(answer) => {
                tracing::debug!(partition = %part.queue.partition, ?answer, "probed");
                part.window.set_wall(exact_millis());
                part.window.on_probe(leader, answer, &mut settled);
            }
            None => {
                if part.asked {
                    part.window.on_probe_failed(retry_at);
                } else {
                    self.arm(id, retry_at);
                }
                self.shared.cluster.request_refresh("a leader could not be asked for a producer's state");
            }
        }
        self.settle(id, settled);
        if self.parts.get(id).is_some_and(|part| part.asked) {
            self.make_runnable(id);
        }
    }
}

/// The producer's state at the leader. Every replica answers DescribeProducers, with its own and perhaps older state; so
/// the same connection then proves that it leads under the epoch we know.
async fn ask(
    cluster: &Cluster,
    partition: &TopicPartition,
    leader: Leadership,
    producer: i64,
) -> Result<ProbeAnswer, String> {
    let connection = cluster.broker(leader.broker, Lane::Control).await.map_err(|error| error.to_string())?;
    if connection.versions().range(ApiKey::DescribeProducers).is_none() {
        return Ok(ProbeAnswer::Unavailable);
    }
    let request = DescribeProducersRequest { topics: vec![(partition.topic.clone(), vec![partition.partition])] };
    let timeout = cluster.config().request_timeout;
    let answer = connection.submit(&request, timeout).await.map_err(|error| error.to_string())?;
    let mut states = answer.topics.into_iter().filter(|(topic, _)| *topic == partition.topic).flat_map(|topic| topic.1);
    let Some(state) = states.find(|state| state.partition == partition.partition) else {
        return Err(format!("broker {} left {partition} out", leader.broker));
    };
    let probed = match state.error {
        ErrorCode::NONE => {
            // A producer may be listed once for each epoch it still has; the highest counts.
            let ours =
                state.producers.iter().filter(|active| active.identity.id == producer && active.last_sequence >= 0);
            ours.max_by_key(|active| active.identity.epoch)
                .map(|active| ProbeAnswer::Known { epoch: active.identity.epoch, last_sequence: active.last_sequence })
        }
        ErrorCode::TOPIC_AUTHORIZATION_FAILED | ErrorCode::CLUSTER_AUTHORIZATION_FAILED => {
            return Ok(ProbeAnswer::Unavailable);
        }
        code => return Err(format!("broker {} answered {code}", leader.broker)),
    };
    // The offset does not matter when it knows the producer: it refuses to answer unless it leads under our epoch.
    let end = if probed.is_some() { LATEST } else { EARLIEST };
    match list_offset(&connection, timeout, partition, leader, end).await? {
        Ok(offset) => {
            let log_start = Some(offset).filter(|offset| *offset >= 0);
            Ok(probed.unwrap_or(ProbeAnswer::Empty { log_start }))
        }
        Err(code) => Err(format!("broker {} answered {code}: it does not lead {partition} any more", leader.broker)),
    }
}
