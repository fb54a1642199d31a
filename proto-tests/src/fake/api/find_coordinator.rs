//! FindCoordinator, key 10, versions 0–5 (several keys from 4). Groups and transactional ids have the same coordinator: a
//! hash over the live brokers, so that it moves when one is killed.

use super::{Api, Call, Reply, broker_id, text};
use crate::fake::code;
use crate::fake::state::State;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};

impl Api for FindCoordinatorRequest {
    async fn handle(self, call: &Call) -> Reply<FindCoordinatorResponse> {
        Reply::Answer(answer(call, &self, None))
    }

    fn refuse(&self, call: &Call, error: i16) -> FindCoordinatorResponse {
        answer(call, self, Some(error))
    }

    fn set_throttle(response: &mut FindCoordinatorResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

fn answer(call: &Call, request: &FindCoordinatorRequest, error: Option<i16>) -> FindCoordinatorResponse {
    let state = call.shared.lock();
    let mut response = FindCoordinatorResponse::default();
    if call.version >= 4 {
        for key in &request.coordinator_keys {
            response.coordinators.push(match error.map_or_else(|| find(&state, key), Err) {
                Ok((id, host, port)) => Coordinator::default()
                    .with_key(key.clone())
                    .with_node_id(broker_id(Some(id)))
                    .with_host(text(host))
                    .with_port(port),
                Err(error) => Coordinator::default()
                    .with_key(key.clone())
                    .with_node_id(broker_id(None))
                    .with_port(-1)
                    .with_error_code(error),
            });
        }
        return response;
    }
    match error.map_or_else(|| find(&state, &request.key), Err) {
        Ok((id, host, port)) => response.with_node_id(broker_id(Some(id))).with_host(text(host)).with_port(port),
        Err(error) => response.with_error_code(error).with_node_id(broker_id(None)).with_port(-1),
    }
}

fn find(state: &State, key: &str) -> Result<(i32, String, i32), i16> {
    let id = state.coordinator(key).ok_or(code::COORDINATOR_NOT_AVAILABLE)?;
    let address = state.brokers.get(&id).ok_or(code::COORDINATOR_NOT_AVAILABLE)?.address;
    Ok((id, state.host(id), i32::from(address.port())))
}
