//! Membership in a consumer group by KIP-848: the coordinator computes the assignment, and a heartbeat is all there is.
//!
//! ```text
//!  start ─> Joining ── answered ──> Member ── leave: Revoke all ─ on_revoked ─> Leaving ── answered, or no answer ──> Left
//!              ^                     │  ^ │
//!              │      an assignment  v  │ │
//!              │      Revoke what is not ours any more ─ on_revoked ─ told in a heartbeat ─> Assign what is new
//!              │                          │
//!              └── on_revoked ── Lost <───┘ fenced: Revoke all, lost
//!  any ── fatal code ──> Failed
//! ```
//! The coordinator gives a partition to its next member only after a heartbeat has told it that the former one is done
//! with it: until then the epoch of this member stays good for commits. So partitions that stay are not touched by any of
//! this. Heartbeats go on while partitions are given back, whatever handlers do. After anything that went wrong the next
//! heartbeat tells all, since the coordinator may not have heard the last one.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::coordinator::{Gate, Requests};
use super::{Action, Generation, GroupFailure, RequestId};
use crate::core::retry::Backoff;
use crate::core::verdict::group::{NextVerdict, heartbeat as verdict};
use crate::types::{TopicId, TopicPartition};
use crate::wire::ErrorCode;

/// The epoch of a member that wants to join.
const JOIN: i32 = 0;
/// The epoch of a member that leaves.
const LEAVE: i32 = -1;
/// The epoch of a static member that leaves and means to come back: its partitions wait for it.
const LEAVE_FOR_A_WHILE: i32 = -2;
/// For how long a static member that was not shut down in order may still hold its `group.instance.id`: brokers forget
/// members that are silent for a minute, unless they are told to wait longer than `group.consumer.max.session.timeout.ms`
/// allows by default.
const RELEASE: Duration = Duration::from_secs(75);
/// What a broker may ask for as interval of heartbeats.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(600));

/// A partition as the coordinator names it.
type Key = (TopicId, i32);
/// Partitions as they are on the wire.
pub(crate) type ByTopic = Vec<(TopicId, Vec<i32>)>;

/// Settings of a member.
#[derive(Clone, Debug)]
pub(crate) struct NextConfig {
    /// It has a `group.instance.id` (KIP-345).
    pub(crate) is_static: bool,
    pub(crate) backoff: Backoff,
    /// What makes the member's id its own.
    pub(crate) random: [u8; 16],
}

/// One heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Beat {
    pub(crate) member_id: String,
    /// The member epoch; 0 joins, below 0 leaves.
    pub(crate) epoch: i32,
    /// Subscription, rebalance timeout, rack and assignor are told again. The `group.instance.id` goes with every one.
    pub(crate) full: bool,
    /// What this member owns, if that is to be told.
    pub(crate) owned: Option<ByTopic>,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug)]
pub(crate) struct Beaten {
    pub(crate) error: ErrorCode,
    /// What the coordinator says about the error.
    pub(crate) message: String,
    pub(crate) epoch: i32,
    /// When it expects the next one.
    pub(crate) interval: Duration,
    /// What this member shall own; none when there is nothing new to it.
    pub(crate) assignment: Option<ByTopic>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Joining,
    Member,
    /// All is lost, and given back before the next join.
    Lost,
    Leaving,
    Left,
    Failed,
}

/// One member of one group.
#[derive(Debug)]
pub(crate) struct NextMember {
    config: NextConfig,
    state: State,
    requests: Requests,
    member_id: String,
    epoch: i32,
    /// What the coordinator wants this member to own.
    target: BTreeSet<Key>,
    /// What it owns, what it gives back at the moment included.
    owned: BTreeMap<Key, Arc<str>>,
    /// What it gives back at the moment.
    revoking: Option<BTreeSet<Key>>,
    /// What the coordinator knows that it owns; none when it has to be told all again.
    told: Option<BTreeSet<Key>>,
    /// What the heartbeat under way tells of it.
    telling: Option<BTreeSet<Key>>,
    names: HashMap<TopicId, Arc<str>>,
    resolving: Option<RequestId>,
    /// Names that could not be found are looked for again then.
    resolve_at: Option<Instant>,
    unresolved: u32,
    leaving: bool,
    /// Whether the coordinator can have heard of this member.
    introduced: bool,
    joined: bool,
    next_heartbeat: Instant,
    /// Until when a `group.instance.id` that is in use is waited for.
    release: Option<Instant>,
    /// A request cannot even be made: leaving is not tried.
    hopeless: bool,
    actions: VecDeque<Action>,
}

impl NextMember {
    /// A member that wants to join.
    pub(crate) fn new(config: NextConfig, now: Instant) -> NextMember {
        let requests = Requests::new(config.backoff, now);
        let mut member = NextMember {
            state: State::Joining,
            requests,
            member_id: member_id(config.random),
            config,
            epoch: JOIN,
            target: BTreeSet::new(),
            owned: BTreeMap::new(),
            revoking: None,
            told: None,
            telling: None,
            names: HashMap::new(),
            resolving: None,
            resolve_at: None,
            unresolved: 0,
            leaving: false,
            introduced: false,
            joined: false,
            next_heartbeat: now,
            release: None,
            hopeless: false,
            actions: VecDeque::new(),
        };
        member.advance(now);
        member
    }

    /// The next thing to do.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When `handle_timeout` wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.is_over() {
            return None;
        }
        let request = match (self.requests.gate(), self.state) {
            (Gate::Answer, _) | (_, State::Lost) => None,
            (Gate::LookUp(at), _) => Some(at),
            (Gate::Open(_), State::Member) if !self.requests.is_failing() => Some(self.next_heartbeat),
            (Gate::Open(at), _) => Some(at),
        };
        [request, self.resolve_at].into_iter().flatten().min()
    }

    /// Time has come.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.resolve_at.is_some_and(|at| at <= now) {
            self.resolve_at = None;
            self.reconcile(now);
        }
        self.advance(now);
    }

    /// Whom commits have to name; none while there is no assignment to commit for. A commit that is refused because the
    /// epoch has changed meanwhile is good under the new one.
    pub(crate) fn generation(&self) -> Option<Generation> {
        let number = self.epoch;
        (self.state == State::Member).then(|| Generation { number, member_id: self.member_id.clone() })
    }

    /// Whether it was ever taken into the group.
    pub(crate) fn has_joined(&self) -> bool {
        self.joined
    }

    /// Whether the member has left for good.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Left | State::Failed)
    }

    /// The application stops: give back, commit, leave.
    pub(crate) fn leave(&mut self, now: Instant) {
        self.leaving = true;
        match self.state {
            State::Member if self.revoking.is_none() => self.give_back_all(),
            State::Joining => self.part(),
            // What is being given back comes first; the rest follows.
            State::Member | State::Lost | State::Leaving | State::Left | State::Failed => {}
        }
        self.advance(now);
    }

    /// The answer to FindCoordinator; a failed one is asked again after a pause.
    pub(crate) fn on_coordinator(&mut self, now: Instant, id: RequestId, found: bool) {
        if self.requests.on_coordinator(now, id, found) {
            self.advance(now);
        }
    }

    /// A heartbeat got no answer. It may have had its effect: what is sent next is good either way.
    pub(crate) fn on_unanswered(&mut self, now: Instant, id: RequestId) {
        if self.requests.answered(id) {
            self.tell_all();
            if self.state == State::Leaving {
                self.state = State::Left; // the session timeout removes us
            }
            self.on_coordinator_lost(now);
        }
    }

    /// Whether what [`Action::Revoke`] named is still to be given back.
    pub(crate) fn is_revoking(&self) -> bool {
        self.revoking.is_some()
    }

    /// A request cannot be made or answered, now or ever: the driver tells the application, which then stops.
    pub(crate) fn on_impossible(&mut self, now: Instant) {
        self.hopeless = true;
        if self.state == State::Leaving {
            self.state = State::Left;
        }
        self.advance(now);
    }

    /// The coordinator does not answer, or is it no more.
    pub(crate) fn on_coordinator_lost(&mut self, now: Instant) {
        self.requests.on_coordinator_lost(now);
        self.advance(now);
    }

    /// The answer to [`Action::ConsumerHeartbeat`].
    pub(crate) fn on_beaten(&mut self, now: Instant, id: RequestId, beaten: Beaten) {
        if !self.requests.answered(id) {
            return;
        }
        match self.state {
            // Whatever it says, the member is gone.
            State::Leaving => self.state = State::Left,
            State::Joining | State::Member => match verdict(beaten.error) {
                NextVerdict::Done => self.beaten(now, beaten),
                verdict => {
                    self.tell_all();
                    self.settle(now, verdict, "ConsumerGroupHeartbeat", beaten.error, beaten.message);
                }
            },
            State::Lost | State::Left | State::Failed => {}
        }
        self.advance(now);
    }

    fn beaten(&mut self, now: Instant, beaten: Beaten) {
        if beaten.epoch <= JOIN {
            let detail = format!("an answer with member epoch {}", beaten.epoch);
            return self.fail("ConsumerGroupHeartbeat", None, detail);
        }
        self.requests.succeeded();
        self.release = None;
        self.state = State::Member;
        self.joined = true;
        self.epoch = beaten.epoch;
        self.next_heartbeat = now + beaten.interval.clamp(INTERVALS.0, INTERVALS.1);
        if let Some(telling) = self.telling.take() {
            self.told = Some(telling);
        }
        if let Some(assignment) = beaten.assignment {
            self.target = assignment
                .into_iter()
                .flat_map(|(topic, partitions)| partitions.into_iter().map(move |partition| (topic, partition)))
                .collect();
            self.unresolved = 0;
            self.resolve_at = None;
        }
        self.reconcile(now);
    }

    /// The answer to [`Action::ResolveTopics`]: topics without a name yet are not in it.
    pub(crate) fn on_resolved(&mut self, now: Instant, id: RequestId, names: BTreeMap<TopicId, Arc<str>>) {
        if self.resolving.take_if(|resolving| *resolving == id).is_none() {
            return;
        }
        self.names.extend(names);
        if self.target.iter().any(|(topic, _)| !self.names.contains_key(topic)) {
            self.unresolved = self.unresolved.saturating_add(1);
            self.resolve_at = Some(now + self.config.backoff.delay(self.unresolved, 200));
        }
        self.reconcile(now);
        self.advance(now);
    }

    /// A commit of this member was answered with a code about the membership.
    pub(crate) fn on_commit_refused(&mut self, now: Instant, generation: &Generation, error: ErrorCode) {
        if self.generation().as_ref() != Some(generation) {
            return;
        }
        self.settle(now, verdict(error), "OffsetCommit", error, String::new());
        self.advance(now);
    }

    /// What [`Action::Revoke`] asked for is done.
    pub(crate) fn on_revoked(&mut self, now: Instant) {
        match self.state {
            State::Lost => {
                self.owned.clear();
                self.revoking = None;
                self.state = State::Joining;
                if self.leaving {
                    self.part();
                }
            }
            State::Member => {
                let Some(revoked) = self.revoking.take() else { return };
                self.owned.retain(|key, _| !revoked.contains(key));
                if !self.leaving {
                    self.reconcile(now);
                } else if self.owned.is_empty() {
                    self.part();
                } else {
                    self.give_back_all();
                }
            }
            State::Joining | State::Leaving | State::Left | State::Failed => return,
        }
        self.advance(now);
    }

    /// Brings what is owned to what the coordinator wants: first away with what is not ours any more, and when that is
    /// done, what is new. What is in both is not touched.
    fn reconcile(&mut self, now: Instant) {
        if self.state != State::Member || self.revoking.is_some() || self.leaving {
            return;
        }
        let gone: BTreeSet<Key> = self.owned.keys().filter(|key| !self.target.contains(key)).copied().collect();
        if !gone.is_empty() {
            return self.revoke(gone, false);
        }
        self.names.retain(|topic, _| self.target.range((*topic, i32::MIN)..).next().is_some_and(|key| key.0 == *topic));
        let mut begins = Vec::new();
        let mut nameless = BTreeSet::new();
        for (topic, partition) in &self.target {
            match self.names.get(topic) {
                None => {
                    nameless.insert(*topic);
                }
                Some(name) if !self.owned.contains_key(&(*topic, *partition)) => {
                    self.owned.insert((*topic, *partition), name.clone());
                    begins.push(TopicPartition { topic: name.clone(), partition: *partition });
                }
                Some(_) => {}
            }
        }
        if !begins.is_empty() {
            self.actions.push_back(Action::Assign { partitions: begins });
        }
        if !nameless.is_empty() && self.resolving.is_none() && self.resolve_at.is_none() {
            let id = self.requests.new_id();
            self.resolving = Some(id);
            self.actions.push_back(Action::ResolveTopics { id, topics: nameless });
        }
        if self.told.as_ref().is_none_or(|told| !told.iter().eq(self.owned.keys())) {
            self.next_heartbeat = now; // the coordinator waits for it, and others may wait for what was given back
        }
    }

    fn revoke(&mut self, keys: BTreeSet<Key>, lost: bool) {
        let name = |key: &Key| {
            let topic = self.owned.get(key)?.clone();
            Some(TopicPartition { topic, partition: key.1 })
        };
        let partitions = keys.iter().filter_map(name).collect();
        self.revoking = Some(keys);
        self.actions.push_back(Action::Revoke { partitions, lost });
    }

    fn give_back_all(&mut self) {
        if self.owned.is_empty() {
            return self.part();
        }
        self.revoke(self.owned.keys().copied().collect(), false);
    }

    /// What a code other than success means in the present state.
    fn settle(&mut self, now: Instant, verdict: NextVerdict, during: &'static str, code: ErrorCode, detail: String) {
        match verdict {
            NextVerdict::Done => {}
            // Brokers drop groups that are empty: this member was taken out before.
            NextVerdict::NoGroup if self.state == State::Joining => self.fail(during, Some(code), detail),
            NextVerdict::Fenced | NextVerdict::NoGroup => self.lose_all(now),
            NextVerdict::FindCoordinator => self.on_coordinator_lost(now),
            NextVerdict::Retry => self.requests.pause(now),
            NextVerdict::Unreleased => {
                let release = *self.release.get_or_insert(now + RELEASE);
                if now < release { self.requests.pause(now) } else { self.fail(during, Some(code), detail) }
            }
            NextVerdict::Fatal => self.fail(during, Some(code), detail),
        }
    }

    /// The coordinator has given our partitions away, or will: nothing of them can be committed. The member id stays.
    fn lose_all(&mut self, now: Instant) {
        if self.state == State::Joining {
            return self.requests.pause(now);
        }
        self.epoch = JOIN;
        self.tell_all();
        self.target.clear();
        self.resolving = None;
        self.resolve_at = None;
        self.requests.forget();
        self.state = State::Lost;
        self.revoke(self.owned.keys().copied().collect(), true);
    }

    /// Leaves the group, if it is in it.
    fn part(&mut self) {
        self.requests.forget();
        self.state = if self.hopeless || !self.introduced { State::Left } else { State::Leaving };
    }

    fn fail(&mut self, during: &'static str, code: Option<ErrorCode>, detail: String) {
        self.state = State::Failed;
        self.actions.push_back(Action::Fail(GroupFailure { during, code, detail }));
    }

    /// The coordinator may not have heard the last heartbeat, or may not remember it.
    fn tell_all(&mut self) {
        self.told = None;
        self.telling = None;
    }

    /// The one place where requests to the coordinator are decided on: what the state needs next, if its time has come.
    fn advance(&mut self, now: Instant) {
        if self.is_over() || !self.requests.may_ask(now, &mut self.actions) {
            return;
        }
        let beat = match self.state {
            State::Joining => self.beat(JOIN, true),
            // After a failure the next attempt comes when the pause is over, and not at the next interval.
            State::Member if now >= self.next_heartbeat || self.requests.is_failing() => self.beat(self.epoch, false),
            State::Leaving => {
                let epoch = if self.config.is_static { LEAVE_FOR_A_WHILE } else { LEAVE };
                Beat { member_id: self.member_id.clone(), epoch, full: false, owned: None }
            }
            _ => return,
        };
        let id = self.requests.new_id();
        self.requests.wait_for(id);
        self.introduced = true;
        self.actions.push_back(Action::ConsumerHeartbeat { id, beat });
    }

    fn beat(&mut self, epoch: i32, joins: bool) -> Beat {
        let full = joins || self.told.is_none();
        let owns: BTreeSet<Key> = self.owned.keys().copied().collect();
        let tells = full || self.told.as_ref() != Some(&owns);
        let owned = tells.then(|| by_topic(&owns));
        self.telling = tells.then_some(owns);
        Beat { member_id: self.member_id.clone(), epoch, full, owned }
    }
}

fn by_topic(keys: &BTreeSet<Key>) -> ByTopic {
    let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in keys {
        topics.entry(*topic).or_default().push(*partition);
    }
    topics.into_iter().collect()
}

/// A member id in the form of a random UUID (RFC 9562, version 4).
fn member_id(random: [u8; 16]) -> String {
    let bits = u128::from_be_bytes(random) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    let mut id = String::with_capacity(36);
    for (at, digit) in hex.char_indices() {
        if matches!(at, 8 | 12 | 16 | 20) {
            id.push('-');
        }
        id.push(digit);
    }
    id
}

#[cfg(test)]
mod tests;
