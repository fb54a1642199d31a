//! OffsetFetch, key 9, versions 1–9 (several groups from 8). A null list of topics is all that are committed.

use super::{Api, Call, Reply, coordinated, text, topic_name};
use crate::fake::group::Committed;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use std::collections::BTreeMap;

impl Api for OffsetFetchRequest {
    async fn handle(self, call: &Call) -> Reply<OffsetFetchResponse> {
        Reply::Answer(answer(call, &self, None))
    }

    fn refuse(&self, call: &Call, error: i16) -> OffsetFetchResponse {
        answer(call, self, Some(error))
    }

    fn set_throttle(response: &mut OffsetFetchResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

/// Topic and its partitions, in the order of the request.
type Asked = Vec<(String, Vec<i32>)>;
type Found = Vec<(String, Vec<(i32, Option<Committed>)>)>;

fn answer(call: &Call, request: &OffsetFetchRequest, error: Option<i16>) -> OffsetFetchResponse {
    let mut response = OffsetFetchResponse::default();
    if call.version >= 8 {
        for group in &request.groups {
            let asked = group.topics.as_ref().map(|topics| {
                topics.iter().map(|topic| (topic.name.to_string(), topic.partition_indexes.clone())).collect()
            });
            let mut out = OffsetFetchResponseGroup::default();
            out.group_id = group.group_id.clone();
            let member = (group.member_id.as_ref().map(|id| id.as_str()), group.member_epoch);
            match error.map_or_else(|| look_up(call, &group.group_id, asked, member), Err) {
                Err(error) => out.error_code = error,
                Ok(found) => out.topics = found.into_iter().map(new_topic).collect(),
            }
            response.groups.push(out);
        }
        return response;
    }
    let asked: Option<Asked> = request
        .topics
        .as_ref()
        .map(|topics| topics.iter().map(|topic| (topic.name.to_string(), topic.partition_indexes.clone())).collect());
    match error.map_or_else(|| look_up(call, &request.group_id, asked.clone(), (None, -1)), Err) {
        Ok(found) => response.topics = found.into_iter().map(|topic| old_topic(call, topic, 0)).collect(),
        // Version 1 has no error of the whole answer.
        Err(error) if call.version < 2 => {
            let rows = |(name, partitions): (String, Vec<i32>)| {
                old_topic(call, (name, partitions.into_iter().map(|index| (index, None)).collect()), error)
            };
            response.topics = asked.into_iter().flatten().map(rows).collect();
        }
        Err(error) => response.error_code = error,
    }
    response
}

fn look_up(call: &Call, group: &str, asked: Option<Asked>, member: (Option<&str>, i32)) -> Result<Found, i16> {
    let mut state = call.shared.lock();
    let next = state.next_groups.get(group).filter(|group| !group.is_empty());
    let admitted = next.map_or(0, |group| group.may_fetch(member.0, member.1));
    let group = coordinated(&mut state, call.broker, group)?;
    if admitted != 0 {
        return Err(admitted);
    }
    Ok(match asked {
        Some(asked) => asked
            .into_iter()
            .map(|(topic, partitions)| {
                let of = |index: i32| (index, group.offsets.get(&(topic.clone(), index)).cloned());
                let rows = partitions.into_iter().map(of).collect();
                (topic, rows)
            })
            .collect(),
        None => {
            let mut all: BTreeMap<String, Vec<(i32, Option<Committed>)>> = BTreeMap::new();
            for ((topic, index), committed) in &group.offsets {
                all.entry(topic.clone()).or_default().push((*index, Some(committed.clone())));
            }
            all.into_iter().collect()
        }
    })
}

fn new_topic((name, partitions): (String, Vec<(i32, Option<Committed>)>)) -> OffsetFetchResponseTopics {
    let row = |(index, committed): (i32, Option<Committed>)| {
        let (offset, epoch, metadata) = parts(committed);
        OffsetFetchResponsePartitions::default()
            .with_partition_index(index)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(epoch)
            .with_metadata(Some(text(metadata)))
    };
    let mut topic = OffsetFetchResponseTopics::default();
    topic.name = topic_name(&name);
    topic.partitions = partitions.into_iter().map(row).collect();
    topic
}

fn old_topic(
    call: &Call,
    (name, partitions): (String, Vec<(i32, Option<Committed>)>),
    error: i16,
) -> OffsetFetchResponseTopic {
    let row = |(index, committed): (i32, Option<Committed>)| {
        let (offset, epoch, metadata) = parts(committed);
        let mut row = OffsetFetchResponsePartition::default();
        row.partition_index = index;
        row.committed_offset = offset;
        if call.version >= 5 {
            row.committed_leader_epoch = epoch;
        }
        row.metadata = Some(text(metadata));
        row.error_code = error;
        row
    };
    let mut topic = OffsetFetchResponseTopic::default();
    topic.name = topic_name(&name);
    topic.partitions = partitions.into_iter().map(row).collect();
    topic
}

/// (offset, leader epoch, metadata); without a commit -1, -1 and nothing.
fn parts(committed: Option<Committed>) -> (i64, i32, String) {
    committed.map_or((-1, -1, String::new()), |one| (one.offset, one.leader_epoch, one.metadata.unwrap_or_default()))
}
