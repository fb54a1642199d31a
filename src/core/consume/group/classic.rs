//! Membership in a consumer group (the classic protocol), without sockets and clocks.
//!
//! ```text
//!            ┌────────────────────────── lost: Revoke at once ──────────────────────────────┐
//!            v                                                                              │
//!  start ─> Joining ─ leader ──> Counting ─ partition counts ─┐                             │
//!            ^  ^ └── follower ────────────────────────────> Syncing ─ Assign ─> Stable ────┤
//!            │  └── the group moved on ────────────────────────┘                   │        │
//!            │                                                rebalance, leave: Revoke      │
//!            └──────────────── on_revoked ──────────────── Revoking <───────────────┘ ──────┘
//!                                                              └─ on_revoked, leaving ─> Leaving ─> Left
//!  any ── fatal code ──> Failed
//! ```
//! Beside the state stands what is known about the coordinator: losing it costs a look-up and no assignment, since the
//! generation outlives a coordinator's move. Heartbeats go on while Stable and Revoking, whatever handlers do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::assignor::{self, Member};
use super::super::protocol;
use super::{Action, Generation, GroupFailure, RequestId};
use crate::core::retry::Backoff;
use crate::core::verdict::group::{GroupVerdict, membership};
use crate::types::TopicPartition;
use crate::wire::ErrorCode;

/// Joins and syncs that may be refused in a row before the next waits: a member id is told, a generation is outdated.
const REFUSALS_AT_ONCE: u32 = 3;

/// Settings of a member.
#[derive(Clone, Debug)]
pub(crate) struct GroupConfig {
    pub(crate) topics: Vec<Arc<str>>,
    pub(crate) instance_id: Option<String>,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) backoff: Backoff,
}

/// The answer to JoinGroup.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) error: ErrorCode,
    pub(crate) generation: i32,
    pub(crate) protocol: String,
    pub(crate) leader: String,
    pub(crate) member_id: String,
    pub(crate) skip_assignment: bool,
    /// Member id, instance id, subscription; filled for the leader.
    pub(crate) members: Vec<(String, Option<String>, Bytes)>,
}

#[derive(Debug)]
enum State {
    Joining,
    Counting { members: Vec<Member>, keeps: bool },
    Syncing { assignments: Vec<(String, Bytes)> },
    Stable { next_heartbeat: Instant },
    Revoking { next_heartbeat: Instant, lost: bool },
    Leaving,
    Left,
    Failed,
}

#[derive(Debug, PartialEq, Eq)]
enum Coordinator {
    Unknown { moved: bool },
    Asked(RequestId),
    Known,
}

/// One member of one group.
#[derive(Debug)]
pub(crate) struct Group {
    config: GroupConfig,
    state: State,
    coordinator: Coordinator,
    member_id: String,
    generation: i32,
    protocol: String,
    leads: bool,
    /// What the last assignment of ours was computed from, as the leader.
    counts: BTreeMap<Arc<str>, i32>,
    group_topics: BTreeSet<Arc<str>>,
    /// The partitions of the present assignment.
    owned: Vec<TopicPartition>,
    leaving: bool,
    /// The request of the state that is not answered yet.
    waiting: Option<RequestId>,
    next_id: u64,
    failures: u32,
    /// Joins and syncs in a row that the group refused.
    refusals: u32,
    not_before: Instant,
    /// A request cannot even be made: leaving is not tried.
    hopeless: bool,
    actions: VecDeque<Action>,
}

impl Group {
    /// A member that wants to join.
    pub(crate) fn new(config: GroupConfig, now: Instant) -> Group {
        let mut group = Group {
            config,
            state: State::Joining,
            coordinator: Coordinator::Unknown { moved: false },
            member_id: String::new(),
            generation: -1,
            protocol: String::new(),
            leads: false,
            counts: BTreeMap::new(),
            group_topics: BTreeSet::new(),
            owned: Vec::new(),
            leaving: false,
            waiting: None,
            next_id: 0,
            failures: 0,
            refusals: 0,
            not_before: now,
            hopeless: false,
            actions: VecDeque::new(),
        };
        group.advance(now);
        group
    }

    /// The next thing to do.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When `handle_timeout` wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if matches!(self.state, State::Left | State::Failed) {
            return None;
        }
        match (&self.coordinator, &self.waiting, &self.state) {
            (Coordinator::Unknown { .. }, ..) => Some(self.not_before),
            (Coordinator::Asked(_), ..) | (_, Some(_), _) => None,
            (_, None, State::Stable { next_heartbeat } | State::Revoking { next_heartbeat, lost: false }) => {
                Some((*next_heartbeat).max(self.not_before))
            }
            (_, None, State::Revoking { lost: true, .. }) => None,
            (_, None, _) => Some(self.not_before),
        }
    }

    /// Time has come.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    /// Whom commits have to name; none while there is no assignment to commit for.
    pub(crate) fn generation(&self) -> Option<Generation> {
        matches!(self.state, State::Stable { .. } | State::Revoking { lost: false, .. }).then(|| self.identity())
    }

    /// The topics whose partition counts decide about the assignment, when this member computes it.
    pub(crate) fn watched_topics(&self) -> Option<&BTreeSet<Arc<str>>> {
        (self.leads && matches!(self.state, State::Stable { .. })).then_some(&self.group_topics)
    }

    /// Whether the member has left for good.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Left | State::Failed)
    }

    /// The application stops: give back, commit, leave.
    pub(crate) fn leave(&mut self, now: Instant) {
        self.leaving = true;
        match self.state {
            State::Stable { next_heartbeat } => self.revoke(next_heartbeat, false),
            State::Joining | State::Counting { .. } | State::Syncing { .. } => self.part(),
            State::Revoking { .. } | State::Leaving | State::Left | State::Failed => {}
        }
        self.advance(now);
    }

    /// The answer to FindCoordinator; a failed one is asked again after a pause.
    pub(crate) fn on_coordinator(&mut self, now: Instant, id: RequestId, found: bool) {
        if self.coordinator != Coordinator::Asked(id) {
            return;
        }
        if found {
            self.coordinator = Coordinator::Known;
        } else {
            self.coordinator = Coordinator::Unknown { moved: false };
            self.pause(now);
        }
        self.advance(now);
    }

    /// A request got no answer. It may have had its effect: what is sent next is good either way.
    pub(crate) fn on_unanswered(&mut self, now: Instant, id: RequestId) {
        if self.waiting == Some(id) {
            self.waiting = None;
            if matches!(self.state, State::Leaving) {
                self.state = State::Left; // the session timeout removes us
            }
            self.on_coordinator_lost(now);
        }
    }

    /// A request cannot be made or answered, now or ever: the driver tells the application, which then stops.
    pub(crate) fn on_impossible(&mut self) {
        self.hopeless = true;
        if matches!(self.state, State::Leaving) {
            self.state = State::Left;
        }
    }

    /// The coordinator does not answer, or is it no more.
    pub(crate) fn on_coordinator_lost(&mut self, now: Instant) {
        if self.coordinator == Coordinator::Known {
            self.coordinator = Coordinator::Unknown { moved: true };
            self.pause(now);
        }
        self.advance(now);
    }

    /// The answer to JoinGroup.
    pub(crate) fn on_joined(&mut self, now: Instant, id: RequestId, joined: Joined) {
        if !self.answered(id) || !matches!(self.state, State::Joining) {
            return;
        }
        match membership(joined.error) {
            GroupVerdict::Done => self.joined(joined),
            GroupVerdict::TakeMemberId => {
                self.member_id = joined.member_id;
                self.on_refused(now);
            }
            verdict => self.settle(now, verdict, "JoinGroup", joined.error),
        }
        self.advance(now);
    }

    fn joined(&mut self, joined: Joined) {
        self.failures = 0;
        self.member_id = joined.member_id;
        self.generation = joined.generation;
        self.protocol = joined.protocol;
        self.leads = joined.leader == self.member_id;
        if !self.leads {
            self.state = State::Syncing { assignments: Vec::new() };
            return;
        }
        let mut members = Vec::with_capacity(joined.members.len());
        for (id, instance_id, subscription) in joined.members {
            match protocol::decode_subscription(&subscription) {
                Ok(topics) => members.push(Member { id, instance_id, topics }),
                Err(error) => return self.fail("JoinGroup", None, format!("member {id}: {error}")),
            }
        }
        self.group_topics = members.iter().flat_map(|member| member.topics.iter().cloned()).collect();
        // KIP-814: a static leader that comes back finds the assignment in place. It assigns nothing, but it is the one
        // that has to see topics grow.
        self.state = State::Counting { members, keeps: joined.skip_assignment };
    }

    /// The answer to [`Action::CountPartitions`]: topics that do not exist are not in it.
    pub(crate) fn on_counted(&mut self, now: Instant, id: RequestId, counts: BTreeMap<Arc<str>, i32>) {
        if !self.answered(id) {
            return;
        }
        if let State::Counting { members, keeps } = &self.state {
            let members = if *keeps { &[] } else { members.as_slice() };
            let assignments = assignor::range(members, &counts)
                .iter()
                .zip(members)
                .map(|(partitions, member)| (member.id.clone(), protocol::encode_assignment(partitions)))
                .collect();
            self.counts = counts;
            self.state = State::Syncing { assignments };
        }
        self.advance(now);
    }

    /// The counts of the watched topics as metadata has them now: when they changed, the group is assigned anew.
    pub(crate) fn on_counts_seen(&mut self, now: Instant, counts: &BTreeMap<Arc<str>, i32>) {
        // A topic that is missing from one answer has not lost its partitions.
        let grown = counts.iter().any(|(topic, count)| self.counts.get(topic).is_none_or(|known| count > known));
        if grown
            && self.leads
            && let State::Stable { next_heartbeat } = self.state
        {
            self.revoke(next_heartbeat, false);
            self.advance(now);
        }
    }

    /// The answer to SyncGroup.
    pub(crate) fn on_synced(&mut self, now: Instant, id: RequestId, error: ErrorCode, assignment: &[u8]) {
        if !self.answered(id) || !matches!(self.state, State::Syncing { .. }) {
            return;
        }
        match membership(error) {
            GroupVerdict::Done => match protocol::decode_assignment(assignment) {
                Ok(partitions) => {
                    self.failures = 0;
                    self.refusals = 0;
                    self.owned.clone_from(&partitions);
                    self.state = State::Stable { next_heartbeat: now + self.config.heartbeat_interval };
                    self.actions.push_back(Action::Assign { partitions });
                }
                Err(error) => self.fail("SyncGroup", None, error.to_string()),
            },
            verdict => self.settle(now, verdict, "SyncGroup", error),
        }
        self.advance(now);
    }

    /// The answer to Heartbeat.
    pub(crate) fn on_heartbeat(&mut self, now: Instant, id: RequestId, error: ErrorCode) {
        if !self.answered(id) {
            return;
        }
        let next = now + self.config.heartbeat_interval;
        if let State::Stable { next_heartbeat } | State::Revoking { next_heartbeat, .. } = &mut self.state {
            *next_heartbeat = next;
            match membership(error) {
                GroupVerdict::Done => self.failures = 0,
                verdict => self.settle(now, verdict, "Heartbeat", error),
            }
        }
        self.advance(now);
    }

    /// The answer to LeaveGroup. Whatever it says, the member is gone.
    pub(crate) fn on_left(&mut self, id: RequestId) {
        if self.answered(id) && matches!(self.state, State::Leaving) {
            self.state = State::Left;
        }
    }

    /// A commit of this generation was answered with a code about the membership.
    pub(crate) fn on_commit_refused(&mut self, now: Instant, generation: &Generation, error: ErrorCode) {
        if self.generation().as_ref() == Some(generation) {
            self.settle(now, membership(error), "OffsetCommit", error);
            self.advance(now);
        }
    }

    /// What [`Action::Revoke`] asked for is done.
    pub(crate) fn on_revoked(&mut self, now: Instant) {
        if !matches!(self.state, State::Revoking { .. }) {
            return;
        }
        self.owned.clear();
        self.waiting = None; // a heartbeat of the old generation may still be out
        if self.leaving {
            self.part()
        } else {
            self.state = State::Joining
        }
        self.advance(now);
    }

    /// What a code other than success means in the present state.
    fn settle(&mut self, now: Instant, verdict: GroupVerdict, during: &'static str, code: ErrorCode) {
        match verdict {
            GroupVerdict::Done => {}
            GroupVerdict::Rejoin | GroupVerdict::TakeMemberId => self.give_up_generation(now, false),
            GroupVerdict::LostGeneration => self.give_up_generation(now, true),
            GroupVerdict::LostMember => {
                self.member_id.clear();
                self.give_up_generation(now, true);
            }
            GroupVerdict::FindCoordinator => self.on_coordinator_lost(now),
            GroupVerdict::Retry => self.pause(now),
            GroupVerdict::Fatal => self.fail(during, Some(code), String::new()),
        }
    }

    /// A join or a sync was refused: the next join follows at once, as long as that is not what happens every time.
    fn on_refused(&mut self, now: Instant) {
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals > REFUSALS_AT_ONCE {
            self.pause(now);
        }
    }

    fn give_up_generation(&mut self, now: Instant, lost: bool) {
        match self.state {
            State::Stable { next_heartbeat } => self.revoke(next_heartbeat, lost),
            State::Revoking { next_heartbeat, lost: false } if lost => self.revoke(next_heartbeat, lost),
            State::Joining | State::Counting { .. } | State::Syncing { .. } => {
                self.state = State::Joining;
                self.on_refused(now);
            }
            _ => {}
        }
    }

    fn revoke(&mut self, next_heartbeat: Instant, lost: bool) {
        self.state = State::Revoking { next_heartbeat, lost };
        self.actions.push_back(Action::Revoke { partitions: self.owned.clone(), lost });
    }

    /// Leaves the group. A static member stays in it until its session times out, so that its restart costs no rebalance.
    fn part(&mut self) {
        self.waiting = None;
        let nothing_to_leave = self.hopeless || self.member_id.is_empty() || self.config.instance_id.is_some();
        self.state = if nothing_to_leave { State::Left } else { State::Leaving };
    }

    fn fail(&mut self, during: &'static str, code: Option<ErrorCode>, detail: String) {
        self.state = State::Failed;
        self.actions.push_back(Action::Fail(GroupFailure { during, code, detail }));
    }

    fn pause(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + self.config.backoff.delay(self.failures, 200);
    }

    fn identity(&self) -> Generation {
        Generation { number: self.generation, member_id: self.member_id.clone() }
    }

    fn answered(&mut self, id: RequestId) -> bool {
        self.waiting.take_if(|waiting| *waiting == id).is_some()
    }

    fn new_id(&mut self) -> RequestId {
        self.next_id += 1;
        RequestId(self.next_id)
    }

    /// The one place where requests are decided on: what the state needs next, if its time has come.
    fn advance(&mut self, now: Instant) {
        if self.is_over() || now < self.not_before && self.paused() {
            return;
        }
        if let Coordinator::Unknown { moved } = self.coordinator {
            let id = self.new_id();
            self.coordinator = Coordinator::Asked(id);
            self.actions.push_back(Action::FindCoordinator { id, moved });
        }
        if self.coordinator != Coordinator::Known || self.waiting.is_some() {
            return;
        }
        let id = self.new_id();
        let action = match &self.state {
            State::Joining => Action::Join {
                id,
                member_id: self.member_id.clone(),
                subscription: protocol::encode_subscription(&self.config.topics),
            },
            State::Counting { .. } => Action::CountPartitions { id, topics: self.group_topics.clone() },
            State::Syncing { assignments } => Action::Sync {
                id,
                generation: self.identity(),
                protocol: self.protocol.clone(),
                assignments: assignments.clone(),
            },
            State::Stable { next_heartbeat } | State::Revoking { next_heartbeat, lost: false }
                if now >= *next_heartbeat =>
            {
                Action::Heartbeat { id, generation: self.identity() }
            }
            State::Leaving => Action::Leave { id, member_id: self.member_id.clone() },
            _ => return,
        };
        self.waiting = Some(id);
        self.actions.push_back(action);
    }

    /// Whether the next request has to wait for the end of a pause.
    fn paused(&self) -> bool {
        self.failures > 0
    }
}

#[cfg(test)]
mod tests;
