//! Heartbeat (key 12), versions 1 to 4.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages;

use super::{decode, encode, group_id, text};
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Tells the coordinator that this member is alive.
#[derive(Clone, Debug, PartialEq)]
pub struct HeartbeatRequest {
    /// The group.
    pub group: Arc<str>,
    /// The generation the member is in.
    pub generation: i32,
    /// The member.
    pub member_id: String,
    /// Its `group.instance.id` (version 3, KIP-345).
    pub instance_id: Option<String>,
}

/// What the coordinator says to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeartbeatResponse {
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
    /// [`ErrorCode::REBALANCE_IN_PROGRESS`] asks to join again.
    pub error: ErrorCode,
}

impl Request for HeartbeatRequest {
    type Response = HeartbeatResponse;
    const KEY: ApiKey = ApiKey::Heartbeat;
    const VERSIONS: (i16, i16) = (1, 4);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        if version < 3 && self.instance_id.is_some() {
            return Err(super::too_old::<Self>(version, "static membership (group.instance.id)", 3));
        }
        let message = messages::HeartbeatRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(self.instance_id.as_deref().map(text));
        encode::<Self>(version, &message, out)
    }

    fn decode(version: i16, body: Bytes) -> Result<HeartbeatResponse, WireError> {
        let message: messages::HeartbeatResponse = decode::<Self, _>(version, body)?;
        Ok(HeartbeatResponse { throttle_ms: message.throttle_time_ms, error: ErrorCode(message.error_code) })
    }
}
