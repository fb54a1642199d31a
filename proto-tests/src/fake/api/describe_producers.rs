//! DescribeProducers, key 61, version 0. Every replica answers with what it holds, not only the leader (KIP-664).

use super::{Api, Call, Reply};
use crate::fake::code;
use crate::fake::state::State;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};

impl Api for DescribeProducersRequest {
    async fn handle(self, call: &Call) -> Reply<DescribeProducersResponse> {
        Reply::Answer(answer(call, &self, None))
    }

    fn refuse(&self, call: &Call, error: i16) -> DescribeProducersResponse {
        answer(call, self, Some(error))
    }

    fn set_throttle(response: &mut DescribeProducersResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }

    fn touches(&self, _: &State) -> Vec<(String, i32)> {
        let mut out = Vec::new();
        for topic in &self.topics {
            out.extend(topic.partition_indexes.iter().map(|index| (topic.name.to_string(), *index)));
        }
        out
    }
}

fn answer(call: &Call, request: &DescribeProducersRequest, error: Option<i16>) -> DescribeProducersResponse {
    let state = call.shared.lock();
    let mut response = DescribeProducersResponse::default();
    for topic in &request.topics {
        let mut out = TopicResponse::default();
        out.name = topic.name.clone();
        for index in &topic.partition_indexes {
            let mut row = PartitionResponse::default();
            row.partition_index = *index;
            match error.map_or_else(|| active(call, &state, &topic.name, *index), Err) {
                Err(error) => row.error_code = error,
                Ok(producers) => row.active_producers = producers,
            }
            out.partitions.push(row);
        }
        response.topics.push(out);
    }
    response
}

fn active(call: &Call, state: &State, topic: &str, index: i32) -> Result<Vec<ProducerState>, i16> {
    let partition = state.partition(topic, index).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
    if !partition.replicas.contains(&call.broker) {
        return Err(code::NOT_LEADER_OR_FOLLOWER);
    }
    let horizon = partition.horizon(call.broker);
    let state = |(id, entry): (i64, crate::fake::producers::Entry)| {
        ProducerState::default()
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(i32::from(entry.epoch))
            .with_last_sequence(entry.last_sequence)
            .with_last_timestamp(entry.timestamp)
            .with_coordinator_epoch(-1)
            .with_current_txn_start_offset(-1)
    };
    Ok(partition.producers.active(&horizon).into_iter().map(state).collect())
}
