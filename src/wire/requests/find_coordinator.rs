//! FindCoordinator (key 10), versions 0 to 5: one key at a time, batched form from 4.
pub enum CoordinatorType { Group, Transaction }
pub struct FindCoordinatorRequest { pub key: Arc<str>, pub kind: CoordinatorType }
pub struct FindCoordinatorResponse { pub throttle_ms: i32, pub error: ErrorCode, pub error_message: Option<String>, pub broker: BrokerId, pub host: String, pub port: u16 }
