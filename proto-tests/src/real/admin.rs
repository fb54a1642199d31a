//! What tests ask of the brokers themselves: topics, leaders, settings. Raw requests, none through the client.
use std::io;
use std::path::Path;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeQuorumRequest, ElectLeadersRequest, FindCoordinatorRequest, IncrementalAlterConfigsRequest,
    MetadataRequest, TopicName,
};
use kafka_protocol::protocol::{Request, StrBytes};

use super::cluster::RealCluster;
use super::error::HarnessError;
use super::wire;

/// How long a broker may take over one request, of those that carry a limit.
const REQUEST_TIMEOUT_MS: i32 = 4_000;
/// Versions that Kafka 2.8 to 4.3 all have.
const METADATA: i16 = 9;
const CREATE_TOPICS: i16 = 5;
const DELETE_TOPICS: i16 = 5;
const CREATE_PARTITIONS: i16 = 2;
const ELECT_LEADERS: i16 = 2;
const ALTER_PARTITION_REASSIGNMENTS: i16 = 0;
const INCREMENTAL_ALTER_CONFIGS: i16 = 1;
const FIND_COORDINATOR: i16 = 3;
/// Kafka with KRaft only.
const DESCRIBE_QUORUM: i16 = 0;

/// A partition as the brokers' metadata show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Number within its topic.
    pub index: i32,
    /// Broker that leads it; -1 when there is none.
    pub leader: i32,
    /// Leader epoch.
    pub leader_epoch: i32,
    /// Brokers that hold it, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Those of them that are in sync.
    pub in_sync: Vec<i32>,
}

impl RealCluster {
    /// Creates a topic, and waits until each of its partitions has a leader that all running brokers know.
    ///
    /// # Errors
    /// [`HarnessError::Refused`] with Kafka's reason; 36 when the topic exists.
    pub fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        replication_factor: i16,
        configs: &[(&str, &str)],
    ) -> Result<(), HarnessError> {
        let configs = configs
            .iter()
            .map(|(key, value)| CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value))))
            .collect();
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(replication_factor)
            .with_configs(configs);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(REQUEST_TIMEOUT_MS);
        self.ask("CreateTopics", name, &request, CREATE_TOPICS, |response| {
            response.topics.iter().map(|topic| (topic.error_code, topic.error_message.clone())).collect()
        })?;
        self.wait_for_leaders(name, partitions)
    }

    /// Deletes a topic, and waits until no broker knows it.
    ///
    /// # Errors
    /// [`HarnessError::Refused`] with Kafka's reason; 3 when there is no such topic.
    pub fn delete_topic(&self, name: &str) -> Result<(), HarnessError> {
        let request =
            DeleteTopicsRequest::default().with_topic_names(vec![topic_name(name)]).with_timeout_ms(REQUEST_TIMEOUT_MS);
        self.ask("DeleteTopics", name, &request, DELETE_TOPICS, |response| {
            response.responses.iter().map(|topic| (topic.error_code, topic.error_message.clone())).collect()
        })?;
        self.wait_everywhere(&format!("the end of topic {name}"), |address| match describe(address, name)? {
            Ok(_) => Ok(Err(format!("{address} still knows it"))),
            Err(3) => Ok(Ok(())),
            Err(code) => Ok(Err(format!("{address} says error {code}"))),
        })
    }

    /// Gives a topic more partitions, `total` in all, and waits for their leaders.
    ///
    /// # Errors
    /// [`HarnessError::Refused`] with Kafka's reason.
    pub fn create_partitions(&self, name: &str, total: i32) -> Result<(), HarnessError> {
        let topic =
            CreatePartitionsTopic::default().with_name(topic_name(name)).with_count(total).with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(REQUEST_TIMEOUT_MS);
        self.ask("CreatePartitions", name, &request, CREATE_PARTITIONS, |response| {
            response.results.iter().map(|topic| (topic.error_code, topic.error_message.clone())).collect()
        })?;
        self.wait_for_leaders(name, total)
    }

    /// The partitions of a topic as some running broker knows them.
    ///
    /// # Errors
    /// [`HarnessError::Refused`] when it does not exist.
    pub fn partitions(&self, topic: &str) -> Result<Vec<Partition>, HarnessError> {
        let (_, answer) = self.first_answer("Metadata", |address| describe(address, topic))?;
        answer.map_err(|code| refused("Metadata", topic, code, None))
    }

    /// The broker that leads a partition, waiting for one while there is none.
    ///
    /// # Errors
    /// [`HarnessError::Timeout`] when nobody takes the lead.
    pub fn leader(&self, topic: &str, partition: i32) -> Result<i32, HarnessError> {
        self.wait_for(&format!("a leader of {topic}-{partition}"), || {
            let partitions = self.partitions(topic)?;
            let found = partitions.iter().find(|one| one.index == partition && one.leader >= 0);
            Ok(found.map(|one| one.leader).ok_or_else(|| format!("{partitions:?}")))
        })
    }

    /// The broker that leads a partition once it is another than `old`, as after a kill.
    ///
    /// # Errors
    /// [`HarnessError::Timeout`] when nobody takes over.
    pub fn leader_other_than(&self, old: i32, topic: &str, partition: i32) -> Result<i32, HarnessError> {
        self.wait_for(&format!("a leader of {topic}-{partition} that is not broker {old}"), || {
            let leader = self.leader(topic, partition)?;
            Ok(if leader == old { Err("it still leads".into()) } else { Ok(leader) })
        })
    }

    /// Waits until every replica of every partition is in sync.
    ///
    /// # Errors
    /// [`HarnessError::Timeout`] with the partitions as they were last.
    pub fn wait_until_in_sync(&self, topic: &str) -> Result<(), HarnessError> {
        self.wait_for(&format!("all replicas of {topic} in sync"), || {
            let partitions = self.partitions(topic)?;
            let whole = |one: &Partition| one.leader >= 0 && one.in_sync.len() == one.replicas.len();
            Ok(if partitions.iter().all(whole) { Ok(()) } else { Err(format!("{partitions:?}")) })
        })
    }

    /// Makes `to` lead a partition, moving a replica there when it has none, and waits until all running brokers know.
    /// Nothing is restarted: clients see a plain change of the leader.
    ///
    /// # Errors
    /// [`HarnessError::Refused`], for example when `to` does not run; [`HarnessError::Timeout`].
    pub fn move_leader(&self, topic: &str, partition: i32, to: i32) -> Result<(), HarnessError> {
        let subject = format!("{topic}-{partition}");
        let found = self.partitions(topic)?.into_iter().find(|one| one.index == partition);
        let mut replicas = found.ok_or_else(|| refused("Metadata", &subject, 3, None))?.replicas;
        if replicas.contains(&to) {
            replicas.retain(|&id| id != to);
        } else {
            replicas.pop();
        }
        replicas.insert(0, to);
        self.reassign(topic, partition, &replicas)?;
        self.elect(topic, partition, 0)?;
        self.wait_everywhere(&format!("broker {to} leading {subject}"), |address| {
            let seen = describe(address, topic)?;
            let leads = |one: &Partition| one.index == partition && one.leader == to;
            Ok(match seen {
                Ok(partitions) if partitions.iter().any(leads) => Ok(()),
                other => Err(format!("{address} knows {other:?}")),
            })
        })
    }

    /// Gives a partition to `replicas`, the preferred leader first, and waits until they are in sync and the others gone.
    /// Does not by itself change the leader when that one stays a replica.
    ///
    /// # Errors
    /// [`HarnessError::Refused`]; [`HarnessError::Timeout`].
    pub fn reassign(&self, topic: &str, partition: i32, replicas: &[i32]) -> Result<(), HarnessError> {
        let subject = format!("{topic}-{partition}");
        let ids = replicas.iter().map(|&id| BrokerId(id)).collect();
        let moved = ReassignablePartition::default().with_partition_index(partition).with_replicas(Some(ids));
        let moved = ReassignableTopic::default().with_name(topic_name(topic)).with_partitions(vec![moved]);
        let request =
            AlterPartitionReassignmentsRequest::default().with_topics(vec![moved]).with_timeout_ms(REQUEST_TIMEOUT_MS);
        self.ask("AlterPartitionReassignments", &subject, &request, ALTER_PARTITION_REASSIGNMENTS, |response| {
            let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
            let partitions = partitions.map(|one| (one.error_code, one.error_message.clone()));
            [(response.error_code, response.error_message.clone())].into_iter().chain(partitions).collect()
        })?;
        self.wait_for(&format!("{subject} on brokers {replicas:?}"), || {
            let partitions = self.partitions(topic)?;
            let arrived = partitions
                .iter()
                .any(|one| one.index == partition && one.replicas == replicas && one.in_sync.len() == replicas.len());
            Ok(if arrived { Ok(()) } else { Err(format!("{partitions:?}")) })
        })
    }

    /// Elects some living replica, in sync or not: acknowledged records that it lacks are lost. For when the leader
    /// is dead and nobody in sync is alive.
    ///
    /// # Errors
    /// [`HarnessError::Refused`] with Kafka's reason.
    pub fn elect_unclean(&self, topic: &str, partition: i32) -> Result<i32, HarnessError> {
        self.elect(topic, partition, 1)?;
        self.leader(topic, partition)
    }

    /// Sets a dynamic broker setting, of one broker or (with `None`) of all; an empty value takes it back.
    ///
    /// # Errors
    /// [`HarnessError::Refused`] when the setting needs a restart: then give it to
    /// [`RealConfig`](super::RealConfig).
    pub fn set_broker_config(&self, id: Option<i32>, key: &str, value: &str) -> Result<(), HarnessError> {
        let name = id.map(|id| id.to_string()).unwrap_or_default();
        self.alter_config(4, &name, key, value)
    }

    /// Sets a topic's setting; an empty value takes it back.
    ///
    /// # Errors
    /// [`HarnessError::Refused`] with Kafka's reason.
    pub fn set_topic_config(&self, topic: &str, key: &str, value: &str) -> Result<(), HarnessError> {
        self.alter_config(2, topic, key, value)
    }

    /// The broker that is the active controller. Metadata name some broker instead since there is KRaft.
    ///
    /// # Errors
    /// [`HarnessError::Refused`] by Kafka before 3.3.
    pub fn controller(&self) -> Result<i32, HarnessError> {
        let log = TopicData::default()
            .with_topic_name(topic_name("__cluster_metadata"))
            .with_partitions(vec![PartitionData::default()]);
        let request = DescribeQuorumRequest::default().with_topics(vec![log]);
        let mut leader = -1;
        self.ask("DescribeQuorum", "the controllers", &request, DESCRIBE_QUORUM, |response| {
            let partitions: Vec<_> = response.topics.iter().flat_map(|topic| &topic.partitions).collect();
            leader = partitions.first().map_or(-1, |one| one.leader_id.0);
            partitions.iter().map(|one| (one.error_code, None)).chain([(response.error_code, None)]).collect()
        })?;
        Ok(leader)
    }

    /// The broker that coordinates a consumer group.
    ///
    /// # Errors
    /// [`HarnessError::Timeout`] when there is none.
    pub fn group_coordinator(&self, group: &str) -> Result<i32, HarnessError> {
        let request = FindCoordinatorRequest::default().with_key(text(group)).with_key_type(0);
        let mut node = -1;
        self.ask("FindCoordinator", group, &request, FIND_COORDINATOR, |response| {
            node = response.node_id.0;
            vec![(response.error_code, response.error_message.clone())]
        })?;
        Ok(node)
    }

    fn elect(&self, topic: &str, partition: i32, kind: i8) -> Result<(), HarnessError> {
        /// The preferred leader leads already.
        const ELECTION_NOT_NEEDED: i16 = 84;
        let asked = TopicPartitions::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
        let request = ElectLeadersRequest::default()
            .with_election_type(kind)
            .with_topic_partitions(Some(vec![asked]))
            .with_timeout_ms(REQUEST_TIMEOUT_MS);
        self.ask("ElectLeaders", &format!("{topic}-{partition}"), &request, ELECT_LEADERS, |response| {
            let results = response.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
            let results = results.map(|one| (one.error_code, one.error_message.clone()));
            [(response.error_code, None)]
                .into_iter()
                .chain(results)
                .filter(|(code, _)| *code != ELECTION_NOT_NEEDED)
                .collect()
        })
    }

    fn alter_config(&self, kind: i8, name: &str, key: &str, value: &str) -> Result<(), HarnessError> {
        const SET: i8 = 0;
        const DELETE: i8 = 1;
        let operation = if value.is_empty() { DELETE } else { SET };
        let config = AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(operation)
            .with_value((operation == SET).then(|| text(value)));
        let resource = AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        self.ask("IncrementalAlterConfigs", key, &request, INCREMENTAL_ALTER_CONFIGS, |response| {
            response.responses.iter().map(|one| (one.error_code, one.error_message.clone())).collect()
        })
    }

    fn wait_for_leaders(&self, topic: &str, partitions: i32) -> Result<(), HarnessError> {
        let count = usize::try_from(partitions).unwrap_or(1).max(1);
        self.wait_everywhere(&format!("leaders of the {count} partitions of {topic}"), |address| {
            Ok(match describe(address, topic)? {
                Ok(seen) if seen.len() == count && seen.iter().all(|one| one.leader >= 0) => Ok(()),
                other => Err(format!("{address} knows {other:?}")),
            })
        })
    }

    /// Polls all running brokers until each of them says yes.
    fn wait_everywhere(
        &self,
        awaited: &str,
        check: impl Fn(&str) -> io::Result<Result<(), String>>,
    ) -> Result<(), HarnessError> {
        self.wait_for(awaited, || {
            for (id, state) in self.states()? {
                if state != super::BrokerState::Running {
                    continue;
                }
                match check(self.address(id)) {
                    Ok(Ok(())) => {}
                    Ok(Err(seen)) => return Ok(Err(seen)),
                    Err(cause) => return Ok(Err(format!("broker {id} does not answer: {cause}"))),
                }
            }
            Ok(Ok(()))
        })
    }

    /// Sends a request to some broker, which forwards it to the controller if need be, until it is answered without
    /// a passing error. `errors` gives all error codes of a response.
    pub(super) fn ask<R: Request>(
        &self,
        name: &'static str,
        subject: &str,
        request: &R,
        version: i16,
        mut errors: impl FnMut(&R::Response) -> Vec<(i16, Option<StrBytes>)>,
    ) -> Result<(), HarnessError> {
        self.wait_for(&format!("an answer to {name} of {subject}"), || {
            let (address, response) = match self.first_answer(name, |address| wire::call(address, request, version)) {
                Ok(answer) => answer,
                // All may be about to start.
                Err(unreachable) => return Ok(Err(unreachable.to_string())),
            };
            match errors(&response).into_iter().find(|(code, _)| *code != 0) {
                None => Ok(Ok(())),
                Some((code, message)) => {
                    let error = refused(name, subject, code, message);
                    let passing = ResponseError::try_from_code(code).is_some_and(|error| error.is_retriable());
                    // Retriable by Kafka's table, but no waiting helps where the topic must be there already.
                    if passing && code != 3 { Ok(Err(format!("{address}: {error}"))) } else { Err(error) }
                }
            }
        })
    }

    /// The first answer that any broker gives, and that broker's address.
    fn first_answer<T>(
        &self,
        request: &'static str,
        call: impl Fn(&str) -> io::Result<T>,
    ) -> Result<(String, T), HarnessError> {
        let addresses = self.bootstrap();
        let mut cause = io::Error::other("there are no brokers");
        for address in &addresses {
            match call(address) {
                Ok(answer) => return Ok((address.clone(), answer)),
                Err(error) => cause = error,
            }
        }
        let logs = Path::display(self.dir()).to_string();
        Err(HarnessError::Unreachable { request, brokers: addresses.join(","), cause, logs })
    }
}

/// The partitions of a topic by index, or the error code of the topic.
fn describe(address: &str, topic: &str) -> io::Result<Result<Vec<Partition>, i16>> {
    let asked = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
    let request = MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(false);
    let response = wire::call(address, &request, METADATA)?;
    let Some(topic) = response.topics.into_iter().next() else { return Ok(Err(3)) };
    if topic.error_code != 0 {
        return Ok(Err(topic.error_code));
    }
    let mut partitions: Vec<_> = topic.partitions.into_iter().map(Partition::from).collect();
    partitions.sort_by_key(|one| one.index);
    Ok(Ok(partitions))
}

impl From<MetadataResponsePartition> for Partition {
    fn from(one: MetadataResponsePartition) -> Self {
        let ids = |nodes: Vec<BrokerId>| nodes.into_iter().map(|id| id.0).collect();
        Self {
            index: one.partition_index,
            leader: one.leader_id.0,
            leader_epoch: one.leader_epoch,
            replicas: ids(one.replica_nodes),
            in_sync: ids(one.isr_nodes),
        }
    }
}

fn refused(request: &'static str, subject: &str, code: i16, message: Option<StrBytes>) -> HarnessError {
    let name = ResponseError::try_from_code(code).map(|error| error.to_string()).unwrap_or_default();
    let message = message.map_or(name.clone(), |words| format!("{name}: {words}"));
    HarnessError::Refused { request, subject: subject.into(), code, message }
}

pub(super) fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.into())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}
