//! JoinGroup (key 11), versions 2 to 9.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{self, join_group_request::JoinGroupRequestProtocol};

use super::{decode, encode, group_id, owned, owned_option, text};
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Joins a group, or joins again when it rebalances.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinGroupRequest {
    /// The group.
    pub group: Arc<str>,
    /// After how many milliseconds without a heartbeat the member is removed.
    pub session_timeout_ms: i32,
    /// How many milliseconds the coordinator waits for all members to join.
    pub rebalance_timeout_ms: i32,
    /// The member; empty the first time.
    pub member_id: String,
    /// Its `group.instance.id` (version 5, KIP-345).
    pub instance_id: Option<String>,
    /// What the group is for: `consumer`.
    pub protocol_type: &'static str,
    /// The assignors this member can use, most liked first, each with its metadata.
    pub protocols: Vec<(String, Bytes)>,
    /// Why it joins, for the broker's log (version 8, KIP-800; left out before).
    pub reason: Option<String>,
}

/// The generation that was formed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JoinGroupResponse {
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
    /// Why the member could not join.
    pub error: ErrorCode,
    /// The new generation.
    pub generation: i32,
    /// The assignor chosen; empty with an error.
    pub protocol: String,
    /// The member that assigns.
    pub leader: String,
    /// The id of this member.
    pub member_id: String,
    /// Whether the leader must not assign (version 9, KIP-814).
    pub skip_assignment: bool,
    /// All members, told to the leader only.
    pub members: Vec<JoinGroupMember>,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinGroupMember {
    /// The member.
    pub member_id: String,
    /// Its `group.instance.id`.
    pub instance_id: Option<String>,
    /// Its metadata for the assignor.
    pub metadata: Bytes,
}

impl Request for JoinGroupRequest {
    type Response = JoinGroupResponse;
    const KEY: ApiKey = ApiKey::JoinGroup;
    const VERSIONS: (i16, i16) = (2, 9);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        if version < 5 && self.instance_id.is_some() {
            return Err(super::too_old::<Self>(version, "static membership (group.instance.id)", 5));
        }
        let protocols = self.protocols.iter().map(|(name, metadata)| {
            JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(metadata.clone())
        });
        let message = messages::JoinGroupRequest::default()
            .with_group_id(group_id(&self.group))
            .with_session_timeout_ms(self.session_timeout_ms)
            .with_rebalance_timeout_ms(self.rebalance_timeout_ms)
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(self.instance_id.as_deref().map(text))
            .with_protocol_type(text(self.protocol_type))
            .with_protocols(protocols.collect())
            .with_reason(self.reason.as_deref().filter(|_| version >= 8).map(text));
        encode::<Self>(version, &message, out)
    }

    fn decode(version: i16, body: Bytes) -> Result<JoinGroupResponse, WireError> {
        let message: messages::JoinGroupResponse = decode::<Self, _>(version, body)?;
        let members = message.members.iter().map(|member| JoinGroupMember {
            member_id: owned(&member.member_id),
            instance_id: owned_option(member.group_instance_id.as_ref()),
            metadata: member.metadata.clone(),
        });
        Ok(JoinGroupResponse {
            throttle_ms: message.throttle_time_ms,
            error: ErrorCode(message.error_code),
            generation: message.generation_id,
            protocol: owned_option(message.protocol_name.as_ref()).unwrap_or_default(),
            leader: owned(&message.leader),
            member_id: owned(&message.member_id),
            skip_assignment: message.skip_assignment,
            members: members.collect(),
        })
    }
}
