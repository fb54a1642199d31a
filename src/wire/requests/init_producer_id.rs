//! InitProducerId (key 22), versions 0 to 5.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{self, ProducerId, TransactionalId};

use super::{decode, encode, text};
use crate::types::ProducerIdentity;
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Asks for a producer id, or for the next epoch of one.
#[derive(Clone, Debug, PartialEq)]
pub struct InitProducerIdRequest {
    /// The transactional id; none for idempotence only.
    pub transactional_id: Option<Arc<str>>,
    /// After how many milliseconds an open transaction is aborted.
    pub transaction_timeout_ms: i32,
    /// The identity to raise the epoch of (version 3, KIP-360), or [`ProducerIdentity::NONE`] for a new one.
    pub current: ProducerIdentity,
}

/// The identity.
#[derive(Clone, Debug, PartialEq)]
pub struct InitProducerIdResponse {
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
    /// Why there is none.
    pub error: ErrorCode,
    /// The identity to write with.
    pub identity: ProducerIdentity,
}

impl Request for InitProducerIdRequest {
    type Response = InitProducerIdResponse;
    const KEY: ApiKey = ApiKey::InitProducerId;
    const VERSIONS: (i16, i16) = (0, 5);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        if version < 3 && self.current != ProducerIdentity::NONE {
            return Err(super::too_old::<Self>(version, "raising the epoch of a producer id", 3));
        }
        let message = messages::InitProducerIdRequest::default()
            .with_transactional_id(self.transactional_id.as_deref().map(|id| TransactionalId(text(id))))
            .with_transaction_timeout_ms(self.transaction_timeout_ms)
            .with_producer_id(ProducerId(self.current.id))
            .with_producer_epoch(self.current.epoch);
        encode::<Self>(version, &message, out)
    }

    fn decode(version: i16, body: Bytes) -> Result<InitProducerIdResponse, WireError> {
        let message: messages::InitProducerIdResponse = decode::<Self, _>(version, body)?;
        Ok(InitProducerIdResponse {
            throttle_ms: message.throttle_time_ms,
            error: ErrorCode(message.error_code),
            identity: ProducerIdentity { id: message.producer_id.0, epoch: message.producer_epoch },
        })
    }
}
