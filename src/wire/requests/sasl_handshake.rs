//! SaslHandshake (key 17), versions 0 and 1. Version 0 is followed by bare tokens without Kafka's framing, so only
//! version 1 is spoken.

use bytes::Bytes;
use kafka_protocol::messages;

use super::{decode, encode, owned, text};
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Chooses a SASL mechanism.
#[derive(Clone, Debug, PartialEq)]
pub struct SaslHandshakeRequest {
    /// Such as `SCRAM-SHA-512`.
    pub mechanism: String,
}

/// Whether it is offered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SaslHandshakeResponse {
    /// [`ErrorCode::UNSUPPORTED_SASL_MECHANISM`] when it is not.
    pub error: ErrorCode,
    /// All that the broker offers.
    pub mechanisms: Vec<String>,
}

impl Request for SaslHandshakeRequest {
    type Response = SaslHandshakeResponse;
    const KEY: ApiKey = ApiKey::SaslHandshake;
    const VERSIONS: (i16, i16) = (1, 1);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        encode::<Self>(version, &messages::SaslHandshakeRequest::default().with_mechanism(text(&self.mechanism)), out)
    }

    fn decode(version: i16, body: Bytes) -> Result<SaslHandshakeResponse, WireError> {
        let message: messages::SaslHandshakeResponse = decode::<Self, _>(version, body)?;
        let mechanisms = message.mechanisms.iter().map(owned).collect();
        Ok(SaslHandshakeResponse { error: ErrorCode(message.error_code), mechanisms })
    }
}
