//! LeaveGroup (key 13), versions 1 to 5.
pub struct LeaveGroupRequest { pub group: Arc<str>, pub member_id: String, pub instance_id: Option<String>, pub reason: Option<String> }
pub struct LeaveGroupResponse { pub throttle_ms: i32, pub error: ErrorCode /* the member's error when the top one is none */ }
