//! Heartbeat (key 12), versions 1 to 4.
pub struct HeartbeatRequest { pub group: Arc<str>, pub generation: i32, pub member_id: String, pub instance_id: Option<String> }
pub struct HeartbeatResponse { pub throttle_ms: i32, pub error: ErrorCode }
