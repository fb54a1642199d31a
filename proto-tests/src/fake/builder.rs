//! Settings of a fake cluster before it starts.

use super::cluster::FakeCluster;
use super::sasl::FakeSasl;
use super::state::Settings;
use super::tls::FakeTls;
use std::collections::BTreeMap;
use std::time::Duration;

/// Made by [`FakeCluster::builder`].
#[derive(Debug, Clone)]
pub struct Builder {
    brokers: usize,
    settings: Settings,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            brokers: 1,
            settings: Settings {
                auto_create: false,
                default_partitions: 1,
                min_insync: 1,
                moves_below_min_insync: false,
                producer_id_expiration: Duration::from_secs(24 * 60 * 60),
                initial_rebalance_delay: Duration::ZERO,
                consumer_heartbeat_interval: Duration::from_millis(100),
                consumer_session_timeout: Duration::from_secs(45),
                cluster_id: "fake-cluster-0000000000".to_owned(),
                racks: Vec::new(),
                max_versions: BTreeMap::new(),
                advertised_host: None,
                advertised: BTreeMap::new(),
                raw_bytes: 0,
                tls: None,
                sasl: None,
            },
        }
    }

    /// How many brokers; their ids are 1, 2, 3 and so on. Default 1.
    #[must_use]
    pub fn brokers(mut self, brokers: usize) -> Self {
        self.brokers = brokers;
        self
    }

    /// Whether a Metadata request creates topics that it names and allows to create. Default false.
    #[must_use]
    pub fn auto_create(mut self, auto_create: bool) -> Self {
        self.settings.auto_create = auto_create;
        self
    }

    /// Partitions of topics that are created without a count. Default 1.
    #[must_use]
    pub fn default_partitions(mut self, partitions: i32) -> Self {
        self.settings.default_partitions = partitions;
        self
    }

    /// `min.insync.replicas` of topics that have none of their own. Default 1.
    #[must_use]
    pub fn min_insync(mut self, replicas: usize) -> Self {
        self.settings.min_insync = replicas;
        self
    }

    /// Whether the high watermark moves although fewer replicas than `min.insync.replicas` are in sync, as in brokers before
    /// KIP-966. When the ISR shrinks while acks=all waits, such brokers answer NOT_ENOUGH_REPLICAS_AFTER_APPEND; with
    /// false, the default, the request ends in REQUEST_TIMED_OUT, as measured on Kafka 4.3.
    #[must_use]
    pub fn high_watermark_below_min_insync(mut self, moves: bool) -> Self {
        self.settings.moves_below_min_insync = moves;
        self
    }

    /// `producer.id.expiration.ms`. Default 24 hours.
    #[must_use]
    pub fn producer_id_expiration(mut self, expiration: Duration) -> Self {
        self.settings.producer_id_expiration = expiration;
        self
    }

    /// `group.initial.rebalance.delay.ms`: how long the first member of a group waits for others. Default 0, while a real
    /// broker waits 3 seconds.
    #[must_use]
    pub fn initial_rebalance_delay(mut self, delay: Duration) -> Self {
        self.settings.initial_rebalance_delay = delay;
        self
    }

    /// `group.consumer.heartbeat.interval.ms`: how often members of KIP-848's protocol are to be heard of. Default 100 ms,
    /// while a real broker says 5 seconds.
    #[must_use]
    pub fn consumer_heartbeat_interval(mut self, interval: Duration) -> Self {
        self.settings.consumer_heartbeat_interval = interval;
        self
    }

    /// `group.consumer.session.timeout.ms`: after how much silence such a member is taken out. Default 45 seconds.
    #[must_use]
    pub fn consumer_session_timeout(mut self, timeout: Duration) -> Self {
        self.settings.consumer_session_timeout = timeout;
        self
    }

    /// The cluster id. Each cluster has the same one unless it is set.
    #[must_use]
    pub fn cluster_id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.settings.cluster_id);
        self
    }

    /// `broker.rack` of the brokers 1, 2, 3 and so on, and leaders that send readers to a replica in the reader's rack, as
    /// with `RackAwareReplicaSelector` (KIP-392). Default none.
    #[must_use]
    pub fn racks(mut self, racks: &[&str]) -> Self {
        self.settings.racks = racks.iter().map(|rack| (*rack).to_owned()).collect();
        self
    }

    /// Highest version of one API that the brokers offer; -1 takes the API away.
    #[must_use]
    pub fn max_version(mut self, api_key: i16, version: i16) -> Self {
        self.settings.max_versions.insert(api_key, version);
        self
    }

    /// All brokers listen by TLS.
    #[must_use]
    pub fn tls(mut self, tls: FakeTls) -> Self {
        self.settings.tls = Some(tls);
        self
    }

    /// All brokers ask who one is.
    #[must_use]
    pub fn sasl(mut self, sasl: FakeSasl) -> Self {
        self.settings.sasl = Some(sasl);
        self
    }

    /// The host that metadata names for all brokers, such as `localhost`, instead of their IP address. Addresses of
    /// [`FakeCluster::bootstrap`] stay as they are.
    #[must_use]
    pub fn advertised_host(mut self, host: &str) -> Self {
        self.settings.advertised_host = Some(host.to_owned());
        self
    }

    /// The host that metadata names for one broker.
    #[must_use]
    pub fn advertised_host_of(mut self, broker: i32, host: &str) -> Self {
        self.settings.advertised.insert(broker, host.to_owned());
        self
    }

    /// How many bytes of each connection the ledger keeps as they came over the wire. Default 0.
    #[must_use]
    pub fn raw_bytes(mut self, bytes: usize) -> Self {
        self.settings.raw_bytes = bytes;
        self
    }

    /// Starts the cluster.
    ///
    /// # Panics
    /// When no thread can be started or no port be had on 127.0.0.1.
    pub fn start(self) -> FakeCluster {
        FakeCluster::launch(self.brokers.max(1), self.settings)
    }
}
