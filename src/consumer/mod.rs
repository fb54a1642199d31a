//! Consuming: records go to a handler, and what it has handled is committed. Nothing else is.

mod blocking;
mod builder;
mod deliveries;
mod delivery;
#[expect(dead_code, reason = "the runner takes it up next")]
mod dispose;
mod handle;
mod lane;
mod offer;
mod run;
mod source;
mod until_end;

pub use blocking::RunBlocking;
pub use builder::{Consumer, ConsumerBuilder};
pub use deliveries::{Deliveries, Pulled};
pub use delivery::Delivery;
pub use handle::{ConsumerHandle, ConsumerMetrics};
pub use run::Summary;

pub use crate::io::inbox::{Revoked, StopReason};
