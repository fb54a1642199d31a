//! ListGroups (key 16), versions 0 to 5: the groups that one broker coordinates.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages;

use super::{decode, encode, owned, shared};
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Asks a broker which groups it coordinates: all that the principal may DESCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListGroupsRequest;

/// The groups of that broker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListGroupsResponse {
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
    /// Why they are not told.
    pub error: ErrorCode,
    /// The groups, in no order.
    pub groups: Vec<ListedGroup>,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its name.
    pub name: Arc<str>,
    /// `consumer` for consumers; empty for a group that never had members.
    pub protocol_type: String,
    /// Its state, such as `Stable` (version 4); empty when it is not told.
    pub state: String,
    /// Its type, such as `classic` or `consumer` (version 5, KIP-848); empty when it is not told.
    pub kind: String,
}

impl Request for ListGroupsRequest {
    type Response = ListGroupsResponse;
    const KEY: ApiKey = ApiKey::ListGroups;
    const VERSIONS: (i16, i16) = (0, 5);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        encode::<Self>(version, &messages::ListGroupsRequest::default(), out)
    }

    fn decode(version: i16, body: Bytes) -> Result<ListGroupsResponse, WireError> {
        let message: messages::ListGroupsResponse = decode::<Self, _>(version, body)?;
        let groups = message.groups.iter().map(|group| ListedGroup {
            name: shared(&group.group_id),
            protocol_type: owned(&group.protocol_type),
            state: owned(&group.group_state),
            kind: owned(&group.group_type),
        });
        Ok(ListGroupsResponse {
            throttle_ms: message.throttle_time_ms,
            error: ErrorCode(message.error_code),
            groups: groups.collect(),
        })
    }
}
