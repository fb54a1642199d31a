//! What the coordinator's error codes mean for a member of a group and for a commit.

use crate::wire::ErrorCode;

/// What a member does after an answer to JoinGroup, SyncGroup or Heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupVerdict {
    /// All is well.
    Done,
    /// The group rebalances: give back what is held, then join again under the same member id.
    Rejoin,
    /// Join again with the member id of this answer (KIP-394).
    TakeMemberId,
    /// The generation is over for this member; what it holds is lost already. Join again under the same member id.
    LostGeneration,
    /// The coordinator has forgotten the member: lost, and the member id is worth nothing.
    LostMember,
    /// Ask for the coordinator anew. The generation may still be good.
    FindCoordinator,
    /// The same request again, after a pause.
    Retry,
    /// No request of this member can succeed.
    Fatal,
}

/// Decides about an answer to JoinGroup, SyncGroup or Heartbeat.
pub(crate) fn membership(code: ErrorCode) -> GroupVerdict {
    match code {
        ErrorCode::NONE => GroupVerdict::Done,
        ErrorCode::REBALANCE_IN_PROGRESS => GroupVerdict::Rejoin,
        ErrorCode::MEMBER_ID_REQUIRED => GroupVerdict::TakeMemberId,
        ErrorCode::ILLEGAL_GENERATION => GroupVerdict::LostGeneration,
        ErrorCode::UNKNOWN_MEMBER_ID => GroupVerdict::LostMember,
        ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => GroupVerdict::FindCoordinator,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS | ErrorCode::REQUEST_TIMED_OUT | ErrorCode::UNKNOWN_SERVER_ERROR => {
            GroupVerdict::Retry
        }
        // FENCED_INSTANCE_ID, INCONSISTENT_GROUP_PROTOCOL, authorization, a full group, and what no list names: asking
        // again would only hide it.
        _ => GroupVerdict::Fatal,
    }
}

/// What a member does after an answer to ConsumerGroupHeartbeat (KIP-848).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextVerdict {
    /// All is well.
    Done,
    /// The coordinator has taken everything away from this member: lost. Join again, with epoch 0 and the same member id.
    Fenced,
    /// There is no such group with this protocol: for a member as good as fenced, and for one that wants to join a reason
    /// to take the other protocol.
    NoGroup,
    /// Another member of the same `group.instance.id` has not left yet: again after a pause, until its session is over.
    Unreleased,
    /// Ask for the coordinator anew. The epoch may still be good.
    FindCoordinator,
    /// The same request again, after a pause.
    Retry,
    /// No request of this member can succeed.
    Fatal,
}

/// Decides about an answer to ConsumerGroupHeartbeat.
pub(crate) fn heartbeat(code: ErrorCode) -> NextVerdict {
    match code {
        ErrorCode::NONE => NextVerdict::Done,
        ErrorCode::FENCED_MEMBER_EPOCH | ErrorCode::UNKNOWN_MEMBER_ID => NextVerdict::Fenced,
        ErrorCode::GROUP_ID_NOT_FOUND => NextVerdict::NoGroup,
        ErrorCode::UNRELEASED_INSTANCE_ID => NextVerdict::Unreleased,
        ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => NextVerdict::FindCoordinator,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS | ErrorCode::REQUEST_TIMED_OUT | ErrorCode::UNKNOWN_SERVER_ERROR => {
            NextVerdict::Retry
        }
        // UNSUPPORTED_ASSIGNOR, INVALID_REGULAR_EXPRESSION, FENCED_INSTANCE_ID, a group of the other protocol (23),
        // authorization, a full group, and what no list names.
        _ => NextVerdict::Fatal,
    }
}

/// Whether a refusal of the first heartbeat of KIP-848 means that the group, or the broker, has the classic protocol only.
pub(crate) fn suggests_classic(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::GROUP_ID_NOT_FOUND | ErrorCode::INCONSISTENT_GROUP_PROTOCOL | ErrorCode::UNSUPPORTED_VERSION
    )
}

/// What becomes of an offset after the answer to its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitVerdict {
    /// Stored.
    Committed,
    /// The same again, after a pause.
    Retry,
    /// Ask for the coordinator anew, then the same again.
    FindCoordinator,
    /// The group is between two generations. The same again, under the member's newest epoch, until it is asked to join.
    Rebalancing,
    /// This member's generation is over: the offset is never committed by it. Whoever holds the partition now gets the
    /// records again.
    Fenced,
    /// The broker allows less text: the same again without any.
    WithoutMetadata,
    /// It can never succeed.
    Refused,
}

/// Decides about one partition of an answer to OffsetCommit.
pub(crate) fn commit(code: ErrorCode) -> CommitVerdict {
    match code {
        ErrorCode::NONE => CommitVerdict::Committed,
        ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => CommitVerdict::FindCoordinator,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
        | ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::UNKNOWN_SERVER_ERROR => CommitVerdict::Retry,
        // KIP-848: the member has a new epoch, and its partitions still are its own.
        ErrorCode::REBALANCE_IN_PROGRESS | ErrorCode::STALE_MEMBER_EPOCH => CommitVerdict::Rebalancing,
        ErrorCode::ILLEGAL_GENERATION
        | ErrorCode::UNKNOWN_MEMBER_ID
        | ErrorCode::FENCED_MEMBER_EPOCH
        | ErrorCode::FENCED_INSTANCE_ID => CommitVerdict::Fenced,
        ErrorCode::OFFSET_METADATA_TOO_LARGE => CommitVerdict::WithoutMetadata,
        _ => CommitVerdict::Refused,
    }
}

/// What is done after an error in an answer to OffsetFetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommittedVerdict {
    /// The offset can be read.
    Done,
    /// Again after a pause.
    Retry,
    /// Ask for the coordinator anew, then again.
    FindCoordinator,
    /// It can never succeed.
    Refused,
}

/// Decides about an answer to OffsetFetch, or about one partition of it.
pub(crate) fn committed(code: ErrorCode) -> CommittedVerdict {
    match code {
        ErrorCode::NONE => CommittedVerdict::Done,
        ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => CommittedVerdict::FindCoordinator,
        // KIP-447: offsets of an open transaction are not to be read past.
        ErrorCode::UNSTABLE_OFFSET_COMMIT
        | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
        | ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        // KIP-848: the member has a new epoch, or is not in the group any more, which its next heartbeat tells.
        | ErrorCode::STALE_MEMBER_EPOCH
        | ErrorCode::UNKNOWN_MEMBER_ID
        | ErrorCode::UNKNOWN_SERVER_ERROR => CommittedVerdict::Retry,
        _ => CommittedVerdict::Refused,
    }
}

/// What is done after an answer to a request about a group that comes from outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LookupVerdict {
    /// The answer can be used.
    Done,
    /// There is no such group, or it is of another protocol.
    Missing,
    /// It has members, and only they may do that.
    HasMembers,
    /// Again after a pause.
    Retry,
    /// Ask for the coordinator anew, then again.
    FindCoordinator,
    /// It can never succeed.
    Refused,
}

/// Decides about an answer to ListGroups, DescribeGroups, ConsumerGroupDescribe and DeleteGroups, and to OffsetFetch and
/// OffsetCommit from no member.
pub(crate) fn lookup(code: ErrorCode) -> LookupVerdict {
    match code {
        ErrorCode::NONE => LookupVerdict::Done,
        ErrorCode::GROUP_ID_NOT_FOUND => LookupVerdict::Missing,
        // What a commit without member id gets from a group that has members depends on its protocol and state.
        ErrorCode::NON_EMPTY_GROUP
        | ErrorCode::UNKNOWN_MEMBER_ID
        | ErrorCode::ILLEGAL_GENERATION
        | ErrorCode::REBALANCE_IN_PROGRESS
        | ErrorCode::STALE_MEMBER_EPOCH
        | ErrorCode::FENCED_MEMBER_EPOCH => LookupVerdict::HasMembers,
        ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => LookupVerdict::FindCoordinator,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
        | ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::UNSTABLE_OFFSET_COMMIT
        | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::UNKNOWN_SERVER_ERROR => LookupVerdict::Retry,
        _ => LookupVerdict::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fenced_generation_is_never_retried() {
        for code in [ErrorCode::ILLEGAL_GENERATION, ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::FENCED_INSTANCE_ID] {
            assert_eq!(commit(code), CommitVerdict::Fenced);
        }
    }

    #[test]
    fn a_code_without_a_name_stops() {
        assert_eq!(membership(ErrorCode(999)), GroupVerdict::Fatal);
        assert_eq!(heartbeat(ErrorCode(999)), NextVerdict::Fatal);
        assert_eq!(commit(ErrorCode(999)), CommitVerdict::Refused);
        assert_eq!(committed(ErrorCode(999)), CommittedVerdict::Refused);
        assert_eq!(lookup(ErrorCode(999)), LookupVerdict::Refused);
    }
}
