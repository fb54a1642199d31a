//! ApiVersions, key 18, versions 0–4. Leaves out features.

use super::{Api, Call, Reply, encode, versions};
use crate::fake::code;
use crate::fake::state::{Shared, State};
use bytes::Bytes;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

impl Api for ApiVersionsRequest {
    async fn handle(self, call: &Call) -> Reply<ApiVersionsResponse> {
        call.session.versions_told();
        Reply::Answer(all(&call.shared.lock(), code::NONE))
    }

    fn refuse(&self, _: &Call, code: i16) -> ApiVersionsResponse {
        ApiVersionsResponse::default().with_error_code(code)
    }

    fn set_throttle(response: &mut ApiVersionsResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

/// KIP-511: too new a version is answered in version 0, with UNSUPPORTED_VERSION and the versions that would do.
pub(super) fn unsupported(shared: &Shared, correlation: i32) -> Bytes {
    let response = all(&shared.lock(), code::UNSUPPORTED_VERSION);
    encode(&response, 0, correlation).unwrap_or_default()
}

fn all(state: &State, error: i16) -> ApiVersionsResponse {
    let one = |(key, min, max)| ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max);
    let keys = versions::offered(state).into_iter().map(one).collect();
    ApiVersionsResponse::default().with_error_code(error).with_api_keys(keys)
}
