//! Consuming: records go to a handler, and what it has handled is committed. Nothing else is.

mod alarms;
mod builder;
mod delivery;
mod dispose;
mod handle;
mod lane;
mod order;
mod parcel;
mod run;
mod slots;
mod source;

pub use builder::{Consumer, ConsumerBuilder};
pub use delivery::Delivery;
pub use handle::{ConsumerHandle, ConsumerMetrics};
pub use parcel::Batch;
pub use run::Summary;

pub use crate::io::inbox::StopReason;
