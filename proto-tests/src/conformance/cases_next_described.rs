//! How a group of KIP-848's protocol is looked at: by a request of its own, and to the classic one it does not exist.

use super::bench::{Bench, expect, text};
use super::{Case, Needs};
use crate::raw::{RawClient, name};
use kafka_protocol::messages::consumer_group_describe_response::{Assignment, DescribedGroup};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, DeleteGroupsRequest, DescribeGroupsRequest,
    FindCoordinatorRequest, GroupId, ListGroupsRequest,
};
use kafka_protocol::protocol::StrBytes;

pub(super) const CASES: &[Case] =
    &[Case { name: "a_group_of_the_consumer_protocol_is_looked_at", needs: Needs::Nothing, run: looked_at }];

fn string(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// A group named after its topic, at its coordinator.
struct Group {
    client: RawClient,
    topic: String,
}

impl Group {
    fn new(bench: &Bench<'_>) -> Result<Self, String> {
        let topic = bench.topic(2, 1, &[])?;
        let client = bench.until("the coordinator", || {
            let request = FindCoordinatorRequest::default().with_key(string(&topic));
            let found = bench.any()?.call(3, &request).map_err(text)?;
            expect("FindCoordinator", found.error_code, 0)?;
            RawClient::connect(format!("{}:{}", found.host, found.port)).map_err(text)
        })?;
        Ok(Self { client, topic })
    }

    fn id(&self) -> GroupId {
        GroupId(string(&self.topic))
    }

    fn beat(&mut self, epoch: i32) -> Result<i16, String> {
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(self.id())
            .with_member_id(string("one"))
            .with_member_epoch(epoch)
            .with_instance_id(Some(string("till")))
            .with_rebalance_timeout_ms(20_000)
            .with_subscribed_topic_names(Some(vec![name(&self.topic)]))
            .with_topic_partitions(Some(Vec::new()));
        Ok(self.client.call(1, &request).map_err(text)?.error_code)
    }

    fn describe(&mut self) -> Result<DescribedGroup, String> {
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![self.id()]);
        Ok(self.client.call(1, &request).map_err(text)?.groups.remove(0))
    }

    /// (error code, state)
    fn described(&mut self) -> Result<(i16, String), String> {
        let row = self.describe()?;
        Ok((row.error_code, text(row.group_state)))
    }

    fn described_as_classic(&mut self) -> Result<(i16, String), String> {
        let request = DescribeGroupsRequest::default().with_groups(vec![self.id()]);
        let row = self.client.call(6, &request).map_err(text)?.groups.remove(0);
        Ok((row.error_code, text(row.group_state)))
    }

    fn delete(&mut self) -> Result<i16, String> {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![self.id()]);
        Ok(self.client.call(2, &request).map_err(text)?.results.remove(0).error_code)
    }

    /// (protocol type, state, type) in the coordinator's list.
    fn listed(&mut self) -> Result<Option<(String, String, String)>, String> {
        let listed = self.client.call(5, &ListGroupsRequest::default()).map_err(text)?;
        let row = listed.groups.into_iter().find(|row| row.group_id == self.id());
        Ok(row.map(|row| (text(row.protocol_type), text(row.group_state), text(row.group_type))))
    }

    fn partitions(&self, assignment: &Assignment) -> Vec<(bool, Vec<i32>)> {
        let topics = assignment.topic_partitions.iter();
        topics
            .map(|topic| {
                let mut partitions = topic.partitions.clone();
                partitions.sort_unstable();
                (topic.topic_name == name(&self.topic), partitions)
            })
            .collect()
    }
}

fn looked_at(bench: &mut Bench<'_>) -> Result<(), String> {
    let mut group = Group::new(bench)?;
    bench.until("the coordinator to be ready", || expect("described before", group.described()?.0, 69))?;
    expect("join", group.beat(0)?, 0)?;
    bench.until("its assignment", || expect("state", group.described()?, (0, text("Stable"))))?;
    let row = group.describe()?;
    expect("assignor", row.assignor_name.as_str(), "uniform")?;
    let [member] = &row.members[..] else { return Err(format!("{row:?}")) };
    let told = (member.member_id.as_str(), member.instance_id.as_ref().map(|instance| instance.as_str()));
    expect("who it is", told, ("one", Some("till")))?;
    expect("where", (member.client_id.as_str(), member.client_host.as_str()), ("raw", "/127.0.0.1"))?;
    expect("what it wants", &member.subscribed_topic_names, &vec![name(&group.topic)])?;
    expect("what it has", group.partitions(&member.assignment), vec![(true, vec![0, 1])])?;
    expect("what it is to have", group.partitions(&member.target_assignment), vec![(true, vec![0, 1])])?;
    expect("of which protocol", member.member_type, 1)?;
    expect("as a classic one", group.described_as_classic()?, (69, text("Dead")))?;
    expect("listed", group.listed()?, Some((text("consumer"), text("Stable"), text("consumer"))))?;
    expect("deleted with a member", group.delete()?, 68)?;
    expect("leaves", group.beat(-1)?, 0)?;
    expect("described when empty", group.described()?, (0, text("Empty")))?;
    expect("listed when empty", group.listed()?, Some((text("consumer"), text("Empty"), text("consumer"))))?;
    expect("deleted", group.delete()?, 0)?;
    expect("described afterwards", group.described()?.0, 69)?;
    expect("listed afterwards", group.listed()?, None)
}
