//! From a frame to its answer: header, faults, the handler of the API key, encoding.

mod api_versions;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_configs;
mod describe_groups;
mod describe_producers;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sasl_authenticate;
mod sasl_handshake;
mod sync_group;
mod versions;

use super::code;
use super::fault::{Fault, FaultAction, Seen};
use super::group::Group;
use super::ledger::RequestSeen;
use super::sasl::Session;
use super::state::{Shared, State};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{self, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use std::sync::Arc;
use std::time::Duration;

/// What the connection does next.
#[derive(Debug)]
pub(crate) enum Outcome {
    Write(Bytes),
    WriteAndClose(Bytes),
    Pieces {
        bytes: Bytes,
        size: usize,
        pause: Duration,
    },
    /// acks=0: no answer, go on.
    Nothing,
    Close,
    /// Never answer again, but keep the connection.
    Hang,
}

/// What a handler says.
pub(crate) enum Reply<R> {
    Answer(R),
    /// acks=0.
    Silent,
    /// acks=0 and an error: closing is the only way to tell.
    Close,
}

/// The request around a handler.
pub(crate) struct Call {
    pub(crate) shared: Arc<Shared>,
    pub(crate) broker: i32,
    pub(crate) version: i16,
    pub(crate) client_id: String,
    pub(crate) session: Arc<Session>,
    /// An injected error, with the filter of its fault.
    refusal: Option<(Fault, i16)>,
}

impl Call {
    /// The injected error, if it is one of these.
    pub(crate) fn refused_with(&self, codes: &[i16]) -> Option<i16> {
        self.refusal.as_ref().map(|(_, code)| *code).filter(|code| codes.contains(code))
    }

    /// The injected error for this partition.
    pub(crate) fn refused(&self, topic: &str, partition: i32) -> Option<i16> {
        self.refusal.as_ref().filter(|(fault, _)| fault.names(topic, partition)).map(|(_, code)| *code)
    }
}

/// One API key.
pub(crate) trait Api: Request + Send {
    /// Whether the handler itself answers injected errors, partition by partition.
    const PER_PARTITION: bool = false;

    fn handle(self, call: &Call) -> impl Future<Output = Reply<Self::Response>> + Send;

    /// An answer with this error wherever the API has room for one.
    fn refuse(&self, call: &Call, code: i16) -> Self::Response;

    fn set_throttle(response: &mut Self::Response, ms: i32);

    /// Topics and partitions that the request names, for the filters of faults.
    fn touches(&self, _state: &State) -> Vec<(String, i32)> {
        Vec::new()
    }

    fn distort(_response: &mut Self::Response, _action: &FaultAction) {}
}

/// Answers one request.
pub(crate) async fn answer(shared: &Arc<Shared>, broker: i32, session: &Arc<Session>, frame: Bytes) -> Outcome {
    let Some((key, version)) = peek(&frame) else { return Outcome::Close };
    let now_ms = shared.clock.now_ms();
    if !session.admits(&mut shared.lock(), broker, key, now_ms) {
        shared.ring();
        return Outcome::Close;
    }
    let outcome = dispatch(shared, broker, session, key, version, frame).await;
    let failed = session.failed(&shared.lock());
    match (outcome, failed) {
        (Outcome::Write(bytes), Some(delay)) => {
            tokio::time::sleep(delay).await;
            Outcome::WriteAndClose(bytes)
        }
        (outcome, _) => outcome,
    }
}

async fn dispatch(
    shared: &Arc<Shared>,
    broker: i32,
    session: &Arc<Session>,
    key: i16,
    version: i16,
    frame: Bytes,
) -> Outcome {
    use messages as m;
    match key {
        0 => serve::<m::ProduceRequest>(shared, broker, session, version, frame).await,
        1 => serve::<m::FetchRequest>(shared, broker, session, version, frame).await,
        2 => serve::<m::ListOffsetsRequest>(shared, broker, session, version, frame).await,
        3 => serve::<m::MetadataRequest>(shared, broker, session, version, frame).await,
        8 => serve::<m::OffsetCommitRequest>(shared, broker, session, version, frame).await,
        9 => serve::<m::OffsetFetchRequest>(shared, broker, session, version, frame).await,
        10 => serve::<m::FindCoordinatorRequest>(shared, broker, session, version, frame).await,
        11 => serve::<m::JoinGroupRequest>(shared, broker, session, version, frame).await,
        12 => serve::<m::HeartbeatRequest>(shared, broker, session, version, frame).await,
        13 => serve::<m::LeaveGroupRequest>(shared, broker, session, version, frame).await,
        14 => serve::<m::SyncGroupRequest>(shared, broker, session, version, frame).await,
        15 => serve::<m::DescribeGroupsRequest>(shared, broker, session, version, frame).await,
        16 => serve::<m::ListGroupsRequest>(shared, broker, session, version, frame).await,
        17 => serve::<m::SaslHandshakeRequest>(shared, broker, session, version, frame).await,
        18 => serve::<m::ApiVersionsRequest>(shared, broker, session, version, frame).await,
        19 => serve::<m::CreateTopicsRequest>(shared, broker, session, version, frame).await,
        20 => serve::<m::DeleteTopicsRequest>(shared, broker, session, version, frame).await,
        21 => serve::<m::DeleteRecordsRequest>(shared, broker, session, version, frame).await,
        22 => serve::<m::InitProducerIdRequest>(shared, broker, session, version, frame).await,
        23 => serve::<m::OffsetForLeaderEpochRequest>(shared, broker, session, version, frame).await,
        32 => serve::<m::DescribeConfigsRequest>(shared, broker, session, version, frame).await,
        36 => serve::<m::SaslAuthenticateRequest>(shared, broker, session, version, frame).await,
        42 => serve::<m::DeleteGroupsRequest>(shared, broker, session, version, frame).await,
        61 => serve::<m::DescribeProducersRequest>(shared, broker, session, version, frame).await,
        68 => serve::<m::ConsumerGroupHeartbeatRequest>(shared, broker, session, version, frame).await,
        69 => serve::<m::ConsumerGroupDescribeRequest>(shared, broker, session, version, frame).await,
        _ => Outcome::Close,
    }
}

fn peek(frame: &[u8]) -> Option<(i16, i16)> {
    let (key, rest) = frame.split_first_chunk::<2>()?;
    let version = rest.first_chunk::<2>()?;
    Some((i16::from_be_bytes(*key), i16::from_be_bytes(*version)))
}

async fn serve<R: Api>(
    shared: &Arc<Shared>,
    broker: i32,
    session: &Arc<Session>,
    version: i16,
    mut frame: Bytes,
) -> Outcome {
    let Ok(header) = RequestHeader::decode(&mut frame, R::header_version(version)) else { return Outcome::Close };
    let client_id = header.client_id.as_ref().map(|id| id.to_string()).unwrap_or_default();
    if !versions::offers(&shared.lock(), R::KEY, version) {
        // KIP-511: only ApiVersions is answered in a version that the client did not ask for.
        return match R::KEY {
            18 => Outcome::Write(api_versions::unsupported(shared, header.correlation_id)),
            _ => Outcome::Close,
        };
    }
    let Ok(request) = R::decode(&mut frame, version) else { return Outcome::Close };
    let Some(fault) = register(shared, broker, version, &client_id, &request) else { return Outcome::Close };
    let mut call =
        Call { shared: Arc::clone(shared), broker, version, client_id, session: Arc::clone(session), refusal: None };
    let mut response = match before(&mut call, &request, fault.as_ref()).await {
        Before::Done(outcome) => return outcome,
        Before::Answer(response) => response,
        Before::Apply => {
            let late = match fault.as_ref().map(|fault| &fault.action) {
                Some(FaultAction::ErrorAfterApply(code)) => Some(request.refuse(&call, *code)),
                _ => None,
            };
            match (request.handle(&call).await, late) {
                (Reply::Silent, _) => return Outcome::Nothing,
                (Reply::Close, _) => return Outcome::Close,
                (Reply::Answer(_), Some(late)) => late,
                (Reply::Answer(response), None) => response,
            }
        }
    };
    if !shared.lock().is_alive(broker) {
        return Outcome::Close;
    }
    let Some(fault) = fault else {
        return encode(&response, version, header.correlation_id).map_or(Outcome::Close, Outcome::Write);
    };
    after::<R>(fault.action, &mut response, version, header.correlation_id).await
}

/// Notes the request and finds the fault that strikes it. `None`: the broker is dead.
fn register<R: Api>(
    shared: &Arc<Shared>,
    broker: i32,
    version: i16,
    client_id: &str,
    request: &R,
) -> Option<Option<Fault>> {
    let mut state = shared.lock();
    if !state.is_alive(broker) {
        return None;
    }
    let at_ms = u64::try_from(shared.clock.now_ms() - state.started_ms).unwrap_or(0);
    state.log_request(RequestSeen {
        api_key: R::KEY,
        version,
        broker,
        client_id: client_id.to_owned(),
        at: Duration::from_millis(at_ms),
    });
    let fault = if state.faults.is_empty() {
        None
    } else {
        let touched = request.touches(&state);
        state.faults.strike(&Seen { broker, api_key: R::KEY, client_id }, &touched)
    };
    drop(state);
    shared.ring();
    Some(fault)
}

enum Before<R> {
    Done(Outcome),
    Answer(R),
    Apply,
}

/// The part of a fault that comes before the request has its effect.
async fn before<R: Api>(call: &mut Call, request: &R, fault: Option<&Fault>) -> Before<R::Response> {
    let Some(fault) = fault else { return Before::Apply };
    match &fault.action {
        FaultAction::DropBeforeApply => Before::Done(Outcome::Close),
        FaultAction::NoAnswerBefore => Before::Done(Outcome::Hang),
        FaultAction::RawBytes(bytes) => Before::Done(Outcome::Write(bytes.clone())),
        FaultAction::Delay(time) => {
            tokio::time::sleep(*time).await;
            Before::Apply
        }
        FaultAction::Error(code) if R::PER_PARTITION => {
            call.refusal = Some((fault.clone(), *code));
            Before::Apply
        }
        FaultAction::Error(code) => Before::Answer(request.refuse(call, *code)),
        _ => Before::Apply,
    }
}

/// The part of a fault that comes after it.
async fn after<R: Api>(action: FaultAction, response: &mut R::Response, version: i16, correlation: i32) -> Outcome {
    let mut correlation = correlation;
    match &action {
        FaultAction::DropAfterApply => return Outcome::Close,
        FaultAction::NoAnswerAfter => return Outcome::Hang,
        FaultAction::SwallowAnswer => return Outcome::Nothing,
        FaultAction::DelayAnswer(time) => tokio::time::sleep(*time).await,
        FaultAction::Throttle(ms) => R::set_throttle(response, *ms),
        FaultAction::WrongCorrelationId => correlation = correlation.wrapping_add(1),
        FaultAction::DuplicatePartition | FaultAction::MissingPartition => R::distort(response, &action),
        _ => {}
    }
    let Some(bytes) = encode(response, version, correlation) else { return Outcome::Close };
    match action {
        FaultAction::HalfFrame => {
            let half = bytes.len() / 2;
            Outcome::WriteAndClose(bytes.slice(..half))
        }
        FaultAction::SlowBytes(size, pause) => Outcome::Pieces { bytes, size, pause },
        FaultAction::SplitEvery(size) => Outcome::Pieces { bytes, size, pause: Duration::ZERO },
        _ => Outcome::Write(bytes),
    }
}

fn encode<R: Encodable + HeaderVersion>(response: &R, version: i16, correlation: i32) -> Option<Bytes> {
    let mut out = BytesMut::with_capacity(256);
    out.extend_from_slice(&[0; 4]);
    let header = ResponseHeader::default().with_correlation_id(correlation);
    header.encode(&mut out, R::header_version(version)).ok()?;
    response.encode(&mut out, version).ok()?;
    let len = i32::try_from(out.len() - 4).ok()?;
    out[..4].copy_from_slice(&len.to_be_bytes());
    Some(out.freeze())
}

// --- shared by the handlers ---

fn text(value: impl Into<String>) -> StrBytes {
    StrBytes::from_string(value.into())
}

fn topic_name(name: &str) -> messages::TopicName {
    messages::TopicName(text(name))
}

/// A broker id, or -1 for none.
fn broker_id(id: Option<i32>) -> messages::BrokerId {
    messages::BrokerId(id.unwrap_or(-1))
}

/// The group, if this broker coordinates it; a new one is made on the way.
fn coordinated<'a>(state: &'a mut State, broker: i32, group: &str) -> Result<&'a mut Group, i16> {
    if group.is_empty() {
        return Err(code::INVALID_GROUP_ID);
    }
    match state.coordinator(group) {
        None => return Err(code::COORDINATOR_NOT_AVAILABLE),
        Some(coordinator) if coordinator != broker => return Err(code::NOT_COORDINATOR),
        Some(_) => {}
    }
    let delay = i64::try_from(state.settings.initial_rebalance_delay.as_millis()).unwrap_or(i64::MAX);
    Ok(state.groups.entry(group.to_owned()).or_insert_with(|| Group::new(delay)))
}

/// KIP-320: a client that knows another leader epoch than ours has old metadata, or we have.
fn check_leader_epoch(known: i32, ours: i32) -> Result<(), i16> {
    match known {
        -1 => Ok(()),
        known if known < ours => Err(code::FENCED_LEADER_EPOCH),
        known if known > ours => Err(code::UNKNOWN_LEADER_EPOCH),
        _ => Ok(()),
    }
}

/// Names that Kafka allows for topics.
fn valid_topic_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 249 && name != "." && name != ".." && name.chars().all(legal)
}
