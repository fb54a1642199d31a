//! OffsetCommit, key 8, versions 2–9. Leaves out retention times.

use super::{Api, Call, Reply, coordinated};
use crate::fake::code;
use crate::fake::group::Committed;
use crate::fake::ledger::Commit;
use crate::fake::state::State;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

/// `offset.metadata.max.bytes`
const MAX_METADATA: usize = 4096;

impl Api for OffsetCommitRequest {
    async fn handle(self, call: &Call) -> Reply<OffsetCommitResponse> {
        let response = commit(call, &self);
        call.shared.ring();
        Reply::Answer(response)
    }

    fn refuse(&self, _: &Call, error: i16) -> OffsetCommitResponse {
        respond(self, |_, _| error)
    }

    fn set_throttle(response: &mut OffsetCommitResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }

    fn touches(&self, _: &State) -> Vec<(String, i32)> {
        let mut out = Vec::new();
        for topic in &self.topics {
            out.extend(topic.partitions.iter().map(|one| (topic.name.to_string(), one.partition_index)));
        }
        out
    }
}

fn respond(
    request: &OffsetCommitRequest,
    mut error: impl FnMut(&str, &OffsetCommitRequestPartition) -> i16,
) -> OffsetCommitResponse {
    let mut response = OffsetCommitResponse::default();
    for topic in &request.topics {
        let mut out = OffsetCommitResponseTopic::default();
        out.name = topic.name.clone();
        for one in &topic.partitions {
            let row = OffsetCommitResponsePartition::default().with_partition_index(one.partition_index);
            out.partitions.push(row.with_error_code(error(&topic.name, one)));
        }
        response.topics.push(out);
    }
    response
}

fn commit(call: &Call, request: &OffsetCommitRequest) -> OffsetCommitResponse {
    let now_ms = call.shared.clock.now_ms();
    let mut state = call.shared.lock();
    let instance = request.group_instance_id.as_ref().map(|instance| instance.as_str());
    let generation = request.generation_id_or_member_epoch;
    let next = state.next_groups.get(request.group_id.as_str()).filter(|group| !group.is_empty());
    let keys = request.topics.iter().flat_map(|topic| {
        let id = state.topics.get(topic.name.as_str()).map(|topic| topic.id).unwrap_or_default();
        topic.partitions.iter().map(move |one| (id, one.partition_index))
    });
    let keys: Vec<_> = keys.collect();
    let next = next.map(|group| group.may_commit(call.version, &request.member_id, generation, &keys));
    let admitted = match coordinated(&mut state, call.broker, &request.group_id) {
        Ok(_) if next.is_some() => next.unwrap_or_default(),
        Ok(group) => group.may_commit(&request.member_id, instance, generation, now_ms),
        Err(error) => error,
    };
    respond(request, |topic, one| {
        if admitted != code::NONE {
            return admitted;
        }
        let metadata = one.committed_metadata.as_ref().map(|metadata| metadata.to_string());
        if metadata.as_ref().is_some_and(|metadata| metadata.len() > MAX_METADATA) {
            return code::OFFSET_METADATA_TOO_LARGE;
        }
        if state.partition(topic, one.partition_index).is_none() {
            return code::UNKNOWN_TOPIC_OR_PARTITION;
        }
        let leader_epoch = if call.version >= 6 { one.committed_leader_epoch } else { -1 };
        if let Some(group) = state.groups.get_mut(request.group_id.as_str()) {
            let committed = Committed { offset: one.committed_offset, leader_epoch, metadata: metadata.clone() };
            group.offsets.insert((topic.to_owned(), one.partition_index), committed);
        }
        state.commits.push(Commit {
            group: request.group_id.to_string(),
            topic: topic.to_owned(),
            partition: one.partition_index,
            offset: one.committed_offset,
            generation,
            member: request.member_id.to_string(),
            metadata,
        });
        code::NONE
    })
}
