//! InitProducerId (key 22), versions 0 to 5.
pub struct InitProducerIdRequest { pub transactional_id: Option<Arc<str>>, pub transaction_timeout_ms: i32, pub current: ProducerIdentity }
pub struct InitProducerIdResponse { pub throttle_ms: i32, pub error: ErrorCode, pub identity: ProducerIdentity }
