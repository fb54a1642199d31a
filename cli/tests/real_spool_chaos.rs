//! Numbered lines through `indelible produce --spool --resume`, while the program is killed every moment and the brokers,
//! one and then all at once, every few seconds. At the end each line is in the topic once, and those of a key are in order.
//!
//! `scripts/spool-chaos` runs this for as long as one likes. `INDELIBLE_SEED` chooses the same moments again; what happens
//! in them is up to the machine.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "scenarios on a real cluster")]

#[path = "../../tests/real_support/mod.rs"]
mod real_support;
mod support;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use proto_tests::real::{RealCluster, RealConfig, scaled};
use real_support::spools::{Random, Scratch, seed};
use real_support::{has_kcat, records, topic, value};
use support::program;

const PARTITIONS: i32 = 6;
const KEYS: usize = 997;
/// Lines have one length, so that none is ever half there: a page of the file holds a whole number of them.
const LINE: usize = 64;
/// How long brokers remember a producer in the trial of that.
const EXPIRATION: Duration = Duration::from_secs(8);
/// How long requests wait for their answers there: short enough for some batches to be young, as docs/spool.md says.
const SHORT_REQUESTS: Duration = Duration::from_secs(2);
/// From when a batch was made that is there twice, so much is told of what its partition saw, in milliseconds.
const HISTORY: i64 = 40_000;
/// How long the last run may take, with all brokers there.
const LAST_RUN: Duration = Duration::from_secs(300);

/// What to do.
struct Plan {
    seed: u64,
    long: Duration,
    /// Between two blows at the brokers.
    every: Duration,
    /// Producers are forgotten quickly, and outages are longer than that.
    expire: bool,
}

#[test]
fn each_line_once_while_producer_and_brokers_are_killed() {
    let long = Duration::from_secs(scaled(12).into());
    chaos(&Plan { seed: seed(), long, every: Duration::from_secs(5), expire: false });
}

#[test]
fn each_line_once_while_producer_ids_expire() {
    let long = Duration::from_secs(scaled(12).into());
    chaos(&Plan { seed: seed(), long, every: Duration::from_secs(6), expire: true });
}

#[test]
#[ignore = "long: INDELIBLE_CHAOS_MINUTES, 10 by default"]
fn long_each_line_once_while_producer_and_brokers_are_killed() {
    chaos(&Plan { seed: seed(), long: minutes(), every: Duration::from_secs(10), expire: false });
}

#[test]
#[ignore = "long: INDELIBLE_CHAOS_MINUTES, 10 by default"]
fn long_each_line_once_while_producer_ids_expire() {
    chaos(&Plan { seed: seed(), long: minutes(), every: Duration::from_secs(10), expire: true });
}

fn minutes() -> Duration {
    let minutes = std::env::var("INDELIBLE_CHAOS_MINUTES").ok().and_then(|text| text.parse::<f64>().ok());
    Duration::from_secs_f64(minutes.unwrap_or(10.0) * 60.0)
}

fn chaos(plan: &Plan) {
    println!("INDELIBLE_SEED={} {:?}, producer ids expire: {}", plan.seed, plan.long, plan.expire);
    // Started by the first of them, and used by both: one after the other.
    let (own, shared);
    let cluster: &RealCluster = if plan.expire {
        let config = RealConfig::default()
            .config("producer.id.expiration.ms", &EXPIRATION.as_millis().to_string())
            .config("producer.id.expiration.check.interval.ms", "500");
        own = RealCluster::start(config).unwrap();
        &own
    } else {
        shared = RealCluster::shared_alone().unwrap();
        &shared
    };
    let topic = topic(cluster, "spool-chaos", PARTITIONS, &[]);
    let mut feed = Feed::new(cluster, &topic, plan);
    let over = AtomicBool::new(false);
    let blows = AtomicU32::new(0);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let trouble = scope.spawn(|| trouble(cluster, plan, &over, &blows));
        while begin.elapsed() < plan.long && !trouble.is_finished() {
            feed.one_life(plan);
        }
        over.store(true, Ordering::Relaxed);
        trouble.join().unwrap();
    });
    cluster.start_all().unwrap();
    feed.last_life();
    let lines = check(cluster, &topic, &feed);
    println!(
        "seed {}: {lines} lines each once, {} kills of the producer ({} runs came to their end before), {} kills of \
         brokers, {:.0?}",
        plan.seed,
        feed.kills,
        feed.ended,
        blows.into_inner(),
        begin.elapsed()
    );
    assert!(feed.kills > 0, "the producer was never killed");
}

/// Kills one broker, or all of them, by turns, and starts them again.
fn trouble(cluster: &RealCluster, plan: &Plan, over: &AtomicBool, blows: &AtomicU32) {
    let mut random = Random(plan.seed ^ 0x6272_6f6b_6572);
    let pause = |long: Duration| {
        let begin = Instant::now();
        while begin.elapsed() < long && !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    for round in 1.. {
        pause(plan.every / 2 + random.millis(0, plan.every.as_millis() as u64));
        if over.load(Ordering::Relaxed) {
            return;
        }
        let long = EXPIRATION.as_millis() as u64;
        let outage =
            if plan.expire && random.one_in(2) { random.millis(long, 2 * long) } else { random.millis(300, 3000) };
        if round % 2 == 0 {
            cluster.kill_all().unwrap();
            println!("{} all brokers were killed for {outage:?}", unix_millis());
            blows.fetch_add(cluster.ids().count() as u32, Ordering::Relaxed);
        } else {
            let broker = random.between(1, 4) as i32;
            cluster.kill(broker).unwrap();
            println!("{} broker {broker} was killed for {outage:?}", unix_millis());
            blows.fetch_add(1, Ordering::Relaxed);
        }
        pause(outage);
        println!("{} brokers are started", unix_millis());
        cluster.start_all().unwrap();
    }
}

fn unix_millis() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()
}

/// The file, and the program that reads it.
struct Feed {
    random: Random,
    scratch: Scratch,
    file: File,
    path: PathBuf,
    /// How many are in the file.
    lines: usize,
    /// How many are added for a run: as many as it takes for the kill to come before the end.
    step: usize,
    command: String,
    runs: u32,
    kills: u32,
    ended: u32,
}

impl Feed {
    fn new(cluster: &RealCluster, topic: &str, plan: &Plan) -> Feed {
        let random = Random(plan.seed);
        let request_timeout = if plan.expire { SHORT_REQUESTS } else { Duration::from_secs(5) };
        let scratch = Scratch::new("spool-chaos");
        let path = scratch.file("lines");
        let command = format!(
            "produce -b {} -t {topic} --spool {} --resume --file {} -K : -X spool.segment.bytes=1048576 \
             -X spool.max.bytes=33554432 -X spool.rescan.ms=1000 -X request.timeout.ms={}",
            cluster.bootstrap().join(","),
            scratch.spool().display(),
            path.display(),
            request_timeout.as_millis()
        );
        let file = File::options().create(true).append(true).open(&path).unwrap();
        Feed { random, scratch, file, path, lines: 0, step: 2000, command, runs: 0, kills: 0, ended: 0 }
    }

    fn grow(&mut self) {
        let mut text = Vec::with_capacity(self.step * LINE);
        for number in self.lines..self.lines + self.step {
            let mut line = format!("k{}:{number} ", number % KEYS);
            line.extend(std::iter::repeat_n('.', LINE - 1 - line.len()));
            line.push('\n');
            text.extend_from_slice(line.as_bytes());
        }
        self.file.write_all(&text).unwrap();
        self.lines += self.step;
    }

    /// Starts the program, each time with other batches.
    fn start(&mut self, whole: bool) -> Child {
        let random = &mut self.random;
        let mut line = self.command.clone();
        line += &format!(" -X batch.size={}", [150, 600, 2000, 16384][random.between(0, 4) as usize]);
        line += [" --linger-ms 0", " --linger-ms 5", " --linger-ms 50"][random.between(0, 3) as usize];
        line += ["", "", " -z lz4", " -z zstd"][random.between(0, 4) as usize];
        line += ["", "", " --durability process-crash"][random.between(0, 3) as usize];
        if !whole && random.one_in(8) {
            line += " --no-wait";
        }
        self.runs += 1;
        let err = File::create(self.log(self.runs)).unwrap();
        program(&line)
            .env("INDELIBLE_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(err)
            .spawn()
            .unwrap()
    }

    /// One run, killed after 0.2 to 2 seconds unless it ends before. Where producers are forgotten some live long enough to
    /// find out what became of old batches.
    fn one_life(&mut self, plan: &Plan) {
        self.grow();
        let mut child = self.start(false);
        let limit = match plan.expire && self.random.one_in(3) {
            true => self.random.millis(3000, 6000),
            false => self.random.millis(200, 2000),
        };
        let begin = Instant::now();
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if begin.elapsed() >= limit {
                break None;
            }
            std::thread::sleep(Duration::from_millis(3));
        };
        match ended {
            Some(status) => {
                assert!(status.success(), "{status}: {}", self.told());
                self.ended += 1;
                self.step = (self.step * 2).min(40_000);
            }
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                let mut log = File::options().append(true).open(self.log(self.runs)).unwrap();
                writeln!(log, "{} the program was killed", unix_millis()).unwrap();
                self.kills += 1;
                self.step = (self.step * 4 / 5).max(500);
            }
        }
        // The producer is away for longer than brokers remember it.
        if plan.expire && self.random.one_in(6) {
            std::thread::sleep(EXPIRATION + self.random.millis(500, 2000));
        }
    }

    fn last_life(&mut self) {
        let mut child = self.start(true);
        let begin = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if begin.elapsed() > LAST_RUN {
                child.kill().unwrap();
                let left = real_support::spools::left(&self.scratch.spool());
                panic!("not delivered within {LAST_RUN:?}, left are {left:?}: {}", self.told());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let output = child.wait_with_output().unwrap();
        let summary = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}: {summary} {}", output.status, self.told());
        assert_eq!(real_support::spools::left(&self.scratch.spool()), real_support::spools::Left::default());
        let length = std::fs::metadata(&self.path).unwrap().len();
        assert_eq!(length, (self.lines * LINE) as u64);
    }

    /// What a run said of itself.
    fn log(&self, run: u32) -> PathBuf {
        self.scratch.file(&format!("log-{run:04}"))
    }

    /// What all runs said of a partition in these Unix milliseconds, and of what brokers are like.
    fn history(&self, partition: &str, when: std::ops::Range<i64>) -> Vec<String> {
        let mut lines = Vec::new();
        for run in 1..=self.runs {
            let all = std::fs::read_to_string(self.log(run)).unwrap_or_default();
            let of_it = |line: &&str| !line.contains("partition=") || line.contains(&format!("partition={partition} "));
            let then = |line: &&str| {
                line.split(' ').next().and_then(|time| time.parse().ok()).is_some_and(|time: i64| when.contains(&time))
            };
            lines.extend(all.lines().filter(then).filter(of_it).map(|line| format!("{run}: {line}")));
        }
        lines
    }

    /// The last words of the program.
    fn told(&self) -> String {
        let all = std::fs::read_to_string(self.log(self.runs)).unwrap_or_default();
        let lines: Vec<_> = all.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// What was found so far.
struct Found {
    times: Vec<u8>,
    /// The last line of each key, and its partition.
    last: HashMap<usize, (usize, i32)>,
    wrong: Vec<String>,
    /// Partition and number of lines that are there more than once.
    again: BTreeSet<(i32, usize)>,
}

impl Found {
    fn line(&mut self, partition: i32, offset: i64, key: &str, text: &str) {
        let number: usize = text.split_whitespace().next().unwrap().parse().unwrap();
        let place = || format!("{partition}@{offset}: line {number}");
        let Some(times) = self.times.get_mut(number) else {
            self.wrong.push(format!("{} was never written", place()));
            return;
        };
        *times = times.saturating_add(1);
        if *times > 1 {
            self.wrong.push(format!("{} is there again", place()));
            self.again.insert((partition, number));
        }
        if key != format!("k{}", number % KEYS) {
            self.wrong.push(format!("{} has key {key}", place()));
        }
        match self.last.insert(number % KEYS, (number, partition)) {
            Some((before, _)) if before >= number => self.wrong.push(format!("{} comes after {before}", place())),
            Some((before, other)) if other != partition => {
                self.wrong.push(format!("{}: its key was in {other} with {before}", place()));
            }
            _ => {}
        }
    }
}

/// Reads the topic to its end, by kcat where it is there, and says how many lines were found.
fn check(cluster: &RealCluster, topic: &str, feed: &Feed) -> usize {
    let count = feed.lines;
    let mut found = Found { times: vec![0; count], last: HashMap::new(), wrong: Vec::new(), again: BTreeSet::new() };
    cluster.wait_until_in_sync(topic).unwrap();
    if has_kcat() {
        let mut kcat = Command::new("kcat")
            .args([
                "-C",
                "-q",
                "-e",
                "-o",
                "beginning",
                "-X",
                "check.crcs=true",
                "-f",
                "%p %o %k %s\\n",
                "-t",
                topic,
                "-b",
            ])
            .arg(cluster.bootstrap().join(","))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        for line in BufReader::new(kcat.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            found.line(words[0].parse().unwrap(), words[1].parse().unwrap(), words[2], words[3]);
        }
        assert!(kcat.wait().unwrap().success());
    } else {
        for partition in 0..PARTITIONS {
            for record in records(cluster, topic, partition, 0) {
                let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
                found.line(partition, record.offset, &key, &value(&record));
            }
        }
    }
    let missing: Vec<_> = (0..count).filter(|n| found.times[*n] == 0).collect();
    if !missing.is_empty() {
        found.wrong.push(format!(
            "{} of {count} lines are missing: {:?}",
            missing.len(),
            &missing[..missing.len().min(20)]
        ));
    }
    tell_of_repetitions(cluster, topic, feed, &found.again);
    assert!(found.wrong.is_empty(), "{} faults: {:#?}", found.wrong.len(), &found.wrong[..found.wrong.len().min(20)]);
    count
}

/// Under which identities, and when, the first few of the repeated lines were written; and what the program said of their
/// partitions from then on.
fn tell_of_repetitions(cluster: &RealCluster, topic: &str, feed: &Feed, again: &BTreeSet<(i32, usize)>) {
    for partition in again.iter().map(|(partition, _)| *partition).collect::<BTreeSet<_>>() {
        let mut times = BTreeSet::new();
        for record in records(cluster, topic, partition, 1) {
            let text = value(&record);
            let number: usize = text.split_whitespace().next().unwrap().parse().unwrap();
            if again.iter().take(40).any(|line| *line == (partition, number)) {
                let (id, epoch, sequence) = (record.producer_id, record.producer_epoch, record.sequence);
                let (offset, time) = (record.offset, record.timestamp);
                println!("{partition}@{offset}: line {number} by {id}/{epoch}:{sequence}, time {time}");
                times.insert(time);
            }
        }
        let Some(first) = times.first() else { continue };
        feed.history(&format!("{topic}-{partition}"), *first..first + HISTORY)
            .iter()
            .for_each(|line| println!("{line}"));
    }
}
