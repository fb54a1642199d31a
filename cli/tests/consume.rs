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

/// Values of partition 0 are three, of partition 1 one.
fn filled() -> FakeCluster {
    let cluster = cluster("t", 2);
    fill(&cluster, "t", 0, b"a\nb\nc\n");
    fill(&cluster, "t", 1, b"d\n");
    cluster
}

/// The lines that it prints, sorted.
#[track_caller]
fn prints(cluster: &FakeCluster, arguments: &str) -> Vec<String> {
    let ran = run(program(&format!("consume {} -t t -f %p:%s {arguments}", at(cluster))), b"");
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    let mut lines: Vec<String> = ran.out.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn until_end_stops_when_all_is_handled() {
    let cluster = filled();
    assert_eq!(prints(&cluster, "-g g --until-end"), ["0:a", "0:b", "0:c", "1:d"]);
    assert_eq!([committed(&cluster, 0), committed(&cluster, 1)], [Some(3), Some(1)]);
    assert!(prints(&cluster, "-g g --until-end").is_empty());
    fill(&cluster, "t", 1, b"e\n");
    assert_eq!(prints(&cluster, "-g g --until-end"), ["1:e"]);
}

/// Three at once: each ends, and between them each line is printed.
#[test]
fn until_end_with_several_members() {
    let cluster = filled();
    let line = format!("consume {} -t t -g g --until-end -f %p:%s", at(&cluster));
    let members: Vec<_> = (0..3).map(|_| program(&line).spawn().unwrap()).collect();
    let ran: Vec<_> = members.into_iter().map(finish).collect();
    assert!(ran.iter().all(|ran| ran.code == Some(0) && ran.err.is_empty()), "{ran:?}");
    let mut lines: Vec<&str> = ran.iter().flat_map(|ran| ran.out.lines()).collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines, ["0:a", "0:b", "0:c", "1:d"]);
    assert_eq!([committed(&cluster, 0), committed(&cluster, 1)], [Some(3), Some(1)]);
}

/// Without a group nothing is committed, and each run begins anew.
#[test]
fn without_a_group_all_is_read_each_time() {
    let cluster = filled();
    for _ in 0..2 {
        assert_eq!(prints(&cluster, "--until-end"), ["0:a", "0:b", "0:c", "1:d"]);
    }
    assert!(prints(&cluster, "--until-end --from latest").is_empty());
    assert_eq!(prints(&cluster, "--until-end --partition 1"), ["1:d"]);
    assert_eq!(cluster.look(|view| view.requests(8)), 0, "a commit");
}

#[test]
fn it_begins_where_it_is_told_to() {
    let cluster = filled();
    assert_eq!(prints(&cluster, "-p 0 --until-end --offset 1"), ["0:b", "0:c"]);
    assert_eq!(prints(&cluster, "--until-end -o beginning"), ["0:a", "0:b", "0:c", "1:d"]);
    assert!(prints(&cluster, "--until-end -o end").is_empty());
    assert_eq!(prints(&cluster, "--until-end -o -1h").len(), 4);
    assert!(prints(&cluster, "--until-end -o 9999-01-01T00:00:00Z").is_empty());
    // For a group too, which goes on from there; what it had committed of the other partition stays.
    assert_eq!(prints(&cluster, "-g g --until-end").len(), 4);
    assert_eq!(prints(&cluster, "-g g -p 0 -o 2 --until-end"), ["0:c"]);
    assert_eq!([committed(&cluster, 0), committed(&cluster, 1)], [Some(3), Some(1)]);

    let consume = |arguments: &str| run(program(&format!("consume {} -t t {arguments}", at(&cluster))), b"");
    consume("-o soon").complains(2, &["--offset", "\"soon\"", "beginning, end"]);
    consume("-p 2").complains(3, &["\"t\" has no partition 2", "it has 2"]);
    consume("-p 0 -o 7").complains(3, &["t-0", "offset 7", "0 to 3"]);
    consume("-o 1 --from latest").complains(2, &["--from"]);
    consume("--order some").complains(2, &["--order", "partition, key, none"]);
    consume("--workers 0").complains(2, &["--workers"]);
    consume("--retries 3").complains(2, &["--exec"]);
}

/// Its members would commit beside it, and the coordinator takes nobody else's.
#[test]
fn partitions_of_a_group_with_members_are_not_read_by_hand() {
    let cluster = filled();
    let mut member = program(&format!("consume {} -t t -g g -f %s", at(&cluster))).spawn().unwrap();
    assert!(cluster.wait_for(|view| !view.members("g").is_empty(), Duration::from_secs(20)));
    let ran = run(program(&format!("consume {} -t t -g g -o beginning", at(&cluster))), b"");
    ran.complains(3, &["group \"g\" has members", "--offset"]);
    signal(member.id(), "TERM");
    assert!(member.wait().unwrap().success());
}

#[test]
fn a_command_that_fails_is_tried_again() {
    let cluster = cluster("t", 1);
    fill(&cluster, "t", 0, b"a\n");
    let scratch = support::spool::Scratch::new("retries");
    let mut command = program(&format!("consume {} -t t -g g --until-end --retries 2", at(&cluster)));
    command.arg("--config=handler.retry.backoff.ms=1");
    command.args(["--exec", &format!("echo x >> {0}; [ $(wc -l < {0}) = 3 ]", scratch.path("tries"))]);
    let ran = run(command, b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(std::fs::read_to_string(scratch.path("tries")).unwrap(), "x\nx\nx\n");
    assert_eq!(committed(&cluster, 0), Some(1));
}

#[test]
fn topics_by_pattern() {
    let cluster = FakeCluster::start(3);
    for topic in ["orders.a", "orders.b", "other"] {
        cluster.create_topic(topic, 1);
        fill(&cluster, topic, 0, format!("{topic}\n").as_bytes());
    }
    let consume = |arguments: &str| run(program(&format!("consume {} {arguments}", at(&cluster))), b"");
    let ran = consume(r"--pattern orders.* -g g --until-end -f %s");
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    let mut lines: Vec<&str> = ran.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["orders.a", "orders.b"]);
    consume("--pattern orders( -g g").complains(2, &["regular expression"]);
    consume("--pattern orders").complains(2, &["--group"]);
    consume("--pattern orders -g g -t other").complains(2, &["--topic"]);
    consume("-g g").complains(2, &["--topic"]);
}

/// Four keys of one partition, at the same time, and each key's records one after the other.
#[test]
fn keys_run_side_by_side() {
    let cluster = cluster("t", 1);
    let produce = program(&format!("produce {} -t t -p 0 --key-separator :", at(&cluster)));
    let lines: String = (0..16).map(|n| format!("{}:{n}\n", n % 4)).collect();
    assert_eq!(run(produce, lines.as_bytes()).code, Some(0));
    let scratch = support::spool::Scratch::new("order");
    let log = scratch.path("log");
    let consume = |more: &str| {
        let _ = std::fs::remove_file(&log);
        let mut command = program(&format!("consume {} -t t --until-end {more}", at(&cluster)));
        let step = |sign: &str| format!("echo {sign} $INDELIBLE_KEY $INDELIBLE_OFFSET >> {log}");
        command.args(["--exec", &format!("{}; sleep 0.05; {}", step("+"), step("-"))]);
        let ran = run(command, b"");
        assert_eq!(ran.code, Some(0), "{ran:?}");
        // Which (key, offset) are at work after each step.
        let mut at_work: Vec<(String, i64)> = Vec::new();
        let mut most = 0;
        for line in std::fs::read_to_string(&log).unwrap().lines() {
            let [sign, key, offset] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let record = (key.to_owned(), offset.parse().unwrap());
            if sign == "+" {
                assert!(at_work.iter().all(|(other, _)| other != key), "{line} while {at_work:?} are at work");
                at_work.push(record);
                most = most.max(at_work.len());
            } else {
                at_work.retain(|other| *other != record);
            }
        }
        assert!(at_work.is_empty(), "{at_work:?}");
        most
    };
    assert_eq!(consume(""), 1, "of one partition");
    assert!((2..=4).contains(&consume("--order key")));
    assert_eq!(consume("--order key --workers 2"), 2);
}

#[test]
fn what_fails_goes_to_the_dead_letters() {
    let cluster = cluster("t", 1);
    fill(&cluster, "t", 0, b"good\nbad\nafter\n");
    let consume = |more: &str| {
        let mut command = program(&format!("consume {} -t t -g g --until-end {more}", at(&cluster)));
        command.args([
            "--config=handler.retry.backoff.ms=1",
            "--exec",
            r#"read -r line; echo "$line"; [ "$line" != bad ]"#,
        ]);
        run(command, b"")
    };
    consume("--dead-letter t.dead").complains(3, &["\"t.dead\" does not exist"]);
    assert_eq!(committed(&cluster, 0), None);
    cluster.create_topic("t.dead", 1);
    let ran = consume("--dead-letter t.dead --retries 1");
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "good\nbad\nbad\nafter\n"), "{ran:?}");
    assert_eq!(committed(&cluster, 0), Some(3));
    let dead = run(program(&format!("consume {} -t t.dead --until-end", at(&cluster))), b"");
    assert_eq!(dead.out.lines().count(), 1, "{dead:?}");
    for part in [
        r#""value":"bad""#,
        r#"{"name":"indelible.dead-letter.offset","value":"1"}"#,
        r#"{"name":"indelible.dead-letter.attempts","value":"2"}"#,
        "exit status: 1",
    ] {
        assert!(dead.out.contains(part), "{part} is missing: {dead:?}");
    }
}
