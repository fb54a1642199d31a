//! What the error code of a partition in a Produce answer means.

use crate::wire::ErrorCode;

/// What becomes of the batch that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProduceVerdict {
    /// It is in the log, replicated as `acks` asks.
    Delivered,
    /// It is in the log, but the broker does not say where (DUPLICATE_SEQUENCE of old brokers).
    DeliveredSomewhere,
    /// It was not appended. The same bytes go again.
    Retry {
        /// Ask for metadata first: the leader is probably another broker.
        refresh: bool,
    },
    /// It may have been appended. The same bytes go again.
    RetryInDoubt {
        /// Ask for metadata first.
        refresh: bool,
    },
    /// The sequence does not follow what the broker has: stored long ago, after a gap, or the broker lost records.
    OutOfOrder,
    /// The broker forgot the producer (old brokers only). It was not appended.
    UnknownProducer,
    /// A higher epoch of this producer id has written to the partition.
    Fenced,
    /// It was refused for its size or for one of its records: the others may pass in smaller batches.
    Split,
    /// It was refused for good.
    Dead,
}

/// The row of the table for `code`.
pub(crate) fn produce(code: ErrorCode) -> ProduceVerdict {
    use ProduceVerdict::*;
    match code {
        ErrorCode::NONE => Delivered,
        ErrorCode::DUPLICATE_SEQUENCE_NUMBER => DeliveredSomewhere,
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER => OutOfOrder,
        ErrorCode::UNKNOWN_PRODUCER_ID => UnknownProducer,
        ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::PRODUCER_FENCED | ErrorCode::INVALID_PRODUCER_ID_MAPPING => {
            Fenced
        }

        ErrorCode::CORRUPT_MESSAGE
        | ErrorCode::NOT_ENOUGH_REPLICAS
        | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
        | ErrorCode::THROTTLING_QUOTA_EXCEEDED => Retry { refresh: false },
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::LEADER_NOT_AVAILABLE
        | ErrorCode::BROKER_NOT_AVAILABLE
        | ErrorCode::REPLICA_NOT_AVAILABLE
        | ErrorCode::FENCED_LEADER_EPOCH
        | ErrorCode::UNKNOWN_LEADER_EPOCH
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::INCONSISTENT_TOPIC_ID => Retry { refresh: true },

        // A leader that steps down answers 6 also to what it has appended and not yet acknowledged: the next leader may
        // have it.
        ErrorCode::NOT_LEADER_OR_FOLLOWER => RetryInDoubt { refresh: true },

        // Appended on the leader, not yet where `acks` wants it; or the broker cannot tell.
        ErrorCode::REQUEST_TIMED_OUT | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND => RetryInDoubt { refresh: false },
        ErrorCode::UNKNOWN_SERVER_ERROR | ErrorCode::NETWORK_EXCEPTION | ErrorCode::KAFKA_STORAGE_ERROR => {
            RetryInDoubt { refresh: true }
        }

        ErrorCode::MESSAGE_TOO_LARGE
        | ErrorCode::RECORD_LIST_TOO_LARGE
        | ErrorCode::INVALID_RECORD
        | ErrorCode::INVALID_TIMESTAMP => Split,

        ErrorCode::INVALID_TOPIC_EXCEPTION
        | ErrorCode::INVALID_REQUIRED_ACKS
        | ErrorCode::TOPIC_AUTHORIZATION_FAILED
        | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
        | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        | ErrorCode::UNSUPPORTED_VERSION
        | ErrorCode::INVALID_REQUEST
        | ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT
        | ErrorCode::POLICY_VIOLATION
        | ErrorCode::SECURITY_DISABLED
        | ErrorCode::SASL_AUTHENTICATION_FAILED
        | ErrorCode::UNSUPPORTED_COMPRESSION_TYPE
        | ErrorCode::INVALID_TXN_STATE => Dead,

        // A code from the future: it may mean anything, so the batch stays in doubt and the bounded retries decide.
        _ => RetryInDoubt { refresh: true },
    }
}
