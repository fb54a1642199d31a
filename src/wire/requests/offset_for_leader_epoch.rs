//! OffsetForLeaderEpoch (key 23), versions 2 to 4 (KIP-320).

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{self, BrokerId, offset_for_leader_epoch_request as theirs};

use super::{decode, encode, shared, topic_name};
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Asks where a leader epoch ended: what lies beyond was cut by an unclean election.
#[derive(Clone, Debug, PartialEq)]
pub struct OffsetForLeaderEpochRequest {
    /// By topic.
    pub topics: Vec<(Arc<str>, Vec<EpochPartition>)>,
}

/// The question for one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochPartition {
    /// Which partition.
    pub partition: i32,
    /// The leader epoch the client knows, -1 for none: an older one is refused.
    pub current_leader_epoch: i32,
    /// The epoch whose end is asked for.
    pub leader_epoch: i32,
}

/// Where the epochs ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetForLeaderEpochResponse {
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
    /// By topic.
    pub topics: Vec<(Arc<str>, Vec<EpochEnd>)>,
}

/// Where an epoch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// Which partition.
    pub partition: i32,
    /// Why it is not told.
    pub error: ErrorCode,
    /// The largest epoch not above the one asked for; -1 for none.
    pub leader_epoch: i32,
    /// The offset after its last record; -1 for none.
    pub end_offset: i64,
}

impl Request for OffsetForLeaderEpochRequest {
    type Response = OffsetForLeaderEpochResponse;
    const KEY: ApiKey = ApiKey::OffsetForLeaderEpoch;
    const VERSIONS: (i16, i16) = (2, 4);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        let topics = self.topics.iter().map(|(name, partitions)| {
            let partitions = partitions.iter().map(|partition| {
                theirs::OffsetForLeaderPartition::default()
                    .with_partition(partition.partition)
                    .with_current_leader_epoch(partition.current_leader_epoch)
                    .with_leader_epoch(partition.leader_epoch)
            });
            theirs::OffsetForLeaderTopic::default().with_topic(topic_name(name)).with_partitions(partitions.collect())
        });
        let message = messages::OffsetForLeaderEpochRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(topics.collect());
        encode::<Self>(version, &message, out)
    }

    fn decode(version: i16, body: Bytes) -> Result<OffsetForLeaderEpochResponse, WireError> {
        let message: messages::OffsetForLeaderEpochResponse = decode::<Self, _>(version, body)?;
        let topics = message.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| EpochEnd {
                partition: partition.partition,
                error: ErrorCode(partition.error_code),
                leader_epoch: partition.leader_epoch,
                end_offset: partition.end_offset,
            });
            (shared(&topic.topic), partitions.collect())
        });
        Ok(OffsetForLeaderEpochResponse { throttle_ms: message.throttle_time_ms, topics: topics.collect() })
    }
}
