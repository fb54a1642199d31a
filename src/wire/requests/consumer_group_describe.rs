//! ConsumerGroupDescribe (key 69), versions 0 and 1: one group of the consumer protocol (KIP-848), asked at its
//! coordinator.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{self, consumer_group_describe_response as answer};

use super::{decode, encode, group_id, owned, owned_option, shared};
use crate::types::TopicPartition;
use crate::wire::reader::ReadError;
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Asks for a group and its members.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerGroupDescribeRequest {
    /// The group.
    pub group: Arc<str>,
}

/// The group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConsumerGroupDescribeResponse {
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
    /// Why it is not told: [`ErrorCode::GROUP_ID_NOT_FOUND`] for a group of another type, too.
    pub error: ErrorCode,
    /// The broker's words about it.
    pub error_message: Option<String>,
    /// Its state, such as `Stable` or `Reconciling`.
    pub state: String,
    /// Grows with every change of members or subscriptions.
    pub epoch: i32,
    /// The coordinator's assignor.
    pub assignor: String,
    /// Its members.
    pub members: Vec<ConsumerGroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupMember {
    /// Its member id.
    pub id: String,
    /// Its `group.instance.id`.
    pub instance_id: Option<String>,
    /// Its `client.id`.
    pub client_id: String,
    /// Where it connects from, as the broker writes it: `/10.0.0.7`.
    pub client_host: String,
    /// The partitions it has now.
    pub assignment: Vec<TopicPartition>,
    /// The partitions it is to have.
    pub target: Vec<TopicPartition>,
}

impl Request for ConsumerGroupDescribeRequest {
    type Response = ConsumerGroupDescribeResponse;
    const KEY: ApiKey = ApiKey::ConsumerGroupDescribe;
    const VERSIONS: (i16, i16) = (0, 1);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        let message = messages::ConsumerGroupDescribeRequest::default().with_group_ids(vec![group_id(&self.group)]);
        encode::<Self>(version, &message, out)
    }

    fn decode(version: i16, body: Bytes) -> Result<ConsumerGroupDescribeResponse, WireError> {
        let end = body.len();
        let message: messages::ConsumerGroupDescribeResponse = decode::<Self, _>(version, body)?;
        let what = "no group in the answer";
        let group =
            message.groups.first().ok_or_else(|| WireError::decode(Self::KEY, version, ReadError { at: end, what }))?;
        let members = group.members.iter().map(|member| ConsumerGroupMember {
            id: owned(&member.member_id),
            instance_id: owned_option(member.instance_id.as_ref()),
            client_id: owned(&member.client_id),
            client_host: owned(&member.client_host),
            assignment: partitions(&member.assignment),
            target: partitions(&member.target_assignment),
        });
        Ok(ConsumerGroupDescribeResponse {
            throttle_ms: message.throttle_time_ms,
            error: ErrorCode(group.error_code),
            error_message: owned_option(group.error_message.as_ref()),
            state: owned(&group.group_state),
            epoch: group.group_epoch,
            assignor: owned(&group.assignor_name),
            members: members.collect(),
        })
    }
}

fn partitions(assignment: &answer::Assignment) -> Vec<TopicPartition> {
    let mut found = Vec::new();
    for topic in &assignment.topic_partitions {
        let name = shared(&topic.topic_name);
        found.extend(topic.partitions.iter().map(|partition| TopicPartition::new(name.clone(), *partition)));
    }
    found
}
