//! ConsumerGroupHeartbeat, key 68, versions 0–1 (KIP-848). A group that has classic members is refused.

use super::{Api, Call, Reply, coordinated, text};
use crate::fake::code;
use crate::fake::next_group::{Beat, Beaten, Topics};
use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use std::collections::BTreeMap;

impl Api for ConsumerGroupHeartbeatRequest {
    async fn handle(self, call: &Call) -> Reply<ConsumerGroupHeartbeatResponse> {
        let answer = heartbeat(call, &self);
        call.shared.ring();
        Reply::Answer(match answer {
            Ok(response) => response.with_member_id(Some(self.member_id)),
            Err(error) => refused(error),
        })
    }

    fn refuse(&self, _: &Call, error: i16) -> ConsumerGroupHeartbeatResponse {
        refused(error)
    }

    fn set_throttle(response: &mut ConsumerGroupHeartbeatResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

fn refused(error: i16) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse::default()
        .with_error_code(error)
        .with_error_message(Some(text("refused by the fake cluster")))
}

fn heartbeat(call: &Call, request: &ConsumerGroupHeartbeatRequest) -> Result<ConsumerGroupHeartbeatResponse, i16> {
    let now_ms = call.shared.clock.now_ms();
    let mut state = call.shared.lock();
    if coordinated(&mut state, call.broker, &request.group_id)?.has_classic_members() {
        return Err(code::GROUP_ID_NOT_FOUND);
    }
    let topics: Topics = state
        .topics
        .iter()
        .map(|(name, topic)| (name.clone(), (topic.id, i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX))))
        .collect();
    let beat = Beat {
        member: request.member_id.to_string(),
        client_id: call.client_id.clone(),
        epoch: request.member_epoch,
        instance: request.instance_id.as_ref().map(|instance| instance.to_string()),
        rebalance_timeout_ms: Some(i64::from(request.rebalance_timeout_ms)).filter(|timeout| *timeout >= 0),
        topics: request
            .subscribed_topic_names
            .as_ref()
            .map(|names| names.iter().map(|name| name.to_string()).collect()),
        pattern: request.subscribed_topic_regex.as_ref().map(|pattern| pattern.to_string()),
        assignor: request.server_assignor.as_ref().map(|assignor| assignor.to_string()),
        owned: request.topic_partitions.as_ref().map(|topics| {
            let of = |topic: &kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions| {
                topic.partitions.iter().map(|index| (topic.topic_id, *index)).collect::<Vec<_>>()
            };
            topics.iter().flat_map(of).collect()
        }),
    };
    let interval = i32::try_from(state.settings.consumer_heartbeat_interval.as_millis()).unwrap_or(i32::MAX);
    let group = state.next_groups.entry(request.group_id.to_string()).or_default();
    let Beaten { epoch, assignment } = group.heartbeat(beat, &topics, now_ms)?;
    let mut response = ConsumerGroupHeartbeatResponse::default().with_member_epoch(epoch);
    if epoch > 0 {
        response.heartbeat_interval_ms = interval;
    }
    response.assignment = assignment.map(|keys| {
        let mut rows: BTreeMap<uuid::Uuid, Vec<i32>> = BTreeMap::new();
        for (topic, index) in keys {
            rows.entry(topic).or_default().push(index);
        }
        let row = |(id, list)| TopicPartitions::default().with_topic_id(id).with_partitions(list);
        Assignment::default().with_topic_partitions(rows.into_iter().map(row).collect())
    });
    Ok(response)
}
