//! DescribeProducers (key 61), version 0 (KIP-664).

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{self, describe_producers_request::TopicRequest};

use super::{decode, encode, owned_option, shared, topic_name};
use crate::types::ProducerIdentity;
use crate::wire::reader::ReadError;
use crate::wire::{ApiKey, Chunks, ErrorCode, Request, WireError};

/// Asks the leader of each partition what it knows of the producers that wrote to it. Needs READ on the topic.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribeProducersRequest {
    /// Topics and partitions.
    pub topics: Vec<(Arc<str>, Vec<i32>)>,
}

/// What the leader knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DescribeProducersResponse {
    /// For how long the broker holds back this client, in milliseconds.
    pub throttle_ms: i32,
    /// By topic.
    pub topics: Vec<(Arc<str>, Vec<DescribeProducersPartition>)>,
}

/// What the leader knows of one partition's producers.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribeProducersPartition {
    /// Which partition.
    pub partition: i32,
    /// Why it is not told.
    pub error: ErrorCode,
    /// The broker's words about it.
    pub error_message: Option<String>,
    /// The producers it remembers.
    pub producers: Vec<ActiveProducer>,
}

/// A producer as the leader remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Who.
    pub identity: ProducerIdentity,
    /// The sequence number of its last record; -1 for none.
    pub last_sequence: i32,
    /// The timestamp of its last batch, in milliseconds since 1970; -1 for none.
    pub last_timestamp: i64,
}

impl Request for DescribeProducersRequest {
    type Response = DescribeProducersResponse;
    const KEY: ApiKey = ApiKey::DescribeProducers;
    const VERSIONS: (i16, i16) = (0, 0);

    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError> {
        let topics = self.topics.iter().map(|(name, partitions)| {
            TopicRequest::default().with_name(topic_name(name)).with_partition_indexes(partitions.clone())
        });
        let message = messages::DescribeProducersRequest::default().with_topics(topics.collect());
        encode::<Self>(version, &message, out)
    }

    fn decode(version: i16, body: Bytes) -> Result<DescribeProducersResponse, WireError> {
        let end = body.len();
        let message: messages::DescribeProducersResponse = decode::<Self, _>(version, body)?;
        // 32 bits here, 16 everywhere else.
        let epoch = |epoch| {
            let what = "a producer epoch of more than 16 bits";
            i16::try_from(epoch).map_err(|_| WireError::decode(Self::KEY, version, ReadError { at: end, what }))
        };
        let mut topics = Vec::with_capacity(message.topics.len());
        for topic in &message.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let producers = partition.active_producers.iter().map(|producer| {
                    Ok(ActiveProducer {
                        identity: ProducerIdentity {
                            id: producer.producer_id.0,
                            epoch: epoch(producer.producer_epoch)?,
                        },
                        last_sequence: producer.last_sequence,
                        last_timestamp: producer.last_timestamp,
                    })
                });
                partitions.push(DescribeProducersPartition {
                    partition: partition.partition_index,
                    error: ErrorCode(partition.error_code),
                    error_message: owned_option(partition.error_message.as_ref()),
                    producers: producers.collect::<Result<_, WireError>>()?,
                });
            }
            topics.push((shared(&topic.name), partitions));
        }
        Ok(DescribeProducersResponse { throttle_ms: message.throttle_time_ms, topics })
    }
}
