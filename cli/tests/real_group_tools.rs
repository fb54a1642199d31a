//! `indelible group` beside Kafka's own tool for groups: both tell the same of the same group, of both protocols.

#![allow(clippy::unwrap_used, clippy::panic, reason = "scenarios on a real cluster")]

#[path = "../../tests/real_support/mod.rs"]
mod real_support;
mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use proto_tests::real::RealCluster;
use real_support::{topic_of, unique, until};
use support::{Ran, program, run, signal};

const TOOL: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";

/// Cells of a line.
type Row = Vec<String>;

struct Story<'a> {
    cluster: &'a RealCluster,
    topic: String,
    group: String,
}

/// A member of the group in a process of its own.
struct Member(Child);

impl Drop for Member {
    fn drop(&mut self) {
        signal(self.0.id(), "TERM");
        let _ = self.0.wait();
    }
}

fn good(ran: Ran) -> Ran {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran
}

/// One of Kafka's own tools.
fn java(class: &str) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka"));
    command.args(["tool", class]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The lines that have `word` as a cell.
fn rows(ran: &Ran, word: &str) -> Vec<Row> {
    let split = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Row>();
    ran.out.lines().map(split).filter(|row| row.iter().any(|cell| cell == word)).collect()
}

impl Story<'_> {
    /// A topic of three partitions with records in two of them.
    fn new<'a>(cluster: &'a RealCluster, name: &str) -> Story<'a> {
        let topic = topic_of(cluster, name, 3, 1, &[]);
        let story = Story { cluster, topic, group: unique("group") };
        story.fill(0, b"a\nb\nc\n");
        story.fill(1, b"d\n");
        story
    }

    fn at(&self) -> String {
        self.cluster.bootstrap().join(",")
    }

    fn fill(&self, partition: i32, lines: &[u8]) {
        good(run(program(&format!("produce -b {} -t {} -p {partition}", self.at(), self.topic)), lines));
    }

    fn ours(&self, arguments: &str) -> Ran {
        run(program(&format!("group {arguments} -b {}", self.at())), b"")
    }

    fn theirs(&self, arguments: &str) -> Ran {
        let mut command = java(TOOL);
        command.args(["--bootstrap-server", &self.at()]).args(arguments.split_whitespace());
        command.stdin(Stdio::piped());
        good(run(command, b""))
    }

    /// Handles all there is.
    fn handle_all(&self) -> Ran {
        let line = format!("consume -b {} -t {} -g {} --until-end -f %p:%s", self.at(), self.topic, self.group);
        good(run(program(&line), b""))
    }

    fn is_stable(&self) {
        until("the group to be stable", || {
            let told = self.ours(&format!("describe {}", self.group)).out;
            if told.contains("Stable") && told.contains(&self.topic) { Ok(()) } else { Err(told) }
        });
    }

    fn lag_is(&self, total: i64) {
        until("the lag to be that", || {
            let told = self.ours(&format!("lag {}", self.group)).out;
            if told.contains(&format!("total lag {total} in 3 partitions")) { Ok(()) } else { Err(told) }
        });
    }

    /// Partition, committed offset, end, lag, member, client and host of each partition, as ours and as theirs.
    #[track_caller]
    fn offsets_agree(&self) {
        let ours = good(self.ours(&format!("lag {}", self.group)));
        let theirs = self.theirs(&format!("--describe --offsets --group {}", self.group));
        let theirs_as_ours = |row: &Row| match &row[..] {
            [_, topic, partition, committed, end, lag, member, host, client, ..] => {
                let host = host.trim_start_matches('/').to_owned();
                let place = format!("{topic}-{partition}");
                vec![place, committed.clone(), end.clone(), lag.clone(), member.clone(), client.clone(), host]
            }
            other => panic!("{other:?} in {theirs:?}"),
        };
        let mut expected: Vec<Row> = rows(&theirs, &self.topic).iter().map(theirs_as_ours).collect();
        expected.sort();
        let names = [0, 1, 2].map(|partition| format!("{}-{partition}", self.topic));
        let mut told: Vec<Row> = names.iter().flat_map(|name| rows(&ours, name)).collect();
        told.sort();
        assert!(!told.is_empty(), "{ours:?}");
        assert_eq!(told, expected, "{ours:?}\n{theirs:?}");
    }

    /// Type and state of the group in the list.
    #[track_caller]
    fn lists_agree(&self, kind: &str, state: &str) {
        let ours = rows(&good(self.ours("list")), &self.group);
        let [row] = &ours[..] else { panic!("{ours:?}") };
        assert_eq!(row[..3], [self.group.clone(), kind.to_owned(), state.to_owned()]);
        let theirs = rows(&self.theirs("--list --state --type"), &self.group);
        let told: Vec<String> = theirs.concat().iter().map(|cell| cell.to_lowercase()).collect();
        assert!(told.contains(&kind.to_owned()) && told.contains(&state.to_lowercase()), "{theirs:?}");
    }
}

/// A member of the classic protocol, ours; then none, and the group is set back and forth by both tools.
#[test]
fn a_classic_group() {
    let cluster = RealCluster::shared().unwrap();
    let story = Story::new(&cluster, "group-tools");
    let line = format!("consume -b {} -t {} -g {} -X group.protocol=classic", story.at(), story.topic, story.group);
    let member = Member(program(&line).stdout(Stdio::null()).spawn().unwrap());
    story.is_stable();
    story.lag_is(0);
    story.offsets_agree();
    story.lists_agree("classic", "Stable");
    let ours = good(story.ours(&format!("describe {}", story.group)));
    let theirs = story.theirs(&format!("--describe --members --group {}", story.group));
    let (ours, theirs) = (rows(&ours, "indelible"), rows(&theirs, "indelible"));
    assert_eq!((ours.len(), theirs.len(), &ours[0][0]), (1, 1, &theirs[0][1]), "{ours:?} {theirs:?}");
    assert_eq!(ours[0][3], theirs[0][2].trim_start_matches('/'));

    // Both refuse to move the offsets of a group that has a member.
    let refused = story.ours(&format!("reset {} --to beginning --yes", story.group));
    refused.complains(3, &["has 1 member (indelible-", "127.0.0.1", "stop them first"]);
    let reset = format!("--reset-offsets --group {} --to-earliest --execute --topic {}", story.group, story.topic);
    let theirs = story.theirs(&reset);
    assert!(format!("{theirs:?}").contains("Stable"), "{theirs:?}");
    drop(member);
    until("the member to be gone", || {
        let told = story.ours(&format!("describe {}", story.group)).out;
        if told.contains("Empty") { Ok(()) } else { Err(told) }
    });
    story.fill(2, b"e\nf\n");
    story.lag_is(2);
    story.offsets_agree();

    good(story.ours(&format!("reset {} --to beginning --yes", story.group)));
    story.lag_is(6);
    assert_eq!(story.handle_all().out.lines().count(), 6);
    // Where Java's tool has set it back.
    let reset = format!("--reset-offsets --group {} --shift-by -1 --execute --topic {}:0", story.group, story.topic);
    story.theirs(&reset);
    story.offsets_agree();
    assert_eq!(story.handle_all().out, "0:c\n");
    // A time later than all records is the end for both.
    good(story.ours(&format!("reset {} --to 1 --topic {}:0 --yes", story.group, story.topic)));
    good(story.ours(&format!("reset {} --to 9999-01-01T00:00:00Z --yes", story.group)));
    story.lag_is(0);
    let ours = good(story.ours(&format!("reset {} --to -1h", story.group)));
    let reset = format!("--reset-offsets --group {} --by-duration PT1H --dry-run --topic {}", story.group, story.topic);
    let theirs = rows(&story.theirs(&reset), &story.topic);
    let mut theirs: Vec<_> = theirs.iter().map(|row| (format!("{}-{}", row[1], row[2]), row[3].clone())).collect();
    theirs.sort();
    let names = [0, 1, 2].map(|partition| format!("{}-{partition}", story.topic));
    let ours: Vec<_> =
        names.iter().flat_map(|name| rows(&ours, name)).map(|row| (row[0].clone(), row[2].clone())).collect();
    assert_eq!(ours, theirs);
}

/// A member of the consumer protocol (KIP-848), Java's. To the classic requests its group does not exist.
#[test]
fn a_group_of_the_consumer_protocol() {
    let cluster = RealCluster::shared().unwrap();
    let story = Story::new(&cluster, "group-tools-next");
    let mut member = java(CONSUMER);
    member.args(["--bootstrap-server", &story.at(), "--topic", &story.topic, "--group", &story.group]);
    for property in
        ["group.protocol=consumer", "auto.offset.reset=earliest", "client.id=java", "auto.commit.interval.ms=50"]
    {
        member.args(["--command-property", property]);
    }
    let member = Member(member.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    story.is_stable();
    story.lag_is(0);
    story.offsets_agree();
    story.lists_agree("consumer", "Stable");
    let ours = good(story.ours(&format!("describe {}", story.group)));
    assert!(ours.out.contains(": consumer, Stable, assigned by uniform; coordinator is broker "), "{ours:?}");
    let ours = rows(&ours, "java");
    assert_eq!(ours.concat()[1..], ["-", "java", "127.0.0.1", &format!("{}-0", story.topic), "to", "2"]);
    let refused = story.ours(&format!("reset {} --to beginning --yes", story.group));
    refused.complains(3, &["has 1 member", "client \"java\" at 127.0.0.1"]);
    drop(member);
    until("the member to be gone", || {
        let told = story.ours(&format!("describe {}", story.group)).out;
        if told.contains("Empty") { Ok(()) } else { Err(told) }
    });
    good(story.ours(&format!("reset {} --to 1 --topic {}:0 --yes", story.group, story.topic)));
    story.lag_is(2);
    story.offsets_agree();
    story.lists_agree("consumer", "Empty");
}

#[test]
fn mistakes() {
    let cluster = RealCluster::shared().unwrap();
    let story = Story::new(&cluster, "group-tools-mistakes");
    for command in ["describe", "lag", "reset --to end"] {
        story.ours(&format!("{command} {}", story.group)).complains(3, &[&story.group, "does not exist", "group list"]);
    }
    story.ours(&format!("reset {} --to noon", story.group)).complains(2, &["--to", "\"noon\"", "2026-11-21T10:00:00Z"]);
    story
        .ours(&format!("reset {} --to end --topic {}:3", story.group, story.topic))
        .complains(3, &["has no partition 3", "it has 3"]);
    story
        .ours(&format!("reset {} --to end --topic nowhere", story.group))
        .complains(3, &["\"nowhere\" does not exist"]);
}
