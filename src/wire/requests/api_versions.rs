//! ApiVersions (key 18), versions 0 to 4. The response header is always version 0, and error 35 is answered in the
//! layout of version 0, so that a client can read it from a broker that does not know the version it asked in.

use bytes::Bytes;
use kafka_protocol::messages;

use super::{decode, encode, text};
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Asks which APIs the broker serves, and says who asks (KIP-511).
#[derive(Clone, Debug, PartialEq)]
pub struct ApiVersionsRequest {
    /// The client's name: letters, digits, `-` and `.`.
    pub client_software_name: &'static str,
    /// The client's version, of the same characters.
    pub client_software_version: &'static str,
}

/// What the broker serves. See [`crate::wire::ApiVersions`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ApiVersionsResponse {
    /// [`ErrorCode::UNSUPPORTED_VERSION`]: ask again in an older version.
    pub error: ErrorCode,
    /// Key, lowest and highest version.
    pub apis: Vec<(i16, i16, i16)>,
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
}

impl Request for ApiVersionsRequest {
    type Response = ApiVersionsResponse;
    const KEY: ApiKey = ApiKey::ApiVersions;
    const VERSIONS: (i16, i16) = (0, 4);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        let message = messages::ApiVersionsRequest::default()
            .with_client_software_name(text(self.client_software_name))
            .with_client_software_version(text(self.client_software_version));
        encode::<Self>(version, &message, out)
    }

    fn decode(version: i16, body: Bytes) -> Result<ApiVersionsResponse, WireError> {
        let unsupported = body.starts_with(&ErrorCode::UNSUPPORTED_VERSION.0.to_be_bytes());
        let version = if unsupported { 0 } else { version };
        let message: messages::ApiVersionsResponse = decode::<Self, _>(version, body)?;
        Ok(ApiVersionsResponse {
            error: ErrorCode(message.error_code),
            apis: message.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect(),
            throttle_ms: message.throttle_time_ms,
        })
    }
}
