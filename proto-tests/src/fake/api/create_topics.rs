//! CreateTopics, key 19, versions 2–7. Knows the configurations min.insync.replicas, max.message.bytes,
//! message.timestamp.type and cleanup.policy and accepts others without effect; manual assignments give only the number of
//! partitions and copies. Any broker creates, as brokers forward to the controller.

use super::{Api, Call, Reply, text, valid_topic_name};
use crate::fake::code;
use crate::fake::state::{State, TopicConfig};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};

impl Api for CreateTopicsRequest {
    async fn handle(self, call: &Call) -> Reply<CreateTopicsResponse> {
        let results = {
            let mut state = call.shared.lock();
            self.topics.iter().map(|topic| create(call, &mut state, topic, self.validate_only)).collect()
        };
        call.shared.ring();
        Reply::Answer(CreateTopicsResponse::default().with_topics(results))
    }

    fn refuse(&self, _: &Call, error: i16) -> CreateTopicsResponse {
        let results = self.topics.iter().map(|topic| refused(topic, error)).collect();
        CreateTopicsResponse::default().with_topics(results)
    }

    fn set_throttle(response: &mut CreateTopicsResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }

    fn touches(&self, _: &State) -> Vec<(String, i32)> {
        self.topics.iter().map(|topic| (topic.name.to_string(), 0)).collect()
    }
}

fn refused(topic: &CreatableTopic, error: i16) -> CreatableTopicResult {
    let mut result = CreatableTopicResult::default();
    result.name = topic.name.clone();
    result.error_code = error;
    result.num_partitions = -1;
    result.replication_factor = -1;
    result
}

fn create(call: &Call, state: &mut State, topic: &CreatableTopic, validate_only: bool) -> CreatableTopicResult {
    let name = topic.name.as_str();
    let brokers = state.brokers.len();
    let (partitions, copies) = match topic.assignments.first() {
        Some(first) => (i32::try_from(topic.assignments.len()).unwrap_or(i32::MAX), first.broker_ids.len()),
        None if topic.replication_factor == -1 => (topic.num_partitions, brokers),
        None => (topic.num_partitions, usize::try_from(topic.replication_factor).unwrap_or(0)),
    };
    let partitions = if partitions == -1 { state.settings.default_partitions } else { partitions };
    if !valid_topic_name(name) {
        return refused(topic, code::INVALID_TOPIC_EXCEPTION);
    }
    if state.topics.contains_key(name) {
        return refused(topic, code::TOPIC_ALREADY_EXISTS);
    }
    if !(1..=10_000).contains(&partitions) {
        return refused(topic, code::INVALID_PARTITIONS);
    }
    if copies == 0 || copies > brokers {
        return refused(topic, code::INVALID_REPLICATION_FACTOR);
    }
    let Some(config) = read_config(topic, copies) else { return refused(topic, code::INVALID_CONFIG) };
    let mut result = CreatableTopicResult::default();
    result.name = topic.name.clone();
    if !validate_only {
        let id = state.create_topic(name, partitions, config);
        if call.version >= 7 {
            result.topic_id = id;
        }
    }
    if call.version >= 5 {
        result.num_partitions = partitions;
        result.replication_factor = i16::try_from(copies).unwrap_or(i16::MAX);
        result.configs = Some(Vec::new());
    } else {
        result.error_message = None;
    }
    result
}

fn read_config(topic: &CreatableTopic, copies: usize) -> Option<TopicConfig> {
    let mut config = TopicConfig { replication: Some(copies), ..TopicConfig::default() };
    for entry in &topic.configs {
        let value = entry.value.clone().unwrap_or_else(|| text(""));
        match entry.name.as_str() {
            "min.insync.replicas" => config.min_insync = Some(value.parse().ok()?),
            "max.message.bytes" => config.max_message_bytes = value.parse().ok()?,
            "message.timestamp.type" => config.log_append_time = value.as_str() == "LogAppendTime",
            "cleanup.policy" => config.compacted = value.contains("compact"),
            _ => {}
        }
    }
    Some(config)
}
