//! What really happened, for assertions: records in the logs, records lost, commits, requests.

use super::log::StoredBatch;
use super::records::{Record, decode_batch};
use super::state::{State, Topic};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

/// One stored commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Consumer group.
    pub group: String,
    /// Topic of the committed partition.
    pub topic: String,
    /// The committed partition.
    pub partition: i32,
    /// Next offset to consume.
    pub offset: i64,
    /// Generation in which the member committed; -1 outside the group protocol.
    pub generation: i32,
    /// Who committed.
    pub member: String,
    /// The application's note.
    pub metadata: Option<String>,
}

/// One request that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestSeen {
    /// API key.
    pub api_key: i16,
    /// API version.
    pub version: i16,
    /// Broker that got it.
    pub broker: i32,
    /// Client id in its header; empty when there was none.
    pub client_id: String,
    /// Time since the start of the cluster, by the cluster's clock.
    pub at: Duration,
}

/// A picture of the cluster's past. Records are decoded when they are asked for.
#[derive(Debug, Clone)]
pub struct Ledger {
    logs: BTreeMap<(String, i32), PartitionBatches>,
    /// Stored commits, in order.
    pub commits: Vec<Commit>,
    /// The last 100,000 requests, in order of arrival.
    pub requests: Vec<RequestSeen>,
    /// How many requests of (API key, version, broker, client id).
    pub request_counts: BTreeMap<(i16, i16, i32, String), u64>,
}

/// The batches of one partition.
#[derive(Debug, Clone, Default)]
struct PartitionBatches {
    trimmed: Vec<Bytes>,
    present: Vec<Bytes>,
    lost: Vec<Bytes>,
}

impl Ledger {
    pub(crate) fn of(state: &State) -> Self {
        let bytes = |batches: &[StoredBatch]| batches.iter().map(|batch| batch.bytes.clone()).collect();
        let mut logs = BTreeMap::new();
        for (name, Topic { partitions, .. }) in &state.topics {
            for (index, partition) in (0..).zip(partitions) {
                let batches = PartitionBatches {
                    trimmed: bytes(&partition.trimmed),
                    present: partition.log.batches().map(|batch| batch.bytes.clone()).collect(),
                    lost: bytes(&partition.lost),
                };
                logs.insert((name.clone(), index), batches);
            }
        }
        Self {
            logs,
            commits: state.commits.clone(),
            requests: state.requests.iter().cloned().collect(),
            request_counts: state.request_counts.clone(),
        }
    }

    /// Topics that exist.
    pub fn topics(&self) -> Vec<String> {
        let mut names: Vec<_> = self.logs.keys().map(|(topic, _)| topic.clone()).collect();
        names.dedup();
        names
    }

    /// Records of one partition by offset, those removed by DeleteRecords included, those lost in elections not. A batch
    /// that cannot be decoded is left out; [`Ledger::damage`] names it.
    pub fn records(&self, topic: &str, partition: i32) -> Vec<Record> {
        let Some(log) = self.logs.get(&(topic.to_owned(), partition)) else { return Vec::new() };
        log.trimmed.iter().chain(&log.present).flat_map(|batch| decode_batch(batch).unwrap_or_default()).collect()
    }

    /// Records of one partition that elections have cut off, in the order of the loss.
    pub fn lost(&self, topic: &str, partition: i32) -> Vec<Record> {
        let Some(log) = self.logs.get(&(topic.to_owned(), partition)) else { return Vec::new() };
        log.lost.iter().flat_map(|batch| decode_batch(batch).unwrap_or_default()).collect()
    }

    /// Values of a topic, partition after partition, as text (lossy); a tombstone is empty.
    pub fn values(&self, topic: &str) -> Vec<String> {
        let text = |record: Record| String::from_utf8_lossy(&record.value.unwrap_or_default()).into_owned();
        self.partitions(topic).into_iter().flat_map(|index| self.records(topic, index)).map(text).collect()
    }

    /// Values of one partition, as text (lossy).
    pub fn partition_values(&self, topic: &str, partition: i32) -> Vec<String> {
        let text = |record: Record| String::from_utf8_lossy(&record.value.unwrap_or_default()).into_owned();
        self.records(topic, partition).into_iter().map(text).collect()
    }

    /// Partitions of a topic.
    pub fn partitions(&self, topic: &str) -> Vec<i32> {
        self.logs.keys().filter(|(name, _)| name == topic).map(|(_, index)| *index).collect()
    }

    /// Batches in the log of one partition as (bytes, in offset order).
    pub fn batches(&self, topic: &str, partition: i32) -> Vec<Bytes> {
        self.logs.get(&(topic.to_owned(), partition)).map(|log| log.present.clone()).unwrap_or_default()
    }

    /// A sentence for every stored batch whose records cannot be decoded.
    pub fn damage(&self) -> Vec<String> {
        let mut out = Vec::new();
        for ((topic, partition), log) in &self.logs {
            for batch in log.trimmed.iter().chain(&log.present) {
                if let Err(error) = decode_batch(batch) {
                    out.push(format!("{topic}-{partition}: {error}"));
                }
            }
        }
        out
    }

    /// Last committed offset.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let same = |commit: &&Commit| commit.group == group && commit.topic == topic && commit.partition == partition;
        self.commits.iter().rev().find(same).map(|commit| commit.offset)
    }

    /// Requests with this API key that arrived, at all brokers.
    pub fn request_count(&self, api_key: i16) -> u64 {
        self.request_counts.iter().filter(|(key, _)| key.0 == api_key).map(|(_, count)| count).sum()
    }
}
