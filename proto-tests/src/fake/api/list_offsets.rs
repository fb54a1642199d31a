//! ListOffsets, key 2, versions 1–10: earliest (-2), latest (-1), largest timestamp (-3), earliest local (-4), or by
//! timestamp. By timestamp it answers the first record in the first batch that reaches it.

use super::{Api, Call, Reply, check_leader_epoch};
use crate::fake::code;
use crate::fake::decode_batch;
use crate::fake::partition::Partition;
use crate::fake::state::State;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

impl Api for ListOffsetsRequest {
    async fn handle(self, call: &Call) -> Reply<ListOffsetsResponse> {
        Reply::Answer(answer(call, &self, None))
    }

    fn refuse(&self, call: &Call, error: i16) -> ListOffsetsResponse {
        answer(call, self, Some(error))
    }

    fn set_throttle(response: &mut ListOffsetsResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }

    fn touches(&self, _: &State) -> Vec<(String, i32)> {
        let named = |topic: &kafka_protocol::messages::list_offsets_request::ListOffsetsTopic| {
            let name = topic.name.to_string();
            topic.partitions.iter().map(move |one| (name.clone(), one.partition_index)).collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(named).collect()
    }
}

fn answer(call: &Call, request: &ListOffsetsRequest, error: Option<i16>) -> ListOffsetsResponse {
    let state = call.shared.lock();
    let mut response = ListOffsetsResponse::default();
    for topic in &request.topics {
        let mut out = ListOffsetsTopicResponse::default();
        out.name = topic.name.clone();
        for one in &topic.partitions {
            let found = match error {
                Some(error) => Err(error),
                None => find(
                    call,
                    state.partition(&topic.name, one.partition_index),
                    one.current_leader_epoch,
                    one.timestamp,
                ),
            };
            let mut row = ListOffsetsPartitionResponse::default();
            row.partition_index = one.partition_index;
            match found {
                Err(error) => {
                    row.error_code = error;
                    row.offset = -1;
                    row.timestamp = -1;
                }
                Ok((offset, timestamp, epoch)) => {
                    row.offset = offset;
                    row.timestamp = timestamp;
                    if call.version >= 4 {
                        row.leader_epoch = epoch;
                    }
                }
            }
            out.partitions.push(row);
        }
        response.topics.push(out);
    }
    response
}

/// (offset, timestamp, leader epoch)
fn find(call: &Call, partition: Option<&Partition>, epoch: i32, timestamp: i64) -> Result<(i64, i64, i32), i16> {
    let partition = partition.ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
    if partition.leader != Some(call.broker) {
        return Err(code::NOT_LEADER_OR_FOLLOWER);
    }
    check_leader_epoch(epoch, partition.leader_epoch)?;
    let log = &partition.log;
    let readable = || log.batches().filter(|batch| batch.last_offset < partition.high_watermark);
    let none = (-1, -1, -1);
    Ok(match timestamp {
        -1 => (partition.high_watermark, -1, partition.leader_epoch),
        -2 | -4 => (log.start, -1, log.epoch_of(log.start)),
        -3 => {
            // The earliest of the records with the largest timestamp.
            let largest = readable().map(|batch| batch.max_timestamp).max();
            let batch = largest.and_then(|largest| readable().find(|batch| batch.max_timestamp == largest));
            let records = batch.map(|batch| decode_batch(&batch.bytes).unwrap_or_default()).unwrap_or_default();
            let record = records.into_iter().find(|record| Some(record.timestamp) == largest);
            record.map_or(none, |record| (record.offset, record.timestamp, log.epoch_of(record.offset)))
        }
        wanted => readable()
            .filter(|batch| batch.max_timestamp >= wanted)
            .find_map(|batch| {
                let records = decode_batch(&batch.bytes).unwrap_or_default();
                let hit = |record: &crate::fake::Record| record.timestamp >= wanted && record.offset >= log.start;
                records.into_iter().find(hit).map(|record| (record.offset, record.timestamp, batch.leader_epoch))
            })
            .unwrap_or(none),
    })
}
