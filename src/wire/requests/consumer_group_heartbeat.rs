//! ConsumerGroupHeartbeat (key 68), versions 0 to 1 (KIP-848).

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{self, consumer_group_heartbeat_request as theirs};

use super::{decode, encode, group_id, owned, owned_option, text, topic_id, topic_name};
use crate::types::TopicId;
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Joins a group, stays in it, acknowledges an assignment, and leaves. What is none has not changed since the last one
/// that was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerGroupHeartbeatRequest {
    /// The group.
    pub group: Arc<str>,
    /// The member; version 1 wants an id that the client made up.
    pub member_id: String,
    /// The member's epoch: 0 to join, -1 to leave, -2 when a static member leaves for a while.
    pub member_epoch: i32,
    /// Its `group.instance.id`.
    pub instance_id: Option<String>,
    /// Its rack.
    pub rack: Option<String>,
    /// How long it may take to give partitions back, in milliseconds; -1 if that has not changed.
    pub rebalance_timeout_ms: i32,
    /// The topics it subscribes to.
    pub topics: Option<Vec<Arc<str>>>,
    /// The pattern it subscribes to, in RE2's syntax (version 1).
    pub pattern: Option<String>,
    /// The broker's assignor it prefers.
    pub assignor: Option<String>,
    /// What it owns.
    pub owned: Option<Vec<(TopicId, Vec<i32>)>>,
}

/// What the coordinator says to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConsumerGroupHeartbeatResponse {
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
    /// Why it is refused.
    pub error: ErrorCode,
    /// More about that; empty if nothing is.
    pub message: String,
    /// The member.
    pub member_id: Option<String>,
    /// Its epoch from now on.
    pub member_epoch: i32,
    /// When the next heartbeat is expected, in milliseconds.
    pub heartbeat_interval_ms: i32,
    /// What it shall own; none if there is nothing new to it.
    pub assignment: Option<Vec<(TopicId, Vec<i32>)>>,
}

impl Request for ConsumerGroupHeartbeatRequest {
    type Response = ConsumerGroupHeartbeatResponse;
    const KEY: ApiKey = ApiKey::ConsumerGroupHeartbeat;
    const VERSIONS: (i16, i16) = (0, 1);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        if version < 1 && self.pattern.is_some() {
            return Err(super::too_old::<Self>(version, "a subscription by pattern", 1));
        }
        let mut owned = Vec::new();
        for (topic, partitions) in self.owned.iter().flatten() {
            let id = topic_id::<Self, _>(version, *topic)?;
            let row = theirs::TopicPartitions::default().with_topic_id(id).with_partitions(partitions.clone());
            owned.push(row);
        }
        let topics = self.topics.as_ref().map(|topics| topics.iter().map(|topic| topic_name(topic)).collect());
        let message = messages::ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group_id(&self.group))
            .with_member_id(text(&self.member_id))
            .with_member_epoch(self.member_epoch)
            .with_instance_id(self.instance_id.as_deref().map(text))
            .with_rack_id(self.rack.as_deref().map(text))
            .with_rebalance_timeout_ms(self.rebalance_timeout_ms)
            .with_subscribed_topic_names(topics)
            .with_subscribed_topic_regex(self.pattern.as_deref().map(text))
            .with_server_assignor(self.assignor.as_deref().map(text))
            .with_topic_partitions(self.owned.as_ref().map(|_| owned));
        encode::<Self>(version, &message, out)
    }

    fn decode(version: i16, body: Bytes) -> Result<ConsumerGroupHeartbeatResponse, WireError> {
        let message: messages::ConsumerGroupHeartbeatResponse = decode::<Self, _>(version, body)?;
        let assignment = message.assignment.map(|assignment| {
            let topics = assignment.topic_partitions.into_iter();
            topics.map(|topic| (TopicId(topic.topic_id.into_bytes()), topic.partitions)).collect()
        });
        Ok(ConsumerGroupHeartbeatResponse {
            throttle_ms: message.throttle_time_ms,
            error: ErrorCode(message.error_code),
            message: message.error_message.as_ref().map(owned).unwrap_or_default(),
            member_id: owned_option(message.member_id.as_ref()),
            member_epoch: message.member_epoch,
            heartbeat_interval_ms: message.heartbeat_interval_ms,
            assignment,
        })
    }
}
