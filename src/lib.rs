//! indelible: a Kafka client that does not lose and does not double records.

pub mod types;
#[doc(hidden)]
pub mod wire;

mod admin;
mod client;
mod config;
mod consumer;
mod core;
mod error;
mod io;
mod metrics;
mod producer;
mod record;

