//! One member of a group, whichever protocol it speaks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::core::consume::group::classic::{self, Joined};
use crate::core::consume::group::next::{Beaten, NextMember};
use crate::core::consume::group::{Action, Generation, RequestId};
use crate::types::TopicId;
use crate::wire::ErrorCode;

/// What is common to both goes to either; what only one has is nothing to the other.
pub(super) enum Group {
    Classic(classic::Group),
    Next(NextMember),
}

macro_rules! either {
    ($self:ident, $member:ident => $call:expr) => {
        match $self {
            Group::Classic($member) => $call,
            Group::Next($member) => $call,
        }
    };
}

impl Group {
    pub(super) fn poll_action(&mut self) -> Option<Action> {
        either!(self, member => member.poll_action())
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        either!(self, member => member.poll_timeout())
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        either!(self, member => member.handle_timeout(now));
    }

    pub(super) fn generation(&self) -> Option<Generation> {
        either!(self, member => member.generation())
    }

    pub(super) fn is_over(&self) -> bool {
        either!(self, member => member.is_over())
    }

    pub(super) fn leave(&mut self, now: Instant) {
        either!(self, member => member.leave(now));
    }

    pub(super) fn on_coordinator(&mut self, now: Instant, id: RequestId, found: bool) {
        either!(self, member => member.on_coordinator(now, id, found));
    }

    /// The topics of a pattern have changed: the coordinator of KIP-848 sees that itself.
    pub(super) fn subscribe(&mut self, now: Instant, topics: Vec<Arc<str>>) {
        if let Group::Classic(member) = self {
            member.subscribe(now, topics);
        }
    }

    pub(super) fn on_unanswered(&mut self, now: Instant, id: RequestId) {
        either!(self, member => member.on_unanswered(now, id));
    }

    pub(super) fn is_revoking(&self) -> bool {
        either!(self, member => member.is_revoking())
    }

    pub(super) fn on_impossible(&mut self, now: Instant) {
        either!(self, member => member.on_impossible(now));
    }

    pub(super) fn on_commit_refused(&mut self, now: Instant, generation: &Generation, error: ErrorCode) {
        either!(self, member => member.on_commit_refused(now, generation, error));
    }

    pub(super) fn on_revoked(&mut self, now: Instant) {
        either!(self, member => member.on_revoked(now));
    }

    pub(super) fn watched_topics(&self) -> Option<&BTreeSet<Arc<str>>> {
        match self {
            Group::Classic(member) => member.watched_topics(),
            Group::Next(_) => None, // the coordinator watches them
        }
    }

    pub(super) fn on_counts_seen(&mut self, now: Instant, counts: &BTreeMap<Arc<str>, i32>) {
        if let Group::Classic(member) = self {
            member.on_counts_seen(now, counts);
        }
    }

    pub(super) fn on_joined(&mut self, now: Instant, id: RequestId, joined: Joined) {
        if let Group::Classic(member) = self {
            member.on_joined(now, id, joined);
        }
    }

    pub(super) fn on_counted(&mut self, now: Instant, id: RequestId, counts: BTreeMap<Arc<str>, i32>) {
        if let Group::Classic(member) = self {
            member.on_counted(now, id, counts);
        }
    }

    pub(super) fn on_synced(&mut self, now: Instant, id: RequestId, error: ErrorCode, assignment: &[u8]) {
        if let Group::Classic(member) = self {
            member.on_synced(now, id, error, assignment);
        }
    }

    pub(super) fn on_heartbeat(&mut self, now: Instant, id: RequestId, error: ErrorCode) {
        if let Group::Classic(member) = self {
            member.on_heartbeat(now, id, error);
        }
    }

    pub(super) fn on_left(&mut self, id: RequestId) {
        if let Group::Classic(member) = self {
            member.on_left(id);
        }
    }

    pub(super) fn on_beaten(&mut self, now: Instant, id: RequestId, beaten: Beaten) {
        if let Group::Next(member) = self {
            member.on_beaten(now, id, beaten);
        }
    }

    pub(super) fn on_resolved(&mut self, now: Instant, id: RequestId, names: BTreeMap<TopicId, Arc<str>>) {
        if let Group::Next(member) = self {
            member.on_resolved(now, id, names);
        }
    }
}
