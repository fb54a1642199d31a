//! Metadata, key 3, versions 0–13 (topics by id from 10). Leaves out authorized operations.

use super::{Api, Call, Reply, broker_id, text, topic_name, valid_topic_name};
use crate::fake::code;
use crate::fake::state::{State, Topic, TopicConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse};

impl Api for MetadataRequest {
    async fn handle(self, call: &Call) -> Reply<MetadataResponse> {
        let mut state = call.shared.lock();
        let mut response = brokers(call, &state);
        match &self.topics {
            // Version 0 cannot say null: an empty list is all topics there.
            Some(topics) if !(topics.is_empty() && call.version == 0) => {
                for asked in topics {
                    let topic = named(call, &mut state, asked, self.allow_auto_topic_creation || call.version < 4);
                    response.topics.push(topic);
                }
            }
            _ => {
                let visible = state.topics.iter().filter(|(_, topic)| !topic.hidden);
                response.topics = visible.map(|(name, topic)| describe(call, &state, name, topic)).collect();
            }
        }
        Reply::Answer(response)
    }

    fn refuse(&self, call: &Call, error: i16) -> MetadataResponse {
        let mut response = brokers(call, &call.shared.lock());
        let refused = |asked: &MetadataRequestTopic| missing(call, asked, error);
        response.topics = self.topics.iter().flatten().map(refused).collect();
        if call.version >= 13 {
            response.error_code = error;
        }
        response
    }

    fn set_throttle(response: &mut MetadataResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }

    fn touches(&self, state: &State) -> Vec<(String, i32)> {
        let name = |asked: &MetadataRequestTopic| match &asked.name {
            Some(name) => name.to_string(),
            None => state.topic_names.get(&asked.topic_id).cloned().unwrap_or_default(),
        };
        self.topics.iter().flatten().map(|asked| (name(asked), 0)).collect()
    }
}

fn brokers(call: &Call, state: &State) -> MetadataResponse {
    let mut response = MetadataResponse::default();
    for (id, broker) in state.brokers.iter().filter(|(_, broker)| broker.alive) {
        let rack = state.rack(*id).filter(|_| call.version >= 1);
        response.brokers.push(
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(*id))
                .with_host(text(state.host(*id)))
                .with_port(i32::from(broker.address.port()))
                .with_rack(rack.map(|rack| text(rack.to_owned()))),
        );
    }
    if call.version >= 1 {
        response.controller_id = broker_id(state.live().first().copied());
    }
    if call.version >= 2 {
        response.cluster_id = Some(text(state.settings.cluster_id.clone()));
    }
    response
}

fn named(call: &Call, state: &mut State, asked: &MetadataRequestTopic, may_create: bool) -> MetadataResponseTopic {
    let name = match &asked.name {
        Some(name) => name.to_string(),
        None => match state.topic_names.get(&asked.topic_id) {
            Some(name) => name.clone(),
            None => return missing(call, asked, code::UNKNOWN_TOPIC_ID),
        },
    };
    if let Some(topic) = state.topics.get(&name).filter(|topic| !topic.hidden) {
        return describe(call, state, &name, topic);
    }
    if !valid_topic_name(&name) {
        return missing(call, asked, code::INVALID_TOPIC_EXCEPTION);
    }
    if may_create && state.settings.auto_create && !state.topics.contains_key(&name) {
        // As with KRaft: created meanwhile, but this answer does not know it yet.
        state.create_topic(&name, state.settings.default_partitions, TopicConfig::default());
    }
    missing(call, asked, code::UNKNOWN_TOPIC_OR_PARTITION)
}

fn missing(call: &Call, asked: &MetadataRequestTopic, error: i16) -> MetadataResponseTopic {
    let mut topic = MetadataResponseTopic::default();
    topic.error_code = error;
    topic.name = asked.name.clone();
    if topic.name.is_none() && call.version < 12 {
        topic.name = Some(topic_name(""));
    }
    if call.version >= 10 {
        topic.topic_id = asked.topic_id;
    }
    topic
}

fn describe(call: &Call, state: &State, name: &str, topic: &Topic) -> MetadataResponseTopic {
    let mut out = MetadataResponseTopic::default();
    out.name = Some(topic_name(name));
    if call.version >= 10 {
        out.topic_id = topic.id;
    }
    let frozen = state.brokers.get(&call.broker).and_then(|broker| broker.frozen.as_ref());
    for (index, partition) in (0..).zip(&topic.partitions) {
        let now = (partition.leader, partition.leader_epoch);
        let (leader, epoch) = frozen.and_then(|frozen| frozen.get(&(name.to_owned(), index)).copied()).unwrap_or(now);
        let mut row = MetadataResponsePartition::default();
        row.partition_index = index;
        row.error_code = if leader.is_some() { code::NONE } else { code::LEADER_NOT_AVAILABLE };
        row.leader_id = broker_id(leader);
        row.replica_nodes = partition.replicas.iter().copied().map(BrokerId).collect();
        row.isr_nodes = partition.isr.iter().copied().map(BrokerId).collect();
        if call.version >= 5 {
            let offline = partition.replicas.iter().filter(|id| !state.is_alive(**id));
            row.offline_replicas = offline.copied().map(BrokerId).collect();
        }
        if call.version >= 7 {
            row.leader_epoch = epoch;
        }
        out.partitions.push(row);
    }
    out
}
