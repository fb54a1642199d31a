//! ListGroups, key 16, versions 0–5: the groups that this broker coordinates, filtered by state (4) and type (5).

use super::{Api, Call, Reply, text};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

impl Api for ListGroupsRequest {
    async fn handle(self, call: &Call) -> Reply<ListGroupsResponse> {
        let state = call.shared.lock();
        let here = state.groups.iter().filter(|(name, _)| state.coordinator(name) == Some(call.broker));
        let takes = |filter: &[StrBytes], word: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(word))
        };
        let mut response = ListGroupsResponse::default();
        for (name, group) in here {
            let (kind, protocol_type, phase) = match state.next_group(name) {
                Some(next) => ("consumer", "consumer", next.phase()),
                None if group.exists() => ("classic", group.protocol_type(), group.phase.name()),
                None => continue,
            };
            if !takes(&self.states_filter, phase) || !takes(&self.types_filter, kind) {
                continue;
            }
            let mut row = ListedGroup::default();
            row.group_id = GroupId(text(name.as_str()));
            row.protocol_type = text(protocol_type);
            if call.version >= 4 {
                row.group_state = text(phase);
            }
            if call.version >= 5 {
                row.group_type = text(kind);
            }
            response.groups.push(row);
        }
        Reply::Answer(response)
    }

    fn refuse(&self, _: &Call, error: i16) -> ListGroupsResponse {
        ListGroupsResponse::default().with_error_code(error)
    }

    fn set_throttle(response: &mut ListGroupsResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}
