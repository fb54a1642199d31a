//! Error codes of the Kafka protocol, as of Kafka 4.1. See <https://kafka.apache.org/protocol#protocol_error_codes>.

use std::fmt;

/// An error code from a response. Codes of newer brokers that have no name here are kept as they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ErrorCode(pub i16);

impl ErrorCode {
    /// Whether this code says that all is well.
    pub fn is_ok(self) -> bool {
        self == ErrorCode::NONE
    }

    /// The code as an error, unless it is [`ErrorCode::NONE`].
    pub fn err(self) -> Option<ErrorCode> {
        (!self.is_ok()).then_some(self)
    }
}

impl fmt::Display for ErrorCode {
    /// Name and number: `NOT_ENOUGH_REPLICAS (19)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::error::Error for ErrorCode {}

macro_rules! codes {
    ($($number:literal $name:ident $meaning:literal)*) => {
        impl ErrorCode {
            $(#[doc = concat!($meaning, ".")] pub const $name: ErrorCode = ErrorCode($number);)*

            /// All codes with a name.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$name),*];

            /// Kafka's name of the code; `UNKNOWN_ERROR_CODE` for one that this list does not have.
            pub fn name(self) -> &'static str {
                match self.0 {
                    $($number => stringify!($name),)*
                    _ => "UNKNOWN_ERROR_CODE",
                }
            }

            /// What the code means, in a line.
            pub fn meaning(self) -> &'static str {
                match self.0 {
                    $($number => $meaning,)*
                    _ => "A code that this client does not know: the broker is newer",
                }
            }
        }
    };
}

codes! {
    -1 UNKNOWN_SERVER_ERROR "The broker failed in a way it has no code for; its log says more"
    0 NONE "No error"
    1 OFFSET_OUT_OF_RANGE "The offset asked for is outside of the log"
    2 CORRUPT_MESSAGE "The batch's checksum is wrong, its size is invalid, or it has no key in a compacted topic"
    3 UNKNOWN_TOPIC_OR_PARTITION "This broker does not host that topic or partition"
    4 INVALID_FETCH_SIZE "The fetch size is invalid"
    5 LEADER_NOT_AVAILABLE "The partition has no leader at the moment"
    6 NOT_LEADER_OR_FOLLOWER "This broker is not the leader, or not a replica, of the partition"
    7 REQUEST_TIMED_OUT "The broker did not finish in the time the request gave it; what it did is unknown"
    8 BROKER_NOT_AVAILABLE "The broker is not available"
    9 REPLICA_NOT_AVAILABLE "The replica is not available for this partition"
    10 MESSAGE_TOO_LARGE "The batch is larger than the topic's max.message.bytes"
    11 STALE_CONTROLLER_EPOCH "The controller moved to another broker"
    12 OFFSET_METADATA_TOO_LARGE "The text with the committed offset is too long"
    13 NETWORK_EXCEPTION "The broker disconnected before it answered"
    14 COORDINATOR_LOAD_IN_PROGRESS "The coordinator is still loading its state"
    15 COORDINATOR_NOT_AVAILABLE "No coordinator is available at the moment"
    16 NOT_COORDINATOR "This broker is not the coordinator"
    17 INVALID_TOPIC_EXCEPTION "The topic's name is invalid, or the topic is internal"
    18 RECORD_LIST_TOO_LARGE "The batch is larger than a log segment"
    19 NOT_ENOUGH_REPLICAS "Fewer in-sync replicas than min.insync.replicas: nothing was written"
    20 NOT_ENOUGH_REPLICAS_AFTER_APPEND "Written, but by fewer in-sync replicas than min.insync.replicas"
    21 INVALID_REQUIRED_ACKS "The acks of a produce request must be -1, 0 or 1"
    22 ILLEGAL_GENERATION "The group has moved on to another generation"
    23 INCONSISTENT_GROUP_PROTOCOL "The member's protocols do not fit those of the group"
    24 INVALID_GROUP_ID "The group's name is invalid"
    25 UNKNOWN_MEMBER_ID "The coordinator does not know this member"
    26 INVALID_SESSION_TIMEOUT "The session timeout is outside of what the broker allows"
    27 REBALANCE_IN_PROGRESS "The group is rebalancing: join again"
    28 INVALID_COMMIT_OFFSET_SIZE "The commit is larger than the broker allows"
    29 TOPIC_AUTHORIZATION_FAILED "Not authorized: the principal needs WRITE on the topic to produce, READ to consume"
    30 GROUP_AUTHORIZATION_FAILED "Not authorized: the principal needs READ on the group"
    31 CLUSTER_AUTHORIZATION_FAILED "Not authorized on the cluster: creating topics needs CREATE, producing WRITE on a topic (before Kafka 2.8 IDEMPOTENT_WRITE)"
    32 INVALID_TIMESTAMP "A record's timestamp is outside of what the topic allows"
    33 UNSUPPORTED_SASL_MECHANISM "The broker does not offer that SASL mechanism"
    34 ILLEGAL_SASL_STATE "Not a request for this stage of SASL authentication"
    35 UNSUPPORTED_VERSION "The broker does not speak this version of the API"
    36 TOPIC_ALREADY_EXISTS "A topic of that name exists already"
    37 INVALID_PARTITIONS "The number of partitions is invalid"
    38 INVALID_REPLICATION_FACTOR "The replication factor is below 1 or above the number of brokers"
    39 INVALID_REPLICA_ASSIGNMENT "The replica assignment is invalid"
    40 INVALID_CONFIG "The configuration is invalid"
    41 NOT_CONTROLLER "This broker is not the controller"
    42 INVALID_REQUEST "The request contradicts itself or the protocol; the broker's log says more"
    43 UNSUPPORTED_FOR_MESSAGE_FORMAT "The broker's message format does not support the request"
    44 POLICY_VIOLATION "The request breaks a policy set on the broker"
    45 OUT_OF_ORDER_SEQUENCE_NUMBER "The broker expected another sequence number from this producer"
    46 DUPLICATE_SEQUENCE_NUMBER "The broker has these sequence numbers already"
    47 INVALID_PRODUCER_EPOCH "The producer's epoch is older than the one the broker knows"
    48 INVALID_TXN_STATE "The transaction is not in a state for this request"
    49 INVALID_PRODUCER_ID_MAPPING "The producer id does not belong to this transactional id"
    50 INVALID_TRANSACTION_TIMEOUT "The transaction timeout is larger than the broker allows"
    51 CONCURRENT_TRANSACTIONS "The last transaction of this producer is still being completed"
    52 TRANSACTION_COORDINATOR_FENCED "A newer transaction coordinator has taken over"
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED "Not authorized: the principal needs WRITE on the transactional id"
    54 SECURITY_DISABLED "The broker has no authorizer"
    55 OPERATION_NOT_ATTEMPTED "Not tried, because another part of the request failed"
    56 KAFKA_STORAGE_ERROR "The broker's disk failed while it used the log"
    57 LOG_DIR_NOT_FOUND "The log directory is not in the broker's configuration"
    58 SASL_AUTHENTICATION_FAILED "The credentials were refused"
    59 UNKNOWN_PRODUCER_ID "The broker has no state of this producer: its records were deleted or have expired"
    60 REASSIGNMENT_IN_PROGRESS "The partition is being reassigned"
    61 DELEGATION_TOKEN_AUTH_DISABLED "Delegation tokens are not enabled"
    62 DELEGATION_TOKEN_NOT_FOUND "The broker does not know this delegation token"
    63 DELEGATION_TOKEN_OWNER_MISMATCH "The principal is neither owner nor renewer of the token"
    64 DELEGATION_TOKEN_REQUEST_NOT_ALLOWED "Delegation tokens are not managed over this kind of connection"
    65 DELEGATION_TOKEN_AUTHORIZATION_FAILED "No permission on the delegation token"
    66 DELEGATION_TOKEN_EXPIRED "The delegation token has expired"
    67 INVALID_PRINCIPAL_TYPE "The kind of principal is not supported"
    68 NON_EMPTY_GROUP "The group has members"
    69 GROUP_ID_NOT_FOUND "There is no such group"
    70 FETCH_SESSION_ID_NOT_FOUND "The broker has dropped the fetch session"
    71 INVALID_FETCH_SESSION_EPOCH "The fetch session is at another epoch"
    72 LISTENER_NOT_FOUND "The partition's leader has no listener of the name this request came in on"
    73 TOPIC_DELETION_DISABLED "Topic deletion is disabled"
    74 FENCED_LEADER_EPOCH "The client's leader epoch is older than the broker's: metadata is stale"
    75 UNKNOWN_LEADER_EPOCH "The client's leader epoch is newer than the broker's: the broker is stale"
    76 UNSUPPORTED_COMPRESSION_TYPE "The version of the request does not allow this compression"
    77 STALE_BROKER_EPOCH "The broker's epoch has changed"
    78 OFFSET_NOT_AVAILABLE "The new leader does not know its high watermark yet"
    79 MEMBER_ID_REQUIRED "Join again with the member id given in this answer"
    80 PREFERRED_LEADER_NOT_AVAILABLE "The preferred leader is not available"
    81 GROUP_MAX_SIZE_REACHED "The group is full"
    82 FENCED_INSTANCE_ID "Another member has taken over this group.instance.id"
    83 ELIGIBLE_LEADERS_NOT_AVAILABLE "No eligible leader is available"
    84 ELECTION_NOT_NEEDED "No leader election is needed"
    85 NO_REASSIGNMENT_IN_PROGRESS "No reassignment is in progress"
    86 GROUP_SUBSCRIBED_TO_TOPIC "The group is subscribed to the topic"
    87 INVALID_RECORD "The broker refused a record of the batch"
    88 UNSTABLE_OFFSET_COMMIT "Offsets of a transaction are still pending"
    89 THROTTLING_QUOTA_EXCEEDED "A quota is used up"
    90 PRODUCER_FENCED "A newer producer of the same transactional id has taken over"
    91 RESOURCE_NOT_FOUND "What the request refers to does not exist"
    92 DUPLICATE_RESOURCE "What the request refers to exists twice"
    93 UNACCEPTABLE_CREDENTIAL "The credential does not meet the requirements"
    94 INCONSISTENT_VOTER_SET "The voters disagree about who they are"
    95 INVALID_UPDATE_VERSION "The update version is invalid"
    96 FEATURE_UPDATE_FAILED "The features could not be updated"
    97 PRINCIPAL_DESERIALIZATION_FAILURE "The forwarded principal cannot be read"
    98 SNAPSHOT_NOT_FOUND "There is no such snapshot"
    99 POSITION_OUT_OF_RANGE "The position is outside of the snapshot"
    100 UNKNOWN_TOPIC_ID "The broker does not host a topic of that id"
    101 DUPLICATE_BROKER_REGISTRATION "A broker of that id is registered already"
    102 BROKER_ID_NOT_REGISTERED "No broker of that id is registered"
    103 INCONSISTENT_TOPIC_ID "The topic's id is not the one in the log"
    104 INCONSISTENT_CLUSTER_ID "The broker belongs to another cluster"
    105 TRANSACTIONAL_ID_NOT_FOUND "There is no such transactional id"
    106 FETCH_SESSION_TOPIC_ID_ERROR "The fetch session mixes topics with and without ids"
    107 INELIGIBLE_REPLICA "The replica may not become an in-sync one"
    108 NEW_LEADER_ELECTED "The leader changed while the request was handled"
    109 OFFSET_MOVED_TO_TIERED_STORAGE "The offset is in tiered storage"
    110 FENCED_MEMBER_EPOCH "The member's epoch is fenced by the coordinator"
    111 UNRELEASED_INSTANCE_ID "Another member still uses this group.instance.id"
    112 UNSUPPORTED_ASSIGNOR "The group does not support this assignor"
    113 STALE_MEMBER_EPOCH "The member's epoch is stale: try again with the new one"
    114 MISMATCHED_ENDPOINT_TYPE "Sent to a controller instead of a broker, or the reverse"
    115 UNSUPPORTED_ENDPOINT_TYPE "This kind of endpoint is not supported"
    116 UNKNOWN_CONTROLLER_ID "There is no controller of that id"
    117 UNKNOWN_SUBSCRIPTION_ID "The telemetry subscription has changed"
    118 TELEMETRY_TOO_LARGE "The telemetry is larger than the broker allows"
    119 INVALID_REGISTRATION "The controller refuses the broker's registration"
    120 TRANSACTION_ABORTABLE "The transaction must be aborted, the producer may go on"
    121 INVALID_RECORD_STATE "The record is not in a state to be acknowledged"
    122 SHARE_SESSION_NOT_FOUND "The broker has dropped the share session"
    123 INVALID_SHARE_SESSION_EPOCH "The share session is at another epoch"
    124 FENCED_STATE_EPOCH "The share group's state epoch is fenced"
    125 INVALID_VOTER_KEY "The voter's key does not fit"
    126 DUPLICATE_VOTER "The voter is in the set already"
    127 VOTER_NOT_FOUND "There is no such voter"
    128 INVALID_REGULAR_EXPRESSION "The regular expression is invalid"
    129 REBOOTSTRAP_REQUIRED "The client must start again from its bootstrap servers"
    130 STREAMS_INVALID_TOPOLOGY "The streams topology is invalid"
    131 STREAMS_INVALID_TOPOLOGY_EPOCH "The epoch of the streams topology is invalid"
    132 STREAMS_TOPOLOGY_FENCED "The epoch of the streams topology is outdated"
    133 SHARE_SESSION_LIMIT_REACHED "The broker has no room for another share session"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_name_and_number() {
        assert_eq!(ErrorCode::NOT_ENOUGH_REPLICAS.to_string(), "NOT_ENOUGH_REPLICAS (19)");
        assert_eq!(ErrorCode(999).to_string(), "UNKNOWN_ERROR_CODE (999)");
    }

    #[test]
    fn names_agree_with_kafka_protocol() {
        for code in ErrorCode::ALL {
            let Some(theirs) = kafka_protocol::ResponseError::try_from_code(code.0) else {
                assert!(code.is_ok() || code.0 >= 113, "{code}");
                continue;
            };
            let ours: String = code.name().chars().filter(|c| *c != '_').collect();
            let theirs = format!("{theirs:?}").to_uppercase();
            if !theirs.starts_with("UNKNOWN(") {
                assert_eq!(ours, theirs, "{code}");
            }
        }
    }
}
