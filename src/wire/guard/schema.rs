//! How the responses look. Written by scripts/gen-schema from Kafka's message definitions; not edited by hand.

use super::Field;
use super::Type::{Array, Blob, Fixed, Struct, Text};
use crate::wire::ApiKey;

const OPEN: i16 = 0x7fff;
const NEVER: (i16, i16) = (1, 0);

/// The fields of a response; none for those that are not decoded by kafka-protocol.
pub(super) fn fields(api: ApiKey) -> Option<&'static [Field]> {
    match api {
        ApiKey::ListOffsets => Some(LIST_OFFSETS),
        ApiKey::Metadata => Some(METADATA),
        ApiKey::OffsetCommit => Some(OFFSET_COMMIT),
        ApiKey::OffsetFetch => Some(OFFSET_FETCH),
        ApiKey::FindCoordinator => Some(FIND_COORDINATOR),
        ApiKey::JoinGroup => Some(JOIN_GROUP),
        ApiKey::Heartbeat => Some(HEARTBEAT),
        ApiKey::LeaveGroup => Some(LEAVE_GROUP),
        ApiKey::SyncGroup => Some(SYNC_GROUP),
        ApiKey::SaslHandshake => Some(SASL_HANDSHAKE),
        ApiKey::ApiVersions => Some(API_VERSIONS),
        ApiKey::CreateTopics => Some(CREATE_TOPICS),
        ApiKey::DeleteTopics => Some(DELETE_TOPICS),
        ApiKey::InitProducerId => Some(INIT_PRODUCER_ID),
        ApiKey::OffsetForLeaderEpoch => Some(OFFSET_FOR_LEADER_EPOCH),
        ApiKey::DescribeConfigs => Some(DESCRIBE_CONFIGS),
        ApiKey::SaslAuthenticate => Some(SASL_AUTHENTICATE),
        ApiKey::DescribeProducers => Some(DESCRIBE_PRODUCERS),
        ApiKey::DescribeGroups => Some(DESCRIBE_GROUPS),
        ApiKey::ListGroups => Some(LIST_GROUPS),
        ApiKey::DeleteGroups => Some(DELETE_GROUPS),
        ApiKey::ConsumerGroupDescribe => Some(CONSUMER_GROUP_DESCRIBE),
        ApiKey::ConsumerGroupHeartbeat => Some(CONSUMER_GROUP_HEARTBEAT),
        ApiKey::Produce | ApiKey::Fetch => None,
    }
}

const LIST_OFFSETS: &[Field] = &[
    Field(Fixed(4), (2, OPEN), NEVER, None), // ThrottleTimeMs
    Field(Array(&Struct(&[
        Field(Text, (0, OPEN), NEVER, None), // Name
        Field(Array(&Struct(&[
            Field(Fixed(4), (0, OPEN), NEVER, None), // PartitionIndex
            Field(Fixed(2), (0, OPEN), NEVER, None), // ErrorCode
            Field(Fixed(8), (1, OPEN), NEVER, None), // Timestamp
            Field(Fixed(8), (1, OPEN), NEVER, None), // Offset
            Field(Fixed(4), (4, OPEN), NEVER, None), // LeaderEpoch
        ])), (0, OPEN), NEVER, None), // Partitions
    ])), (0, OPEN), NEVER, None), // Topics
];

const METADATA: &[Field] = &[
    Field(Fixed(4), (3, OPEN), NEVER, None), // ThrottleTimeMs
    Field(Array(&Struct(&[
        Field(Fixed(4), (0, OPEN), NEVER, None), // NodeId
        Field(Text, (0, OPEN), NEVER, None), // Host
        Field(Fixed(4), (0, OPEN), NEVER, None), // Port
        Field(Text, (1, OPEN), (1, OPEN), None), // Rack
    ])), (0, OPEN), NEVER, None), // Brokers
    Field(Text, (2, OPEN), (2, OPEN), None), // ClusterId
    Field(Fixed(4), (1, OPEN), NEVER, None), // ControllerId
    Field(Array(&Struct(&[
        Field(Fixed(2), (0, OPEN), NEVER, None), // ErrorCode
        Field(Text, (0, OPEN), (12, OPEN), None), // Name
        Field(Fixed(16), (10, OPEN), NEVER, None), // TopicId
        Field(Fixed(1), (1, OPEN), NEVER, None), // IsInternal
        Field(Array(&Struct(&[
            Field(Fixed(2), (0, OPEN), NEVER, None), // ErrorCode
            Field(Fixed(4), (0, OPEN), NEVER, None), // PartitionIndex
            Field(Fixed(4), (0, OPEN), NEVER, None), // LeaderId
            Field(Fixed(4), (7, OPEN), NEVER, None), // LeaderEpoch
            Field(Array(&Fixed(4)), (0, OPEN), NEVER, None), // ReplicaNodes
            Field(Array(&Fixed(4)), (0, OPEN), NEVER, None), // IsrNodes
            Field(Array(&Fixed(4)), (5, OPEN), NEVER, None), // OfflineReplicas
        ])), (0, OPEN), NEVER, None), // Partitions
        Field(Fixed(4), (8, OPEN), NEVER, None), // TopicAuthorizedOperations
    ])), (0, OPEN), NEVER, None), // Topics
    Field(Fixed(4), (8, 10), NEVER, None), // ClusterAuthorizedOperations
    Field(Fixed(2), (13, OPEN), NEVER, None), // ErrorCode
];

const OFFSET_COMMIT: &[Field] = &[
    Field(Fixed(4), (3, OPEN), NEVER, None), // ThrottleTimeMs
    Field(Array(&Struct(&[
        Field(Text, (0, 9), NEVER, None), // Name
        Field(Fixed(16), (10, OPEN), NEVER, None), // TopicId
        Field(Array(&Struct(&[
            Field(Fixed(4), (0, OPEN), NEVER, None), // PartitionIndex
            Field(Fixed(2), (0, OPEN), NEVER, None), // ErrorCode
        ])), (0, OPEN), NEVER, None), // Partitions
    ])), (0, OPEN), NEVER, None), // Topics
];

const OFFSET_FETCH: &[Field] = &[
    Field(Fixed(4), (3, OPEN), NEVER, None), // ThrottleTimeMs
    Field(Array(&Struct(&[
        Field(Text, (0, 7), NEVER, None), // Name
        Field(Array(&Struct(&[
            Field(Fixed(4), (0, 7), NEVER, None), // PartitionIndex
            Field(Fixed(8), (0, 7), NEVER, None), // CommittedOffset
            Field(Fixed(4), (5, 7), NEVER, None), // CommittedLeaderEpoch
            Field(Text, (0, 7), (0, 7), None), // Metadata
            Field(Fixed(2), (0, 7), NEVER, None), // ErrorCode
        ])), (0, 7), NEVER, None), // Partitions
    ])), (0, 7), NEVER, None), // Topics
    Field(Fixed(2), (2, 7), NEVER, None), // ErrorCode
    Field(Array(&Struct(&[
        Field(Text, (8, OPEN), NEVER, None), // GroupId
        Field(Array(&Struct(&[
            Field(Text, (8, 9), NEVER, None), // Name
            Field(Fixed(16), (10, OPEN), NEVER, None), // TopicId
            Field(Array(&Struct(&[
                Field(Fixed(4), (8, OPEN), NEVER, None), // PartitionIndex
                Field(Fixed(8), (8, OPEN), NEVER, None), // CommittedOffset
                Field(Fixed(4), (8, OPEN), NEVER, None), // CommittedLeaderEpoch
                Field(Text, (8, OPEN), (8, OPEN), None), // Metadata
                Field(Fixed(2), (8, OPEN), NEVER, None), // ErrorCode
            ])), (8, OPEN), NEVER, None), // Partitions
        ])), (8, OPEN), NEVER, None), // Topics
        Field(Fixed(2), (8, OPEN), NEVER, None), // ErrorCode
    ])), (8, OPEN), NEVER, None), // Groups
];

const FIND_COORDINATOR: &[Field] = &[
    Field(Fixed(4), (1, OPEN), NEVER, None), // ThrottleTimeMs
    Field(Fixed(2), (0, 3), NEVER, None), // ErrorCode
    Field(Text, (1, 3), (1, 3), None), // ErrorMessage
    Field(Fixed(4), (0, 3), NEVER, None), // NodeId
    Field(Text, (0, 3), NEVER, None), // Host
    Field(Fixed(4), (0, 3), NEVER, None), // Port
    Field(Array(&Struct(&[
        Field(Text, (4, OPEN), NEVER, None), // Key
        Field(Fixed(4), (4, OPEN), NEVER, None), // NodeId
        Field(Text, (4, OPEN), NEVER, None), // Host
        Field(Fixed(4), (4, OPEN), NEVER, None), // Port
        Field(Fixed(2), (4, OPEN), NEVER, None), // ErrorCode
        Field(Text, (4, OPEN), (4, OPEN), None), // ErrorMessage
    ])), (4, OPEN), NEVER, None), // Coordinators
];

const JOIN_GROUP: &[Field] = &[
    Field(Fixed(4), (2, OPEN), NEVER, None), // ThrottleTimeMs
    Field(Fixed(2), (0, OPEN), NEVER, None), // ErrorCode
    Field(Fixed(4), (0, OPEN), NEVER, None), // GenerationId
    Field(Text, (7, OPEN), (7, OPEN), None), // ProtocolType
    Field(Text, (0, OPEN), (7, OPEN), None), // ProtocolName
    Field(Text, (0, OPEN), NEVER, None), // Leader
    Field(Fixed(1), (9, OPEN), NEVER, None), // SkipAssignment
    Field(Text, (0, OPEN), NEVER, None), // MemberId
    Field(Array(&Struct(&[
        Field(Text, (0, OPEN), NEVER, None), // MemberId
        Field(Text, (5, OPEN), (5, OPEN), None), // GroupInstanceId
        Field(Blob, (0, OPEN), NEVER, None), // Metadata
    ])), (0, OPEN), NEVER, None), // Members
];

const HEARTBEAT: &[Field] = &[
    Field(Fixed(4), (1, OPEN), NEVER, None), // ThrottleTimeMs
    Field(Fixed(2), (0, OPEN), NEVER, None), // ErrorCode
];

const LEAVE_GROUP: &[Field] = &[
    Field(Fixed(4), (1, OPEN), NEVER, None), // ThrottleTimeMs
    Field(Fixed(2), (0, OPEN), NEVER, None), // ErrorCode
    Field(Array(&Struct(&[
        Field(Text, (3, OPEN), NEVER, None), // MemberId
        Field(Text, (3, OPEN), (3, OPEN), None), // GroupInstanceId
        Field(Fixed(2), (3, OPEN), NEVER, None), // ErrorCode
    ])), (3, OPEN), NEVER, None), // Members
];

const SYNC_GROUP: &[Field] = &[
    Field(Fixed(4), (1, OPEN), NEVER, None), // ThrottleTimeMs
    Field(Fixed(2), (0, OPEN), NEVER, None), // ErrorCode
    Field(Text, (5, OPEN), (5, OPEN), None), // ProtocolType
    Field(Text, (5, OPEN), (5, OPEN), None), // ProtocolName
    Field(Blob, (0, OPEN), NEVER, None), // Assignment
];

const SASL_HANDSHAKE: &[Field] = &[
    Field(Fixed(2), (0, OPEN), NEVER, None), // ErrorCode
    Field(Array(&Text), (0, OPEN), NEVER, None), // Mechanisms
];

const API_VERSIONS: &[Field] = &[
    Field(Fixed(2), (0, OPEN), NEVER, None), // ErrorCode
    Field(Array(&Struct(&[
        Field(Fixed(2), (0, OPEN), NEVER, None), // ApiKey
        Field(Fixed(2), (0, OPEN), NEVER, None), // MinVersion
        Field(Fixed(2), (0, OPEN), NEVER, None), // MaxVersion
    ])), (0, OPEN), NEVER, None), // ApiKeys
    Field(Fixed(4), (1, OPEN), NEVER, None), // ThrottleTimeMs
    Field(Array(&Struct(&[
        Field(Text, (3, OPEN), NEVER, None), // Name
        Field(Fixed(2), (3, OPEN), NEVER, None), // MinVersion
        Field(Fixed(2), (3, OPEN), NEVER, None), // MaxVersion
    ])), (3, OPEN), NEVER, Some(0)), // SupportedFeatures
    Field(Fixed(8), (3, OPEN), NEVER, Some(1)), // FinalizedFeaturesEpoch
    Field(Array(&Struct(&[
        Field(Text, (3, OPEN), NEVER, None), // Name
        Field(Fixed(2), (3, OPEN), NEVER, None), // MaxVersionLevel
        Field(Fixed(2), (3, OPEN), NEVER, None), // MinVersionLevel
    ])), (3, OPEN), NEVER, Some(2)), // FinalizedFeatures
    Field(Fixed(1), (3, OPEN), NEVER, Some(3)), // ZkMigrationReady
];

const CREATE_TOPICS: &[Field] = &[
    Field(Fixed(4), (2, OPEN), NEVER, None), // ThrottleTimeMs
    Field(Array(&Struct(&[
        Field(Text, (0, OPEN), NEVER, None), // Name
        Field(Fixed(16), (7, OPEN), NEVER, None), // TopicId
        Field(Fixed(2), (0, OPEN), NEVER, None), // ErrorCode
        Field(Text, (1, OPEN), (0, OPEN), None), // ErrorMessage
        Field(Fixed(2), (5, OPEN), NEVER, Some(0)), // TopicConfigErrorCode
        Field(Fixed(4), (5, OPEN), NEVER, None), // NumPartitions
        Field(Fixed(2), (5, OPEN), NEVER, None), // ReplicationFactor
        Field(Array(&Struct(&[
            Field(Text, (5, OPEN), NEVER, None), // Name
            Field(Text, (5, OPEN), (5, OPEN), None), // Value
            Field(Fixed(1), (5, OPEN), NEVER, None), // ReadOnly
            Field(Fixed(1), (5, OPEN), NEVER, None), // ConfigSource
            Field(Fixed(1), (5, OPEN), NEVER, None), // IsSensitive
        ])), (5, OPEN), (5, OPEN), None), // Configs
    ])), (0, OPEN), NEVER, None), // Topics
];

const DELETE_TOPICS: &[Field] = &[
    Field(Fixed(4), (1, OPEN), NEVER, None), // ThrottleTimeMs
    Field(Array(&Struct(&[
        Field(Text, (0, OPEN), (6, OPEN), None), // Name
        Field(Fixed(16), (6, OPEN), NEVER, None), // TopicId
        Field(Fixed(2), (0, OPEN), NEVER, None), // ErrorCode
        Field(Text, (5, OPEN), (5, OPEN), None), // ErrorMessage
    ])), (0, OPEN), NEVER, None), // Responses
];

const INIT_PRODUCER_ID: &[Field] = &[
    Field(Fixed(4), (0, OPEN), NEVER, None), // ThrottleTimeMs
    Field(Fixed(2), (0, OPEN), NEVER, None), // ErrorCode
    Field(Fixed(8), (0, OPEN), NEVER, None), // ProducerId
    Field(Fixed(2), (0, OPEN), NEVER, None), // ProducerEpoch
    Field(Fixed(8), (6, OPEN), NEVER, None), // OngoingTxnProducerId
    Field(Fixed(2), (6, OPEN), NEVER, None), // OngoingTxnProducerEpoch
];

const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    Field(Fixed(4), (2, OPEN), NEVER, None), // ThrottleTimeMs
    Field(Array(&Struct(&[
        Field(Text, (0, OPEN), NEVER, None), // Topic
        Field(Array(&Struct(&[
            Field(Fixed(2), (0, OPEN), NEVER, None), // ErrorCode
            Field(Fixed(4), (0, OPEN), NEVER, None), // Partition
            Field(Fixed(4), (1, OPEN), NEVER, None), // LeaderEpoch
            Field(Fixed(8), (0, OPEN), NEVER, None), // EndOffset
        ])), (0, OPEN), NEVER, None), // Partitions
    ])), (0, OPEN), NEVER, None), // Topics
];

const DESCRIBE_CONFIGS: &[Field] = &[
    Field(Fixed(4), (0, OPEN), NEVER, None), // ThrottleTimeMs
    Field(Array(&Struct(&[
        Field(Fixed(2), (0, OPEN), NEVER, None), // ErrorCode
        Field(Text, (0, OPEN), (0, OPEN), None), // ErrorMessage
        Field(Fixed(1), (0, OPEN), NEVER, None), // ResourceType
        Field(Text, (0, OPEN), NEVER, None), // ResourceName
        Field(Array(&Struct(&[
            Field(Text, (0, OPEN), NEVER, None), // Name
            Field(Text, (0, OPEN), (0, OPEN), None), // Value
            Field(Fixed(1), (0, OPEN), NEVER, None), // ReadOnly
            Field(Fixed(1), (1, OPEN), NEVER, None), // ConfigSource
            Field(Fixed(1), (0, OPEN), NEVER, None), // IsSensitive
            Field(Array(&Struct(&[
                Field(Text, (1, OPEN), NEVER, None), // Name
                Field(Text, (1, OPEN), (0, OPEN), None), // Value
                Field(Fixed(1), (1, OPEN), NEVER, None), // Source
            ])), (1, OPEN), NEVER, None), // Synonyms
            Field(Fixed(1), (3, OPEN), NEVER, None), // ConfigType
            Field(Text, (3, OPEN), (0, OPEN), None), // Documentation
        ])), (0, OPEN), NEVER, None), // Configs
    ])), (0, OPEN), NEVER, None), // Results
];

const SASL_AUTHENTICATE: &[Field] = &[
    Field(Fixed(2), (0, OPEN), NEVER, None), // ErrorCode
    Field(Text, (0, OPEN), (0, OPEN), None), // ErrorMessage
    Field(Blob, (0, OPEN), NEVER, None), // AuthBytes
    Field(Fixed(8), (1, OPEN), NEVER, None), // SessionLifetimeMs
];

const DESCRIBE_PRODUCERS: &[Field] = &[
    Field(Fixed(4), (0, OPEN), NEVER, None), // ThrottleTimeMs
    Field(Array(&Struct(&[
        Field(Text, (0, OPEN), NEVER, None), // Name
        Field(Array(&Struct(&[
            Field(Fixed(4), (0, OPEN), NEVER, None), // PartitionIndex
            Field(Fixed(2), (0, OPEN), NEVER, None), // ErrorCode
            Field(Text, (0, OPEN), (0, OPEN), None), // ErrorMessage
            Field(Array(&Struct(&[
                Field(Fixed(8), (0, OPEN), NEVER, None), // ProducerId
                Field(Fixed(4), (0, OPEN), NEVER, None), // ProducerEpoch
                Field(Fixed(4), (0, OPEN), NEVER, None), // LastSequence
                Field(Fixed(8), (0, OPEN), NEVER, None), // LastTimestamp
                Field(Fixed(4), (0, OPEN), NEVER, None), // CoordinatorEpoch
                Field(Fixed(8), (0, OPEN), NEVER, None), // CurrentTxnStartOffset
            ])), (0, OPEN), NEVER, None), // ActiveProducers
        ])), (0, OPEN), NEVER, None), // Partitions
    ])), (0, OPEN), NEVER, None), // Topics
];

const DESCRIBE_GROUPS: &[Field] = &[
    Field(Fixed(4), (1, OPEN), NEVER, None), // ThrottleTimeMs
    Field(Array(&Struct(&[
        Field(Fixed(2), (0, OPEN), NEVER, None), // ErrorCode
        Field(Text, (6, OPEN), (6, OPEN), None), // ErrorMessage
        Field(Text, (0, OPEN), NEVER, None), // GroupId
        Field(Text, (0, OPEN), NEVER, None), // GroupState
        Field(Text, (0, OPEN), NEVER, None), // ProtocolType
        Field(Text, (0, OPEN), NEVER, None), // ProtocolData
        Field(Array(&Struct(&[
            Field(Text, (0, OPEN), NEVER, None), // MemberId
            Field(Text, (4, OPEN), (4, OPEN), None), // GroupInstanceId
            Field(Text, (0, OPEN), NEVER, None), // ClientId
            Field(Text, (0, OPEN), NEVER, None), // ClientHost
            Field(Blob, (0, OPEN), NEVER, None), // MemberMetadata
            Field(Blob, (0, OPEN), NEVER, None), // MemberAssignment
        ])), (0, OPEN), NEVER, None), // Members
        Field(Fixed(4), (3, OPEN), NEVER, None), // AuthorizedOperations
    ])), (0, OPEN), NEVER, None), // Groups
];

const LIST_GROUPS: &[Field] = &[
    Field(Fixed(4), (1, OPEN), NEVER, None), // ThrottleTimeMs
    Field(Fixed(2), (0, OPEN), NEVER, None), // ErrorCode
    Field(Array(&Struct(&[
        Field(Text, (0, OPEN), NEVER, None), // GroupId
        Field(Text, (0, OPEN), NEVER, None), // ProtocolType
        Field(Text, (4, OPEN), NEVER, None), // GroupState
        Field(Text, (5, OPEN), NEVER, None), // GroupType
    ])), (0, OPEN), NEVER, None), // Groups
];

const DELETE_GROUPS: &[Field] = &[
    Field(Fixed(4), (0, OPEN), NEVER, None), // ThrottleTimeMs
    Field(Array(&Struct(&[
        Field(Text, (0, OPEN), NEVER, None), // GroupId
        Field(Fixed(2), (0, OPEN), NEVER, None), // ErrorCode
    ])), (0, OPEN), NEVER, None), // Results
];

const CONSUMER_GROUP_DESCRIBE: &[Field] = &[
    Field(Fixed(4), (0, OPEN), NEVER, None), // ThrottleTimeMs
    Field(Array(&Struct(&[
        Field(Fixed(2), (0, OPEN), NEVER, None), // ErrorCode
        Field(Text, (0, OPEN), (0, OPEN), None), // ErrorMessage
        Field(Text, (0, OPEN), NEVER, None), // GroupId
        Field(Text, (0, OPEN), NEVER, None), // GroupState
        Field(Fixed(4), (0, OPEN), NEVER, None), // GroupEpoch
        Field(Fixed(4), (0, OPEN), NEVER, None), // AssignmentEpoch
        Field(Text, (0, OPEN), NEVER, None), // AssignorName
        Field(Array(&Struct(&[
            Field(Text, (0, OPEN), NEVER, None), // MemberId
            Field(Text, (0, OPEN), (0, OPEN), None), // InstanceId
            Field(Text, (0, OPEN), (0, OPEN), None), // RackId
            Field(Fixed(4), (0, OPEN), NEVER, None), // MemberEpoch
            Field(Text, (0, OPEN), NEVER, None), // ClientId
            Field(Text, (0, OPEN), NEVER, None), // ClientHost
            Field(Array(&Text), (0, OPEN), NEVER, None), // SubscribedTopicNames
            Field(Text, (0, OPEN), (0, OPEN), None), // SubscribedTopicRegex
            Field(Struct(&[
                Field(Array(&Struct(&[
                    Field(Fixed(16), (0, OPEN), NEVER, None), // TopicId
                    Field(Text, (0, OPEN), NEVER, None), // TopicName
                    Field(Array(&Fixed(4)), (0, OPEN), NEVER, None), // Partitions
                ])), (0, OPEN), NEVER, None), // TopicPartitions
            ]), (0, OPEN), NEVER, None), // Assignment
            Field(Struct(&[
                Field(Array(&Struct(&[
                    Field(Fixed(16), (0, OPEN), NEVER, None), // TopicId
                    Field(Text, (0, OPEN), NEVER, None), // TopicName
                    Field(Array(&Fixed(4)), (0, OPEN), NEVER, None), // Partitions
                ])), (0, OPEN), NEVER, None), // TopicPartitions
            ]), (0, OPEN), NEVER, None), // TargetAssignment
            Field(Fixed(1), (1, OPEN), NEVER, None), // MemberType
        ])), (0, OPEN), NEVER, None), // Members
        Field(Fixed(4), (0, OPEN), NEVER, None), // AuthorizedOperations
    ])), (0, OPEN), NEVER, None), // Groups
];

const CONSUMER_GROUP_HEARTBEAT: &[Field] = &[
    Field(Fixed(4), (0, OPEN), NEVER, None), // ThrottleTimeMs
    Field(Fixed(2), (0, OPEN), NEVER, None), // ErrorCode
    Field(Text, (0, OPEN), (0, OPEN), None), // ErrorMessage
    Field(Text, (0, OPEN), (0, OPEN), None), // MemberId
    Field(Fixed(4), (0, OPEN), NEVER, None), // MemberEpoch
    Field(Fixed(4), (0, OPEN), NEVER, None), // HeartbeatIntervalMs
    Field(Struct(&[
        Field(Array(&Struct(&[
            Field(Fixed(16), (0, OPEN), NEVER, None), // TopicId
            Field(Array(&Fixed(4)), (0, OPEN), NEVER, None), // Partitions
        ])), (0, OPEN), NEVER, None), // TopicPartitions
    ]), (0, OPEN), (0, OPEN), None), // Assignment
];
