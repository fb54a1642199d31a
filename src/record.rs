//! Records on their way out: borrowed by `send`, owned where one comes back.

use bytes::Bytes;

/// A record to be sent. It borrows key, value and headers: `send` copies them once, into the batch.
///
/// ```
/// # use indelible::Record;
/// let record = Record::to("orders").key("42").value("paid").header("trace", Some(b"7f3a"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Vec<(&'a str, Option<&'a [u8]>)>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) position: Option<(&'a str, u64)>,
}

impl<'a> Record<'a> {
    /// A record for `topic`, without key, value and headers.
    pub fn to(topic: &'a str) -> Record<'a> {
        Record { topic, partition: None, key: None, value: None, headers: Vec::new(), timestamp: None, position: None }
    }

    /// The key: records of one key go to one partition, in order. Default null.
    pub fn key(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// The value. Default null, which on a compacted topic deletes the key (a tombstone).
    pub fn value(mut self, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.value = Some(value.as_ref());
        self
    }

    /// Adds a header; the same name may stand several times.
    pub fn header(mut self, name: &'a str, value: Option<&'a [u8]>) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The partition. Default: by the partitioner, from the key.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// The event's time in milliseconds since 1970. Default: now. A topic with `message.timestamp.type=LogAppendTime`
    /// replaces it; brokers refuse times more than an hour ahead.
    pub fn timestamp(mut self, millis: i64) -> Self {
        self.timestamp = Some(millis);
        self
    }

    /// Where the record stands in the input it was read from. After a crash
    /// [`Producer::recovered_positions`](crate::Producer::recovered_positions) tells for each source up to where its
    /// records are in the spool or delivered: reading goes on after that, with nothing lost and nothing doubled. Needs a
    /// spool that is written ahead.
    ///
    /// `source` names the input, and keeps its name from run to run. The positions of one source grow: sending position P
    /// says that everything of this source up to P has been sent. So its records are sent by one task, one after the
    /// other: `send` refuses a position that is not above the last one. Positions need not be dense. Where one piece of
    /// input makes several records, each has a position of its own.
    pub fn position(mut self, source: &'a str, position: u64) -> Self {
        self.position = Some((source, position));
        self
    }

    /// A copy that owns its bytes.
    pub fn to_owned_record(&self) -> OwnedRecord {
        let copy = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
        OwnedRecord {
            topic: self.topic.to_owned(),
            partition: self.partition,
            key: copy(self.key),
            value: copy(self.value),
            headers: self.headers.iter().map(|(name, value)| ((*name).to_owned(), copy(*value))).collect(),
            timestamp: self.timestamp,
            position: self.position.map(|(source, position)| (source.to_owned(), position)),
        }
    }
}

/// A record that owns its bytes; clones share them. What comes back inside an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    /// The topic it was for.
    pub topic: String,
    /// The partition it was for; none when it had not been chosen.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Option<Bytes>,
    /// The headers in order.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// The timestamp in milliseconds since 1970; none when the producer was to choose it.
    pub timestamp: Option<i64>,
    /// Source and position; none when it had none, and when it had been accepted with it.
    pub position: Option<(String, u64)>,
}

impl OwnedRecord {
    /// The record to send again, to the same partition if it had one.
    pub fn as_record(&self) -> Record<'_> {
        Record {
            topic: &self.topic,
            partition: self.partition,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect(),
            timestamp: self.timestamp,
            position: self.position.as_ref().map(|(source, position)| (source.as_str(), *position)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_being_owned() {
        let record = Record::to("t").partition(3).key("k").value("v").header("a", None).header("a", Some(b"1"));
        let record = record.position("file:x", 7);
        assert_eq!(record.to_owned_record().as_record(), record);
    }
}
