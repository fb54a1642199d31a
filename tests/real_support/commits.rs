//! The commits of a group, read from the log of `__consumer_offsets` itself.
//!
//! Schemas: `OffsetCommitKey` and `OffsetCommitValue` of Kafka's group coordinator.

use std::ops::Range;

use proto_tests::real::RealCluster;

use super::records;

const TOPIC: &str = "__consumer_offsets";

/// One commit of one partition.
#[derive(Clone, Debug)]
pub struct Commit {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub metadata: String,
    /// The coordinator's time, in milliseconds since 1970.
    pub at: i64,
}

/// All commits of `group`, in their order.
pub fn of(cluster: &RealCluster, group: &str) -> Vec<Commit> {
    let count = cluster.partitions(TOPIC).unwrap().len();
    let hash = group.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let partition = hash.checked_abs().unwrap_or(0) % i32::try_from(count).unwrap();
    let records = records(cluster, TOPIC, partition, 1);
    let mut commits = Vec::new();
    for record in records {
        let (Some(key), Some(value)) = (record.key, record.value) else { continue };
        let mut key = Reader(&key);
        if !matches!(key.i16(), 0 | 1) || key.text() != group {
            continue;
        }
        let (topic, partition) = (key.text(), key.i32());
        let mut value = Reader(&value);
        let version = value.i16();
        let offset = value.i64();
        if version >= 3 {
            value.i32();
        }
        let metadata = if version >= 4 { value.compact_text() } else { value.text() };
        commits.push(Commit { topic, partition, offset, metadata, at: value.i64() });
    }
    commits
}

impl Commit {
    /// What the metadata names as handled beyond the offset: see the layout in `core/consume/progress.rs`. Checksums are
    /// not looked at.
    pub fn done(&self) -> Vec<Range<i64>> {
        let Some(text) = self.metadata.strip_prefix("i1.") else {
            assert_eq!(self.metadata, "");
            return Vec::new();
        };
        let bytes = base64url(text);
        let mut runs = Reader(&bytes[4..]);
        runs.varint(); // the leader epoch
        let (mut at, mut done, mut ranges) = (self.offset, false, Vec::new());
        while !runs.0.is_empty() {
            let end = at + i64::try_from(runs.varint()).unwrap();
            if done {
                ranges.push(at..end);
            }
            (at, done) = (end, !done);
        }
        ranges
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_at(N);
        self.0 = rest;
        head.try_into().unwrap()
    }

    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take())
    }

    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take())
    }

    fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.take())
    }

    fn text(&mut self) -> String {
        let length = usize::try_from(self.i16()).unwrap();
        self.text_of(length)
    }

    fn compact_text(&mut self) -> String {
        let length = usize::try_from(self.varint()).unwrap();
        self.text_of(length - 1)
    }

    /// Unsigned, 7 bits a byte, lowest first.
    fn varint(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let [byte] = self.take::<1>();
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return number;
            }
        }
    }

    fn text_of(&mut self, length: usize) -> String {
        let (head, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8(head.to_vec()).unwrap()
    }
}

fn base64url(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0u32, 0);
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter).unwrap();
        held = held << 6 | u32::try_from(value).unwrap();
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    bytes
}
