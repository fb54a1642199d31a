//! ListOffsets (key 2), versions 1 to 10.
pub struct ListOffsetsRequest { pub isolation: IsolationLevel, pub topics: Vec<(Arc<str>, Vec<ListOffsetsPartition>)> }
pub struct ListOffsetsPartition { pub partition: i32, pub leader_epoch: i32, pub timestamp: i64 /* -1 latest, -2 earliest */ }
pub struct ListOffsetsResponse { pub throttle_ms: i32, pub topics: Vec<(Arc<str>, Vec<ListOffsetsAnswer>)> }
pub struct ListOffsetsAnswer { pub partition: i32, pub error: ErrorCode, pub timestamp: i64, pub offset: i64, pub leader_epoch: i32 }
