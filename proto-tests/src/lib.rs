//! What indelible is tested against: an in-process fake cluster and a harness for a real one.
//!
//! Neither depends on the client, so that a mistake of the client cannot hide in its own mirror.
pub mod certs;
pub mod conformance;
pub mod fake;
pub mod raw;
pub mod real;
