//! Every response in every version, through guard and decoder. The first two bytes choose API and version.
#![no_main]

#[path = "../budget.rs"]
mod budget;

use bytes::Bytes;
use indelible::wire::Request;
use indelible::wire::requests::*;
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: budget::Counting = budget::Counting;

fn decode<R: Request>(choice: u8, body: Bytes) {
    let (low, high) = R::VERSIONS;
    let version = low + i16::from(choice) % (high - low + 1);
    let _ = budget::within_budget(body.len(), 1 << 20, || R::decode(version, body));
}

fuzz_target!(|data: &[u8]| {
    let [api, version, body @ ..] = data else { return };
    let body = Bytes::copy_from_slice(body);
    let decoders: &[fn(u8, Bytes)] = &[
        decode::<api_versions::ApiVersionsRequest>,
        decode::<consumer_group_describe::ConsumerGroupDescribeRequest>,
        decode::<create_topics::CreateTopicsRequest>,
        decode::<delete_groups::DeleteGroupsRequest>,
        decode::<delete_topics::DeleteTopicsRequest>,
        decode::<describe_configs::DescribeConfigsRequest>,
        decode::<describe_groups::DescribeGroupsRequest>,
        decode::<describe_producers::DescribeProducersRequest>,
        decode::<consumer_group_heartbeat::ConsumerGroupHeartbeatRequest>,
        decode::<fetch::FetchRequest>,
        decode::<find_coordinator::FindCoordinatorRequest>,
        decode::<heartbeat::HeartbeatRequest>,
        decode::<init_producer_id::InitProducerIdRequest>,
        decode::<join_group::JoinGroupRequest>,
        decode::<leave_group::LeaveGroupRequest>,
        decode::<list_groups::ListGroupsRequest>,
        decode::<list_offsets::ListOffsetsRequest>,
        decode::<metadata::MetadataRequest>,
        decode::<offset_commit::OffsetCommitRequest>,
        decode::<offset_fetch::OffsetFetchRequest>,
        decode::<offset_for_leader_epoch::OffsetForLeaderEpochRequest>,
        decode::<produce::ProduceRequest>,
        decode::<sasl_authenticate::SaslAuthenticateRequest>,
        decode::<sasl_handshake::SaslHandshakeRequest>,
        decode::<sync_group::SyncGroupRequest>,
    ];
    decoders[usize::from(*api) % decoders.len()](*version, body);
});
