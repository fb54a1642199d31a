//! CreateTopics (key 19), versions 2 to 7.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{self, create_topics_request as theirs};

use super::{decode, encode, owned_option, shared, text, topic_name};
use crate::types::TopicId;
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Creates topics. Goes to the controller; brokers since 2.8 in KRaft mode forward it.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateTopicsRequest {
    /// The topics to create.
    pub topics: Vec<CreatableTopic>,
    /// How long the broker waits for the topics to exist, in milliseconds.
    pub timeout_ms: i32,
    /// Only check whether they could be created.
    pub validate_only: bool,
}

/// A topic to create.
#[derive(Clone, Debug, PartialEq)]
pub struct CreatableTopic {
    /// Its name.
    pub name: Arc<str>,
    /// How many partitions; -1 for the broker's default (version 4, broker 2.4).
    pub partitions: i32,
    /// How many replicas each; -1 for the broker's default (version 4, broker 2.4).
    pub replication_factor: i16,
    /// Settings of the topic.
    pub configs: Vec<(String, Option<String>)>,
}

/// What became of each topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CreateTopicsResponse {
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
    /// One for each topic asked for.
    pub topics: Vec<CreateTopicResult>,
}

/// What became of one topic.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateTopicResult {
    /// The topic's name.
    pub name: Arc<str>,
    /// Its new id; [`TopicId::NONE`] before version 7.
    pub id: TopicId,
    /// Why it was not created.
    pub error: ErrorCode,
    /// The broker's words about it.
    pub error_message: Option<String>,
}

impl Request for CreateTopicsRequest {
    type Response = CreateTopicsResponse;
    const KEY: ApiKey = ApiKey::CreateTopics;
    const VERSIONS: (i16, i16) = (2, 7);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        if version < 4 && self.topics.iter().any(|topic| topic.partitions == -1 || topic.replication_factor == -1) {
            return Err(super::too_old::<Self>(version, "leaving partitions or replicas to the broker", 4));
        }
        let topics = self.topics.iter().map(|topic| {
            let configs = topic.configs.iter().map(|(name, value)| {
                theirs::CreatableTopicConfig::default().with_name(text(name)).with_value(value.as_deref().map(text))
            });
            theirs::CreatableTopic::default()
                .with_name(topic_name(&topic.name))
                .with_num_partitions(topic.partitions)
                .with_replication_factor(topic.replication_factor)
                .with_configs(configs.collect())
        });
        let message = messages::CreateTopicsRequest::default()
            .with_topics(topics.collect())
            .with_timeout_ms(self.timeout_ms)
            .with_validate_only(self.validate_only);
        encode::<Self>(version, &message, out)
    }

    fn decode(version: i16, body: Bytes) -> Result<CreateTopicsResponse, WireError> {
        let message: messages::CreateTopicsResponse = decode::<Self, _>(version, body)?;
        let topics = message.topics.iter().map(|topic| CreateTopicResult {
            name: shared(&topic.name),
            id: TopicId(topic.topic_id.into_bytes()),
            error: ErrorCode(topic.error_code),
            error_message: owned_option(topic.error_message.as_ref()),
        });
        Ok(CreateTopicsResponse { throttle_ms: message.throttle_time_ms, topics: topics.collect() })
    }
}
