//! What error codes mean for a partition that is being fetched.

use crate::wire::ErrorCode;

/// What is done about one partition after a fetch or a look-up of offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FetchVerdict {
    /// Its records can be taken.
    Done,
    /// Another broker leads it, or the epochs disagree: fetch again once metadata says who leads.
    Refresh,
    /// The same broker, after a pause.
    Retry,
    /// The position is outside of the log: find out where the log begins and ends.
    OutOfRange,
    /// It cannot be fetched.
    Fatal,
}

/// Decides about one partition of an answer to Fetch or ListOffsets.
pub(crate) fn partition(code: ErrorCode) -> FetchVerdict {
    match code {
        ErrorCode::NONE => FetchVerdict::Done,
        ErrorCode::OFFSET_OUT_OF_RANGE => FetchVerdict::OutOfRange,
        // KIP-320: a fenced epoch means that our metadata is old; an unknown one that the broker's is.
        ErrorCode::NOT_LEADER_OR_FOLLOWER
        | ErrorCode::LEADER_NOT_AVAILABLE
        | ErrorCode::REPLICA_NOT_AVAILABLE
        | ErrorCode::FENCED_LEADER_EPOCH
        | ErrorCode::KAFKA_STORAGE_ERROR
        | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::INCONSISTENT_TOPIC_ID => FetchVerdict::Refresh,
        ErrorCode::UNKNOWN_LEADER_EPOCH
        | ErrorCode::OFFSET_NOT_AVAILABLE
        | ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::UNKNOWN_SERVER_ERROR => FetchVerdict::Retry,
        // CORRUPT_MESSAGE (the broker cannot read its own log), authorization, and what no list names.
        _ => FetchVerdict::Fatal,
    }
}

/// What is done about a whole answer to Fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionVerdict {
    /// Its partitions can be looked at.
    Done,
    /// The broker has no such fetch session, or it is at another epoch: begin a new one (KIP-227).
    NewSession,
    /// Metadata is old: ask again, with a new session.
    Refresh,
    /// After a pause.
    Retry,
    /// It cannot succeed.
    Fatal,
}

/// Decides about the top error of an answer to Fetch.
pub(crate) fn session(code: ErrorCode) -> SessionVerdict {
    match code {
        ErrorCode::NONE => SessionVerdict::Done,
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND | ErrorCode::INVALID_FETCH_SESSION_EPOCH => SessionVerdict::NewSession,
        ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR | ErrorCode::INCONSISTENT_TOPIC_ID | ErrorCode::UNKNOWN_TOPIC_ID => {
            SessionVerdict::Refresh
        }
        ErrorCode::REQUEST_TIMED_OUT | ErrorCode::UNKNOWN_SERVER_ERROR => SessionVerdict::Retry,
        _ => SessionVerdict::Fatal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_that_disagree_are_never_fatal() {
        assert_eq!(partition(ErrorCode::FENCED_LEADER_EPOCH), FetchVerdict::Refresh);
        assert_eq!(partition(ErrorCode::UNKNOWN_LEADER_EPOCH), FetchVerdict::Retry);
    }

    #[test]
    fn a_lost_session_only_costs_a_new_one() {
        assert_eq!(session(ErrorCode::FETCH_SESSION_ID_NOT_FOUND), SessionVerdict::NewSession);
        assert_eq!(session(ErrorCode::INVALID_FETCH_SESSION_EPOCH), SessionVerdict::NewSession);
    }
}
