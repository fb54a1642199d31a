//! Looking up offsets: what a group has committed, and where logs begin and end.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::cluster::{Cluster, Lane};
use super::history::{self, Claim};
use crate::config::{ConsumerConfig, OffsetReset};
use crate::core::consume::history::History;
use crate::core::consume::progress::{self, Done, Log};
use crate::core::verdict::fetch::{FetchVerdict, partition as verdict};
use crate::core::verdict::group::{CommittedVerdict, committed as committed_verdict};
use crate::error::{CallError, ConsumeError};
use crate::types::{BrokerId, IsolationLevel, TopicId, TopicPartition};
use crate::wire::ErrorCode;
use crate::wire::requests::find_coordinator::CoordinatorType;
use crate::wire::requests::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse};
use crate::wire::requests::offset_fetch::{OffsetFetchRequest, OffsetFetchResponse};

/// "The first offset there is" in ListOffsets.
pub(crate) const EARLIEST: i64 = -2;
/// "Behind the last one": the last stable offset when reading committed records.
pub(crate) const LATEST: i64 = -1;

/// A place in a partition, wherever the group has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekTo {
    /// This offset. One that is not in the log is a case for `offset.out.of.range`; if that stops the consumer, it is not
    /// committed.
    Offset(i64),
    /// The first record that is of this time or later, in milliseconds since 1970; the end when there is none. Of a log
    /// whose timestamps do not grow, some later records may be older.
    Timestamp(i64),
    /// The first record there is.
    Beginning,
    /// Behind the last one; behind the last committed one when only committed records are read.
    End,
}

/// Where a partition begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) partition: TopicPartition,
    /// As the topic was when this was found out; all zero where brokers have none.
    pub(crate) topic_id: TopicId,
    pub(crate) offset: i64,
    /// Leader epoch of the record before it; -1 for unknown.
    pub(crate) leader_epoch: i32,
    /// What the group has committed.
    pub(crate) committed: Option<i64>,
    /// What is handled beyond that.
    pub(crate) done: Done,
}

impl Start {
    /// At an offset that nobody committed.
    pub(crate) fn at(partition: TopicPartition, topic_id: TopicId, offset: i64) -> Start {
        Start { partition, topic_id, offset, leader_epoch: -1, committed: None, done: Done::default() }
    }
}

/// What a group has committed for a partition.
#[derive(Clone, Debug)]
struct Committed {
    offset: i64,
    leader_epoch: i32,
    metadata: String,
}

/// Finds where to begin: at the given place, else at the committed offset, else where `auto.offset.reset` says. Tells
/// `found` each as soon as it is known: a partition without leader does not hold up others.
///
/// Tries until it knows: whoever waits drops the future when the assignment is over.
pub(crate) async fn starts(
    cluster: &Cluster,
    config: &ConsumerConfig,
    group: Option<(&Arc<str>, Lane)>,
    partitions: Vec<(TopicPartition, Option<SeekTo>)>,
    found: &(impl Fn(Vec<Start>) + Sync),
) -> Result<(), ConsumeError> {
    let mut counts: BTreeMap<Arc<str>, i32> = BTreeMap::new();
    let mut ids: HashMap<Arc<str>, TopicId> = HashMap::new();
    for (partition, _) in &partitions {
        if !counts.contains_key(&partition.topic) {
            let topic = cluster.topic(&partition.topic, cluster.config().default_api_timeout).await?;
            counts.insert(partition.topic.clone(), i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX));
            ids.insert(partition.topic.clone(), topic.id);
        }
        // Who assigned it may know of partitions that our metadata does not have yet: what is committed for them counts.
        if let Some(count) = counts.get_mut(&partition.topic) {
            *count = (*count).max(partition.partition.saturating_add(1));
        }
    }
    let id = |partition: &TopicPartition| ids.get(&partition.topic).copied().unwrap_or(TopicId::NONE);
    // All partitions of the topics are asked for: whether the group knows a topic decides where a new partition begins.
    let known = match group {
        Some((group, lane)) => committed(cluster, group, lane, &counts).await?,
        None => HashMap::new(),
    };
    let (mut begun, mut claims) = (Vec::new(), Vec::new());
    let mut places: Vec<(SeekTo, Vec<TopicPartition>)> = Vec::new();
    let mut place = |to: SeekTo, partition: TopicPartition| match places.iter_mut().find(|(known, _)| *known == to) {
        Some((_, partitions)) => partitions.push(partition),
        None => places.push((to, vec![partition])),
    };
    for (partition, given) in partitions {
        match (given, known.get(&partition)) {
            (Some(SeekTo::Offset(offset)), known) => {
                let committed = known.map(|known| known.offset).filter(|committed| *committed <= offset);
                let topic_id = id(&partition);
                begun.push(Start { committed, ..Start::at(partition, topic_id, offset) });
            }
            (Some(to), _) => place(to, partition),
            (None, Some(known)) => claims.push(claim(group.map(|(group, _)| group), id(&partition), partition, known)),
            (None, None) => {
                let knows_topic = known.keys().any(|known| known.topic == partition.topic);
                match config.offset_reset {
                    OffsetReset::Error => {
                        return Err(ConsumeError::NoOffset { group: group.map(|(group, _)| group.clone()), partition });
                    }
                    // A partition that was added to a topic of the group: none of its records was seen by anybody.
                    OffsetReset::Latest if !knows_topic => place(SeekTo::End, partition),
                    OffsetReset::Earliest | OffsetReset::Latest => place(SeekTo::Beginning, partition),
                }
            }
        }
    }
    if !begun.is_empty() {
        found(begun);
    }
    let looking_up = async {
        for (to, asked) in places {
            let offsets = look_up(cluster, &asked, to, config.isolation).await?;
            let start = |partition: TopicPartition| {
                let (offset, topic_id) = (offsets.get(&partition).copied()?, id(&partition));
                Some(Start::at(partition, topic_id, offset))
            };
            found(asked.into_iter().filter_map(start).collect());
        }
        Ok(())
    };
    tokio::try_join!(looking_up, history::check(cluster, config, claims, found)).map(|_| ())
}

/// What is committed, to be checked against the log.
fn claim(group: Option<&Arc<str>>, topic_id: TopicId, partition: TopicPartition, known: &Committed) -> Claim {
    let log = Log { partition: &partition, topic_id };
    let done = progress::read(&known.metadata, log, known.offset).unwrap_or_else(|why| {
        tracing::debug!(?group, %partition, offset = known.offset, ?why, "commit metadata is not used");
        Done::default()
    });
    Claim { history: History::new(known.offset, known.leader_epoch, done), partition, topic_id }
}

/// The offsets of a place. Tries until it has all.
pub(crate) async fn look_up(
    cluster: &Cluster,
    partitions: &[TopicPartition],
    to: SeekTo,
    isolation: IsolationLevel,
) -> Result<HashMap<TopicPartition, i64>, ConsumeError> {
    let timestamp = match to {
        SeekTo::Offset(offset) => return Ok(partitions.iter().map(|named| (named.clone(), offset)).collect()),
        // Negative times mean something else to brokers; no record is so old.
        SeekTo::Timestamp(..0) | SeekTo::Beginning => EARLIEST,
        SeekTo::Timestamp(timestamp) => timestamp,
        SeekTo::End => LATEST,
    };
    let mut offsets: HashMap<TopicPartition, i64> = HashMap::new();
    let mut late = Vec::new();
    for (partition, (offset, _)) in list(cluster, partitions, timestamp, isolation).await? {
        if offset < 0 {
            late.push(partition);
        } else {
            offsets.insert(partition, offset);
        }
    }
    if !late.is_empty() {
        let ends = list(cluster, &late, LATEST, isolation).await?;
        offsets.extend(ends.into_iter().map(|(partition, (offset, _))| (partition, offset)));
    }
    Ok(offsets)
}

/// The committed offsets of a group. Tries until it has them.
async fn committed(
    cluster: &Cluster,
    group: &Arc<str>,
    lane: Lane,
    counts: &BTreeMap<Arc<str>, i32>,
) -> Result<HashMap<TopicPartition, Committed>, ConsumeError> {
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

fn offsets_in(response: OffsetFetchResponse) -> HashMap<TopicPartition, Committed> {
    let mut offsets = HashMap::new();
    for (topic, partitions) in response.topics {
        for found in partitions.into_iter().filter(|found| found.offset >= 0) {
            let partition = TopicPartition { topic: topic.clone(), partition: found.partition };
            let (offset, leader_epoch, metadata) = (found.offset, found.leader_epoch, found.metadata);
            offsets.insert(partition, Committed { offset, leader_epoch, metadata });
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

pub(super) fn by_leader<'a>(
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

pub(super) async fn pause(cluster: &Cluster, attempt: u32, what: &'static str, why: &str) {
    if attempt.is_multiple_of(WARN_EVERY) {
        tracing::warn!(attempt, why, "{what}; still trying");
    }
    let delay = cluster.retry_backoff().delay(attempt, cluster.thread().random().next());
    tokio::time::sleep(delay.max(Duration::from_millis(1))).await;
}
