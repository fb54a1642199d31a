//! Metadata (key 3), versions 1 to 13.
pub enum MetadataTopics { All, None, Names(Vec<Arc<str>>) }
pub struct MetadataRequest { pub topics: MetadataTopics, pub allow_auto_create: bool }
pub struct MetadataResponse { pub throttle_ms: i32, pub brokers: Vec<MetadataBroker>, pub cluster_id: Option<String>, pub controller: BrokerId, pub topics: Vec<MetadataTopic>, pub error: ErrorCode /* v13: REBOOTSTRAP_REQUIRED */ }
pub struct MetadataBroker { pub id: BrokerId, pub host: String, pub port: u16, pub rack: Option<String> }
pub struct MetadataTopic { pub error: ErrorCode, pub name: Arc<str>, pub id: TopicId, pub internal: bool, pub partitions: Vec<MetadataPartition> }
pub struct MetadataPartition { pub error: ErrorCode, pub partition: i32, pub leader: BrokerId /* -1 none */, pub leader_epoch: i32 /* -1 unknown */, pub replicas: Vec<BrokerId>, pub isr: Vec<BrokerId>, pub offline: Vec<BrokerId> }
