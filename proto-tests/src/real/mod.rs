//! A real Kafka cluster of Java processes, which a test may kill, pause, stop and start broker by broker.
//!
//! Processes are made by `scripts/kafka`, so what a test does here can be repeated by hand. A guard process holds the
//! other end of a pipe to the test: however the test ends, the brokers end with it.
mod admin;
mod cluster;
mod error;
mod scale;
mod security;
mod shared;
mod wire;

pub use admin::Partition;
pub use cluster::{BrokerState, DEFAULT_VERSION, RealCluster, RealConfig};
pub use error::HarnessError;
pub use scale::scaled;
pub use security::{AUTHORIZER, Certificates, Operation, Resource, unsigned_token};
pub use shared::Shared;
