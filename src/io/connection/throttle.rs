//! KIP-219: a broker that throttles answers at once and says for how long it expects silence.

use std::time::Duration;

use crate::wire::requests::*;

/// The longest silence a broker can impose. Kafka's own limit follows from its quota windows, 11 s by default; a larger
/// number is a fault or malice, and must not stop a client for weeks.
pub(crate) const MAX_THROTTLE: Duration = Duration::from_secs(60);

/// An answer that may ask for silence.
pub(crate) trait Throttled {
    /// `throttle_time_ms` as it came.
    fn throttle_ms(&self) -> i32;

    /// The silence asked for, within [`MAX_THROTTLE`].
    fn throttle(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.throttle_ms()).unwrap_or(0)).min(MAX_THROTTLE)
    }
}

macro_rules! throttled {
    ($($response:path),* $(,)?) => {
        $(impl Throttled for $response {
            fn throttle_ms(&self) -> i32 {
                self.throttle_ms
            }
        })*
    };
}

throttled!(
    api_versions::ApiVersionsResponse,
    consumer_group_describe::ConsumerGroupDescribeResponse,
    create_topics::CreateTopicsResponse,
    delete_groups::DeleteGroupsResponse,
    delete_topics::DeleteTopicsResponse,
    describe_configs::DescribeConfigsResponse,
    consumer_group_heartbeat::ConsumerGroupHeartbeatResponse,
    describe_groups::DescribeGroupsResponse,
    describe_producers::DescribeProducersResponse,
    fetch::FetchResponse,
    find_coordinator::FindCoordinatorResponse,
    heartbeat::HeartbeatResponse,
    init_producer_id::InitProducerIdResponse,
    join_group::JoinGroupResponse,
    leave_group::LeaveGroupResponse,
    list_groups::ListGroupsResponse,
    list_offsets::ListOffsetsResponse,
    metadata::MetadataResponse,
    offset_commit::OffsetCommitResponse,
    offset_fetch::OffsetFetchResponse,
    offset_for_leader_epoch::OffsetForLeaderEpochResponse,
    produce::ProduceResponse,
    sync_group::SyncGroupResponse,
);
