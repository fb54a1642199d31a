//! The program, kcat and Java's console tools on one topic: each reads what the others wrote.

#![allow(clippy::unwrap_used, clippy::panic, reason = "scenarios on a real cluster")]

#[path = "../../tests/real_support/mod.rs"]
mod real_support;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use proto_tests::real::RealCluster;
use real_support::{has_kcat, topic, unique};
use support::{Ran, program, run};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const KEYS: usize = 50;

/// Partition, key, value, in the order of the log.
type Lines = Vec<(i32, String, String)>;

fn at(cluster: &RealCluster) -> String {
    cluster.bootstrap().join(",")
}

/// `key:value` lines whose values name their writer.
fn lines(writer: &str) -> Vec<u8> {
    (0..KEYS).flat_map(|n| format!("key {n}:{writer} {n}\n").into_bytes()).collect()
}

fn good(ran: Ran) -> Ran {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran
}

/// One of Kafka's own tools.
fn java(class: &str, arguments: &[&str], input: &[u8]) -> Ran {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka");
    let mut command = Command::new(script);
    command.args(["tool", class]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    good(run(command, input))
}

fn write_by_program(cluster: &RealCluster, topic: &str, codec: &str) {
    let mut command = program(&format!("produce --bootstrap {} --topic {topic} --compression {codec}", at(cluster)));
    command.args(["--key-separator", ":"]);
    good(run(command, &lines(&format!("indelible {codec}"))));
}

fn write_by_java(cluster: &RealCluster, topic: &str, codec: &str) {
    let at = at(cluster);
    let mut arguments = vec!["--bootstrap-server", &at, "--topic", topic, "--compression-codec", codec];
    arguments.extend(["--reader-property", "parse.key=true", "--reader-property", "key.separator=:"]);
    java("org.apache.kafka.tools.ConsoleProducer", &arguments, &lines(&format!("java {codec}")));
}

fn write_by_kcat(cluster: &RealCluster, topic: &str, codec: &str) {
    let mut command = Command::new("kcat");
    command.args(["-P", "-K", ":", "-z", codec, "-X", "partitioner=murmur2_random", "-t", topic, "-b", &at(cluster)]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    good(run(command, &lines(&format!("kcat {codec}"))));
}

/// Splits "partition TAB key TAB value" lines.
fn split(text: &str) -> Lines {
    let line = |line: &str| {
        let mut words = line.trim_start_matches("Partition:").splitn(3, '\t').map(str::to_owned);
        let mut word = || words.next().unwrap_or_else(|| panic!("{line:?} is no record"));
        (word().parse().unwrap(), word(), word())
    };
    text.lines().map(line).collect()
}

fn read_by_program(cluster: &RealCluster, topic: &str, count: usize) -> Lines {
    let group = unique("interop");
    let line = format!("consume --bootstrap {} --topic {topic} --group {group} --max-records {count}", at(cluster));
    let mut command = program(&line);
    command.args(["--format", "%p\t%k\t%s"]);
    split(&good(run(command, b"")).out)
}

fn read_by_java(cluster: &RealCluster, topic: &str, count: usize) -> Lines {
    let (at, count) = (at(cluster), count.to_string());
    let mut arguments = vec!["--bootstrap-server", &at, "--topic", topic, "--from-beginning", "--max-messages", &count];
    for property in ["print.partition=true", "print.key=true"] {
        arguments.extend(["--formatter-property", property]);
    }
    split(&java("org.apache.kafka.tools.consumer.ConsoleConsumer", &arguments, b"").out)
}

fn read_by_kcat(cluster: &RealCluster, topic: &str) -> Lines {
    let mut command = Command::new("kcat");
    command.args(["-C", "-q", "-e", "-o", "beginning", "-X", "check.crcs=true", "-f", "%p\t%k\t%s\n", "-t", topic]);
    command.args(["-b", &at(cluster)]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    split(&good(run(command, b"")).out)
}

/// The lines of each partition in their order.
fn by_partition(lines: Lines) -> BTreeMap<i32, Vec<(String, String)>> {
    let mut sorted = BTreeMap::<_, Vec<_>>::new();
    for (partition, key, value) in lines {
        sorted.entry(partition).or_default().push((key, value));
    }
    sorted
}

/// The program, Java's console producer and kcat write the same keys with all five compressions. Each of the three reads
/// the same records in the same order, and each key is in one partition, whoever wrote it.
#[test]
fn each_reads_what_the_others_wrote_and_keys_have_one_partition() {
    let cluster = RealCluster::shared().unwrap();
    let topic = topic(&cluster, "interop", 6, &[]);
    let kcat = has_kcat();
    let mut count = 0;
    for codec in CODECS {
        write_by_program(&cluster, &topic, codec);
        write_by_java(&cluster, &topic, codec);
        count += 2 * KEYS;
        if kcat {
            write_by_kcat(&cluster, &topic, codec);
            count += KEYS;
        }
    }
    let ours = read_by_program(&cluster, &topic, count);
    let theirs = read_by_java(&cluster, &topic, count);

    let mut places = BTreeMap::<&str, BTreeSet<i32>>::new();
    for (partition, key, _) in &ours {
        places.entry(key).or_default().insert(*partition);
    }
    let spread: Vec<_> = places.iter().filter(|(_, partitions)| partitions.len() > 1).collect();
    assert!(spread.is_empty(), "keys in more than one partition: {spread:?}");
    assert_eq!(places.len(), KEYS);
    assert!(places.values().flatten().collect::<BTreeSet<_>>().len() > 3, "too few partitions to compare");

    let mut found: Vec<&str> = ours.iter().map(|(_, _, value)| value.as_str()).collect();
    found.sort_unstable();
    let writers: &[&str] = if kcat { &["indelible", "java", "kcat"] } else { &["indelible", "java"] };
    let value = |writer: &&str| {
        let writer = writer.to_string();
        CODECS.map(|codec| (0..KEYS).map(|n| format!("{writer} {codec} {n}")).collect::<Vec<_>>()).concat()
    };
    let mut expected: Vec<String> = writers.iter().flat_map(value).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);

    let ours = by_partition(ours);
    assert_eq!(by_partition(theirs), ours, "Java reads otherwise");
    if kcat {
        assert_eq!(by_partition(read_by_kcat(&cluster, &topic)), ours, "kcat reads otherwise");
    }
}
