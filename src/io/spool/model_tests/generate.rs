//! Random groups of operations, as a sender might ask for them.

use super::model::{Kept, Model, sealed};
use crate::core::spool::{BatchId, Group, NewBatch, Noted, Op, Order, Outcome, Stamp, Status, Target};
use crate::io::spool::faulty::Random;
use crate::types::{ProducerIdentity, TopicId, TopicPartition};
use std::sync::Arc;

const TOPICS: [&str; 3] = ["orders", "payments", "a.topic-with_a.longer-name"];
const SOURCES: [&str; 3] = ["file:/a", "file:/b", "table"];

/// Makes groups. No two batches have the same content, though an id may come again when its batch was lost in a crash.
pub(super) struct Generator {
    pub(super) random: Random,
    pub(super) next_id: u64,
    pub(super) next_order: u64,
    identity: ProducerIdentity,
    sequence: i32,
    position: u64,
    contents: u64,
    /// Of a records section, in bytes.
    pub(super) largest: usize,
    /// More of these and the generator prefers to settle.
    pub(super) backlog: usize,
}

impl Generator {
    pub(super) fn new(seed: u64) -> Generator {
        Generator {
            random: Random(seed),
            next_id: 0,
            next_order: 0,
            identity: ProducerIdentity { id: 4000, epoch: 0 },
            sequence: 0,
            position: 0,
            contents: 0,
            largest: 3000,
            backlog: 40,
        }
    }

    /// A group that makes sense after `model`.
    pub(super) fn group(&mut self, model: &Model) -> Group {
        let mut model = model.clone();
        let mut group = Group::default();
        for _ in 0..=self.random.below(3) {
            let ops = self.ops(&model);
            model.apply(&Group { ops: ops.clone() });
            group.ops.extend(ops);
        }
        group
    }

    fn ops(&mut self, model: &Model) -> Vec<Op> {
        let settles = if model.batches.len() > self.backlog { 80 } else { 45 };
        let choice = self.random.below(100);
        if choice < settles && !model.batches.is_empty() {
            return self.settle(model);
        }
        match choice {
            0..=84 => self.accept(),
            85..=89 => self.stamps(model),
            90..=94 => vec![self.position()],
            95..=97 => vec![self.topic()],
            98 => vec![Op::Adopted(["first", "second"][self.random.below(2)].into())],
            _ => vec![Op::Cluster(["first", "second"][self.random.below(2)].into())],
        }
    }

    /// One to four batches, with their stamps perhaps, and a position perhaps.
    fn accept(&mut self) -> Vec<Op> {
        let mut ops = Vec::new();
        for _ in 0..=self.random.below(4) {
            let order = Order::nth(self.next_order);
            self.next_order += 1;
            let target = self.target();
            let batch = self.batch(order, target, self.largest);
            let (id, partition) = (batch.id, batch.target.partition());
            ops.push(Op::Batch(batch));
            if partition.is_some() && self.random.chance(60) {
                ops.push(self.stamp(id));
            }
        }
        if self.random.chance(40) {
            ops.push(self.position());
        }
        ops
    }

    fn target(&mut self) -> Target {
        let topic = Arc::from(TOPICS[self.random.below(TOPICS.len())]);
        if self.random.chance(10) {
            let chosen = (0..self.random.below(20)).map(|_| self.random.below(5) as i32 - 1).collect();
            return Target::Unpartitioned { topic, chosen };
        }
        Target::Partition(TopicPartition { topic, partition: self.random.below(3) as i32 })
    }

    fn batch(&mut self, order: Order, target: Target, largest: usize) -> NewBatch {
        let id = self.next_id;
        self.next_id += 1;
        let len = match self.random.below(10) {
            0 => 1 + self.random.below(16),
            1 => largest,
            _ => 1 + self.random.below(largest),
        };
        let topic_id = if self.random.chance(30) { TopicId::NONE } else { topic_id(target.topic()) };
        self.contents += 1;
        let accepted_at = 1_700_000_000_000 + self.contents as i64;
        NewBatch { id: BatchId(id), order, target, topic_id, accepted_at, sealed: sealed(self.contents, len) }
    }

    pub(super) fn stamp(&mut self, batch: BatchId) -> Op {
        if self.random.chance(5) {
            self.identity.epoch = self.identity.epoch.checked_add(1).unwrap_or_else(|| {
                self.identity.id += 1;
                0
            });
            self.sequence = 0;
        }
        if self.random.chance(1) {
            self.identity = ProducerIdentity { id: self.identity.id + 1, epoch: 0 };
        }
        let noted = self.random.chance(70).then(|| self.noted());
        let stamp = Stamp { identity: self.identity, base_sequence: self.sequence, noted };
        self.sequence += 1;
        Op::Stamp { batch, stamp }
    }

    fn noted(&mut self) -> Noted {
        Noted { offset: self.random.below(1 << 40) as i64, leader_epoch: self.random.below(9) as i32 - 1 }
    }

    fn position(&mut self) -> Op {
        self.position += 1 + self.random.below(1000) as u64;
        Op::Position { source: SOURCES[self.random.below(SOURCES.len())].into(), position: self.position }
    }

    fn topic(&mut self) -> Op {
        let name: Arc<str> = TOPICS[self.random.below(TOPICS.len())].into();
        Op::Topic { id: topic_id(&name), name, partitions: 1 + self.random.below(9) as i32 }
    }

    /// Some batches that have none, or get another.
    fn stamps(&mut self, model: &Model) -> Vec<Op> {
        let batches: Vec<BatchId> = model
            .batches
            .values()
            .filter(|kept| kept.batch.target.partition().is_some())
            .map(|kept| kept.batch.id)
            .collect();
        if batches.is_empty() {
            return self.accept();
        }
        let from = self.random.below(batches.len());
        let until = (from + 1 + self.random.below(5)).min(batches.len());
        batches[from..until].iter().map(|id| self.stamp(*id)).collect()
    }

    fn settle(&mut self, model: &Model) -> Vec<Op> {
        // The oldest mostly, so that segments run empty.
        let among = if self.random.chance(70) { 5 } else { model.batches.len() };
        let kept = model.batches.values().nth(self.random.below(among.min(model.batches.len()))).expect("a batch");
        let id = kept.batch.id;
        let reason: Arc<str> = ["the broker said no", "", "ünïcödé"][self.random.below(3)].into();
        let unknown = self.random.chance(50);
        let outcome = match (self.random.below(100), &kept.status) {
            (0..=9, _) => Outcome::Parked { unknown, reason },
            (10..=13, Status::Ready | Status::Parked { .. }) => Outcome::Dead { unknown, reason },
            (14..=19, _) => Outcome::Ready { afresh: self.random.chance(50) },
            (20..=25, _) => Outcome::Discarded,
            (26..=35, _) => return self.replace(kept),
            _ => return self.delivered(kept),
        };
        vec![Op::Outcome { batch: id, outcome }]
    }

    fn delivered(&mut self, kept: &Kept) -> Vec<Op> {
        let noted = self.noted();
        let base_offset = self.random.chance(80).then_some(noted.offset);
        let outcome = Outcome::Delivered { base_offset, leader_epoch: noted.leader_epoch };
        let mut ops = vec![Op::Outcome { batch: kept.batch.id, outcome }];
        if let (Target::Partition(partition), Some(stamp)) = (&kept.batch.target, kept.stamp) {
            ops.push(Op::Acknowledged {
                partition: partition.clone(),
                identity: stamp.identity,
                last_sequence: stamp.base_sequence,
                newest: kept.batch.sealed.section().max_timestamp,
                noted,
            });
        }
        ops
    }

    /// Halves of a batch, or the parts by partition of one that had none.
    fn replace(&mut self, kept: &Kept) -> Vec<Op> {
        let len = kept.batch.sealed.section().bytes.len().max(2) / 2;
        let orders = match kept.batch.order.halves() {
            Some(halves) if kept.batch.target.partition().is_some() => halves,
            _ => [kept.batch.order; 2],
        };
        let mut ops: Vec<Op> = orders
            .into_iter()
            .enumerate()
            .map(|(part, order)| {
                let target = match &kept.batch.target {
                    Target::Unpartitioned { topic, .. } => {
                        Target::Partition(TopicPartition { topic: topic.clone(), partition: part as i32 })
                    }
                    target => target.clone(),
                };
                Op::Batch(self.batch(order, target, len))
            })
            .collect();
        ops.push(Op::Outcome { batch: kept.batch.id, outcome: Outcome::Replaced });
        ops
    }
}

fn topic_id(topic: &str) -> TopicId {
    let mut id = [7; 16];
    id[0] = topic.len() as u8;
    TopicId(id)
}
