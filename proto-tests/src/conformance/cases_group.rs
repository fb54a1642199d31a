//! The classic group protocol: joining, generations, who may commit when.

use super::bench::{Bench, expect, text};
use super::{Case, Needs};
use crate::raw::{RawClient, name};
use bytes::Bytes;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;

pub(super) const CASES: &[Case] = &[
    case("lone_member_joins_commits_and_is_checked", lone_member),
    case("second_member_rebalances", second_member),
    case("static_member_comes_back", static_member),
    case("group_is_looked_at_and_deleted", looked_at),
];

const fn case(name: &'static str, run: fn(&mut Bench<'_>) -> Result<(), String>) -> Case {
    Case { name, needs: Needs::Nothing, run }
}

/// One group of one case.
struct Group<'a> {
    bench: &'a Bench<'a>,
    topic: String,
}

fn string(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

impl<'a> Group<'a> {
    fn new(bench: &'a Bench<'a>) -> Result<Self, String> {
        Ok(Self { bench, topic: bench.topic(1, 1, &[])? })
    }

    /// The group is named after its topic.
    fn id(&self) -> GroupId {
        GroupId(string(&self.topic))
    }

    /// A connection to the coordinator, once it has the group.
    fn connect(&self) -> Result<RawClient, String> {
        self.bench.until("the coordinator", || {
            let request = FindCoordinatorRequest::default().with_key(string(&self.topic));
            let found = self.bench.any()?.call(3, &request).map_err(text)?;
            expect("FindCoordinator", found.error_code, 0)?;
            let mut client = RawClient::connect(format!("{}:{}", found.host, found.port)).map_err(text)?;
            // 14 to 16: it is not ready.
            match self.heartbeat(&mut client, "nobody", 0)? {
                14..=16 => Err("the coordinator is loading".to_owned()),
                _ => Ok(client),
            }
        })
    }

    fn join_request(&self, member: &str, instance: Option<&str>) -> JoinGroupRequest {
        let protocol =
            JoinGroupRequestProtocol::default().with_name(string("range")).with_metadata(Bytes::from_static(b"m"));
        JoinGroupRequest::default()
            .with_group_id(self.id())
            .with_session_timeout_ms(20_000)
            .with_rebalance_timeout_ms(20_000)
            .with_member_id(string(member))
            .with_group_instance_id(instance.map(string))
            .with_protocol_type(string("consumer"))
            .with_protocols(vec![protocol])
    }

    fn join(&self, client: &mut RawClient, member: &str, instance: Option<&str>) -> Result<JoinGroupResponse, String> {
        client.call(9, &self.join_request(member, instance)).map_err(text)
    }

    fn new_member(&self, client: &mut RawClient) -> Result<String, String> {
        let told = self.join(client, "", None)?;
        expect("the first join is told an id", told.error_code, 79)?;
        Ok(told.member_id.to_string())
    }

    fn sync_request(&self, member: &str, generation: i32, assign: &[(&str, &'static str)]) -> SyncGroupRequest {
        let one = |(id, bytes): &(&str, &'static str)| {
            SyncGroupRequestAssignment::default().with_member_id(string(id)).with_assignment(Bytes::from(*bytes))
        };
        SyncGroupRequest::default()
            .with_group_id(self.id())
            .with_generation_id(generation)
            .with_member_id(string(member))
            .with_protocol_type(Some(string("consumer")))
            .with_protocol_name(Some(string("range")))
            .with_assignments(assign.iter().map(one).collect())
    }

    /// (error code, assignment)
    fn sync(
        &self,
        client: &mut RawClient,
        member: &str,
        generation: i32,
        assign: &[(&str, &'static str)],
    ) -> Result<(i16, Bytes), String> {
        let response = client.call(5, &self.sync_request(member, generation, assign)).map_err(text)?;
        Ok((response.error_code, response.assignment))
    }

    fn heartbeat(&self, client: &mut RawClient, member: &str, generation: i32) -> Result<i16, String> {
        let request = HeartbeatRequest::default().with_group_id(self.id()).with_generation_id(generation);
        Ok(client.call(4, &request.with_member_id(string(member))).map_err(text)?.error_code)
    }

    /// (protocol type, state, type) in the coordinator's list.
    fn listed(&self, client: &mut RawClient) -> Result<Option<(String, String, String)>, String> {
        let listed = client.call(5, &ListGroupsRequest::default()).map_err(text)?;
        expect("ListGroups", listed.error_code, 0)?;
        let row = listed.groups.into_iter().find(|row| row.group_id == self.id());
        Ok(row.map(|row| (text(row.protocol_type), text(row.group_state), text(row.group_type))))
    }

    fn describe(&self, client: &mut RawClient, version: i16) -> Result<DescribedGroup, String> {
        let request = DescribeGroupsRequest::default().with_groups(vec![self.id()]);
        Ok(client.call(version, &request).map_err(text)?.groups.remove(0))
    }

    /// (error, state, protocol type, protocol, members)
    fn described(&self, client: &mut RawClient, version: i16) -> Result<(i16, String, String, String, usize), String> {
        let row = self.describe(client, version)?;
        Ok((row.error_code, text(row.group_state), text(row.protocol_type), text(row.protocol_data), row.members.len()))
    }

    fn commit(&self, client: &mut RawClient, member: &str, generation: i32, note: &str) -> Result<i16, String> {
        let one = OffsetCommitRequestPartition::default()
            .with_committed_offset(1)
            .with_committed_metadata(Some(string(note)));
        let topic = OffsetCommitRequestTopic::default().with_name(name(&self.topic)).with_partitions(vec![one]);
        let request = OffsetCommitRequest::default()
            .with_group_id(self.id())
            .with_generation_id_or_member_epoch(generation)
            .with_member_id(string(member))
            .with_topics(vec![topic]);
        Ok(client.call(8, &request).map_err(text)?.topics[0].partitions[0].error_code)
    }
}

/// ListGroups, DescribeGroups and DeleteGroups of a group that does not exist, of one with a member, and of an empty one.
fn looked_at(bench: &mut Bench<'_>) -> Result<(), String> {
    let group = Group::new(bench)?;
    let mut client = group.connect()?;
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group.id()]);
    expect("listed before", group.listed(&mut client)?, None)?;
    // Up to version 5 a group that does not exist is Dead, and no error (KIP-1043).
    expect("described before", group.described(&mut client, 5)?, (0, text("Dead"), text(""), text(""), 0))?;
    expect("described before", group.described(&mut client, 6)?, (69, text("Dead"), text(""), text(""), 0))?;
    expect("deleted before", client.call(2, &delete).map_err(text)?.results[0].error_code, 69)?;

    expect("commit from outside", group.commit(&mut client, "", -1, "")?, 0)?;
    expect("listed without members", group.listed(&mut client)?, Some((text(""), text("Empty"), text("classic"))))?;
    expect("described without members", group.described(&mut client, 6)?, (0, text("Empty"), text(""), text(""), 0))?;

    let id = group.new_member(&mut client)?;
    group.join(&mut client, &id, None)?;
    let described = group.described(&mut client, 6)?;
    expect("before sync", described, (0, text("CompletingRebalance"), text("consumer"), text(""), 1))?;
    group.sync(&mut client, &id, 1, &[(&id, "all")])?;
    let member = group.describe(&mut client, 6)?.members.remove(0);
    let told = (member.member_id.to_string(), member.client_id.to_string(), member.client_host.to_string());
    expect("who it is", told, (id.clone(), text("raw"), text("/127.0.0.1")))?;
    let told = (member.member_metadata, member.member_assignment);
    expect("what it said, and has", told, (Bytes::from("m"), Bytes::from("all")))?;
    expect("described", group.described(&mut client, 6)?, (0, text("Stable"), text("consumer"), text("range"), 1))?;
    let stable = Some((text("consumer"), text("Stable"), text("classic")));
    expect("listed with a member", group.listed(&mut client)?, stable)?;
    expect("deleted with a member", client.call(2, &delete).map_err(text)?.results[0].error_code, 68)?;

    let leave = LeaveGroupRequest::default().with_group_id(group.id()).with_member_id(string(&id));
    expect("leave", client.call(2, &leave).map_err(text)?.error_code, 0)?;
    expect(
        "described when empty",
        group.described(&mut client, 6)?,
        (0, text("Empty"), text("consumer"), text(""), 0),
    )?;
    expect("deleted", client.call(2, &delete).map_err(text)?.results[0].error_code, 0)?;
    expect("listed afterwards", group.listed(&mut client)?, None)
}

/// It leads, assigns to itself, beats and commits; strangers and other generations do not.
fn lone_member(bench: &mut Bench<'_>) -> Result<(), String> {
    let group = Group::new(bench)?;
    let mut client = group.connect()?;
    expect("commit from outside", group.commit(&mut client, "", -1, "")?, 0)?;
    let id = group.new_member(&mut client)?;
    let joined = group.join(&mut client, &id, None)?;
    expect("join", (joined.error_code, joined.generation_id, joined.members.len()), (0, 1, 1))?;
    expect("commit before sync", group.commit(&mut client, &id, 1, "")?, 27)?;
    expect("heartbeat before sync", group.heartbeat(&mut client, &id, 1)?, 0)?;
    expect("sync", group.sync(&mut client, &id, 1, &[(&id, "all")])?, (0, Bytes::from("all")))?;
    expect("heartbeat", group.heartbeat(&mut client, &id, 1)?, 0)?;
    expect("other generation", group.heartbeat(&mut client, &id, 0)?, 22)?;
    expect("stranger", group.heartbeat(&mut client, "who", 1)?, 25)?;
    expect("commit", group.commit(&mut client, &id, 1, "note")?, 0)?;
    expect("commit of another generation", group.commit(&mut client, &id, 0, "")?, 22)?;
    expect("commit of a stranger", group.commit(&mut client, "who", 1, "")?, 25)?;
    expect("commit from outside again", group.commit(&mut client, "", -1, "")?, 25)?;
    expect("long note", group.commit(&mut client, &id, 1, &"x".repeat(4097))?, 12)
}

/// The first hears of it by heartbeat and may commit until it joins again; then the generation rises.
fn second_member(bench: &mut Bench<'_>) -> Result<(), String> {
    let group = Group::new(bench)?;
    let (mut one, mut two) = (group.connect()?, group.connect()?);
    let first = group.new_member(&mut one)?;
    group.join(&mut one, &first, None)?;
    group.sync(&mut one, &first, 1, &[])?;
    let second = group.new_member(&mut two)?;
    let correlation = two.send(9, &group.join_request(&second, None)).map_err(text)?;
    bench.until("the rebalance", || expect("heartbeat", group.heartbeat(&mut one, &first, 1)?, 27))?;
    expect("commit before joining again", group.commit(&mut one, &first, 1, "")?, 0)?;
    expect("sync of the old generation", group.sync(&mut one, &first, 1, &[])?.0, 27)?;
    let joined = group.join(&mut one, &first, None)?;
    let other = two.receive::<JoinGroupRequest>(9, correlation).map_err(text)?;
    expect("generations", (joined.generation_id, other.generation_id), (2, 2))?;
    expect("the leader stays", (joined.leader.as_str(), joined.members.len()), (first.as_str(), 2))?;
    expect("others hear of nobody", other.members.len(), 0)?;
    let correlation = two.send(5, &group.sync_request(&second, 2, &[])).map_err(text)?;
    expect("commit before sync", group.commit(&mut one, &first, 2, "")?, 27)?;
    let assigned = group.sync(&mut one, &first, 2, &[(&first, "a"), (&second, "b")])?;
    expect("first", assigned, (0, Bytes::from("a")))?;
    let other = two.receive::<SyncGroupRequest>(5, correlation).map_err(text)?;
    expect("second", (other.error_code, other.assignment), (0, Bytes::from("b")))?;
    expect("commit of the old generation", group.commit(&mut one, &first, 1, "")?, 22)
}

/// KIP-345: same generation, same assignment, a new member id; the old one is fenced.
fn static_member(bench: &mut Bench<'_>) -> Result<(), String> {
    let group = Group::new(bench)?;
    let mut client = group.connect()?;
    let old = group.join(&mut client, "", Some("one"))?;
    expect("join", (old.error_code, old.generation_id), (0, 1))?;
    let old = old.member_id.to_string();
    group.sync(&mut client, &old, 1, &[(&old, "mine")])?;
    let back = group.join(&mut client, "", Some("one"))?;
    expect("back", (back.error_code, back.generation_id, back.skip_assignment), (0, 1, true))?;
    expect("a new id", back.member_id.as_str() != old, true)?;
    expect("who leads", back.leader.as_str(), back.member_id.as_str())?;
    let synced = group.sync(&mut client, &back.member_id, 1, &[])?;
    expect("assignment", synced, (0, Bytes::from("mine")))?;
    expect("old id with instance", group.join(&mut client, &old, Some("one"))?.error_code, 82)?;
    expect("old id", group.heartbeat(&mut client, &old, 1)?, 25)
}
