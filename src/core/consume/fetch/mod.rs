//! What to fetch next from which leader, and whether an answer still means anything.
//!
//! ```text
//!  Ready ── in a plan ──> InFlight ── records ─────────> Ready   (position behind the last batch)
//!    ^                       ├────── error, pause ─────> Paused ── time ──> Ready
//!    │                       ├────── leader unknown ───> Lost leader: Ready again when metadata names one
//!    └── position set ───────┴────── out of range, diverged, damaged ──> Stopped
//! ```
//! One request is out per leader while the records of the one before are handled. All bytes that were fetched and not
//! yet handled, and all that were asked for, count against one bound; a partition with two chunks waiting is left out
//! of the next request, so that a slow partition holds back itself only.

mod extent;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::watermark::AssignmentEpoch;
use crate::core::retry::Backoff;
use crate::core::verdict::fetch::{FetchVerdict, partition as verdict};
use crate::types::{BrokerId, TopicId, TopicPartition};
use crate::wire::ErrorCode;

/// Chunks of one partition that may wait for their handler: one being handled, one behind it.
const CHUNKS_PER_PARTITION: usize = 2;
/// Below this much room no request is made: answers would be crumbs.
const LEAST_REQUEST: usize = 64 * 1024;
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
    pub(crate) aborted: Vec<(i64, i64)>,
    pub(crate) records: Bytes,
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
    state: State,
    chunks: usize,
    failures: u32,
    /// When it was last answered with records, as a count: the one longest without goes first.
    served: u64,
    paused: bool,
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
    out: HashMap<BrokerId, Plan>,
    /// Brokers that failed: how often in a row, and until when they are left alone.
    resting: HashMap<BrokerId, (u32, Option<Instant>)>,
    /// The last request made to each broker: the one longest without goes first, or room for one request at a time
    /// would always go to the same.
    asked: HashMap<BrokerId, u64>,
    buffered: usize,
    served: u64,
    next_id: u64,
}

impl Fetches {
    /// Nothing to fetch yet.
    pub(crate) fn new(config: FetchConfig) -> Fetches {
        Fetches {
            config,
            partitions: BTreeMap::new(),
            out: HashMap::new(),
            resting: HashMap::new(),
            asked: HashMap::new(),
            buffered: 0,
            served: 0,
            next_id: 0,
        }
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
        let state = State::Ready;
        let (chunks, failures, served, paused) = (0, 0, 0, false);
        let new = Partition { assignment, place, position, last_epoch, state, chunks, failures, served, paused };
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

    /// Goes on at a position, after [`Outcome::OutOfRange`]: after a pause, for a broker that goes on refusing what it
    /// says is in its log must not be asked without end.
    pub(crate) fn set_position(
        &mut self,
        now: Instant,
        partition: &TopicPartition,
        assignment: AssignmentEpoch,
        position: i64,
    ) {
        let backoff = self.config.backoff;
        if let Some(partition) = self.current(partition, assignment) {
            partition.position = position;
            partition.last_epoch = -1;
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

    /// Bytes of a chunk are handled, or dropped.
    pub(crate) fn on_released(&mut self, partition: &TopicPartition, assignment: AssignmentEpoch, bytes: usize) {
        self.buffered = self.buffered.saturating_sub(bytes);
        if let Some(partition) = self.current(partition, assignment) {
            partition.chunks = partition.chunks.saturating_sub(1);
        }
    }

    /// Bytes fetched and not handled.
    pub(crate) fn buffered(&self) -> usize {
        self.buffered
    }

    /// The next request, if there is anything to ask and room for the answer.
    pub(crate) fn poll_plan(&mut self, now: Instant) -> Option<Plan> {
        let mut leaders: Vec<BrokerId> =
            self.partitions.values().filter_map(|partition| Some(partition.place.leader?.0)).collect();
        leaders.sort_unstable();
        leaders.dedup();
        leaders.sort_by_key(|broker| self.asked.get(broker).copied());
        let share = (self.config.buffer_bytes / (2 * leaders.len().max(1))).max(LEAST_REQUEST);
        leaders.into_iter().find_map(|broker| self.plan(now, broker, share))
    }

    fn plan(&mut self, now: Instant, broker: BrokerId, share: usize) -> Option<Plan> {
        if self.out.contains_key(&broker) || self.resting.get(&broker).is_some_and(|(_, until)| until.is_some()) {
            return None;
        }
        let asked: usize = self.out.values().map(|plan| plan.max_bytes).sum();
        let room = self.config.buffer_bytes.saturating_sub(self.buffered + asked);
        let max_bytes = room.min(share).min(self.config.max_bytes);
        if max_bytes < LEAST_REQUEST.min(self.config.max_bytes).min(self.config.buffer_bytes) {
            return None;
        }
        let each = (self.config.buffer_bytes / (CHUNKS_PER_PARTITION * self.partitions.len().max(1)))
            .clamp(LEAST_REQUEST.min(self.config.partition_max_bytes), self.config.partition_max_bytes);
        let id = FetchId(self.next_id);
        let mut left_out = false;
        let mut chosen: Vec<(u64, Planned)> = Vec::new();
        for (name, partition) in &mut self.partitions {
            let Some((leader, leader_epoch)) = partition.place.leader else { continue };
            if leader != broker || partition.state == State::Stopped || partition.paused {
                continue;
            }
            let paused = matches!(partition.state, State::Paused(until) if now < until);
            if paused || partition.chunks >= CHUNKS_PER_PARTITION {
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
        if chosen.is_empty() {
            return None;
        }
        // The broker fills its answer in the order asked: who waited longest goes first.
        chosen.sort_by_key(|(served, _)| *served);
        self.asked.insert(broker, self.next_id);
        self.next_id += 1;
        let max_wait = if left_out { self.config.max_wait.min(SHORT_WAIT) } else { self.config.max_wait };
        let partitions = chosen.into_iter().map(|(_, planned)| planned).collect();
        let plan = Plan { id, broker, max_bytes, max_wait, partitions };
        self.out.insert(broker, plan.clone());
        Some(plan)
    }

    /// When a pause ends.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let partitions = self.partitions.values().filter_map(|partition| match partition.state {
            State::Paused(until) => Some(until),
            _ => None,
        });
        partitions.chain(self.resting.values().filter_map(|(_, until)| *until)).min()
    }

    /// Ends pauses whose time has come.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for partition in self.partitions.values_mut() {
            if matches!(partition.state, State::Paused(until) if until <= now) {
                partition.state = State::Ready;
            }
        }
        // The count of failures is kept until the broker answers; only the wait is over.
        self.resting.values_mut().for_each(|(_, until)| *until = until.filter(|until| *until > now));
    }

    /// The request got no answer, or one that is refused as a whole.
    pub(crate) fn on_failed(&mut self, now: Instant, id: FetchId) {
        let Some(plan) = self.take(id) else { return };
        let (failures, until) = self.resting.entry(plan.broker).or_default();
        *failures = failures.saturating_add(1);
        *until = Some(now + self.config.backoff.delay(*failures, 200));
        for planned in &plan.partitions {
            self.ready_again(planned, id);
        }
    }

    /// The answer to a plan. What belongs to an assignment or a position of the past is dropped.
    pub(crate) fn on_answer(&mut self, now: Instant, id: FetchId, answers: Vec<Answer>) -> Vec<Outcome> {
        let Some(plan) = self.take(id) else { return Vec::new() };
        self.resting.remove(&plan.broker);
        let mut outcomes = Vec::new();
        for answer in answers {
            let Some(planned) = plan.partitions.iter().find(|planned| planned.partition == answer.partition) else {
                continue; // not asked for
            };
            self.on_partition(now, id, planned, answer, &mut outcomes);
        }
        for planned in &plan.partitions {
            self.ready_again(planned, id); // those without an answer
        }
        outcomes
    }

    fn on_partition(
        &mut self,
        now: Instant,
        id: FetchId,
        planned: &Planned,
        answer: Answer,
        outcomes: &mut Vec<Outcome>,
    ) {
        let backoff = self.config.backoff;
        let Some(partition) = self.current(&planned.partition, planned.assignment) else { return };
        if partition.state != State::InFlight(id) || partition.position != planned.offset {
            return;
        }
        let (name, assignment, position) = (answer.partition, planned.assignment, planned.offset);
        let code_verdict = verdict(answer.error);
        if code_verdict == FetchVerdict::Done {
            partition.failures = 0;
        } else {
            partition.failures = partition.failures.saturating_add(1);
        }
        let paused = State::Paused(now + backoff.delay(partition.failures, 200));
        partition.state = State::Ready;
        match code_verdict {
            FetchVerdict::Done => {}
            FetchVerdict::Refresh => {
                partition.state = paused;
                return outcomes.push(Outcome::Refresh(name, answer.leader));
            }
            FetchVerdict::Retry => return partition.state = paused,
            FetchVerdict::OutOfRange => {
                partition.state = State::Stopped;
                return outcomes.push(Outcome::OutOfRange(name, assignment, position));
            }
            FetchVerdict::Fatal => {
                partition.state = State::Stopped;
                return outcomes.push(Outcome::Refused(name, assignment, answer.error));
            }
        }
        if let Some((epoch, end)) = answer.diverging {
            partition.state = State::Stopped;
            return outcomes.push(Outcome::Diverged { partition: name, assignment, position, end, epoch });
        }
        outcomes.push(Outcome::End(name.clone(), assignment, answer.end));
        if answer.records.is_empty() {
            return;
        }
        match extent::of(&answer.records) {
            Ok(extent) if extent.next > position => {
                partition.position = extent.next;
                partition.last_epoch = extent.leader_epoch;
                partition.chunks += 1;
                let records = answer.records.slice(..extent.bytes);
                self.served += 1;
                self.buffered += records.len();
                let served = self.served;
                if let Some(partition) = self.current(&name, assignment) {
                    partition.served = served;
                }
                let chunk = Chunk { partition: name, assignment, from: position, records, aborted: answer.aborted };
                outcomes.push(Outcome::Chunk(chunk));
            }
            Ok(_) => {
                partition.state = State::Stopped;
                outcomes.push(Outcome::Malformed(
                    name,
                    assignment,
                    position,
                    "the batches end below the offset asked for",
                ));
            }
            Err(why) => {
                partition.state = State::Stopped;
                outcomes.push(Outcome::Malformed(name, assignment, position, why));
            }
        }
    }

    fn take(&mut self, id: FetchId) -> Option<Plan> {
        let broker = self.out.values().find(|plan| plan.id == id)?.broker;
        self.out.remove(&broker)
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
