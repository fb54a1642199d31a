//! FindCoordinator (key 10), versions 0 to 5: one key at a time, batched form from 4.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages;

use super::{decode, encode, owned, owned_option, port, text};
use crate::types::BrokerId;
use crate::wire::reader::ReadError;
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Whose coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CoordinatorType {
    /// That of a consumer group.
    Group,
    /// That of a transactional id (version 1).
    Transaction,
}

/// Asks which broker coordinates a group or a transactional id.
#[derive(Clone, Debug, PartialEq)]
pub struct FindCoordinatorRequest {
    /// The group or the transactional id.
    pub key: Arc<str>,
    /// Which of both.
    pub kind: CoordinatorType,
}

/// The coordinator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FindCoordinatorResponse {
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
    /// Why it is not known.
    pub error: ErrorCode,
    /// The broker's words about it.
    pub error_message: Option<String>,
    /// The broker; -1 with an error.
    pub broker: BrokerId,
    /// Where it listens.
    pub host: String,
    /// And on which port; 0 with an error.
    pub port: u16,
}

impl Request for FindCoordinatorRequest {
    type Response = FindCoordinatorResponse;
    const KEY: ApiKey = ApiKey::FindCoordinator;
    const VERSIONS: (i16, i16) = (0, 5);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        if version < 1 && self.kind != CoordinatorType::Group {
            return Err(super::too_old::<Self>(version, "a transactional id", 1));
        }
        let message = messages::FindCoordinatorRequest::default().with_key_type(match self.kind {
            CoordinatorType::Group => 0,
            CoordinatorType::Transaction => 1,
        });
        let message = if version >= 4 {
            message.with_coordinator_keys(vec![text(&self.key)])
        } else {
            message.with_key(text(&self.key))
        };
        encode::<Self>(version, &message, out)
    }

    fn decode(version: i16, body: Bytes) -> Result<FindCoordinatorResponse, WireError> {
        let end = body.len();
        let message: messages::FindCoordinatorResponse = decode::<Self, _>(version, body)?;
        if version < 4 {
            return Ok(FindCoordinatorResponse {
                throttle_ms: message.throttle_time_ms,
                error: ErrorCode(message.error_code),
                error_message: owned_option(message.error_message.as_ref()),
                broker: message.node_id.0,
                host: owned(&message.host),
                port: port(message.port),
            });
        }
        let what = "no coordinator in the answer";
        let found = message
            .coordinators
            .first()
            .ok_or_else(|| WireError::decode(Self::KEY, version, ReadError { at: end, what }))?;
        Ok(FindCoordinatorResponse {
            throttle_ms: message.throttle_time_ms,
            error: ErrorCode(found.error_code),
            error_message: owned_option(found.error_message.as_ref()),
            broker: found.node_id.0,
            host: owned(&found.host),
            port: port(found.port),
        })
    }
}
