//! JoinGroup, key 11, versions 0–9: the classic group protocol with static members. Session timeouts up to 30 minutes are
//! accepted, and there is no lower limit, so that tests are quick.

use super::{Api, Call, Reply, coordinated, text};
use crate::fake::code;
use crate::fake::group::{Answer, JoinAsk, Joined};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};

const MAX_SESSION_MS: i32 = 1_800_000;

impl Api for JoinGroupRequest {
    async fn handle(self, call: &Call) -> Reply<JoinGroupResponse> {
        let answer = join(call, &self);
        call.shared.ring();
        let joined = match answer {
            Answer::Now(joined) => joined,
            Answer::Later(later) => match later.await {
                Ok(joined) => joined,
                // The same member asked again on another connection.
                Err(_) => Joined::refused(code::REBALANCE_IN_PROGRESS, &self.member_id),
            },
        };
        call.shared.ring();
        Reply::Answer(respond(call, joined))
    }

    fn refuse(&self, call: &Call, error: i16) -> JoinGroupResponse {
        respond(call, Joined::refused(error, &self.member_id))
    }

    fn set_throttle(response: &mut JoinGroupResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

fn join(call: &Call, request: &JoinGroupRequest) -> Answer<Joined> {
    let refused = |error| Answer::Now(Joined::refused(error, &request.member_id));
    if !(1..=MAX_SESSION_MS).contains(&request.session_timeout_ms) {
        return refused(code::INVALID_SESSION_TIMEOUT);
    }
    let now_ms = call.shared.clock.now_ms();
    let mut state = call.shared.lock();
    // A real broker takes classic members into such a group.
    if state.next_groups.get(request.group_id.as_str()).is_some_and(|group| !group.is_empty()) {
        return refused(code::INCONSISTENT_GROUP_PROTOCOL);
    }
    let prefix = request.group_instance_id.as_ref().map_or(call.client_id.as_str(), |instance| instance.as_str());
    let new_member_id = state.new_member_id(if prefix.is_empty() { "member" } else { prefix });
    let group = match coordinated(&mut state, call.broker, &request.group_id) {
        Ok(group) => group,
        Err(error) => return refused(error),
    };
    let session_timeout_ms = i64::from(request.session_timeout_ms);
    let ask = JoinAsk {
        member_id: request.member_id.to_string(),
        new_member_id,
        client_id: call.client_id.clone(),
        instance: request.group_instance_id.as_ref().map(|instance| instance.to_string()),
        session_timeout_ms,
        // Version 0 has only the session timeout.
        rebalance_timeout_ms: if call.version == 0 {
            session_timeout_ms
        } else {
            i64::from(request.rebalance_timeout_ms)
        },
        protocol_type: request.protocol_type.to_string(),
        protocols: request.protocols.iter().map(|one| (one.name.to_string(), one.metadata.clone())).collect(),
        needs_known_id: call.version >= 4,
        can_skip_assignment: call.version >= 9,
    };
    group.join(ask, now_ms)
}

fn respond(call: &Call, joined: Joined) -> JoinGroupResponse {
    let mut response = JoinGroupResponse::default();
    response.error_code = joined.error;
    response.generation_id = joined.generation;
    // Null is allowed from version 7 on.
    response.protocol_name = match joined.protocol {
        None if call.version < 7 => Some(text("")),
        other => other.map(text),
    };
    if call.version >= 7 {
        response.protocol_type = joined.protocol_type.map(text);
    }
    if call.version >= 9 {
        response.skip_assignment = joined.skip_assignment;
    }
    response.leader = text(joined.leader);
    response.member_id = text(joined.member_id);
    for (id, instance, metadata) in joined.members {
        let mut member = JoinGroupResponseMember::default();
        member.member_id = text(id);
        if call.version >= 5 {
            member.group_instance_id = instance.map(text);
        }
        member.metadata = metadata;
        response.members.push(member);
    }
    response
}
