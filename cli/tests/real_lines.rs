//! Lines through the program while brokers and the program itself are killed.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "scenarios on a real cluster")]

#[path = "../../tests/real_support/mod.rs"]
mod real_support;
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::Child;
use std::time::{Duration, Instant};

use proto_tests::real::{RealCluster, scaled};
use real_support::load::difference;
use real_support::{committed, has_kcat, kcat, records, topic, unique, value};
use support::{program, run, signal};

/// Lines at scale 1.
const LINES: u32 = 100_000;
/// Lines of the long tests.
const MILLION: usize = 1_000_000;
/// Lines pass in so many steps of at least this length each, so that the failures happen among them.
const STEPS: usize = 150;
const STEP: Duration = Duration::from_millis(100);
/// How often the consumer is killed.
const KILLS: usize = 8;
const PARTITIONS: i32 = 3;

fn at(cluster: &RealCluster) -> String {
    format!("--bootstrap {}", cluster.bootstrap().join(","))
}

/// Each broker in turn is killed, and started when the others have taken over.
fn kill_each_broker(cluster: &RealCluster, topic: &str) {
    for id in cluster.ids() {
        cluster.kill(id).unwrap();
        for partition in 0..PARTITIONS {
            cluster.leader_other_than(id, topic, partition).unwrap();
        }
        cluster.start_broker(id).unwrap();
        cluster.wait_until_in_sync(topic).unwrap();
    }
}

fn lines(count: usize) -> Vec<u8> {
    (0..count).flat_map(|n| format!("{n}\n").into_bytes()).collect()
}

fn fill(cluster: &RealCluster, topic: &str, count: usize) {
    let ran = run(program(&format!("produce {} --topic {topic}", at(cluster))), &lines(count));
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// Lines go in while each broker in turn is killed and started again. Every line can be read exactly once, in order
/// within each partition, by kcat too.
#[test]
fn each_line_arrives_once_while_brokers_are_killed() {
    lines_out(scaled(LINES) as usize);
}

#[test]
#[ignore = "long: a million lines"]
fn a_million_lines_arrive_once_while_brokers_are_killed() {
    lines_out(MILLION);
}

fn lines_out(count: usize) {
    let cluster = RealCluster::shared_alone().unwrap();
    let topic = topic(&cluster, "lines-out", PARTITIONS, &[]);
    let begin = Instant::now();
    let mut child = program(&format!("produce {} --topic {topic}", at(&cluster))).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        let trouble = scope.spawn(|| kill_each_broker(&cluster, &topic));
        for (step, part) in (0..count).collect::<Vec<_>>().chunks(count.div_ceil(STEPS)).enumerate() {
            let text: String = part.iter().map(|n| format!("{n}\n")).collect();
            stdin.write_all(text.as_bytes()).unwrap();
            // The last lines wait for the last broker: there are lines under way at every kill.
            while !trouble.is_finished() && step + 10 > STEPS {
                std::thread::sleep(STEP);
            }
            std::thread::sleep(STEP);
        }
        trouble.join().unwrap();
    });
    drop(stdin);
    let ran = support::finish(child);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let summary = format!("{{\"read\":{count},\"delivered\":{count},\"failed\":0,\"unknown\":0,");
    assert!(ran.summary().starts_with(&summary), "{ran:?}");

    let mut total = 0;
    let mut all = Vec::new();
    for partition in 0..PARTITIONS {
        let found: Vec<usize> =
            records(&cluster, &topic, partition, 1).iter().map(|record| value(record).parse().unwrap()).collect();
        assert!(found.is_sorted_by(|a, b| a < b), "{topic}-{partition}: {}", difference(&found, count));
        total += found.len();
        all.extend(found);
    }
    all.sort_unstable();
    assert!(total == count && all.iter().copied().eq(0..count), "{}", difference(&all, count));
    if has_kcat() {
        let mut last = BTreeMap::new();
        let mut all: Vec<usize> = Vec::new();
        for (partition, offset, line) in kcat(&cluster, &topic) {
            let number: usize = line.parse().unwrap();
            let before = last.insert(partition, (offset, number));
            assert!(before.is_none_or(|before| before.0 < offset && before.1 < number), "{partition} {offset} {line}");
            all.push(number);
        }
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..count), "kcat: {}", difference(&all, count));
    }
    eprintln!("{count} lines, {} brokers killed, {:.1?}", cluster.ids().count(), begin.elapsed());
}

/// Records are handled, and the process is killed before it has committed them: the next one gets all of them again.
#[test]
fn crash_after_handler_before_commit() {
    let cluster = RealCluster::shared().unwrap();
    let topic = topic(&cluster, "crash", PARTITIONS, &[]);
    fill(&cluster, &topic, 30);
    let group = unique("crash");
    let start = || {
        let settings = "--config session.timeout.ms=1000 --config heartbeat.interval.ms=200 \
                        --config auto.commit.interval.ms=600000";
        let mut command = program(&format!("consume {} --topic {topic} --group {group} {settings}", at(&cluster)));
        let mut child = command.args(["--format", "%p %o"]).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        (child, out)
    };
    let mut handled = Handled::default();
    let (mut child, mut out) = start();
    assert_eq!(handled.read(&mut out, 30, usize::MAX), 30);
    child.kill().unwrap();
    child.wait().unwrap();
    for partition in 0..PARTITIONS {
        let found = committed(&cluster, &group, &topic, partition).unwrap_or(0);
        assert_eq!(found, 0, "nothing was committed but where the group began");
    }
    let (child, mut out) = start();
    assert_eq!(handled.read(&mut out, 30, usize::MAX), 30);
    signal(child.id(), "TERM");
    assert_eq!(support::finish(child).code, Some(0));
    assert_eq!((handled.distinct(), handled.total()), (30, 60));
    let sum: i64 = (0..PARTITIONS).map(|partition| committed(&cluster, &group, &topic, partition).unwrap()).sum();
    assert_eq!(sum, 30);
}

/// What came out so far: how often each offset of each partition.
#[derive(Default)]
struct Handled(BTreeMap<i32, BTreeMap<i64, usize>>);

impl Handled {
    /// Reads lines at a slow pace until there are `more` of them or the program ends.
    fn read(&mut self, from: &mut impl BufRead, more: usize, step: usize) -> usize {
        let mut line = String::new();
        for read in 0..more {
            line.clear();
            // A line that kill -9 cut short was not handled.
            if from.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
                return read;
            }
            let mut words = line.split_whitespace();
            let (partition, offset) = (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap());
            *self.0.entry(partition).or_default().entry(offset).or_default() += 1;
            if read % step == step - 1 {
                std::thread::sleep(STEP);
            }
        }
        more
    }

    fn distinct(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    fn total(&self) -> usize {
        self.0.values().flat_map(BTreeMap::values).sum()
    }

    /// The lowest offset of a partition that did not come out.
    fn lowest_missing(&self, partition: i32) -> i64 {
        let Some(seen) = self.0.get(&partition) else { return 0 };
        (0..).find(|offset| !seen.contains_key(offset)).unwrap()
    }
}

/// The program reads a group's lines and is killed by kill -9 again and again, while each broker in turn is killed too.
/// Every line comes out at least once, and at no time is an offset committed above a line that has not come out.
#[test]
fn each_line_is_handled_and_no_offset_runs_ahead_while_the_consumer_is_killed() {
    lines_in(scaled(LINES) as usize);
}

#[test]
#[ignore = "long: a million lines"]
fn a_million_lines_are_handled_and_no_offset_runs_ahead_while_the_consumer_is_killed() {
    lines_in(MILLION);
}

fn lines_in(count: usize) {
    let cluster = RealCluster::shared_alone().unwrap();
    let topic = topic(&cluster, "lines-in", PARTITIONS, &[]);
    fill(&cluster, &topic, count);
    let group = unique("lines");
    let begin = Instant::now();
    let start = || -> (Child, BufReader<std::process::ChildStdout>) {
        let settings = "--config session.timeout.ms=2000 --config heartbeat.interval.ms=500 \
                        --config auto.commit.interval.ms=50";
        let mut command = program(&format!("consume {} --topic {topic} --group {group} {settings}", at(&cluster)));
        // Long lines: few of them fit into the pipe, so the program is never far ahead of who reads here.
        command.args(["--format", &format!("%p %o {}", "-".repeat(240))]).stderr(std::process::Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        (child, out)
    };
    let not_ahead = |handled: &Handled| {
        let mut sum = 0;
        for partition in 0..PARTITIONS {
            let committed = committed(&cluster, &group, &topic, partition).unwrap_or(0);
            let missing = handled.lowest_missing(partition);
            assert!(committed <= missing, "{topic}-{partition}: {committed} is committed, {missing} was not handled");
            sum += committed;
        }
        sum
    };
    let mut handled = Handled::default();
    let mut progress = Vec::new();
    std::thread::scope(|scope| {
        let trouble = scope.spawn(|| kill_each_broker(&cluster, &topic));
        for _ in 0..KILLS {
            let (mut child, mut out) = start();
            handled.read(&mut out, count / (KILLS + 2), count.div_ceil(STEPS));
            child.kill().unwrap();
            child.wait().unwrap();
            handled.read(&mut out, usize::MAX, usize::MAX);
            progress.push(not_ahead(&handled));
        }
        trouble.join().unwrap();
    });
    let (child, mut out) = start();
    while handled.distinct() < count {
        assert!(handled.read(&mut out, 1, usize::MAX) == 1, "it ended with {} of {count}", handled.distinct());
    }
    signal(child.id(), "TERM");
    handled.read(&mut out, usize::MAX, usize::MAX);
    assert_eq!(support::finish(child).code, Some(0));
    assert_eq!(not_ahead(&handled), i64::try_from(count).unwrap());
    assert!(progress.is_sorted() && progress.last() > Some(&0), "nothing was ever committed: {progress:?}");
    let twice = handled.total() - count;
    eprintln!("{count} lines, {KILLS} kills, {twice} handled again, {:.1?}", begin.elapsed());
}
