//! `indelible consume` against the fake cluster.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod support;

use std::io::{BufRead, BufReader};
use std::time::Duration;

use proto_tests::fake::{FakeCluster, Fault, FaultAction};
use support::{at, cluster, fill, finish, program, run, signal};

fn committed(cluster: &FakeCluster, partition: i32) -> Option<i64> {
    cluster.ledger().committed("g", "t", partition)
}

#[test]
fn json_by_default_and_base64_for_what_is_no_text() {
    let cluster = cluster("t", 1);
    let arguments = format!("produce {} --topic t --key-separator :", at(&cluster));
    assert_eq!(run(program(&arguments), b"k:va\"lue\nno key\n\xff:\xfe\n").code, Some(0));
    let ran = run(program(&format!("consume {} --topic t --group g --max-records 3", at(&cluster))), b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines[0].starts_with(r#"{"topic":"t","partition":0,"offset":0,"timestamp":1"#), "{ran:?}");
    assert!(lines[0].ends_with(r#","key":"k","value":"va\"lue","headers":[]}"#), "{ran:?}");
    assert!(lines[1].ends_with(r#","key":null,"value":"no key","headers":[]}"#), "{ran:?}");
    assert!(lines[2].ends_with(r#","key_base64":"/w==","value_base64":"/g==","headers":[]}"#), "{ran:?}");
    assert_eq!(committed(&cluster, 0), Some(3));
}

#[test]
fn goes_on_behind_its_commit_and_ends_when_idle() {
    let cluster = cluster("t", 2);
    fill(&cluster, "t", 0, b"a\nb\nc\n");
    fill(&cluster, "t", 1, b"d\n");
    let consume = |more: &str| {
        let mut command = program(&format!("consume {} --topic t --group g {more}", at(&cluster)));
        command.args(["--format", "%t %p %o %k %s"]);
        run(command, b"")
    };
    let ran = consume("--max-records 2");
    assert_eq!((ran.code, ran.out.lines().count()), (Some(0), 2), "{ran:?}");
    let rest = consume("--idle-exit-ms 500");
    assert_eq!(rest.code, Some(0), "{rest:?}");
    let mut all: Vec<String> = ran.out.lines().chain(rest.out.lines()).map(str::to_owned).collect();
    all.sort();
    assert_eq!(all, ["t 0 0  a", "t 0 1  b", "t 0 2  c", "t 1 0  d"]);
    assert_eq!([committed(&cluster, 0), committed(&cluster, 1)], [Some(3), Some(1)]);
}

#[test]
fn latest_begins_behind_what_is_there() {
    let cluster = cluster("t", 1);
    fill(&cluster, "t", 0, b"old\n");
    let arguments = format!("consume {} --topic t --group g --from latest --idle-exit-ms 1500", at(&cluster));
    let ran = run(program(&arguments), b"");
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "{ran:?}");
}

#[test]
fn exec_commits_what_the_command_handled_and_stops_at_what_it_did_not() {
    let cluster = cluster("t", 1);
    fill(&cluster, "t", 0, b"good\nbetter\nbad\nafter\n");
    let mut command = program(&format!("consume {} --topic t --group g --idle-exit-ms 2000", at(&cluster)));
    command.args(["--exec", r#"read -r line; echo "$INDELIBLE_OFFSET $line"; [ "$line" != bad ]"#]);
    let ran = run(command, b"");
    ran.complains(1, &["t-0", "offset 2", "exit status: 1"]);
    assert_eq!(ran.out, "0 good\n1 better\n2 bad\n");
    assert_eq!(committed(&cluster, 0), Some(2));
}

#[test]
fn a_command_need_not_read_its_input() {
    let cluster = cluster("t", 1);
    let large = [vec![b'x'; 500_000], b"\n".to_vec()].concat();
    fill(&cluster, "t", 0, &large);
    let arguments = format!("consume {} --topic t --group g --max-records 1 --exec true", at(&cluster));
    let ran = run(program(&arguments), b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(committed(&cluster, 0), Some(1));
}

/// A fresh cluster has no coordinator until it has made its offsets topic, which the first look-up sets off.
#[test]
fn waits_for_the_coordinator_of_a_fresh_cluster() {
    let cluster = cluster("t", 1);
    fill(&cluster, "t", 0, b"a\n");
    for code in [15, 14] {
        cluster.inject(Fault::once(FaultAction::Error(code)).api(10).times(2));
    }
    let ran = run(program(&format!("consume {} --topic t --group g --max-records 1", at(&cluster))), b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(committed(&cluster, 0), Some(1));
}

#[test]
fn a_signal_commits_and_leaves() {
    for name in ["INT", "TERM"] {
        let cluster = cluster("t", 1);
        fill(&cluster, "t", 0, b"a\nb\n");
        let mut child = program(&format!("consume {} --topic t --group g", at(&cluster))).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().contains(r#""value":"a""#));
        assert!(lines.next().unwrap().unwrap().contains(r#""value":"b""#));
        signal(child.id(), name);
        let ran = finish(child);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(committed(&cluster, 0), Some(2));
        assert!(cluster.wait_for(|view| view.members("g").is_empty(), Duration::from_secs(5)));
    }
}

#[test]
fn a_closed_output_stops_it_and_commits_nothing_unwritten() {
    let cluster = cluster("t", 1);
    fill(&cluster, "t", 0, &b"line\n".repeat(50_000));
    let mut child = program(&format!("consume {} --topic t --group g --format %o", at(&cluster))).spawn().unwrap();
    let mut reader = BufReader::with_capacity(1, child.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "0\n");
    drop(reader);
    let ran = finish(child);
    ran.complains(4, &["standard output was closed", "t-0"]);
    assert!(committed(&cluster, 0).unwrap_or(0) < 50_000);
}
