//! DeleteGroups, key 42, versions 0–2.

use super::{Api, Call, Reply, coordinated};
use crate::fake::code;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse, GroupId};

impl Api for DeleteGroupsRequest {
    async fn handle(self, call: &Call) -> Reply<DeleteGroupsResponse> {
        let answer = rows(&self, |id| delete(call, id));
        call.shared.ring();
        Reply::Answer(answer)
    }

    fn refuse(&self, _: &Call, error: i16) -> DeleteGroupsResponse {
        rows(self, |_| error)
    }

    fn set_throttle(response: &mut DeleteGroupsResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

fn rows(request: &DeleteGroupsRequest, error: impl Fn(&GroupId) -> i16) -> DeleteGroupsResponse {
    let row = |id: &GroupId| DeletableGroupResult::default().with_group_id(id.clone()).with_error_code(error(id));
    DeleteGroupsResponse::default().with_results(request.groups_names.iter().map(row).collect())
}

fn delete(call: &Call, id: &GroupId) -> i16 {
    let mut state = call.shared.lock();
    let next = state.next_group(id).map(|group| group.is_empty());
    match coordinated(&mut state, call.broker, id) {
        Err(error) => error,
        Ok(group) if next.is_none() && !group.exists() => code::GROUP_ID_NOT_FOUND,
        Ok(group) if next == Some(false) || group.has_classic_members() => code::NON_EMPTY_GROUP,
        Ok(_) => {
            state.groups.remove(id.as_str());
            state.next_groups.remove(id.as_str());
            code::NONE
        }
    }
}
