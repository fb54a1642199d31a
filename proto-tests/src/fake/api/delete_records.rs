//! DeleteRecords, key 21, versions 0–2. Offset -1 is the high watermark.

use super::{Api, Call, Reply};
use crate::fake::code;
use crate::fake::state::State;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

impl Api for DeleteRecordsRequest {
    async fn handle(self, call: &Call) -> Reply<DeleteRecordsResponse> {
        let response = answer(call, &self, None);
        call.shared.ring();
        Reply::Answer(response)
    }

    fn refuse(&self, call: &Call, error: i16) -> DeleteRecordsResponse {
        answer(call, self, Some(error))
    }

    fn set_throttle(response: &mut DeleteRecordsResponse, ms: i32) {
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

fn answer(call: &Call, request: &DeleteRecordsRequest, error: Option<i16>) -> DeleteRecordsResponse {
    let mut state = call.shared.lock();
    let mut response = DeleteRecordsResponse::default();
    for topic in &request.topics {
        let mut out = DeleteRecordsTopicResult::default();
        out.name = topic.name.clone();
        for one in &topic.partitions {
            let done = match error {
                Some(error) => Err(error),
                None => delete(call, &mut state, &topic.name, one.partition_index, one.offset),
            };
            let row = DeleteRecordsPartitionResult::default().with_partition_index(one.partition_index);
            out.partitions.push(match done {
                Ok(low) => row.with_low_watermark(low),
                Err(error) => row.with_low_watermark(-1).with_error_code(error),
            });
        }
        response.topics.push(out);
    }
    response
}

fn delete(call: &Call, state: &mut State, topic: &str, index: i32, before: i64) -> Result<i64, i16> {
    let partition = state.partition_mut(topic, index).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
    if partition.leader != Some(call.broker) {
        return Err(code::NOT_LEADER_OR_FOLLOWER);
    }
    let before = if before == -1 { partition.high_watermark } else { before };
    if before < 0 || before > partition.high_watermark {
        return Err(code::OFFSET_OUT_OF_RANGE);
    }
    partition.delete_before(before);
    Ok(partition.log.start)
}
