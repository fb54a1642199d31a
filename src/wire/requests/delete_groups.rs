//! DeleteGroups (key 42), versions 0 to 2: groups without members, asked at their coordinator.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages;

use super::{decode, encode, group_id, shared};
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Deletes groups and what they have committed.
#[derive(Clone, Debug, PartialEq)]
pub struct DeleteGroupsRequest {
    /// Which ones; all of one coordinator.
    pub groups: Vec<Arc<str>>,
}

/// What became of each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeleteGroupsResponse {
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
    /// Name and error.
    pub groups: Vec<(Arc<str>, ErrorCode)>,
}

impl Request for DeleteGroupsRequest {
    type Response = DeleteGroupsResponse;
    const KEY: ApiKey = ApiKey::DeleteGroups;
    const VERSIONS: (i16, i16) = (0, 2);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        let names = self.groups.iter().map(|name| group_id(name));
        let message = messages::DeleteGroupsRequest::default().with_groups_names(names.collect());
        encode::<Self>(version, &message, out)
    }

    fn decode(version: i16, body: Bytes) -> Result<DeleteGroupsResponse, WireError> {
        let message: messages::DeleteGroupsResponse = decode::<Self, _>(version, body)?;
        let groups = message.results.iter().map(|group| (shared(&group.group_id), ErrorCode(group.error_code)));
        Ok(DeleteGroupsResponse { throttle_ms: message.throttle_time_ms, groups: groups.collect() })
    }
}
