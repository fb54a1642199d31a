//! DescribeProducers (key 61), version 0 (KIP-664).
pub struct DescribeProducersRequest { pub topics: Vec<(Arc<str>, Vec<i32>)> }
pub struct DescribeProducersResponse { pub throttle_ms: i32, pub topics: Vec<(Arc<str>, Vec<DescribeProducersPartition>)> }
pub struct DescribeProducersPartition { pub partition: i32, pub error: ErrorCode, pub error_message: Option<String>, pub producers: Vec<ActiveProducer> }
pub struct ActiveProducer { pub identity: ProducerIdentity, pub last_sequence: i32, pub last_timestamp: i64 }
