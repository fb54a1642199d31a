//! Groups on a real cluster whose members are ours and others': Java's consumer with each assignor and with KIP-848, and
//! kcat (librdkafka). Each partition has one reader at a time, each record is handled once in rebalances that go in order,
//! and all of it is committed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "scenarios on a real cluster")]

mod real_support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indelible::{Client, ConsumeError, ConsumerBuilder, ConsumerHandle, Record, Summary};
use proto_tests::real::RealCluster;
use real_support::{client, committed, expect, has_kcat, topic, unique, until, wait};

const PARTITIONS: i32 = 6;
const ASSIGNORS: [(&str, &str); 4] = [
    ("range", "RangeAssignor"),
    ("roundrobin", "RoundRobinAssignor"),
    ("sticky", "StickyAssignor"),
    ("cooperative-sticky", "CooperativeStickyAssignor"),
];

type Place = (i32, i64);

/// How the members of a group agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agree {
    Classic(&'static str, &'static str),
    Next,
}

impl Agree {
    /// Settings for Java's consumer.
    fn java(self) -> String {
        match self {
            Agree::Next => "group.protocol=consumer".to_owned(),
            Agree::Classic(_, class) => format!(
                "partition.assignment.strategy=org.apache.kafka.clients.consumer.{class} session.timeout.ms=10000 \
                 heartbeat.interval.ms=300"
            ),
        }
    }

    fn ours(self, client: &Client, group: &str, topic: &str) -> ConsumerBuilder {
        let builder = client.consumer(group).topics([topic]).commit_interval(Duration::from_millis(50));
        match self {
            Agree::Next => builder.property("group.protocol", "consumer"),
            Agree::Classic(name, _) => builder
                .property("partition.assignment.strategy", name)
                .property("session.timeout.ms", "10000")
                .property("heartbeat.interval.ms", "300"),
        }
    }
}

/// A member, whoever wrote it.
trait Member {
    fn records(&self) -> Vec<Place>;
    /// Stops it in order.
    fn stop(&mut self);
}

/// A member of ours on a thread of its own. It notes how long records waited for their handlers.
struct Ours {
    handle: ConsumerHandle,
    seen: Arc<Mutex<Vec<(Place, u64)>>>,
    thread: Option<JoinHandle<Result<Summary, ConsumeError>>>,
}

impl Ours {
    fn start(builder: ConsumerBuilder) -> Ours {
        let consumer = builder.build().unwrap();
        let (handle, seen) = (consumer.handle(), Arc::<Mutex<Vec<(Place, u64)>>>::default());
        let noting = seen.clone();
        let run = move || {
            wait(consumer.run(move |delivery| {
                let waited = now_ms().saturating_sub(u64::try_from(delivery.timestamp()).unwrap());
                noting.lock().unwrap().push(((delivery.partition(), delivery.offset()), waited));
                async { Ok::<(), std::io::Error>(()) }
            }))
        };
        Ours { handle, seen, thread: Some(std::thread::spawn(run)) }
    }
}

impl Member for Ours {
    fn records(&self) -> Vec<Place> {
        self.seen.lock().unwrap().iter().map(|(place, _)| *place).collect()
    }

    fn stop(&mut self) {
        self.handle.shutdown();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

/// Another program, and what it has printed.
struct Program {
    child: Child,
    input: Mutex<Option<ChildStdin>>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Program {
    fn start(command: &mut Command) -> Program {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (output, noting) = (child.stdout.take().unwrap(), lines.clone());
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).for_each(|line| noting.lock().unwrap().push(line));
        });
        let input = Mutex::new(child.stdin.take());
        Program { child, input, lines }
    }

    /// Java with `tests/java/Members.java`.
    fn java(cluster: &RealCluster) -> Arc<Program> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let jars = Command::new(root.join("scripts/kafka")).arg("jars").output().unwrap();
        assert!(jars.status.success(), "{jars:?}");
        let jars = String::from_utf8(jars.stdout).unwrap();
        let java =
            std::env::var("JAVA_HOME").map_or_else(|_| PathBuf::from("java"), |home| Path::new(&home).join("bin/java"));
        let mut command = Command::new(java);
        command
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg("-cp")
            .arg(format!("{}/*", jars.trim()))
            .arg(root.join("tests/java/Members.java"));
        Arc::new(Program::start(command.arg(cluster.bootstrap().join(","))))
    }

    fn say(&self, line: &str) {
        let mut input = self.input.lock().unwrap();
        let input = input.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
        input.flush().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.input.lock().unwrap().take();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A member in the Java program.
struct Java {
    program: Arc<Program>,
    name: String,
}

impl Java {
    /// `pause` is what it sleeps between two polls, in milliseconds.
    fn start(program: &Arc<Program>, agree: Agree, group: &str, topic: &str, pause: u32) -> Java {
        let name = format!("java-of-{group}");
        program.say(&format!("start {name} {group} {topic} {pause} {}", agree.java()));
        Java { program: program.clone(), name }
    }

    fn lines(&self, kind: &str) -> Vec<String> {
        let head = format!("{} {kind}", self.name);
        let lines = self.program.lines.lock().unwrap();
        lines.iter().filter_map(|line| line.strip_prefix(&head).map(str::to_owned)).collect()
    }

    fn owns(&self) -> usize {
        self.lines("owns").last().map_or(0, |last| last.split_whitespace().count())
    }
}

impl Member for Java {
    fn records(&self) -> Vec<Place> {
        assert!(self.lines("failed").is_empty(), "Java's member failed");
        self.lines("record ").iter().map(|line| place(line)).collect()
    }

    fn stop(&mut self) {
        self.program.say(&format!("stop {}", self.name));
        until("Java to leave", || expect(self.lines("left").len(), 1));
    }
}

struct Kcat(Program);

impl Kcat {
    fn start(cluster: &RealCluster, group: &str, topic: &str) -> Kcat {
        let mut command = Command::new("kcat");
        command.args(["-G", group, "-u", "-q", "-f", "%p %o\\n", "-X", "partition.assignment.strategy=range"]);
        command.args(["-X", "auto.offset.reset=earliest", "-X", "heartbeat.interval.ms=300"]);
        command.args(["-X", "session.timeout.ms=10000", "-b", &cluster.bootstrap().join(","), topic]);
        Kcat(Program::start(command.stderr(Stdio::null())))
    }
}

impl Member for Kcat {
    fn records(&self) -> Vec<Place> {
        self.0.lines.lock().unwrap().iter().map(|line| place(line)).collect()
    }

    fn stop(&mut self) {
        // It commits and leaves.
        assert!(Command::new("kill").arg(self.0.child.id().to_string()).status().unwrap().success());
        self.0.child.wait().unwrap();
    }
}

fn place(line: &str) -> Place {
    let (partition, offset) = line.split_once(' ').unwrap();
    (partition.parse().unwrap(), offset.parse().unwrap())
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Writes `count` records to each partition.
fn fill(client: &Client, topic: &str, count: usize) {
    wait(async {
        let producer = client.producer().build().await.unwrap();
        let mut receipts = Vec::new();
        for n in 0..count {
            for partition in 0..PARTITIONS {
                let value = n.to_string();
                receipts.push(producer.send(Record::to(topic).partition(partition).value(&value)).await.unwrap());
            }
        }
        for receipt in receipts {
            receipt.delivered().await.unwrap();
        }
    });
}

/// A story of two members that share a topic.
struct Story<'a> {
    cluster: &'a RealCluster,
    client: &'a Client,
    what: String,
    topic: String,
    group: String,
    written: usize,
}

impl<'a> Story<'a> {
    fn new(cluster: &'a RealCluster, client: &'a Client, what: String) -> Story<'a> {
        let name = unique(&what);
        Story { cluster, client, what, topic: topic(cluster, &name, PARTITIONS, &[]), group: name, written: 0 }
    }

    /// Writes to each partition, waits until all is handled, and tells whose partitions they were.
    fn round(&mut self, count: usize, members: &[&dyn Member]) -> Vec<BTreeSet<i32>> {
        let before: Vec<usize> = members.iter().map(|member| member.records().len()).collect();
        fill(self.client, &self.topic, count);
        self.written += count;
        self.until_handled(members);
        let of = |(member, before): (&&dyn Member, usize)| {
            member.records().into_iter().skip(before).map(|(partition, _)| partition).collect()
        };
        members.iter().zip(before).map(of).collect()
    }

    fn until_handled(&self, members: &[&dyn Member]) {
        let all = self.written * usize::try_from(PARTITIONS).unwrap();
        let places = || members.iter().flat_map(|member| member.records()).collect::<BTreeSet<_>>().len();
        until(&format!("{}: {all} records handled", self.what), || expect(places(), all));
    }

    /// The second comes when the first has all, both share, the second goes again.
    fn tell(&mut self, mut first: Box<dyn Member + 'a>, second: impl FnOnce(&Self) -> Box<dyn Member + 'a>) {
        let alone = self.round(10, &[&*first]);
        assert_eq!(alone, [(0..PARTITIONS).collect::<BTreeSet<_>>()], "{}", self.what);
        let mut second = second(self);
        let half = usize::try_from(PARTITIONS).unwrap() / 2;
        until(&format!("{}: both to share", self.what), || {
            let shares = self.round(1, &[&*first, &*second]);
            expect(shares.iter().map(BTreeSet::len).collect::<Vec<_>>(), vec![half, half]).map(drop)
        });
        let shares = self.round(10, &[&*first, &*second]);
        assert!(shares[0].is_disjoint(&shares[1]), "{}: {shares:?}", self.what);
        assert_eq!(shares.iter().map(BTreeSet::len).collect::<Vec<_>>(), [half, half], "{}", self.what);
        second.stop();
        self.round(10, &[&*first, &*second]);
        first.stop();
        let mut times: BTreeMap<Place, usize> = BTreeMap::new();
        for place in first.records().into_iter().chain(second.records()) {
            *times.entry(place).or_default() += 1;
        }
        let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "{}: handled more than once: {twice:?}", self.what);
        for partition in 0..PARTITIONS {
            let end = i64::try_from(self.written).unwrap();
            assert_eq!(committed(self.cluster, &self.group, &self.topic, partition), Some(end), "{}", self.what);
        }
    }
}

fn with_java(cluster: &RealCluster, client: &Client, program: &Arc<Program>, agree: Agree, java_first: bool) {
    let what = match agree {
        Agree::Next => format!("next-java-first-{java_first}"),
        Agree::Classic(name, _) => format!("{name}-java-first-{java_first}"),
    };
    let mut story = Story::new(cluster, client, what);
    let java =
        |story: &Story<'_>| -> Box<dyn Member> { Box::new(Java::start(program, agree, &story.group, &story.topic, 0)) };
    let ours = |story: &Story<'_>| -> Box<dyn Member> {
        Box::new(Ours::start(agree.ours(client, &story.group, &story.topic)))
    };
    if java_first {
        let first = java(&story);
        story.tell(first, ours);
    } else {
        let first = ours(&story);
        story.tell(first, java);
    }
}

/// The first member leads: it computes the assignment in one half of the stories with our code, in the other with Java's.
#[test]
fn classic_groups_with_java() {
    let cluster = RealCluster::shared().unwrap();
    let client = client(&cluster);
    let program = Program::java(&cluster);
    std::thread::scope(|scope| {
        for (name, class) in ASSIGNORS {
            for java_first in [true, false] {
                let (cluster, client, program) = (&*cluster, &client, &program);
                scope.spawn(move || with_java(cluster, client, program, Agree::Classic(name, class), java_first));
            }
        }
    });
}

#[test]
fn next_generation_groups_with_java() {
    let cluster = RealCluster::shared().unwrap();
    let client = client(&cluster);
    let program = Program::java(&cluster);
    std::thread::scope(|scope| {
        for java_first in [true, false] {
            let (cluster, client, program) = (&*cluster, &client, &program);
            scope.spawn(move || with_java(cluster, client, program, Agree::Next, java_first));
        }
    });
}

/// A service is rolled over from the classic protocol to the new one, and back: the coordinator carries the group over
/// while members of both are in it.
#[test]
fn members_of_both_protocols_in_one_group() {
    let cluster = RealCluster::shared().unwrap();
    let client = client(&cluster);
    let cooperative = Agree::Classic("cooperative-sticky", "CooperativeStickyAssignor");
    let range = Agree::Classic("range", "RangeAssignor");
    let pairs = [(range, Agree::Next), (cooperative, Agree::Next), (Agree::Next, range), (Agree::Next, cooperative)];
    std::thread::scope(|scope| {
        for (number, (first, second)) in pairs.into_iter().enumerate() {
            let (cluster, client) = (&*cluster, &client);
            scope.spawn(move || {
                let mut story = Story::new(cluster, client, format!("carried-over-{number}"));
                let start = |story: &Story<'_>, agree: Agree| -> Box<dyn Member> {
                    Box::new(Ours::start(agree.ours(client, &story.group, &story.topic)))
                };
                let member = start(&story, first);
                story.tell(member, |story| start(story, second));
            });
        }
    });
}

#[test]
fn classic_groups_with_kcat() {
    if !has_kcat() {
        return;
    }
    let cluster = RealCluster::shared().unwrap();
    let client = client(&cluster);
    let agree = Agree::Classic("range", "RangeAssignor");
    let mut story = Story::new(&cluster, &client, "kcat-first".to_owned());
    let first = Box::new(Kcat::start(&cluster, &story.group, &story.topic));
    story.tell(first, |story| Box::new(Ours::start(agree.ours(&client, &story.group, &story.topic))));
    let mut story = Story::new(&cluster, &client, "kcat-second".to_owned());
    let first = Box::new(Ours::start(agree.ours(&client, &story.group, &story.topic)));
    story.tell(first, |story| Box::new(Kcat::start(&cluster, &story.group, &story.topic)));
}

/// Writes to every partition twenty times a second until told to stop.
fn steadily<T>(client: &Client, topic: &str, meanwhile: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                fill(client, topic, 1);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let done = meanwhile();
        stop.store(true, Ordering::Relaxed);
        done
    })
}

/// How long, in milliseconds, a record of a partition that stayed with the first member waited at most while another one
/// joined and left, in a group with a Java member that polls every two and a half seconds only.
fn longest_wait(cluster: &RealCluster, client: &Client, program: &Arc<Program>, agree: Agree) -> u64 {
    let story =
        Story::new(cluster, client, format!("steady-{agree:?}").to_lowercase().replace(['(', ')', '"', ',', ' '], ""));
    let (group, topic) = (story.group.as_str(), story.topic.as_str());
    steadily(client, topic, || {
        let mut first = Ours::start(agree.ours(client, group, topic));
        until("the first to read", || expect(first.records().is_empty(), false));
        let mut java = Java::start(program, agree, group, topic, 2500);
        until("Java to have its half", || expect(java.owns(), 3));
        let began = first.records().len();
        let mut second = Ours::start(agree.ours(client, group, topic));
        until("the second to read", || expect(second.records().is_empty(), false));
        second.stop();
        until("Java to have its half again", || expect(java.owns(), 3));
        let settled = first.records().len();
        until("more records", || expect(first.records().len() > settled + 100, true));
        first.stop();
        java.stop();
        let moved: BTreeSet<i32> = second.records().into_iter().map(|(partition, _)| partition).collect();
        let javas: BTreeSet<i32> = java.records().into_iter().map(|(partition, _)| partition).collect();
        let seen = first.seen.lock().unwrap();
        let stays = |partition: i32| !moved.contains(&partition) && !javas.contains(&partition);
        let waits: Vec<u64> = seen
            .iter()
            .skip(began)
            .filter(|((partition, _), _)| stays(*partition))
            .map(|(_, waited)| *waited)
            .collect();
        assert!(waits.len() > 20, "{}: partitions stayed", story.what);
        waits.into_iter().max().unwrap()
    })
}

/// A member joins and leaves while another one is slow to take part. Partitions that stay are read all the while; with an
/// eager assignor everything stands still until the slow one has come.
#[test]
fn partitions_that_stay_are_not_paused() {
    let cluster = RealCluster::shared().unwrap();
    let client = client(&cluster);
    let program = Program::java(&cluster);
    let cooperative = Agree::Classic("cooperative-sticky", "CooperativeStickyAssignor");
    let eager = Agree::Classic("sticky", "StickyAssignor");
    let waits: Vec<u64> = std::thread::scope(|scope| {
        let start = |agree| {
            let (cluster, client, program) = (&*cluster, &client, &program);
            scope.spawn(move || longest_wait(cluster, client, program, agree))
        };
        [cooperative, Agree::Next, eager].map(start).into_iter().map(|story| story.join().unwrap()).collect()
    });
    println!("the longest waits, in ms: cooperative {}, KIP-848 {}, eager {}", waits[0], waits[1], waits[2]);
    assert!(waits[0] < 1000 && waits[1] < 1000, "partitions that stayed were paused: {waits:?} ms");
    assert!(waits[2] > 1000, "the slow member holds up nobody: this shows nothing ({waits:?} ms)");
}
