//! Consuming: records go to a handler, and what it has handled is committed. Nothing else is.

mod alarms;
mod blocking;
mod builder;
mod dead_letter;
mod deliveries;
mod delivery;
mod dispose;
mod handle;
mod lane;
mod offer;
mod order;
mod parcel;
mod retry_topics;
mod run;
mod slots;
mod source;
mod start;
mod until_end;

pub use blocking::RunBlocking;
pub use builder::ConsumerBuilder;
pub use dead_letter::Origin;
pub use deliveries::{Deliveries, Pulled};
pub use delivery::Delivery;
pub use handle::{ConsumerHandle, ConsumerMetrics};
pub use parcel::Batch;
pub use run::Summary;
pub use start::Consumer;

pub use crate::io::inbox::{Revoked, StopReason};
