//! What a spool must hold after groups of operations: the same rules as the engine's, with no disk.

use crate::core::spool::{Acknowledged, BatchId, Group, NewBatch, Op, Order, Outcome, Recovered, Stamp, Status};
use crate::io::spool::faulty::Random;
use crate::types::{Compression, ProducerIdentity, TopicId, TopicPartition};
use crate::wire::batch::{RecordsSection, SealedBatch};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A batch that is not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) batch: NewBatch,
    pub(super) stamp: Option<Stamp>,
    pub(super) status: Status,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) batches: BTreeMap<BatchId, Kept>,
    pub(super) positions: BTreeMap<Arc<str>, u64>,
    pub(super) topics: BTreeMap<Arc<str>, (TopicId, i32)>,
    pub(super) acknowledged: HashMap<TopicPartition, Acknowledged>,
    pub(super) cluster: Option<Arc<str>>,
    /// The producer id stamped or acknowledged last.
    last: Option<i64>,
    /// The highest epoch of each.
    epochs: BTreeMap<i64, i16>,
    /// One more than the highest id ever.
    pub(super) next_id: u64,
}

impl Model {
    pub(super) fn apply(&mut self, group: &Group) {
        for op in &group.ops {
            self.apply_op(op);
        }
    }

    pub(super) fn after<'a>(&self, groups: impl IntoIterator<Item = &'a Group>) -> Model {
        let mut model = self.clone();
        for group in groups {
            model.apply(group);
        }
        model
    }

    fn apply_op(&mut self, op: &Op) {
        match op {
            Op::Batch(batch) => {
                self.next_id = self.next_id.max(batch.id.0 + 1);
                let kept = Kept { batch: batch.clone(), stamp: None, status: Status::Ready };
                self.batches.insert(batch.id, kept);
            }
            Op::Stamp { batch, stamp } => {
                self.batches.get_mut(batch).expect("a batch to stamp").stamp = Some(*stamp);
                self.identified(stamp.identity);
            }
            Op::Outcome { batch, outcome } => self.outcome(*batch, outcome),
            Op::Position { source, position } => {
                self.positions.insert(source.clone(), *position);
            }
            Op::Cluster(id) => self.cluster = Some(id.clone()),
            Op::Adopted(id) => {
                self.cluster = Some(id.clone());
                self.acknowledged.clear();
                self.epochs.clear();
                self.last = None;
                self.topics.values_mut().for_each(|(id, _)| *id = TopicId::NONE);
                for kept in self.batches.values_mut() {
                    kept.stamp = None;
                    kept.batch.topic_id = TopicId::NONE;
                    if matches!(kept.status, Status::Parked { .. }) {
                        kept.status = Status::Ready;
                    }
                }
            }
            Op::Topic { name, id, partitions } => {
                self.topics.insert(name.clone(), (*id, *partitions));
            }
            Op::Acknowledged { partition, identity, last_sequence, newest, noted } => {
                let (identity, last_sequence, newest, noted) = (*identity, *last_sequence, *newest, *noted);
                let acknowledged = Acknowledged { identity, last_sequence, newest, noted };
                self.acknowledged.insert(partition.clone(), acknowledged);
                self.identified(identity);
            }
        }
    }

    fn outcome(&mut self, batch: BatchId, outcome: &Outcome) {
        let kept = self.batches.get_mut(&batch).expect("a batch with an outcome");
        match outcome {
            Outcome::Delivered { .. } | Outcome::Replaced | Outcome::Discarded => {
                self.batches.remove(&batch);
            }
            Outcome::Parked { unknown, reason } => {
                kept.status = Status::Parked { unknown: *unknown, reason: reason.clone() };
            }
            Outcome::Dead { unknown, reason } => {
                kept.status = Status::Dead { unknown: *unknown, reason: reason.clone() };
            }
            Outcome::Ready { afresh } => {
                kept.status = Status::Ready;
                if *afresh {
                    kept.stamp = None;
                }
            }
        }
    }

    fn identified(&mut self, identity: ProducerIdentity) {
        self.last = Some(identity.id);
        let epoch = self.epochs.entry(identity.id).or_insert(identity.epoch);
        *epoch = (*epoch).max(identity.epoch);
    }

    fn identity(&self) -> Option<ProducerIdentity> {
        self.last.map(|id| ProducerIdentity { id, epoch: self.epochs[&id] })
    }

    /// What an opened spool tells that is not so; damage is not looked at.
    pub(super) fn difference(&self, recovered: &Recovered) -> Option<String> {
        let mut expected: Vec<&Kept> = self.batches.values().collect();
        expected.sort_by_key(|kept| (kept.batch.order, kept.batch.id));
        let found: Vec<BatchId> = recovered.batches.iter().map(|batch| batch.id).collect();
        let ids: Vec<BatchId> = expected.iter().map(|kept| kept.batch.id).collect();
        if found != ids {
            let missing: Vec<_> = ids.iter().filter(|id| !found.contains(id)).collect();
            let extra: Vec<_> = found.iter().filter(|id| !ids.contains(id)).collect();
            let order =
                if missing.is_empty() && extra.is_empty() { format!("out of order {found:?}") } else { String::new() };
            return Some(format!("batches missing {missing:?}, too many {extra:?} {order}"));
        }
        for (kept, stored) in expected.iter().zip(&recovered.batches) {
            let (batch, section) = (&kept.batch, kept.batch.sealed.section());
            let same = (stored.order, &stored.target, stored.topic_id, stored.accepted_at)
                == (batch.order, &batch.target, batch.topic_id, batch.accepted_at)
                && (stored.count, stored.max_timestamp, stored.len)
                    == (section.count, section.max_timestamp, section.bytes.len());
            if !same {
                return Some(format!("{stored:?} was {batch:?}"));
            }
            if (stored.stamp, &stored.status) != (kept.stamp, &kept.status) {
                return Some(format!("{stored:?}, but {:?} {:?}", kept.stamp, kept.status));
            }
        }
        if recovered.positions != self.positions {
            return Some(format!("positions {:?}, were {:?}", recovered.positions, self.positions));
        }
        if recovered.topics != self.topics {
            return Some(format!("topics {:?}, were {:?}", recovered.topics, self.topics));
        }
        if recovered.acknowledged != self.acknowledged {
            let other =
                |partition: &&TopicPartition| recovered.acknowledged.get(partition) != self.acknowledged.get(partition);
            let all = recovered.acknowledged.keys().chain(self.acknowledged.keys());
            let differing = all.filter(other).map(|partition| {
                let found = recovered.acknowledged.get(partition);
                format!("{partition}: {found:?}, were {:?}", self.acknowledged.get(partition))
            });
            return Some(format!("acknowledged {}", differing.collect::<Vec<_>>().join("; ")));
        }
        if recovered.cluster_id != self.cluster {
            return Some(format!("cluster {:?}, was {:?}", recovered.cluster_id, self.cluster));
        }
        if recovered.identity != self.identity() {
            return Some(format!("identity {:?}, was {:?}", recovered.identity, self.identity()));
        }
        if recovered.next_id < self.next_id {
            return Some(format!("the next id {} was used, up to {}", recovered.next_id, self.next_id));
        }
        let taken = expected.iter().map(|kept| kept.batch.order.rank + u64::from(kept.batch.order.span)).max();
        if taken.is_some_and(|taken| Order::nth(recovered.next_order).rank < taken) {
            return Some(format!("the next place {} is taken", recovered.next_order));
        }
        None
    }
}

/// A records section nobody will decode; what it holds follows from its number.
pub(super) fn sealed(number: u64, len: usize) -> SealedBatch {
    let mut random = Random(number ^ 0x5eed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(len);
    let count = 1 + random.below(50) as i32;
    let base_timestamp = 1_700_000_000_000 + number as i64;
    let compression = [Compression::None, Compression::Lz4, Compression::Zstd][random.below(3)];
    let max_timestamp = base_timestamp + i64::from(count);
    SealedBatch::new(RecordsSection { bytes: bytes.into(), count, base_timestamp, max_timestamp, compression })
}
