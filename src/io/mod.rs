//! The shell: the only clocks, sockets, threads and randomness. Everything here runs on the client's I/O thread.

pub(crate) mod cluster;
pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod fetcher;
pub(crate) mod membership;
pub(crate) mod sender;
pub(crate) mod thread;
