//! ConsumerGroupDescribe, key 69, versions 0 and 1 (KIP-848). Authorized operations are left out; classic groups do not
//! exist here.

use super::{Api, Call, Reply, coordinated, text, topic_name};
use crate::fake::code;
use crate::fake::next_group::{Key, NextGroup};
use kafka_protocol::messages::consumer_group_describe_response::{Assignment, DescribedGroup, Member, TopicPartitions};
use kafka_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, GroupId};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

impl Api for ConsumerGroupDescribeRequest {
    async fn handle(self, call: &Call) -> Reply<ConsumerGroupDescribeResponse> {
        let rows = self.group_ids.iter().map(|id| row(call, id).unwrap_or_else(|error| refused(id, error)));
        Reply::Answer(ConsumerGroupDescribeResponse::default().with_groups(rows.collect()))
    }

    fn refuse(&self, _: &Call, error: i16) -> ConsumerGroupDescribeResponse {
        let rows = self.group_ids.iter().map(|id| refused(id, error));
        ConsumerGroupDescribeResponse::default().with_groups(rows.collect())
    }

    fn set_throttle(response: &mut ConsumerGroupDescribeResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

fn refused(id: &GroupId, error: i16) -> DescribedGroup {
    DescribedGroup::default().with_group_id(id.clone()).with_error_code(error)
}

fn row(call: &Call, id: &GroupId) -> Result<DescribedGroup, i16> {
    let mut state = call.shared.lock();
    coordinated(&mut state, call.broker, id)?;
    let group = state.next_group(id).ok_or(code::GROUP_ID_NOT_FOUND)?;
    let mut row = DescribedGroup::default().with_group_id(id.clone());
    row.group_state = text(group.phase());
    row.group_epoch = group.epoch();
    row.assignment_epoch = group.epoch();
    row.assignor_name = text("uniform");
    for told in group.tell_members() {
        let mut member = Member::default();
        member.member_id = text(told.id);
        member.instance_id = told.instance.map(text);
        member.member_epoch = told.epoch;
        member.client_id = text(told.client_id);
        member.client_host = text("/127.0.0.1");
        member.subscribed_topic_names = told.topics.iter().map(|name| topic_name(name)).collect();
        member.subscribed_topic_regex = told.pattern.map(text);
        member.assignment = assignment(group, &told.assigned);
        member.target_assignment = assignment(group, &told.target);
        if call.version >= 1 {
            // Of the consumer protocol.
            member.member_type = 1;
        }
        row.members.push(member);
    }
    Ok(row)
}

fn assignment(group: &NextGroup, keys: &BTreeSet<Key>) -> Assignment {
    let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (topic, index) in keys {
        topics.entry(*topic).or_default().push(*index);
    }
    let row = |(id, partitions): (Uuid, Vec<i32>)| {
        let name = topic_name(group.topic_name(id).unwrap_or_default());
        TopicPartitions::default().with_topic_id(id).with_topic_name(name).with_partitions(partitions)
    };
    Assignment::default().with_topic_partitions(topics.into_iter().map(row).collect())
}
