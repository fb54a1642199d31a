//! Errors, one enum for each operation. They name the cause, the place and the way out, and say what the caller may do.

mod admin;
mod call;
mod consume;
mod send;

pub use admin::*;
pub use call::*;
pub use consume::*;
#[allow(unused_imports, reason = "still empty")]
pub use send::*;
