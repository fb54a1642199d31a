//! The two protocols of groups behind one face, and which of them is spoken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Event, Membership, PatternWatch, Subscription};
use crate::config::{ConsumerConfig, GroupProtocol};
use crate::core::consume::group::classic::{Group, GroupConfig, Joined};
use crate::core::consume::group::next::{Beaten, NextConfig, NextMember};
use crate::core::consume::group::{Action, Generation, GroupFailure, RequestId};
use crate::core::verdict::group::suggests_classic;
use crate::error::{CallError, ConsumeError};
use crate::io::cluster::{Cluster, Lane};
use crate::io::inbox::Message;
use crate::types::TopicId;
use crate::wire::requests::find_coordinator::CoordinatorType;
use crate::wire::{ApiKey, ErrorCode};

/// The version of ConsumerGroupHeartbeat from which on members choose their own id, so that a lost answer does no harm.
const NEXT_SINCE: i16 = 1;

/// The membership in a group.
pub(super) enum Protocol {
    Classic(Box<Group>),
    Next(Box<NextMember>),
}

/// Passes a call on to either.
macro_rules! either {
    ($self:ident, $member:ident => $call:expr) => {
        match $self {
            Protocol::Classic($member) => $call,
            Protocol::Next($member) => $call,
        }
    };
}

impl Protocol {
    pub(super) fn poll_action(&mut self) -> Option<Action> {
        either!(self, member => member.poll_action())
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        either!(self, member => member.poll_timeout())
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        either!(self, member => member.handle_timeout(now))
    }

    pub(super) fn generation(&self) -> Option<Generation> {
        either!(self, member => member.generation())
    }

    pub(super) fn is_over(&self) -> bool {
        either!(self, member => member.is_over())
    }

    pub(super) fn leave(&mut self, now: Instant) {
        either!(self, member => member.leave(now))
    }

    pub(super) fn on_coordinator(&mut self, now: Instant, id: RequestId, found: bool) {
        either!(self, member => member.on_coordinator(now, id, found))
    }

    pub(super) fn on_unanswered(&mut self, now: Instant, id: RequestId) {
        either!(self, member => member.on_unanswered(now, id))
    }

    pub(super) fn on_impossible(&mut self, now: Instant) {
        match self {
            Protocol::Classic(group) => group.on_impossible(now),
            Protocol::Next(member) => member.on_impossible(),
        }
    }

    pub(super) fn on_commit_refused(&mut self, now: Instant, generation: &Generation, error: ErrorCode) {
        either!(self, member => member.on_commit_refused(now, generation, error))
    }

    pub(super) fn on_revoked(&mut self, now: Instant) {
        either!(self, member => member.on_revoked(now))
    }

    /// Whether a revocation whose commit failed is not over: everything will be revoked again, in a generation in which
    /// it can be committed.
    pub(super) fn revokes_again(&self) -> bool {
        match self {
            Protocol::Classic(group) => !group.is_over() && !group.is_revoking(),
            Protocol::Next(_) => false,
        }
    }

    pub(super) fn watched_topics(&self) -> Option<&BTreeSet<Arc<str>>> {
        match self {
            Protocol::Classic(group) => group.watched_topics(),
            Protocol::Next(_) => None,
        }
    }

    pub(super) fn on_counts_seen(&mut self, now: Instant, counts: &BTreeMap<Arc<str>, i32>) {
        if let Protocol::Classic(group) = self {
            group.on_counts_seen(now, counts);
        }
    }

    pub(super) fn subscribe(&mut self, now: Instant, topics: Vec<Arc<str>>) {
        if let Protocol::Classic(group) = self {
            group.subscribe(now, topics);
        }
    }

    pub(super) fn on_joined(&mut self, now: Instant, id: RequestId, joined: Joined) {
        if let Protocol::Classic(group) = self {
            group.on_joined(now, id, joined);
        }
    }

    pub(super) fn on_counted(&mut self, now: Instant, id: RequestId, counts: BTreeMap<Arc<str>, i32>) {
        if let Protocol::Classic(group) = self {
            group.on_counted(now, id, counts);
        }
    }

    pub(super) fn on_synced(&mut self, now: Instant, id: RequestId, error: ErrorCode, assignment: &[u8]) {
        if let Protocol::Classic(group) = self {
            group.on_synced(now, id, error, assignment);
        }
    }

    pub(super) fn on_heartbeat(&mut self, now: Instant, id: RequestId, error: ErrorCode) {
        if let Protocol::Classic(group) = self {
            group.on_heartbeat(now, id, error);
        }
    }

    pub(super) fn on_left(&mut self, id: RequestId) {
        if let Protocol::Classic(group) = self {
            group.on_left(id);
        }
    }

    pub(super) fn on_beaten(&mut self, now: Instant, id: RequestId, beaten: Beaten) {
        if let Protocol::Next(member) = self {
            member.on_beaten(now, id, beaten);
        }
    }

    pub(super) fn on_resolved(&mut self, now: Instant, id: RequestId, names: BTreeMap<TopicId, Arc<str>>) {
        if let Protocol::Next(member) = self {
            member.on_resolved(now, id, names);
        }
    }
}

impl Membership {
    /// Becomes a member, by the protocol of the configuration, or by the one that the coordinator has.
    pub(super) fn choose(&mut self) {
        let (config, Some(group)) = (&self.context.config, self.context.group.clone()) else { return };
        match config.group_protocol {
            GroupProtocol::Classic => self.join_classic(),
            GroupProtocol::Consumer => self.join_next(),
            GroupProtocol::Auto if is_classic_only(config) => self.join_classic(),
            GroupProtocol::Auto => {
                let (cluster, lane, events) = (self.context.cluster.clone(), self.lane(), self.events.clone());
                self.positions.spawn(async move {
                    let chosen = speaks_next(&cluster, &group, lane).await;
                    let _ = events.send(Event::Chosen(chosen));
                });
            }
        }
    }

    /// The coordinator was asked what it speaks.
    pub(super) fn on_chosen(&mut self, chosen: Result<bool, CallError>) {
        match chosen {
            _ if self.finishing.is_some() => {}
            Ok(true) => self.join_next(),
            Ok(false) => self.join_classic(),
            Err(error) => self.context.inbox.push(Message::Failed(ConsumeError::Call(error))),
        }
    }

    fn join_next(&mut self) {
        let mut random = [0; 16];
        for half in random.chunks_exact_mut(8) {
            half.copy_from_slice(&self.context.cluster.thread().random().next().to_be_bytes());
        }
        let is_static = self.context.config.group_instance_id.is_some();
        let config = NextConfig { is_static, backoff: self.context.cluster.retry_backoff(), random };
        self.group = Some(Protocol::Next(Box::new(NextMember::new(config, self.now()))));
    }

    fn join_classic(&mut self) {
        match self.context.subscription.clone() {
            Subscription::Topics(topics) => self.join_with(topics),
            // Joining begins with the first list of topics, for with nothing it would cost a rebalance.
            Subscription::Pattern(pattern) => self.pattern = Some(PatternWatch::new(pattern, self.now())),
            Subscription::Partitions(_) => {}
        }
    }

    /// Becomes a member that wants `topics`, by the classic protocol.
    pub(super) fn join_with(&mut self, topics: Vec<Arc<str>>) {
        let (cluster, config) = (&self.context.cluster, &self.context.config);
        let group = GroupConfig {
            topics,
            assignors: config.assignors.clone(),
            rack: cluster.config().client_rack.as_deref().map(Arc::from),
            instance_id: config.group_instance_id.clone(),
            heartbeat_interval: config.heartbeat_interval,
            backoff: cluster.retry_backoff(),
        };
        self.joins.get_or_insert_with(|| cluster.own_lane());
        self.group = Some(Protocol::Classic(Box::new(Group::new(group, self.now()))));
    }

    /// Goes over to the classic protocol when the group is one of it, and the application left the choice to us.
    pub(super) fn falls_back(&mut self, failure: &GroupFailure) -> bool {
        let is_next = matches!(self.group, Some(Protocol::Next(_)));
        let is_free = self.context.config.group_protocol == GroupProtocol::Auto && !self.was_member;
        if !is_next || !is_free || self.finishing.is_some() || !failure.code.is_some_and(suggests_classic) {
            return false;
        }
        let code = failure.code.map(|code| code.to_string());
        tracing::info!(
            group = self.context.group.as_deref(),
            code,
            detail = failure.detail,
            "the group does not take members of the protocol of KIP-848; joining by the classic one"
        );
        self.group = None;
        self.join_classic();
        true
    }
}

/// Whether something was set that means nothing in the new protocol.
fn is_classic_only(config: &ConsumerConfig) -> bool {
    let default = ConsumerConfig::default();
    config.classic_only
        || config.session_timeout != default.session_timeout
        || config.heartbeat_interval != default.heartbeat_interval
        || config.assignors != default.assignors
}

/// Whether the coordinator has the new protocol. Tries until it is found.
async fn speaks_next(cluster: &Cluster, group: &Arc<str>, lane: Lane) -> Result<bool, CallError> {
    let mut attempt = 0;
    loop {
        match cluster.coordinator(CoordinatorType::Group, group, lane).await {
            Ok(connection) => {
                let range = connection.versions().range(ApiKey::ConsumerGroupHeartbeat);
                return Ok(range.is_some_and(|(_, highest)| highest >= NEXT_SINCE));
            }
            Err(error) if !error.is_retryable() => return Err(error),
            Err(error) => {
                tracing::debug!(%group, %error, "no coordinator yet");
                cluster.coordinator_moved(CoordinatorType::Group, group);
            }
        }
        attempt += 1;
        let pause = cluster.retry_backoff().delay(attempt, cluster.thread().random().next());
        tokio::time::sleep(pause.max(Duration::from_millis(1))).await;
    }
}
