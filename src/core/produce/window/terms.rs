//! The words in which the window and its owner speak to each other.

use crate::core::spool::Noted;
use crate::types::{BrokerId, ProducerIdentity};
use std::sync::Arc;
use std::time::Instant;

/// What the window has to know of a sealed batch.
pub(crate) trait Stampable: Sized {
    /// The number of records, at least 1.
    fn count(&self) -> i32;
    /// The newest record's timestamp, in Unix milliseconds: the broker forgets producers by it.
    fn newest_timestamp(&self) -> i64;
    /// When the application stops waiting for it.
    fn deadline(&self) -> Instant;
    /// The same records in two batches, in order; itself when it has only one record.
    fn split(self) -> Result<[Self; 2], Self>;
    /// Its place among the batches of the partition, where it has one.
    fn rank(&self) -> Option<u64> {
        None
    }
    /// Where the partition stood before the batch was stamped, if that was noted: it is nowhere before that.
    fn noted(&self) -> Option<Noted> {
        None
    }
}

/// Who leads the partition: a window is warm for one of these only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leadership {
    /// The leader.
    pub broker: BrokerId,
    /// Its leader epoch, or -1 where the broker does not tell.
    pub epoch: i32,
}

/// Names a batch of the window across a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EntryId(pub(super) u64);

/// What the window's owner should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing: no batch, or answers have to come first.
    Idle,
    /// Nothing before this time.
    Wait(Instant),
    /// Write this batch and its stamp to disk, after all that was settled before, then call [`super::Window::on_saved`]; it is
    /// not sent before that.
    Save(EntryId),
    /// Send this batch; it counts as in flight now.
    Send(EntryId),
    /// Ask the leader what it has of this producer (DescribeProducers), then call [`super::Window::on_probe`].
    Probe,
    /// Look for this producer's batches in the log, from the offset noted for this one on, then call
    /// [`super::Window::on_scan`].
    Scan(EntryId),
    /// Get a producer id, then call [`super::Window::on_identity`].
    NewProducerId,
}

/// Where the leader says this producer stands in the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeAnswer {
    /// The epoch and the last sequence it has.
    Known {
        /// The epoch of the last batch.
        epoch: i16,
        /// The sequence of its last record.
        last_sequence: i32,
    },
    /// It does not know the producer.
    Empty {
        /// Where its log begins, if it said so.
        log_start: Option<i64>,
    },
    /// It cannot be asked: no READ permission, or a broker before 2.8.
    Unavailable,
}

/// Why an attempt did not succeed; told to the application when the batch is given up.
pub(crate) type Setback = Arc<str>;

/// Why a batch is settled without being delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// `delivery.timeout.ms` ran out.
    TimedOut,
    /// `retries` ran out.
    RetriesUsedUp,
    /// The broker refused it for good.
    Refused,
    /// A single record is larger than the topic or the broker allows, or invalid.
    RecordRefused,
    /// Somebody else writes with this producer id under a higher epoch.
    Fenced,
    /// The leader has an epoch of this producer id that the spool never gave out: the spool is older than what its
    /// producer wrote (restored from a backup), or another copy of it is running.
    Outdated,
    /// The broker cannot say whether it has the batch.
    CannotTell,
}

/// The end of a batch's way, or something the application should know.
#[derive(Debug)]
pub(crate) enum Settled<B> {
    /// It is in the log.
    Delivered {
        /// The batch.
        batch: B,
        /// Where its first record is, if the broker said so.
        base_offset: Option<i64>,
    },
    /// It is not in the log and will not get there.
    Failed {
        /// The batch.
        batch: B,
        /// Why.
        reason: Reason,
        /// What happened last.
        setback: Option<Setback>,
    },
    /// It may be in the log.
    Unknown {
        /// The batch.
        batch: B,
        /// Why it was given up.
        reason: Reason,
        /// What happened last.
        setback: Option<Setback>,
    },
    /// The leader has less than it acknowledged: records were lost on the broker's side.
    AcknowledgedLost {
        /// The identity they were sent under.
        identity: ProducerIdentity,
        /// The last sequence the leader still has; none when nothing of this epoch.
        found: Option<i32>,
        /// The sequence that should have come next.
        expected: i32,
    },
    /// The leader has more of this identity than the spool knows to have been sent: a warning.
    Beyond {
        /// The identity.
        identity: ProducerIdentity,
        /// The last sequence the leader has.
        found: i32,
        /// The last one known to have been sent.
        expected: i32,
    },
}
