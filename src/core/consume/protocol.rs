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

/// What a member says of itself when it joins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subscription {
    /// The topics it wants partitions of.
    pub(crate) topics: Vec<Arc<str>>,
    /// What its assignor wants to find again, see [`StickyData`].
    pub(crate) user_data: Option<Bytes>,
    /// What it goes on with during the rebalance (KIP-429). Empty when it gives up everything first.
    pub(crate) owned: Vec<TopicPartition>,
    /// The generation that it was last in; none when it says nothing about it, as before version 2.
    pub(crate) generation: Option<i32>,
    /// Where it runs (KIP-881).
    pub(crate) rack: Option<Arc<str>>,
}

/// A subscription in the newest version. Members that know an older one read its beginning.
pub(crate) fn encode_subscription(subscription: &Subscription) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(VERSION);
    put_count(&mut out, subscription.topics.len());
    for topic in &subscription.topics {
        put_string(&mut out, topic);
    }
    put_bytes(&mut out, subscription.user_data.as_deref());
    put_partitions(&mut out, &subscription.owned);
    out.put_i32(subscription.generation.unwrap_or(-1));
    match &subscription.rack {
        Some(rack) if i16::try_from(rack.len()).is_ok() => put_string(&mut out, rack),
        _ => out.put_i16(-1),
    }
    out.freeze()
}

/// What another member says of itself, in whatever version it speaks.
///
/// # Errors
/// The bytes are no subscription, or end in the middle of one.
pub(crate) fn decode_subscription(bytes: &[u8]) -> Result<Subscription, ProtocolError> {
    let mut reader = Reader { what: "a subscription", bytes, at: 0 };
    let version = reader.version()?;
    let count = reader.count(2)?;
    let mut topics = (0..count).map(|_| reader.string()).collect::<Result<Vec<_>, _>>()?;
    topics.sort();
    topics.dedup();
    let user_data = reader.nullable_bytes()?.map(Bytes::copy_from_slice);
    let mut subscription = Subscription { topics, user_data, ..Subscription::default() };
    if version >= 1 {
        subscription.owned = reader.partitions()?;
    }
    if version >= 2 {
        subscription.generation = Some(i32::from_be_bytes(reader.take()?)).filter(|generation| *generation >= 0);
    }
    if version >= 3 {
        subscription.rack = reader.nullable_string()?;
    }
    Ok(subscription)
}

/// What the members of a group with the `sticky` assignor leave for the next leader: it is an eager assignor, so that
/// members own nothing when they join.
///
/// ```text
/// version 0: partitions [string [i32]]
/// version 1: partitions [string [i32]] | generation i32
/// ```
/// No version is written: it is told by whether a generation follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StickyData {
    /// The last assignment.
    pub(crate) partitions: Vec<TopicPartition>,
    /// Its generation.
    pub(crate) generation: Option<i32>,
}

/// As Java's `StickyAssignor` writes it.
pub(crate) fn encode_sticky_data(data: &StickyData) -> Bytes {
    let mut out = BytesMut::new();
    put_partitions(&mut out, &data.partitions);
    out.put_i32(data.generation.unwrap_or(-1));
    out.freeze()
}

/// What a member leaves for `sticky`.
///
/// # Errors
/// The bytes are something else.
pub(crate) fn decode_sticky_data(bytes: &[u8]) -> Result<StickyData, ProtocolError> {
    let mut reader = Reader { what: "user data of the sticky assignor", bytes, at: 0 };
    let partitions = reader.partitions()?;
    let generation = match reader.bytes.len() - reader.at {
        0 => None,
        _ => Some(i32::from_be_bytes(reader.take()?)).filter(|generation| *generation >= 0),
    };
    Ok(StickyData { partitions, generation })
}

/// The generation alone, which is what Java's `CooperativeStickyAssignor` sends beside the owned partitions.
pub(crate) fn encode_generation(generation: i32) -> Bytes {
    Bytes::copy_from_slice(&generation.to_be_bytes())
}

/// The generation in the user data of `cooperative-sticky`; members that speak version 2 say it a second time.
///
/// # Errors
/// The bytes are something else.
pub(crate) fn decode_generation(bytes: &[u8]) -> Result<Option<i32>, ProtocolError> {
    let mut reader = Reader { what: "user data of the cooperative-sticky assignor", bytes, at: 0 };
    Ok(Some(i32::from_be_bytes(reader.take()?)).filter(|generation| *generation >= 0))
}

/// The assignment of `partitions`.
pub(crate) fn encode_assignment(partitions: &[TopicPartition]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(VERSION);
    put_partitions(&mut out, partitions);
    put_bytes(&mut out, None);
    out.freeze()
}

/// The partitions that the leader of the group gives to this member. No bytes at all mean none.
///
/// # Errors
/// The bytes are no assignment, or end in the middle of one.
pub(crate) fn decode_assignment(bytes: &[u8]) -> Result<Vec<TopicPartition>, ProtocolError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut reader = Reader { what: "an assignment", bytes, at: 0 };
    reader.version()?;
    reader.partitions()
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_i32(i32::try_from(count).unwrap_or(i32::MAX));
}

fn put_string(out: &mut BytesMut, string: &str) {
    // Topic names have at most 249 bytes: the configuration refuses others.
    out.put_i16(i16::try_from(string.len()).unwrap_or(i16::MAX));
    out.put_slice(string.as_bytes());
}

fn put_bytes(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_count(out, bytes.len());
            out.put_slice(bytes);
        }
        None => out.put_i32(-1),
    }
}

/// By topic, in order.
fn put_partitions(out: &mut BytesMut, partitions: &[TopicPartition]) {
    let mut sorted: Vec<&TopicPartition> = partitions.iter().collect();
    sorted.sort();
    put_count(out, sorted.chunk_by(|a, b| a.topic == b.topic).count());
    for topic in sorted.chunk_by(|a, b| a.topic == b.topic) {
        put_string(out, &topic[0].topic);
        put_count(out, topic.len());
        topic.iter().for_each(|partition| out.put_i32(partition.partition));
    }
}

struct Reader<'a> {
    what: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
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

    /// Partitions by topic: in order, each once.
    fn partitions(&mut self) -> Result<Vec<TopicPartition>, ProtocolError> {
        let mut partitions = Vec::new();
        for _ in 0..self.count(6)? {
            let topic = self.string()?;
            for _ in 0..self.count(4)? {
                let partition = i32::from_be_bytes(self.take()?);
                if partition < 0 {
                    return self.fail("a negative partition");
                }
                partitions.push(TopicPartition { topic: topic.clone(), partition });
            }
        }
        partitions.sort();
        partitions.dedup();
        Ok(partitions)
    }

    fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, ProtocolError> {
        let length = i32::from_be_bytes(self.take()?);
        if length == -1 {
            return Ok(None);
        }
        let Ok(length) = usize::try_from(length) else { return self.fail("a negative length") };
        let Some(bytes) = self.bytes.get(self.at..).and_then(|left| left.get(..length)) else {
            return self.fail("bytes beyond the end");
        };
        self.at += length;
        Ok(Some(bytes))
    }

    fn nullable_string(&mut self) -> Result<Option<Arc<str>>, ProtocolError> {
        let before = self.at;
        if i16::from_be_bytes(self.take()?) == -1 {
            return Ok(None);
        }
        self.at = before;
        self.string().map(Some)
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
mod tests;
