//! Runs the built program as a user does.

#![allow(dead_code, unreachable_pub, reason = "each file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

pub mod spool;

use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use proto_tests::fake::FakeCluster;

/// How long a command may take before the test is given up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a command came to.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    fn new(output: Output) -> Ran {
        Ran {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The last line of standard output.
    pub fn summary(&self) -> &str {
        self.out.lines().last().unwrap_or_default()
    }

    /// Fails unless the command ended with this code and one line on standard error that has all of these parts.
    #[track_caller]
    pub fn complains(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        assert!(self.err.starts_with("indelible: "), "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is missing: {self:?}");
        }
    }
}

/// The program with these arguments, split at blanks.
pub fn program(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_indelible"));
    command.args(arguments.split_whitespace());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it with this standard input.
pub fn run(mut command: Command, input: &[u8]) -> Ran {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // It may end without having read all.
    let feeding = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let ran = finish(child);
    feeding.join().unwrap();
    ran
}

/// Waits for the end; kills what takes too long.
pub fn finish(child: Child) -> Ran {
    let id = child.id();
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = done.send(child.wait_with_output());
    });
    match ended.recv_timeout(PATIENCE) {
        Ok(output) => Ran::new(output.unwrap()),
        Err(_) => {
            signal(id, "KILL");
            panic!("no end after {PATIENCE:?}: {:?}", ended.recv().map(|output| output.map(Ran::new)));
        }
    }
}

/// Sends a signal.
pub fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &process.to_string()]).status();
    assert!(sent.unwrap().success());
}

/// Three brokers and a topic.
pub fn cluster(topic: &str, partitions: i32) -> FakeCluster {
    let cluster = FakeCluster::start(3);
    cluster.create_topic(topic, partitions);
    cluster
}

/// `--bootstrap` for it.
pub fn at(cluster: &FakeCluster) -> String {
    format!("--bootstrap {}", cluster.bootstrap().join(","))
}

/// Sends these lines to partition 0 of a topic by the program itself.
pub fn fill(cluster: &FakeCluster, topic: &str, partition: i32, lines: &[u8]) {
    let ran = run(program(&format!("produce {} --topic {topic} --partition {partition}", at(cluster))), lines);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}
