//! SyncGroup, key 14, versions 0–5.

use super::{Api, Call, Reply, coordinated, text};
use crate::fake::code;
use crate::fake::group::{Answer, Synced};
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

impl Api for SyncGroupRequest {
    async fn handle(self, call: &Call) -> Reply<SyncGroupResponse> {
        let answer = sync(call, &self);
        call.shared.ring();
        let synced = match answer {
            Answer::Now(synced) => synced,
            Answer::Later(later) => later.await.unwrap_or_else(|_| Synced::refused(code::REBALANCE_IN_PROGRESS)),
        };
        Reply::Answer(respond(call, synced))
    }

    fn refuse(&self, call: &Call, error: i16) -> SyncGroupResponse {
        respond(call, Synced::refused(error))
    }

    fn set_throttle(response: &mut SyncGroupResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

fn sync(call: &Call, request: &SyncGroupRequest) -> Answer<Synced> {
    let now_ms = call.shared.clock.now_ms();
    let mut state = call.shared.lock();
    let group = match coordinated(&mut state, call.broker, &request.group_id) {
        Ok(group) => group,
        Err(error) => return Answer::Now(Synced::refused(error)),
    };
    let assignments =
        request.assignments.iter().map(|one| (one.member_id.to_string(), one.assignment.clone())).collect();
    let protocol = (
        request.protocol_type.as_ref().map(|kind| kind.as_str()),
        request.protocol_name.as_ref().map(|name| name.as_str()),
    );
    let instance = request.group_instance_id.as_ref().map(|instance| instance.as_str());
    group.sync(&request.member_id, instance, request.generation_id, protocol, assignments, now_ms)
}

fn respond(call: &Call, synced: Synced) -> SyncGroupResponse {
    let mut response = SyncGroupResponse::default().with_error_code(synced.error).with_assignment(synced.assignment);
    if call.version >= 5 {
        response.protocol_type = synced.protocol_type.map(text);
        response.protocol_name = synced.protocol.map(text);
    }
    response
}
