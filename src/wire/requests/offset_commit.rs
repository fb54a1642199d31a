//! OffsetCommit (key 8), versions 2 to 9.
pub struct OffsetCommitRequest { pub group: Arc<str>, pub generation: i32, pub member_id: String, pub instance_id: Option<String>, pub topics: Vec<(Arc<str>, Vec<OffsetCommitPartition>)> }
pub struct OffsetCommitPartition { pub partition: i32, pub offset: i64, pub leader_epoch: i32, pub metadata: String }
pub struct OffsetCommitResponse { pub throttle_ms: i32, pub topics: Vec<(Arc<str>, Vec<(i32, ErrorCode)>)> }
