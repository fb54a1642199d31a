//! Consumer groups on the fake cluster: generations, rebalances, sessions, commits, coordinators.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use proto_tests::fake::{FakeCluster, GroupPhase, code};
use proto_tests::raw::{RawClient, name};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

fn group() -> GroupId {
    GroupId(text("g"))
}

fn setting() -> FakeCluster {
    let cluster = FakeCluster::start(2);
    cluster.create_topic("t", 2);
    cluster
}

/// A connection to the coordinator.
fn connect(cluster: &FakeCluster) -> RawClient {
    let id = cluster.look(|view| view.coordinator("g")).unwrap();
    RawClient::connect(cluster.address(id)).unwrap()
}

fn join_request(member: &str, instance: Option<&str>) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::from_static(b"m"));
    JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(5_000)
        .with_member_id(text(member))
        .with_group_instance_id(instance.map(text))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

fn join(client: &mut RawClient, member: &str, instance: Option<&str>) -> JoinGroupResponse {
    client.call(9, &join_request(member, instance)).unwrap()
}

/// Joins on a thread of its own, for answers that come later.
fn join_later(cluster: &FakeCluster, member: &str) -> JoinHandle<JoinGroupResponse> {
    let (cluster, member) = (cluster.clone(), member.to_owned());
    spawn(move || join(&mut connect(&cluster), &member, None))
}

/// A dynamic member's id, as MEMBER_ID_REQUIRED gives it.
fn new_id(cluster: &FakeCluster) -> String {
    let told = join(&mut connect(cluster), "", None);
    assert_eq!(told.error_code, code::MEMBER_ID_REQUIRED);
    told.member_id.to_string()
}

fn sync(client: &mut RawClient, member: &str, generation: i32, assign: &[(&str, &str)]) -> SyncGroupResponse {
    let assignment = |(id, bytes): &(&str, &str)| {
        SyncGroupRequestAssignment::default()
            .with_member_id(text(id))
            .with_assignment(Bytes::copy_from_slice(bytes.as_bytes()))
    };
    let request = SyncGroupRequest::default()
        .with_group_id(group())
        .with_generation_id(generation)
        .with_member_id(text(member))
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
        .with_assignments(assign.iter().map(assignment).collect());
    client.call(5, &request).unwrap()
}

fn heartbeat(client: &mut RawClient, member: &str, generation: i32) -> i16 {
    let request =
        HeartbeatRequest::default().with_group_id(group()).with_generation_id(generation).with_member_id(text(member));
    client.call(4, &request).unwrap().error_code
}

fn commit(client: &mut RawClient, member: &str, generation: i32, offset: i64, metadata: &str) -> i16 {
    let one = OffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text(metadata)));
    let request = OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(text(member))
        .with_topics(vec![OffsetCommitRequestTopic::default().with_name(name("t")).with_partitions(vec![one])]);
    client.call(8, &request).unwrap().topics[0].partitions[0].error_code
}

fn committed(client: &mut RawClient) -> (i16, Vec<(i64, String)>) {
    let asked = OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(None);
    let response = client.call(8, &OffsetFetchRequest::default().with_groups(vec![asked])).unwrap();
    let rows = response.groups[0].topics.iter().flat_map(|topic| &topic.partitions);
    let rows = rows.map(|row| (row.committed_offset, row.metadata.as_ref().unwrap().to_string())).collect();
    (response.groups[0].error_code, rows)
}

/// One member alone: it joins, leads, assigns to itself, beats, commits, leaves.
#[test]
fn life_of_a_lone_member() {
    let cluster = setting();
    let id = new_id(&cluster);
    let mut client = connect(&cluster);
    let joined = join(&mut client, &id, None);
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!((joined.leader.as_str(), joined.members.len()), (id.as_str(), 1));
    assert_eq!(&sync(&mut client, &id, 1, &[(&id, "all")]).assignment[..], b"all");
    assert_eq!(cluster.look(|view| view.group_phase("g")), Some(GroupPhase::Stable));
    assert_eq!(heartbeat(&mut client, &id, 1), 0);
    assert_eq!(heartbeat(&mut client, &id, 0), code::ILLEGAL_GENERATION);
    assert_eq!(heartbeat(&mut client, "who", 1), code::UNKNOWN_MEMBER_ID);
    assert_eq!(commit(&mut client, &id, 1, 5, "note"), 0);
    assert_eq!(commit(&mut client, &id, 0, 9, ""), code::ILLEGAL_GENERATION);
    assert_eq!(commit(&mut client, &id, 1, 9, &"x".repeat(4097)), code::OFFSET_METADATA_TOO_LARGE);
    assert_eq!(committed(&mut client), (0, vec![(5, "note".to_owned())]));
    let leave = LeaveGroupRequest::default().with_group_id(group());
    let members = vec![MemberIdentity::default().with_member_id(text(&id))];
    assert_eq!(client.call(5, &leave.with_members(members)).unwrap().members[0].error_code, 0);
    assert_eq!(cluster.look(|view| view.group_phase("g")), Some(GroupPhase::Empty));
    let ledger = cluster.ledger();
    assert_eq!(ledger.commits.iter().map(|one| (one.offset, one.generation)).collect::<Vec<_>>(), [(5, 1)]);
    assert_eq!(ledger.committed("g", "t", 0), Some(5));
}

/// A second member comes: the first hears of it by heartbeat, both join again, the generation rises, both are assigned.
/// The old generation can no longer commit.
#[test]
fn second_member_rebalances() {
    let cluster = setting();
    let first = new_id(&cluster);
    let mut client = connect(&cluster);
    join(&mut client, &first, None);
    sync(&mut client, &first, 1, &[]);
    let second = new_id(&cluster);
    let waiting = join_later(&cluster, &second);
    assert!(cluster.wait_for(|view| view.group_phase("g") == Some(GroupPhase::PreparingRebalance), SECOND));
    assert_eq!(heartbeat(&mut client, &first, 1), code::REBALANCE_IN_PROGRESS);
    assert_eq!(commit(&mut client, &first, 1, 3, ""), 0, "until it joins again it may commit");
    let joined = join(&mut client, &first, None);
    let other = waiting.join().unwrap();
    assert_eq!((joined.generation_id, other.generation_id), (2, 2));
    assert_eq!((joined.members.len(), other.members.len()), (2, 0), "only the leader hears of the members");
    let (cluster2, second2) = (cluster.clone(), second.clone());
    let waiting = spawn(move || sync(&mut connect(&cluster2), &second2, 2, &[]));
    assert_eq!(commit(&mut client, &first, 2, 4, ""), code::REBALANCE_IN_PROGRESS);
    assert_eq!(&sync(&mut client, &first, 2, &[(&first, "a"), (&second, "b")]).assignment[..], b"a");
    assert_eq!(&waiting.join().unwrap().assignment[..], b"b");
    assert_eq!(commit(&mut client, &first, 1, 4, ""), code::ILLEGAL_GENERATION);
}

/// A member that does not come back within the rebalance time-out is left behind; one that is silent for its session too.
#[test]
fn silent_members_are_left_behind() {
    let cluster = setting();
    let first = new_id(&cluster);
    let mut client = connect(&cluster);
    join(&mut client, &first, None);
    sync(&mut client, &first, 1, &[]);
    let second = new_id(&cluster);
    let waiting = join_later(&cluster, &second);
    assert!(cluster.wait_for(|view| view.members("g").len() == 2, SECOND));
    cluster.advance_time(6 * SECOND);
    assert_eq!(waiting.join().unwrap().generation_id, 2);
    assert_eq!(heartbeat(&mut client, &first, 1), code::UNKNOWN_MEMBER_ID);
    sync(&mut client, &second, 2, &[]);
    cluster.advance_time(11 * SECOND);
    assert!(cluster.wait_for(|view| view.group_phase("g") == Some(GroupPhase::Empty), SECOND));
    assert_eq!(heartbeat(&mut client, &second, 2), code::UNKNOWN_MEMBER_ID);
}

/// A static member is restarted: same generation, same assignment, new member id; the old id is fenced.
#[test]
fn static_member_comes_back() {
    let cluster = setting();
    let mut client = connect(&cluster);
    let old = join(&mut client, "", Some("one")).member_id.to_string();
    sync(&mut client, &old, 1, &[(&old, "mine")]);
    let back = join(&mut client, "", Some("one"));
    assert_eq!((back.error_code, back.generation_id, back.skip_assignment), (0, 1, true));
    assert_ne!(back.member_id.as_str(), old);
    assert_eq!(&sync(&mut client, &back.member_id, 1, &[]).assignment[..], b"mine");
    assert_eq!(join(&mut client, &old, Some("one")).error_code, code::FENCED_INSTANCE_ID);
    assert_eq!(heartbeat(&mut client, &old, 1), code::UNKNOWN_MEMBER_ID);
}

/// The coordinator dies: another one has the group, with its offsets; the wrong broker says so.
#[test]
fn coordinator_moves() {
    let cluster = setting();
    let mut client = connect(&cluster);
    assert_eq!(commit(&mut client, "", -1, 7, ""), 0, "from outside the group protocol");
    let old = cluster.look(|view| view.coordinator("g")).unwrap();
    let other = 3 - old;
    let mut wrong = RawClient::connect(cluster.address(other)).unwrap();
    assert_eq!(committed(&mut wrong).0, code::NOT_COORDINATOR);
    cluster.kill(old);
    let keys = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
    let found = wrong.call(4, &keys).unwrap().coordinators.remove(0);
    assert_eq!((found.node_id.0, found.port), (other, i32::from(cluster.address(other).port())));
    assert_eq!(wrong.call(3, &FindCoordinatorRequest::default().with_key(text("g"))).unwrap().node_id.0, other);
    assert_eq!(committed(&mut wrong).1, [(7, String::new())]);
    cluster.restart(old);
    cluster.move_coordinator("g", other);
    assert_eq!(committed(&mut wrong).0, 0);
}
