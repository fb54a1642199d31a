//! JoinGroup (key 11), versions 2 to 9.
pub struct JoinGroupRequest { pub group: Arc<str>, pub session_timeout_ms: i32, pub rebalance_timeout_ms: i32, pub member_id: String, pub instance_id: Option<String>, pub protocol_type: &'static str ("consumer"), pub protocols: Vec<(String, Bytes)>, pub reason: Option<String> }
pub struct JoinGroupResponse { pub throttle_ms: i32, pub error: ErrorCode, pub generation: i32, pub protocol: String, pub leader: String, pub member_id: String, pub skip_assignment: bool, pub members: Vec<JoinGroupMember> }
pub struct JoinGroupMember { pub member_id: String, pub instance_id: Option<String>, pub metadata: Bytes }
