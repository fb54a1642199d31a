//! The program over SASL_SSL, by a file of properties as Java's tools are given: killed, its broker killed, and gone on.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "scenarios on a real cluster")]

#[path = "../../tests/real_support/mod.rs"]
mod real_support;
mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use proto_tests::real::{RealCluster, RealConfig};
use real_support::spools::{Left, Random, Scratch, left, seed};
use real_support::{records, topic, unique, until, value};
use support::{finish, program, run};

const PASSWORD: &str = "alice's own secret";
const PARTITIONS: i32 = 3;
const LINES: usize = 10_000;

/// `--config-file` for the listener.
fn properties(cluster: &RealCluster, name: &str, password: &str) -> String {
    let text = format!(
        "bootstrap.servers={}\nsecurity.protocol=SASL_SSL\nssl.truststore.type=PEM\nssl.truststore.location={}\n\
         sasl.mechanism=SCRAM-SHA-512\nsasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\\n  \
         username=\"alice\" password=\"{password}\";\n",
        cluster.bootstrap_of("SASL_SSL").join(","),
        cluster.ca_file().display(),
    );
    cluster.certificates().write(name, &text).unwrap().display().to_string()
}

/// Number of the line of a value that the tests below send.
fn number(text: &str) -> usize {
    text.parse().unwrap()
}

/// Lines go through a spool; the program is killed among them, again and again, and so is a broker. Each line arrives once.
/// Then they are read by a program that is killed among them: nothing is left out.
#[test]
fn produce_consume_kill_and_recover() {
    let seed = seed();
    println!("INDELIBLE_SEED={seed}");
    let mut random = Random(seed);
    let config = RealConfig::default().secure().user("alice", PASSWORD);
    let cluster = RealCluster::start(config).unwrap();
    let file = properties(&cluster, "client.properties", PASSWORD);
    refused(&cluster);

    let topic = topic(&cluster, "secure", PARTITIONS, &[]);
    let scratch = Scratch::new("secure");
    produced(&cluster, &topic, &file, &scratch, &mut random);
    consumed(&topic, &file, &scratch, &mut random);
}

/// A wrong password is told once, at once.
fn refused(cluster: &RealCluster) {
    let begin = Instant::now();
    let file = properties(cluster, "wrong.properties", "not this one");
    let ran = run(program(&format!("produce --config-file {file} -t any")), b"a\n");
    println!("{:?}: {}", begin.elapsed(), ran.err);
    assert_ne!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
    for part in ["SASL", "SCRAM-SHA-512 was refused", &cluster.bootstrap_of("SASL_SSL")[0]] {
        assert!(ran.err.contains(part), "{part:?} is missing: {ran:?}");
    }
    assert!(!ran.err.contains("not this one"), "{ran:?}");
}

fn produced(cluster: &RealCluster, topic: &str, file: &str, scratch: &Scratch, random: &mut Random) {
    let lines = scratch.file("lines");
    let text = (0..LINES).fold(String::new(), |mut text, n| {
        writeln!(text, "{n}").unwrap();
        text
    });
    std::fs::write(&lines, text).unwrap();
    let start = |batch: u64| {
        let line = format!(
            "produce --config-file {file} -t {topic} --spool {} --resume --file {} -X batch.size={batch}",
            scratch.spool().display(),
            lines.display(),
        );
        program(&line).stdin(Stdio::null()).spawn().unwrap()
    };
    let mut killed = 0;
    for round in 0..8 {
        let mut child = start(random.between(200, 2000));
        std::thread::sleep(Duration::from_millis(round * 40) + random.millis(20, 80));
        child.kill().unwrap();
        killed += u32::from(finish(child).code.is_none());
        match round {
            2 => cluster.kill(1).unwrap(),
            6 => cluster.start_broker(1).unwrap(),
            _ => {}
        }
    }
    let begin = Instant::now();
    let ran = finish(start(2000));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(left(&scratch.spool()), Left::default());
    println!("killed {killed} times, the last run took {:.1?}: {}", begin.elapsed(), ran.summary());

    let mut times = vec![0; LINES];
    for partition in 0..PARTITIONS {
        for record in records(cluster, topic, partition, 1) {
            times[number(&value(&record))] += 1;
        }
    }
    let wrong: Vec<_> = times.iter().enumerate().filter(|(_, times)| **times != 1).take(20).collect();
    assert!(wrong.is_empty(), "(line, times): {wrong:?}");
}

fn consumed(topic: &str, file: &str, scratch: &Scratch, random: &mut Random) {
    let group = unique("secure");
    // A file for each run: the last line of one that was killed may be half there.
    let out = |run: u64| scratch.file(&format!("read-{run}"));
    let start = |run: u64, end: &str| {
        let line = format!(
            "consume --config-file {file} -t {topic} --group {group} -X session.timeout.ms=3000 \
             -X heartbeat.interval.ms=300 -X auto.commit.interval.ms=50 --format %s {end}"
        );
        program(&line).stdin(Stdio::null()).stdout(std::fs::File::create(out(run)).unwrap()).spawn().unwrap()
    };
    let read = |runs: u64| -> Vec<usize> {
        let texts = (0..=runs).map(|run| std::fs::read_to_string(out(run)).unwrap());
        texts.flat_map(|text| text.split_inclusive('\n').filter_map(whole).collect::<Vec<_>>()).collect()
    };
    const KILLS: u64 = 3;
    for run in 0..KILLS {
        let mut child = start(run, "");
        // There may be nothing left for it: the one before was quick.
        until("some lines", || {
            let some = std::fs::metadata(out(run)).unwrap().len() > 0 || read(run).len() >= LINES;
            if some { Ok(()) } else { Err("none".to_owned()) }
        });
        std::thread::sleep(random.millis(0, 60));
        child.kill().unwrap();
        finish(child);
    }
    // The ones before may have read everything; that it ends by itself is awaited, not its first sign of life.
    let ran = finish(start(KILLS, "--until-end"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let read = read(KILLS);
    assert_eq!(read.iter().collect::<BTreeSet<_>>().len(), LINES);
    println!("{} lines of {LINES} were read again", read.len() - LINES);
}

/// The number in a line that has its end.
fn whole(line: &str) -> Option<usize> {
    line.strip_suffix('\n').map(number)
}
