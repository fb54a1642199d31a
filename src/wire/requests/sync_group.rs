//! SyncGroup (key 14), versions 1 to 5.
pub struct SyncGroupRequest { pub group: Arc<str>, pub generation: i32, pub member_id: String, pub instance_id: Option<String>, pub protocol: String, pub assignments: Vec<(String, Bytes)> }
pub struct SyncGroupResponse { pub throttle_ms: i32, pub error: ErrorCode, pub assignment: Bytes }
