//! Topics and settings.

use std::sync::Arc;

use super::{Admin, Work, check};
use crate::core::metadata::TopicView;
use crate::error::AdminError;
use crate::io::cluster::Lane;
use crate::io::connection::Connection;
use crate::types::{BrokerId, TopicId};
use crate::wire::requests::create_topics::{CreatableTopic, CreateTopicsRequest};
use crate::wire::requests::delete_topics::DeleteTopicsRequest;
use crate::wire::requests::describe_configs::{ConfigResource, DescribeConfigsRequest, DescribeConfigsResponse};
use crate::wire::{ApiKey, ErrorCode};

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    name: Arc<str>,
    partitions: i32,
    replication_factor: i16,
    configs: Vec<(String, Option<String>)>,
}

/// A topic as the cluster's metadata shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDescription {
    /// Its name.
    pub name: Arc<str>,
    /// Its id; none from brokers before 2.8.
    pub id: Option<TopicId>,
    /// Whether it is one of Kafka's own.
    pub internal: bool,
    /// Its partitions, by index.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition as the cluster's metadata shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// Its leader, if it has one at the moment.
    pub leader: Option<BrokerId>,
    /// The leader's epoch; -1 when it is not known.
    pub leader_epoch: i32,
    /// All replicas.
    pub replicas: Vec<BrokerId>,
    /// Those in sync.
    pub isr: Vec<BrokerId>,
}

/// A setting of a topic or a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigValue {
    /// Its name.
    pub name: String,
    /// Its value; none when it is secret, or has none.
    pub value: Option<String>,
    /// Whether it is Kafka's default.
    pub is_default: bool,
}

impl NewTopic {
    /// A topic with the brokers' defaults for partitions and replicas (`num.partitions`, `default.replication.factor`).
    pub fn new(name: impl Into<Arc<str>>) -> NewTopic {
        NewTopic { name: name.into(), partitions: -1, replication_factor: -1, configs: Vec::new() }
    }

    /// How many partitions.
    #[must_use]
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = partitions;
        self
    }

    /// How many replicas each partition has.
    #[must_use]
    pub fn replication_factor(mut self, replicas: i16) -> Self {
        self.replication_factor = replicas;
        self
    }

    /// A setting of the topic, such as `min.insync.replicas`.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.push((name.into(), Some(value.into())));
        self
    }
}

impl Admin {
    /// Creates `topics` and waits until the metadata shows all of them, so that they can be used at once.
    ///
    /// # Errors
    /// [`AdminError::Refused`] for the first topic that the broker refused (the others may exist),
    /// [`AdminError::NotVisible`] when they were created and did not show up within `default.api.timeout.ms`.
    pub async fn create_topics(&self, topics: impl IntoIterator<Item = NewTopic>) -> Result<(), AdminError> {
        let topics: Vec<CreatableTopic> = topics
            .into_iter()
            .map(|topic| CreatableTopic {
                name: topic.name,
                partitions: topic.partitions,
                replication_factor: topic.replication_factor,
                configs: topic.configs,
            })
            .collect();
        self.run(|work| async move {
            let timeout_ms = work.timeout_ms();
            let request = CreateTopicsRequest { topics, timeout_ms, validate_only: false };
            let answer = work
                .at_controller(ApiKey::CreateTopics, |connection, timeout| {
                    let answer = connection.submit(&request, timeout);
                    async move {
                        let answer = answer.await?;
                        let stale = answer.topics.iter().any(|topic| topic.error == ErrorCode::NOT_CONTROLLER);
                        Ok((answer, stale))
                    }
                })
                .await?;
            let mut created = Vec::with_capacity(answer.topics.len());
            for topic in answer.topics {
                check("creation", format!("topic {:?}", topic.name), topic.error, topic.error_message)?;
                created.push((topic.name, topic.id));
            }
            for (name, id) in created {
                work.until_visible(&name, id).await?;
            }
            Ok(())
        })
        .await
    }

    /// Deletes topics by name. Metadata may show them for a moment longer.
    ///
    /// # Errors
    /// [`AdminError::Refused`] for the first topic that the broker refused; the others may be deleted.
    pub async fn delete_topics(&self, names: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Result<(), AdminError> {
        let names: Vec<Arc<str>> = names.into_iter().map(Into::into).collect();
        self.run(|work| async move {
            let request = DeleteTopicsRequest { names, timeout_ms: work.timeout_ms() };
            let answer = work
                .at_controller(ApiKey::DeleteTopics, |connection, timeout| {
                    let answer = connection.submit(&request, timeout);
                    async move {
                        let answer = answer.await?;
                        let stale = answer.topics.iter().any(|topic| topic.1 == ErrorCode::NOT_CONTROLLER);
                        Ok((answer, stale))
                    }
                })
                .await?;
            for (name, code, message) in answer.topics {
                check("deletion", format!("topic {name:?}"), code, message)?;
            }
            work.cluster.request_refresh("topics were deleted");
            Ok(())
        })
        .await
    }

    /// Looks topics up, in the order of `names`.
    ///
    /// # Errors
    /// [`AdminError::Metadata`] for the first topic that does not exist, or may not be described.
    pub async fn describe_topics(
        &self,
        names: impl IntoIterator<Item = impl Into<Arc<str>>>,
    ) -> Result<Vec<TopicDescription>, AdminError> {
        let names: Vec<Arc<str>> = names.into_iter().map(Into::into).collect();
        self.run(|work| async move {
            let mut found = Vec::with_capacity(names.len());
            for name in names {
                found.push(describe(&*work.cluster.look_up(&name, work.left()).await?));
            }
            Ok(found)
        })
        .await
    }

    /// The settings of a topic.
    ///
    /// # Errors
    /// [`AdminError::Refused`] when the topic does not exist or DESCRIBE_CONFIGS is not allowed.
    pub async fn describe_topic_config(&self, topic: impl Into<Arc<str>>) -> Result<Vec<ConfigValue>, AdminError> {
        let topic = topic.into();
        self.run(|work| async move {
            let connection = work.connected(work.cluster.any_broker()).await?;
            work.configs(connection, ConfigResource::Topic(topic)).await
        })
        .await
    }

    /// The settings of a broker, asked at that broker.
    ///
    /// # Errors
    /// [`AdminError::Refused`] when DESCRIBE_CONFIGS is not allowed, [`AdminError::Call`] when the broker does not answer.
    pub async fn describe_broker_config(&self, broker: BrokerId) -> Result<Vec<ConfigValue>, AdminError> {
        self.run(move |work| async move {
            let connection = work.connected(work.cluster.broker(broker, Lane::Control)).await?;
            work.configs(connection, ConfigResource::Broker(broker)).await
        })
        .await
    }
}

impl Work {
    /// Waits until the metadata shows the topic just created, and not one of the same name that was there before.
    async fn until_visible(&self, name: &Arc<str>, id: TopicId) -> Result<(), AdminError> {
        let mut attempt = 0;
        loop {
            let topic = self.cluster.topic(name, self.left()).await.map_err(AdminError::NotVisible)?;
            if topic.id == id || !id.is_some() || !topic.id.is_some() {
                return Ok(());
            }
            attempt += 1;
            tokio::time::sleep(self.cluster.retry_backoff().delay(attempt, self.cluster.thread().random().next()))
                .await;
            self.cluster.refresh_and_wait("a topic was created", self.deadline).await?;
        }
    }

    async fn configs(&self, connection: Connection, of: ConfigResource) -> Result<Vec<ConfigValue>, AdminError> {
        /// DescribeConfigs' source for what nobody has set.
        const DEFAULT: i8 = 5;
        let what = match &of {
            ConfigResource::Topic(name) => format!("topic {name:?}"),
            ConfigResource::Broker(id) => format!("broker {id}"),
        };
        let request = DescribeConfigsRequest { resources: vec![(of, None)] };
        let answer = connection.submit(&request, self.cluster.config().request_timeout);
        let answer = self.answered(ApiKey::DescribeConfigs, connection.broker(), answer).await?;
        let DescribeConfigsResponse { results, .. } = answer;
        let mut values = Vec::new();
        for result in results {
            check("description", what.clone(), result.error, result.error_message)?;
            values.extend(result.configs.into_iter().map(|entry| ConfigValue {
                name: entry.name,
                value: entry.value,
                is_default: entry.source == DEFAULT,
            }));
        }
        Ok(values)
    }
}

fn describe(topic: &TopicView) -> TopicDescription {
    TopicDescription {
        name: topic.name.clone(),
        id: Some(topic.id).filter(TopicId::is_some),
        internal: topic.internal,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| PartitionDescription {
                leader: partition.leader,
                leader_epoch: partition.leader_epoch,
                replicas: partition.replicas.clone(),
                isr: partition.isr.clone(),
            })
            .collect(),
    }
}
