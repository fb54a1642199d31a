//! LeaveGroup (key 13), versions 1 to 5.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{self, leave_group_request::MemberIdentity};

use super::{decode, encode, group_id, text};
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Leaves a group.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaveGroupRequest {
    /// The group.
    pub group: Arc<str>,
    /// The member that leaves.
    pub member_id: String,
    /// Its `group.instance.id` (version 3, KIP-345).
    pub instance_id: Option<String>,
    /// Why it leaves, for the broker's log (version 5, KIP-800; left out before).
    pub reason: Option<String>,
}

/// Whether it has left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeaveGroupResponse {
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
    /// Why it has not: the member's error when there is none for the whole request.
    pub error: ErrorCode,
}

impl Request for LeaveGroupRequest {
    type Response = LeaveGroupResponse;
    const KEY: ApiKey = ApiKey::LeaveGroup;
    const VERSIONS: (i16, i16) = (1, 5);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        if version < 3 && self.instance_id.is_some() {
            return Err(super::too_old::<Self>(version, "static membership (group.instance.id)", 3));
        }
        let message = messages::LeaveGroupRequest::default().with_group_id(group_id(&self.group));
        let message = if version >= 3 {
            let member = MemberIdentity::default()
                .with_member_id(text(&self.member_id))
                .with_group_instance_id(self.instance_id.as_deref().map(text))
                .with_reason(self.reason.as_deref().filter(|_| version >= 5).map(text));
            message.with_members(vec![member])
        } else {
            message.with_member_id(text(&self.member_id))
        };
        encode::<Self>(version, &message, out)
    }

    fn decode(version: i16, body: Bytes) -> Result<LeaveGroupResponse, WireError> {
        let message: messages::LeaveGroupResponse = decode::<Self, _>(version, body)?;
        let member = message.members.iter().find_map(|member| ErrorCode(member.error_code).err());
        let error = ErrorCode(message.error_code).err().or(member).unwrap_or_default();
        Ok(LeaveGroupResponse { throttle_ms: message.throttle_time_ms, error })
    }
}
