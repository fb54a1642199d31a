//! OffsetCommit (key 8), versions 2 to 9.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{self, offset_commit_request as theirs};

use super::{decode, encode, group_id, shared, text, topic_name};
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Commits offsets of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct OffsetCommitRequest {
    /// The group.
    pub group: Arc<str>,
    /// The generation, or the member epoch of KIP-848 (version 9); -1 outside of group management.
    pub generation: i32,
    /// The member; empty outside of group management.
    pub member_id: String,
    /// Its `group.instance.id` (version 7, KIP-345).
    pub instance_id: Option<String>,
    /// By topic.
    pub topics: Vec<(Arc<str>, Vec<OffsetCommitPartition>)>,
}

/// The offset of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommitPartition {
    /// Which partition.
    pub partition: i32,
    /// The offset of the next record to handle.
    pub offset: i64,
    /// The leader epoch of the last record handled, -1 for unknown (version 6; left out before).
    pub leader_epoch: i32,
    /// Any text to keep with it.
    pub metadata: String,
}

/// What became of each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetCommitResponse {
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
    /// By topic: partition and error.
    #[allow(clippy::type_complexity, reason = "topics and their partitions, as in the other responses")]
    pub topics: Vec<(Arc<str>, Vec<(i32, ErrorCode)>)>,
}

impl Request for OffsetCommitRequest {
    type Response = OffsetCommitResponse;
    const KEY: ApiKey = ApiKey::OffsetCommit;
    const VERSIONS: (i16, i16) = (2, 9);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        if version < 7 && self.instance_id.is_some() {
            return Err(super::too_old::<Self>(version, "static membership (group.instance.id)", 7));
        }
        let topics = self.topics.iter().map(|(name, partitions)| {
            let partitions = partitions.iter().map(|partition| {
                theirs::OffsetCommitRequestPartition::default()
                    .with_partition_index(partition.partition)
                    .with_committed_offset(partition.offset)
                    .with_committed_leader_epoch(if version >= 6 { partition.leader_epoch } else { -1 })
                    .with_committed_metadata(Some(text(&partition.metadata)))
            });
            theirs::OffsetCommitRequestTopic::default()
                .with_name(topic_name(name))
                .with_partitions(partitions.collect())
        });
        let message = messages::OffsetCommitRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(self.instance_id.as_deref().map(text))
            .with_topics(topics.collect());
        encode::<Self>(version, &message, out)
    }

    fn decode(version: i16, body: Bytes) -> Result<OffsetCommitResponse, WireError> {
        let message: messages::OffsetCommitResponse = decode::<Self, _>(version, body)?;
        let topics = message.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter();
            let partitions = partitions.map(|partition| (partition.partition_index, ErrorCode(partition.error_code)));
            (shared(&topic.name), partitions.collect())
        });
        Ok(OffsetCommitResponse { throttle_ms: message.throttle_time_ms, topics: topics.collect() })
    }
}
