//! Looking into a spool, and deciding about what could not be delivered.
//!
//! [`inspect`], [`verify`] and [`export`] change nothing, take no lock and work while a producer has the spool; they see it
//! as of a moment. [`retry`] and [`discard`] need it for themselves. All of them block on the disk: call them where that
//! is allowed. What they change is sent by the next producer that opens the spool.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let spool = indelible::spool::inspect("orders.spool")?;
//! for batch in spool.batches.iter().filter(|batch| batch.status.is_dead()) {
//!     println!("{} for {}: {}", batch.id, batch.topic, batch.status);
//! }
//! # Ok(())
//! # }
//! ```

mod change;
mod export;
mod filter;
mod holder;
mod inspect;
mod look;
#[cfg(test)]
mod tests;

pub use change::{Discarded, Retried, discard, retry};
pub use export::{ExportedRecord, export};
pub use filter::Filter;
pub use inspect::{
    Batch, BatchStatus, DamagedPlace, Inspection, Partition, SetAside, Stamped, Topic, Verification, inspect, verify,
};
