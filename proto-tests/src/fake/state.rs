//! Everything the brokers share, behind one lock.

use super::clock::Clock;
use super::fault::Faults;
use super::group::Group;
use super::ledger::{Commit, RequestSeen};
use super::next_group::NextGroup;
use super::partition::{Partition, Replication};
use super::sasl::FakeSasl;
use super::security::SecuritySeen;
use super::sessions::Sessions;
use super::tls::{FakeTls, TlsState};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use uuid::Uuid;

/// Requests that the log keeps one by one; older ones only count.
const REQUESTS_KEPT: usize = 100_000;

/// Settings of one topic.
#[derive(Debug, Clone)]
pub struct TopicConfig {
    /// `min.insync.replicas`: with fewer, acks=all is refused. Default: that of the cluster.
    pub min_insync: Option<usize>,
    /// `max.message.bytes`: largest batch, header included. Default 1,048,588.
    pub max_message_bytes: usize,
    /// `message.timestamp.type=LogAppendTime`. Default false.
    pub log_append_time: bool,
    /// Copies of each partition; `None` is one on every broker.
    pub replication: Option<usize>,
    /// `cleanup.policy=compact`: records must have keys. Nothing is compacted. Default false.
    pub compacted: bool,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            min_insync: None,
            max_message_bytes: 1_048_588,
            log_append_time: false,
            replication: None,
            compacted: false,
        }
    }
}

/// Settings of the cluster, made by the builder.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) auto_create: bool,
    pub(crate) default_partitions: i32,
    pub(crate) min_insync: usize,
    pub(crate) moves_below_min_insync: bool,
    pub(crate) producer_id_expiration: Duration,
    pub(crate) initial_rebalance_delay: Duration,
    pub(crate) consumer_heartbeat_interval: Duration,
    pub(crate) consumer_session_timeout: Duration,
    pub(crate) cluster_id: String,
    /// Of the brokers, in the order of their ids; those beyond the list have none.
    pub(crate) racks: Vec<String>,
    /// Highest version per API key; -1 takes the API away.
    pub(crate) max_versions: BTreeMap<i16, i16>,
    /// The host in metadata, for all brokers and for some.
    pub(crate) advertised_host: Option<String>,
    pub(crate) advertised: BTreeMap<i32, String>,
    /// Bytes of each connection that are kept.
    pub(crate) raw_bytes: usize,
    /// As it was at the start; what holds now is in [`State::tls`].
    pub(crate) tls: Option<FakeTls>,
    /// As it is now.
    pub(crate) sasl: Option<FakeSasl>,
}

/// Leader and leader epoch of each partition.
pub(crate) type Leaders = BTreeMap<(String, i32), (Option<i32>, i32)>;

#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) alive: bool,
    pub(crate) address: SocketAddr,
    pub(crate) connections: usize,
    /// Leader and epoch of each partition as this broker tells them, when it is to tell an old state.
    pub(crate) frozen: Option<Leaders>,
    pub(crate) sessions: Sessions,
}

#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) id: Uuid,
    pub(crate) config: TopicConfig,
    pub(crate) partitions: Vec<Partition>,
    /// Missing from metadata answers, though it exists.
    pub(crate) hidden: bool,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) brokers: BTreeMap<i32, Broker>,
    pub(crate) topics: BTreeMap<String, Topic>,
    pub(crate) topic_names: BTreeMap<Uuid, String>,
    /// Topics that were deleted, in order; the ledger still shows them on request.
    pub(crate) deleted: Vec<(String, Topic)>,
    /// Offsets and classic members.
    pub(crate) groups: BTreeMap<String, Group>,
    /// Members of KIP-848's protocol.
    pub(crate) next_groups: BTreeMap<String, NextGroup>,
    /// Coordinators that a test has placed.
    pub(crate) coordinators: BTreeMap<String, i32>,
    pub(crate) next_producer_id: i64,
    next_topic: u128,
    next_member: u64,
    pub(crate) faults: Faults,
    pub(crate) tls: Option<TlsState>,
    pub(crate) security: SecuritySeen,
    pub(crate) commits: Vec<Commit>,
    pub(crate) request_counts: BTreeMap<(i16, i16, i32, String), u64>,
    pub(crate) requests: VecDeque<RequestSeen>,
    pub(crate) started_ms: i64,
    last_expiry_check_ms: i64,
}

impl State {
    /// `broker.rack`.
    pub(crate) fn rack(&self, broker: i32) -> Option<&str> {
        let at = usize::try_from(broker).ok()?.checked_sub(1)?;
        self.settings.racks.get(at).map(String::as_str)
    }

    pub(crate) fn new(settings: Settings, now_ms: i64) -> Self {
        Self {
            tls: settings.tls.clone().map(TlsState::new),
            security: SecuritySeen::default(),
            settings,
            brokers: BTreeMap::new(),
            topics: BTreeMap::new(),
            topic_names: BTreeMap::new(),
            deleted: Vec::new(),
            groups: BTreeMap::new(),
            next_groups: BTreeMap::new(),
            coordinators: BTreeMap::new(),
            next_producer_id: 1000,
            next_topic: 0,
            next_member: 0,
            faults: Faults::default(),
            commits: Vec::new(),
            request_counts: BTreeMap::new(),
            requests: VecDeque::new(),
            started_ms: now_ms,
            last_expiry_check_ms: now_ms,
        }
    }

    /// The host that metadata names.
    pub(crate) fn host(&self, broker: i32) -> String {
        let settings = &self.settings;
        let ip = || self.brokers.get(&broker).map_or_else(String::new, |one| one.address.ip().to_string());
        settings.advertised.get(&broker).or(settings.advertised_host.as_ref()).cloned().unwrap_or_else(ip)
    }

    pub(crate) fn live(&self) -> Vec<i32> {
        self.brokers.iter().filter(|(_, broker)| broker.alive).map(|(id, _)| *id).collect()
    }

    pub(crate) fn is_alive(&self, broker: i32) -> bool {
        self.brokers.get(&broker).is_some_and(|broker| broker.alive)
    }

    pub(crate) fn create_topic(&mut self, name: &str, partitions: i32, config: TopicConfig) -> Uuid {
        self.next_topic += 1;
        // Version and variant of a random UUID, so that no client takes it for a reserved one.
        let id = Uuid::from_u128(0x1de1_1b1e_0000_4000_8000_0000_0000_0000 | self.next_topic);
        let all: Vec<i32> = self.brokers.keys().copied().collect();
        let live = self.live();
        let copies = config.replication.unwrap_or(all.len()).clamp(1, all.len());
        let replication = self.replication(&config);
        let partitions = (0..usize::try_from(partitions).unwrap_or(0))
            .map(|index| {
                let replicas = (0..copies).map(|copy| all[(index + copy) % all.len()]).collect();
                Partition::new(replicas, &live, replication)
            })
            .collect();
        self.topic_names.insert(id, name.to_owned());
        self.topics.insert(name.to_owned(), Topic { id, config, partitions, hidden: false });
        id
    }

    pub(crate) fn replication(&self, config: &TopicConfig) -> Replication {
        Replication {
            min_insync: config.min_insync.unwrap_or(self.settings.min_insync),
            moves_below_min_insync: self.settings.moves_below_min_insync,
        }
    }

    pub(crate) fn delete_topic(&mut self, name: &str) -> bool {
        let Some(topic) = self.topics.remove(name) else { return false };
        self.topic_names.remove(&topic.id);
        self.deleted.push((name.to_owned(), topic));
        for group in self.groups.values_mut() {
            group.offsets.retain(|(topic, _), _| topic != name);
        }
        true
    }

    pub(crate) fn partition(&self, topic: &str, partition: i32) -> Option<&Partition> {
        self.topics.get(topic)?.partitions.get(usize::try_from(partition).ok()?)
    }

    pub(crate) fn partition_mut(&mut self, topic: &str, partition: i32) -> Option<&mut Partition> {
        self.topics.get_mut(topic)?.partitions.get_mut(usize::try_from(partition).ok()?)
    }

    pub(crate) fn all_partitions_mut(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.topics.values_mut().flat_map(|topic| topic.partitions.iter_mut())
    }

    /// The broker that coordinates this group: a place given by a test, else a hash over the live brokers.
    pub(crate) fn coordinator(&self, group: &str) -> Option<i32> {
        let live = self.live();
        if let Some(placed) = self.coordinators.get(group).filter(|id| live.contains(id)) {
            return Some(*placed);
        }
        let hash = group.bytes().fold(7_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let index = usize::try_from(hash).unwrap_or(0).checked_rem(live.len())?;
        live.get(index).copied()
    }

    /// The group of KIP-848's protocol under this name, unless classic members have taken it over.
    pub(crate) fn next_group(&self, name: &str) -> Option<&NextGroup> {
        let taken = self.groups.get(name).is_some_and(Group::has_classic_members);
        self.next_groups.get(name).filter(|group| group.exists() && !taken)
    }

    pub(crate) fn new_member_id(&mut self, prefix: &str) -> String {
        self.next_member += 1;
        format!("{prefix}-{:08}-member", self.next_member)
    }

    pub(crate) fn log_request(&mut self, request: RequestSeen) {
        let key = (request.api_key, request.version, request.broker, request.client_id.clone());
        *self.request_counts.entry(key).or_default() += 1;
        if self.requests.len() == REQUESTS_KEPT {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }

    /// What real brokers do on timers: sessions, rebalances, and every ten minutes the expiry of producer ids.
    pub(crate) fn tick(&mut self, now_ms: i64) -> bool {
        const EXPIRY_CHECK_MS: i64 = 600_000;
        if now_ms - self.last_expiry_check_ms >= EXPIRY_CHECK_MS {
            self.expire_producers(now_ms);
        }
        let mut changed = false;
        for group in self.groups.values_mut() {
            changed |= group.tick(now_ms);
        }
        let session_ms = i64::try_from(self.settings.consumer_session_timeout.as_millis()).unwrap_or(i64::MAX);
        for group in self.next_groups.values_mut() {
            changed |= group.tick(session_ms, now_ms);
        }
        changed
    }

    pub(crate) fn expire_producers(&mut self, now_ms: i64) {
        self.last_expiry_check_ms = now_ms;
        let expiration = i64::try_from(self.settings.producer_id_expiration.as_millis()).unwrap_or(i64::MAX);
        for partition in self.all_partitions_mut() {
            partition.producers.expire(now_ms, expiration);
        }
    }
}

/// The state, its lock, and the bells that ring when it changes.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// For threads: `FakeCluster::wait_for`.
    changed: Condvar,
    /// For requests that wait: fetches, acks=all.
    pub(crate) appended: Notify,
    pub(crate) clock: Clock,
}

impl Shared {
    pub(crate) fn new(settings: Settings) -> Self {
        let clock = Clock::default();
        let state = Mutex::new(State::new(settings, clock.now_ms()));
        Self { state, changed: Condvar::new(), appended: Notify::new(), clock }
    }

    /// The lock. A test that panicked while it held the lock does not take the others down.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes everyone who waits for a change of the state.
    pub(crate) fn ring(&self) {
        self.changed.notify_all();
        self.appended.notify_waiters();
    }

    /// Waits until `done` or the end of `timeout`; answers whether it was done.
    pub(crate) fn wait(&self, timeout: Duration, mut done: impl FnMut(&State) -> bool) -> bool {
        let guard = self.lock();
        let (guard, _) = self
            .changed
            .wait_timeout_while(guard, timeout, |state| !done(state))
            .unwrap_or_else(PoisonError::into_inner);
        done(&guard)
    }
}
