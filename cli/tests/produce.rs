//! `indelible produce` against the fake cluster.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod support;

use std::io::Write;
use std::time::Duration;

use proto_tests::fake::{Fault, FaultAction, TopicConfig};
use support::{at, cluster, finish, program, run, signal};

#[test]
fn lines_become_records_byte_for_byte() {
    let cluster = cluster("t", 1);
    let ran = run(program(&format!("produce {} --topic t", at(&cluster))), b"a\n\nb\r\n\xff\xfe\nlast");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.summary().starts_with(r#"{"read":5,"delivered":5,"failed":0,"unknown":0,"secs":"#), "{ran:?}");
    let values: Vec<Vec<u8>> =
        cluster.ledger().records("t", 0).into_iter().map(|record| record.value.unwrap().to_vec()).collect();
    assert_eq!(values, [&b"a"[..], b"", b"b\r", b"\xff\xfe", b"last"]);
}

#[test]
fn keys_and_offsets_in_the_order_of_the_lines() {
    let cluster = cluster("t", 3);
    let mut input = String::new();
    for number in 0..500 {
        input.push_str(&format!("key{}\tvalue{number}\n", number % 7));
    }
    let arguments = format!(r"produce {} --topic t --key-separator \t --print-offsets", at(&cluster));
    let ran = run(program(&arguments), input.as_bytes());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ledger = cluster.ledger();
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines.len(), 501);
    for (number, line) in lines[..500].iter().enumerate() {
        let found = (0..3).find_map(|partition| {
            let records = ledger.records("t", partition);
            let record =
                records.into_iter().find(|r| r.value.as_deref() == Some(format!("value{number}").as_bytes()))?;
            assert_eq!(record.key.as_deref(), Some(format!("key{}", number % 7).as_bytes()));
            Some(format!("{{\"partition\":{partition},\"offset\":{}}}", record.offset))
        });
        assert_eq!(found.as_deref(), Some(*line));
    }
}

#[test]
fn every_codec_and_all_acks() {
    let cluster = cluster("t", 1);
    let input: Vec<u8> = (0..2000).flat_map(|number| format!("a line of text {number}\n").into_bytes()).collect();
    for options in [
        "--compression gzip",
        "--compression snappy",
        "--compression lz4",
        "--compression zstd",
        "--acks 1",
        "--acks 0",
    ] {
        let ran = run(program(&format!("produce {} --topic t {options}", at(&cluster))), &input);
        assert_eq!(ran.code, Some(0), "{options}: {ran:?}");
        assert!(ran.summary().contains(r#""delivered":2000"#), "{options}: {ran:?}");
    }
    let arrived = cluster.wait_for(|view| view.record_count("t") == 6 * 2000, Duration::from_secs(5));
    assert!(arrived, "{:?}", cluster.ledger().records("t", 0).len());
    assert!(cluster.ledger().damage().is_empty());
}

#[test]
fn a_file_is_read_to_its_end_and_failed_lines_are_kept_as_they_were() {
    let cluster = cluster("other", 1);
    cluster.create_topic_with("t", 1, TopicConfig { max_message_bytes: 5000, ..TopicConfig::default() });
    let dir = std::env::temp_dir().join(format!("indelible-cli-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (input, failed) = (dir.join("input"), dir.join("failed"));
    let large = "x".repeat(20_000);
    std::fs::write(&input, format!("a:1\nk:{large}\nb:2\n")).unwrap();
    let arguments = format!(
        "produce {} --topic t --key-separator : --file {} --failed-file {}",
        at(&cluster),
        input.display(),
        failed.display()
    );
    let ran = run(program(&arguments), b"");
    ran.complains(1, &["of 3 lines 1 not delivered", "max.message.bytes"]);
    assert!(ran.summary().starts_with(r#"{"read":3,"delivered":2,"failed":1,"unknown":0"#), "{ran:?}");
    assert_eq!(std::fs::read_to_string(&failed).unwrap(), format!("k:{large}\n"));
    assert_eq!(cluster.ledger().values("t"), ["1", "2"]);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_record_over_the_clients_limit_is_refused_alone() {
    let cluster = cluster("t", 1);
    let input = format!("a\n{}\nb\n", "x".repeat(2 << 20));
    let ran = run(program(&format!("produce {} --topic t --print-offsets", at(&cluster))), input.as_bytes());
    ran.complains(1, &["max.request.size", "record for t"]);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines[0], r#"{"partition":0,"offset":0}"#);
    assert!(lines[1].starts_with(r#"{"partition":null,"offset":null,"error":""#), "{ran:?}");
    assert_eq!(lines[2], r#"{"partition":0,"offset":1}"#);
}

#[test]
fn what_nobody_can_tell_is_unknown() {
    let cluster = cluster("t", 1);
    // The record may have arrived, and no answer ever comes.
    cluster.inject(Fault::always(FaultAction::NoAnswerBefore).api(0));
    let arguments = format!(
        "produce {} --topic t --config delivery.timeout.ms=1000 --config request.timeout.ms=300 --linger-ms 0",
        at(&cluster)
    );
    let ran = run(program(&arguments), b"a\n");
    ran.complains(1, &["perhaps delivered", "delivery.timeout.ms"]);
    assert!(ran.summary().starts_with(r#"{"read":1,"delivered":0,"failed":0,"unknown":1"#), "{ran:?}");
}

#[test]
fn a_signal_ends_the_reading_and_the_summary_comes_all_the_same() {
    for name in ["INT", "TERM"] {
        let cluster = cluster("t", 1);
        let mut child = program(&format!("produce {} --topic t", at(&cluster))).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"a\nb\n").unwrap();
        assert!(cluster.wait_for(|view| view.record_count("t") == 2, Duration::from_secs(20)));
        signal(child.id(), name);
        let ran = finish(child);
        drop(stdin);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.summary().starts_with(r#"{"read":2,"delivered":2,"failed":0,"unknown":0"#), "{ran:?}");
    }
}

#[test]
fn a_closed_output_is_an_error_and_no_panic() {
    let cluster = cluster("t", 1);
    let mut child = program(&format!("produce {} --topic t --print-offsets", at(&cluster))).spawn().unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"a\nb\n").unwrap();
    drop(stdin);
    let ran = finish(child);
    ran.complains(4, &["standard output was closed"]);
}
