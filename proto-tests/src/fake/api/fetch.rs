//! Fetch, key 1, versions 4–17 (topics by id from 13), with sessions (KIP-227), followers and near replicas
//! (KIP-392). Leaves out aborted transactions: the last stable offset is the high watermark.

use super::{Api, Call, Reply, broker_id, check_leader_epoch, text, topic_name};
use crate::fake::code;
use crate::fake::partition::Partition;
use crate::fake::sessions::{Session, Told, Wanted, next_epoch};
use crate::fake::state::State;
use bytes::Bytes;
use kafka_protocol::messages::fetch_response::{
    EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse};
use std::time::Duration;
use uuid::Uuid;

impl Api for FetchRequest {
    const PER_PARTITION: bool = true;

    async fn handle(self, call: &Call) -> Reply<FetchResponse> {
        // These are of the session, not of a partition.
        let of_sessions =
            [code::FETCH_SESSION_ID_NOT_FOUND, code::INVALID_FETCH_SESSION_EPOCH, code::FETCH_SESSION_TOPIC_ID_ERROR];
        if let Some(error) = call.refused_with(&of_sessions) {
            return Reply::Answer(FetchResponse::default().with_error_code(error));
        }
        let (session, wanted) = match open_session(call, &self) {
            Ok(opened) => opened,
            Err(error) => return Reply::Answer(FetchResponse::default().with_error_code(error)),
        };
        let min_bytes = usize::try_from(self.min_bytes).unwrap_or(0);
        let max_bytes = usize::try_from(self.max_bytes).unwrap_or(0);
        let wait = Duration::from_millis(u64::try_from(self.max_wait_ms).unwrap_or(0));
        let deadline = tokio::time::sleep(wait);
        tokio::pin!(deadline);
        let rows = loop {
            let changed = call.shared.appended.notified();
            tokio::pin!(changed);
            // From here on no append is missed.
            changed.as_mut().enable();
            let rows = read_all(call, &wanted, &self.rack_id, max_bytes);
            let total: usize = rows.iter().map(|row| row.records.len()).sum();
            if total >= min_bytes || wanted.is_empty() || rows.iter().any(Row::is_urgent) {
                break rows;
            }
            tokio::select! {
                () = &mut deadline => break read_all(call, &wanted, &self.rack_id, max_bytes),
                () = changed => {}
            }
        };
        Reply::Answer(respond(call, session, &wanted, rows))
    }

    fn refuse(&self, call: &Call, error: i16) -> FetchResponse {
        let mut response = FetchResponse::default();
        if call.version >= 7 {
            response.error_code = error;
        }
        for topic in &self.topics {
            let mut answer = FetchableTopicResponse::default();
            answer.topic = topic.topic.clone();
            answer.topic_id = topic.topic_id;
            answer.partitions = topic
                .partitions
                .iter()
                .map(|one| PartitionData::default().with_partition_index(one.partition).with_error_code(error))
                .collect();
            response.responses.push(answer);
        }
        response
    }

    fn set_throttle(response: &mut FetchResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }

    fn touches(&self, state: &State) -> Vec<(String, i32)> {
        let known = state.brokers.values().filter_map(|broker| broker.sessions.by_id.get(&self.session_id));
        let known = known.filter(|_| self.session_epoch > 0).flat_map(|session| session.wanted.clone());
        named(state, self).into_iter().chain(known).map(|wanted| (wanted.topic, wanted.partition)).collect()
    }
}

/// The session that the answer belongs to.
#[derive(Clone, Copy)]
struct SessionRef {
    /// 0: none.
    id: i32,
    incremental: bool,
}

fn named(state: &State, request: &FetchRequest) -> Vec<Wanted> {
    let mut out = Vec::new();
    for topic in &request.topics {
        let name = if topic.topic_id.is_nil() {
            topic.topic.to_string()
        } else {
            state.topic_names.get(&topic.topic_id).cloned().unwrap_or_default()
        };
        out.extend(topic.partitions.iter().map(|one| Wanted {
            topic: name.clone(),
            topic_id: topic.topic_id,
            partition: one.partition,
            current_leader_epoch: one.current_leader_epoch,
            last_fetched_epoch: one.last_fetched_epoch,
            fetch_offset: one.fetch_offset,
            max_bytes: usize::try_from(one.partition_max_bytes).unwrap_or(0),
        }));
    }
    out
}

/// Finds out which partitions are meant. A session epoch of -1 is without session, 0 opens one, others go on.
fn open_session(call: &Call, request: &FetchRequest) -> Result<(SessionRef, Vec<Wanted>), i16> {
    let mut state = call.shared.lock();
    let wanted = named(&state, request);
    let Some(broker) = state.brokers.get_mut(&call.broker) else { return Err(code::NOT_LEADER_OR_FOLLOWER) };
    let sessions = &mut broker.sessions;
    let none = SessionRef { id: 0, incremental: false };
    if call.version < 7 {
        return Ok((none, wanted));
    }
    if request.session_epoch <= 0 {
        sessions.by_id.remove(&request.session_id);
        if request.session_epoch < 0 {
            return Ok((none, wanted));
        }
        let session = Session { next_epoch: 1, wanted: wanted.clone(), ..Session::default() };
        let id = sessions.open(session).unwrap_or(0);
        return Ok((SessionRef { id, incremental: false }, wanted));
    }
    let session = sessions.by_id.get_mut(&request.session_id).ok_or(code::FETCH_SESSION_ID_NOT_FOUND)?;
    if session.next_epoch != request.session_epoch {
        return Err(code::INVALID_FETCH_SESSION_EPOCH);
    }
    session.next_epoch = next_epoch(session.next_epoch);
    for topic in &request.forgotten_topics_data {
        for partition in &topic.partitions {
            session.forget(&topic.topic, topic.topic_id, *partition);
        }
    }
    for one in wanted {
        session.want(one);
    }
    Ok((SessionRef { id: request.session_id, incremental: true }, session.wanted.clone()))
}

#[derive(Default)]
struct Row {
    error: i16,
    high_watermark: i64,
    log_start: i64,
    records: Bytes,
    diverging: Option<(i32, i64)>,
    leader: Option<(Option<i32>, i32)>,
    /// The replica to read from instead.
    preferred: Option<i32>,
}

impl Row {
    fn refused(error: i16) -> Self {
        Self { error, high_watermark: -1, log_start: -1, ..Self::default() }
    }

    /// Answered at once although there are too few bytes.
    fn is_urgent(&self) -> bool {
        self.error != code::NONE || self.diverging.is_some() || self.preferred.is_some()
    }
}

fn read_all(call: &Call, wanted: &[Wanted], rack: &str, max_bytes: usize) -> Vec<Row> {
    let state = call.shared.lock();
    let mut left = max_bytes;
    let mut rows = Vec::with_capacity(wanted.len());
    let mut any = false;
    for one in wanted {
        let row = read_one(call, &state, one, rack, left, any).unwrap_or_else(|row| row);
        any |= !row.records.is_empty();
        left = left.saturating_sub(row.records.len());
        rows.push(row);
    }
    rows
}

fn read_one(call: &Call, state: &State, wanted: &Wanted, rack: &str, left: usize, any: bool) -> Result<Row, Row> {
    if let Some(error) = call.refused(&wanted.topic, wanted.partition) {
        return Err(Row::refused(error));
    }
    if !wanted.topic_id.is_nil() && !state.topic_names.contains_key(&wanted.topic_id) {
        return Err(Row::refused(code::UNKNOWN_TOPIC_ID));
    }
    let partition = state.partition(&wanted.topic, wanted.partition);
    let partition = partition.ok_or_else(|| Row::refused(code::UNKNOWN_TOPIC_OR_PARTITION))?;
    let leader = Some((partition.leader, partition.leader_epoch));
    let leads = partition.leader == Some(call.broker);
    // From version 11 on a reader may turn to any replica.
    if !leads && (call.version < 11 || !partition.replicas.contains(&call.broker)) {
        return Err(Row { leader, ..Row::refused(code::NOT_LEADER_OR_FOLLOWER) });
    }
    check_leader_epoch(wanted.current_leader_epoch, partition.leader_epoch)
        .map_err(|error| Row { leader, ..Row::refused(error) })?;
    let mut row = Row { high_watermark: partition.high_watermark, log_start: partition.log.start, ..Row::default() };
    if leads && call.version >= 11 {
        row.preferred = near_replica(state, partition, rack);
        if row.preferred.is_some() {
            return Ok(row);
        }
    }
    if wanted.last_fetched_epoch >= 0 {
        let (epoch, end) = partition.log.epoch_end(wanted.last_fetched_epoch);
        if epoch != wanted.last_fetched_epoch || end < wanted.fetch_offset {
            row.diverging = Some((epoch, end));
            return Ok(row);
        }
    }
    // Between high watermark and log end nothing is readable, but the offset is not wrong.
    let end = if leads { partition.log.end } else { partition.replicated() };
    if wanted.fetch_offset < partition.log.start || wanted.fetch_offset > end {
        return Err(Row {
            log_start: partition.log.start,
            high_watermark: partition.high_watermark,
            ..Row::refused(code::OFFSET_OUT_OF_RANGE)
        });
    }
    let limit = wanted.max_bytes.min(left);
    // The first batch of the whole answer comes whole, whatever the limits say (KIP-74).
    if !any || limit > 0 {
        let records = partition.log.read(wanted.fetch_offset, partition.high_watermark, limit);
        if !any || records.len() <= limit {
            row.records = records;
        }
    }
    Ok(row)
}

/// The live replica in the reader's rack, if the leader is in another.
fn near_replica(state: &State, partition: &Partition, rack: &str) -> Option<i32> {
    let near = |id: &i32| !rack.is_empty() && state.is_alive(*id) && state.rack(*id) == Some(rack);
    if partition.leader.is_some_and(|leader| near(&leader)) {
        return None;
    }
    partition.isr.iter().copied().find(near)
}

fn respond(call: &Call, session: SessionRef, wanted: &[Wanted], rows: Vec<Row>) -> FetchResponse {
    let mut state = call.shared.lock();
    let mut response = FetchResponse::default();
    response.session_id = session.id;
    let mut leaders: Vec<i32> = Vec::new();
    let served: Vec<_> =
        wanted.iter().zip(&rows).filter(|(_, row)| !row.records.is_empty()).map(|(one, _)| one.key()).collect();
    let sessions = state.brokers.get_mut(&call.broker).map(|broker| &mut broker.sessions);
    if let Some(session) = sessions.and_then(|sessions| sessions.by_id.get_mut(&session.id)) {
        session.serve(&served);
    }
    for (one, row) in wanted.iter().zip(rows) {
        if !worth_telling(&mut state, call.broker, session, one, &row) {
            continue;
        }
        let mut data = PartitionData::default();
        data.partition_index = one.partition;
        data.error_code = row.error;
        data.high_watermark = row.high_watermark;
        data.last_stable_offset = row.high_watermark;
        data.log_start_offset = row.log_start;
        data.records = Some(row.records);
        if let Some((epoch, end)) = row.diverging.filter(|_| call.version >= 12) {
            data.diverging_epoch = EpochEndOffset::default().with_epoch(epoch).with_end_offset(end);
        }
        if let Some(preferred) = row.preferred {
            data.preferred_read_replica = BrokerId(preferred);
        }
        if let Some((leader, epoch)) = row.leader.filter(|_| call.version >= 12) {
            data.current_leader =
                LeaderIdAndEpoch::default().with_leader_id(broker_id(leader)).with_leader_epoch(epoch);
            leaders.extend(leader.filter(|_| call.version >= 16));
        }
        put(&mut response, call.version, &one.topic, one.topic_id, data);
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

/// An incremental answer leaves out partitions of which nothing is new.
fn worth_telling(state: &mut State, broker: i32, session: SessionRef, wanted: &Wanted, row: &Row) -> bool {
    let sessions = state.brokers.get_mut(&broker).map(|broker| &mut broker.sessions);
    let Some(session_state) = sessions.and_then(|sessions| sessions.by_id.get_mut(&session.id)) else { return true };
    let now = Told { high_watermark: row.high_watermark, log_start: row.log_start };
    let before = session_state.told.insert(wanted.key(), now);
    !session.incremental || row.is_urgent() || !row.records.is_empty() || before != Some(now)
}

fn put(response: &mut FetchResponse, version: i16, topic: &str, topic_id: Uuid, data: PartitionData) {
    let same = |answer: &FetchableTopicResponse| {
        if version >= 13 { answer.topic_id == topic_id } else { answer.topic.as_str() == topic }
    };
    match response.responses.last_mut().filter(|answer| same(answer)) {
        Some(answer) => answer.partitions.push(data),
        None => {
            let mut answer = FetchableTopicResponse::default();
            answer.topic = topic_name(topic);
            answer.topic_id = topic_id;
            answer.partitions.push(data);
            response.responses.push(answer);
        }
    }
}
