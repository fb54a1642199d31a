//! ListOffsets (key 2), versions 1 to 10.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{self, BrokerId, list_offsets_request as theirs};

use super::{decode, encode, shared, topic_name};
use crate::types::IsolationLevel;
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Asks for offsets by time.
#[derive(Clone, Debug, PartialEq)]
pub struct ListOffsetsRequest {
    /// Whether "latest" is the last stable offset (version 2).
    pub isolation: IsolationLevel,
    /// By topic.
    pub topics: Vec<(Arc<str>, Vec<ListOffsetsPartition>)>,
}

/// The question for one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListOffsetsPartition {
    /// Which partition.
    pub partition: i32,
    /// The leader epoch the client knows, -1 for none: an older one is refused (version 4).
    pub leader_epoch: i32,
    /// -1 for the end of the log, -2 for its start, else the first record at or after this time in milliseconds.
    pub timestamp: i64,
}

/// The offsets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListOffsetsResponse {
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
    /// By topic.
    pub topics: Vec<(Arc<str>, Vec<ListOffsetsAnswer>)>,
}

/// The answer for one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListOffsetsAnswer {
    /// Which partition.
    pub partition: i32,
    /// Why there is no offset.
    pub error: ErrorCode,
    /// The timestamp of the record found; -1 for none.
    pub timestamp: i64,
    /// Its offset; -1 when there is no record so late.
    pub offset: i64,
    /// The leader epoch of that record; -1 for unknown.
    pub leader_epoch: i32,
}

impl Request for ListOffsetsRequest {
    type Response = ListOffsetsResponse;
    const KEY: ApiKey = ApiKey::ListOffsets;
    const VERSIONS: (i16, i16) = (1, 10);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        let topics = self.topics.iter().map(|(name, partitions)| {
            let partitions = partitions.iter().map(|partition| {
                theirs::ListOffsetsPartition::default()
                    .with_partition_index(partition.partition)
                    .with_current_leader_epoch(if version >= 4 { partition.leader_epoch } else { -1 })
                    .with_timestamp(partition.timestamp)
            });
            theirs::ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(partitions.collect())
        });
        let isolation = match self.isolation {
            // Version 1 knows no transactions: the end of the log is all there is.
            IsolationLevel::ReadCommitted if version >= 2 => 1,
            _ => 0,
        };
        let message = messages::ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_isolation_level(isolation)
            .with_topics(topics.collect());
        encode::<Self>(version, &message, out)
    }

    fn decode(version: i16, body: Bytes) -> Result<ListOffsetsResponse, WireError> {
        let message: messages::ListOffsetsResponse = decode::<Self, _>(version, body)?;
        let topics = message.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| ListOffsetsAnswer {
                partition: partition.partition_index,
                error: ErrorCode(partition.error_code),
                timestamp: partition.timestamp,
                offset: partition.offset,
                leader_epoch: partition.leader_epoch,
            });
            (shared(&topic.name), partitions.collect())
        });
        Ok(ListOffsetsResponse { throttle_ms: message.throttle_time_ms, topics: topics.collect() })
    }
}
