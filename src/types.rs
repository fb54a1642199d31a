//! Small types that every layer shares: names of places in the log, identities, choices.

use std::fmt;
use std::sync::Arc;

/// The id of a broker, as the cluster's metadata gives it.
pub type BrokerId = i32;

/// The id of a topic (KIP-516). A topic deleted and created again under the same name has another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// All zero: the broker or the protocol version has no topic ids.
    pub const NONE: TopicId = TopicId([0; 16]);

    /// Whether this is a real id.
    pub fn is_some(&self) -> bool {
        *self != TopicId::NONE
    }
}

impl fmt::Display for TopicId {
    /// URL-safe base64 without padding, as Kafka's own tools print it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for chunk in self.0.chunks(3) {
            let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for i in 0..=chunk.len() {
                write!(f, "{}", ALPHABET[(bits >> (18 - 6 * i) & 63) as usize] as char)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

/// A partition of a topic. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's index, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        TopicPartition { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A producer id with its epoch: who the broker takes the sender of a batch for (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProducerIdentity {
    /// The id, given out by the cluster.
    pub id: i64,
    /// The epoch. A higher one fences the lower ones of the same id, partition by partition.
    pub epoch: i16,
}

impl ProducerIdentity {
    /// What batches without idempotence carry.
    pub const NONE: ProducerIdentity = ProducerIdentity { id: -1, epoch: -1 };
}

impl fmt::Display for ProducerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "producer {} epoch {}", self.id, self.epoch)
    }
}

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// zlib's format in gzip framing.
    Gzip,
    /// Snappy in xerial framing, as Java's clients write it.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard (KIP-110).
    Zstd,
}

impl Compression {
    /// The codec's name in Kafka's configuration (`compression.type`).
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose acknowledgement a produce request waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Acks {
    /// Every in-sync replica has the batch. The only level at which nothing acknowledged is lost with its leader.
    #[default]
    All,
    /// The leader has the batch. It can be lost with the leader, and is sent without idempotence.
    Leader,
    /// Nobody's: the broker does not answer.
    None,
}

impl Acks {
    /// The number on the wire: -1, 1 or 0.
    pub fn code(self) -> i16 {
        match self {
            Acks::All => -1,
            Acks::Leader => 1,
            Acks::None => 0,
        }
    }
}

/// Which transactional records a consumer sees (KIP-98).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IsolationLevel {
    /// All records, also of open and aborted transactions.
    ReadUncommitted,
    /// Only records outside of transactions and of committed ones. The default, unlike the Java client's.
    #[default]
    ReadCommitted,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_ids_print_as_kafka_prints_them() {
        assert_eq!(TopicId([0xff; 16]).to_string(), "_____________________w");
        assert_eq!(TopicId::NONE.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
    }
}
