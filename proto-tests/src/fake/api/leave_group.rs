//! LeaveGroup, key 13, versions 0–5 (several members from 3).

use super::{Api, Call, Reply, coordinated};
use crate::fake::code;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

impl Api for LeaveGroupRequest {
    async fn handle(self, call: &Call) -> Reply<LeaveGroupResponse> {
        let response = leave(call, &self);
        call.shared.ring();
        Reply::Answer(response)
    }

    fn refuse(&self, _: &Call, error: i16) -> LeaveGroupResponse {
        LeaveGroupResponse::default().with_error_code(error)
    }

    fn set_throttle(response: &mut LeaveGroupResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

fn leave(call: &Call, request: &LeaveGroupRequest) -> LeaveGroupResponse {
    let now_ms = call.shared.clock.now_ms();
    let mut state = call.shared.lock();
    let group = match coordinated(&mut state, call.broker, &request.group_id) {
        Ok(group) => group,
        Err(error) => return LeaveGroupResponse::default().with_error_code(error),
    };
    if call.version < 3 {
        let error = group.leave(&request.member_id, None, now_ms);
        return LeaveGroupResponse::default().with_error_code(error);
    }
    let mut response = LeaveGroupResponse::default().with_error_code(code::NONE);
    for member in &request.members {
        let instance = member.group_instance_id.as_ref().map(|instance| instance.as_str());
        let mut row = MemberResponse::default();
        row.member_id = member.member_id.clone();
        row.group_instance_id = member.group_instance_id.clone();
        row.error_code = group.leave(&member.member_id, instance, now_ms);
        response.members.push(row);
    }
    response
}
