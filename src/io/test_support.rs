//! What the tests of connections share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connect::{Connector, Secured, Target};
use super::connection::Connection;
use super::thread::IoThread;
use crate::config::ClientConfig;
use crate::error::CallError;
use crate::metrics::Counters;

/// How long anything may take before a test is given up.
pub(super) const LONG: Duration = Duration::from_secs(20);

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(future)
}

pub(super) fn connector(config: ClientConfig, security: Secured) -> Connector {
    Connector {
        config: Arc::new(config),
        thread: IoThread::start("test-io").expect("thread"),
        counters: Arc::new(Counters::default()),
        spare: Arc::default(),
        security: Arc::new(security),
    }
}

/// Connects to what listens at the port of `address` on 127.0.0.1.
pub(super) fn connect_to(connector: &Connector, address: SocketAddr) -> Result<Connection, CallError> {
    connect_within(connector, address, LONG)
}

pub(super) fn connect_within(
    connector: &Connector,
    address: SocketAddr,
    limit: Duration,
) -> Result<Connection, CallError> {
    let target = Target { broker: 1, host: "127.0.0.1".into(), port: address.port() };
    let (connecting, connector) = (connector.clone(), connector.clone());
    block_on(connector.thread.run(async move { connecting.connect(&target, limit).await })).expect("no panic")
}

pub(super) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
