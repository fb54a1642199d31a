//! The spool: what was accepted and is not settled, on disk. SPOOL_FORMAT.md has the bytes.
//!
//! ```text
//!  accepted ──Batch──▶ ready ──Stamp──▶ stamped ──(sent)──▶ Delivered: forgotten
//!                        ▲                 │
//!                        │ Ready           ├──▶ Parked: goes again, holds its partition
//!                        └─────────────────┴──▶ Dead: kept for a person, holds nothing up
//! ```
//!
//! What is written together is a [`Group`]: after a crash all of it is there, or nothing. The sender writes a batch and
//! its stamp before the first byte goes to a broker, so whoever opens the spool next knows exactly what may be in the
//! topic, under which producer id, epoch and sequence.

pub(crate) mod build;
pub(crate) mod format;
pub(crate) mod plan;
pub(crate) mod state;

use crate::types::{ProducerIdentity, TopicId, TopicPartition};
use crate::wire::batch::SealedBatch;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

/// Names a batch in a spool. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BatchId(pub(crate) u64);

impl BatchId {
    /// None that is in a spool: a stamp of it only says that an identity is used.
    pub(crate) const NONE: BatchId = BatchId(u64::MAX);
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Where a batch stands among those of its partition. A split batch's halves share the place of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Order {
    /// Batches are sent in this order.
    pub(crate) rank: u64,
    /// How many ranks belong to it; halves take half each.
    pub(crate) span: u32,
}

impl Order {
    /// More halvings than a batch has records in practice: a batch of a million.
    const SPAN: u32 = 1 << 20;

    /// The place of the `n`-th batch accepted.
    pub(crate) fn nth(n: u64) -> Order {
        Order { rank: n * u64::from(Order::SPAN), span: Order::SPAN }
    }

    /// The first `n` after this place.
    fn after(self) -> u64 {
        self.rank / u64::from(Order::SPAN) + 1
    }

    /// The places of its halves.
    pub(crate) fn halves(self) -> Option<[Order; 2]> {
        let span = self.span / 2;
        let second = Order { rank: self.rank + u64::from(span), span };
        (span > 0).then_some([Order { rank: self.rank, span }, second])
    }
}

/// Which log the batch is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// This partition.
    Partition(TopicPartition),
    /// A topic whose partitions were not known when it was accepted, with the partition that the application chose for
    /// each record, or -1.
    Unpartitioned { topic: Arc<str>, chosen: Vec<i32> },
}

impl Target {
    /// The topic.
    pub(crate) fn topic(&self) -> &Arc<str> {
        match self {
            Target::Partition(partition) => &partition.topic,
            Target::Unpartitioned { topic, .. } => topic,
        }
    }

    /// The partition, if it is known.
    pub(crate) fn partition(&self) -> Option<i32> {
        match self {
            Target::Partition(partition) => Some(partition.partition),
            Target::Unpartitioned { .. } => None,
        }
    }
}

/// A batch to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewBatch {
    /// Its name.
    pub(crate) id: BatchId,
    /// Its place among the batches of its partition, or of its topic while that has no partitions.
    pub(crate) order: Order,
    /// Where it goes.
    pub(crate) target: Target,
    /// The topic's id when it was accepted; [`TopicId::NONE`] when that was not known.
    pub(crate) topic_id: TopicId,
    /// When it was sealed, in Unix milliseconds.
    pub(crate) accepted_at: i64,
    /// The records, as they will go over the wire.
    pub(crate) sealed: SealedBatch,
}

/// An offset that the partition had reached, and under which leader epoch: where a search for a batch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Noted {
    /// The first offset that may hold what was sent after it was noted.
    pub(crate) offset: i64,
    /// The leader epoch under which it was learnt; -1 when the broker did not say.
    pub(crate) leader_epoch: i32,
}

/// Under whom, and with which sequence, a batch goes to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Producer id and epoch.
    pub(crate) identity: ProducerIdentity,
    /// The sequence of the first record.
    pub(crate) base_sequence: i32,
    /// Where the partition stood before; none when that was not known.
    pub(crate) noted: Option<Noted>,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is in the log; the spool forgets it.
    Delivered { base_offset: Option<i64>, leader_epoch: i32 },
    /// Others, in the same group, took its place: halves, or its parts by partition. The spool forgets it.
    Replaced,
    /// A person had it thrown away. The spool forgets it.
    Discarded,
    /// It could not be delivered yet; it goes again.
    Parked { unknown: bool, reason: Arc<str> },
    /// The broker refused it for good. It stays until a person decides.
    Dead { unknown: bool, reason: Arc<str> },
    /// It goes (again). `afresh`: as if it had never been sent, its stamp is forgotten.
    Ready { afresh: bool },
}

/// One thing to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// A batch is accepted.
    Batch(NewBatch),
    /// A batch gets its identity. To be durable before it is sent.
    Stamp { batch: BatchId, stamp: Stamp },
    /// Something became of a batch.
    Outcome { batch: BatchId, outcome: Outcome },
    /// Everything of this source up to this position is in the spool, or was delivered.
    Position { source: Arc<str>, position: u64 },
    /// The cluster this spool belongs to.
    Cluster(Arc<str>),
    /// The spool is this cluster's from now on. Nothing of it was ever sent there: identities, stamps and what was
    /// acknowledged are forgotten.
    Adopted(Arc<str>),
    /// A topic's id and how many partitions it has.
    Topic { name: Arc<str>, id: TopicId, partitions: i32 },
    /// The highest sequence, as identity and sequence of its last record, that a partition's leader has acknowledged,
    /// with the newest timestamp of that batch and the offset after it. Written along with `Delivered`.
    Acknowledged {
        partition: TopicPartition,
        identity: ProducerIdentity,
        last_sequence: i32,
        newest: i64,
        noted: Noted,
    },
}

/// What goes to disk together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// In this order.
    pub(crate) ops: Vec<Op>,
}

/// How a batch stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Status {
    /// It waits for its turn, or is on its way.
    #[default]
    Ready,
    /// See [`Outcome::Parked`].
    Parked { unknown: bool, reason: Arc<str> },
    /// See [`Outcome::Dead`].
    Dead { unknown: bool, reason: Arc<str> },
}

/// A batch found in a spool; its bytes stay on disk until they are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredBatch {
    /// Its name.
    pub(crate) id: BatchId,
    /// Its place.
    pub(crate) order: Order,
    /// Where it goes.
    pub(crate) target: Target,
    /// The topic's id when it was accepted.
    pub(crate) topic_id: TopicId,
    /// When it was sealed, in Unix milliseconds.
    pub(crate) accepted_at: i64,
    /// How many records it has.
    pub(crate) count: i32,
    /// The newest record's timestamp.
    pub(crate) max_timestamp: i64,
    /// The size of its records section.
    pub(crate) len: usize,
    /// Its last stamp, if it was ever to be sent.
    pub(crate) stamp: Option<Stamp>,
    /// How it stands.
    pub(crate) status: Status,
}

/// What the spool knows of a partition besides its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    /// Under whom the last acknowledged batch went.
    pub(crate) identity: ProducerIdentity,
    /// The sequence of its last record.
    pub(crate) last_sequence: i32,
    /// Its newest timestamp.
    pub(crate) newest: i64,
    /// The offset after it.
    pub(crate) noted: Noted,
}

/// A damaged place that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// The segment's file name.
    pub(crate) file: String,
    /// Where in it.
    pub(crate) offset: u64,
    /// How many bytes.
    pub(crate) len: u64,
    /// What is wrong with them.
    pub(crate) what: String,
    /// The file they were copied to; none when only looked at.
    pub(crate) set_aside: Option<String>,
}

/// Everything an opened spool tells; its size follows the number of batches, not their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// The cluster it belongs to, once a broker told it.
    pub(crate) cluster_id: Option<Arc<str>>,
    /// Topics: id and partition count.
    pub(crate) topics: BTreeMap<Arc<str>, (TopicId, i32)>,
    /// What is in the spool or delivered, by source.
    pub(crate) positions: BTreeMap<Arc<str>, u64>,
    /// What partitions have acknowledged.
    pub(crate) acknowledged: HashMap<TopicPartition, Acknowledged>,
    /// The identity with the highest epoch of the producer id stamped or acknowledged last, over all partitions.
    pub(crate) identity: Option<ProducerIdentity>,
    /// The batches that are not settled, by order and id.
    pub(crate) batches: Vec<StoredBatch>,
    /// The next free id, and the next free place (`Order::nth`).
    pub(crate) next_id: u64,
    /// See `next_id`.
    pub(crate) next_order: u64,
    /// What was damaged.
    pub(crate) damage: Vec<Damage>,
    /// A damaged place may have held a stamp: the first batches of each partition that have none may have been sent.
    pub(crate) stamps_in_doubt: bool,
}
