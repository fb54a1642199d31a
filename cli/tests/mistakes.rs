//! What a user does wrong, and what a broken place answers: one line that names cause, place and way out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod support;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::TcpListener;

use proto_tests::fake::FakeCluster;
use support::{Ran, at, cluster, program, run};

/// Both commands must say the same of a cluster that does not answer.
fn both(bootstrap: &str) -> [Ran; 2] {
    ["produce", "consume --group g"]
        .map(|command| run(program(&format!("{command} --bootstrap {bootstrap} --topic t")), b"a\n"))
}

/// A port that reads, answers these bytes, and closes.
fn answers(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(bytes);
        }
    });
    address
}

#[test]
fn wrong_address() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for ran in both(&free) {
        ran.complains(3, &[&free, "connection refused", "--bootstrap"]);
    }
    for ran in both("no-port") {
        ran.complains(2, &["no-port", "host:port"]);
    }
    for ran in both("no-such-host.invalid:9092") {
        ran.complains(3, &["no-such-host.invalid:9092", "cannot be resolved"]);
    }
}

#[test]
fn not_a_kafka_port() {
    let http = answers(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    for ran in both(&http) {
        ran.complains(3, &[&http, "HTTP"]);
    }
}

#[test]
fn tls_port() {
    let tls = answers(b"\x15\x03\x03\x00\x02\x02\x46");
    for ran in both(&tls) {
        ran.complains(3, &[&tls, "TLS"]);
    }
}

#[test]
fn unknown_topic() {
    let cluster = FakeCluster::start(1);
    for command in ["produce", "consume --group g"] {
        let ran = run(program(&format!("{command} {} --topic nowhere", at(&cluster))), b"a\n");
        ran.complains(3, &["\"nowhere\" does not exist", "create it"]);
    }
    let ran = run(program(&format!("produce {} --topic a/b", at(&cluster))), b"a\n");
    ran.complains(3, &["a/b", "letters"]);
}

#[test]
fn bad_properties() {
    let cluster = cluster("t", 1);
    for (property, parts) in [
        ("linger_ms=5", &["linger_ms", "did you mean \"linger.ms\""][..]),
        ("linger.ms=soon", &["linger.ms", "soon", "milliseconds"]),
        ("request.timeout.ms=soon", &["request.timeout.ms", "milliseconds"]),
        ("group.id=x", &["group.id", "consumer"]),
        ("key.serializer=x", &["key.serializer", "not supported"]),
        ("linger.ms", &["linger.ms", "name=value"]),
    ] {
        let ran = run(program(&format!("produce {} --topic t --config {property}", at(&cluster))), b"a\n");
        ran.complains(2, parts);
        assert!(ran.summary().starts_with(r#"{"read":0,"#), "{ran:?}");
    }
    let ran = run(program(&format!("consume {} --topic t --group g --config linger.ms=5", at(&cluster))), b"");
    ran.complains(2, &["linger.ms", "producer"]);
}

#[test]
fn bad_arguments() {
    run(program("produce --topic t"), b"").complains(2, &["--bootstrap", "--help"]);
    run(program("produce --bootstrap h:1 --topic t --acks 2"), b"").complains(2, &["--acks", "all"]);
    run(program("consume --bootstrap h:1 --topic t --group g --format %q"), b"").complains(2, &["--format", "%q"]);
    run(program("produce --bootstrap h:1 --topic t --file /no/such/file"), b"").complains(4, &["/no/such/file"]);
    run(program("fly"), b"").complains(2, &["fly"]);
    let cluster = cluster("t", 2);
    let ran = run(program(&format!("produce {} --topic t --partition 2", at(&cluster))), b"a\n");
    ran.complains(2, &["no partition 2", "--partition"]);
}

#[cfg(unix)]
#[test]
fn invalid_utf8() {
    use std::os::unix::ffi::OsStringExt;
    let mut command = program("produce --bootstrap h:1 --topic");
    command.arg(OsString::from_vec(b"\xff\xfe".to_vec()));
    run(command, b"").complains(2, &["UTF-8"]);
}

#[test]
fn help_tells_the_exit_codes() {
    for command in ["--help", "produce --help", "consume --help", "perf --help", "demo --help"] {
        let ran = run(program(command), b"");
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.out.contains("Exit codes"), "{ran:?}");
    }
}

/// What the library says of itself goes to standard error when it is asked for, and nowhere else.
#[test]
fn the_log_has_the_level_that_was_asked_for() {
    let cluster = cluster("t", 1);
    let command = format!("produce {} --topic t", at(&cluster));
    let mut told = program(&command);
    told.env("INDELIBLE_LOG", "debug");
    let told = run(told, b"a\n");
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(told.err.lines().any(|line| line.contains(" DEBUG send partition=t-0 ")), "{told:?}");
    let mut wrong = program(&command);
    wrong.env("INDELIBLE_LOG", "loud");
    run(wrong, b"a\n").complains(2, &["INDELIBLE_LOG=loud", "debug"]);
}
