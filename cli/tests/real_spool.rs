//! The program with a spool: killed, stopped, copied, started twice, and without a broker.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "scenarios on a real cluster")]

#[path = "../../tests/real_support/mod.rs"]
mod real_support;
mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use proto_tests::real::{AUTHORIZER, Operation, RealCluster, RealConfig, Resource, scaled};
use real_support::spools::{Left, Random, Scratch, copy, left, seed, stays};
use real_support::{records, topic, topic_of, unique, until, until_on_disk, value, values};
use support::{Ran, finish, program, run, signal};

const PARTITIONS: i32 = 3;
const KEYS: usize = 101;
/// Small files, so that they are filled and freed while a test looks.
const SMALL: &str = "-X spool.segment.bytes=1048576 -X spool.max.bytes=67108864";

fn at(cluster: &RealCluster) -> String {
    format!("-b {}", cluster.bootstrap().join(","))
}

/// Lines from `from` to `to`, each with its number behind its key.
fn numbered(from: usize, to: usize) -> String {
    (from..to).fold(String::new(), |mut text, n| {
        writeln!(text, "k{}:{n}", n % KEYS).unwrap();
        text
    })
}

fn spooling(cluster: &RealCluster, topic: &str, spool: &Path, more: &str) -> Command {
    program(&format!("produce {} -t {topic} --spool {} {SMALL} {more}", at(cluster), spool.display()))
}

/// Each of `count` lines is in the topic once, and those of a key are in order.
fn each_once(cluster: &RealCluster, topic: &str, count: usize) {
    let mut times = vec![0; count];
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    for partition in 0..PARTITIONS {
        for record in records(cluster, topic, partition, 1) {
            let number: usize = value(&record).parse().unwrap();
            times[number] += 1;
            let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
            assert_eq!(key, format!("k{}", number % KEYS));
            let before = last.insert(key, number);
            assert!(before < Some(number), "{topic}: {number} after {before:?}");
        }
    }
    let wrong = |n: &usize| times[*n] != 1;
    let wrong: Vec<_> = (0..count).filter(wrong).map(|n| (n, times[n])).take(20).collect();
    assert!(wrong.is_empty(), "{topic}: (line, times) {wrong:?}");
}

/// The most memory that a process has had, in MiB.
fn peak_memory(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? / 1024)
}

/// The program is killed at any moment of accepting, syncing, sending, settling and freeing, a millisecond later each time,
/// and goes on in its file. Each line arrives once, those of a key in order.
#[test]
fn kill9_at_every_step() {
    const LINES: usize = 60_000;
    let seed = seed();
    println!("INDELIBLE_SEED={seed}");
    let mut random = Random(seed);
    let cluster = RealCluster::shared().unwrap();
    let topic = topic(&cluster, "every-step", PARTITIONS, &[]);
    let scratch = Scratch::new("every-step");
    let file = scratch.file("lines");
    std::fs::write(&file, numbered(0, LINES)).unwrap();
    let start = |random: &mut Random| {
        // Small batches: many writes, many requests, and time for a kill among them.
        let shape = format!("--resume --file {} -K : -X batch.size={}", file.display(), random.between(200, 2000));
        spooling(&cluster, &topic, &scratch.spool(), &shape).stdin(Stdio::null()).spawn().unwrap()
    };
    let (rounds, mut killed) = (scaled(40), 0);
    for round in 0..rounds {
        let mut child = start(&mut random);
        std::thread::sleep(Duration::from_millis(u64::from(round * 3)) + random.millis(5, 40));
        child.kill().unwrap();
        let ran = finish(child);
        match ran.code {
            None => killed += 1,
            code => assert_eq!(code, Some(0), "{ran:?}"),
        }
    }
    let ran = finish(start(&mut random));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(left(&scratch.spool()), Left::default());
    each_once(&cluster, &topic, LINES);
    println!("{LINES} lines, killed {killed} times, seed {seed}");
}

/// The second program on a spool is told who has it, and changes nothing. It gets the spool when the first is gone, also by
/// kill -9.
#[test]
fn two_processes_one_spool() {
    let scratch = Scratch::new("two-processes");
    let start = |more: &str| {
        // Nobody listens there, and nobody needs to.
        program(&format!("produce -b 127.0.0.1:9 -t somewhere --spool {} {SMALL} {more}", scratch.spool().display()))
    };
    let mut first = start("").spawn().unwrap();
    let mut lines = first.stdin.take().unwrap();
    lines.write_all(b"a\nb\n").unwrap();
    until("two lines in the spool", || {
        let found = indelible::spool::inspect(scratch.spool()).map_err(|error| error.to_string())?;
        match found.batches.iter().map(|batch| batch.records).sum() {
            2 => Ok(()),
            other => Err(format!("{other} lines")),
        }
    });
    let ran = run(start("--no-wait"), b"c\n");
    ran.complains(4, &["in use", &first.id().to_string()]);
    first.kill().unwrap();
    finish(first);
    let ran = run(start("--no-wait"), b"c\n");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.summary().contains(r#""spooled":1"#), "{ran:?}");
    assert_eq!(left(&scratch.spool()).ready, 3);
}

/// A process is stopped while it waits for acknowledgements, somebody copies its spool and starts another one with the copy,
/// and then the first goes on. It is fenced: what both have is there once, and the first says that it may not go on.
#[test]
fn stopped_process_thaws_after_takeover() {
    let cluster = RealCluster::shared_alone().unwrap();
    let topic = topic(&cluster, "thaws", 1, &[]);
    cluster.move_leader(&topic, 0, 1).unwrap();
    let scratch = Scratch::new("thaws");
    let start = |spool: &str| {
        spooling(&cluster, &topic, &scratch.file(spool), "-X batch.size=0 --linger-ms 0 -X request.timeout.ms=5000")
    };
    let mut first = start("first").stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = first.stdin.take().unwrap();
    lines.write_all(b"first\n").unwrap();
    until_on_disk(&cluster, 1, &topic, 0, 1);
    values(&cluster, &topic, 0, 1);
    for id in [2, 3] {
        cluster.pause(id).unwrap();
    }
    lines.write_all(b"a\nb\nc\nd\ne\n").unwrap();
    until_on_disk(&cluster, 1, &topic, 0, 2);
    until("five lines in the spool", || match left(&scratch.file("first")).ready {
        5 => Ok(()),
        other => Err(format!("{other} lines")),
    });
    signal(first.id(), "STOP");
    copy(&scratch.file("first"), &scratch.file("second"));
    for id in [2, 3] {
        cluster.resume(id).unwrap();
    }
    cluster.wait_ready().unwrap();
    let ran = run(start("second"), b"of the second\n");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let expected = ["first", "a", "b", "c", "d", "e", "of the second"];
    assert_eq!(values(&cluster, &topic, 0, 7), expected);

    signal(first.id(), "CONT");
    lines.write_all(b"of the first\n").unwrap();
    drop(lines);
    let ended = finish_within(first, Duration::from_secs(45));
    println!("{ended:?}");
    assert_ne!(ended.code, Some(0), "{ended:?}");
    assert!(ended.err.to_lowercase().contains("fence") || ended.err.contains("newer producer"), "{ended:?}");
    stays(Duration::from_secs(1), || values(&cluster, &topic, 0, 7).len());
    assert_eq!(values(&cluster, &topic, 0, 7), expected);
}

/// Waits for the end, and asks for it twice, politely, when it does not come.
fn finish_within(mut child: Child, limit: Duration) -> Ran {
    let begin = Instant::now();
    while begin.elapsed() < limit && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(50));
    }
    if child.try_wait().unwrap().is_none() {
        signal(child.id(), "INT");
        std::thread::sleep(Duration::from_millis(500));
        signal(child.id(), "INT");
    }
    finish(child)
}

/// All brokers are away, the topic was never seen. The lines are accepted all the same, the program killed among them and
/// started again; when the brokers are there every line arrives once, in order for each key, in little memory.
#[test]
fn all_brokers_down_and_killed() {
    accepted_without_brokers(scaled(100_000) as usize);
}

#[test]
#[ignore = "long: a million lines"]
fn a_million_lines_with_all_brokers_down_and_killed() {
    accepted_without_brokers(1_000_000);
}

fn accepted_without_brokers(count: usize) {
    const MOST_MIB: u64 = 100;
    let seed = seed();
    let mut random = Random(seed);
    let cluster = RealCluster::shared_alone().unwrap();
    let topic = topic(&cluster, "all-down", PARTITIONS, &[]);
    cluster.kill_all().unwrap();
    let scratch = Scratch::new("all-down");
    let file = scratch.file("lines");
    std::fs::write(&file, numbered(0, count)).unwrap();
    let spool = scratch.spool();
    let start = |more: &str| {
        let line = format!(
            "produce {} -t {topic} --spool {} --resume --file {} -K : {more}",
            at(&cluster),
            spool.display(),
            file.display()
        );
        program(&line).stdin(Stdio::null()).spawn().unwrap()
    };
    let mut peak = 0;
    let mut watched = |mut child: Child, limit: Option<Duration>| -> Ran {
        let begin = Instant::now();
        while child.try_wait().unwrap().is_none() && limit.is_none_or(|limit| begin.elapsed() < limit) {
            peak = peak_memory(child.id()).unwrap_or(0).max(peak);
            std::thread::sleep(Duration::from_millis(10));
        }
        if limit.is_some() {
            let _ = child.kill();
        }
        finish(child)
    };
    let mut kills = 0;
    for _ in 0..3 {
        let ran = watched(start("--no-wait"), Some(random.millis(30, 400)));
        kills += i32::from(ran.code.is_none());
    }
    let begin = Instant::now();
    let ran = watched(start("--no-wait"), None);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    println!("accepted in {:.1?}: {}", begin.elapsed(), ran.summary());
    // And once more, in the middle of waiting for brokers.
    let ran = watched(start(""), Some(Duration::from_millis(700)));
    kills += i32::from(ran.code.is_none());
    let all = indelible::spool::inspect(&spool).unwrap();
    assert_eq!(all.batches.iter().map(|batch| batch.records).sum::<u64>(), count as u64);

    // It waits for the brokers: they are started after it.
    let last = start("");
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let brokers = scope.spawn(|| cluster.start_all().unwrap());
        let ran = watched(last, None);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        println!("delivered in {:.1?}: {}", begin.elapsed(), ran.summary());
        brokers.join().unwrap();
    });
    each_once(&cluster, &topic, count);
    assert_eq!(left(&spool), Left::default());
    println!("{count} lines, killed {kills} times, {peak} MiB at most, INDELIBLE_SEED={seed}");
    assert!(peak < MOST_MIB, "it took {peak} MiB");
}

/// What the brokers refuse for good is kept as dead: told with its reason, exported, and sent again when the reason is gone.
/// Neither holds up what comes after it.
#[test]
fn refused_for_good_is_kept_and_can_be_retried() {
    let config = RealConfig::default()
        .brokers(1)
        .config("authorizer.class.name", AUTHORIZER)
        .config("allow.everyone.if.no.acl.found", "true");
    let cluster = RealCluster::start(config).unwrap();
    let scratch = Scratch::new("refused");
    let spool = scratch.spool();
    let tool = |words: &str| program(&format!("spool {words} {}", spool.display()));

    // Not authorised.
    let closed = topic_of(&cluster, "closed", 1, 1, &[]);
    cluster.allow("User:ANONYMOUS", Operation::Read, &[Resource::Topic(&closed)]).unwrap();
    let ran = run(spooling(&cluster, &closed, &spool, ""), b"a\nb\n");
    println!("{ran:?}");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("WRITE") || ran.err.contains("uthoriz"), "{ran:?}");
    assert_eq!(left(&spool), Left { dead: 2, ..Left::default() });

    // Too large: a neighbour in the same batch goes through.
    let narrow = topic_of(&cluster, "narrow", 1, 1, &[("max.message.bytes", "2000")]);
    let large = format!("before\n{}\nafter\n", "x".repeat(5000));
    let ran = run(spooling(&cluster, &narrow, &spool, "--linger-ms 300"), large.as_bytes());
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(values(&cluster, &narrow, 0, 2), ["before", "after"]);
    assert_eq!(left(&spool), Left { dead: 3, ..Left::default() });

    let ran = run(tool("list --dead"), b"");
    assert!(ran.out.contains(&closed) && ran.out.contains(&narrow), "{ran:?}");
    let ran = run(tool("export --dead"), b"");
    assert_eq!(ran.out.lines().count(), 3, "{ran:?}");
    assert!(ran.out.contains(r#""value":"a""#) && ran.out.contains(&"x".repeat(5000)), "{ran:?}");

    // It stays dead, also for `deliver`, until somebody has removed the reason.
    let deliver = || program(&format!("spool deliver {} {}", spool.display(), at(&cluster)));
    let ran = run(deliver(), b"");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(left(&spool), Left { dead: 3, ..Left::default() });
    cluster.allow("User:ANONYMOUS", Operation::Write, &[Resource::Topic(&closed)]).unwrap();
    cluster.set_topic_config(&narrow, "max.message.bytes", "").unwrap();
    let ran = run(tool("retry --dead"), b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = run(deliver(), b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(values(&cluster, &closed, 0, 2), ["a", "b"]);
    assert_eq!(values(&cluster, &narrow, 0, 3), ["before", "after", &"x".repeat(5000)]);
}

/// The file is not the one that was read: other beginning, other inode, shorter. Nothing is sent then.
#[test]
fn another_file_is_not_resumed() {
    let scratch = Scratch::new("other-file");
    let file = scratch.file("lines");
    let topic = unique("nowhere");
    let start = || {
        let line = format!("produce -b 127.0.0.1:9 -t {topic} --spool {} {SMALL}", scratch.spool().display());
        program(&format!("{line} --no-wait --resume --file {}", file.display()))
    };
    std::fs::write(&file, "one\ntwo\n").unwrap();
    assert_eq!(run(start(), b"").code, Some(0));
    assert_eq!(left(&scratch.spool()).ready, 2);
    assert_eq!(run(start(), b"").code, Some(0));
    assert_eq!(left(&scratch.spool()).ready, 2);
    let refused = |what: &str| {
        let ran = run(start(), b"");
        assert_eq!(ran.code, Some(2), "{what}: {ran:?}");
        assert_eq!(left(&scratch.spool()).ready, 2, "{what}");
    };
    std::fs::write(&file, "one\n").unwrap();
    refused("shorter");
    std::fs::write(&file, "ono\ntwo\nthree\n").unwrap();
    refused("another beginning");
    std::fs::write(&file, "one\ntwo\nthree\n").unwrap();
    assert_eq!(run(start(), b"").code, Some(0));
    assert_eq!(left(&scratch.spool()).ready, 3);
    let other = scratch.file("other");
    std::fs::write(&other, "one\ntwo\nthree\nfour\n").unwrap();
    std::fs::rename(&other, &file).unwrap();
    let ran = run(start(), b"");
    assert_eq!(ran.code, Some(2), "{ran:?}");
}
