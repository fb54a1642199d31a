//! Produce (key 0), versions 3 to 13 (v2 record batches only; by topic id from 13). Encoded and decoded by hand: it is
//! the hot path, and batches go out as they are, uncopied.
pub struct ProduceRequest { pub acks: Acks, pub timeout_ms: i32, pub topics: Vec<ProduceTopic> }
pub struct ProduceTopic { pub name: Arc<str>, pub id: TopicId, pub partitions: Vec<ProducePartition> }
pub struct ProducePartition { pub partition: i32, /// one whole v2 batch: header and records, in parts
 pub batch: [Bytes; 2] /* header (61 bytes), frozen records section */ }
pub struct ProduceResponse { pub throttle_ms: i32, pub topics: Vec<ProduceTopicResponse>, /* node endpoints v10+: (id, host, port) */ }
pub struct ProduceTopicResponse { pub name: Arc<str> /* empty in v13 */, pub id: TopicId, pub partitions: Vec<ProducePartitionResponse> }
pub struct ProducePartitionResponse { pub partition: i32, pub error: ErrorCode, pub base_offset: i64, pub log_append_time: i64, pub log_start_offset: i64, pub record_errors: Vec<(i32, Option<String>)>, pub error_message: Option<String>, pub current_leader: Option<(BrokerId, i32 /*leader epoch*/)> }
