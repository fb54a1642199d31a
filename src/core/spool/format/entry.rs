//! Entries: what each type says, and its bytes.

use super::fields::{Fields, put_at, put_i32, put_i64, put_identity, put_noted, put_str, put_u32, put_u64};
use super::{ENTRY_HEAD, MAX_FIELDS, Place, SpoolId};
use crate::core::spool::{Acknowledged, BatchId, NewBatch, Noted, Op, Order, Outcome, Stamp, Target};
use crate::types::{Compression, ProducerIdentity, TopicId, TopicPartition};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A batch without its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BatchHead {
    pub(crate) id: BatchId,
    pub(crate) order: Order,
    pub(crate) target: Target,
    pub(crate) topic_id: TopicId,
    pub(crate) accepted_at: i64,
    pub(crate) count: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) compression: Compression,
    pub(crate) records_crc: u32,
}

impl BatchHead {
    pub(crate) fn of(batch: &NewBatch) -> BatchHead {
        let section = batch.sealed.section();
        BatchHead {
            id: batch.id,
            order: batch.order,
            target: batch.target.clone(),
            topic_id: batch.topic_id,
            accepted_at: batch.accepted_at,
            count: section.count,
            base_timestamp: section.base_timestamp,
            max_timestamp: section.max_timestamp,
            compression: section.compression,
            records_crc: batch.sealed.records_crc(),
        }
    }
}

/// What a checkpoint says besides restating cluster, topics, positions and acknowledgements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) next_id: u64,
    pub(crate) next_order: u64,
    /// The producer id stamped or acknowledged last.
    pub(crate) last: Option<i64>,
    /// The highest epoch of each producer id.
    pub(crate) epochs: BTreeMap<i64, i16>,
}

/// A damaged place that has been copied to a file of its own: known, and not to be reported again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SetAside {
    pub(crate) place: Place,
    pub(crate) len: u64,
    /// It may have held stamps of batches below this id; 0 when it held none.
    pub(crate) doubt_below: u64,
    /// The newest group when it was found: stamps made later are beyond doubt.
    pub(crate) number: u64,
}

/// One thing on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Batch(BatchHead),
    /// `number`: of the group in which it was made, kept when it is restated.
    Stamp {
        batch: BatchId,
        stamp: Stamp,
        number: u64,
    },
    Outcome {
        batch: BatchId,
        outcome: Outcome,
    },
    Position {
        source: Arc<str>,
        position: u64,
    },
    Cluster(Arc<str>),
    /// All is for this cluster; identities and acknowledgements of before do not count, nor do `stamps`, if it says so.
    /// Of batches with an id `below`, and of all there are if it says so, the topic's id is forgotten.
    Adopted {
        id: Arc<str>,
        stamps: bool,
        below: u64,
    },
    Topic {
        name: Arc<str>,
        id: TopicId,
        partitions: i32,
    },
    Acknowledged {
        partition: TopicPartition,
        acknowledged: Acknowledged,
    },
    Checkpoint(Checkpoint),
    /// These batches (ranges of ids, ends included) are all there are, without stamps and ready unless said behind;
    /// nothing is acknowledged and no identity was used unless said behind.
    Live(Vec<(u64, u64)>),
    SetAside(SetAside),
    /// This segment counts no longer, although later than the oldest.
    Dropped(u64),
    /// A segment before this one: where the groups that count end, and up to where it was synced.
    Ended {
        end: Place,
        synced: u64,
    },
}

const BATCH: u8 = 1;
const STAMP: u8 = 2;
const OUTCOME: u8 = 3;
const POSITION: u8 = 4;
const CLUSTER: u8 = 5;
const TOPIC: u8 = 6;
const ACKNOWLEDGED: u8 = 7;
const CHECKPOINT: u8 = 8;
const LIVE: u8 = 9;
const SET_ASIDE: u8 = 10;
const DROPPED: u8 = 11;
const ADOPTED: u8 = 12;
const ENDED: u8 = 13;

/// The head of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryHead {
    pub(crate) crc: u32,
    pub(crate) kind: u8,
    pub(crate) fields: u32,
    pub(crate) payload: u32,
}

impl EntryHead {
    pub(crate) fn decode(bytes: &[u8]) -> Option<EntryHead> {
        let mut fields = Fields::new(bytes);
        let (crc, kind) = (fields.u32()?, fields.u8()?);
        if fields.array::<3>()? != [0; 3] {
            return None;
        }
        let head = EntryHead { crc, kind, fields: fields.u32()?, payload: fields.u32()? };
        (head.fields as usize <= MAX_FIELDS).then_some(head)
    }

    /// All of the entry's bytes.
    pub(crate) fn len(&self) -> u64 {
        ENTRY_HEAD as u64 + u64::from(self.fields) + u64::from(self.payload)
    }

    /// Whether the damaged entry may have been a stamp: for all that can be told, its kind may be what is damaged.
    pub(crate) fn may_be_stamp(&self) -> bool {
        self.payload == 0 && !(POSITION..=ACKNOWLEDGED).contains(&self.kind)
    }
}

/// The checksum of an entry at `place`: over the spool's id, the place, and everything but the checksum itself and the
/// payload, whose own checksum is among the fields. A leftover of another life of the file never fits.
pub(crate) fn entry_crc(spool: SpoolId, place: Place, head_and_fields: &[u8]) -> u32 {
    let mut seed = [0; 32];
    put_at(&mut seed, 0, &spool.0);
    put_at(&mut seed, 16, &place.segment.to_le_bytes());
    put_at(&mut seed, 24, &place.offset.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&seed), head_and_fields.get(4..).unwrap_or_default())
}

impl Entry {
    /// How `op` is written. `number`: of the group it goes into.
    pub(crate) fn of(op: &Op, number: u64) -> Entry {
        match op {
            Op::Batch(batch) => Entry::Batch(BatchHead::of(batch)),
            Op::Stamp { batch, stamp } => Entry::Stamp { batch: *batch, stamp: *stamp, number },
            Op::Outcome { batch, outcome } => Entry::Outcome { batch: *batch, outcome: shortened(outcome) },
            Op::Position { source, position } => Entry::Position { source: source.clone(), position: *position },
            Op::Cluster(id) => Entry::Cluster(id.clone()),
            Op::Adopted(id) => Entry::Adopted { id: id.clone(), stamps: true, below: 0 },
            Op::Topic { name, id, partitions } => Entry::Topic { name: name.clone(), id: *id, partitions: *partitions },
            Op::Acknowledged { partition, identity, last_sequence, newest, noted } => Entry::Acknowledged {
                partition: partition.clone(),
                acknowledged: Acknowledged {
                    identity: *identity,
                    last_sequence: *last_sequence,
                    newest: *newest,
                    noted: *noted,
                },
            },
        }
    }

    /// Writes the fields to `out` and says the kind.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            Entry::Batch(batch) => {
                put_u64(out, batch.id.0);
                put_u64(out, batch.order.rank);
                put_u32(out, batch.order.span);
                put_str(out, batch.target.topic());
                match &batch.target {
                    Target::Partition(partition) => {
                        put_u32(out, 0);
                        put_i32(out, partition.partition);
                    }
                    Target::Unpartitioned { chosen, .. } => {
                        put_u32(out, 1);
                        put_u32(out, u32::try_from(chosen.len()).unwrap_or(u32::MAX));
                        chosen.iter().for_each(|partition| put_i32(out, *partition));
                    }
                }
                out.extend_from_slice(&batch.topic_id.0);
                put_i64(out, batch.accepted_at);
                put_i32(out, batch.count);
                put_i64(out, batch.base_timestamp);
                put_i64(out, batch.max_timestamp);
                out.push(codec(batch.compression));
                put_u32(out, batch.records_crc);
                BATCH
            }
            Entry::Stamp { batch, stamp, number } => {
                put_u64(out, batch.0);
                put_identity(out, stamp.identity);
                put_i32(out, stamp.base_sequence);
                out.push(u8::from(stamp.noted.is_some()));
                put_noted(out, stamp.noted.unwrap_or(Noted { offset: 0, leader_epoch: 0 }));
                put_u64(out, *number);
                STAMP
            }
            Entry::Outcome { batch, outcome } => {
                put_u64(out, batch.0);
                put_outcome(out, outcome);
                OUTCOME
            }
            Entry::Position { source, position } => {
                put_str(out, source);
                put_u64(out, *position);
                POSITION
            }
            Entry::Cluster(id) => {
                put_str(out, id);
                CLUSTER
            }
            Entry::Adopted { id, stamps, below } => {
                put_str(out, id);
                out.push(u8::from(*stamps));
                put_u64(out, *below);
                ADOPTED
            }
            Entry::Topic { name, id, partitions } => {
                put_str(out, name);
                out.extend_from_slice(&id.0);
                put_i32(out, *partitions);
                TOPIC
            }
            Entry::Acknowledged { partition, acknowledged } => {
                put_str(out, &partition.topic);
                put_i32(out, partition.partition);
                put_identity(out, acknowledged.identity);
                put_i32(out, acknowledged.last_sequence);
                put_i64(out, acknowledged.newest);
                put_noted(out, acknowledged.noted);
                ACKNOWLEDGED
            }
            Entry::Checkpoint(checkpoint) => {
                put_u64(out, checkpoint.next_id);
                put_u64(out, checkpoint.next_order);
                put_i64(out, checkpoint.last.unwrap_or(-1));
                put_u32(out, u32::try_from(checkpoint.epochs.len()).unwrap_or(u32::MAX));
                for (id, epoch) in &checkpoint.epochs {
                    put_identity(out, ProducerIdentity { id: *id, epoch: *epoch });
                }
                CHECKPOINT
            }
            Entry::Live(ranges) => {
                put_u32(out, u32::try_from(ranges.len()).unwrap_or(u32::MAX));
                for (first, last) in ranges {
                    put_u64(out, *first);
                    put_u64(out, *last);
                }
                LIVE
            }
            Entry::SetAside(place) => {
                put_u64(out, place.place.segment);
                put_u64(out, place.place.offset);
                put_u64(out, place.len);
                put_u64(out, place.doubt_below);
                put_u64(out, place.number);
                SET_ASIDE
            }
            Entry::Dropped(sequence) => {
                put_u64(out, *sequence);
                DROPPED
            }
            Entry::Ended { end, synced } => {
                put_u64(out, end.segment);
                put_u64(out, end.offset);
                put_u64(out, *synced);
                ENDED
            }
        }
    }

    /// Reads the fields of an entry of `kind`. None when they make no sense, and when anything is left.
    pub(crate) fn decode(kind: u8, bytes: &[u8]) -> Option<Entry> {
        let mut fields = Fields::new(bytes);
        let entry = match kind {
            BATCH => Entry::Batch(decode_batch(&mut fields)?),
            STAMP => {
                let batch = BatchId(fields.u64()?);
                let (identity, base_sequence) = (fields.identity()?, fields.i32()?);
                let (is_noted, noted) = (fields.u8()?, fields.noted()?);
                let stamp = Stamp { identity, base_sequence, noted: (is_noted == 1).then_some(noted) };
                Entry::Stamp { batch, stamp, number: fields.u64()? }
            }
            OUTCOME => Entry::Outcome { batch: BatchId(fields.u64()?), outcome: decode_outcome(&mut fields)? },
            POSITION => Entry::Position { source: fields.str()?, position: fields.u64()? },
            CLUSTER => Entry::Cluster(fields.str()?),
            ADOPTED => Entry::Adopted { id: fields.str()?, stamps: fields.u8()? == 1, below: fields.u64()? },
            TOPIC => Entry::Topic { name: fields.str()?, id: TopicId(fields.array()?), partitions: fields.i32()? },
            ACKNOWLEDGED => Entry::Acknowledged {
                partition: TopicPartition { topic: fields.str()?, partition: fields.i32()? },
                acknowledged: Acknowledged {
                    identity: fields.identity()?,
                    last_sequence: fields.i32()?,
                    newest: fields.i64()?,
                    noted: fields.noted()?,
                },
            },
            CHECKPOINT => {
                let (next_id, next_order, last) = (fields.u64()?, fields.u64()?, fields.i64()?);
                let mut epochs = BTreeMap::new();
                for _ in 0..fields.count(10)? {
                    let identity = fields.identity()?;
                    epochs.insert(identity.id, identity.epoch);
                }
                Entry::Checkpoint(Checkpoint { next_id, next_order, last: (last != -1).then_some(last), epochs })
            }
            LIVE => {
                let mut ranges = Vec::new();
                for _ in 0..fields.count(16)? {
                    ranges.push((fields.u64()?, fields.u64()?));
                }
                Entry::Live(ranges)
            }
            SET_ASIDE => Entry::SetAside(SetAside {
                place: Place { segment: fields.u64()?, offset: fields.u64()? },
                len: fields.u64()?,
                doubt_below: fields.u64()?,
                number: fields.u64()?,
            }),
            DROPPED => Entry::Dropped(fields.u64()?),
            ENDED => {
                Entry::Ended { end: Place { segment: fields.u64()?, offset: fields.u64()? }, synced: fields.u64()? }
            }
            _ => return None,
        };
        fields.bytes.is_empty().then_some(entry)
    }
}

/// What a reason may take, in bytes: it moves with its batch.
const REASON: usize = 2 << 10;

/// `outcome` with a reason that is not too long.
fn shortened(outcome: &Outcome) -> Outcome {
    let mut outcome = outcome.clone();
    if let Outcome::Parked { reason, .. } | Outcome::Dead { reason, .. } = &mut outcome
        && reason.len() > REASON
    {
        *reason = reason.get(..reason.floor_char_boundary(REASON)).unwrap_or_default().into();
    }
    outcome
}

fn decode_batch(fields: &mut Fields<'_>) -> Option<BatchHead> {
    let id = BatchId(fields.u64()?);
    let order = Order { rank: fields.u64()?, span: fields.u32()? };
    let topic = fields.str()?;
    let target = match fields.u32()? {
        0 => Target::Partition(TopicPartition { topic, partition: fields.i32()? }),
        1 => {
            let count = fields.count(4)?;
            let chosen = (0..count).map(|_| fields.i32()).collect::<Option<_>>()?;
            Target::Unpartitioned { topic, chosen }
        }
        _ => return None,
    };
    Some(BatchHead {
        id,
        order,
        target,
        topic_id: TopicId(fields.array()?),
        accepted_at: fields.i64()?,
        count: fields.i32()?,
        base_timestamp: fields.i64()?,
        max_timestamp: fields.i64()?,
        compression: match fields.u8()? {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            _ => return None,
        },
        records_crc: fields.u32()?,
    })
}

fn codec(compression: Compression) -> u8 {
    match compression {
        Compression::None => 0,
        Compression::Gzip => 1,
        Compression::Snappy => 2,
        Compression::Lz4 => 3,
        Compression::Zstd => 4,
    }
}

fn put_outcome(out: &mut Vec<u8>, outcome: &Outcome) {
    match outcome {
        Outcome::Delivered { base_offset, leader_epoch } => {
            out.push(0);
            out.push(u8::from(base_offset.is_some()));
            put_i64(out, base_offset.unwrap_or(-1));
            put_i32(out, *leader_epoch);
        }
        Outcome::Replaced => out.push(1),
        Outcome::Discarded => out.push(2),
        Outcome::Parked { unknown, reason } => {
            out.push(3);
            out.push(u8::from(*unknown));
            put_str(out, reason);
        }
        Outcome::Dead { unknown, reason } => {
            out.push(4);
            out.push(u8::from(*unknown));
            put_str(out, reason);
        }
        Outcome::Ready { afresh } => {
            out.push(5);
            out.push(u8::from(*afresh));
        }
    }
}

fn decode_outcome(fields: &mut Fields<'_>) -> Option<Outcome> {
    Some(match fields.u8()? {
        0 => {
            let (known, base_offset) = (fields.u8()? == 1, fields.i64()?);
            Outcome::Delivered { base_offset: known.then_some(base_offset), leader_epoch: fields.i32()? }
        }
        1 => Outcome::Replaced,
        2 => Outcome::Discarded,
        3 => Outcome::Parked { unknown: fields.u8()? == 1, reason: fields.str()? },
        4 => Outcome::Dead { unknown: fields.u8()? == 1, reason: fields.str()? },
        5 => Outcome::Ready { afresh: fields.u8()? == 1 },
        _ => return None,
    })
}
