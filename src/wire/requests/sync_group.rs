//! SyncGroup (key 14), versions 1 to 5.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{self, sync_group_request::SyncGroupRequestAssignment};

use super::{decode, encode, group_id, text};
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Asks for the member's assignment; the leader brings those of all.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncGroupRequest {
    /// The group.
    pub group: Arc<str>,
    /// The generation that JoinGroup formed.
    pub generation: i32,
    /// The member.
    pub member_id: String,
    /// Its `group.instance.id` (version 3, KIP-345).
    pub instance_id: Option<String>,
    /// The assignor that JoinGroup chose; the broker checks it from version 5 on (KIP-559).
    pub protocol: String,
    /// From the leader: member and assignment. From the others: nothing.
    pub assignments: Vec<(String, Bytes)>,
}

/// The assignment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SyncGroupResponse {
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
    /// Why there is none.
    pub error: ErrorCode,
    /// The assignor's bytes for this member.
    pub assignment: Bytes,
}

impl Request for SyncGroupRequest {
    type Response = SyncGroupResponse;
    const KEY: ApiKey = ApiKey::SyncGroup;
    const VERSIONS: (i16, i16) = (1, 5);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        if version < 3 && self.instance_id.is_some() {
            return Err(super::too_old::<Self>(version, "static membership (group.instance.id)", 3));
        }
        let assignments = self.assignments.iter().map(|(member, assignment)| {
            SyncGroupRequestAssignment::default().with_member_id(text(member)).with_assignment(assignment.clone())
        });
        let message = messages::SyncGroupRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(self.instance_id.as_deref().map(text))
            .with_protocol_type((version >= 5).then(|| text("consumer")))
            .with_protocol_name((version >= 5).then(|| text(&self.protocol)))
            .with_assignments(assignments.collect());
        encode::<Self>(version, &message, out)
    }

    fn decode(version: i16, body: Bytes) -> Result<SyncGroupResponse, WireError> {
        let message: messages::SyncGroupResponse = decode::<Self, _>(version, body)?;
        Ok(SyncGroupResponse {
            throttle_ms: message.throttle_time_ms,
            error: ErrorCode(message.error_code),
            assignment: message.assignment,
        })
    }
}
