//! Consuming: records go to a handler, and what it has handled is committed. Nothing else is.

mod builder;
mod delivery;
#[expect(dead_code, reason = "the runner takes it up next")]
mod dispose;
mod handle;
mod lane;
mod run;
mod source;

pub use builder::{Consumer, ConsumerBuilder};
pub use delivery::Delivery;
pub use handle::{ConsumerHandle, ConsumerMetrics};
pub use run::Summary;

pub use crate::io::inbox::{Revoked, StopReason};
