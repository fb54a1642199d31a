//! What a cluster with access control refuses: one line that names the resource, the missing permission and the way
//! out, at once and not when `delivery.timeout.ms` is over.
//!
//! The program has no identity here: to the broker it is `User:ANONYMOUS`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test may fail, and look at the clock"
)]

mod support;

use std::time::{Duration, Instant};

use proto_tests::raw::RawClient;
use proto_tests::real::{AUTHORIZER, Operation, RealCluster, RealConfig, Resource};
use support::{Ran, program, run};

/// Far below `delivery.timeout.ms`; the first contact with a coordinator of a new cluster takes seconds of it.
const QUICK: Duration = Duration::from_secs(20);

/// Error code of Kafka: the principal may not even see the topic.
const TOPIC_AUTHORIZATION_FAILED: i16 = 29;

/// A broker where everything is allowed that has no rules, and these resources with rules:
///
/// | resource | who may |
/// |---|---|
/// | topic `closed`, group `closed` | somebody else everything, we nothing |
/// | topic `readable` | we READ, not WRITE |
/// | topic `writable` | we WRITE, not READ |
/// | topic `open` | everyone |
fn guarded() -> RealCluster {
    let config = RealConfig::default()
        .brokers(1)
        .config("authorizer.class.name", AUTHORIZER)
        .config("allow.everyone.if.no.acl.found", "true");
    let cluster = RealCluster::start(config).unwrap();
    for topic in ["closed", "readable", "writable", "open"] {
        cluster.create_topic(topic, 1, 1, &[]).unwrap();
    }
    let bootstrap = cluster.bootstrap().join(",");
    let ran = run(program(&format!("produce --bootstrap {bootstrap} --topic readable")), b"before the rules\n");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    cluster.allow("User:ANONYMOUS", Operation::Read, &[Resource::Topic("readable")]).unwrap();
    cluster.allow("User:ANONYMOUS", Operation::Write, &[Resource::Topic("writable")]).unwrap();
    let closed = [Resource::Topic("closed"), Resource::Group("closed")];
    cluster.allow("User:somebody", Operation::All, &closed).unwrap();
    // The rules reach the broker in this order, behind the controller's answer.
    let mut raw = RawClient::connect(cluster.address(1)).unwrap();
    let deadline = Instant::now() + QUICK;
    while raw.metadata(Some("closed")).unwrap().topics[0].error_code != TOPIC_AUTHORIZATION_FAILED {
        assert!(Instant::now() < deadline, "the broker does not apply its rules");
    }
    cluster
}

/// Runs the program, which must end quickly.
fn quickly(arguments: &str, input: &[u8]) -> Ran {
    let started = Instant::now();
    let ran = run(program(arguments), input);
    assert!(started.elapsed() < QUICK, "after {:?}: {ran:?}", started.elapsed());
    println!("{:?}: {arguments}: {ran:?}", started.elapsed());
    ran
}

#[test]
fn no_permission() {
    let cluster = guarded();
    let at = format!("--bootstrap {}", cluster.bootstrap().join(","));

    // A topic that we may not see.
    let ran = quickly(&format!("produce {at} --topic closed"), b"a\nb\n");
    ran.complains(3, &["\"closed\"", "not authorized", "WRITE"]);
    let ran = quickly(&format!("consume {at} --topic closed --group open --max-records 1"), b"");
    ran.complains(3, &["\"closed\"", "not authorized", "READ"]);

    // One that we see: refused only when the records arrive. Nothing is delivered, and the last line says so.
    let ran = quickly(&format!("produce {at} --topic readable"), b"a\nb\n");
    ran.complains(1, &["readable-0", "Not authorized", "WRITE"]);
    assert!(ran.summary().contains(r#""delivered":0"#), "{ran:?}");
    let ran = quickly(&format!("consume {at} --topic writable --group open --max-records 1"), b"");
    ran.complains(3, &["writable-0", "Not authorized", "READ"]);

    // A group that we may not join.
    let ran = quickly(&format!("consume {at} --topic open --group closed --max-records 1"), b"");
    ran.complains(3, &["group \"closed\"", "Not authorized", "READ"]);

    // Its offsets are nobody else's business either.
    for command in ["describe", "lag", "reset --to end --topic open --yes"] {
        let ran = quickly(&format!("group {command} closed {at}"), b"");
        ran.complains(3, &["group \"closed\"", "Not authorized", "READ"]);
    }
    let ran = quickly(&format!("group reset open --to end --topic closed {at}"), b"");
    ran.complains(3, &["\"closed\"", "not authorized"]);
    let ran = quickly(&format!("group list {at}"), b"");
    assert_eq!((ran.code, ran.out.contains("closed")), (Some(0), false), "{ran:?}");

    // WRITE suffices to produce; the leader could not be asked what it has, which needs READ, but needs not be.
    let ran = quickly(&format!("produce {at} --topic writable"), b"a\nb\n");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.summary().contains(r#""delivered":2"#), "{ran:?}");
    // And READ to consume.
    let ran = quickly(&format!("consume {at} --topic readable --group open --max-records 1"), b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("before the rules"), "{ran:?}");
}
