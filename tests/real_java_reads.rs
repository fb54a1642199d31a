//! Kafka's own classes read the batches we write, and we read theirs: random records in every codec.
//!
//! `INDELIBLE_SEED=7 cargo test --test real_java_reads` repeats one run.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::BytesMut;
use indelible::types::{Compression, ProducerIdentity};
use indelible::wire::batch::{Batches, DecodeLimits, RecordsBuilder, SealedBatch};

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// xorshift64*: enough to draw test cases.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % limit
    }

    /// Null, empty, random or repetitive.
    fn some(&mut self, limit: usize) -> Option<Vec<u8>> {
        let len = self.below(limit + 1);
        match self.below(8) {
            0 => None,
            1 => Some(Vec::new()),
            2 | 3 => Some((0..len).map(|_| self.next().to_le_bytes()[7]).collect()),
            _ => Some(vec![self.next().to_le_bytes()[7]; len]),
        }
    }
}

fn seed() -> u64 {
    let given = std::env::var("INDELIBLE_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()) + 1);
    println!("INDELIBLE_SEED={seed}");
    seed
}

/// Runs tests/java/Batches.java, gives what it prints.
fn java(arguments: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let jars = Command::new(root.join("scripts/kafka")).arg("jars").output().unwrap();
    assert!(jars.status.success(), "{jars:?}");
    let jars = String::from_utf8(jars.stdout).unwrap();
    let java =
        std::env::var("JAVA_HOME").map_or_else(|_| PathBuf::from("java"), |home| Path::new(&home).join("bin/java"));
    let ran = Command::new(java)
        .arg("-cp")
        .arg(format!("{}/*", jars.trim()))
        .arg(root.join("tests/java/Batches.java"))
        .args(arguments)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

fn hex(out: &mut String, bytes: Option<&[u8]>) {
    match bytes {
        None => out.push('-'),
        Some(bytes) => bytes.iter().for_each(|byte| write!(out, "{byte:02x}").unwrap()),
    }
}

/// A record as Batches.java prints it.
fn line<'a>(
    timestamp: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> String {
    let mut out = format!("{timestamp} ");
    hex(&mut out, key);
    out.push(' ');
    hex(&mut out, value);
    for (name, value) in headers {
        out.push(' ');
        hex(&mut out, Some(name));
        out.push('=');
        hex(&mut out, value);
    }
    out
}

/// Compares line by line, so that a failure stays readable.
fn same(ours: &[String], theirs: &str) {
    let shown = |line: &str| line.chars().take(200).collect::<String>();
    for (i, (ours, theirs)) in ours.iter().zip(theirs.lines()).enumerate() {
        assert!(ours == theirs, "line {i}: ours {}, theirs {}", shown(ours), shown(theirs));
    }
    assert_eq!(ours.len(), theirs.lines().count());
}

#[test]
fn java_reads_our_batches() {
    let mut random = Random(seed());
    let mut file = Vec::new();
    let mut expected = Vec::new();
    for round in 0..50 {
        let codec = CODECS[round % 5];
        let count = 1 + random.below(40);
        let mut builder = RecordsBuilder::new(BytesMut::new());
        let mut lines = Vec::new();
        for _ in 0..count {
            let timestamp = 1_700_000_000_000 + i64::try_from(random.below(1 << 31)).unwrap() - (1 << 30);
            let (key, value) = (random.some(200), random.some(10_000));
            let headers: Vec<_> =
                (0..random.below(4)).map(|_| (format!("h{}", random.below(3)), random.some(50))).collect();
            let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
            builder.push(timestamp, key.as_deref(), value.as_deref(), &headers).unwrap();
            let headers = headers.iter().map(|(name, value)| (name.as_bytes(), *value));
            lines.push(line(timestamp, key.as_deref(), value.as_deref(), headers));
        }
        let section = builder.finish().compress(codec, None).unwrap();
        let id = i64::try_from(random.below(1 << 30)).unwrap();
        let epoch = i16::try_from(random.below(1 << 15)).unwrap();
        let sequence = i32::try_from(random.below(1 << 30)).unwrap();
        // A section that compression does not make smaller stays as it is, and says so.
        expected.push(format!("batch {} {id} {epoch} {sequence} {count}", section.compression));
        expected.extend(lines);
        let sealed = SealedBatch::new(section);
        file.extend_from_slice(&sealed.stamp(ProducerIdentity { id, epoch }, sequence, false));
        file.extend_from_slice(&sealed.section().bytes);
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ours.batches");
    std::fs::write(&path, file).unwrap();
    same(&expected, &java(&["read", path.to_str().unwrap()]));
    for codec in CODECS {
        let named = format!("batch {codec} ");
        assert!(expected.iter().any(|line| line.starts_with(&named)), "no batch in {codec}");
    }
}

#[test]
fn we_read_batches_of_java() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("theirs.batches");
    let theirs = java(&["write", path.to_str().unwrap(), &seed().to_string()]);
    let mut batches = Batches::new(std::fs::read(&path).unwrap().into());
    let mut ours = Vec::new();
    for batch in &mut batches {
        let batch = batch.unwrap();
        let ProducerIdentity { id, epoch } = batch.identity;
        ours.push(format!("batch {} {id} {epoch} {} {}", batch.compression, batch.base_sequence, batch.count));
        let records = batch.records(&DecodeLimits::default()).unwrap();
        let bytes = records.bytes().clone();
        for record in records {
            let record = record.unwrap();
            ours.push(line(record.timestamp, record.key(&bytes), record.value(&bytes), record.headers(&bytes)));
        }
    }
    assert!(!batches.trailing_partial());
    same(&ours, &theirs);
}
