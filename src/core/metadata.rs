//! What is known about the cluster: brokers, topics, leaders. A view is never changed, only replaced by the next one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::types::{BrokerId, TopicId, TopicPartition};
use crate::wire::ErrorCode;
use crate::wire::requests::metadata::{MetadataPartition, MetadataResponse, MetadataTopic};

/// The cluster as this client knows it at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClusterView {
    /// Counts the changes: 0 is the view of a client that has heard from no broker yet.
    pub(crate) version: u64,
    /// The cluster's id, once a broker has told it.
    pub(crate) cluster_id: Option<Arc<str>>,
    /// The controller, or a broker that forwards to it.
    pub(crate) controller: Option<BrokerId>,
    /// The brokers of the last answer.
    pub(crate) brokers: BTreeMap<BrokerId, Arc<BrokerView>>,
    /// All topics that were ever asked for and answered, by name.
    pub(crate) topics: HashMap<Arc<str>, Arc<TopicView>>,
}

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BrokerView {
    /// Its id.
    pub(crate) id: BrokerId,
    /// Its advertised host.
    pub(crate) host: Arc<str>,
    /// Its advertised port.
    pub(crate) port: u16,
    /// Its rack.
    pub(crate) rack: Option<Arc<str>>,
}

/// A topic and its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicView {
    /// Its name.
    pub(crate) name: Arc<str>,
    /// Its id, or [`TopicId::NONE`] from brokers before 2.8.
    pub(crate) id: TopicId,
    /// Whether it is one of Kafka's own.
    pub(crate) internal: bool,
    /// Its partitions; the index in this list is the partition's.
    pub(crate) partitions: Vec<PartitionView>,
    /// What the last answer said against the topic. The partitions are then those of an earlier answer: a topic that
    /// vanishes from a broker's metadata for a moment must not reset anybody's counters.
    pub(crate) error: Option<ErrorCode>,
}

/// A partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartitionView {
    /// The leader, if there is one.
    pub(crate) leader: Option<BrokerId>,
    /// The leader's epoch; -1 when it is not known. Never goes back while the topic's id stays the same.
    pub(crate) leader_epoch: i32,
    /// All replicas.
    pub(crate) replicas: Vec<BrokerId>,
    /// Those in sync.
    pub(crate) isr: Vec<BrokerId>,
    /// Those that are offline.
    pub(crate) offline: Vec<BrokerId>,
    /// What the last answer said against the partition.
    pub(crate) error: Option<ErrorCode>,
}

impl TopicView {
    /// Partition `index`, if it exists.
    pub(crate) fn partition(&self, index: i32) -> Option<&PartitionView> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    /// Whether records can be sent to it, or fetched, as far as the view can tell.
    pub(crate) fn is_usable(&self) -> bool {
        self.error.is_none() && !self.partitions.is_empty()
    }
}

impl ClusterView {
    /// The topic `name`, if a broker has ever told of it.
    pub(crate) fn topic(&self, name: &str) -> Option<&Arc<TopicView>> {
        self.topics.get(name)
    }

    /// Leader and leader epoch of a partition.
    pub(crate) fn leader(&self, partition: &TopicPartition) -> Option<(BrokerId, i32)> {
        let view = self.topic(&partition.topic)?.partition(partition.partition)?;
        Some((view.leader?, view.leader_epoch))
    }

    /// The view after `answer`. None when it says nothing new.
    ///
    /// Topics that the answer does not mention stay as they are: a missing line is no statement. Brokers are taken over
    /// whole, unless the answer names none.
    pub(crate) fn merge(&self, answer: &MetadataResponse) -> Option<ClusterView> {
        let mut next = self.clone();
        if let Some(id) = &answer.cluster_id
            && self.cluster_id.as_deref() != Some(id.as_str())
        {
            next.cluster_id = Some(Arc::from(id.as_str()));
        }
        if answer.controller >= 0 {
            next.controller = Some(answer.controller);
        }
        if !answer.brokers.is_empty() {
            next.brokers = answer
                .brokers
                .iter()
                .map(|broker| {
                    let rack = broker.rack.as_deref().map(Arc::from);
                    let host = Arc::from(broker.host.as_str());
                    (broker.id, Arc::new(BrokerView { id: broker.id, host, port: broker.port, rack }))
                })
                .collect();
        }
        for topic in answer.topics.iter().filter(|topic| !topic.name.is_empty()) {
            let old = self.topics.get(&topic.name);
            let merged = merge_topic(old.map(|old| &**old), topic);
            if old.is_none_or(|old| **old != merged) {
                next.topics.insert(merged.name.clone(), Arc::new(merged));
            }
        }
        self.followed_by(next)
    }

    /// The view after a Produce or Fetch answer named a partition's leader (KIP-951). None when that is nothing new, and
    /// when it is older than what is known.
    pub(crate) fn learn_leader(&self, partition: &TopicPartition, leader: BrokerId, epoch: i32) -> Option<ClusterView> {
        let topic = self.topic(&partition.topic)?;
        let index = usize::try_from(partition.partition).ok()?;
        let known = topic.partitions.get(index)?;
        if leader < 0 || epoch <= known.leader_epoch {
            return None;
        }
        let mut topic = TopicView::clone(topic);
        let changed = topic.partitions.get_mut(index)?;
        changed.leader = Some(leader);
        changed.leader_epoch = epoch;
        changed.error = None;
        let mut next = self.clone();
        next.topics.insert(topic.name.clone(), Arc::new(topic));
        self.followed_by(next)
    }

    /// `next` with the next version, if it differs.
    fn followed_by(&self, mut next: ClusterView) -> Option<ClusterView> {
        (self.version == 0 || *self != next).then(|| {
            next.version = self.version + 1;
            next
        })
    }
}

/// One topic of an answer, put over what was known of it.
fn merge_topic(old: Option<&TopicView>, answer: &MetadataTopic) -> TopicView {
    // The same topic, as far as anybody can tell: without ids on one side only the name speaks.
    let same = old.filter(|old| old.id == answer.id || !old.id.is_some() || !answer.id.is_some());
    let error = answer.error.err();
    let known = same.map_or(&[][..], |same| &same.partitions);
    let partitions = match error {
        // An error comes without partitions; what they were is still the best guess.
        Some(_) => known.to_vec(),
        None => {
            let mut partitions = known.to_vec();
            // A topic never loses partitions; indexes must be dense, so a hole in the answer ends what can be used.
            let mut listed: Vec<&MetadataPartition> = answer.partitions.iter().collect();
            listed.sort_by_key(|partition| partition.partition);
            for partition in listed {
                match usize::try_from(partition.partition) {
                    Ok(index) if index < partitions.len() => {
                        partitions[index] = merge_partition(&partitions[index], partition);
                    }
                    Ok(index) if index == partitions.len() => {
                        let nothing = PartitionView { leader_epoch: -1, ..PartitionView::default() };
                        partitions.push(merge_partition(&nothing, partition));
                    }
                    _ => {}
                }
            }
            partitions
        }
    };
    let id = same.map_or(answer.id, |same| if answer.id.is_some() { answer.id } else { same.id });
    // Taken from the old view so that all layers share one allocation of the name.
    let name = old.map_or_else(|| answer.name.clone(), |old| old.name.clone());
    TopicView { name, id, internal: answer.internal, partitions, error }
}

/// One partition of an answer, put over what was known of it.
fn merge_partition(known: &PartitionView, answer: &MetadataPartition) -> PartitionView {
    // A broker that lags behind tells of an older leader: not believed (KIP-320).
    if answer.leader_epoch >= 0 && answer.leader_epoch < known.leader_epoch {
        return known.clone();
    }
    PartitionView {
        leader: (answer.leader >= 0).then_some(answer.leader),
        leader_epoch: answer.leader_epoch.max(known.leader_epoch),
        replicas: answer.replicas.clone(),
        isr: answer.isr.clone(),
        offline: answer.offline.clone(),
        error: answer.error.err(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::requests::metadata::MetadataBroker;

    fn answer(id: u8, leaders: &[(BrokerId, i32)]) -> MetadataResponse {
        let partitions = leaders.iter().enumerate().map(|(index, (leader, epoch))| MetadataPartition {
            error: ErrorCode::NONE,
            partition: index as i32,
            leader: *leader,
            leader_epoch: *epoch,
            replicas: vec![1, 2, 3],
            isr: vec![1, 2, 3],
            offline: vec![],
        });
        MetadataResponse {
            brokers: vec![MetadataBroker { id: 1, host: "localhost".into(), port: 9092, rack: None }],
            cluster_id: Some("c".into()),
            controller: 1,
            topics: vec![MetadataTopic {
                error: ErrorCode::NONE,
                name: "t".into(),
                id: TopicId([id; 16]),
                internal: false,
                partitions: partitions.collect(),
            }],
            ..MetadataResponse::default()
        }
    }

    fn leader(view: &ClusterView, partition: i32) -> Option<(BrokerId, i32)> {
        view.leader(&TopicPartition::new("t", partition))
    }

    #[test]
    fn stale_leader_epoch_ignored() {
        let view = ClusterView::default().merge(&answer(1, &[(1, 5), (2, 7)])).unwrap();
        let next = view.merge(&answer(1, &[(3, 6), (3, 6)])).unwrap();
        assert_eq!(leader(&next, 0), Some((3, 6)), "newer epoch");
        assert_eq!(leader(&next, 1), Some((2, 7)), "older epoch");
        assert_eq!(next.version, 2);
        assert!(next.merge(&answer(1, &[(1, 5), (1, 5)])).is_none(), "nothing new");
        let learnt = next.learn_leader(&TopicPartition::new("t", 0), 2, 9).unwrap();
        assert_eq!(leader(&learnt, 0), Some((2, 9)));
        assert!(learnt.learn_leader(&TopicPartition::new("t", 0), 1, 8).is_none());
    }

    #[test]
    fn a_topic_created_again_starts_anew() {
        let view = ClusterView::default().merge(&answer(1, &[(1, 5), (2, 7)])).unwrap();
        let next = view.merge(&answer(2, &[(3, 0)])).unwrap();
        assert_eq!(leader(&next, 0), Some((3, 0)));
        assert_eq!(next.topic("t").unwrap().partitions.len(), 1);
        assert_eq!(next.topic("t").map(|topic| topic.id), Some(TopicId([2; 16])));
    }

    #[test]
    fn topic_vanishes_from_metadata_and_returns() {
        let view = ClusterView::default().merge(&answer(1, &[(1, 5)])).unwrap();
        let mut missing = answer(1, &[]);
        missing.topics.clear();
        assert!(view.merge(&missing).is_none(), "a missing line is no statement");
        let mut unknown = answer(0, &[]);
        unknown.topics[0].error = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        let gone = view.merge(&unknown).unwrap();
        let topic = gone.topic("t").unwrap();
        assert_eq!(topic.error, Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
        assert_eq!((topic.partitions.len(), topic.id), (1, TopicId([1; 16])), "kept as it was");
        let back = gone.merge(&answer(1, &[(1, 5)])).unwrap();
        assert!(back.topic("t").unwrap().is_usable());
        assert_eq!(leader(&back, 0), Some((1, 5)));
    }

    #[test]
    fn a_partition_without_leader_keeps_its_epoch() {
        let view = ClusterView::default().merge(&answer(1, &[(1, 5)])).unwrap();
        let next = view.merge(&answer(1, &[(-1, -1)])).unwrap();
        assert_eq!(leader(&next, 0), None);
        assert_eq!(next.topic("t").unwrap().partitions[0].leader_epoch, 5);
    }

    #[test]
    fn strange_partition_indexes_are_left_out() {
        let mut strange = answer(1, &[(1, 1), (1, 1)]);
        strange.topics[0].partitions[1].partition = i32::MAX;
        let negative = MetadataPartition { partition: -7, ..strange.topics[0].partitions[0].clone() };
        strange.topics[0].partitions.push(negative);
        let view = ClusterView::default().merge(&strange).unwrap();
        assert_eq!(view.topic("t").unwrap().partitions.len(), 1);
    }
}
