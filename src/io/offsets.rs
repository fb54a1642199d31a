//! Looking up offsets: what a group has committed, and where logs begin and end.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::cluster::{Cluster, Lane};
use crate::config::{ConsumerConfig, OffsetReset};
use crate::core::verdict::fetch::{FetchVerdict, partition as verdict};
use crate::core::verdict::group::{CommittedVerdict, committed as committed_verdict};
use crate::error::{CallError, ConsumeError};
use crate::types::{BrokerId, IsolationLevel, TopicPartition};
use crate::wire::ErrorCode;
use crate::wire::requests::find_coordinator::CoordinatorType;
use crate::wire::requests::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse};
use crate::wire::requests::offset_fetch::{OffsetFetchRequest, OffsetFetchResponse};

/// "The first offset there is" in ListOffsets.
pub(crate) const EARLIEST: i64 = -2;
/// "Behind the last one": the last stable offset when reading committed records.
pub(crate) const LATEST: i64 = -1;

/// Where a partition begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) partition: TopicPartition,
    pub(crate) offset: i64,
    /// Leader epoch of the record before it; -1 for unknown.
    pub(crate) leader_epoch: i32,
    /// What the group has committed.
    pub(crate) committed: Option<i64>,
}

/// Finds where to begin: at the given offset, else at the committed one, else where `auto.offset.reset` says.
///
/// Tries until it knows: whoever waits drops the future when the assignment is over.
pub(crate) async fn starts(
    cluster: &Cluster,
    config: &ConsumerConfig,
    group: Option<(&Arc<str>, Lane)>,
    partitions: Vec<(TopicPartition, Option<i64>)>,
) -> Result<Vec<Start>, ConsumeError> {
    let mut counts: BTreeMap<Arc<str>, i32> = BTreeMap::new();
    for (partition, _) in &partitions {
        if !counts.contains_key(&partition.topic) {
            let topic = cluster.topic(&partition.topic, cluster.config().default_api_timeout).await?;
            counts.insert(partition.topic.clone(), i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX));
        }
        // Who assigned it may know of partitions that our metadata does not have yet: what is committed for them counts.
        if let Some(count) = counts.get_mut(&partition.topic) {
            *count = (*count).max(partition.partition.saturating_add(1));
        }
    }
    // All partitions of the topics are asked for: whether the group knows a topic decides where a new partition begins.
    let known = match group {
        Some((group, lane)) => committed(cluster, group, lane, &counts).await?,
        None => HashMap::new(),
    };
    let mut starts = Vec::with_capacity(partitions.len());
    let (mut at_start, mut at_end) = (Vec::new(), Vec::new());
    for (partition, given) in partitions {
        if let Some((offset, leader_epoch)) = known.get(&partition).copied().filter(|_| given.is_none()) {
            starts.push(Start { partition, offset, leader_epoch, committed: Some(offset) });
        } else if let Some(offset) = given {
            let committed = known.get(&partition).map(|(offset, _)| *offset).filter(|committed| *committed <= offset);
            starts.push(Start { partition, offset, leader_epoch: -1, committed });
        } else {
            let knows_topic = known.keys().any(|known| known.topic == partition.topic);
            match config.offset_reset {
                OffsetReset::Error => {
                    return Err(ConsumeError::NoOffset { group: group.map(|(group, _)| group.clone()), partition });
                }
                // A partition that was added to a topic of the group: none of its records was seen by anybody.
                OffsetReset::Latest if !knows_topic => at_end.push(partition),
                OffsetReset::Earliest | OffsetReset::Latest => at_start.push(partition),
            }
        }
    }
    for (asked, timestamp) in [(at_start, EARLIEST), (at_end, LATEST)] {
        for (partition, (offset, _)) in list(cluster, &asked, timestamp, config.isolation).await? {
            starts.push(Start { partition, offset, leader_epoch: -1, committed: None });
        }
    }
    Ok(starts)
}

/// The committed offsets of a group, and their leader epochs. Tries until it has them.
async fn committed(
    cluster: &Cluster,
    group: &Arc<str>,
    lane: Lane,
    counts: &BTreeMap<Arc<str>, i32>,
) -> Result<HashMap<TopicPartition, (i64, i32)>, ConsumeError> {
    let topics = counts.iter().map(|(topic, count)| (topic.clone(), (0..*count).collect())).collect();
    let request = OffsetFetchRequest { group: group.clone(), topics: Some(topics), require_stable: true, member: None };
    let timeout = cluster.config().request_timeout;
    let mut attempt = 0;
    loop {
        let answer = match cluster.coordinator(CoordinatorType::Group, group, lane).await {
            Ok(connection) => connection.submit(&request, timeout).await,
            Err(error) => Err(error),
        };
        let again = match answer {
            Ok(response) => match worst(&response) {
                (CommittedVerdict::Done, _) => return Ok(offsets_in(response)),
                (CommittedVerdict::Refused, code) => {
                    let (group, during) = (group.clone(), "OffsetFetch");
                    return Err(ConsumeError::Group { group, during, code: Some(code), detail: String::new() });
                }
                (CommittedVerdict::FindCoordinator, code) => {
                    cluster.coordinator_moved(CoordinatorType::Group, group);
                    code.to_string()
                }
                (CommittedVerdict::Retry, code) => code.to_string(),
            },
            Err(error) if !error.is_retryable() => return Err(error.into()),
            Err(error) => {
                cluster.coordinator_moved(CoordinatorType::Group, group);
                error.to_string()
            }
        };
        attempt += 1;
        pause(cluster, attempt, "the committed offsets cannot be read", &again).await;
    }
}

fn worst(response: &OffsetFetchResponse) -> (CommittedVerdict, ErrorCode) {
    let partitions = response.topics.iter().flat_map(|(_, partitions)| partitions.iter().map(|p| p.error));
    std::iter::once(response.error)
        .chain(partitions)
        .map(|code| (committed_verdict(code), code))
        .find(|(verdict, _)| *verdict != CommittedVerdict::Done)
        .unwrap_or((CommittedVerdict::Done, ErrorCode::NONE))
}

fn offsets_in(response: OffsetFetchResponse) -> HashMap<TopicPartition, (i64, i32)> {
    let mut offsets = HashMap::new();
    for (topic, partitions) in response.topics {
        for found in partitions.into_iter().filter(|found| found.offset >= 0) {
            let partition = TopicPartition { topic: topic.clone(), partition: found.partition };
            offsets.insert(partition, (found.offset, found.leader_epoch));
        }
    }
    offsets
}

/// Offsets by timestamp, or [`EARLIEST`] or [`LATEST`], from the leaders; -1 where no record has that timestamp or a later
/// one. Tries until it has all.
pub(crate) async fn list(
    cluster: &Cluster,
    partitions: &[TopicPartition],
    timestamp: i64,
    isolation: IsolationLevel,
) -> Result<HashMap<TopicPartition, (i64, i32)>, ConsumeError> {
    let mut found = HashMap::new();
    let mut attempt = 0;
    loop {
        let mut why = String::from("no leader is known");
        for (leader, asked) in by_leader(cluster, partitions.iter().filter(|partition| !found.contains_key(*partition)))
        {
            let request = list_request(&asked, timestamp, isolation);
            let answer = ask(cluster, leader, &request).await;
            let response = match answer {
                Ok(response) => response,
                Err(error) if !error.is_retryable() => return Err(error.into()),
                Err(error) => {
                    why = error.to_string();
                    continue;
                }
            };
            for (topic, answers) in response.topics {
                for answer in answers {
                    let partition = TopicPartition { topic: topic.clone(), partition: answer.partition };
                    match verdict(answer.error) {
                        FetchVerdict::Done => {
                            // -1 is an answer about a time: no record is as late.
                            let least = if timestamp >= 0 { -1 } else { 0 };
                            found.insert(partition, (answer.offset.max(least), answer.leader_epoch));
                        }
                        FetchVerdict::Refresh | FetchVerdict::Retry => why = answer.error.to_string(),
                        FetchVerdict::OutOfRange | FetchVerdict::Fatal => {
                            return Err(ConsumeError::Fetch { partition, code: answer.error });
                        }
                    }
                }
            }
        }
        if partitions.iter().all(|partition| found.contains_key(partition)) {
            found.retain(|partition, _| partitions.contains(partition));
            return Ok(found);
        }
        cluster.request_refresh("offsets could not be looked up");
        attempt += 1;
        pause(cluster, attempt, "offsets cannot be looked up", &why).await;
    }
}

async fn ask(
    cluster: &Cluster,
    leader: BrokerId,
    request: &ListOffsetsRequest,
) -> Result<ListOffsetsResponse, CallError> {
    cluster.broker(leader, Lane::Control).await?.submit(request, cluster.config().request_timeout).await
}

fn by_leader<'a>(
    cluster: &Cluster,
    partitions: impl Iterator<Item = &'a TopicPartition>,
) -> BTreeMap<BrokerId, Vec<(&'a TopicPartition, i32)>> {
    let view = cluster.view();
    let mut leaders: BTreeMap<BrokerId, Vec<_>> = BTreeMap::new();
    for partition in partitions {
        if let Some((leader, epoch)) = view.leader(partition) {
            leaders.entry(leader).or_default().push((partition, epoch));
        }
    }
    leaders
}

fn list_request(asked: &[(&TopicPartition, i32)], timestamp: i64, isolation: IsolationLevel) -> ListOffsetsRequest {
    let mut topics: BTreeMap<Arc<str>, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for (partition, leader_epoch) in asked {
        let asked = ListOffsetsPartition { partition: partition.partition, leader_epoch: *leader_epoch, timestamp };
        topics.entry(partition.topic.clone()).or_default().push(asked);
    }
    ListOffsetsRequest { isolation, topics: topics.into_iter().collect() }
}

/// Attempts after which a failure that goes on is worth a line in the log, and after how many each time again.
const WARN_EVERY: u32 = 10;

async fn pause(cluster: &Cluster, attempt: u32, what: &'static str, why: &str) {
    if attempt.is_multiple_of(WARN_EVERY) {
        tracing::warn!(attempt, why, "{what}; still trying");
    }
    let delay = cluster.retry_backoff().delay(attempt, cluster.thread().random().next());
    tokio::time::sleep(delay.max(Duration::from_millis(1))).await;
}
