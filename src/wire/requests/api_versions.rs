//! ApiVersions (key 18), versions 0 to 4; response header is always version 0; error 35 is answered in version 0.
pub struct ApiVersionsRequest { pub client_software_name, pub client_software_version: &'static str }
pub struct ApiVersionsResponse { pub error: ErrorCode, pub apis: Vec<(i16 key, i16 min, i16 max)>, pub throttle_ms: i32 }
