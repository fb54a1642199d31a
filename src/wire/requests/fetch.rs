//! Fetch (key 1), versions 4 to 18 (by topic id from 13; sessions KIP-227 from 7). Encoded and decoded by hand.
pub struct FetchRequest { pub max_wait_ms: i32, pub min_bytes: i32, pub max_bytes: i32, pub isolation: IsolationLevel, pub session_id: i32, pub session_epoch: i32, pub topics: Vec<FetchTopic>, pub forgotten: Vec<ForgottenTopic>, pub rack: Arc<str> }
pub struct FetchTopic { pub name: Arc<str>, pub id: TopicId, pub partitions: Vec<FetchPartition> }
pub struct FetchPartition { pub partition: i32, pub leader_epoch: i32, pub offset: i64, pub last_fetched_epoch: i32, pub max_bytes: i32 }
pub struct ForgottenTopic { pub name: Arc<str>, pub id: TopicId, pub partitions: Vec<i32> }
pub struct FetchResponse { pub throttle_ms: i32, pub error: ErrorCode, pub session_id: i32, pub topics: Vec<FetchTopicResponse> }
pub struct FetchTopicResponse { pub name: Arc<str> /* empty from v13 */, pub id: TopicId, pub partitions: Vec<FetchPartitionResponse> }
pub struct FetchPartitionResponse { pub partition: i32, pub error: ErrorCode, pub high_watermark: i64, pub last_stable_offset: i64, pub log_start_offset: i64, pub diverging: Option<(i32 /*epoch*/, i64 /*end offset*/)>, pub current_leader: Option<(BrokerId, i32)>, pub aborted: Vec<(i64 /*producer id*/, i64 /*first offset*/)>, pub preferred_replica: BrokerId /* -1 none */, pub records: Bytes }
