//! Produce, key 0, versions 3–13 (13 names topics by id). Leaves out transactions: a transactional batch gets
//! INVALID_TXN_STATE. The largest timestamp of a batch is looked at instead of that of each record.

use super::{Api, Call, Reply, broker_id, text};
use crate::fake::batch::{self, BatchHeader};
use crate::fake::code;
use crate::fake::fault::FaultAction;
use crate::fake::partition::{AppendRules, Appended};
use crate::fake::state::{State, Topic, TopicConfig};
use bytes::Bytes;
use kafka_protocol::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{BrokerId, ProduceRequest, ProduceResponse};
use std::time::Duration;
use uuid::Uuid;

/// `message.timestamp.after.max.ms` of a real broker: so far may a record lie in the future.
const MAX_AHEAD_MS: i64 = 3_600_000;
/// acks=all.
const ALL: i16 = -1;

impl Api for ProduceRequest {
    const PER_PARTITION: bool = true;

    async fn handle(self, call: &Call) -> Reply<ProduceResponse> {
        let mut rows = append_all(call, &self);
        if self.acks == ALL {
            let wait = Duration::from_millis(u64::try_from(self.timeout_ms).unwrap_or(0));
            let _ = tokio::time::timeout(wait, replicated(call, &mut rows)).await;
            for row in rows.iter_mut().filter(|row| row.waits) {
                row.error = code::REQUEST_TIMED_OUT;
            }
        }
        if self.acks == 0 {
            let failed = rows.iter().any(|row| row.error != code::NONE);
            return if failed { Reply::Close } else { Reply::Silent };
        }
        Reply::Answer(respond(call, &self, &rows))
    }

    fn refuse(&self, call: &Call, error: i16) -> ProduceResponse {
        let rows: Vec<_> = {
            let state = call.shared.lock();
            names(&state, self).into_iter().map(|(topic, partition)| Row::refused(topic, partition, error)).collect()
        };
        respond(call, self, &rows)
    }

    fn set_throttle(response: &mut ProduceResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }

    fn touches(&self, state: &State) -> Vec<(String, i32)> {
        names(state, self)
    }

    fn distort(response: &mut ProduceResponse, action: &FaultAction) {
        for topic in &mut response.responses {
            match action {
                FaultAction::DuplicatePartition => {
                    // They contradict each other, so that believing either one shows.
                    if let Some(mut wrong) = topic.partition_responses.first().cloned() {
                        wrong.base_offset += 1000;
                        topic.partition_responses.insert(0, wrong.clone());
                        topic.partition_responses.push(wrong);
                    }
                }
                _ if !topic.partition_responses.is_empty() => drop(topic.partition_responses.remove(0)),
                _ => {}
            }
        }
    }
}

/// The outcome for one partition, in the order of the request.
struct Row {
    topic: String,
    partition: i32,
    error: i16,
    appended: Option<Appended>,
    log_start: i64,
    /// The topic and leader epoch under which it was appended.
    identity: (Uuid, i32),
    /// Appended, and not yet replicated.
    waits: bool,
}

impl Row {
    fn refused(topic: String, partition: i32, error: i16) -> Self {
        Self { topic, partition, error, appended: None, log_start: -1, identity: (Uuid::nil(), -1), waits: false }
    }
}

fn names(state: &State, request: &ProduceRequest) -> Vec<(String, i32)> {
    let mut out = Vec::new();
    for topic in &request.topic_data {
        let name = if topic.topic_id.is_nil() {
            topic.name.to_string()
        } else {
            state.topic_names.get(&topic.topic_id).cloned().unwrap_or_default()
        };
        out.extend(topic.partition_data.iter().map(|partition| (name.clone(), partition.index)));
    }
    out
}

fn append_all(call: &Call, request: &ProduceRequest) -> Vec<Row> {
    let now_ms = call.shared.clock.now_ms();
    let mut state = call.shared.lock();
    let names = names(&state, request);
    let batches = request.topic_data.iter().flat_map(|topic| topic.partition_data.iter().map(|p| p.records.as_ref()));
    let rows = names
        .into_iter()
        .zip(batches)
        .map(|((topic, partition), records)| {
            let by_id = call.version >= 13;
            let result = append_one(call, &mut state, (&topic, partition, by_id), records, request.acks, now_ms);
            match result {
                Err(error) => Row::refused(topic, partition, error),
                Ok((appended, log_start, identity)) => Row {
                    topic,
                    partition,
                    error: code::NONE,
                    appended: Some(appended),
                    log_start,
                    identity,
                    waits: request.acks == ALL,
                },
            }
        })
        .collect();
    drop(state);
    call.shared.ring();
    rows
}

type Success = (Appended, i64, (Uuid, i32));

fn append_one(
    call: &Call,
    state: &mut State,
    place: (&str, i32, bool),
    records: Option<&Bytes>,
    acks: i16,
    now_ms: i64,
) -> Result<Success, i16> {
    let (name, index, by_id) = place;
    if let Some(error) = call.refused(name, index) {
        return Err(error);
    }
    if !(-1..=1).contains(&acks) {
        return Err(code::INVALID_REQUIRED_ACKS);
    }
    let Some(topic) = state.topics.get_mut(name) else {
        return Err(if by_id { code::UNKNOWN_TOPIC_ID } else { code::UNKNOWN_TOPIC_OR_PARTITION });
    };
    let Topic { id, config, partitions, .. } = topic;
    let partition = usize::try_from(index).ok().and_then(|index| partitions.get_mut(index));
    let partition = partition.ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
    // What a broker checks before it looks at the partition.
    let records = records.filter(|records| !records.is_empty()).ok_or(code::INVALID_RECORD)?;
    let header = BatchHeader::read(records).ok_or(code::CORRUPT_MESSAGE)?;
    if header.magic != 2 {
        return Err(code::INVALID_RECORD);
    }
    if header.codec() == 4 && call.version < 7 {
        return Err(code::UNSUPPORTED_COMPRESSION_TYPE);
    }
    if records.len() > header.total_len {
        // From v3 on: exactly one batch.
        return Err(code::INVALID_RECORD);
    }
    if partition.leader != Some(call.broker) {
        return Err(code::NOT_LEADER_OR_FOLLOWER);
    }
    if acks == ALL && partition.isr.len() < partition.min_insync() {
        return Err(code::NOT_ENOUGH_REPLICAS);
    }
    validate(records, &header, config, now_ms)?;
    let rules = AppendRules { log_append_time: config.log_append_time, now_ms };
    let appended = partition.append(records, &header, rules)?;
    Ok((appended, partition.log.start, (*id, partition.leader_epoch)))
}

/// What the log checks before it looks at sequences.
fn validate(records: &[u8], header: &BatchHeader, config: &TopicConfig, now_ms: i64) -> Result<(), i16> {
    if records.len() < header.total_len {
        return Err(code::CORRUPT_MESSAGE);
    }
    if records.len() > config.max_message_bytes {
        return Err(code::MESSAGE_TOO_LARGE);
    }
    if !batch::crc_matches(records, header) {
        return Err(code::CORRUPT_MESSAGE);
    }
    let counted = header.last_offset_delta.checked_add(1) == Some(header.record_count);
    let sequenced = header.producer_id < 0 || (header.base_sequence >= 0 && header.producer_epoch >= 0);
    if header.base_offset != 0 || header.record_count <= 0 || !counted || !sequenced || header.is_control() {
        return Err(code::INVALID_RECORD);
    }
    if header.is_transactional() {
        return Err(code::INVALID_TXN_STATE);
    }
    if header.codec() > 4 {
        return Err(code::UNSUPPORTED_COMPRESSION_TYPE);
    }
    if !config.log_append_time && header.max_timestamp > now_ms.saturating_add(MAX_AHEAD_MS) {
        return Err(code::INVALID_TIMESTAMP);
    }
    if config.compacted && !all_have_keys(records) {
        return Err(code::INVALID_RECORD);
    }
    Ok(())
}

fn all_have_keys(records: &[u8]) -> bool {
    let batch = Bytes::copy_from_slice(records);
    crate::fake::decode_batch(&batch).is_ok_and(|records| records.iter().all(|record| record.key.is_some()))
}

/// Waits until all rows are decided.
async fn replicated(call: &Call, rows: &mut [Row]) {
    loop {
        let changed = call.shared.appended.notified();
        tokio::pin!(changed);
        // From here on no change is missed.
        changed.as_mut().enable();
        {
            let state = call.shared.lock();
            for row in rows.iter_mut().filter(|row| row.waits) {
                if let Some(error) = settled(&state, row) {
                    row.error = error;
                    row.waits = false;
                }
            }
        }
        if rows.iter().all(|row| !row.waits) {
            return;
        }
        changed.await;
    }
}

/// The error code for acks=all, once it is known.
fn settled(state: &State, row: &Row) -> Option<i16> {
    let topic = state.topics.get(&row.topic).filter(|topic| topic.id == row.identity.0);
    let Some(partition) = topic.and_then(|topic| topic.partitions.get(usize::try_from(row.partition).ok()?)) else {
        return Some(code::UNKNOWN_TOPIC_OR_PARTITION);
    };
    if partition.leader_epoch != row.identity.1 {
        return Some(code::NOT_LEADER_OR_FOLLOWER);
    }
    let required = row.appended.map_or(0, |appended| appended.required);
    if partition.high_watermark < required {
        return None;
    }
    if partition.isr.len() < partition.min_insync() {
        return Some(code::NOT_ENOUGH_REPLICAS_AFTER_APPEND);
    }
    Some(code::NONE)
}

fn respond(call: &Call, request: &ProduceRequest, rows: &[Row]) -> ProduceResponse {
    let state = call.shared.lock();
    let mut response = ProduceResponse::default();
    let mut leaders: Vec<i32> = Vec::new();
    let mut rows = rows.iter();
    for topic in &request.topic_data {
        let mut answer = TopicProduceResponse::default();
        answer.name = topic.name.clone();
        answer.topic_id = topic.topic_id;
        for row in rows.by_ref().take(topic.partition_data.len()) {
            let mut one = PartitionProduceResponse::default();
            one.index = row.partition;
            one.error_code = row.error;
            one.base_offset = row.appended.map_or(-1, |appended| appended.base_offset);
            one.log_append_time_ms = row.appended.map_or(-1, |appended| appended.log_append_time);
            one.log_start_offset = row.log_start;
            if call.version >= 8 && row.error == code::INVALID_RECORD {
                one.error_message = Some(text("the batch breaks a rule of the log"));
            }
            let moved = row.error == code::NOT_LEADER_OR_FOLLOWER || row.error == code::FENCED_LEADER_EPOCH;
            // KIP-951: who leads now, so that the client need not ask.
            if let Some(partition) = state.partition(&row.topic, row.partition).filter(|_| moved && call.version >= 10)
            {
                one.current_leader = LeaderIdAndEpoch::default()
                    .with_leader_id(broker_id(partition.leader))
                    .with_leader_epoch(partition.leader_epoch);
                leaders.extend(partition.leader);
            }
            answer.partition_responses.push(one);
        }
        response.responses.push(answer);
    }
    leaders.sort_unstable();
    leaders.dedup();
    for id in leaders {
        if let Some(broker) = state.brokers.get(&id) {
            response.node_endpoints.push(
                NodeEndpoint::default()
                    .with_node_id(BrokerId(id))
                    .with_host(text(state.host(id)))
                    .with_port(i32::from(broker.address.port())),
            );
        }
    }
    response
}
