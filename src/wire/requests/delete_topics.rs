//! DeleteTopics (key 20), versions 1 to 6 (by name).
pub struct DeleteTopicsRequest { pub names: Vec<Arc<str>>, pub timeout_ms: i32 }
pub struct DeleteTopicsResponse { pub throttle_ms: i32, pub topics: Vec<(Arc<str>, ErrorCode, Option<String>)> }
