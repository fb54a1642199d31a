//! `indelible produce --spool` against the fake cluster, and against none.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use proto_tests::fake::{FakeCluster, FakeSasl, Fault, FaultAction, TopicConfig};
use support::spool::{Scratch, number, status, wait_for_spooled};
use support::{at, cluster, finish, program, run, signal};

/// Where nobody listens.
fn nowhere() -> String {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    format!("--bootstrap {free}")
}

fn lines(range: std::ops::Range<usize>) -> Vec<u8> {
    range.flat_map(|n| format!("{n}\n").into_bytes()).collect()
}

/// How often each value is in the topic, over all partitions, and whether each partition has them in their order.
fn delivered(cluster: &FakeCluster, topic: &str, partitions: i32) -> BTreeMap<usize, usize> {
    let ledger = cluster.ledger();
    let mut found = BTreeMap::new();
    for partition in 0..partitions {
        let values = ledger.records(topic, partition).into_iter().map(|record| record.value.unwrap());
        let values: Vec<usize> = values.map(|value| std::str::from_utf8(&value).unwrap().parse().unwrap()).collect();
        assert!(values.is_sorted_by(|a, b| a < b), "{topic}-{partition}: {values:?}");
        values.into_iter().for_each(|value| *found.entry(value).or_default() += 1);
    }
    found
}

#[track_caller]
fn each_once(cluster: &FakeCluster, topic: &str, partitions: i32, count: usize) {
    let found = delivered(cluster, topic, partitions);
    let missing: Vec<usize> = (0..count).filter(|n| !found.contains_key(n)).collect();
    let doubled: Vec<usize> = found.iter().filter(|(_, times)| **times > 1).map(|(n, _)| *n).collect();
    assert!(missing.is_empty() && doubled.is_empty(), "missing {missing:?}, doubled {doubled:?}");
    assert_eq!(found.len(), count);
}

#[test]
fn lines_wait_on_disk_while_the_brokers_are_away() {
    let scratch = Scratch::new("away");
    let spool = scratch.path("spool");
    let ran = run(program(&format!("produce {} -t t --spool {spool} --no-wait", nowhere())), &lines(0..1000));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let summary = r#"{"read":1000,"spooled":1000,"delivered":0,"failed":0,"unknown":0,"secs":"#;
    assert!(ran.summary().starts_with(summary), "{ran:?}");

    let told = status(&spool);
    assert_eq!(number(&told, "records"), 1000, "{told}");
    assert!(told.contains(r#""topic":"t","partition":null"#) && told.contains(r#""holder":null"#), "{told}");
    let people = run(program(&format!("spool status {spool}")), b"");
    assert!(people.out.contains("1000 records") && people.out.contains("t (not partitioned)"), "{people:?}");
    let exported = run(program(&format!("spool export {spool} --all")), b"");
    assert_eq!(exported.out.lines().count(), 1000);
    assert!(exported.out.starts_with(r#"{"topic":"t","partition":null,"key":null,"value":"0","headers":[],"#));

    let cluster = cluster("t", 3);
    let ran = run(program(&format!("spool deliver {spool} {}", at(&cluster))), b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let summary = r#"{"delivered":1000,"failed":0,"unknown":0,"left":0,"secs":"#;
    assert!(ran.summary().starts_with(summary), "{ran:?}");
    each_once(&cluster, "t", 3, 1000);
    let told = status(&spool);
    assert_eq!(number(&told, "records"), 0, "{told}");
    let again = run(program(&format!("spool deliver {spool} {}", at(&cluster))), b"");
    assert!(again.code == Some(0) && again.summary().starts_with(r#"{"delivered":0,"#), "{again:?}");
    each_once(&cluster, "t", 3, 1000);
}

#[test]
fn the_next_run_delivers_what_lay_there_in_order() {
    let scratch = Scratch::new("next");
    let spool = scratch.path("spool");
    let durability = "--durability process-crash";
    for part in [0..300, 300..600] {
        let ran =
            run(program(&format!("produce {} -t t --spool {spool} {durability} --no-wait", nowhere())), &lines(part));
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    let cluster = cluster("t", 1);
    let arguments = format!("produce {} -t t --spool {spool} {durability} --print-offsets", at(&cluster));
    let ran = run(program(&arguments), &lines(600..900));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.summary().starts_with(r#"{"read":300,"spooled":300,"delivered":900,"failed":0,"unknown":0"#),
        "{ran:?}"
    );
    assert_eq!(ran.out.lines().next(), Some(r#"{"partition":0,"offset":600}"#));
    assert_eq!(ran.out.lines().count(), 301);
    each_once(&cluster, "t", 1, 900);
}

#[test]
fn a_run_that_is_killed_goes_on_where_it_was() {
    const LINES: usize = 20_000;
    let scratch = Scratch::new("killed");
    let (spool, file) = (scratch.path("spool"), scratch.path("input"));
    std::fs::write(&file, lines(0..LINES)).unwrap();
    let cluster = cluster("t", 3);
    let arguments = format!("produce {} -t t --spool {spool} --resume --file {file}", at(&cluster));
    let mut kills = 0;
    let ran = loop {
        let mut child = program(&arguments).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(40 + 7 * kills));
        if child.try_wait().unwrap().is_some() || kills == 12 {
            break finish(child);
        }
        signal(child.id(), "KILL");
        child.wait().unwrap();
        kills += 1;
    };
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(kills > 0);
    each_once(&cluster, "t", 3, LINES);
    let ran = run(program(&arguments), b"");
    assert!(ran.code == Some(0) && ran.summary().starts_with(r#"{"read":0,"spooled":0,"delivered":0,"#), "{ran:?}");
    // What is added to the file later is all that is sent.
    std::fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(&lines(LINES..LINES + 5)).unwrap();
    let ran = run(program(&arguments), b"");
    assert!(ran.code == Some(0) && ran.summary().starts_with(r#"{"read":5,"spooled":5,"delivered":5,"#), "{ran:?}");
    each_once(&cluster, "t", 3, LINES + 5);
}

#[test]
fn a_run_without_brokers_that_is_killed_goes_on_where_it_was() {
    const LINES: usize = 50_000;
    let scratch = Scratch::new("killed-away");
    let (spool, file) = (scratch.path("spool"), scratch.path("input"));
    std::fs::write(&file, lines(0..LINES)).unwrap();
    let away = format!("produce {} -t t --spool {spool} --resume --file {file} --no-wait", nowhere());
    for kill in 0..4 {
        let mut child = program(&away).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(30 + 30 * kill));
        let _ = child.kill();
        child.wait().unwrap();
    }
    let ran = run(program(&away), b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(number(&status(&spool), "records"), LINES as u64);
    let cluster = cluster("t", 3);
    let ran = run(program(&format!("produce {} -t t --spool {spool} --resume --file {file}", at(&cluster))), b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.summary().starts_with(&format!(r#"{{"read":0,"spooled":0,"delivered":{LINES},"#)), "{ran:?}");
    each_once(&cluster, "t", 3, LINES);
}

#[test]
fn another_file_under_the_same_name_is_refused() {
    let scratch = Scratch::new("changed");
    let (spool, file) = (scratch.path("spool"), scratch.path("input"));
    let arguments = format!("produce {} -t t --spool {spool} --no-wait --resume --file {file}", nowhere());
    std::fs::write(&file, "a\nb\n").unwrap();
    assert_eq!(run(program(&arguments), b"").code, Some(0));
    // The same inode, other contents.
    std::fs::write(&file, "x\nb\n").unwrap();
    run(program(&arguments), b"").complains(2, &["its first 4 bytes", "leave --resume out", "input"]);
    // Another inode.
    std::fs::write(scratch.path("new"), "a\nb\n").unwrap();
    std::fs::rename(scratch.path("new"), &file).unwrap();
    let ran = run(program(&arguments), b"");
    ran.complains(2, &["another file (inode"]);
    assert!(ran.summary().starts_with(r#"{"read":0,"spooled":0"#), "{ran:?}");
    assert_eq!(number(&status(&spool), "records"), 2, "nothing was added");
    // Without --resume it is a run of its own.
    let ran = run(program(&arguments.replace("--resume ", "")), b"");
    assert!(ran.code == Some(0) && ran.summary().starts_with(r#"{"read":2,"spooled":2"#), "{ran:?}");
    run(program(&arguments.replace(&file, "/dev/null")), b"").complains(2, &["--resume", "regular file"]);
}

#[test]
fn a_last_line_without_line_feed_is_a_line() {
    let scratch = Scratch::new("unended");
    let (spool, file) = (scratch.path("spool"), scratch.path("input"));
    let arguments = format!("produce {} -t t --spool {spool} --no-wait --resume --file {file}", nowhere());
    for (text, read) in [("a\nb", 2), ("a\nb", 0), ("a\nb\nc\n", 2)] {
        std::fs::write(&file, text).unwrap();
        let ran = run(program(&arguments), b"");
        assert!(ran.code == Some(0) && ran.summary().starts_with(&format!(r#"{{"read":{read},"#)), "{text:?} {ran:?}");
    }
    let exported = run(program(&format!("spool export {spool} --all")), b"");
    let values: Vec<&str> = exported
        .out
        .lines()
        .map(|line| line.split(r#""value":""#).nth(1).unwrap().split('"').next().unwrap())
        .collect();
    assert_eq!(values, ["a", "b", "", "c"], "the rest of the line is a line of its own");
}

#[test]
fn a_line_that_is_too_large_is_not_passed_over_in_silence() {
    let scratch = Scratch::new("large");
    let (spool, file, failed) = (scratch.path("spool"), scratch.path("input"), scratch.path("failed"));
    let large = "x".repeat(2 << 20);
    std::fs::write(&file, format!("a\n{large}\nb\n")).unwrap();
    let arguments = format!("produce {} -t t --spool {spool} --no-wait --file {file} --resume", nowhere());
    for _ in 0..2 {
        let ran = run(program(&arguments), b"");
        ran.complains(1, &["line", "not in the spool", "max.request.size", "--failed-file"]);
    }
    assert_eq!(number(&status(&spool), "records"), 1);
    let ran = run(program(&format!("{arguments} --failed-file {failed}")), b"");
    ran.complains(1, &["1 not delivered", "max.request.size"]);
    assert!(ran.summary().starts_with(r#"{"read":2,"spooled":1,"delivered":0,"failed":1,"unknown":0"#), "{ran:?}");
    let ran = run(program(&format!("{arguments} --failed-file {failed}")), b"");
    assert!(ran.code == Some(0) && ran.summary().starts_with(r#"{"read":0,"#), "{ran:?}");
    assert_eq!(std::fs::read_to_string(&failed).unwrap(), format!("{large}\n"), "it is added to, not written anew");
}

/// Starts a run whose brokers are away, and waits until its two lines are on disk.
fn waiting(spool: &str) -> (Child, std::process::ChildStdin) {
    let mut child = program(&format!("produce {} -t t --spool {spool}", nowhere())).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"0\n1\n").unwrap();
    wait_for_spooled(spool, 2);
    (child, stdin)
}

#[test]
fn a_second_process_is_told_who_has_the_spool() {
    let scratch = Scratch::new("second");
    let spool = scratch.path("spool");
    let (child, stdin) = waiting(&spool);
    let id = child.id().to_string();
    let told = status(&spool);
    assert!(told.contains(&format!(r#""holder":"{id}""#)), "{told}");
    let ran = run(program(&format!("produce {} -t t --spool {spool} --no-wait", nowhere())), b"x\n");
    ran.complains(4, &["in use by process", &id]);
    run(program(&format!("spool retry {spool} --all")), b"").complains(4, &["in use by process", &id]);
    let verified = run(program(&format!("spool verify {spool}")), b"");
    assert_eq!(verified.code, Some(0), "{verified:?}");
    signal(child.id(), "KILL");
    drop(stdin);
    finish(child);
    assert!(status(&spool).contains(r#""holder":null"#));
}

#[test]
fn the_second_signal_leaves_the_delivery_to_another_run() {
    for name in ["INT", "TERM"] {
        let scratch = Scratch::new(&format!("signal-{name}"));
        let spool = scratch.path("spool");
        let (child, stdin) = waiting(&spool);
        signal(child.id(), name);
        std::thread::sleep(Duration::from_millis(300));
        signal(child.id(), name);
        let ran = finish(child);
        drop(stdin);
        ran.complains(1, &["keeps 2 records: 2 not delivered yet", "indelible spool deliver"]);
        assert!(ran.summary().starts_with(r#"{"read":2,"spooled":2,"delivered":0,"failed":0,"unknown":0"#), "{ran:?}");
        assert_eq!(number(&status(&spool), "records"), 2);
    }
}

#[test]
fn the_first_signal_waits_for_the_delivery() {
    let cluster = cluster("t", 1);
    let scratch = Scratch::new("first-signal");
    let spool = scratch.path("spool");
    let mut child = program(&format!("produce {} -t t --spool {spool}", at(&cluster))).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"0\n1\n").unwrap();
    assert!(cluster.wait_for(|view| view.record_count("t") == 2, Duration::from_secs(20)));
    signal(child.id(), "INT");
    let ran = finish(child);
    drop(stdin);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.summary().starts_with(r#"{"read":2,"spooled":2,"delivered":2,"failed":0,"unknown":0"#), "{ran:?}");
}

#[test]
fn what_the_broker_refuses_is_kept_until_a_person_decides() {
    let cluster = cluster("other", 1);
    cluster.create_topic_with("t", 1, TopicConfig { max_message_bytes: 5000, ..TopicConfig::default() });
    let scratch = Scratch::new("dead");
    let spool = scratch.path("spool");
    let large = "x".repeat(20_000);
    let input = format!("a\n{large}\nb\n");
    let produce = format!("produce {} -t t --spool {spool}", at(&cluster));
    let ran = run(program(&produce), input.as_bytes());
    ran.complains(1, &["keeps 1 record: 1 refused for good", "indelible spool list"]);
    assert!(ran.summary().starts_with(r#"{"read":3,"spooled":3,"delivered":2,"failed":1,"unknown":0"#), "{ran:?}");
    assert_eq!(cluster.ledger().values("t"), ["a", "b"]);
    let exported = run(program(&format!("spool export {spool} --dead")), b"");
    assert!(exported.out.contains(&large) && exported.out.contains(r#""status":"dead"}"#), "{exported:?}");
    let listed = run(program(&format!("spool list {spool} --dead")), b"");
    assert!(listed.out.lines().count() == 2 && listed.out.contains("dead: "), "{listed:?}");
    // The others do not wait for it, and it is not told again.
    let ran = run(program(&produce), b"c\n");
    assert!(ran.code == Some(0) && ran.summary().starts_with(r#"{"read":1,"spooled":1,"delivered":1,"#), "{ran:?}");
    run(program(&format!("spool deliver {spool} {}", at(&cluster))), b"").complains(1, &["refused for good"]);

    let id = number(&run(program(&format!("spool list {spool} --json")), b"").out, "id");
    run(program(&format!("spool discard {spool} --id {id}")), b"").complains(2, &["1 record would", "--yes"]);
    let retried = run(program(&format!("spool retry {spool} --dead --json")), b"");
    assert!(retried.code == Some(0) && retried.out == "{\"batches\":1,\"records\":1,\"unknown\":0}\n", "{retried:?}");
    // Nothing has changed for the broker.
    run(program(&format!("spool deliver {spool} {}", at(&cluster))), b"").complains(1, &["refused for good"]);
    let discarded = run(program(&format!("spool discard {spool} --id {id} --yes --json")), b"");
    assert!(discarded.code == Some(0) && discarded.out == "{\"batches\":1,\"records\":1}\n", "{discarded:?}");
    let ran = run(program(&format!("spool deliver {spool} {}", at(&cluster))), b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(cluster.ledger().values("t"), ["a", "b", "c"]);
}

#[test]
fn verify_finds_a_flipped_byte() {
    let scratch = Scratch::new("flipped");
    let spool = scratch.path("spool");
    for part in 0..3 {
        let input = format!("part{part}\n").repeat(50);
        let ran = run(program(&format!("produce {} -t t --spool {spool} --no-wait", nowhere())), input.as_bytes());
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    let ran = run(program(&format!("spool verify {spool}")), b"");
    assert!(ran.code == Some(0) && ran.out.contains("150 records"), "{ran:?}");
    flip(Path::new(&spool), b"part0");
    for _ in 0..2 {
        run(program(&format!("spool verify {spool} --json")), b"").complains(1, &["damaged in"]);
    }
    assert!(!status(&spool).contains(r#""damage":[]"#));
}

/// Flips a bit wherever `bytes` stand in a segment: there may be an older copy.
fn flip(spool: &Path, bytes: &[u8]) {
    for entry in std::fs::read_dir(spool).unwrap() {
        let path = entry.unwrap().path();
        let mut contents = std::fs::read(&path).unwrap();
        let found: Vec<usize> = memchr::memmem::find_iter(&contents, bytes).collect();
        found.iter().for_each(|at| contents[*at] ^= 1);
        if !found.is_empty() {
            std::fs::write(&path, contents).unwrap();
        }
    }
}

#[test]
fn a_topic_that_the_brokers_do_not_know_is_told() {
    let cluster = cluster("other", 1);
    let scratch = Scratch::new("no-topic");
    let spool = scratch.path("spool");
    let arguments = format!("produce {} -t nowhere --spool {spool} --no-wait -X max.block.ms=1500", at(&cluster));
    let ran = run(program(&arguments), b"a\nb\n");
    ran.complains(3, &["line 1", "\"nowhere\" does not exist"]);
    assert!(ran.summary().starts_with(r#"{"read":0,"spooled":0,"delivered":0,"#), "{ran:?}");
}

#[test]
fn an_outage_may_last_longer_than_every_time_limit() {
    let cluster = cluster("t", 2);
    let scratch = Scratch::new("outage");
    let spool = scratch.path("spool");
    let short = "-X max.block.ms=500 -X delivery.timeout.ms=500 -X request.timeout.ms=300 -X spool.rescan.ms=500";
    let arguments = format!("produce {} -t t --spool {spool} {short}", at(&cluster));
    // The spool knows the topic, and no broker tells where its partitions are.
    assert_eq!(run(program(&arguments), b"0\n").code, Some(0));
    cluster.kill_all();
    let mut child = program(&arguments).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"1\n2\n").unwrap();
    wait_for_spooled(&spool, 2);
    std::thread::sleep(Duration::from_secs(3));
    cluster.restart_all();
    drop(stdin);
    let ran = finish(child);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.summary().starts_with(r#"{"read":2,"spooled":2,"delivered":2,"#), "{ran:?}");
    each_once(&cluster, "t", 2, 3);
}

#[test]
fn another_cluster_gets_nothing_unless_it_is_adopted() {
    let first = cluster("t", 1);
    let scratch = Scratch::new("other-cluster");
    let spool = scratch.path("spool");
    let produce = |cluster: &FakeCluster| format!("produce {} -t t --spool {spool}", at(cluster));
    assert_eq!(run(program(&produce(&first)), b"0\n").code, Some(0));
    first.kill_all();
    assert_eq!(run(program(&format!("{} --no-wait", produce(&first))), b"1\n2\n").code, Some(0));
    let second = proto_tests::fake::FakeCluster::builder().cluster_id("another").start();
    second.create_topic("t", 1);
    let ran = run(program(&format!("spool deliver {spool} {}", at(&second))), b"");
    ran.complains(3, &[&first.cluster_id(), "another", "adopt"]);
    assert_eq!(second.ledger().values("t"), [""; 0]);
    let ran = run(program(&format!("spool deliver {spool} --adopt {}", at(&second))), b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(second.ledger().values("t"), ["1", "2"]);
}

#[test]
fn what_nobody_can_tell_waits_for_a_person() {
    let cluster = cluster("t", 1);
    let scratch = Scratch::new("unknown");
    let spool = scratch.path("spool");
    assert_eq!(run(program(&format!("produce {} -t t --spool {spool}", at(&cluster))), b"0\n").code, Some(0));
    cluster.inject(Fault::always(FaultAction::DropBeforeApply).api(0));
    let mut child = program(&format!("produce {} -t t --spool {spool}", at(&cluster))).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It knows by now which topic this is.
    std::thread::sleep(Duration::from_secs(1));
    stdin.write_all(b"1\n").unwrap();
    wait_for_spooled(&spool, 1);
    child.kill().unwrap();
    child.wait().unwrap();
    cluster.clear_faults();
    // Whether the old topic had the record, the new one cannot tell.
    cluster.delete_topic("t");
    cluster.create_topic("t", 1);
    let ran = run(program(&format!("spool deliver {spool} {}", at(&cluster))), b"");
    ran.complains(1, &["keeps 1 record", "deleted and created again"]);
    let listed = run(program(&format!("spool list {spool} --parked")), b"");
    assert!(listed.out.contains("parked") && listed.out.contains("created again"), "{listed:?}");
    let ran = run(program(&format!("spool deliver {spool} --adopt {}", at(&cluster))), b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(cluster.ledger().values("t"), ["1"]);
}

#[test]
fn lines_for_a_topic_that_never_comes_are_kept_as_dead() {
    let scratch = Scratch::new("never");
    let spool = scratch.path("spool");
    assert_eq!(
        run(program(&format!("produce {} -t never --spool {spool} --no-wait", nowhere())), b"0\n1\n").code,
        Some(0)
    );
    let cluster = cluster("t", 1);
    let brief = "-X delivery.timeout.ms=1000 -X linger.ms=0";
    let ran = run(program(&format!("spool deliver {spool} {} {brief}", at(&cluster))), b"");
    ran.complains(1, &["2 refused for good", "never"]);
    assert!(ran.summary().starts_with(r#"{"delivered":0,"failed":2,"unknown":0,"left":2,"#), "{ran:?}");
    cluster.create_topic("never", 2);
    assert_eq!(run(program(&format!("spool retry {spool} --dead")), b"").code, Some(0));
    let ran = run(program(&format!("produce {} -t never --spool {spool}", at(&cluster))), b"2\n");
    assert!(ran.code == Some(0) && ran.summary().starts_with(r#"{"read":1,"spooled":1,"delivered":3,"#), "{ran:?}");
    each_once(&cluster, "never", 2, 3);
}

/// Story: the password was changed at the brokers. The command goes on waiting, as it does for brokers that are away, and says
/// why; when the old password is good again, all goes out.
#[test]
fn who_is_not_let_in_is_told_why_and_waits() {
    let scratch = Scratch::new("refused");
    let spool = scratch.path("spool");
    let cluster = FakeCluster::builder().sasl(FakeSasl::new().user("alice", "new")).start();
    cluster.create_topic("t", 1);
    let sasl = "-X security.protocol=SASL_PLAINTEXT -X sasl.mechanism=SCRAM-SHA-256 -X sasl.username=alice";
    let command = format!("produce {} -t t --spool {spool} {sasl} -X sasl.password=old", at(&cluster));
    let mut child = program(&command).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"1\n").unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    told.read_line(&mut line).unwrap();
    assert!(
        line.contains("waiting") && line.contains("SASL: SCRAM-SHA-256 was refused") && !line.contains("old"),
        "{line}"
    );
    cluster.set_user("alice", "old");
    let mut rest = String::new();
    told.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "said once");
    let ran = finish(child);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(cluster.ledger().values("t"), ["1"]);
}
