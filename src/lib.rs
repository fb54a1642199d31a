//! indelible: a Kafka client that does not lose and does not double records.

pub mod types;
#[doc(hidden)]
pub mod wire;
