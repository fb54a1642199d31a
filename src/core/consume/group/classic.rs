//! Membership in a consumer group (the classic protocol), without sockets and clocks.
//!
//! ```text
//!            ┌────────────────────────── lost: Revoke all at once ──────────────────────────┐
//!            v                                                                              │
//!  start ─> Joining ─ leader ──> Counting ─ partition counts ─┐                             │
//!            ^  ^ └── follower ────────────────────────────> Syncing ─ Assign ─> Stable ────┤
//!            │  └── the group moved on ────────────────────────┘                  │ │       │
//!            │<───────────── rebalance, cooperative: nothing stops ───────────────┘ │       │
//!            │       rebalance, eager: Revoke all; what moved, cooperative; leave   │       │
//!            └──────────────── on_revoked ──────────────── Revoking <───────────────┘ ──────┘
//!                                                              └─ on_revoked, leaving ─> Leaving ─> Left
//!  any ── fatal code ──> Failed
//! ```
//! A member that offers cooperative assignors only (KIP-429) keeps what it owns while it joins and syncs, says so in its
//! subscription, and gives back afterwards what the new assignment lacks; then it joins again, so that the next owner gets
//! it. Any other member is eager: it gives back everything before it joins.
//!
//! Beside the state stands what is known about the coordinator: losing it costs a look-up and no assignment, since the
//! generation outlives a coordinator's move. Heartbeats go on while Stable and Revoking, whatever handlers do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::assignor::{self, Member, Previous};
use super::super::protocol::{self, Subscription};
use super::coordinator::{Gate, Requests};
use super::{Action, Generation, GroupFailure, RequestId};
use crate::config::Assignor;
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
    /// What is offered, best first.
    pub(crate) assignors: Vec<Assignor>,
    pub(crate) rack: Option<Arc<str>>,
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
    Counting {
        assignor: Assignor,
        members: Vec<Member>,
        keeps: bool,
    },
    Syncing {
        assignments: Vec<(String, Bytes)>,
    },
    Stable {
        next_heartbeat: Instant,
    },
    /// `rejoining`: the member stopped in the middle of a cooperative rebalance, and the answer to its join may still come.
    Revoking {
        next_heartbeat: Instant,
        lost: bool,
        rejoining: bool,
    },
    Leaving,
    Left,
    Failed,
}

/// One member of one group.
#[derive(Debug)]
pub(crate) struct Group {
    config: GroupConfig,
    state: State,
    requests: Requests,
    member_id: String,
    generation: i32,
    protocol: String,
    leads: bool,
    /// What the last assignment of ours was computed from, as the leader.
    counts: BTreeMap<Arc<str>, i32>,
    group_topics: BTreeSet<Arc<str>>,
    /// The partitions that are handled, in order.
    owned: Vec<TopicPartition>,
    /// Those of them that are being given back.
    revoking: Vec<TopicPartition>,
    /// The last assignment, for the next leader.
    previous: Previous,
    /// All offered assignors are cooperative.
    cooperative: bool,
    /// The topics changed since the last join.
    resubscribed: bool,
    leaving: bool,
    /// Joins and syncs in a row that the group refused.
    refusals: u32,
    /// A request cannot even be made: leaving is not tried.
    hopeless: bool,
    actions: VecDeque<Action>,
}

impl Group {
    /// A member that wants to join.
    pub(crate) fn new(config: GroupConfig, now: Instant) -> Group {
        // As Java: what one of them cannot do, none does.
        let cooperative = config.assignors.iter().all(|assignor| *assignor == Assignor::CooperativeSticky);
        let requests = Requests::new(config.backoff, now);
        let mut group = Group {
            config,
            state: State::Joining,
            requests,
            member_id: String::new(),
            generation: -1,
            protocol: String::new(),
            leads: false,
            counts: BTreeMap::new(),
            group_topics: BTreeSet::new(),
            owned: Vec::new(),
            revoking: Vec::new(),
            previous: Previous::default(),
            cooperative,
            resubscribed: false,
            leaving: false,
            refusals: 0,
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
        match (self.requests.gate(), &self.state) {
            (Gate::LookUp(at), _) => Some(at),
            (Gate::Answer, _) | (_, State::Revoking { lost: true, .. }) => None,
            (Gate::Open(at), State::Stable { next_heartbeat } | State::Revoking { next_heartbeat, .. }) => {
                Some(at.max(*next_heartbeat))
            }
            (Gate::Open(at), _) => Some(at),
        }
    }

    /// Time has come.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    /// Whom commits have to name; none while there is no assignment to commit for. In a cooperative rebalance that is the
    /// old generation until the join is answered, and the new one, which the coordinator takes once the group has synced.
    pub(crate) fn generation(&self) -> Option<Generation> {
        let commits = match self.state {
            State::Stable { .. } => true,
            State::Revoking { lost, .. } => !lost,
            State::Joining | State::Counting { .. } | State::Syncing { .. } => !self.owned.is_empty(),
            State::Leaving | State::Left | State::Failed => false,
        };
        commits.then(|| self.identity())
    }

    /// Whether what [`Action::Revoke`] named is still to be given back.
    pub(crate) fn is_revoking(&self) -> bool {
        matches!(self.state, State::Revoking { .. })
    }

    /// The topics wanted from now on; the group is told of them when they differ.
    pub(crate) fn subscribe(&mut self, now: Instant, mut topics: Vec<Arc<str>>) {
        topics.sort();
        topics.dedup();
        if topics == self.config.topics {
            return;
        }
        self.config.topics = topics;
        self.resubscribed = true;
        if let State::Stable { next_heartbeat } = self.state {
            self.rejoin(next_heartbeat);
        }
        self.advance(now);
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
            State::Stable { next_heartbeat } => self.revoke_all(next_heartbeat),
            // More than what moves has to be given back now.
            State::Revoking { next_heartbeat, lost: false, .. } if self.revoking != self.owned => {
                self.revoke_all(next_heartbeat);
            }
            // The old generation is good for commits until all members have joined.
            State::Joining if !self.owned.is_empty() => {
                self.revoke_all(now + self.config.heartbeat_interval);
                if let State::Revoking { rejoining, .. } = &mut self.state {
                    *rejoining = true;
                }
            }
            // Nothing can be committed before the group has synced.
            State::Counting { .. } | State::Syncing { .. } if !self.owned.is_empty() && !self.hopeless => {}
            State::Counting { .. } | State::Syncing { .. } if !self.owned.is_empty() => self.revoke_all(now),
            State::Joining | State::Counting { .. } | State::Syncing { .. } => self.part(),
            State::Revoking { .. } | State::Leaving | State::Left | State::Failed => {}
        }
        self.advance(now);
    }

    /// The answer to FindCoordinator; a failed one is asked again after a pause.
    pub(crate) fn on_coordinator(&mut self, now: Instant, id: RequestId, found: bool) {
        if self.requests.on_coordinator(now, id, found) {
            self.advance(now);
        }
    }

    /// A request got no answer. It may have had its effect: what is sent next is good either way.
    pub(crate) fn on_unanswered(&mut self, now: Instant, id: RequestId) {
        if self.requests.answered(id) {
            if matches!(self.state, State::Leaving) {
                self.state = State::Left; // the session timeout removes us
            }
            self.on_coordinator_lost(now);
        }
    }

    /// A request cannot be made or answered, now or ever: the driver tells the application, which then stops.
    pub(crate) fn on_impossible(&mut self, now: Instant) {
        self.hopeless = true;
        match self.state {
            State::Leaving => self.state = State::Left,
            State::Joining | State::Counting { .. } | State::Syncing { .. } if self.leaving => self.revoke_all(now),
            _ => {}
        }
    }

    /// The coordinator does not answer, or is it no more.
    pub(crate) fn on_coordinator_lost(&mut self, now: Instant) {
        self.requests.on_coordinator_lost(now);
        self.advance(now);
    }

    /// The answer to Heartbeat.
    pub(crate) fn on_heartbeat(&mut self, now: Instant, id: RequestId, error: ErrorCode) {
        if !self.requests.answered(id) {
            return;
        }
        let next = now + self.config.heartbeat_interval;
        if let State::Stable { next_heartbeat } | State::Revoking { next_heartbeat, .. } = &mut self.state {
            *next_heartbeat = next;
            match membership(error) {
                GroupVerdict::Done => self.requests.succeeded(),
                verdict => self.settle(now, verdict, "Heartbeat", error),
            }
        }
        self.advance(now);
    }

    /// The answer to LeaveGroup. Whatever it says, the member is gone.
    pub(crate) fn on_left(&mut self, id: RequestId) {
        if self.requests.answered(id) && matches!(self.state, State::Leaving) {
            self.state = State::Left;
        }
    }

    /// A commit of this generation was answered with a code about the membership.
    pub(crate) fn on_commit_refused(&mut self, now: Instant, generation: &Generation, error: ErrorCode) {
        if self.generation().as_ref() != Some(generation) {
            return;
        }
        match (&self.state, membership(error)) {
            // The group has gone on to the generation that the answer to the join will name, or the answer will tell that
            // this member is none any more.
            (
                State::Joining | State::Counting { .. } | State::Syncing { .. },
                GroupVerdict::Rejoin | GroupVerdict::LostGeneration | GroupVerdict::LostMember,
            ) => {}
            (State::Revoking { rejoining: true, .. }, GroupVerdict::LostGeneration) if !self.hopeless => {
                self.state = State::Joining;
            }
            (_, verdict) => self.settle(now, verdict, "OffsetCommit", error),
        }
        self.advance(now);
    }

    /// What [`Action::Revoke`] asked for is done.
    pub(crate) fn on_revoked(&mut self, now: Instant) {
        match self.state {
            State::Revoking { lost, .. } => {
                let revoked = std::mem::take(&mut self.revoking);
                self.owned.retain(|partition| revoked.binary_search(partition).is_err());
                self.requests.forget(); // a heartbeat of the old generation may still be out
                if lost {
                    self.generation = -1;
                }
            }
            // The last commit went through while the group went on.
            State::Joining | State::Counting { .. } | State::Syncing { .. } if self.leaving => self.owned.clear(),
            _ => return,
        }
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
            GroupVerdict::Retry => self.requests.pause(now),
            GroupVerdict::Fatal => self.fail(during, Some(code), String::new()),
        }
    }

    /// A join or a sync was refused: the next join follows at once, as long as that is not what happens every time.
    fn on_refused(&mut self, now: Instant) {
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals > REFUSALS_AT_ONCE {
            self.requests.pause(now);
        }
    }

    fn give_up_generation(&mut self, now: Instant, lost: bool) {
        match self.state {
            State::Stable { .. } | State::Revoking { lost: false, .. } if lost => self.lose(now),
            State::Stable { next_heartbeat } => self.rejoin(next_heartbeat),
            State::Joining | State::Counting { .. } | State::Syncing { .. } => {
                if lost && !self.owned.is_empty() {
                    return self.lose(now);
                }
                self.state = State::Joining;
                self.on_refused(now);
            }
            _ => {}
        }
    }

    /// Joins again: after everything is given back, or, when the group is cooperative, what is not wanted any more.
    fn rejoin(&mut self, next_heartbeat: Instant) {
        if !self.cooperative {
            return self.revoke_all(next_heartbeat);
        }
        let wanted = |partition: &&TopicPartition| self.config.topics.contains(&partition.topic);
        let unwanted: Vec<TopicPartition> = self.owned.iter().filter(|p| !wanted(p)).cloned().collect();
        match unwanted.is_empty() {
            true => self.state = State::Joining,
            false => self.revoke(next_heartbeat, unwanted),
        }
    }

    fn revoke_all(&mut self, next_heartbeat: Instant) {
        self.revoke(next_heartbeat, self.owned.clone());
    }

    fn revoke(&mut self, next_heartbeat: Instant, partitions: Vec<TopicPartition>) {
        self.state = State::Revoking { next_heartbeat, lost: false, rejoining: false };
        self.revoking.clone_from(&partitions);
        self.actions.push_back(Action::Revoke { partitions, lost: false });
    }

    /// Nothing that is owned can be committed any more.
    fn lose(&mut self, now: Instant) {
        self.state = State::Revoking { next_heartbeat: now, lost: true, rejoining: false };
        self.revoking.clone_from(&self.owned);
        self.actions.push_back(Action::Revoke { partitions: self.owned.clone(), lost: true });
    }

    /// Leaves the group. A static member stays in it until its session times out, so that its restart costs no rebalance.
    fn part(&mut self) {
        self.requests.forget();
        let nothing_to_leave = self.hopeless || self.member_id.is_empty() || self.config.instance_id.is_some();
        self.state = if nothing_to_leave { State::Left } else { State::Leaving };
    }

    fn fail(&mut self, during: &'static str, code: Option<ErrorCode>, detail: String) {
        self.state = State::Failed;
        self.actions.push_back(Action::Fail(GroupFailure { during, code, detail }));
    }

    fn identity(&self) -> Generation {
        Generation { number: self.generation, member_id: self.member_id.clone() }
    }

    /// The one place where requests are decided on: what the state needs next, if its time has come.
    fn advance(&mut self, now: Instant) {
        if self.is_over() || !self.requests.may_ask(now, &mut self.actions) {
            return;
        }
        let id = self.requests.new_id();
        if matches!(self.state, State::Joining) {
            self.resubscribed = false;
        }
        let action = match &self.state {
            State::Joining => Action::Join { id, member_id: self.member_id.clone(), protocols: self.protocols() },
            State::Counting { .. } => Action::CountPartitions { id, topics: self.group_topics.clone() },
            State::Syncing { assignments } => Action::Sync {
                id,
                generation: self.identity(),
                protocol: self.protocol.clone(),
                assignments: assignments.clone(),
            },
            State::Stable { next_heartbeat } | State::Revoking { next_heartbeat, lost: false, .. }
                if now >= *next_heartbeat =>
            {
                Action::Heartbeat { id, generation: self.identity() }
            }
            State::Leaving => Action::Leave { id, member_id: self.member_id.clone() },
            _ => return,
        };
        self.requests.wait_for(id);
        self.actions.push_back(action);
    }

    /// What is offered to the group.
    fn protocols(&self) -> Vec<(&'static str, Bytes)> {
        let offer = |assignor: &Assignor| {
            let subscription = Subscription {
                topics: self.config.topics.clone(),
                user_data: assignor::user_data(*assignor, &self.previous),
                owned: self.owned.clone(),
                generation: (self.generation >= 0).then_some(self.generation),
                rack: self.config.rack.clone(),
            };
            (assignor.name(), protocol::encode_subscription(&subscription))
        };
        self.config.assignors.iter().map(offer).collect()
    }
}

mod assigning;
#[cfg(test)]
mod tests;
