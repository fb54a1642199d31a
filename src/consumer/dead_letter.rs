//! Records on their way to a dead letter or retry topic: their headers, and the producer that writes them.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OnceCell;

use super::delivery::Delivery;
use crate::client::Client;
use crate::error::{HandlerFailure, SendCause, SendError};
use crate::producer::Producer;
use crate::record::OwnedRecord;
use crate::types::{Acks, TopicPartition};

/// Bytes of an error's text in a header, at most.
const ERROR_BYTES: usize = 4096;
/// What a record may grow by its headers, roughly.
const HEADERS_ROOM: usize = 1 << 20;
/// The least `buffer.memory` of the producer.
const BUFFER: usize = 32 << 20;

/// Where a record was first read, before it went through retry or dead letter topics. See
/// [`Delivery::origin`](crate::Delivery::origin).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Origin {
    /// Topic and partition.
    pub partition: TopicPartition,
    /// The offset there.
    pub offset: i64,
    /// The timestamp there, in milliseconds since 1970.
    pub timestamp: i64,
}

/// The two families of headers, which differ in their prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// Of records in a dead letter topic.
    DeadLetter,
    /// Of records in a retry topic.
    Retry,
}

/// What became of a record so far.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) origin: Origin,
    pub(super) attempts: u32,
}

impl Family {
    fn prefix(self) -> &'static str {
        match self {
            Family::DeadLetter => "indelible.dead-letter.",
            Family::Retry => "indelible.retry.",
        }
    }

    /// The value of its header called `name`, if that is text.
    fn text<'a>(self, delivery: &'a Delivery, name: &str) -> Option<&'a str> {
        let called = |found: &[u8]| found.strip_prefix(self.prefix().as_bytes()) == Some(name.as_bytes());
        let (_, value) = delivery.headers().filter(|(found, _)| called(found)).last()?;
        std::str::from_utf8(value?).ok()
    }

    /// A header that is a number.
    pub(super) fn number<T: std::str::FromStr>(self, delivery: &Delivery, name: &str) -> Option<T> {
        self.text(delivery, name)?.parse().ok()
    }

    /// Where the record was first read, if its headers say so.
    pub(super) fn origin(self, delivery: &Delivery) -> Option<Origin> {
        let partition = TopicPartition::new(self.text(delivery, "topic")?, self.number(delivery, "partition")?);
        let (offset, timestamp) = (self.number(delivery, "offset")?, self.number(delivery, "timestamp")?);
        Some(Origin { partition, offset, timestamp })
    }
}

/// A record to be written elsewhere.
pub(super) struct Letter<'a> {
    pub(super) family: Family,
    pub(super) topic: &'a str,
    pub(super) group: Option<&'a str>,
    pub(super) history: &'a History,
    pub(super) failure: &'a HandlerFailure,
    /// When it is to be handled again, in milliseconds since 1970.
    pub(super) due: Option<i64>,
}

impl Letter<'_> {
    /// Key, value and headers of `delivery`, and headers that tell the story. Those of an earlier story are replaced, so
    /// that a record does not grow on its way from topic to topic.
    pub(super) fn record(&self, delivery: &Delivery) -> OwnedRecord {
        let stale = |name: &[u8]| {
            name.starts_with(Family::Retry.prefix().as_bytes()) || name.starts_with(self.family.prefix().as_bytes())
        };
        let kept = delivery.headers().filter(|(name, _)| !stale(name));
        let mut headers: Vec<(String, Option<Bytes>)> = kept
            .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.map(Bytes::copy_from_slice)))
            .collect();
        let mut add = |name: &str, value: &dyn fmt::Display| {
            headers.push((format!("{}{name}", self.family.prefix()), Some(Bytes::from(value.to_string()))));
        };
        let History { origin, attempts } = self.history;
        add("topic", &origin.partition.topic);
        add("partition", &origin.partition.partition);
        add("offset", &origin.offset);
        add("timestamp", &origin.timestamp);
        if let Some(group) = self.group {
            add("group", &group);
        }
        add("attempts", attempts);
        add("error", &error_text(self.failure));
        if let Some(due) = self.due {
            add("due", &due);
        }
        OwnedRecord {
            topic: self.topic.to_owned(),
            partition: None,
            key: delivery.key().map(Bytes::copy_from_slice),
            value: delivery.value_bytes(),
            headers,
            timestamp: None,
            position: None,
        }
    }
}

/// What went wrong and why, as far as causes are named, and not longer than a header should be.
fn error_text(failure: &HandlerFailure) -> String {
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(error) = cause
        && text.len() <= ERROR_BYTES
    {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    if text.len() > ERROR_BYTES {
        let end = (0..=ERROR_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// Writes records elsewhere, with a producer that is made when the first of them comes.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    client: Client,
    /// Bytes that a fetched record may have.
    largest: usize,
    producer: Arc<OnceCell<Producer>>,
}

impl Writer {
    pub(super) fn new(client: Client, largest: usize) -> Writer {
        Writer { client, largest, producer: Arc::default() }
    }

    /// Writes `record`, and waits until all replicas in sync have it.
    ///
    /// # Errors
    /// [`SendError`], with the record.
    pub(super) async fn write(&self, record: OwnedRecord) -> Result<(), SendError> {
        let Some(producer) = self.producer().await else {
            return Err(SendError::refused(record, SendCause::Closed));
        };
        producer.send(record.as_record()).await?.delivered().await.map(drop)
    }

    async fn producer(&self) -> Option<&Producer> {
        let build = || async {
            // Whether a record is too large is the topic's business. And each of them is waited for, so none lingers.
            let largest = self.largest.saturating_add(HEADERS_ROOM).min(1 << 30);
            let builder = self.client.producer().acks(Acks::All).linger(Duration::ZERO);
            builder.max_request_size(largest).buffer_memory(largest.max(BUFFER)).build().await
        };
        let made = self.producer.get_or_try_init(build).await;
        made.inspect_err(|error| tracing::error!(%error, "no producer for dead letters")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the order has no number")
        }
    }

    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn an_error_is_told_with_its_causes_and_within_its_bytes() {
        let outer = Outer("x".parse::<i32>().unwrap_err());
        let text = error_text(&HandlerFailure::Error(Box::new(outer)));
        assert_eq!(text, "the order has no number: invalid digit found in string");
        let text = error_text(&HandlerFailure::Error("ä".repeat(ERROR_BYTES).into()));
        assert_eq!(text.len(), ERROR_BYTES);
        let text = error_text(&HandlerFailure::Error(format!("x{}", "ä".repeat(ERROR_BYTES)).into()));
        assert_eq!(text.len(), ERROR_BYTES - 1, "cut between letters");
    }
}
