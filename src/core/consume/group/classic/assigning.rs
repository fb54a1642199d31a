//! From the answer to JoinGroup to the assignment: who leads counts partitions and shares them out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::super::super::assignor::{self, Member, Previous};
use super::super::super::protocol;
use super::{Group, Joined, State};
use crate::config::Assignor;
use crate::core::consume::group::{Action, RequestId};
use crate::core::verdict::group::{GroupVerdict, membership};
use crate::types::TopicPartition;
use crate::wire::ErrorCode;

impl Group {
    /// The answer to JoinGroup.
    pub(crate) fn on_joined(&mut self, now: Instant, id: RequestId, joined: Joined) {
        if !self.requests.answered(id)
            || !matches!(self.state, State::Joining | State::Revoking { rejoining: true, .. })
        {
            return;
        }
        match membership(joined.error) {
            GroupVerdict::Done => self.joined(now, joined),
            GroupVerdict::TakeMemberId => {
                self.member_id = joined.member_id;
                self.on_refused(now);
            }
            verdict => self.settle(now, verdict, "JoinGroup", joined.error),
        }
        self.advance(now);
    }

    fn joined(&mut self, now: Instant, joined: Joined) {
        self.requests.succeeded();
        // The group keeps a static member that misses a rebalance, and may have given what it owns to others: then it is
        // not the owner that gives back, and what it says it owns is not believed.
        let missed = self.config.instance_id.is_some() && joined.generation > self.generation.saturating_add(1);
        self.member_id = joined.member_id;
        self.generation = joined.generation;
        self.protocol = joined.protocol;
        self.leads = joined.leader == self.member_id;
        if missed && !self.owned.is_empty() {
            return self.lose(now);
        }
        let offered = self.config.assignors.iter().copied();
        let Some(assignor) = offered.clone().find(|assignor| assignor.name() == self.protocol) else {
            let offered: Vec<&str> = offered.map(Assignor::name).collect();
            let detail = format!("it chose the assignor {:?} where {} was offered", self.protocol, offered.join(", "));
            return self.fail("JoinGroup", None, detail);
        };
        if !self.leads {
            self.state = State::Syncing { assignments: Vec::new() };
            return;
        }
        let mut members = Vec::with_capacity(joined.members.len());
        for (id, instance_id, subscription) in joined.members {
            match protocol::decode_subscription(&subscription) {
                Ok(subscription) => members.push(Member::new(assignor, id, instance_id, subscription)),
                Err(error) => return self.fail("JoinGroup", None, format!("member {id}: {error}")),
            }
        }
        self.group_topics = members.iter().flat_map(|member| member.topics.iter().cloned()).collect();
        // KIP-814: a static leader that comes back finds the assignment in place. It assigns nothing, but it is the one
        // that has to see topics grow.
        self.state = State::Counting { assignor, members, keeps: joined.skip_assignment };
    }

    /// The answer to [`Action::CountPartitions`]: topics that do not exist are not in it.
    pub(crate) fn on_counted(&mut self, now: Instant, id: RequestId, counts: BTreeMap<Arc<str>, i32>) {
        if !self.requests.answered(id) {
            return;
        }
        if let State::Counting { assignor, members, keeps } = &self.state {
            let members = if *keeps { &[] } else { members.as_slice() };
            let assignments = assignor::assign(*assignor, members, &counts)
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
            self.rejoin(next_heartbeat);
            self.advance(now);
        }
    }

    /// The answer to SyncGroup.
    pub(crate) fn on_synced(&mut self, now: Instant, id: RequestId, error: ErrorCode, assignment: &[u8]) {
        if !self.requests.answered(id) || !matches!(self.state, State::Syncing { .. }) {
            return;
        }
        match membership(error) {
            GroupVerdict::Done => match protocol::decode_assignment(assignment) {
                Ok(partitions) => self.synced(now, partitions),
                Err(error) => self.fail("SyncGroup", None, error.to_string()),
            },
            verdict => self.settle(now, verdict, "SyncGroup", error),
        }
        self.advance(now);
    }

    fn synced(&mut self, now: Instant, partitions: Vec<TopicPartition>) {
        self.requests.succeeded();
        self.refusals = 0;
        let next_heartbeat = now + self.config.heartbeat_interval;
        self.state = State::Stable { next_heartbeat };
        let missing = |all: &[TopicPartition], some: &[TopicPartition]| -> Vec<TopicPartition> {
            all.iter().filter(|partition| some.binary_search(partition).is_err()).cloned().collect()
        };
        let added = missing(&partitions, &self.owned);
        let moved = missing(&self.owned, &partitions);
        self.owned.extend(added.iter().cloned());
        self.owned.sort();
        self.previous = Previous { partitions, generation: Some(self.generation) };
        self.actions.push_back(Action::Assign { partitions: added });
        if self.leaving {
            self.revoke_all(next_heartbeat);
        } else if !moved.is_empty() {
            self.revoke(next_heartbeat, moved);
        } else if self.resubscribed {
            self.rejoin(next_heartbeat);
        }
    }
}
