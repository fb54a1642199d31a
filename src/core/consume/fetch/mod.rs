//! What to fetch next from which leader, and whether an answer still means anything.
//!
//! ```text
//!  Ready ── in a plan ──> InFlight ── records ─────────> Ready   (position behind the last batch)
//!    ^                       ├────── error, pause ─────> Paused ── time ──> Ready
//!    │                       ├────── leader unknown ───> Lost leader: Ready again when metadata names one
//!    └── position set ───────┴────── out of range, diverged, damaged ──> Stopped
//! ```
//! One request is out per broker while the records of the one before are handled. All bytes that were fetched and not
//! yet handled, and all that were asked for, count against one bound; a partition with two chunks waiting is left out
//! of the next request, so that a slow partition holds back itself only.
//!
//! Half of the buffer is *open* to all: first come, first served, and answers stay in memory whole until their last chunk
//! is gone, uncopied. The other half is *kept* in equal shares for partitions that have nothing waiting; what does not fit
//! a share is copied out of its answer. So whatever is stuck, however large the answers, the others go on.

mod answers;
mod extent;
mod session;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::watermark::AssignmentEpoch;
use crate::core::retry::Backoff;
use crate::core::verdict::fetch::SessionVerdict;
use crate::types::{BrokerId, TopicId, TopicPartition};
use crate::wire::ErrorCode;
use session::Session;
pub(crate) use session::SessionStep;

/// Chunks of one partition that may wait for their handler: one being handled, one behind it.
const CHUNKS_PER_PARTITION: usize = 2;
/// Below this much room no request is made: answers would be crumbs.
const LEAST_REQUEST: usize = 64 * 1024;
/// What is asked for at a time, where that feeds the handlers: what was just received is then still in the processor's
/// cache when it is handled.
const USUAL_REQUEST: usize = 1024 * 1024;
/// A full answer that took longer than this came over a long way: ask for more at a time.
const LONG_WAY: Duration = Duration::from_millis(10);
/// The broker holds a request back no longer than this while partitions are left out of it, so that they can follow.
const SHORT_WAIT: Duration = Duration::from_millis(50);

/// Bounds of fetching.
#[derive(Clone, Debug)]
pub(crate) struct FetchConfig {
    pub(crate) max_bytes: usize,
    pub(crate) partition_max_bytes: usize,
    pub(crate) buffer_bytes: usize,
    pub(crate) max_wait: Duration,
    pub(crate) backoff: Backoff,
    /// For how long a follower is read from before the leader is asked again which replica is the nearest (KIP-392).
    pub(crate) replica_lease: Duration,
}

/// Where a partition is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) topic_id: TopicId,
    pub(crate) leader: Option<(BrokerId, i32)>,
}

/// Names one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FetchId(u64);

/// A request to make.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) id: FetchId,
    pub(crate) broker: BrokerId,
    pub(crate) max_bytes: usize,
    pub(crate) max_wait: Duration,
    pub(crate) partitions: Vec<Planned>,
    pub(crate) session: SessionStep,
    /// Its answer goes to the half of the buffer that is open to all.
    open: bool,
    /// When it was made.
    since: Instant,
}

/// One partition of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Planned {
    pub(crate) partition: TopicPartition,
    pub(crate) assignment: AssignmentEpoch,
    pub(crate) topic_id: TopicId,
    pub(crate) leader_epoch: i32,
    pub(crate) offset: i64,
    pub(crate) last_fetched_epoch: i32,
    pub(crate) max_bytes: usize,
}

/// What the broker said about one partition.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) partition: TopicPartition,
    pub(crate) error: ErrorCode,
    pub(crate) end: i64,
    pub(crate) diverging: Option<(i32, i64)>,
    pub(crate) leader: Option<(BrokerId, i32)>,
    /// The replica to read from instead (KIP-392).
    pub(crate) preferred: Option<BrokerId>,
    pub(crate) aborted: Vec<(i64, i64)>,
    pub(crate) records: Bytes,
}

/// What comes of a whole answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcomes {
    pub(crate) list: Vec<Outcome>,
    /// The chunks keep the answer as it is, and so many bytes come back with the last of them. None: each has to be copied,
    /// and its own bytes come back with it.
    pub(crate) shared: Option<usize>,
}

/// Whole batches of one partition, checksums and contents not looked at yet.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) partition: TopicPartition,
    pub(crate) assignment: AssignmentEpoch,
    /// Records below it were asked for by nobody: the first batch may begin earlier.
    pub(crate) from: i64,
    pub(crate) records: Bytes,
    /// Aborted transactions: producer id and first offset, in the order of offsets (KIP-98).
    pub(crate) aborted: Vec<(i64, i64)>,
}

/// What comes of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Records to hand out.
    Chunk(Chunk),
    /// The log ends there: the high watermark, or the last stable offset.
    End(TopicPartition, AssignmentEpoch, i64),
    /// Metadata is old; the broker may have said who leads now.
    Refresh(TopicPartition, Option<(BrokerId, i32)>),
    /// The position is not in the log. Fetching stopped until `set_position`.
    OutOfRange(TopicPartition, AssignmentEpoch, i64),
    /// The log was cut below the position: records that were handed out, or might have been, are gone (KIP-320).
    Diverged { partition: TopicPartition, assignment: AssignmentEpoch, position: i64, end: i64, epoch: i32 },
    /// It cannot be fetched.
    Refused(TopicPartition, AssignmentEpoch, ErrorCode),
    /// The bytes are no batches.
    Malformed(TopicPartition, AssignmentEpoch, i64, &'static str),
    /// The topic was deleted and created again: offsets of the old one say nothing about the new one.
    Recreated(TopicPartition, AssignmentEpoch),
}

#[derive(Debug)]
struct Partition {
    assignment: AssignmentEpoch,
    place: Place,
    position: i64,
    /// Leader epoch of the record before the position.
    last_epoch: i32,
    /// From where on what was read is of that epoch, as far as is known.
    epoch_from: i64,
    state: State,
    chunks: usize,
    failures: u32,
    /// When it was last answered with records, as a count: the one longest without goes first.
    served: u64,
    /// The application wants no more of it for now.
    paused: bool,
    /// The follower to read from, and until when (KIP-392).
    replica: Option<(BrokerId, Instant)>,
}

impl Partition {
    /// The broker to read from.
    fn source(&self) -> Option<BrokerId> {
        let (leader, _) = self.place.leader?;
        Some(self.replica.map_or(leader, |(follower, _)| follower))
    }

    /// Whether anybody wants more of it.
    fn may_be_asked(&self) -> bool {
        self.state != State::Stopped && !self.paused
    }
}

/// One broker that is read from.
#[derive(Debug, Default)]
struct Source {
    /// The request that is out.
    out: Option<Arc<Plan>>,
    session: Session,
    /// How often it failed in a row, and until when it is left alone.
    failures: u32,
    rests_until: Option<Instant>,
    /// The last request made to it, as a count: the one longest without goes first, or room for one request at a time
    /// would always go to the same.
    asked: u64,
    /// How much more than usual to ask for at a time, as a power of two.
    appetite: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    InFlight(FetchId),
    Paused(Instant),
    Stopped,
}

/// The fetching of all partitions of a consumer.
#[derive(Debug)]
pub(crate) struct Fetches {
    config: FetchConfig,
    partitions: BTreeMap<TopicPartition, Partition>,
    sources: BTreeMap<BrokerId, Source>,
    buffered: usize,
    /// Since when there has not been room for more than crumbs.
    tight_since: Option<Instant>,
    served: u64,
    next_id: u64,
}

impl Fetches {
    /// Nothing to fetch yet.
    pub(crate) fn new(config: FetchConfig) -> Fetches {
        let (partitions, sources) = (BTreeMap::new(), BTreeMap::new());
        Fetches { config, partitions, sources, buffered: 0, tight_since: None, served: 0, next_id: 1 }
    }

    /// Begins a partition at `position`; `last_epoch` is the leader epoch of the record before it, -1 for unknown.
    pub(crate) fn add(
        &mut self,
        partition: TopicPartition,
        assignment: AssignmentEpoch,
        place: Place,
        position: i64,
        last_epoch: i32,
    ) {
        let new = Partition {
            assignment,
            place,
            position,
            last_epoch,
            epoch_from: position,
            state: State::Ready,
            chunks: 0,
            failures: 0,
            served: 0,
            paused: false,
            replica: None,
        };
        self.partitions.insert(partition, new);
    }

    /// Ends a partition, if it is still the one of `assignment`. Answers still on their way will be dropped.
    pub(crate) fn end(&mut self, partition: &TopicPartition, assignment: AssignmentEpoch) {
        if self.current(partition, assignment).is_some() {
            self.partitions.remove(partition);
        }
    }

    /// Asks for no more of a partition, or again.
    pub(crate) fn set_paused(&mut self, partition: &TopicPartition, assignment: AssignmentEpoch, paused: bool) {
        if let Some(partition) = self.current(partition, assignment) {
            partition.paused = paused;
        }
    }

    /// Goes on at a position, after [`Outcome::OutOfRange`] and [`Outcome::Diverged`]: after a pause, for a broker that goes on refusing what it
    /// says is in its log must not be asked without end.
    pub(crate) fn set_position(
        &mut self,
        now: Instant,
        partition: &TopicPartition,
        assignment: AssignmentEpoch,
        position: i64,
        last_epoch: i32,
    ) {
        let backoff = self.config.backoff;
        if let Some(partition) = self.current(partition, assignment) {
            (partition.position, partition.epoch_from) = (position, position);
            partition.last_epoch = last_epoch;
            partition.state = State::Paused(now + backoff.delay(partition.failures, 200));
        }
    }

    /// Metadata has changed.
    pub(crate) fn on_places(&mut self, place: impl Fn(&TopicPartition) -> Option<Place>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for (name, partition) in &mut self.partitions {
            let Some(new) = place(name) else { continue };
            let known = partition.place.topic_id;
            if known.is_some() && new.topic_id.is_some() && known != new.topic_id {
                if partition.state != State::Stopped {
                    partition.state = State::Stopped;
                    outcomes.push(Outcome::Recreated(name.clone(), partition.assignment));
                }
                continue;
            }
            // An answer of an older leader epoch must not undo what a newer one has told.
            let newer =
                |(_, epoch): (BrokerId, i32)| partition.place.leader.is_none_or(|(_, old)| epoch >= old || epoch < 0);
            if new.leader.is_none_or(newer) {
                partition.place.leader = new.leader;
            }
            partition.place.topic_id = if new.topic_id.is_some() { new.topic_id } else { known };
        }
        outcomes
    }

    /// A chunk is handled, or dropped.
    pub(crate) fn on_chunk_done(&mut self, partition: &TopicPartition, assignment: AssignmentEpoch) {
        if let Some(partition) = self.current(partition, assignment) {
            partition.chunks = partition.chunks.saturating_sub(1);
        }
    }

    /// Bytes are held no more.
    pub(crate) fn on_released(&mut self, bytes: usize) {
        self.buffered = self.buffered.saturating_sub(bytes);
    }

    /// Bytes fetched and not handled.
    pub(crate) fn buffered(&self) -> usize {
        self.buffered
    }

    /// Whether a chunk that is done, or room, could make for a request: no request is out to some broker.
    pub(crate) fn is_waiting_for_room(&self) -> bool {
        self.partitions.values().any(|partition| {
            let source = partition.source().and_then(|broker| self.sources.get(&broker));
            source.is_none_or(|source| source.out.is_none())
        })
    }

    /// What of the buffer is kept for each partition that has nothing waiting.
    fn kept_share(&self) -> usize {
        (self.config.buffer_bytes / 2 / self.partitions.len().max(1)).max(1)
    }

    /// The next request, if there is anything to ask and room for the answer.
    pub(crate) fn poll_plan(&mut self, now: Instant) -> Option<Arc<Plan>> {
        let tight_since = self.tight_since.take();
        let mut brokers: Vec<BrokerId> = Vec::new();
        for partition in self.partitions.values_mut() {
            partition.replica.take_if(|(_, until)| *until <= now);
            if let Some(broker) = partition.source()
                && brokers.last() != Some(&broker)
            {
                brokers.push(broker);
            }
        }
        brokers.sort_unstable();
        brokers.dedup();
        let share = (self.config.buffer_bytes / (2 * brokers.len().max(1))).max(LEAST_REQUEST);
        brokers.retain(|broker| match self.sources.get(broker) {
            Some(source) => source.out.is_none() && source.rests_until.is_none(),
            None => true,
        });
        brokers.sort_by_key(|broker| self.sources.get(broker).map_or(0, |source| source.asked));
        brokers.into_iter().find_map(|broker| self.plan(now, broker, share, tight_since))
    }

    fn plan(
        &mut self,
        now: Instant,
        broker: BrokerId,
        share: usize,
        tight_since: Option<Instant>,
    ) -> Option<Arc<Plan>> {
        let config = &self.config;
        let asked: usize = self.sources.values().filter_map(|source| Some(source.out.as_ref()?.max_bytes)).sum();
        let (used, half) = (self.buffered + asked, config.buffer_bytes / 2);
        let least = LEAST_REQUEST.min(config.max_bytes).min(half);
        let open = half.saturating_sub(used) >= least;
        let (room, chunks, each) = if open {
            let each = config.buffer_bytes / (CHUNKS_PER_PARTITION * self.partitions.len().max(1));
            let each = each.clamp(LEAST_REQUEST.min(config.partition_max_bytes), config.partition_max_bytes);
            (half - used, CHUNKS_PER_PARTITION, each)
        } else {
            let each = self.kept_share().min(config.partition_max_bytes);
            (config.buffer_bytes.saturating_sub(used), 1, each)
        };
        let ready = |partition: &Partition| {
            let paused = matches!(partition.state, State::Paused(until) if now < until);
            partition.source() == Some(broker) && partition.may_be_asked() && !paused && partition.chunks < chunks
        };
        if !self.partitions.values().any(ready) {
            return None;
        }
        let appetite = self.sources.get(&broker).map_or(0, |source| source.appetite);
        let max_bytes = room.min(share).min(USUAL_REQUEST << appetite).min(config.max_bytes);
        if max_bytes < least {
            // Nearly full. Room comes back in a moment; or else handlers are stuck, and what is left is for the others.
            if max_bytes < each.min(least) {
                return None;
            }
            let since = *self.tight_since.insert(tight_since.unwrap_or(now));
            if now < since + SHORT_WAIT {
                return None;
            }
            self.tight_since = Some(now);
        }
        let id = FetchId(self.next_id);
        let mut left_out = false;
        let mut chosen: Vec<(u64, Planned)> = Vec::new();
        for (name, partition) in &mut self.partitions {
            let Some((_, leader_epoch)) = partition.place.leader else { continue };
            if partition.source() != Some(broker) || !partition.may_be_asked() {
                continue;
            }
            let paused = matches!(partition.state, State::Paused(until) if now < until);
            if paused || partition.chunks >= chunks {
                left_out = true;
                continue;
            }
            partition.state = State::InFlight(id);
            let planned = Planned {
                partition: name.clone(),
                assignment: partition.assignment,
                topic_id: partition.place.topic_id,
                leader_epoch,
                offset: partition.position,
                last_fetched_epoch: partition.last_epoch,
                max_bytes: each,
            };
            chosen.push((partition.served, planned));
        }
        // The broker fills its answer in the order asked: who waited longest goes first. In a session the broker itself
        // puts those behind that it has served.
        chosen.sort_by_key(|(served, _)| *served);
        let max_wait = if left_out { self.config.max_wait.min(SHORT_WAIT) } else { self.config.max_wait };
        let partitions: Vec<Planned> = chosen.into_iter().map(|(_, planned)| planned).collect();
        let source = self.sources.entry(broker).or_default();
        source.asked = self.next_id;
        self.next_id += 1;
        let session = source.session.step(&partitions);
        let plan = Plan { id, broker, max_bytes, max_wait, partitions, session, open, since: now };
        let plan = Arc::new(plan);
        source.out = Some(plan.clone());
        Some(plan)
    }

    /// When a pause ends.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let partitions = self.partitions.values().filter_map(|partition| match partition.state {
            State::Paused(until) => Some(until),
            _ => None,
        });
        let tight = self.tight_since.map(|since| since + SHORT_WAIT);
        partitions.chain(tight).chain(self.sources.values().filter_map(|source| source.rests_until)).min()
    }

    /// Ends pauses whose time has come.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for partition in self.partitions.values_mut() {
            if matches!(partition.state, State::Paused(until) if until <= now) {
                partition.state = State::Ready;
            }
        }
        // The count of failures is kept until the broker answers; only the wait is over.
        self.sources
            .values_mut()
            .for_each(|source| source.rests_until = source.rests_until.filter(|until| *until > now));
    }

    /// The request got no answer.
    pub(crate) fn on_failed(&mut self, now: Instant, id: FetchId) {
        let backoff = self.config.backoff;
        let Some((plan, source)) = self.take(id) else { return };
        source.session.restart();
        source.failures = source.failures.saturating_add(1);
        source.rests_until = Some(now + backoff.delay(source.failures, 200));
        for planned in &plan.partitions {
            self.ready_again(planned, id);
        }
        // A follower that does not answer is not worth waiting for: the leader has all of it.
        self.leave_replica(plan.broker);
    }

    /// The request is refused as a whole, for a reason of this kind.
    pub(crate) fn on_refused(&mut self, now: Instant, id: FetchId, why: SessionVerdict) {
        let begins = |source: &Source| source.out.as_ref().is_some_and(|plan| plan.id == id && plan.session.epoch == 0);
        // A request that asked for a new session cannot be refused for want of an old one.
        if why != SessionVerdict::NewSession || self.sources.values().any(begins) {
            return self.on_failed(now, id);
        }
        let Some((plan, source)) = self.take(id) else { return };
        source.session.restart();
        for planned in &plan.partitions {
            self.ready_again(planned, id);
        }
    }

    fn take(&mut self, id: FetchId) -> Option<(Arc<Plan>, &mut Source)> {
        let source = self.sources.values_mut().find(|source| source.out.as_ref().is_some_and(|plan| plan.id == id))?;
        Some((source.out.take()?, source))
    }

    /// Back to the leaders with what was read from this follower.
    fn leave_replica(&mut self, broker: BrokerId) {
        for partition in self.partitions.values_mut() {
            partition.replica.take_if(|(follower, _)| *follower == broker);
        }
    }

    fn ready_again(&mut self, planned: &Planned, id: FetchId) {
        if let Some(partition) = self.current(&planned.partition, planned.assignment)
            && partition.state == State::InFlight(id)
        {
            partition.state = State::Ready;
        }
    }

    fn current(&mut self, partition: &TopicPartition, assignment: AssignmentEpoch) -> Option<&mut Partition> {
        self.partitions.get_mut(partition).filter(|partition| partition.assignment == assignment)
    }
}

#[cfg(test)]
mod tests;
