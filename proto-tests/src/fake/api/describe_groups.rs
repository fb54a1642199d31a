//! DescribeGroups, key 15, versions 0–6. Groups of KIP-848's protocol do not exist here. Assignments are told of stable groups only. Authorized operations are left out.

use super::{Api, Call, Reply, coordinated, text};
use crate::fake::code;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};

impl Api for DescribeGroupsRequest {
    async fn handle(self, call: &Call) -> Reply<DescribeGroupsResponse> {
        Reply::Answer(
            DescribeGroupsResponse::default().with_groups(self.groups.iter().map(|id| row(call, id)).collect()),
        )
    }

    fn refuse(&self, _: &Call, error: i16) -> DescribeGroupsResponse {
        let row = |id: &GroupId| DescribedGroup::default().with_group_id(id.clone()).with_error_code(error);
        DescribeGroupsResponse::default().with_groups(self.groups.iter().map(row).collect())
    }

    fn set_throttle(response: &mut DescribeGroupsResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

fn row(call: &Call, id: &GroupId) -> DescribedGroup {
    let mut row = DescribedGroup::default().with_group_id(id.clone());
    let mut state = call.shared.lock();
    let is_next = state.next_group(id).is_some();
    let group = match coordinated(&mut state, call.broker, id) {
        Ok(group) => group,
        Err(error) => return row.with_error_code(error),
    };
    if is_next || !group.exists() {
        row.group_state = text("Dead");
        if call.version >= 6 {
            // KIP-1043
            row.error_code = code::GROUP_ID_NOT_FOUND;
            row.error_message = Some(text(format!("Group {} not found.", id.as_str())));
        }
        return row;
    }
    row.group_state = text(group.phase.name());
    row.protocol_type = text(group.protocol_type());
    row.protocol_data = text(group.settled_protocol());
    for told in group.tell_members() {
        let mut member = DescribedGroupMember::default();
        member.member_id = text(told.id);
        if call.version >= 4 {
            member.group_instance_id = told.instance.map(text);
        }
        member.client_id = text(told.client_id);
        member.client_host = text("/127.0.0.1");
        member.member_metadata = told.metadata;
        member.member_assignment = told.assignment;
        row.members.push(member);
    }
    row
}
