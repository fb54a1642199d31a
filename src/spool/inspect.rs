//! What lies in a spool, as plain values.

use super::look::Look;
use crate::core::spool as core;
use crate::error::SpoolError;
use crate::types::{ProducerIdentity, TopicId, TopicPartition};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// What lies in a spool.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Inspection {
    /// Its directory.
    pub directory: PathBuf,
    /// The cluster it belongs to, once a broker told it.
    pub cluster_id: Option<String>,
    /// The process that has it open; `?` when somebody has and it is not to be read who.
    pub holder: Option<String>,
    /// The version of its format.
    pub format_version: u32,
    /// What its files take on disk, in bytes.
    pub disk_bytes: u64,
    /// What the batches take of that, in bytes: this is what `spool.max.bytes` limits.
    pub used_bytes: u64,
    /// What dead batches take of that, in bytes.
    pub dead_bytes: u64,
    /// How many files hold batches, free ones included.
    pub segments: usize,
    /// The topics it knows.
    pub topics: BTreeMap<String, Topic>,
    /// What is to be sent and what was sent, by topic and partition; -1 holds the records of topics whose partitions were
    /// not known when they were accepted.
    pub partitions: BTreeMap<TopicPartition, Partition>,
    /// The batches that are not settled, in the order in which they are sent.
    pub batches: Vec<Batch>,
    /// Up to where each source is in the spool or was delivered.
    pub positions: BTreeMap<String, u64>,
    /// Places that cannot be read. What a running producer is just writing is none.
    pub damage: Vec<DamagedPlace>,
    /// Files that damaged places were copied to.
    pub set_aside: Vec<SetAside>,
}

/// A topic as the spool knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Topic {
    /// Its id; [`TopicId::NONE`] when the brokers have none.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: i32,
}

/// A partition's share of a spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Partition {
    /// How many batches wait for their turn.
    pub ready: usize,
    /// How many could not be delivered yet and go again.
    pub parked: usize,
    /// How many of the parked ones may be in the topic, so that a person has to decide unless the producer's policy does.
    pub unknown: usize,
    /// How many were refused for good.
    pub dead: usize,
    /// Records in all of them.
    pub records: u64,
    /// Bytes of these records, as they are stored.
    pub bytes: u64,
    /// When the oldest of them was accepted, in Unix milliseconds.
    pub oldest: Option<i64>,
    /// Under which producer id and epoch its newest batch was stamped or acknowledged.
    pub identity: Option<ProducerIdentity>,
    /// The sequence that comes next under that identity.
    pub next_sequence: Option<i32>,
    /// The offset after the last acknowledged record, as far as the spool knows.
    pub acknowledged: Option<i64>,
}

/// A batch of records.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Batch {
    /// Its number, by which [`Filter`](super::Filter) names it.
    pub id: u64,
    /// Its topic.
    pub topic: String,
    /// Its partition; none while that is not chosen.
    pub partition: Option<i32>,
    /// The topic's id when it was accepted; [`TopicId::NONE`] when that was not known.
    pub topic_id: TopicId,
    /// How many records it has.
    pub records: u64,
    /// Bytes of these records, as they are stored.
    pub bytes: u64,
    /// When it was accepted, in Unix milliseconds.
    pub accepted_at: i64,
    /// How it stands.
    pub status: BatchStatus,
    /// Under whom it was sent, or was about to be; none when it never was.
    pub stamp: Option<Stamped>,
}

/// How a batch stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchStatus {
    /// It goes when its turn comes.
    #[default]
    Ready,
    /// It could not be delivered yet, and goes again.
    Parked {
        /// Whether it may be in the topic, so that a person or a policy has to decide.
        unknown: bool,
        /// Why.
        reason: String,
    },
    /// It was refused for good.
    Dead {
        /// Whether it may be in the topic all the same.
        unknown: bool,
        /// Why.
        reason: String,
    },
}

impl BatchStatus {
    /// `ready`, `parked` or `dead`.
    pub fn name(&self) -> &'static str {
        match self {
            BatchStatus::Ready => "ready",
            BatchStatus::Parked { .. } => "parked",
            BatchStatus::Dead { .. } => "dead",
        }
    }

    /// Why it is not ready.
    pub fn reason(&self) -> Option<&str> {
        match self {
            BatchStatus::Ready => None,
            BatchStatus::Parked { reason, .. } | BatchStatus::Dead { reason, .. } => Some(reason),
        }
    }

    /// Whether nobody can tell if it is in the topic.
    pub fn is_unknown(&self) -> bool {
        matches!(self, BatchStatus::Parked { unknown: true, .. } | BatchStatus::Dead { unknown: true, .. })
    }

    /// Whether it was refused for good.
    pub fn is_dead(&self) -> bool {
        matches!(self, BatchStatus::Dead { .. })
    }

    /// Whether it could not be delivered yet.
    pub fn is_parked(&self) -> bool {
        matches!(self, BatchStatus::Parked { .. })
    }
}

impl fmt::Display for BatchStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        if self.is_unknown() {
            f.write_str(", perhaps delivered")?;
        }
        match self.reason() {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

/// Under whom a batch was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stamped {
    /// Producer id and epoch.
    pub identity: ProducerIdentity,
    /// The sequence of its first record.
    pub base_sequence: i32,
}

/// A place that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamagedPlace {
    /// The file's name in the directory.
    pub file: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
    /// What is wrong with them.
    pub what: String,
}

/// A file that a damaged place was copied to, for a person to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetAside {
    /// Its name in the directory.
    pub file: String,
    /// Its size in bytes.
    pub bytes: u64,
}

impl From<&core::StoredBatch> for Batch {
    fn from(batch: &core::StoredBatch) -> Batch {
        Batch {
            id: batch.id.0,
            topic: batch.target.topic().to_string(),
            partition: batch.target.partition(),
            topic_id: batch.topic_id,
            records: u64::try_from(batch.count).unwrap_or(0),
            bytes: batch.len as u64,
            accepted_at: batch.accepted_at,
            status: BatchStatus::from(&batch.status),
            stamp: batch.stamp.map(|stamp| Stamped { identity: stamp.identity, base_sequence: stamp.base_sequence }),
        }
    }
}

impl From<&core::Status> for BatchStatus {
    fn from(status: &core::Status) -> BatchStatus {
        match status {
            core::Status::Ready => BatchStatus::Ready,
            core::Status::Parked { unknown, reason } => {
                BatchStatus::Parked { unknown: *unknown, reason: reason.to_string() }
            }
            core::Status::Dead { unknown, reason } => {
                BatchStatus::Dead { unknown: *unknown, reason: reason.to_string() }
            }
        }
    }
}

impl From<&core::Damage> for DamagedPlace {
    fn from(damage: &core::Damage) -> DamagedPlace {
        DamagedPlace { file: damage.file.clone(), offset: damage.offset, len: damage.len, what: damage.what.clone() }
    }
}

/// The partition's name in [`Inspection::partitions`].
fn place(batch: &Batch) -> TopicPartition {
    TopicPartition::new(batch.topic.as_str(), batch.partition.unwrap_or(-1))
}

/// Adds up the batches of each partition, and adds what the partitions have acknowledged.
fn partitions(
    batches: &[Batch],
    acknowledged: Vec<(TopicPartition, core::Acknowledged)>,
) -> BTreeMap<TopicPartition, Partition> {
    let mut partitions: BTreeMap<TopicPartition, Partition> = BTreeMap::new();
    for (partition, known) in acknowledged {
        let entry = partitions.entry(partition).or_default();
        entry.identity = Some(known.identity);
        entry.next_sequence = Some(sequence_after(known.last_sequence, 1));
        entry.acknowledged = (known.noted.offset >= 0).then_some(known.noted.offset);
    }
    for batch in batches {
        let entry = partitions.entry(place(batch)).or_default();
        match batch.status {
            BatchStatus::Ready => entry.ready += 1,
            BatchStatus::Parked { .. } => entry.parked += 1,
            BatchStatus::Dead { .. } => entry.dead += 1,
        }
        entry.unknown += usize::from(batch.status.is_parked() && batch.status.is_unknown());
        entry.records += batch.records;
        entry.bytes += batch.bytes;
        entry.oldest = Some(entry.oldest.map_or(batch.accepted_at, |oldest| oldest.min(batch.accepted_at)));
        // In the order of sending, the last stamp of the highest epoch is the newest.
        if let Some(stamp) = batch.stamp.filter(|stamp| is_newer(stamp.identity, entry.identity)) {
            entry.identity = Some(stamp.identity);
            entry.next_sequence = Some(sequence_after(stamp.base_sequence, batch.records));
        }
    }
    partitions
}

/// A new producer id follows a used up epoch, so its own is lower.
fn is_newer(one: ProducerIdentity, than: Option<ProducerIdentity>) -> bool {
    than.is_none_or(|than| one.id != than.id || one.epoch >= than.epoch)
}

/// Sequences go round at 2³¹.
fn sequence_after(sequence: i32, records: u64) -> i32 {
    let next = (i64::from(sequence) + i64::try_from(records).unwrap_or(0)) & i64::from(i32::MAX);
    i32::try_from(next).unwrap_or(0)
}

/// What [`verify`] read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// Batches whose bytes and checksums were read and fit.
    pub batches: u64,
    /// The records in them.
    pub records: u64,
    /// The bytes of these records.
    pub bytes: u64,
    /// Places that cannot be read.
    pub damage: Vec<DamagedPlace>,
}

/// Looks into a spool. Reads about a GiB in a second, and changes nothing.
///
/// # Errors
/// [`SpoolError`] when there is no spool, or its files cannot be read at all. Damage is no error.
pub fn inspect(directory: impl AsRef<Path>) -> Result<Inspection, SpoolError> {
    let directory = directory.as_ref();
    let mut look = Look::at(directory)?;
    let batches: Vec<Batch> = look.take_batches().iter().map(Batch::from).collect();
    let recovered = &look.found.recovered;
    let (segments, disk_bytes) = look.files();
    let (used_bytes, dead_bytes) = look.found.live();
    let topics = recovered.topics.iter();
    let acknowledged = recovered.acknowledged.iter().map(|(partition, known)| (partition.clone(), *known));
    Ok(Inspection {
        directory: directory.to_owned(),
        cluster_id: recovered.cluster_id.as_ref().map(ToString::to_string),
        holder: look.holder.clone(),
        format_version: look.found.version,
        disk_bytes,
        used_bytes,
        dead_bytes,
        segments,
        topics: topics
            .map(|(name, (id, partitions))| (name.to_string(), Topic { id: *id, partitions: *partitions }))
            .collect(),
        partitions: partitions(&batches, acknowledged.collect()),
        batches,
        positions: recovered.positions.iter().map(|(source, position)| (source.to_string(), *position)).collect(),
        damage: look.damage.clone(),
        set_aside: look.set_aside(),
    })
}

/// Reads every batch and compares every checksum, the records' own included, and changes nothing.
///
/// # Errors
/// [`SpoolError`] when there is no spool, or its files cannot be read at all. Damage is no error: see
/// [`Verification::damage`].
pub fn verify(directory: impl AsRef<Path>) -> Result<Verification, SpoolError> {
    let mut look = Look::at(directory.as_ref())?;
    let mut found = Verification { damage: look.damage.clone(), ..Verification::default() };
    for stored in look.take_batches() {
        let batch = Batch::from(&stored);
        match look.read(stored.id) {
            Ok(Some(sealed)) => {
                found.batches += 1;
                found.records += batch.records;
                found.bytes += sealed.section().bytes.len() as u64;
            }
            // Delivered meanwhile.
            Ok(None) => {}
            Err(SpoolError::Damaged { path, offset, what }) => {
                let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                found.damage.push(DamagedPlace { file, offset, len: batch.bytes, what });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
