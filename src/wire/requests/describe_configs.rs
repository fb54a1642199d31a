//! DescribeConfigs (key 32), versions 1 to 4.
pub enum ConfigResource { Topic(Arc<str>), Broker(BrokerId) }
pub struct DescribeConfigsRequest { pub resources: Vec<(ConfigResource, Option<Vec<String>>)> }
pub struct DescribeConfigsResponse { pub throttle_ms: i32, pub results: Vec<DescribeConfigsResult> }
pub struct DescribeConfigsResult { pub error: ErrorCode, pub error_message: Option<String>, pub resource: ConfigResource, pub configs: Vec<ConfigEntry> }
pub struct ConfigEntry { pub name: String, pub value: Option<String>, pub source: i8, pub read_only: bool, pub sensitive: bool }
