//! Membership in a consumer group, without sockets and clocks. Two protocols come to the same actions: the classic one
//! ([`classic`]), in which a member computes the assignment, and KIP-848's, in which the coordinator does.

pub(crate) mod classic;
mod coordinator;
pub(crate) mod next;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::types::{TopicId, TopicPartition};
use crate::wire::ErrorCode;

/// Names one request, so that a late answer to an older one is told from the answer waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(pub(super) u64);

/// What the driver has to do. Requests are answered by the `on_…` method of the same name, with the request's id.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask for the coordinator; `moved` when the one known until now is not it any more.
    FindCoordinator { id: RequestId, moved: bool },
    /// Send JoinGroup, with each assignor that is offered and the subscription for it.
    Join { id: RequestId, member_id: String, protocols: Vec<(&'static str, Bytes)> },
    /// Say how many partitions these topics have.
    CountPartitions { id: RequestId, topics: BTreeSet<Arc<str>> },
    /// Send SyncGroup.
    Sync { id: RequestId, generation: Generation, protocol: String, assignments: Vec<(String, Bytes)> },
    /// Send Heartbeat.
    Heartbeat { id: RequestId, generation: Generation },
    /// Send LeaveGroup.
    Leave { id: RequestId, member_id: String },
    /// Send ConsumerGroupHeartbeat (KIP-848); the answer goes to `on_beaten`.
    ConsumerHeartbeat { id: RequestId, beat: next::Beat },
    /// Say what these topics are called; the answer, without those that cannot be told yet, goes to `on_resolved`.
    ResolveTopics { id: RequestId, topics: BTreeSet<TopicId> },
    /// These partitions begin; others that are ours stay as they are.
    Assign { partitions: Vec<TopicPartition> },
    /// Stop handing out records of these partitions. Unless they are lost, wait for handlers, commit, and call
    /// `on_revoked`; when they are lost nothing of them can be committed any more, and `on_revoked` is called at once. A
    /// loss may come while partitions are given back, and takes those over.
    Revoke { partitions: Vec<TopicPartition>, lost: bool },
    /// The membership has failed for good.
    Fail(GroupFailure),
}

/// A membership that cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupFailure {
    /// The request that was refused.
    pub(crate) during: &'static str,
    /// The coordinator's code; none when its answer could not be understood.
    pub(crate) code: Option<ErrorCode>,
    /// More about it.
    pub(crate) detail: String,
}

/// Whom the coordinator takes this member for; every commit carries it, and an old one is refused. The number is the
/// generation, or the member epoch of KIP-848.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Generation {
    pub(crate) number: i32,
    pub(crate) member_id: String,
}
