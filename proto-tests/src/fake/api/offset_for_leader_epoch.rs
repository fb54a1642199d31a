//! OffsetForLeaderEpoch, key 23, versions 2–4: where an epoch ended, to find out what an unclean election has cut off.

use super::{Api, Call, Reply, check_leader_epoch};
use crate::fake::code;
use crate::fake::state::State;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

impl Api for OffsetForLeaderEpochRequest {
    async fn handle(self, call: &Call) -> Reply<OffsetForLeaderEpochResponse> {
        Reply::Answer(answer(call, &self, None))
    }

    fn refuse(&self, call: &Call, error: i16) -> OffsetForLeaderEpochResponse {
        answer(call, self, Some(error))
    }

    fn set_throttle(response: &mut OffsetForLeaderEpochResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }

    fn touches(&self, _: &State) -> Vec<(String, i32)> {
        let mut out = Vec::new();
        for topic in &self.topics {
            out.extend(topic.partitions.iter().map(|one| (topic.topic.to_string(), one.partition)));
        }
        out
    }
}

fn answer(call: &Call, request: &OffsetForLeaderEpochRequest, error: Option<i16>) -> OffsetForLeaderEpochResponse {
    let state = call.shared.lock();
    let mut response = OffsetForLeaderEpochResponse::default();
    for topic in &request.topics {
        let mut out = OffsetForLeaderTopicResult::default();
        out.topic = topic.topic.clone();
        for one in &topic.partitions {
            let found = match error {
                Some(error) => Err(error),
                None => find(call, &state, &topic.topic, one.partition, (one.current_leader_epoch, one.leader_epoch)),
            };
            let row = EpochEndOffset::default().with_partition(one.partition);
            out.partitions.push(match found {
                Ok((epoch, end)) => row.with_leader_epoch(epoch).with_end_offset(end),
                Err(error) => row.with_error_code(error).with_leader_epoch(-1).with_end_offset(-1),
            });
        }
        response.topics.push(out);
    }
    response
}

fn find(call: &Call, state: &State, topic: &str, index: i32, epochs: (i32, i32)) -> Result<(i32, i64), i16> {
    let (current, asked) = epochs;
    let partition = state.partition(topic, index).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
    if partition.leader != Some(call.broker) {
        return Err(code::NOT_LEADER_OR_FOLLOWER);
    }
    check_leader_epoch(current, partition.leader_epoch)?;
    // An epoch that the leader does not know yet has no end.
    if asked > partition.leader_epoch {
        return Ok((-1, -1));
    }
    // The epoch of now ends where the log ends, also before its first record.
    if asked == partition.leader_epoch {
        return Ok((asked, partition.log.end));
    }
    Ok(partition.log.epoch_end(asked))
}
