//! OffsetFetch (key 9), versions 1 to 9: one group; batched form from 8.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{self, offset_fetch_request as theirs, offset_fetch_response as answer};

use super::{decode, encode, group_id, owned_option, shared, text, topic_name};
use crate::wire::reader::ReadError;
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Asks for the committed offsets of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct OffsetFetchRequest {
    /// The group.
    pub group: Arc<str>,
    /// Topics and partitions; none for all that have a commit (version 2).
    pub topics: Option<Vec<(Arc<str>, Vec<i32>)>>,
    /// Refuse with [`ErrorCode::UNSTABLE_OFFSET_COMMIT`] while a transaction is pending (version 7, KIP-447; before, a
    /// broker answers with what it has).
    pub require_stable: bool,
    /// Member id and member epoch of the one who asks, none for anybody: the coordinator refuses another epoch than the
    /// member's (version 9, KIP-848; before, it does not look).
    pub member: Option<(String, i32)>,
}

/// The committed offsets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetFetchResponse {
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
    /// The error of the whole request or of the group (version 2).
    pub error: ErrorCode,
    /// By topic.
    pub topics: Vec<(Arc<str>, Vec<OffsetFetchPartition>)>,
}

/// The committed offset of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetFetchPartition {
    /// Which partition.
    pub partition: i32,
    /// Why it is not told.
    pub error: ErrorCode,
    /// The offset of the next record to handle; -1 for none committed.
    pub offset: i64,
    /// The leader epoch committed with it (version 5); -1 for unknown.
    pub leader_epoch: i32,
    /// The text committed with it.
    pub metadata: String,
}

impl Request for OffsetFetchRequest {
    type Response = OffsetFetchResponse;
    const KEY: ApiKey = ApiKey::OffsetFetch;
    const VERSIONS: (i16, i16) = (1, 9);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        if version < 2 && self.topics.is_none() {
            return Err(super::too_old::<Self>(version, "asking for all partitions", 2));
        }
        let message = messages::OffsetFetchRequest::default().with_require_stable(self.require_stable && version >= 7);
        let message = if version >= 8 {
            let topic = |(name, partitions): &(Arc<str>, Vec<i32>)| {
                theirs::OffsetFetchRequestTopics::default()
                    .with_name(topic_name(name))
                    .with_partition_indexes(partitions.clone())
            };
            let group = theirs::OffsetFetchRequestGroup::default()
                .with_group_id(group_id(&self.group))
                .with_topics(self.topics.as_ref().map(|topics| topics.iter().map(topic).collect()));
            let group = match &self.member {
                Some((id, epoch)) if version >= 9 => group.with_member_id(Some(text(id))).with_member_epoch(*epoch),
                _ => group,
            };
            message.with_groups(vec![group])
        } else {
            let topic = |(name, partitions): &(Arc<str>, Vec<i32>)| {
                theirs::OffsetFetchRequestTopic::default()
                    .with_name(topic_name(name))
                    .with_partition_indexes(partitions.clone())
            };
            message
                .with_group_id(group_id(&self.group))
                .with_topics(self.topics.as_ref().map(|topics| topics.iter().map(topic).collect()))
        };
        encode::<Self>(version, &message, out)
    }

    fn decode(version: i16, body: Bytes) -> Result<OffsetFetchResponse, WireError> {
        let end = body.len();
        let message: messages::OffsetFetchResponse = decode::<Self, _>(version, body)?;
        if version < 8 {
            let topics = message.topics.iter();
            let topics = topics.map(|topic| (shared(&topic.name), topic.partitions.iter().map(partition).collect()));
            return Ok(OffsetFetchResponse {
                throttle_ms: message.throttle_time_ms,
                error: ErrorCode(message.error_code),
                topics: topics.collect(),
            });
        }
        let what = "no group in the answer";
        let group =
            message.groups.first().ok_or_else(|| WireError::decode(Self::KEY, version, ReadError { at: end, what }))?;
        let topics = group.topics.iter();
        let topics =
            topics.map(|topic| (shared(&topic.name), topic.partitions.iter().map(partition_of_group).collect()));
        Ok(OffsetFetchResponse {
            throttle_ms: message.throttle_time_ms,
            error: ErrorCode(group.error_code),
            topics: topics.collect(),
        })
    }
}

fn partition(partition: &answer::OffsetFetchResponsePartition) -> OffsetFetchPartition {
    OffsetFetchPartition {
        partition: partition.partition_index,
        error: ErrorCode(partition.error_code),
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: owned_option(partition.metadata.as_ref()).unwrap_or_default(),
    }
}

fn partition_of_group(partition: &answer::OffsetFetchResponsePartitions) -> OffsetFetchPartition {
    OffsetFetchPartition {
        partition: partition.partition_index,
        error: ErrorCode(partition.error_code),
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: owned_option(partition.metadata.as_ref()).unwrap_or_default(),
    }
}
