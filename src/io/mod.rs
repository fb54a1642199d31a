//! The shell: the only clocks, sockets, threads and randomness. Everything here runs on the client's I/O thread.

#![allow(clippy::disallowed_methods, reason = "the one layer that reads clocks")]

pub(crate) mod alarm;
pub(crate) mod clock;

pub(crate) mod cluster;
pub(crate) mod connect;

pub(crate) mod connection;
pub(crate) mod fetcher;
pub(crate) mod history;
pub(crate) mod inbox;
pub(crate) mod membership;
pub(crate) mod offsets;
#[cfg(feature = "oidc")]
pub(crate) mod oidc;
pub(crate) mod random;
pub(crate) mod refusals;
pub(crate) mod sasl;
pub(crate) mod sender;
pub(crate) mod spool;
pub(crate) mod stream;
#[cfg(test)]
mod test_support;

pub(crate) mod thread;
pub(crate) mod tls;
