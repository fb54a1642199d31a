//! Asking leaders whether their logs still have what a group has handled (KIP-320), before it goes on there.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::cluster::{Cluster, Lane};
use super::offsets::{SeekTo, Start, by_leader, look_up, pause};
use crate::config::{ConsumerConfig, OnDataLoss};
use crate::core::consume::history::{History, Loss};
use crate::core::verdict::fetch::{FetchVerdict, partition as verdict};
use crate::error::{CallError, ConsumeError};
use crate::types::{BrokerId, TopicId, TopicPartition};
use crate::wire::requests::offset_for_leader_epoch::{
    EpochEnd, EpochPartition, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

/// How often a leader that knows nothing of an epoch is asked again, with newer metadata: it may be one that was deposed
/// and does not know it.
const UNKNOWN_EPOCHS: u32 = 5;

/// What a group says it has handled of a partition.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) partition: TopicPartition,
    pub(crate) topic_id: TopicId,
    pub(crate) history: History,
}

type Answer = (BrokerId, Result<OffsetForLeaderEpochResponse, CallError>);

/// Tells `found` where each partition begins, as soon as its leader has confirmed it. Tries until it knows.
///
/// # Errors
/// [`ConsumeError::DataLoss`] for a log that was cut, unless `data.loss` says to go on.
pub(super) async fn check(
    cluster: &Cluster,
    config: &ConsumerConfig,
    mut claims: Vec<Claim>,
    found: &(impl Fn(Vec<Start>) + Sync),
) -> Result<(), ConsumeError> {
    let mut attempt = 0;
    loop {
        let (open, ready): (Vec<Claim>, Vec<Claim>) =
            claims.into_iter().partition(|claim| claim.history.question().is_some());
        claims = open;
        if !ready.is_empty() {
            found(ready.into_iter().map(start).collect());
        }
        if claims.is_empty() {
            return Ok(());
        }
        let mut why = String::from("no leader is known");
        let mut answered = false;
        let mut answers = ask(cluster, &claims);
        while let Some(answer) = answers.join_next().await {
            let Ok((leader, answer)) = answer else { continue };
            let response = match answer {
                Ok(response) => response,
                Err(error) if error.is_retryable() => {
                    why = error.to_string();
                    continue;
                }
                Err(error) => {
                    // An old broker, for one. A fault that is for ever shows itself when records are fetched.
                    tracing::debug!(leader, %error, "leader epochs cannot be looked up; commits are taken as they are");
                    let view = cluster.view();
                    let led = |claim: &&mut Claim| view.leader(&claim.partition).is_some_and(|(id, _)| id == leader);
                    claims.iter_mut().filter(led).for_each(|claim| claim.history.give_up());
                    answered = true;
                    continue;
                }
            };
            for (topic, ends) in response.topics {
                for end in ends {
                    let named =
                        |claim: &Claim| claim.partition.topic == topic && claim.partition.partition == end.partition;
                    let Some(at) = claims.iter().position(named) else { continue };
                    match on_end(cluster, &mut claims, at, end, attempt) {
                        Ok(None) => answered = true,
                        Ok(Some(loss)) => {
                            answered = true;
                            let claim = claims.swap_remove(at);
                            found(vec![after_loss(cluster, config, claim, loss).await?]);
                        }
                        Err(reason) => why = reason,
                    }
                }
            }
        }
        if !answered {
            cluster.request_refresh("leader epochs could not be looked up");
            attempt += 1;
            pause(cluster, attempt, "what was committed cannot be checked against the log", &why).await;
        }
    }
}

/// Takes an answer over. An error says why it means nothing.
fn on_end(
    cluster: &Cluster,
    claims: &mut [Claim],
    at: usize,
    end: EpochEnd,
    attempt: u32,
) -> Result<Option<Loss>, String> {
    let Some(claim) = claims.get_mut(at) else { return Ok(None) };
    match verdict(end.error) {
        FetchVerdict::Done => {
            let asked = claim.history.question().unwrap_or(-1);
            let newest = cluster.view().leader(&claim.partition).map_or(-1, |(_, epoch)| epoch);
            if end.leader_epoch < 0 && newest < asked && attempt < UNKNOWN_EPOCHS {
                return Err(format!("the leader does not know leader epoch {asked} yet"));
            }
            Ok(claim.history.on_answer(end.leader_epoch, end.end_offset))
        }
        FetchVerdict::Refresh | FetchVerdict::Retry => Err(end.error.to_string()),
        FetchVerdict::OutOfRange | FetchVerdict::Fatal => {
            claim.history.give_up();
            Ok(None)
        }
    }
}

/// One request for each leader, side by side.
fn ask(cluster: &Cluster, claims: &[Claim]) -> JoinSet<Answer> {
    let mut answers = JoinSet::new();
    let question = |partition: &TopicPartition| {
        claims.iter().find(|claim| claim.partition == *partition).and_then(|claim| claim.history.question())
    };
    for (leader, asked) in by_leader(cluster, claims.iter().map(|claim| &claim.partition)) {
        let mut topics: BTreeMap<Arc<str>, Vec<EpochPartition>> = BTreeMap::new();
        for (partition, current_leader_epoch) in asked {
            let Some(leader_epoch) = question(partition) else { continue };
            let asked = EpochPartition { partition: partition.partition, current_leader_epoch, leader_epoch };
            topics.entry(partition.topic.clone()).or_default().push(asked);
        }
        let (request, cluster) =
            (OffsetForLeaderEpochRequest { topics: topics.into_iter().collect() }, cluster.clone());
        answers.spawn(async move {
            let answer = match cluster.broker(leader, Lane::Control).await {
                Ok(connection) => connection.submit(&request, cluster.config().request_timeout).await,
                Err(error) => Err(error),
            };
            (leader, answer)
        });
    }
    answers
}

fn start(claim: Claim) -> Start {
    let Claim { partition, topic_id, history: History { offset, leader_epoch, done, .. } } = claim;
    Start { partition, topic_id, offset, leader_epoch, committed: Some(offset), done }
}

/// The application decides what a loss means.
async fn after_loss(
    cluster: &Cluster,
    config: &ConsumerConfig,
    claim: Claim,
    loss: Loss,
) -> Result<Start, ConsumeError> {
    let Claim { partition, topic_id, history } = claim;
    let end = match loss.end {
        Some(end) => end,
        // Nothing in this log is known to be handled.
        None => {
            let first = look_up(cluster, std::slice::from_ref(&partition), SeekTo::Beginning, config.isolation).await?;
            first.get(&partition).copied().unwrap_or(0)
        }
    };
    let (position, leader_epoch) = (history.offset, loss.leader_epoch);
    match config.data_loss {
        OnDataLoss::Stop => Err(ConsumeError::DataLoss { partition, position, end, leader_epoch }),
        OnDataLoss::Continue => {
            tracing::warn!(
                %partition,
                committed = position,
                end,
                leader_epoch,
                "the log was cut below the committed offset; data.loss says to go on where the common history ends"
            );
            Ok(Start::at(partition, topic_id, end))
        }
    }
}
