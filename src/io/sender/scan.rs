//! Looking for a producer's batches in the log itself, by their headers: the last resort when the leader has forgotten
//! the producer.

use super::{Event, Sender};
use crate::core::produce::window::{EntryId, FoundBatch, Leadership, ScanAnswer, Stampable};
use crate::core::spool::Noted;
use crate::io::clock::exact_millis;
use crate::io::cluster::{Cluster, Lane};
use crate::io::connection::Connection;
use crate::types::{BrokerId, IsolationLevel, TopicId, TopicPartition};
use crate::wire::batch::Batches;
use crate::wire::requests::LAST_VERSION_BY_NAME;
use crate::wire::requests::describe_configs::{ConfigResource, DescribeConfigsRequest};
use crate::wire::requests::fetch::{FetchPartition, FetchPartitionResponse, FetchRequest, FetchTopic};
use crate::wire::requests::list_offsets::{ListOffsetsPartition, ListOffsetsRequest};
use crate::wire::requests::offset_for_leader_epoch::{EpochPartition, OffsetForLeaderEpochRequest};
use crate::wire::{ApiKey, ErrorCode};
use std::time::{Duration, Instant};

/// `spool.scan.max.bytes` of a producer that has no spool.
const DEFAULT_MAX_BYTES: u64 = 1 << 30;
/// How much one fetch may bring, in bytes. It shares its connection with small requests.
const FETCH_BYTES: i32 = 1 << 20;
/// How many batches of the producer are listed; each is unsettled or was sent not long before one that is.
const MAX_FOUND: usize = 1 << 20;
/// How long a broker may take to have something, in milliseconds; all that is asked for is there already.
const MAX_WAIT_MS: i32 = 500;
/// ListOffsets' timestamps for the two ends of the log.
pub(super) const LATEST: i64 = -1;
pub(super) const EARLIEST: i64 = -2;
const CLEANUP_POLICY: &str = "cleanup.policy";

impl Sender {
    /// Starts a scan for part `id`, unless one is under way.
    pub(super) fn scan(&mut self, id: usize, entry: EntryId, leader: Leadership) {
        let max_bytes = self.shared.config.spool.as_ref().map_or(DEFAULT_MAX_BYTES, |spool| spool.scan_max_bytes);
        let Some(part) = self.parts.get_mut(id).filter(|part| !part.scanning) else { return };
        let Some(identity) = part.window.identity() else { return };
        let from = part.window.batch(entry).and_then(|(batch, _)| batch.noted());
        part.scanning = true;
        let first = part.window.batch(entry).map(|(_, first)| first);
        tracing::debug!(partition = %part.queue.partition, broker = leader.broker, %identity, first, ?from, "scan");
        let (partition, topic_id) = (part.queue.partition.clone(), part.topic_id);
        let (cluster, report) = (self.shared.cluster.clone(), self.report.clone());
        self.shared.cluster.thread().spawn(async move {
            let answer = match scan(&cluster, &partition, topic_id, leader, identity.id, from, max_bytes).await {
                Ok(answer) => Some(answer),
                Err(cause) => {
                    tracing::debug!(%partition, %cause, "scan failed");
                    None
                }
            };
            let _ = report.send(Event::Scanned { part: id, leader, answer });
        });
    }

    pub(super) fn on_scanned(&mut self, id: usize, leader: Leadership, answer: Option<ScanAnswer>, now: Instant) {
        let retry_at = self.retry_at(id, now);
        let Some(part) = self.parts.get_mut(id) else { return };
        part.scanning = false;
        let mut settled = Vec::new();
        match answer.filter(|_| part.leader == Some(leader)) {
            Some(answer) => {
                tracing::debug!(partition = %part.queue.partition, ?answer, "scanned");
                part.window.set_wall(exact_millis());
                part.window.on_scan(leader, answer, &mut settled);
            }
            None => {
                part.window.on_scan_failed(retry_at);
                self.shared.cluster.request_refresh("a leader could not be read from");
            }
        }
        self.settle(id, settled);
        self.make_runnable(id);
    }
}

/// The batches of `producer_id` between `from` (else the start of the log) and the end of what the leader has now; all
/// of it is replicated when it is read. An error is a passing failure, in words.
pub(super) async fn scan(
    cluster: &Cluster,
    partition: &TopicPartition,
    topic_id: TopicId,
    leader: Leadership,
    producer_id: i64,
    from: Option<Noted>,
    max_bytes: u64,
) -> Result<ScanAnswer, String> {
    let connection = cluster.broker(leader.broker, Lane::Control).await.map_err(|error| error.to_string())?;
    let asked = Asked { cluster, connection, partition, topic_id, leader };
    let mut holes = asked.may_be_compacted().await?;
    let Some(log_start) = asked.end_of_log(EARLIEST).await? else { return Ok(ScanAnswer::Unavailable) };
    let Some(replicated) = asked.end_of_log(LATEST).await? else { return Ok(ScanAnswer::Unavailable) };
    // What the leader has and cannot show yet may be what is looked for.
    let end = asked.end_of_epoch(leader.epoch).await?.unwrap_or(replicated).max(replicated);
    let start = asked.first_offset(from, log_start).await?;
    holes |= log_start > start;
    let (mut offset, mut read, mut found) = (start.max(log_start), 0, Vec::new());
    while offset < end {
        let Some(answer) = asked.fetch(offset).await? else { return Ok(ScanAnswer::Unavailable) };
        read += answer.records.len() as u64;
        if read > max_bytes || found.len() > MAX_FOUND {
            tracing::warn!(
                %partition, from = start, to = end, limit = max_bytes,
                "whether a batch is in the log cannot be told: there is more to read than spool.scan.max.bytes allows; \
                 raise it"
            );
            return Ok(ScanAnswer::Unavailable);
        }
        let next = collect(answer, producer_id, offset, end, &mut found)?;
        if next <= offset {
            return Err(format!("broker {} shows nothing at offset {offset} of {partition} yet", leader.broker));
        }
        offset = next;
    }
    tracing::debug!(%partition, from = start, to = end, bytes = read, "log read");
    Ok(if holes { ScanAnswer::Compacted { found } } else { ScanAnswer::Done { found } })
}

/// Adds the producer's batches before `end`, and returns the offset after the last batch read.
fn collect(
    answer: FetchPartitionResponse,
    producer_id: i64,
    offset: i64,
    end: i64,
    found: &mut Vec<FoundBatch>,
) -> Result<i64, String> {
    let mut next = offset;
    for batch in Batches::new(answer.records) {
        let batch = batch.map_err(|error| error.to_string())?;
        // What lies beyond may be cut off by an election.
        if batch.base_offset >= end {
            break;
        }
        next = next.max(batch.base_offset + i64::from(batch.last_offset_delta) + 1);
        if batch.identity.id == producer_id && batch.base_sequence >= 0 {
            found.push((batch.identity.epoch, batch.base_sequence, batch.base_offset));
        }
    }
    Ok(next)
}

/// A partition, and the connection to its leader.
struct Asked<'a> {
    cluster: &'a Cluster,
    connection: Connection,
    partition: &'a TopicPartition,
    topic_id: TopicId,
    leader: Leadership,
}

impl Asked<'_> {
    fn timeout(&self) -> Duration {
        self.cluster.config().request_timeout
    }

    fn refused(&self, code: ErrorCode) -> String {
        format!("broker {} answered {code} for {}", self.leader.broker, self.partition)
    }

    fn left_out(&self) -> String {
        left_out(self.leader.broker, self.partition)
    }

    /// Also when nobody may tell.
    async fn may_be_compacted(&self) -> Result<bool, String> {
        if self.connection.versions().range(ApiKey::DescribeConfigs).is_none() {
            return Ok(true);
        }
        let topic = ConfigResource::Topic(self.partition.topic.clone());
        let request = DescribeConfigsRequest { resources: vec![(topic, Some(vec![CLEANUP_POLICY.to_owned()]))] };
        let answer = self.connection.submit(&request, self.timeout()).await.map_err(|error| error.to_string())?;
        let result = answer.results.into_iter().next().ok_or_else(|| self.left_out())?;
        match result.error {
            ErrorCode::NONE => {}
            ErrorCode::TOPIC_AUTHORIZATION_FAILED | ErrorCode::CLUSTER_AUTHORIZATION_FAILED => {
                tracing::warn!(
                    partition = %self.partition,
                    "the topic's cleanup.policy may not be read, so it is taken for compacted; DESCRIBE_CONFIGS on the \
                     topic would make it exact"
                );
                return Ok(true);
            }
            code => return Err(self.refused(code)),
        }
        let policy = result.configs.iter().find(|entry| entry.name == CLEANUP_POLICY);
        Ok(policy.and_then(|entry| entry.value.as_deref()).is_none_or(|value| value.contains("compact")))
    }

    /// None when it may not be asked for.
    async fn end_of_log(&self, timestamp: i64) -> Result<Option<i64>, String> {
        match list_offset(&self.connection, self.timeout(), self.partition, self.leader, timestamp).await? {
            Ok(offset) => Ok(Some(offset)),
            Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED) => Ok(None),
            Err(code) => Err(self.refused(code)),
        }
    }

    /// The noted offset, or where the log of today leaves the one in which it was noted.
    async fn first_offset(&self, from: Option<Noted>, log_start: i64) -> Result<i64, String> {
        let Some(noted) = from else { return Ok(0) };
        if noted.leader_epoch < 0 {
            return Ok(noted.offset);
        }
        // Where the leader never heard of that epoch nothing can be left out.
        let end = self.end_of_epoch(noted.leader_epoch).await?.unwrap_or(log_start);
        Ok(noted.offset.min(end))
    }

    /// The offset after the last record of leader epoch `epoch`; none when it is not told.
    async fn end_of_epoch(&self, epoch: i32) -> Result<Option<i64>, String> {
        if epoch < 0 || self.connection.versions().range(ApiKey::OffsetForLeaderEpoch).is_none() {
            return Ok(None);
        }
        let asked = EpochPartition {
            partition: self.partition.partition,
            current_leader_epoch: self.leader.epoch,
            leader_epoch: epoch,
        };
        let request = OffsetForLeaderEpochRequest { topics: vec![(self.partition.topic.clone(), vec![asked])] };
        let answer = self.connection.submit(&request, self.timeout()).await.map_err(|error| error.to_string())?;
        let end = answer.topics.first().and_then(|(_, ends)| ends.first()).ok_or_else(|| self.left_out())?;
        match end.error {
            ErrorCode::NONE => Ok(Some(end.end_offset).filter(|offset| *offset >= 0)),
            ErrorCode::TOPIC_AUTHORIZATION_FAILED => Ok(None),
            code => Err(self.refused(code)),
        }
    }

    /// None when it may not be read.
    async fn fetch(&self, offset: i64) -> Result<Option<FetchPartitionResponse>, String> {
        let partition = FetchPartition {
            partition: self.partition.partition,
            leader_epoch: self.leader.epoch,
            offset,
            last_fetched_epoch: -1,
            max_bytes: FETCH_BYTES,
        };
        let topic = FetchTopic { name: self.partition.topic.clone(), id: self.topic_id, partitions: vec![partition] };
        let request = FetchRequest {
            max_wait_ms: MAX_WAIT_MS,
            min_bytes: 1,
            max_bytes: FETCH_BYTES,
            isolation: IsolationLevel::ReadUncommitted,
            session_id: 0,
            session_epoch: -1,
            topics: vec![topic],
            forgotten: Vec::new(),
            rack: "".into(),
        };
        let ceiling = if self.topic_id.is_some() { i16::MAX } else { LAST_VERSION_BY_NAME };
        let answer = self.connection.submit_at_most(&request, self.timeout(), ceiling).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if !answer.error.is_ok() {
            return Err(self.refused(answer.error));
        }
        let mut partitions = answer.topics.into_iter().flat_map(|topic| topic.partitions);
        let answer = partitions.next().ok_or_else(|| self.left_out())?;
        match answer.error {
            ErrorCode::NONE => Ok(Some(answer)),
            ErrorCode::TOPIC_AUTHORIZATION_FAILED => Ok(None),
            code => Err(self.refused(code)),
        }
    }
}

/// One end of the log, or the leader's refusal: it refuses any other leader epoch than its own (KIP-320).
pub(super) async fn list_offset(
    connection: &Connection,
    timeout: Duration,
    partition: &TopicPartition,
    leader: Leadership,
    timestamp: i64,
) -> Result<Result<i64, ErrorCode>, String> {
    let asked = ListOffsetsPartition { partition: partition.partition, leader_epoch: leader.epoch, timestamp };
    let request = ListOffsetsRequest {
        isolation: IsolationLevel::ReadUncommitted,
        topics: vec![(partition.topic.clone(), vec![asked])],
    };
    let answer = connection.submit(&request, timeout).await.map_err(|error| error.to_string())?;
    let answer = answer.topics.iter().flat_map(|(_, answers)| answers).next();
    let answer = answer.ok_or_else(|| left_out(leader.broker, partition))?;
    Ok(if answer.error.is_ok() { Ok(answer.offset) } else { Err(answer.error) })
}

fn left_out(broker: BrokerId, partition: &TopicPartition) -> String {
    format!("broker {broker} left {partition} out")
}
