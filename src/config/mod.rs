//! Settings with their units and defaults, under Kafka's Java property names.

mod client;
mod consumer;
mod producer;

pub use client::*;
pub use consumer::*;
pub use producer::*;
