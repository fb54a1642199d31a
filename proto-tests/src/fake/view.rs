//! What a waiting test may look at.

use super::fault::FaultId;
use super::group::{Committed, GroupPhase};
use super::security::BrokerSecurity;
use super::state::State;

/// The state of the cluster at one moment.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub(crate) state: &'a State,
}

impl View<'_> {
    /// Offset of the next record; `None` when there is no such partition.
    pub fn end_offset(&self, topic: &str, partition: i32) -> Option<i64> {
        Some(self.state.partition(topic, partition)?.log.end)
    }

    /// First offset that may be read.
    pub fn start_offset(&self, topic: &str, partition: i32) -> Option<i64> {
        Some(self.state.partition(topic, partition)?.log.start)
    }

    /// Records below it are readable.
    pub fn high_watermark(&self, topic: &str, partition: i32) -> Option<i64> {
        Some(self.state.partition(topic, partition)?.high_watermark)
    }

    /// Sum of the end offsets of a topic's partitions.
    pub fn record_count(&self, topic: &str) -> i64 {
        self.state.topics.get(topic).map_or(0, |topic| topic.partitions.iter().map(|one| one.log.end).sum())
    }

    /// The leading broker, if any.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        self.state.partition(topic, partition)?.leader
    }

    /// Leader epoch.
    pub fn leader_epoch(&self, topic: &str, partition: i32) -> Option<i32> {
        Some(self.state.partition(topic, partition)?.leader_epoch)
    }

    /// Replicas in sync.
    pub fn isr(&self, topic: &str, partition: i32) -> Vec<i32> {
        self.state.partition(topic, partition).map(|one| one.isr.clone()).unwrap_or_default()
    }

    /// Topic id as its 128 bits.
    pub fn topic_id(&self, topic: &str) -> Option<uuid::Uuid> {
        Some(self.state.topics.get(topic)?.id)
    }

    /// The committed offset of a group.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<Committed> {
        self.state.groups.get(group)?.offsets.get(&(topic.to_owned(), partition)).cloned()
    }

    /// Where a group is in its life.
    pub fn group_phase(&self, group: &str) -> Option<GroupPhase> {
        Some(self.state.groups.get(group)?.phase)
    }

    /// Generation of a group.
    pub fn generation(&self, group: &str) -> Option<i32> {
        Some(self.state.groups.get(group)?.generation)
    }

    /// Member ids of a group, of both protocols.
    pub fn members(&self, group: &str) -> Vec<String> {
        let classic = self.state.groups.get(group).map(|group| group.member_ids());
        let next = self.state.next_groups.get(group).map(|group| group.member_ids());
        classic.into_iter().chain(next).flatten().collect()
    }

    /// Epoch of a member of KIP-848's protocol.
    pub fn member_epoch(&self, group: &str, member: &str) -> Option<i32> {
        self.state.next_groups.get(group)?.epoch_of(member)
    }

    /// How many partitions the coordinator has given to each member of KIP-848's protocol.
    pub fn assigned_counts(&self, group: &str) -> Vec<usize> {
        let Some(group) = self.state.next_groups.get(group) else { return Vec::new() };
        group.member_ids().iter().map(|member| group.assigned_to(member).len()).collect()
    }

    /// Broker that coordinates a group.
    pub fn coordinator(&self, group: &str) -> Option<i32> {
        self.state.coordinator(group)
    }

    /// Requests with this API key so far, at all brokers.
    pub fn requests(&self, api_key: i16) -> u64 {
        self.state.request_counts.iter().filter(|(key, _)| key.0 == api_key).map(|(_, count)| count).sum()
    }

    /// The fetch sessions at a broker: the epoch that is due, and how many partitions are read.
    pub fn fetch_sessions(&self, broker: i32) -> Vec<(i32, usize)> {
        let sessions = self.state.brokers.get(&broker).map(|broker| &broker.sessions.by_id);
        sessions.into_iter().flatten().map(|(_, session)| (session.next_epoch, session.wanted.len())).collect()
    }

    /// What a broker saw of TLS and SASL.
    pub fn security(&self, broker: i32) -> BrokerSecurity {
        self.state.security.broker(broker)
    }

    /// Open connections of a broker.
    pub fn connections(&self, broker: i32) -> usize {
        self.state.brokers.get(&broker).map_or(0, |broker| broker.connections)
    }

    /// How often a fault struck.
    pub fn struck(&self, fault: FaultId) -> usize {
        self.state.faults.struck(fault)
    }
}
