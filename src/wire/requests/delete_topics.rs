//! DeleteTopics (key 20), versions 1 to 6 (by name).

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{self, delete_topics_request::DeleteTopicState};

use super::{decode, encode, owned_option, shared, topic_name};
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Deletes topics.
#[derive(Clone, Debug, PartialEq)]
pub struct DeleteTopicsRequest {
    /// Which ones.
    pub names: Vec<Arc<str>>,
    /// How long the broker waits for the deletion, in milliseconds.
    pub timeout_ms: i32,
}

/// What became of each topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeleteTopicsResponse {
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
    /// Name, error and the broker's words about it (version 5).
    pub topics: Vec<(Arc<str>, ErrorCode, Option<String>)>,
}

impl Request for DeleteTopicsRequest {
    type Response = DeleteTopicsResponse;
    const KEY: ApiKey = ApiKey::DeleteTopics;
    const VERSIONS: (i16, i16) = (1, 6);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        let names = self.names.iter().map(|name| topic_name(name));
        let message = messages::DeleteTopicsRequest::default().with_timeout_ms(self.timeout_ms);
        let message = if version >= 6 {
            message.with_topics(names.map(|name| DeleteTopicState::default().with_name(Some(name))).collect())
        } else {
            message.with_topic_names(names.collect())
        };
        encode::<Self>(version, &message, out)
    }

    fn decode(version: i16, body: Bytes) -> Result<DeleteTopicsResponse, WireError> {
        let message: messages::DeleteTopicsResponse = decode::<Self, _>(version, body)?;
        let topics = message.responses.iter().map(|topic| {
            let name = topic.name.as_ref().map(|name| shared(name)).unwrap_or_default();
            (name, ErrorCode(topic.error_code), owned_option(topic.error_message.as_ref()))
        });
        Ok(DeleteTopicsResponse { throttle_ms: message.throttle_time_ms, topics: topics.collect() })
    }
}
