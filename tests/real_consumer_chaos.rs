//! Three processes share a group, 16 handlers at once in each, while they are killed, stopped and continued, added and
//! removed, and brokers are killed. Each record is handled; no committed offset is ever above a record that was not
//! handled, as the log of commits itself tells; and what is handled again was in the hands of a process that was killed or
//! stopped, and not committed.
//!
//! `INDELIBLE_SEED` chooses the same moments again; `scripts/consume-chaos` runs it with a million records.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "scenarios on a real cluster")]

mod real_support;

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indelible::Record;
use proto_tests::real::{RealCluster, scaled};
use real_support::commits::{self, Commit};
use real_support::log;
use real_support::spools::{Random, Scratch, seed};
use real_support::{client, committed, topic, unique, until, wait};

const PARTITIONS: i32 = 24;
const KEYS: usize = 997;
const WORKERS: usize = 16;
/// How many consumers there are at least, and at most.
const MEMBERS: (usize, usize) = (3, 5);
/// Records go in at this pace, so that there are some under way at every blow.
const PACE: u32 = 5000;
const COMMIT_INTERVAL: Duration = Duration::from_millis(500);
/// After what time a member counts as dead; for the new protocol it is the brokers' setting.
const SESSION: Duration = Duration::from_secs(6);
/// For how long, in milliseconds, a process that was stopped may go on before it hears that others have its partitions.
const LATE: i64 = 3000;
/// In the environment of a consumer that the trial starts: how it is set up.
const CHILD: &str = "INDELIBLE_CHAOS_CONSUMER";

/// How the members of the group agree.
#[derive(Clone, Copy, Debug)]
enum Agreement {
    Eager,
    Cooperative,
    Coordinator,
}

impl Agreement {
    fn properties(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Agreement::Eager => &[
                ("group.protocol", "classic"),
                ("partition.assignment.strategy", "range"),
                ("session.timeout.ms", "6000"),
                ("heartbeat.interval.ms", "500"),
            ],
            Agreement::Cooperative => &[
                ("group.protocol", "classic"),
                ("partition.assignment.strategy", "cooperative-sticky"),
                ("session.timeout.ms", "6000"),
                ("heartbeat.interval.ms", "500"),
            ],
            Agreement::Coordinator => &[("group.protocol", "consumer")],
        }
    }
}

#[test]
fn each_record_is_handled_while_a_cooperative_group_and_brokers_are_in_trouble() {
    chaos(Agreement::Cooperative, scaled(12));
}

#[test]
fn each_record_is_handled_while_a_group_of_the_new_protocol_and_brokers_are_in_trouble() {
    chaos(Agreement::Coordinator, scaled(12));
}

#[test]
#[ignore = "long: a million records"]
fn a_million_records_are_handled_by_a_cooperative_group() {
    chaos(Agreement::Cooperative, 1_000_000 / PACE);
}

#[test]
#[ignore = "long: a million records"]
fn a_million_records_are_handled_by_an_eager_group() {
    chaos(Agreement::Eager, 1_000_000 / PACE);
}

#[test]
#[ignore = "long: a million records"]
fn a_million_records_are_handled_by_a_group_of_the_new_protocol() {
    chaos(Agreement::Coordinator, 1_000_000 / PACE);
}

/// One of the processes of the trial; nothing without it.
#[test]
#[ignore = "long: the trial starts it"]
fn consumer_of_the_trial() {
    let Ok(given) = std::env::var(CHILD) else { return };
    let given: Vec<&str> = given.split('\n').collect();
    let [bootstrap, topic, group, out, seed, properties] = given[..] else { panic!("{given:?}") };
    log::Log(tracing::Level::DEBUG).start();
    let mut random = Random(seed.parse().unwrap());
    let out = File::options().create(true).append(true).open(out).unwrap();
    let properties: Vec<(&str, &str)> = properties.split(' ').map(|pair| pair.split_once('=').unwrap()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = indelible::Client::builder(bootstrap.split(',')).build().await.unwrap();
        let mut consumer = client
            .consumer(group)
            .topics([topic])
            .property("handler.order", "key")
            .property("handler.workers", &WORKERS.to_string())
            .commit_interval(COMMIT_INTERVAL)
            // A process that is told to end while no coordinator is there has to wait for one.
            .shutdown_timeout(Duration::from_secs(60));
        for (name, value) in properties {
            consumer = consumer.property(name, value);
        }
        let consumer = consumer.build().unwrap();
        let handle = consumer.handle();
        let ended = async move {
            let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
            term.recv().await;
            handle.shutdown();
            std::future::pending::<()>().await;
        };
        let handling = consumer.run(|delivery| {
            // Most are handled at once, some take a while, few take long.
            let pause = match random.between(0, 1000) {
                0 => random.millis(100, 400),
                1..=40 => random.millis(1, 10),
                _ => Duration::ZERO,
            };
            let out = &out;
            async move {
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                let line = format!("{} {} {}\n", millis(), delivery.partition(), delivery.offset());
                let mut out = out;
                out.write_all(line.as_bytes())
            }
        });
        tokio::select! {
            summary = handling => println!("{:?}", summary.unwrap()),
            () = ended => {}
        }
    });
}

fn millis() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// How a consumer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Running,
    /// By kill -9, at this time.
    Killed(i64),
    /// In good order.
    Ended,
}

/// One consumer from its start to its end.
struct Life {
    number: usize,
    child: Child,
    /// Stopped from when until when.
    stops: Vec<(i64, i64)>,
    end: End,
}

struct Trial<'a> {
    cluster: &'a RealCluster,
    topic: String,
    group: String,
    agreement: Agreement,
    scratch: Scratch,
    random: Random,
    lives: Vec<Life>,
    /// Stopped processes, and when they go on.
    stopped: Vec<(usize, Instant)>,
}

fn chaos(agreement: Agreement, seconds: u32) {
    let seed = seed();
    println!("INDELIBLE_SEED={seed} {agreement:?}, {seconds} s");
    let cluster = RealCluster::shared_alone().unwrap();
    let topic = topic(&cluster, "consumer-chaos", PARTITIONS, &[]);
    let mut trial = Trial {
        cluster: &cluster,
        group: unique("chaos"),
        topic: topic.clone(),
        agreement,
        scratch: Scratch::new("consumer-chaos"),
        random: Random(seed),
        lives: Vec::new(),
        stopped: Vec::new(),
    };
    let begin = Instant::now();
    let (over, blows) = (AtomicBool::new(false), AtomicU32::new(0));
    let outages = Mutex::new(Vec::new());
    (0..MEMBERS.0).for_each(|_| trial.start());
    std::thread::scope(|scope| {
        let feeding = scope.spawn(|| feed(&cluster, &topic, seconds));
        let brokers = scope.spawn(|| trouble_brokers(&cluster, Random(seed ^ 0x62), &over, &blows, &outages));
        while !feeding.is_finished() {
            trial.blow();
        }
        feeding.join().unwrap();
        trial.go_on(None);
        over.store(true, Ordering::Relaxed);
        brokers.join().unwrap();
    });
    cluster.start_all().unwrap();
    let ends = ends(&cluster, &topic);
    let count: i64 = ends.iter().sum();
    assert_eq!(count, i64::from(seconds * PACE));
    trial.until_all_is_committed(&ends);
    trial.end_all();
    let outages = outages.into_inner().unwrap();
    let told = Story::read(&trial).check(&trial, &ends, &outages);
    println!(
        "seed {seed}, {agreement:?}: {count} records handled, {} processes, {} blows at brokers, {told}, {:.0?}",
        trial.lives.len(),
        blows.into_inner(),
        begin.elapsed()
    );
}

/// Numbered records with keys, at a steady pace.
fn feed(cluster: &RealCluster, topic: &str, seconds: u32) {
    let client = client(cluster);
    wait(async {
        let producer = client.producer().property("delivery.timeout.ms", "300000").build().await.unwrap();
        let begin = Instant::now();
        let mut receipts = Vec::new();
        let steps = seconds * 20;
        for step in 0..steps {
            for n in 0..PACE / 20 {
                let number = step * (PACE / 20) + n;
                let (key, value) = (format!("k{}", number as usize % KEYS), number.to_string());
                receipts.push(producer.send(Record::to(topic).key(&key).value(&value)).await.unwrap());
            }
            let due = begin + Duration::from_millis(50) * (step + 1);
            tokio::time::sleep_until(due.into()).await;
        }
        for receipt in receipts {
            receipt.delivered().await.unwrap();
        }
    });
}

/// Kills a broker every few seconds, and starts it again.
fn trouble_brokers(
    cluster: &RealCluster,
    mut random: Random,
    over: &AtomicBool,
    blows: &AtomicU32,
    outages: &Mutex<Vec<(i64, i64)>>,
) {
    let pause = |long: Duration| {
        let begin = Instant::now();
        while begin.elapsed() < long && !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    loop {
        pause(random.millis(4000, 10_000));
        if over.load(Ordering::Relaxed) {
            return;
        }
        let broker = random.between(1, 4) as i32;
        let begin = millis();
        cluster.kill(broker).unwrap();
        blows.fetch_add(1, Ordering::Relaxed);
        pause(random.millis(500, 4000));
        cluster.start_broker(broker).unwrap();
        outages.lock().unwrap().push((begin, millis()));
    }
}

/// Where each partition ends.
fn ends(cluster: &RealCluster, topic: &str) -> Vec<i64> {
    cluster.wait_until_in_sync(topic).unwrap();
    let end = |partition| {
        until("the end of a partition", || {
            let leader = cluster.leader(topic, partition).map_err(|error| error.to_string())?;
            let mut raw = proto_tests::raw::RawClient::connect(cluster.address(leader)).map_err(|e| e.to_string())?;
            match raw.list_offset(topic, partition, -1).map_err(|error| error.to_string())? {
                (0, offset, _) => Ok(offset),
                (code, ..) => Err(format!("error {code}")),
            }
        })
    };
    (0..PARTITIONS).map(end).collect()
}

impl Trial<'_> {
    fn file(&self, life: usize) -> PathBuf {
        self.scratch.file(&format!("handled-{life}"))
    }

    fn start(&mut self) {
        let number = self.lives.len();
        let properties: Vec<String> =
            self.agreement.properties().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let given = [
            &self.cluster.bootstrap().join(","),
            &self.topic,
            &self.group,
            &self.file(number).display().to_string(),
            &self.random.next().to_string(),
            &properties.join(" "),
        ]
        .map(String::as_str)
        .join("\n");
        let told =
            File::options().create(true).append(true).open(self.scratch.file(&format!("told-{number}"))).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["consumer_of_the_trial", "--exact", "--ignored", "--nocapture"])
            .env(CHILD, given)
            .stdin(Stdio::null())
            .stdout(told.try_clone().unwrap())
            .stderr(told)
            .spawn()
            .unwrap();
        self.lives.push(Life { number, child, stops: Vec::new(), end: End::Running });
    }

    fn running(&self) -> Vec<usize> {
        (0..self.lives.len()).filter(|at| self.lives[*at].end == End::Running).collect()
    }

    /// Something happens to the members, after a while.
    fn blow(&mut self) {
        let next = Instant::now() + self.random.millis(300, 2500);
        while Instant::now() < next {
            self.go_on(Some(Instant::now()));
            std::thread::sleep(Duration::from_millis(10));
        }
        let running = self.running();
        let at = running[self.random.between(0, running.len() as u64) as usize];
        let is_stopped = self.stopped.iter().any(|(stopped, _)| *stopped == at);
        match self.random.between(0, 4) {
            0 => {
                let life = &mut self.lives[at];
                life.child.kill().unwrap();
                life.child.wait().unwrap();
                life.end = End::Killed(millis());
                self.stopped.retain(|(stopped, _)| *stopped != at);
            }
            1 if !is_stopped => {
                signal(&self.lives[at].child, "STOP");
                self.lives[at].stops.push((millis(), i64::MAX));
                // Half of the time for longer than the group waits.
                let session = SESSION.as_millis() as u64;
                let long = if self.random.one_in(2) { (200, 1500) } else { (session, session * 3 / 2) };
                self.stopped.push((at, Instant::now() + self.random.millis(long.0, long.1)));
            }
            2 if !is_stopped && running.len() > MEMBERS.0 => self.end_one(at),
            _ if running.len() < MEMBERS.1 => self.start(),
            _ if !is_stopped => self.end_one(at),
            _ => {}
        }
        while self.running().len() < MEMBERS.0 {
            self.start();
        }
    }

    /// Continues the processes whose stop is over at `now`; all of them without it.
    fn go_on(&mut self, now: Option<Instant>) {
        for (at, _) in self.stopped.extract_if(.., |(_, until)| now.is_none_or(|now| *until <= now)) {
            let life = &mut self.lives[at];
            signal(&life.child, "CONT");
            if let Some((_, to)) = life.stops.last_mut() {
                *to = millis();
            }
        }
    }

    fn end_one(&mut self, at: usize) {
        signal(&self.lives[at].child, "TERM");
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.lives[at].child.try_wait().unwrap() {
                break status;
            }
            assert!(begin.elapsed() < real_support::PATIENCE, "process {at} does not end: {}", self.told(at));
            std::thread::sleep(Duration::from_millis(10));
        };
        assert!(status.success(), "process {at}: {status}: {}", self.told(at));
        self.lives[at].end = End::Ended;
    }

    fn told(&self, life: usize) -> String {
        std::fs::read_to_string(self.scratch.file(&format!("told-{life}"))).unwrap_or_default()
    }

    fn end_all(&mut self) {
        self.running().into_iter().for_each(|at| self.end_one(at));
    }

    fn until_all_is_committed(&mut self, ends: &[i64]) {
        for at in self.running() {
            let ended = self.lives[at].child.try_wait().unwrap();
            assert!(ended.is_none(), "process {at} ended by itself: {}", self.told(at));
        }
        for (partition, end) in (0..).zip(ends) {
            until(&format!("all of partition {partition} to be committed"), || {
                let found = committed(self.cluster, &self.group, &self.topic, partition).unwrap_or(0);
                real_support::expect(found, *end)
            });
        }
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        for life in &mut self.lives {
            if life.end == End::Running {
                signal(&life.child, "CONT");
                let _ = life.child.kill();
                let _ = life.child.wait();
            }
        }
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// That a record was handled.
#[derive(Clone, Copy, Debug)]
struct Handling {
    at: i64,
    life: usize,
    offset: i64,
}

/// All that happened, by partition.
struct Story {
    /// In the order of time.
    handled: Vec<Vec<Handling>>,
    /// In the order of the log.
    commits: Vec<Vec<Commit>>,
}

impl Story {
    fn read(trial: &Trial<'_>) -> Story {
        let mut handled = vec![Vec::new(); PARTITIONS as usize];
        for life in &trial.lives {
            // A process that was killed before it wrote anything has no file.
            let text = std::fs::read_to_string(trial.file(life.number)).unwrap_or_default();
            for line in text.lines() {
                let words: Vec<i64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
                let [at, partition, offset] = words[..] else { panic!("{line}") };
                let partition = usize::try_from(partition).unwrap();
                handled[partition].push(Handling { at, life: life.number, offset });
            }
        }
        handled.iter_mut().for_each(|handled| handled.sort_by_key(|handling| handling.at));
        let mut commits = vec![Vec::new(); PARTITIONS as usize];
        for commit in commits::of(trial.cluster, &trial.group) {
            assert_eq!(commit.topic, trial.topic);
            commits[usize::try_from(commit.partition).unwrap()].push(commit);
        }
        Story { handled, commits }
    }

    /// Checks all of it; says what there was to see.
    fn check(&self, trial: &Trial<'_>, ends: &[i64], outages: &[(i64, i64)]) -> String {
        let mut wrong = Vec::new();
        let (mut repeated, mut late, mut commits, mut beyond) = (0, 0, 0, 0);
        let mut unfinished: HashMap<usize, usize> = HashMap::new();
        for (partition, end) in (0..).zip(ends) {
            let handled = &self.handled[partition];
            let mut first: Vec<Option<i64>> = vec![None; usize::try_from(*end).unwrap()];
            for handling in handled {
                first[usize::try_from(handling.offset).unwrap()].get_or_insert(handling.at);
            }
            let missing: Vec<usize> = (0..first.len()).filter(|offset| first[*offset].is_none()).collect();
            if !missing.is_empty() {
                wrong.push(format!(
                    "{partition}: {} were never handled: {:?}",
                    missing.len(),
                    &missing[..missing.len().min(9)]
                ));
                continue;
            }
            let first: Vec<i64> = first.into_iter().flatten().collect();
            // The time at which all below an offset were handled.
            let mut all_by = vec![0; first.len() + 1];
            for offset in 0..first.len() {
                all_by[offset + 1] = all_by[offset].max(first[offset]);
            }
            let last = self.commits[partition].last().map(|commit| commit.offset);
            if last != Some(*end) {
                wrong.push(format!("{partition}: the last commit in the log is {last:?}, and not {end}"));
            }
            for commit in &self.commits[partition] {
                commits += 1;
                let offset = usize::try_from(commit.offset).unwrap();
                if all_by[offset] > commit.at {
                    wrong.push(format!(
                        "{partition}: {offset} committed at {}, not handled before {}",
                        commit.at, all_by[offset]
                    ));
                }
                for range in commit.done() {
                    beyond += range.end - range.start;
                    for done in range {
                        let at = first.get(usize::try_from(done).unwrap()).copied().unwrap_or(i64::MAX);
                        if at > commit.at {
                            wrong.push(format!(
                                "{partition}: {done} is named as handled at {}, and was not before {at}",
                                commit.at
                            ));
                        }
                    }
                }
            }
            let covered = Covered::new(&self.commits[partition], first.len());
            let mut last: HashMap<i64, Handling> = HashMap::new();
            for handling in handled {
                // A process that was stopped goes on with what is in its hands before it hears that it has lost it.
                let stops = &trial.lives[handling.life].stops;
                let is_late =
                    stops.iter().any(|(from, to)| *from <= handling.at && handling.at <= to.saturating_add(LATE));
                let Some(before) = last.insert(handling.offset, *handling) else { continue };
                repeated += 1;
                if is_late {
                    late += 1;
                    continue;
                }
                // Whoever has it again must have been given it by one who could not finish it.
                let former = &trial.lives[before.life];
                if former.end == End::Ended && former.stops.is_empty() && before.life != handling.life {
                    wrong.push(format!(
                        "{partition}: {handling:?} again, after a process that ended in good order: {before:?}"
                    ));
                }
                let committed = covered.at(handling.offset);
                if committed.is_some_and(|at| at < handling.at) {
                    wrong.push(format!(
                        "{partition}: {handling:?} again, although committed at {committed:?}; before: {before:?}"
                    ));
                }
            }
            // What a process that was killed had handled and nobody knew of.
            for handling in handled {
                if let End::Killed(at) = trial.lives[handling.life].end
                    && covered.at(handling.offset).is_none_or(|covered| covered > at)
                {
                    *unfinished.entry(handling.life).or_default() += 1;
                }
            }
        }
        let bound = self.check_bound(trial, &unfinished, outages, &mut wrong);
        if !wrong.is_empty() {
            let kept = trial.scratch.path().display();
            panic!("{} faults: {:#?}; see {kept}", wrong.len(), &wrong[..wrong.len().min(20)]);
        }
        format!(
            "{repeated} handled again ({late} of them by stopped processes that came too late), {commits} commits that name \
             {beyond} beyond their offset, {bound}"
        )
    }

    /// A process that was killed had handled no more without a commit than it handles within the commit interval, and what
    /// was in its hands; but for those whose coordinator was away at that time.
    fn check_bound(
        &self,
        trial: &Trial<'_>,
        unfinished: &HashMap<usize, usize>,
        outages: &[(i64, i64)],
        wrong: &mut Vec<String>,
    ) -> String {
        /// A commit and its answer, on a machine that does other things beside.
        const SLACK: i64 = 1500;
        let window = COMMIT_INTERVAL.as_millis() as i64 + SLACK;
        let mut of_life: HashMap<usize, Vec<i64>> = HashMap::new();
        for handling in self.handled.iter().flatten() {
            of_life.entry(handling.life).or_default().push(handling.at);
        }
        let (mut killed, mut most) = (0, 0);
        for life in &trial.lives {
            let End::Killed(at) = life.end else { continue };
            killed += 1;
            let count = unfinished.get(&life.number).copied().unwrap_or(0);
            most = most.max(count);
            let mut times = of_life.remove(&life.number).unwrap_or_default();
            times.sort_unstable();
            // Most records within any window.
            let (mut from, mut bound) = (0, 0);
            for to in 0..times.len() {
                while times[to] - times[from] > window {
                    from += 1;
                }
                bound = bound.max(to + 1 - from);
            }
            let away = |(from, to): &(i64, i64)| *from <= at && at - SESSION.as_millis() as i64 * 2 <= *to;
            let stopped = life.stops.iter().any(|(_, to)| at.saturating_sub(*to) < 5000);
            if count > bound + WORKERS && !outages.iter().any(away) && !stopped {
                wrong.push(format!(
                    "process {}: {count} handled and not committed when it was killed; the bound is {bound}",
                    life.number
                ));
            }
        }
        format!("{killed} processes killed with at most {most} handled and not committed")
    }
}

/// Since when each offset is covered by a commit.
struct Covered(Vec<Option<i64>>);

impl Covered {
    fn new(commits: &[Commit], count: usize) -> Covered {
        let mut since = vec![None; count];
        let mut below = 0;
        for commit in commits {
            let offset = usize::try_from(commit.offset).unwrap().min(count);
            for since in &mut since[below.min(offset)..offset] {
                *since = since.or(Some(commit.at));
            }
            below = below.max(offset);
            for done in commit.done().into_iter().flatten() {
                if let Some(since) = usize::try_from(done).ok().and_then(|done| since.get_mut(done)) {
                    *since = since.or(Some(commit.at));
                }
            }
        }
        Covered(since)
    }

    fn at(&self, offset: i64) -> Option<i64> {
        self.0.get(usize::try_from(offset).unwrap()).copied().flatten()
    }
}
