//! Connections over TLS that end and are made again: nothing is left of the old ones, and new certificates are used.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "scenarios on a real cluster")]

mod real_support;

use std::time::Instant;

use indelible::{AdminError, Client, NewTopic, SaslConfig};
use proto_tests::certs::Issued;
use proto_tests::real::{Operation, Resource};
use real_support::proxy::Proxied;
use real_support::secure::{PASSWORD, at, guarded, tls};
use real_support::{expect, until, wait};

/// What this process holds: open files, threads, KiB of memory.
fn held() -> (usize, usize, u64) {
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (count("fd"), count("task"), memory.trim().trim_end_matches(" kB").parse().unwrap())
}

/// The connection is cut, a request makes a new one, with a handshake and a log-in, a thousand times: the last one holds no
/// more than the first ones did. Then whole clients come and go.
fn a_thousand_reconnects(broker: &Proxied) {
    const RECONNECTS: u64 = 1000;
    const WARM_UP: u64 = 50;
    const MOST_KIB: u64 = 8 << 10;
    let begin = Instant::now();
    let sasl = SaslConfig::scram_sha_256("alice", PASSWORD);
    let builder = || {
        at(&broker.cluster, "SASL_SSL", vec![broker.address().to_owned()], Some(sasl.clone()))
            .property("reconnect.backoff.ms", "1")
            .property("reconnect.backoff.max.ms", "1")
            .property("retry.backoff.ms", "1")
            .property("retry.backoff.max.ms", "1")
    };
    let client = wait(builder().build()).unwrap();
    wait(client.admin().create_topics([NewTopic::new("looked-at").partitions(1)])).unwrap();
    let reconnect = || {
        let connects = client.metrics().connects;
        broker.mend();
        while client.metrics().connects == connects {
            wait(client.admin().describe_topics(["looked-at"])).unwrap();
        }
    };
    // One connection open and idle: what both ends of a count begin and end with.
    let settled = || until("one connection", || expect(client.metrics().connections, 1));
    (0..WARM_UP).for_each(|_| reconnect());
    settled();
    let (before, connects) = (held(), client.metrics().connects);
    (0..RECONNECTS).for_each(|_| reconnect());
    settled();
    let metrics = client.metrics();
    assert!(metrics.connects >= connects + RECONNECTS, "{metrics:?}");
    // The network in between and the other test share this process: its files are counted once it is quiet.
    let after = until("no more files and threads than before", || {
        let now = held();
        if now.0 <= before.0 + 2 && now.1 <= before.1 + 2 { Ok(now) } else { Err(format!("{before:?}, now {now:?}")) }
    });
    println!("{RECONNECTS} reconnects in {:.1?}: {before:?}, then {after:?}", begin.elapsed());
    assert!(after.2 < before.2 + MOST_KIB, "{before:?}, then {after:?}");

    drop(client);
    for _ in 0..20 {
        drop(wait(builder().build()).unwrap());
    }
    broker.mend();
    until("the threads and files of clients to be gone", || {
        let now = held();
        if now.0 <= before.0 && now.1 <= before.1 { Ok(()) } else { Err(format!("{before:?}, now {now:?}")) }
    });
}

/// The files of the client's certificate are replaced while it runs. Connections that it has go on with the old one; a new
/// one shows the new.
fn a_renewed_certificate_is_shown(broker: &Proxied) {
    let certificates = broker.cluster.certificates();
    let show = |issued: &Issued| certificates.write("renewed.pem", &issued.keystore()).unwrap();
    let file = show(&certificates.client("before"));
    broker.cluster.allow("User:CN=after", Operation::Create, &[Resource::Topic("by-certificate")]).unwrap();
    let tls = tls(&broker.cluster).client_certificate_files(&file, &file);
    let client = wait(Client::builder([broker.address()]).tls(tls).build()).unwrap();
    let create = || wait(client.admin().create_topics([NewTopic::new("by-certificate").partitions(1)]));
    // TOPIC_AUTHORIZATION_FAILED
    let denied = |outcome: Result<(), AdminError>| assert_eq!(outcome.unwrap_err().code().unwrap().0, 29);
    denied(create());
    show(&certificates.client("after"));
    denied(create());
    broker.mend();
    // It was made, although whoever made it may not look at it.
    let outcome = create();
    assert!(!matches!(outcome, Err(AdminError::Refused { .. })), "{outcome:?}");
    broker.cluster.leader("by-certificate", 0).unwrap();

    // Half a file, as a careless tool leaves it for a moment: the error names it, and the next try finds the whole.
    certificates.write("renewed.pem", "-----BEGIN PRIVATE KEY-----\nMIGH").unwrap();
    broker.mend();
    let client_of = || {
        Client::builder([broker.address()])
            .tls(real_support::secure::tls(&broker.cluster).client_certificate_files(&file, &file))
    };
    let error = wait(client_of().build()).unwrap_err().to_string();
    assert!(error.contains("renewed.pem"), "{error}");
    show(&certificates.client("after"));
    wait(client_of().build()).unwrap();
}

#[test]
fn connections_come_and_go() {
    let config = guarded();
    let [sasl, mutual] = Proxied::start_listeners(config, ["SASL_SSL", "MUTUAL"]);
    a_renewed_certificate_is_shown(&mutual);
    a_thousand_reconnects(&sasl);
}
