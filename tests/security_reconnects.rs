//! A thousand connections made and lost over TLS and SCRAM leak nothing. Alone in its program, for it counts what the
//! process holds.

#![allow(clippy::unwrap_used, reason = "a scenario may fail loudly")]

mod security_support;

use proto_tests::fake::{FakeCluster, FakeTls};
use security_support::*;

const WARM_UP: u64 = 100;
const RECONNECTS: u64 = 1000;

#[derive(Debug, Clone, Copy)]
struct Held {
    files: usize,
    threads: usize,
    /// Resident memory.
    kib: u64,
}

fn held() -> Held {
    let count = |path: &str| std::fs::read_dir(path).unwrap().count();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib = resident.trim().trim_end_matches(" kB").parse().unwrap();
    Held { files: count("/proc/self/fd"), threads: count("/proc/self/task"), kib }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_thousand_reconnects_leak_nothing() {
    let cluster = with_topic(FakeCluster::builder().tls(FakeTls::new(good())).sasl(sasl()).start());
    let builder = by_tls(&cluster).sasl(scram());
    let client = builder.property("reconnect.backoff.ms", "1").property("reconnect.backoff.max.ms", "5").build().await;
    let client = client.unwrap();
    let producer = producer(&client).await;
    let mut before = None;
    while client.metrics().connects < WARM_UP + RECONNECTS {
        if before.is_none() && client.metrics().connects >= WARM_UP {
            before = Some((held(), client.metrics().connects));
        }
        cluster.cut_connections(1);
        delivers(&producer, "a").await;
    }
    let (before, from) = before.unwrap();
    let seen = cluster.security().broker(1);
    let made = client.metrics().connects;
    assert!(made - from >= RECONNECTS && seen.authentications() as u64 >= made, "{made} {}", seen.authentications());
    assert!(seen.tls_failures.is_empty() && seen.refusals.is_empty());
    cluster.cut_connections(1);
    delivers(&producer, "last").await;
    let open = cluster.look(|view| view.connections(1));
    let after = held();
    println!("{before:?} -> {after:?}; {made} connections, {open} open");
    assert!(open <= 4 && client.metrics().connections <= 4, "{open} open, {}", client.metrics().connections);
    assert!(after.files <= before.files + 4, "{before:?} -> {after:?}");
    assert!(after.threads <= before.threads + 1, "{before:?} -> {after:?}");
    // A TLS connection that is kept costs 30 KiB and more, on each side.
    assert!(after.kib < before.kib + 16 * 1024, "{before:?} -> {after:?}");
}
