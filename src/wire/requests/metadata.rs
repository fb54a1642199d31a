//! Metadata (key 3), versions 1 to 13.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{self, metadata_request::MetadataRequestTopic};

use super::{decode, encode, owned, owned_option, port, shared, topic_id, topic_name};
use crate::types::{BrokerId, TopicId};
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Which topics to tell about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataTopics {
    /// All that the client may see.
    All,
    /// None: only the brokers.
    None,
    /// These.
    Names(Vec<Arc<str>>),
    /// Those of these ids, whatever they are called (version 12, KIP-516).
    Ids(Vec<TopicId>),
}

/// Asks for brokers, topics and leaders.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataRequest {
    /// Which topics.
    pub topics: MetadataTopics,
    /// Whether the broker may create missing topics. Before version 4 it does as its configuration says.
    pub allow_auto_create: bool,
}

/// The cluster as one broker sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetadataResponse {
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
    /// All brokers that are alive.
    pub brokers: Vec<MetadataBroker>,
    /// The cluster's id (version 2).
    pub cluster_id: Option<String>,
    /// The controller, or any broker that forwards to it; -1 for none.
    pub controller: BrokerId,
    /// The topics asked for.
    pub topics: Vec<MetadataTopic>,
    /// Version 13: [`ErrorCode::REBOOTSTRAP_REQUIRED`] (KIP-1102).
    pub error: ErrorCode,
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataBroker {
    /// Its id.
    pub id: BrokerId,
    /// Where it listens.
    pub host: String,
    /// And on which port; 0 when what it gave is none.
    pub port: u16,
    /// Its rack.
    pub rack: Option<String>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataTopic {
    /// Why there are no partitions.
    pub error: ErrorCode,
    /// Its name; empty when it is not known.
    pub name: Arc<str>,
    /// Its id (version 10), or [`TopicId::NONE`].
    pub id: TopicId,
    /// Whether it is one of Kafka's own.
    pub internal: bool,
    /// Its partitions, in no order.
    pub partitions: Vec<MetadataPartition>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataPartition {
    /// Why there is no leader, or what else is wrong.
    pub error: ErrorCode,
    /// Its index.
    pub partition: i32,
    /// Its leader; -1 for none.
    pub leader: BrokerId,
    /// The leader's epoch (version 7); -1 for unknown.
    pub leader_epoch: i32,
    /// Its replicas.
    pub replicas: Vec<BrokerId>,
    /// Those in sync.
    pub isr: Vec<BrokerId>,
    /// Those offline (version 5).
    pub offline: Vec<BrokerId>,
}

impl Request for MetadataRequest {
    type Response = MetadataResponse;
    const KEY: ApiKey = ApiKey::Metadata;
    const VERSIONS: (i16, i16) = (1, 13);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        let topics = match &self.topics {
            MetadataTopics::All => None,
            MetadataTopics::None => Some(Vec::new()),
            MetadataTopics::Names(names) => {
                let topic = |name: &Arc<str>| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
                Some(names.iter().map(topic).collect())
            }
            MetadataTopics::Ids(_) if version < 12 => {
                return Err(super::too_old::<Self>(version, "asking for topics by id", 12));
            }
            MetadataTopics::Ids(ids) => {
                let mut topics = Vec::with_capacity(ids.len());
                for id in ids {
                    let id = topic_id::<Self, _>(version, *id)?;
                    topics.push(MetadataRequestTopic::default().with_name(None).with_topic_id(id));
                }
                Some(topics)
            }
        };
        let message = messages::MetadataRequest::default()
            .with_topics(topics)
            .with_allow_auto_topic_creation(self.allow_auto_create || version < 4);
        encode::<Self>(version, &message, out)
    }

    fn decode(version: i16, body: Bytes) -> Result<MetadataResponse, WireError> {
        let message: messages::MetadataResponse = decode::<Self, _>(version, body)?;
        let brokers = message.brokers.iter().map(|broker| MetadataBroker {
            id: broker.node_id.0,
            host: owned(&broker.host),
            port: port(broker.port),
            rack: owned_option(broker.rack.as_ref()),
        });
        let topics = message.topics.iter().map(|topic| MetadataTopic {
            error: ErrorCode(topic.error_code),
            name: topic.name.as_ref().map(|name| shared(name)).unwrap_or_default(),
            id: TopicId(topic.topic_id.into_bytes()),
            internal: topic.is_internal,
            partitions: topic.partitions.iter().map(partition).collect(),
        });
        Ok(MetadataResponse {
            throttle_ms: message.throttle_time_ms,
            brokers: brokers.collect(),
            cluster_id: owned_option(message.cluster_id.as_ref()),
            controller: message.controller_id.0,
            topics: topics.collect(),
            error: ErrorCode(message.error_code),
        })
    }
}

fn partition(partition: &messages::metadata_response::MetadataResponsePartition) -> MetadataPartition {
    let ids = |ids: &[messages::BrokerId]| ids.iter().map(|id| id.0).collect();
    MetadataPartition {
        error: ErrorCode(partition.error_code),
        partition: partition.partition_index,
        leader: partition.leader_id.0,
        leader_epoch: partition.leader_epoch,
        replicas: ids(&partition.replica_nodes),
        isr: ids(&partition.isr_nodes),
        offline: ids(&partition.offline_replicas),
    }
}
