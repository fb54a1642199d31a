//! DescribeGroups (key 15), versions 0 to 6: one group of the classic protocol, asked at its coordinator.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages;

use super::{decode, encode, group_id, owned, owned_option};
use crate::wire::reader::ReadError;
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Asks for a group and its members.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribeGroupsRequest {
    /// The group.
    pub group: Arc<str>,
}

/// The group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DescribeGroupsResponse {
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
    /// Why it is not told.
    pub error: ErrorCode,
    /// The broker's words about it (version 6).
    pub error_message: Option<String>,
    /// Its state. `Dead` is a group that does not exist; from version 6 on that is
    /// [`ErrorCode::GROUP_ID_NOT_FOUND`] too (KIP-1043).
    pub state: String,
    /// `consumer` for consumers; empty for a group that never had members.
    pub protocol_type: String,
    /// How partitions are assigned, such as `range`; empty while that is not decided.
    pub protocol: String,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its member id.
    pub id: String,
    /// Its `group.instance.id` (version 4, KIP-345).
    pub instance_id: Option<String>,
    /// Its `client.id`.
    pub client_id: String,
    /// Where it connects from, as the broker writes it: `/10.0.0.7`.
    pub client_host: String,
    /// What the group's leader has assigned to it, in the words of its protocol.
    pub assignment: Bytes,
}

impl Request for DescribeGroupsRequest {
    type Response = DescribeGroupsResponse;
    const KEY: ApiKey = ApiKey::DescribeGroups;
    const VERSIONS: (i16, i16) = (0, 6);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        let message = messages::DescribeGroupsRequest::default().with_groups(vec![group_id(&self.group)]);
        encode::<Self>(version, &message, out)
    }

    fn decode(version: i16, body: Bytes) -> Result<DescribeGroupsResponse, WireError> {
        let end = body.len();
        let message: messages::DescribeGroupsResponse = decode::<Self, _>(version, body)?;
        let what = "no group in the answer";
        let group =
            message.groups.first().ok_or_else(|| WireError::decode(Self::KEY, version, ReadError { at: end, what }))?;
        let members = group.members.iter().map(|member| DescribedMember {
            id: owned(&member.member_id),
            instance_id: owned_option(member.group_instance_id.as_ref()),
            client_id: owned(&member.client_id),
            client_host: owned(&member.client_host),
            assignment: member.member_assignment.clone(),
        });
        Ok(DescribeGroupsResponse {
            throttle_ms: message.throttle_time_ms,
            error: ErrorCode(group.error_code),
            error_message: owned_option(group.error_message.as_ref()),
            state: owned(&group.group_state),
            protocol_type: owned(&group.protocol_type),
            protocol: owned(&group.protocol_data),
            members: members.collect(),
        })
    }
}
