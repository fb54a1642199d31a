//! Positions: several sources, several threads and many partitions, and a process that is killed again and again. It goes
//! on after what the spool says of each source, and each record is in the topic once.
//!
//! The process is this program itself, started as a child.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "scenarios on a real cluster")]

mod real_support;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use indelible::{Client, Record};
use proto_tests::real::{RealCluster, scaled};
use real_support::spools::{Random, Scratch, config, seed};
use real_support::{PATIENCE, records, topic, until, value, wait};

const SOURCES: [&str; 3] = ["orders.csv", "payments", "journal-7"];
const PARTITIONS: i32 = 12;
/// Records of each source that one life of the process sends at most.
const STEP: u64 = 20_000;
/// What the child is told.
const TASK: &str = "INDELIBLE_POSITIONS_CHILD";

/// Each source is a counter: position `n` is its `n`-th record. A thread for each source, all into one producer.
#[test]
fn positions_over_many_partitions() {
    let seed = seed();
    println!("INDELIBLE_SEED={seed}");
    let mut random = Random(seed);
    let cluster = RealCluster::shared().unwrap();
    let topic = topic(&cluster, "positions", PARTITIONS, &[]);
    let scratch = Scratch::new("positions");
    let child = |until: u64| {
        let task = format!("{} {topic} {until} {}", cluster.bootstrap().join(","), scratch.spool().display());
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_of_positions_over_many_partitions", "--ignored", "--nocapture"])
            .env(TASK, task)
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let kills = scaled(12);
    let mut target = 0;
    for _ in 0..kills {
        target += STEP / 4;
        let mut life = child(target + STEP);
        std::thread::sleep(random.millis(100, 900));
        life.kill().unwrap();
        life.wait().unwrap();
    }
    // How far the killed ones came is not known; the last one goes on to the end.
    let end = target + STEP;
    let mut last = child(end);
    let status = until("the last life to end", || last.try_wait().unwrap().ok_or_else(|| "it runs".to_owned()));
    assert!(status.success(), "{status}");

    let mut seen: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let mut before: BTreeMap<String, u64> = BTreeMap::new();
        for record in records(&cluster, &topic, partition, 1) {
            let text = value(&record);
            let (source, position) = text.split_once(' ').unwrap();
            let position: u64 = position.parse().unwrap();
            let previous = before.insert(source.to_owned(), position);
            assert!(previous < Some(position), "{source}: {position} after {previous:?} in {topic}-{partition}");
            let counts = seen.entry(source.to_owned()).or_insert_with(|| vec![0; end as usize]);
            counts[position as usize - 1] += 1;
        }
    }
    for source in SOURCES {
        let counts = &seen[source];
        let wrong: Vec<_> = (1..).zip(counts).filter(|(_, count)| **count != 1).take(20).collect();
        assert!(wrong.is_empty(), "{source}: (position, times) {wrong:?}");
    }
    println!("{} records of {} sources, {kills} kills", end * SOURCES.len() as u64, SOURCES.len());
}

/// One life of the process. Does nothing unless it is told what.
#[test]
#[ignore = "started by positions_over_many_partitions"]
fn child_of_positions_over_many_partitions() {
    let Ok(task) = std::env::var(TASK) else { return };
    let words: Vec<&str> = task.splitn(4, ' ').collect();
    let [bootstrap, topic, end, spool] = words[..] else { panic!("{task}") };
    let end: u64 = end.parse().unwrap();
    let client = wait(Client::builder(bootstrap.split(',')).build()).unwrap();
    let producer = wait(client.producer().batch_size(1000).spool_config(config(spool.as_ref())).build()).unwrap();
    let reached = producer.recovered_positions();
    std::thread::scope(|scope| {
        for source in SOURCES {
            let (producer, from) = (&producer, reached.get(source).copied().unwrap_or(0));
            scope.spawn(move || {
                wait(async {
                    for position in from + 1..=end {
                        let (key, value) = (position.to_string(), format!("{source} {position}"));
                        let record = Record::to(topic).key(&key).value(&value).position(source, position);
                        let receipt = producer.send(record).await.unwrap();
                        // Not everything at once: the end is to come among the records.
                        if position % 2000 == 0 {
                            receipt.spooled().await.unwrap();
                        }
                    }
                });
            });
        }
    });
    wait(async { tokio::time::timeout(PATIENCE, producer.close(Duration::from_secs(60))).await }).unwrap().unwrap();
}
