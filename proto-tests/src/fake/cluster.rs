//! What a test holds.

use super::builder::Builder;
use super::fault::{Fault, FaultId};
use super::ledger::Ledger;
use super::partition::Partition;
use super::server::{self, Command};
use super::sessions::Sessions;
use super::state::{Broker, Leaders, Settings, Shared, TopicConfig};
use super::view::View;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// A running fake cluster. Clones are the same cluster; it stops when the last one is dropped.
#[derive(Debug, Clone)]
pub struct FakeCluster {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    commands: UnboundedSender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Inner {
    fn stop(&self) {
        let _ = self.commands.send(Command::Shutdown);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl FakeCluster {
    /// A cluster of so many brokers with the default settings; their ids are 1, 2, 3 and so on.
    ///
    /// # Panics
    /// When no thread can be started or no port be had on 127.0.0.1.
    pub fn start(brokers: usize) -> Self {
        Self::builder().brokers(brokers).start()
    }

    /// A cluster with other settings.
    pub fn builder() -> Builder {
        Builder::new()
    }

    #[allow(clippy::expect_used, reason = "a test cannot go on without its cluster")]
    pub(crate) fn launch(brokers: usize, settings: Settings) -> Self {
        let shared = Arc::new(Shared::new(settings));
        let (commands, received) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a tokio runtime");
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("fake-cluster".to_owned())
            .spawn(move || runtime.block_on(server::run(for_thread, received)))
            .expect("a thread for the fake cluster");
        let inner = Inner { shared, commands, thread: Mutex::new(Some(thread)) };
        let cluster = Self { inner: Arc::new(inner) };
        for id in (1..).take(brokers) {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let broker = Broker { alive: true, address, connections: 0, frozen: None, sessions: Sessions::default() };
            cluster.inner.shared.lock().brokers.insert(id, broker);
            cluster.listen(id);
        }
        cluster
    }

    // --- where it is ---

    /// Addresses of all brokers as `host:port`, the dead ones included.
    pub fn bootstrap(&self) -> Vec<String> {
        self.inner.shared.lock().brokers.values().map(|broker| broker.address.to_string()).collect()
    }

    /// Ids of all brokers.
    pub fn brokers(&self) -> Vec<i32> {
        self.inner.shared.lock().brokers.keys().copied().collect()
    }

    /// Where a broker listens, or did before it was killed.
    ///
    /// # Panics
    /// When there is no such broker.
    #[allow(clippy::expect_used, reason = "a mistake of the test")]
    pub fn address(&self, broker: i32) -> SocketAddr {
        self.inner.shared.lock().brokers.get(&broker).expect("a broker with this id").address
    }

    /// The cluster id that Metadata answers.
    pub fn cluster_id(&self) -> String {
        self.inner.shared.lock().settings.cluster_id.clone()
    }

    // --- topics ---

    /// Creates a topic with default settings and a copy on every broker. An existing one stays as it is.
    pub fn create_topic(&self, name: &str, partitions: i32) {
        self.create_topic_with(name, partitions, TopicConfig::default());
    }

    /// Creates a topic. An existing one stays as it is.
    pub fn create_topic_with(&self, name: &str, partitions: i32, config: TopicConfig) {
        let mut state = self.inner.shared.lock();
        if !state.topics.contains_key(name) {
            state.create_topic(name, partitions, config);
        }
        drop(state);
        self.inner.shared.ring();
    }

    /// Deletes a topic. One created later under the same name has another topic id and remembers nothing.
    pub fn delete_topic(&self, name: &str) {
        self.inner.shared.lock().delete_topic(name);
        self.inner.shared.ring();
    }

    /// Adds partitions until the topic has `count`.
    pub fn add_partitions(&self, name: &str, count: usize) {
        let mut state = self.inner.shared.lock();
        let live = state.live();
        let replication = state.topics.get(name).map(|topic| state.replication(&topic.config));
        if let Some((topic, replication)) = state.topics.get_mut(name).zip(replication) {
            while topic.partitions.len() < count {
                let mut replicas = topic.partitions.last().map(|last| last.replicas.clone()).unwrap_or_default();
                if !replicas.is_empty() {
                    replicas.rotate_left(1);
                }
                topic.partitions.push(Partition::new(replicas, &live, replication));
            }
        }
        drop(state);
        self.inner.shared.ring();
    }

    /// Leaves a topic out of metadata answers (error 3), or names it again. Its data stays.
    pub fn hide_topic(&self, name: &str, hidden: bool) {
        if let Some(topic) = self.inner.shared.lock().topics.get_mut(name) {
            topic.hidden = hidden;
        }
    }

    /// Moves the log start to `before_offset`, as DeleteRecords does; at most to the high watermark.
    pub fn delete_records(&self, topic: &str, partition: i32, before_offset: i64) {
        self.with_partition(topic, partition, |one| one.delete_before(before_offset));
    }

    // --- brokers ---

    /// Kills a broker: connections are cut, the port refuses, another member of the ISR leads its partitions. What only it
    /// had is lost then. It forgets all but the newest batch of each producer.
    pub fn kill(&self, broker: i32) {
        self.kill_keeping(broker, true);
    }

    fn kill_keeping(&self, broker: i32, keep_port: bool) {
        {
            let mut state = self.inner.shared.lock();
            let Some(one) = state.brokers.get_mut(&broker).filter(|one| one.alive) else { return };
            one.alive = false;
            one.frozen = None;
            one.sessions = Sessions::default();
            for partition in state.all_partitions_mut() {
                partition.broker_stopped(broker);
            }
        }
        self.inner.shared.ring();
        let (done, stopped) = mpsc::channel();
        if self.inner.commands.send(Command::Stop { broker, keep_port, done }).is_ok() {
            let _ = stopped.recv();
        }
    }

    /// Starts a killed broker, on its old port if that is still free.
    pub fn restart(&self, broker: i32) {
        if self.inner.shared.lock().brokers.get(&broker).is_none_or(|one| one.alive) {
            return;
        }
        // The port first: metadata must not name a broker before it has one.
        self.listen(broker);
        {
            let mut state = self.inner.shared.lock();
            if let Some(one) = state.brokers.get_mut(&broker) {
                one.alive = true;
            }
            let live = state.live();
            for partition in state.all_partitions_mut() {
                partition.broker_started(broker);
                partition.rejoin(&live);
            }
        }
        self.inner.shared.ring();
    }

    /// Kills all brokers.
    pub fn kill_all(&self) {
        self.brokers().into_iter().for_each(|broker| self.kill(broker));
    }

    /// Starts all killed brokers.
    pub fn restart_all(&self) {
        self.brokers().into_iter().for_each(|broker| self.restart(broker));
    }

    /// Cuts all connections of a broker, which goes on.
    pub fn cut_connections(&self, broker: i32) {
        let (done, cut) = mpsc::channel();
        if self.inner.commands.send(Command::Cut { broker, done }).is_ok() {
            let _ = cut.recv();
        }
    }

    /// Restarts a broker on another port.
    pub fn readdress(&self, broker: i32) {
        self.kill_keeping(broker, false);
        if let Some(one) = self.inner.shared.lock().brokers.get_mut(&broker) {
            one.address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        }
        self.restart(broker);
    }

    /// Lets a broker go on telling the leaders and leader epochs of now in its Metadata answers, or the true ones again.
    pub fn freeze_metadata(&self, broker: i32, frozen: bool) {
        let mut state = self.inner.shared.lock();
        let now = frozen.then(|| {
            let mut leaders = Leaders::new();
            for (name, topic) in &state.topics {
                for (index, one) in (0..).zip(&topic.partitions) {
                    leaders.insert((name.clone(), index), (one.leader, one.leader_epoch));
                }
            }
            leaders
        });
        if let Some(one) = state.brokers.get_mut(&broker) {
            one.frozen = now;
        }
    }

    /// Highest version of one API that all brokers offer from now on; -1 takes the API away, `None` gives it back.
    pub fn limit_version(&self, api_key: i16, version: Option<i16>) {
        let mut state = self.inner.shared.lock();
        match version {
            Some(version) => state.settings.max_versions.insert(api_key, version),
            None => state.settings.max_versions.remove(&api_key),
        };
    }

    // --- leaders and replication ---

    /// Makes another replica leader, in a new epoch. What the followers do not have is lost.
    pub fn move_leader(&self, topic: &str, partition: i32, to_broker: i32) {
        self.with_partition(topic, partition, |one| one.elect(to_broker));
    }

    /// A clean election of another member of the ISR, without what was only on the leader (see
    /// [`FakeCluster::hold_replication`]). Answers the new leader.
    pub fn elect_clean_without(&self, topic: &str, partition: i32) -> Option<i32> {
        self.with_partition(topic, partition, |one| {
            let next = one.isr.iter().copied().find(|id| Some(*id) != one.leader)?;
            one.elect(next);
            Some(next)
        })
        .flatten()
    }

    /// An unclean election: the last batches are lost although they may have been acknowledged. Another replica leads if
    /// there is a live one.
    pub fn unclean_election(&self, topic: &str, partition: i32, lose_last_n_batches: usize) {
        let live = self.inner.shared.lock().live();
        self.with_partition(topic, partition, |one| {
            let other = one.replicas.iter().copied().find(|id| Some(*id) != one.leader && live.contains(id));
            if let Some(next) = other.or(one.leader) {
                one.elect_unclean(next, lose_last_n_batches);
            }
        });
    }

    /// Stops followers from copying, or lets them catch up. Meanwhile batches are appended on the leader only, the high
    /// watermark stands still, and acks=all ends in REQUEST_TIMED_OUT. With one replica it has no effect.
    pub fn hold_replication(&self, topic: &str, partition: i32, hold: bool) {
        self.with_partition(topic, partition, |one| {
            one.hold_replication = hold;
            one.replicate();
        });
    }

    /// Sets the replicas in sync; the leader is always one of them.
    pub fn set_isr(&self, topic: &str, partition: i32, brokers: &[i32]) {
        self.with_partition(topic, partition, |one| {
            one.isr = one.replicas.iter().copied().filter(|id| brokers.contains(id)).collect();
            if let Some(leader) = one.leader.filter(|leader| !one.isr.contains(leader)) {
                one.isr.insert(0, leader);
            }
            one.replicate();
        });
    }

    /// Replaces the copy on `broker` by a new one, whose memory of producers comes from the retained log only.
    pub fn replace_replica(&self, topic: &str, partition: i32, broker: i32) {
        self.with_partition(topic, partition, |one| one.rebuild(broker));
    }

    /// Moves a group to another coordinator.
    pub fn move_coordinator(&self, group: &str, to_broker: i32) {
        self.inner.shared.lock().coordinators.insert(group.to_owned(), to_broker);
    }

    /// Takes a member of KIP-848's protocol out of its group: it hears of it with its next heartbeat or commit. Answers
    /// whether there was one.
    pub fn fence_member(&self, group: &str, member: &str) -> bool {
        let fenced = self.inner.shared.lock().next_groups.get_mut(group).is_some_and(|group| group.fence(member));
        self.inner.shared.ring();
        fenced
    }

    // --- time ---

    /// Moves the cluster's clock: sessions, rebalances, and, when ten minutes have passed since the last check, the expiry
    /// of producer ids.
    pub fn advance_time(&self, by: Duration) {
        let shared = &self.inner.shared;
        shared.clock.advance(by);
        shared.lock().tick(shared.clock.now_ms());
        shared.ring();
    }

    /// Runs the check for expired producer ids now.
    pub fn check_producer_expiry(&self) {
        let shared = &self.inner.shared;
        shared.lock().expire_producers(shared.clock.now_ms());
    }

    /// Sets `producer.id.expiration.ms` for the coming checks.
    pub fn set_producer_id_expiration(&self, expiration: Duration) {
        self.inner.shared.lock().settings.producer_id_expiration = expiration;
    }

    /// Milliseconds since 1970 by the cluster's clock.
    pub fn now_ms(&self) -> i64 {
        self.inner.shared.clock.now_ms()
    }

    // --- faults, and what happened ---

    /// Arms a fault. Faults are tried in the order of their injection; the first that strikes wins.
    pub fn inject(&self, fault: Fault) -> FaultId {
        self.inner.shared.lock().faults.inject(fault)
    }

    /// Takes one fault back.
    pub fn remove_fault(&self, fault: FaultId) {
        self.inner.shared.lock().faults.remove(fault);
    }

    /// Takes all faults back.
    pub fn clear_faults(&self) {
        self.inner.shared.lock().faults.clear();
    }

    /// What happened so far.
    pub fn ledger(&self) -> Ledger {
        Ledger::of(&self.inner.shared.lock())
    }

    /// Looks at the state now.
    pub fn look<T>(&self, look: impl FnOnce(View<'_>) -> T) -> T {
        look(View { state: &self.inner.shared.lock() })
    }

    /// Waits until `done` holds, woken by every change; answers whether it came to hold before `timeout`.
    pub fn wait_for(&self, mut done: impl FnMut(View<'_>) -> bool, timeout: Duration) -> bool {
        self.inner.shared.wait(timeout, |state| done(View { state }))
    }

    /// Stops the cluster for all clones.
    pub fn shutdown(&self) {
        self.inner.stop();
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    #[allow(clippy::expect_used, reason = "a test cannot go on without its broker")]
    fn listen(&self, broker: i32) {
        let (done, started) = mpsc::channel();
        let sent = self.inner.commands.send(Command::Start { broker, done }).is_ok();
        if let Some(result) = sent.then(|| started.recv().ok()).flatten() {
            result.expect("a port on 127.0.0.1");
        }
    }

    fn with_partition<T>(&self, topic: &str, partition: i32, act: impl FnOnce(&mut Partition) -> T) -> Option<T> {
        let out = self.inner.shared.lock().partition_mut(topic, partition).map(act);
        self.inner.shared.ring();
        out
    }
}
