//! What becomes of a record that was not delivered.

use super::{Human, MetadataError};
use crate::record::OwnedRecord;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A record that was not acknowledged. It comes back whole; the variant says what may be done with it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SendError {
    /// It is certainly not in the topic. Sending it again cannot double it.
    NotDelivered(Box<Undelivered>),
    /// It may be in the topic: an attempt ended without an answer. Sending it again may double it.
    MaybeDelivered(Box<Undelivered>),
    /// The producer ended before it was delivered, and it is in the spool: the next producer that opens the spool delivers
    /// it. Sending it again doubles it. The record's key, value and headers may be missing here: the spool has them.
    Spooled(Box<Undelivered>),
}

/// The record and why it was given up.
#[derive(Clone, Debug)]
pub struct Undelivered {
    /// The record.
    pub record: OwnedRecord,
    /// Why.
    pub cause: SendCause,
    /// What happened last on the way to the broker, if anything did: which broker answered what.
    pub last: Option<Arc<str>>,
}

/// Why a record was given up.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendCause {
    /// Larger than the client's own limit; it never entered a batch.
    #[error("the record takes {size} bytes, more than max.request.size allows ({limit}): send less, or raise it")]
    TooLarge {
        /// The record's size in a batch, in bytes.
        size: usize,
        /// `max.request.size`, in bytes.
        limit: usize,
    },
    /// The broker refused this record alone: larger than the topic's `max.message.bytes`, an invalid timestamp, no key
    /// on a compacted topic.
    #[error("the broker refused the record: see the topic's max.message.bytes, timestamp and key rules")]
    RecordRefused,
    /// The broker refused the batch for good.
    #[error("the broker refused it for good")]
    Refused,
    /// `delivery.timeout.ms` ran out.
    #[error("not delivered within delivery.timeout.ms ({})", Human(*.0))]
    TimedOut(Duration),
    /// `retries` ran out.
    #[error("not delivered within {0} retries")]
    RetriesUsedUp(u32),
    /// Another producer writes under this producer id with a higher epoch.
    #[error("fenced by a newer producer with the same producer id")]
    Fenced,
    /// The broker cannot say whether it has the record.
    #[error(
        "the leader cannot say whether it has the record: READ on the topic and a broker from 2.8 on would make it exact"
    )]
    CannotTell,
    /// There was no room for it.
    #[error("the producer's {limit} bytes of buffer.memory were full for {} (max.block.ms)", Human(*.waited))]
    BufferFull {
        /// `buffer.memory`, in bytes.
        limit: usize,
        /// How long `send` waited; zero for `try_send`.
        waited: Duration,
    },
    /// There was no room for it in the spool.
    #[error(
        "the spool was full for {}: {used} of {limit} bytes (spool.max.bytes) hold records that are not delivered; bring \
         the brokers back, or raise it", Human(*.waited)
    )]
    SpoolFull {
        /// Bytes in use.
        used: u64,
        /// `spool.max.bytes`.
        limit: u64,
        /// How long `send` waited (`max.block.ms`); zero for `try_send`.
        waited: Duration,
    },
    /// The spool cannot be written or does not belong here.
    #[error(transparent)]
    Spool(#[from] super::SpoolError),
    /// Something that only a spool can do.
    #[error("{0}")]
    NeedsSpool(&'static str),
    /// The positions of a source have to grow.
    #[error(
        "position {position} of source {name:?} is not above its last one, {last}: the record was sent before, or two \
         tasks send records of one source"
    )]
    PositionNotGrowing {
        /// The source.
        name: Arc<str>,
        /// The position refused.
        position: u64,
        /// The last one accepted, in this run or, before its first, in the spool.
        last: u64,
    },
    /// The topic's partitions could not be learnt.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// `try_send` does not wait for the topic's partitions to be learnt; they are being asked for.
    #[error("the partitions of topic {0:?} are not known yet: use send, or try again")]
    NotYetKnown(Arc<str>),
    /// The topic has no such partition.
    #[error("topic {topic:?} has {partitions} partitions, and no partition {partition}")]
    NoSuchPartition {
        /// The topic.
        topic: Arc<str>,
        /// The partition asked for.
        partition: i32,
        /// How many there are.
        partitions: usize,
    },
    /// The producer was closed or dropped before the record was acknowledged.
    #[error("the producer was closed before the record was acknowledged: await its receipt, flush, or close with time")]
    Closed,
}

impl SendError {
    pub(crate) fn refused(record: OwnedRecord, cause: SendCause) -> SendError {
        SendError::NotDelivered(Box::new(Undelivered { record, cause, last: None }))
    }

    fn undelivered(&self) -> &Undelivered {
        match self {
            SendError::NotDelivered(undelivered)
            | SendError::MaybeDelivered(undelivered)
            | SendError::Spooled(undelivered) => undelivered,
        }
    }

    /// The record.
    pub fn record(&self) -> &OwnedRecord {
        &self.undelivered().record
    }

    /// The record, without a copy.
    pub fn into_record(self) -> OwnedRecord {
        match self {
            SendError::NotDelivered(undelivered)
            | SendError::MaybeDelivered(undelivered)
            | SendError::Spooled(undelivered) => undelivered.record,
        }
    }

    /// Why it was given up.
    pub fn cause(&self) -> &SendCause {
        &self.undelivered().cause
    }

    /// What happened last on the way to the broker.
    pub fn last(&self) -> Option<&str> {
        self.undelivered().last.as_deref()
    }

    /// Whether the record may be in the topic.
    pub fn may_be_delivered(&self) -> bool {
        matches!(self, SendError::MaybeDelivered(_))
    }

    /// Whether sending the record again may succeed without anybody changing it or the cluster's settings.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.cause(),
            SendCause::TimedOut(_)
                | SendCause::RetriesUsedUp(_)
                | SendCause::BufferFull { .. }
                | SendCause::SpoolFull { .. }
                | SendCause::NotYetKnown(_)
                | SendCause::CannotTell
                | SendCause::Metadata(MetadataError::NoBrokerReachable(_) | MetadataError::Broker { .. })
        )
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Undelivered { record, cause, last } = self.undelivered();
        let certainty = match self {
            SendError::NotDelivered(_) => "not delivered",
            SendError::MaybeDelivered(_) => "perhaps delivered",
            SendError::Spooled(_) => "kept in the spool",
        };
        write!(f, "record for {}", record.topic)?;
        if let Some(partition) = record.partition {
            write!(f, "-{partition}")?;
        }
        write!(f, " {certainty}: {cause}")?;
        match last {
            Some(last) => write!(f, "; last: {last}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for SendError {}

/// Records that were still not acknowledged when `close` ran out of time; with a spool, those that it could not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("closed with {batches} batches not acknowledged within {}; their receipts tell of each record", Human(*.waited))]
pub struct CloseError {
    /// How many batches were left.
    pub batches: usize,
    /// How long `close` waited.
    pub waited: Duration,
}
