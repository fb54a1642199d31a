//! OffsetForLeaderEpoch (key 23), versions 2 to 4 (KIP-320).
pub struct OffsetForLeaderEpochRequest { pub topics: Vec<(Arc<str>, Vec<EpochPartition>)> }
pub struct EpochPartition { pub partition: i32, pub current_leader_epoch: i32, pub leader_epoch: i32 }
pub struct OffsetForLeaderEpochResponse { pub throttle_ms: i32, pub topics: Vec<(Arc<str>, Vec<EpochEnd>)> }
pub struct EpochEnd { pub partition: i32, pub error: ErrorCode, pub leader_epoch: i32, pub end_offset: i64 }
