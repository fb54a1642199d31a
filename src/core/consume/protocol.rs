//! The consumer protocol: what members of a group tell each other inside JoinGroup and SyncGroup.
//!
//! The coordinator passes these bytes on unread, so they come from whatever client shares the group: counts and lengths
//! are checked against the bytes that are there before anything is allocated.
//!
//! ```text
//! Subscription: version i16 | topics [string] | user data bytes? | v1+ owned [string [i32]] | v2+ generation i32 | v3+ rack string?
//! Assignment:   version i16 | partitions [string [i32]] | user data bytes?
//! ```

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::types::TopicPartition;

/// The protocol type of consumers.
pub(crate) const PROTOCOL_TYPE: &str = "consumer";
/// The highest version of both messages. A higher one begins with the fields of this one.
const VERSION: i16 = 3;

/// Bytes of another member that are no such message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} of the consumer protocol cannot be read at byte {at}: {why}")]
pub(crate) struct ProtocolError {
    what: &'static str,
    at: usize,
    why: &'static str,
}

/// The subscription to `topics` of a member that gives up all its partitions before it joins.
pub(crate) fn encode_subscription(topics: &[Arc<str>]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(VERSION);
    put_count(&mut out, topics.len());
    for topic in topics {
        put_string(&mut out, topic);
    }
    out.put_i32(-1); // user data: none
    out.put_i32(0); // owned partitions: none, the eager protocol revokes all of them first
    out.put_i32(-1); // generation: unknown
    out.put_i16(-1); // rack: none
    out.freeze()
}

/// The topics that a member subscribes to.
pub(crate) fn decode_subscription(bytes: &[u8]) -> Result<Vec<Arc<str>>, ProtocolError> {
    let mut reader = Reader { what: "a subscription", bytes, at: 0 };
    reader.version()?;
    let count = reader.count(2)?;
    // What follows (user data, owned partitions, generation, rack) decides nothing in a range assignment.
    (0..count).map(|_| reader.string()).collect()
}

/// The assignment of `partitions`.
pub(crate) fn encode_assignment(partitions: &[TopicPartition]) -> Bytes {
    let mut sorted: Vec<&TopicPartition> = partitions.iter().collect();
    sorted.sort();
    let topics: Vec<&[&TopicPartition]> = sorted.chunk_by(|a, b| a.topic == b.topic).collect();
    let mut out = BytesMut::new();
    out.put_i16(VERSION);
    put_count(&mut out, topics.len());
    for topic in topics {
        put_string(&mut out, &topic[0].topic);
        put_count(&mut out, topic.len());
        topic.iter().for_each(|partition| out.put_i32(partition.partition));
    }
    out.put_i32(-1); // user data: none
    out.freeze()
}

/// The partitions that the leader of the group gives to this member. No bytes at all mean none.
pub(crate) fn decode_assignment(bytes: &[u8]) -> Result<Vec<TopicPartition>, ProtocolError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut reader = Reader { what: "an assignment", bytes, at: 0 };
    reader.version()?;
    let mut partitions = Vec::new();
    for _ in 0..reader.count(6)? {
        let topic = reader.string()?;
        for _ in 0..reader.count(4)? {
            let partition = i32::from_be_bytes(reader.take()?);
            if partition < 0 {
                return reader.fail("a negative partition");
            }
            partitions.push(TopicPartition { topic: topic.clone(), partition });
        }
    }
    partitions.sort();
    partitions.dedup();
    Ok(partitions)
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_i32(i32::try_from(count).unwrap_or(i32::MAX));
}

fn put_string(out: &mut BytesMut, string: &str) {
    // Topic names have at most 249 bytes: the configuration refuses others.
    out.put_i16(i16::try_from(string.len()).unwrap_or(i16::MAX));
    out.put_slice(string.as_bytes());
}

struct Reader<'a> {
    what: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn fail<T>(&self, why: &'static str) -> Result<T, ProtocolError> {
        Err(ProtocolError { what: self.what, at: self.at, why })
    }

    fn version(&mut self) -> Result<i16, ProtocolError> {
        match i16::from_be_bytes(self.take()?) {
            version if version < 0 => self.fail("a negative version"),
            version => Ok(version),
        }
    }

    /// An array's count, of which each element takes at least `least` bytes.
    fn count(&mut self, least: usize) -> Result<usize, ProtocolError> {
        let count = i32::from_be_bytes(self.take()?);
        match usize::try_from(count) {
            Ok(count) if count <= (self.bytes.len() - self.at) / least => Ok(count),
            Ok(_) => self.fail("an array with more elements than there are bytes"),
            Err(_) => self.fail("a negative count"),
        }
    }

    fn string(&mut self) -> Result<Arc<str>, ProtocolError> {
        let Ok(length) = usize::try_from(i16::from_be_bytes(self.take()?)) else {
            return self.fail("a negative length");
        };
        let Some(bytes) = self.bytes.get(self.at..self.at + length) else {
            return self.fail("a string beyond the end");
        };
        let Ok(string) = std::str::from_utf8(bytes) else { return self.fail("a string that is not UTF-8") };
        self.at += length;
        Ok(Arc::from(string))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], ProtocolError> {
        let Some(bytes) = self.bytes[self.at..].first_chunk::<N>() else {
            return self.fail("the message ends early");
        };
        self.at += N;
        Ok(*bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_come_back() {
        let topics = [Arc::from("orders"), Arc::from("bills")];
        assert_eq!(decode_subscription(&encode_subscription(&topics)).unwrap(), topics);
    }

    #[test]
    fn a_version_0_subscription_of_a_java_client_is_read() {
        let bytes = b"\x00\x00\x00\x00\x00\x01\x00\x06orders\xff\xff\xff\xff";
        assert_eq!(decode_subscription(bytes).unwrap(), [Arc::from("orders")]);
    }

    #[test]
    fn assignments_come_back_sorted() {
        let given = [TopicPartition::new("b", 1), TopicPartition::new("a", 7), TopicPartition::new("b", 0)];
        let read = decode_assignment(&encode_assignment(&given)).unwrap();
        assert_eq!(read, [TopicPartition::new("a", 7), TopicPartition::new("b", 0), TopicPartition::new("b", 1)]);
        assert_eq!(decode_assignment(b"").unwrap(), []);
    }

    #[test]
    fn hostile_counts_are_refused_before_anything_is_allocated() {
        let huge = b"\x00\x03\x7f\xff\xff\xff\x00\x01a";
        assert!(decode_subscription(huge).unwrap_err().to_string().contains("more elements than there are bytes"));
        assert!(decode_assignment(huge).is_err());
        assert!(decode_assignment(b"\x00\x03\xff\xff\xff\xff").is_err());
        assert!(decode_assignment(b"\x00\x00\x00\x00\x00\x01\x00\x01t\x7f\xff\xff\xff\x00\x00\x00\x00").is_err());
    }

    #[test]
    fn every_truncation_is_an_error_or_a_shorter_message_and_never_a_panic() {
        let whole = encode_assignment(&[TopicPartition::new("orders", 0), TopicPartition::new("bills", 3)]);
        for end in 1..whole.len() {
            let _ = decode_assignment(&whole[..end]);
            let _ = decode_subscription(&whole[..end]);
        }
        assert!(decode_assignment(&whole[..whole.len() - 5]).is_err());
    }
}
