//! Errors, one enum for each operation. They name the cause, the place and the way out, and say what the caller may do.

mod admin;
mod call;
mod consume;
mod control;
mod security;
mod send;
mod spool;
mod words;

pub use admin::*;
pub use call::*;
pub use consume::*;
pub use control::*;
pub use security::*;
pub use send::*;
pub use spool::*;
pub(crate) use words::words;
