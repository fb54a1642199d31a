//! CreateTopics (key 19), versions 2 to 7.
pub struct CreateTopicsRequest { pub topics: Vec<CreatableTopic>, pub timeout_ms: i32, pub validate_only: bool }
pub struct CreatableTopic { pub name: Arc<str>, pub partitions: i32, pub replication_factor: i16, pub configs: Vec<(String, Option<String>)> }
pub struct CreateTopicsResponse { pub throttle_ms: i32, pub topics: Vec<CreateTopicResult> }
pub struct CreateTopicResult { pub name: Arc<str>, pub id: TopicId, pub error: ErrorCode, pub error_message: Option<String> }
