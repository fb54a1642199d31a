//! The sender's side of the spool: what has to be on disk before what, and what is read back when.
//!
//! Every batch is written when it is taken from its queue (*write-ahead*), or when it cannot be delivered in time or its
//! memory is needed (*overflow*). What one turn of the sender has to write goes to the spool's thread as one group, so that
//! a batch and its stamp share a sync. A batch is sent once its stamp is durable.

mod cut;
mod end;
mod load;
mod outcome;
mod restore;
mod scatter;
mod watch;

pub(crate) use restore::{adopt, open};

use super::{Event, Sender};
use crate::config::SpoolConfig;
use crate::core::produce::accumulator::{Permit, ReadyBatch, Stored, Token};
use crate::core::produce::batch::BatchCell;
use crate::core::produce::window::EntryId;
use crate::core::spool::{Acknowledged, BatchId, Group, NewBatch, Op, Order, Outcome, Stamp, StoredBatch, Target};
use crate::error::SendCause;
use crate::io::spool::Spool;
use crate::types::{ProducerIdentity, TopicId, TopicPartition};
use cut::CutInProgress;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use watch::Told;

/// How often the sender looks for partitions that make no progress.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a group made durable.
#[derive(Default)]
pub(super) struct Durable {
    /// Its batches by part, with their cells and the space that was set aside for them.
    batches: Vec<Written>,
    /// Its stamps by part.
    stamps: Vec<(usize, EntryId)>,
    /// Under whom batches may be sent that are in memory only.
    identities: Vec<ProducerIdentity>,
}

/// A batch that was given to the spool.
struct Written {
    part: usize,
    id: BatchId,
    cell: Arc<BatchCell>,
    durable: Arc<AtomicBool>,
    /// Part of another batch, whose memory it holds although its own turn may come late: that is needed to read others
    /// back.
    divided: bool,
    /// Set aside until it is written.
    _space: Option<Box<dyn Permit>>,
}

/// The spool as the sender keeps it.
pub(super) struct Keeper {
    spool: Spool,
    config: SpoolConfig,
    next_id: u64,
    next_order: u64,
    /// The cluster the spool belongs to, once known.
    cluster: Option<Arc<str>>,
    /// Why nothing is sent: the brokers are another cluster's.
    foreign: Option<Arc<str>>,
    /// What the spool knows of topics.
    topics: BTreeMap<Arc<str>, (TopicId, i32)>,
    /// Found at the start, until their part is made; partition -1 for unpartitioned ones.
    found: HashMap<TopicPartition, Vec<StoredBatch>>,
    /// Flushes wait for what was found; none once the batches hold it.
    waits: Option<Token>,
    acknowledged: HashMap<TopicPartition, Acknowledged>,
    /// The producer id found, with the highest epoch it had.
    current: Option<ProducerIdentity>,
    stamps_in_doubt: bool,
    /// The producer ids that the disk knows to be used, each with its highest epoch.
    recorded: HashMap<i64, i16>,
    /// When the spool was this process's already, in Unix milliseconds: whoever had it before sends nothing any more.
    opened_at: i64,
    /// To be written at the end of this turn.
    outgoing: Group,
    waiting: Durable,
    /// To be written when something is: nobody waits for it.
    later: Group,
    /// Bytes read back and not settled.
    loaded: Arc<AtomicUsize>,
    /// Parts that want bytes read back when others have given theirs up.
    hungry: VecDeque<usize>,
    /// Since when `send` waits for memory.
    urged: Option<Instant>,
    cut: Option<CutInProgress>,
    /// When the next cut is due.
    cut_at: Option<Instant>,
    /// Topics whose unpartitioned records are being divided: nothing newer of theirs may be taken meanwhile.
    scattering: BTreeSet<Arc<str>>,
    /// When to look at what makes no progress.
    look_at: Instant,
    told: Told,
}

impl Keeper {
    /// Whether batches are written before they are sent.
    pub(super) fn is_write_ahead(&self) -> bool {
        self.config.is_write_ahead()
    }

    /// Why nothing may be sent, if the brokers are not the spool's.
    pub(super) fn foreign(&self) -> Option<Arc<str>> {
        self.foreign.clone()
    }

    /// When [`Sender::keep`] has to be called again at the latest.
    pub(super) fn next_timer(&self) -> Instant {
        [self.cut_at, self.urged.map(|since| since + load::PATIENCE)]
            .into_iter()
            .flatten()
            .fold(self.look_at, Instant::min)
    }

    fn next_batch(&mut self) -> BatchId {
        self.next_id += 1;
        BatchId(self.next_id - 1)
    }

    fn next_order(&mut self) -> Order {
        self.next_order += 1;
        Order::nth(self.next_order - 1)
    }

    /// Takes down what is known of a topic, where that is news to the spool.
    fn note_topic(&mut self, name: &Arc<str>, id: TopicId, partitions: usize) {
        let known = (id, i32::try_from(partitions).unwrap_or(i32::MAX));
        if partitions > 0 && self.topics.get(name) != Some(&known) {
            self.topics.insert(name.clone(), known);
            self.outgoing.ops.push(Op::Topic { name: name.clone(), id, partitions: known.1 });
        }
    }

    /// Has a batch written that is dead already.
    fn write_dead(&mut self, batch: &mut ReadyBatch, cause: &SendCause) {
        self.write(usize::MAX, Target::Partition(batch.cell().partition().clone()), TopicId::NONE, batch);
        if let Some(stored) = &batch.stored {
            let outcome = Outcome::Dead { unknown: false, reason: Arc::from(cause.to_string()) };
            self.outgoing.ops.push(Op::Outcome { batch: stored.id, outcome });
        }
    }

    /// Sets space aside for a batch that is to be written. False when there is none.
    fn set_aside(&self, batch: &mut ReadyBatch) -> bool {
        let space = self.spool.try_reserve(batch.len());
        let has_space = space.is_some();
        batch.set_space(space);
        has_space
    }

    /// Has a batch written under a new name.
    fn write(&mut self, part: usize, target: Target, topic_id: TopicId, batch: &mut ReadyBatch) {
        let Some(sealed) = batch.sealed().cloned() else { return };
        let order = match batch.split_of.map(|split| split.order).or(batch.order) {
            Some(order) => order,
            None => self.next_order(),
        };
        let id = self.next_batch();
        self.outgoing.ops.push(Op::Batch(NewBatch {
            id,
            order,
            target,
            topic_id,
            accepted_at: batch.accepted_at,
            sealed,
        }));
        let durable = Arc::<AtomicBool>::default();
        let stored = Stored { id, order, topic_id, stamp: None, durable: durable.clone() };
        batch.stored = Some(Box::new(stored));
        let (cell, space) = (batch.cell().clone(), batch.take_space());
        // Only what was part of another batch has its place before it is written.
        let divided = batch.order.is_some();
        self.waiting.batches.push(Written { part, id, cell, durable, divided, _space: space });
    }
}

/// Which log a batch of the queue for `partition` is for.
fn target(partition: &TopicPartition, batch: &ReadyBatch) -> Target {
    match &batch.chosen {
        Some(chosen) => Target::Unpartitioned { topic: partition.topic.clone(), chosen: chosen.clone() },
        None => Target::Partition(partition.clone()),
    }
}

impl Sender {
    /// What the spool needs at the beginning of each turn.
    pub(super) fn keep(&mut self, now: Instant) {
        let Some(keeper) = &mut self.keeper else { return };
        keeper.urged = self.shared.take_urged().then(|| keeper.urged.unwrap_or(now));
        let overflow_all = !keeper.is_write_ahead() && self.shared.is_spooling_awaited();
        if keeper.urged.is_some_and(|since| now >= since + load::PATIENCE) {
            self.make_room(now);
        }
        if overflow_all {
            (0..self.parts.len()).for_each(|id| self.spill(id));
        }
        self.cut_if_due(now);
        self.look_after(now);
    }

    /// Gives the spool's thread what this turn has gathered.
    pub(super) fn flush_to_spool(&mut self) {
        let Some(keeper) = &mut self.keeper else { return };
        if !keeper.later.ops.is_empty() {
            keeper.spool.write_later(std::mem::take(&mut keeper.later));
        }
        if keeper.outgoing.ops.is_empty() {
            return;
        }
        let (group, durable) = (std::mem::take(&mut keeper.outgoing), std::mem::take(&mut keeper.waiting));
        let report = self.report.clone();
        keeper.spool.write(
            group,
            Box::new(move || {
                for batch in &durable.batches {
                    batch.durable.store(true, Ordering::Release);
                    batch.cell.set_spooled();
                }
                let _ = report.send(Event::Durable(durable));
            }),
        );
    }

    pub(super) fn on_durable(&mut self, durable: Durable) {
        let mut parts = BTreeSet::new();
        for identity in &durable.identities {
            if let Some(keeper) = &mut self.keeper {
                let epoch = keeper.recorded.entry(identity.id).or_insert(identity.epoch);
                *epoch = identity.epoch.max(*epoch);
            }
        }
        for (id, entry) in durable.stamps {
            if let Some(part) = self.parts.get_mut(id) {
                part.window.on_saved(entry);
                parts.insert(id);
            }
        }
        // Behind a leader that is away they would only hold memory; what overflowed did so to free it.
        let write_ahead = self.keeper.as_ref().is_some_and(Keeper::is_write_ahead);
        let mut reach = HashMap::new();
        for Written { part, id, divided, .. } in &durable.batches {
            let within_reach = *reach.entry(*part).or_insert_with(|| self.is_within_reach(*part));
            if *divided || !(write_ahead && within_reach) {
                self.unload_one(*part, *id);
            }
        }
        drop(durable.batches);
        for id in parts {
            self.stamp_ahead(id);
            self.make_runnable(id);
        }
    }

    /// Takes a batch from its queue into the window, by way of the spool if it is write-ahead.
    pub(super) fn accept(&mut self, id: usize, mut batch: ReadyBatch) {
        let Some(part) = self.parts.get_mut(id) else { return };
        if let Some(keeper) = self.keeper.as_mut().filter(|keeper| keeper.is_write_ahead()) {
            let partition = &part.queue.partition;
            let target = target(partition, &batch);
            keeper.note_topic(&partition.topic, part.topic_id, part.partitions);
            // Before the brokers have said anything it is for the topic that the spool remembers.
            let remembered = keeper.topics.get(&partition.topic).map_or(TopicId::NONE, |(id, _)| *id);
            let topic_id = if part.topic_id.is_some() { part.topic_id } else { remembered };
            keeper.write(id, target, topic_id, &mut batch);
        }
        part.push(batch);
    }

    /// Gives the next batches of part `id` their identity and sequence, so that those are on disk when it is their turn.
    pub(super) fn stamp_ahead(&mut self, id: usize) {
        if self.keeper.is_none() || self.is_behind_undivided(id) || !self.is_within_reach(id) {
            return;
        }
        while let Some(part) = self.parts.get_mut(id).filter(|part| part.asked && part.held.is_none()) {
            let Some(entry) = part.window.save_next() else { break };
            self.save(id, entry);
        }
    }

    /// Has the stamp of `entry` written.
    pub(super) fn save(&mut self, id: usize, entry: EntryId) {
        let (Some(part), Some(keeper)) = (self.parts.get_mut(id), &mut self.keeper) else { return };
        let noted = part.noted;
        let Some(identity) = part.window.identity() else { return };
        let Some((_, base_sequence)) = part.window.batch(entry) else { return };
        let stamp = Stamp { identity, base_sequence, noted };
        match part.window.batch_mut(entry).and_then(|batch| batch.stored.as_mut()) {
            Some(stored) => {
                stored.stamp = Some(stamp);
                keeper.outgoing.ops.push(Op::Stamp { batch: stored.id, stamp });
                keeper.waiting.stamps.push((id, entry));
            }
            // In memory only, as overflow has it; but no epoch is used that the next process does not know of.
            None if keeper.recorded.get(&identity.id).is_some_and(|epoch| *epoch >= identity.epoch) => {
                part.window.on_saved(entry);
            }
            None => {
                keeper.outgoing.ops.push(Op::Stamp { batch: BatchId::NONE, stamp });
                keeper.waiting.stamps.push((id, entry));
                keeper.waiting.identities.push(identity);
            }
        }
    }

    /// Whether what part `id` has could be sent at once.
    pub(super) fn is_within_reach(&self, id: usize) -> bool {
        let leader = self.parts.get(id).and_then(|part| part.leader);
        let leader = leader.and_then(|leadership| self.leaders.get(&leadership.broker));
        leader.is_some_and(|leader| leader.connection.as_ref().is_some_and(|connection| !connection.is_closed()))
    }
}
