//! DescribeConfigs, key 32, versions 1–4: a handful of values for topics (resource type 2) and brokers (4). Leaves out
//! synonyms and documentation.

use super::{Api, Call, Reply, text};
use crate::fake::code;
use crate::fake::state::State;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

impl Api for DescribeConfigsRequest {
    async fn handle(self, call: &Call) -> Reply<DescribeConfigsResponse> {
        let state = call.shared.lock();
        let results = self.resources.iter().map(|resource| describe(call, &state, resource)).collect();
        Reply::Answer(DescribeConfigsResponse::default().with_results(results))
    }

    fn refuse(&self, _: &Call, error: i16) -> DescribeConfigsResponse {
        let results = self.resources.iter().map(|resource| result(resource).with_error_code(error)).collect();
        DescribeConfigsResponse::default().with_results(results)
    }

    fn set_throttle(response: &mut DescribeConfigsResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

fn result(resource: &DescribeConfigsResource) -> DescribeConfigsResult {
    DescribeConfigsResult::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name.clone())
}

fn describe(call: &Call, state: &State, resource: &DescribeConfigsResource) -> DescribeConfigsResult {
    let values = match resource.resource_type {
        TOPIC => topic_values(state, &resource.resource_name),
        // A broker answers only for itself; the empty name is the cluster's default.
        BROKER if resource.resource_name.is_empty() => Ok(broker_values(state)),
        BROKER if resource.resource_name.parse() == Ok(call.broker) => Ok(broker_values(state)),
        _ => Err(code::INVALID_REQUEST),
    };
    match values {
        Err(error) => result(resource).with_error_code(error),
        Ok(values) => {
            let asked = |name: &str| {
                let keys = resource.configuration_keys.as_ref();
                keys.is_none_or(|keys| keys.iter().any(|key| key.as_str() == name))
            };
            let row = |(name, value): (&'static str, String)| {
                DescribeConfigsResourceResult::default()
                    .with_name(text(name))
                    .with_value(Some(text(value)))
                    .with_config_source(5)
            };
            result(resource).with_configs(values.into_iter().filter(|(name, _)| asked(name)).map(row).collect())
        }
    }
}

fn topic_values(state: &State, name: &str) -> Result<Vec<(&'static str, String)>, i16> {
    let topic = state.topics.get(name).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
    let config = &topic.config;
    let time = if config.log_append_time { "LogAppendTime" } else { "CreateTime" };
    Ok(vec![
        ("cleanup.policy", if config.compacted { "compact" } else { "delete" }.to_owned()),
        ("compression.type", "producer".to_owned()),
        ("max.message.bytes", config.max_message_bytes.to_string()),
        ("message.timestamp.type", time.to_owned()),
        ("min.insync.replicas", config.min_insync.unwrap_or(state.settings.min_insync).to_string()),
        ("retention.ms", "604800000".to_owned()),
    ])
}

fn broker_values(state: &State) -> Vec<(&'static str, String)> {
    let settings = &state.settings;
    vec![
        ("auto.create.topics.enable", settings.auto_create.to_string()),
        ("message.max.bytes", "1048588".to_owned()),
        ("min.insync.replicas", settings.min_insync.to_string()),
        ("num.partitions", settings.default_partitions.to_string()),
        ("producer.id.expiration.ms", settings.producer_id_expiration.as_millis().to_string()),
        ("offset.metadata.max.bytes", "4096".to_owned()),
    ]
}
