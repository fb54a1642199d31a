//! What the entries of a spool add up to, and where its batches lie.

use super::format::{BatchHead, Checkpoint, Entry, Place, SetAside, aligned};
use super::{Acknowledged, BatchId, Outcome, Recovered, Stamp, Status, StoredBatch, Target};
use crate::types::{ProducerIdentity, TopicId, TopicPartition};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Where a batch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Located {
    /// Its entry.
    pub(crate) place: Place,
    /// The size of the entry's fields.
    pub(crate) fields: u32,
    /// The size of the records section.
    pub(crate) payload: u32,
}

impl Located {
    /// What it takes on disk at most, with stamp and status, copied forward on its own.
    pub(crate) fn footprint(&self) -> u64 {
        footprint(u64::from(self.fields) + u64::from(self.payload))
    }
}

/// What a batch of `len` bytes takes at most: heads, stamp and status, and the rounding.
pub(crate) fn footprint(len: u64) -> u64 {
    aligned(len.saturating_add(256))
}

/// The spool in memory. It grows with the number of batches, not with their bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) cluster: Option<Arc<str>>,
    pub(crate) topics: BTreeMap<Arc<str>, (TopicId, i32)>,
    pub(crate) positions: BTreeMap<Arc<str>, u64>,
    pub(crate) acknowledged: HashMap<TopicPartition, Acknowledged>,
    checkpoint: Checkpoint,
    batches: BTreeMap<u64, Located>,
    stamps: HashMap<u64, (Stamp, u64)>,
    statuses: HashMap<u64, Status>,
    /// Batches of each segment: how many, and what they take.
    segments: BTreeMap<u64, (u64, u64)>,
    live: u64,
    dead: u64,
    /// It was adopted by a cluster once.
    adopted: bool,
    /// Batches with a lower id were accepted for another cluster's topics, or for earlier ones.
    adopted_below: u64,
    set_aside: Vec<SetAside>,
    dropped: BTreeSet<u64>,
    /// Kept while a spool is read, for [`Recovered`].
    heads: Option<HashMap<u64, BatchHead>>,
    /// One copy of each topic's name, however many batches it has.
    names: BTreeSet<Arc<str>>,
}

impl State {
    /// A state that keeps the heads of batches until they are taken.
    pub(crate) fn reading() -> State {
        State { heads: Some(HashMap::new()), ..State::default() }
    }

    /// Takes in an entry found, or now written, at `place`.
    pub(crate) fn apply(&mut self, entry: &Entry, place: Place, fields: u32, payload: u32) {
        match entry {
            Entry::Batch(head) => self.add(head, Located { place, fields, payload }),
            Entry::Stamp { batch, stamp, number } => {
                self.identity(stamp.identity);
                if self.batches.contains_key(&batch.0) {
                    self.stamps.insert(batch.0, (*stamp, *number));
                }
            }
            Entry::Outcome { batch, outcome } => self.outcome(batch.0, outcome),
            Entry::Position { source, position } => {
                self.positions.insert(source.clone(), *position);
            }
            Entry::Cluster(id) => self.cluster = Some(id.clone()),
            Entry::Adopted { id, stamps, below } => self.adopt(id, *stamps, *below),
            Entry::Topic { name, id, partitions } => {
                self.topics.insert(name.clone(), (*id, *partitions));
            }
            Entry::Acknowledged { partition, acknowledged } => {
                self.identity(acknowledged.identity);
                self.acknowledged.insert(partition.clone(), *acknowledged);
            }
            Entry::Checkpoint(checkpoint) => {
                self.checkpoint.next_id = self.checkpoint.next_id.max(checkpoint.next_id);
                self.checkpoint.next_order = self.checkpoint.next_order.max(checkpoint.next_order);
                self.checkpoint.last = checkpoint.last.or(self.checkpoint.last);
                for (id, epoch) in &checkpoint.epochs {
                    self.epoch(ProducerIdentity { id: *id, epoch: *epoch });
                }
            }
            Entry::Live(ranges) => self.retain(ranges),
            Entry::SetAside(place) => {
                if !self.set_aside.contains(place) {
                    self.set_aside.push(*place);
                }
            }
            Entry::Dropped(sequence) => {
                self.dropped.insert(*sequence);
            }
            // Only for reading.
            Entry::Ended { .. } => {}
        }
    }

    fn adopt(&mut self, cluster: &Arc<str>, stamps: bool, below: u64) {
        self.cluster = Some(cluster.clone());
        self.adopted = true;
        self.acknowledged.clear();
        self.checkpoint.last = None;
        self.checkpoint.epochs.clear();
        let below = if stamps { self.checkpoint.next_id } else { below };
        self.adopted_below = self.adopted_below.max(below);
        let heads = self.heads.iter_mut().flatten().filter(|(id, _)| **id < below);
        heads.for_each(|(_, head)| head.topic_id = TopicId::NONE);
        if stamps {
            self.topics.values_mut().for_each(|(id, _)| *id = TopicId::NONE);
            self.stamps.clear();
            self.statuses.retain(|_, status| matches!(status, Status::Dead { .. }));
        }
    }

    fn add(&mut self, head: &BatchHead, located: Located) {
        let id = head.id.0;
        self.checkpoint.next_id = self.checkpoint.next_id.max(id.saturating_add(1));
        self.checkpoint.next_order = self.checkpoint.next_order.max(head.order.after());
        // A copy keeps stamp and status.
        let dead = matches!(self.statuses.get(&id), Some(Status::Dead { .. }));
        if let Some(old) = self.batches.insert(id, located) {
            self.unplace(old, dead);
        }
        let segment = self.segments.entry(located.place.segment).or_default();
        *segment = (segment.0 + 1, segment.1 + located.footprint());
        self.live += located.footprint();
        self.dead += if dead { located.footprint() } else { 0 };
        if let Some(heads) = &mut self.heads {
            let mut head = head.clone();
            share(&mut head.target, &mut self.names);
            heads.insert(id, head);
        }
    }

    fn unplace(&mut self, old: Located, dead: bool) {
        let size = old.footprint();
        self.live = self.live.saturating_sub(size);
        self.dead = self.dead.saturating_sub(if dead { size } else { 0 });
        if let Some(segment) = self.segments.get_mut(&old.place.segment) {
            *segment = (segment.0.saturating_sub(1), segment.1.saturating_sub(size));
            if segment.0 == 0 {
                self.segments.remove(&old.place.segment);
            }
        }
    }

    fn forget(&mut self, id: u64) {
        let dead = matches!(self.statuses.remove(&id), Some(Status::Dead { .. }));
        self.stamps.remove(&id);
        if let Some(heads) = &mut self.heads {
            heads.remove(&id);
        }
        if let Some(old) = self.batches.remove(&id) {
            self.unplace(old, dead);
        }
    }

    fn outcome(&mut self, id: u64, outcome: &Outcome) {
        let status = match outcome {
            Outcome::Delivered { .. } | Outcome::Replaced | Outcome::Discarded => return self.forget(id),
            Outcome::Parked { unknown, reason } => Status::Parked { unknown: *unknown, reason: reason.clone() },
            Outcome::Dead { unknown, reason } => Status::Dead { unknown: *unknown, reason: reason.clone() },
            Outcome::Ready { afresh } => {
                if *afresh {
                    self.stamps.remove(&id);
                }
                Status::Ready
            }
        };
        self.set_status(id, status);
    }

    fn set_status(&mut self, id: u64, status: Status) {
        let Some(located) = self.batches.get(&id) else { return };
        let is_dead = matches!(status, Status::Dead { .. });
        let old = if status == Status::Ready { self.statuses.remove(&id) } else { self.statuses.insert(id, status) };
        if matches!(old, Some(Status::Dead { .. })) {
            self.dead = self.dead.saturating_sub(located.footprint());
        }
        self.dead += if is_dead { located.footprint() } else { 0 };
    }

    fn identity(&mut self, identity: ProducerIdentity) {
        self.checkpoint.last = Some(identity.id);
        self.epoch(identity);
    }

    fn epoch(&mut self, identity: ProducerIdentity) {
        let epoch = self.checkpoint.epochs.entry(identity.id).or_insert(identity.epoch);
        *epoch = (*epoch).max(identity.epoch);
    }

    fn retain(&mut self, ranges: &[(u64, u64)]) {
        let kept = |id: &u64| {
            let next = ranges.partition_point(|(_, last)| last < id);
            ranges.get(next).is_some_and(|(first, _)| first <= id)
        };
        let gone: Vec<u64> = self.batches.keys().copied().filter(|id| !kept(id)).collect();
        gone.into_iter().for_each(|id| self.forget(id));
        self.stamps.clear();
        self.statuses.clear();
        self.dead = 0;
        self.acknowledged.clear();
        self.checkpoint.last = None;
        self.checkpoint.epochs.clear();
    }

    /// Where a batch lies.
    pub(crate) fn locate(&self, id: BatchId) -> Option<Located> {
        self.batches.get(&id.0).copied()
    }

    /// The batches that lie in `segment`.
    pub(crate) fn batches_in(&self, segment: u64) -> Vec<(BatchId, Located)> {
        let inside = self.batches.iter().filter(|(_, located)| located.place.segment == segment);
        inside.map(|(id, located)| (BatchId(*id), *located)).collect()
    }

    /// Whether a batch was there when the spool was adopted: the id of its topic is then forgotten, also in its copies.
    pub(crate) fn is_adopted(&self, id: BatchId) -> bool {
        id.0 < self.adopted_below
    }

    /// Bytes that live batches take.
    pub(crate) fn live(&self) -> u64 {
        self.live
    }

    /// Bytes that dead ones take; part of the live ones.
    pub(crate) fn dead(&self) -> u64 {
        self.dead
    }

    /// Bytes that live batches in `segment` take.
    pub(crate) fn live_in(&self, segment: u64) -> u64 {
        self.segments.get(&segment).map_or(0, |(_, bytes)| *bytes)
    }

    /// Segments that count no longer although later than the oldest.
    pub(crate) fn dropped(&self) -> &BTreeSet<u64> {
        &self.dropped
    }

    /// Damaged places known.
    pub(crate) fn set_aside(&self) -> &[SetAside] {
        &self.set_aside
    }

    /// Forgets what concerns only segments before `oldest`, with the exception of doubts that are still open.
    pub(crate) fn trim(&mut self, oldest: u64) {
        self.dropped = self.dropped.split_off(&oldest);
        let mut places = std::mem::take(&mut self.set_aside);
        places.retain(|place| place.place.segment >= oldest || self.is_doubtful(place));
        self.set_aside = places;
    }

    /// Whether there are batches left that may have been stamped in the damaged place, and were not stamped since.
    fn is_doubtful(&self, place: &SetAside) -> bool {
        let mut before = self.batches.range(..place.doubt_below);
        before.any(|(id, _)| self.stamps.get(id).is_none_or(|(_, number)| *number <= place.number))
    }

    /// Whether a damaged place may have held the stamp of a batch.
    pub(crate) fn stamps_in_doubt(&self) -> bool {
        self.set_aside.iter().any(|place| self.is_doubtful(place))
    }

    /// The next free id.
    pub(crate) fn next_id(&self) -> u64 {
        self.checkpoint.next_id
    }

    /// Everything that does not hang on a batch, restated: the beginning of every segment.
    pub(crate) fn restate(&self) -> Vec<Entry> {
        // What it forgot must not come back from older segments.
        let below = self.adopted_below;
        let cluster = |id| if self.adopted { Entry::Adopted { id, stamps: false, below } } else { Entry::Cluster(id) };
        let mut entries: Vec<Entry> = self.cluster.iter().cloned().map(cluster).collect();
        for (name, (id, partitions)) in &self.topics {
            entries.push(Entry::Topic { name: name.clone(), id: *id, partitions: *partitions });
        }
        for (source, position) in &self.positions {
            entries.push(Entry::Position { source: source.clone(), position: *position });
        }
        for (partition, acknowledged) in &self.acknowledged {
            entries.push(Entry::Acknowledged { partition: partition.clone(), acknowledged: *acknowledged });
        }
        entries.extend(self.set_aside.iter().copied().map(Entry::SetAside));
        entries.extend(self.dropped.iter().copied().map(Entry::Dropped));
        entries.push(self.checkpoint());
        entries
    }

    /// The counters. Behind restated stamps it keeps the newest identity the newest.
    pub(crate) fn checkpoint(&self) -> Entry {
        Entry::Checkpoint(self.checkpoint.clone())
    }

    /// Stamp and status of a batch, for its copy.
    pub(crate) fn restate_batch(&self, id: BatchId) -> Vec<Entry> {
        let stamp =
            self.stamps.get(&id.0).map(|(stamp, number)| Entry::Stamp { batch: id, stamp: *stamp, number: *number });
        let outcome = self.statuses.get(&id.0).and_then(|status| match status.clone() {
            Status::Ready => None,
            Status::Parked { unknown, reason } => Some(Outcome::Parked { unknown, reason }),
            Status::Dead { unknown, reason } => Some(Outcome::Dead { unknown, reason }),
        });
        stamp.into_iter().chain(outcome.map(|outcome| Entry::Outcome { batch: id, outcome })).collect()
    }

    /// Which batches there are, with stamps and statuses, and what is acknowledged: all that was taken back or settled in
    /// a segment that is given up.
    pub(crate) fn restate_live(&self) -> Vec<Entry> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for id in self.batches.keys().copied() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == id => *last = id,
                _ => ranges.push((id, id)),
            }
        }
        let mut entries = vec![Entry::Live(ranges)];
        for (partition, acknowledged) in &self.acknowledged {
            entries.push(Entry::Acknowledged { partition: partition.clone(), acknowledged: *acknowledged });
        }
        let told: BTreeSet<u64> = self.stamps.keys().chain(self.statuses.keys()).copied().collect();
        entries.extend(told.into_iter().flat_map(|id| self.restate_batch(BatchId(id))));
        entries.push(self.checkpoint());
        entries
    }

    /// What a person or a producer is told, damage excepted. The heads are gone then.
    pub(crate) fn recovered(&mut self) -> Recovered {
        let mut batches = Vec::with_capacity(self.batches.len());
        self.names.clear();
        for (id, head) in self.heads.take().unwrap_or_default() {
            let Some(located) = self.batches.get(&id) else { continue };
            batches.push(StoredBatch {
                id: head.id,
                order: head.order,
                target: head.target,
                topic_id: head.topic_id,
                accepted_at: head.accepted_at,
                count: head.count,
                max_timestamp: head.max_timestamp,
                len: located.payload as usize,
                stamp: self.stamps.get(&id).map(|(stamp, _)| *stamp),
                status: self.statuses.get(&id).cloned().unwrap_or_default(),
            });
        }
        batches.sort_unstable_by_key(|batch| (batch.order, batch.id));
        let identity = self
            .checkpoint
            .last
            .and_then(|id| self.checkpoint.epochs.get(&id).map(|epoch| ProducerIdentity { id, epoch: *epoch }));
        Recovered {
            cluster_id: self.cluster.clone(),
            topics: self.topics.clone(),
            positions: self.positions.clone(),
            acknowledged: self.acknowledged.clone(),
            identity,
            batches,
            next_id: self.checkpoint.next_id,
            next_order: self.checkpoint.next_order,
            damage: Vec::new(),
            stamps_in_doubt: self.stamps_in_doubt(),
        }
    }
}

/// Has `target` use the name among `names`.
fn share(target: &mut Target, names: &mut BTreeSet<Arc<str>>) {
    let topic = match target {
        Target::Partition(partition) => &mut partition.topic,
        Target::Unpartitioned { topic, .. } => topic,
    };
    match names.get(topic) {
        Some(name) => *topic = name.clone(),
        None => {
            names.insert(topic.clone());
        }
    }
}
