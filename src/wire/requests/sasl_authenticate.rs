//! SaslAuthenticate (key 36), versions 0 to 2 (KIP-152).

use std::fmt;

use bytes::Bytes;
use kafka_protocol::messages;

use super::{decode, encode, owned_option};
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// One step of the mechanism chosen by SaslHandshake.
#[derive(Clone, PartialEq)]
pub struct SaslAuthenticateRequest {
    /// The mechanism's bytes: secret.
    pub auth_bytes: Bytes,
}

impl fmt::Debug for SaslAuthenticateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslAuthenticateRequest").finish_non_exhaustive()
    }
}

/// The broker's step.
#[derive(Clone, Default, PartialEq)]
pub struct SaslAuthenticateResponse {
    /// [`ErrorCode::SASL_AUTHENTICATION_FAILED`] when it refuses.
    pub error: ErrorCode,
    /// The broker's words about it.
    pub error_message: Option<String>,
    /// The mechanism's bytes.
    pub auth_bytes: Bytes,
    /// After how many milliseconds to authenticate again (version 1, KIP-368); 0 for never.
    pub session_lifetime_ms: i64,
}

impl fmt::Debug for SaslAuthenticateResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslAuthenticateResponse")
            .field("error", &self.error)
            .field("error_message", &self.error_message)
            .field("session_lifetime_ms", &self.session_lifetime_ms)
            .finish_non_exhaustive()
    }
}

impl Request for SaslAuthenticateRequest {
    type Response = SaslAuthenticateResponse;
    const KEY: ApiKey = ApiKey::SaslAuthenticate;
    const VERSIONS: (i16, i16) = (0, 2);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        let message = messages::SaslAuthenticateRequest::default().with_auth_bytes(self.auth_bytes.clone());
        encode::<Self>(version, &message, out)
    }

    fn decode(version: i16, body: Bytes) -> Result<SaslAuthenticateResponse, WireError> {
        let message: messages::SaslAuthenticateResponse = decode::<Self, _>(version, body)?;
        Ok(SaslAuthenticateResponse {
            error: ErrorCode(message.error_code),
            error_message: owned_option(message.error_message.as_ref()),
            auth_bytes: message.auth_bytes,
            session_lifetime_ms: message.session_lifetime_ms,
        })
    }
}
