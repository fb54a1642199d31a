//! DescribeConfigs (key 32), versions 1 to 4.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{self, describe_configs_request::DescribeConfigsResource};

use super::{decode, encode, owned, owned_option, shared, text};
use crate::types::BrokerId;
use crate::wire::reader::ReadError;
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Whose settings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ConfigResource {
    /// Those of a topic.
    Topic(Arc<str>),
    /// Those of a broker; the request must go to that broker.
    Broker(BrokerId),
}

/// Asks for settings.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribeConfigsRequest {
    /// Whose, and which ones; none for all.
    pub resources: Vec<(ConfigResource, Option<Vec<String>>)>,
}

/// The settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DescribeConfigsResponse {
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
    /// One for each resource asked for.
    pub results: Vec<DescribeConfigsResult>,
}

/// The settings of one resource.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribeConfigsResult {
    /// Why there are none.
    pub error: ErrorCode,
    /// The broker's words about it.
    pub error_message: Option<String>,
    /// Whose they are.
    pub resource: ConfigResource,
    /// The settings.
    pub configs: Vec<ConfigEntry>,
}

/// One setting.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Its value; none when it is sensitive.
    pub value: Option<String>,
    /// Where it was set: 1 topic, 2 broker, 3 cluster default, 4 static file, 5 Kafka's default.
    pub source: i8,
    /// Whether it can only be changed in the broker's file.
    pub read_only: bool,
    /// Whether the value is held back.
    pub sensitive: bool,
}

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

impl Request for DescribeConfigsRequest {
    type Response = DescribeConfigsResponse;
    const KEY: ApiKey = ApiKey::DescribeConfigs;
    const VERSIONS: (i16, i16) = (1, 4);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        let resources = self.resources.iter().map(|(resource, keys)| {
            let (kind, name) = match resource {
                ConfigResource::Topic(name) => (TOPIC, text(name)),
                ConfigResource::Broker(id) => (BROKER, text(&id.to_string())),
            };
            DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(name)
                .with_configuration_keys(keys.as_ref().map(|keys| keys.iter().map(|key| text(key)).collect()))
        });
        let message = messages::DescribeConfigsRequest::default().with_resources(resources.collect());
        encode::<Self>(version, &message, out)
    }

    fn decode(version: i16, body: Bytes) -> Result<DescribeConfigsResponse, WireError> {
        let end = body.len();
        let refuse = |what| WireError::decode(Self::KEY, version, ReadError { at: end, what });
        let message: messages::DescribeConfigsResponse = decode::<Self, _>(version, body)?;
        let results = message.results.iter().map(|result| {
            let resource = match result.resource_type {
                TOPIC => ConfigResource::Topic(shared(&result.resource_name)),
                BROKER => {
                    let id = result.resource_name.parse().map_err(|_| refuse("a broker id that is no number"))?;
                    ConfigResource::Broker(id)
                }
                _ => return Err(refuse("a kind of resource that was not asked for")),
            };
            let configs = result.configs.iter().map(|entry| ConfigEntry {
                name: owned(&entry.name),
                value: owned_option(entry.value.as_ref()),
                source: entry.config_source,
                read_only: entry.read_only,
                sensitive: entry.is_sensitive,
            });
            Ok(DescribeConfigsResult {
                error: ErrorCode(result.error_code),
                error_message: owned_option(result.error_message.as_ref()),
                resource,
                configs: configs.collect(),
            })
        });
        let results = results.collect::<Result<_, WireError>>()?;
        Ok(DescribeConfigsResponse { throttle_ms: message.throttle_time_ms, results })
    }
}
