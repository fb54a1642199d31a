//! OffsetFetch (key 9), versions 1 to 9: one group; batched form from 8.
pub struct OffsetFetchRequest { pub group: Arc<str>, pub topics: Option<Vec<(Arc<str>, Vec<i32>)>> /* none: all */, pub require_stable: bool }
pub struct OffsetFetchResponse { pub throttle_ms: i32, pub error: ErrorCode, pub topics: Vec<(Arc<str>, Vec<OffsetFetchPartition>)> }
pub struct OffsetFetchPartition { pub partition: i32, pub error: ErrorCode, pub offset: i64 /* -1 none */, pub leader_epoch: i32, pub metadata: String }
