//! Making a producer.

use super::Producer;
use crate::client::Client;
use crate::config::{ConfigError, Durability, ProducerConfig, Properties, Settings, SpoolConfig};
use crate::core::produce::partitioner::{DefaultPartitioner, Partitioner};
use crate::error::{BuildError, SpoolError};
use crate::io::sender::shared::{Shared, SpoolSide};
use crate::io::sender::{self, keeper};
use crate::types::{Acks, Compression};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Settings of a producer to be built. See [`ProducerConfig`] for what each costs.
#[must_use = "nothing happens before build()"]
pub struct ProducerBuilder {
    client: Client,
    config: ProducerConfig,
    partitioner: Box<dyn Partitioner>,
    refused: Option<ConfigError>,
}

impl Client {
    /// Makes a producer on this client's connections and I/O thread.
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder {
            client: self.clone(),
            config: ProducerConfig::default(),
            partitioner: Box::new(DefaultPartitioner),
            refused: None,
        }
    }
}

impl ProducerBuilder {
    /// All settings at once.
    pub fn config(mut self, config: ProducerConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets a property by Kafka's name, such as `linger.ms`. What does not fit is told by the build.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        if let Err(error) = self.config.set_property(name, value) {
            self.refused.get_or_insert(error);
        }
        self
    }

    /// Sets those of the properties that are a producer's; the others are left to whom they belong to. What does not fit,
    /// and a name that nobody knows, is told by the build, with file and line.
    pub fn properties(mut self, properties: &Properties) -> Self {
        if let Err(error) = properties.apply(&mut self.config) {
            self.refused.get_or_insert(error);
        }
        self
    }

    /// `acks`: whose acknowledgement a record waits for. Default all in-sync replicas.
    pub fn acks(mut self, acks: Acks) -> Self {
        self.config.acks = acks;
        self
    }

    /// `linger.ms`: how long a batch waits for more records. Default 5 ms.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.config.linger = linger;
        self
    }

    /// `batch.size` in bytes. Default 16 KiB.
    pub fn batch_size(mut self, bytes: usize) -> Self {
        self.config.batch_size = bytes;
        self
    }

    /// `buffer.memory` in bytes. Default 32 MiB.
    pub fn buffer_memory(mut self, bytes: usize) -> Self {
        self.config.buffer_memory = bytes;
        self
    }

    /// `max.request.size` in bytes. Default 1 MiB.
    pub fn max_request_size(mut self, bytes: usize) -> Self {
        self.config.max_request_size = bytes;
        self
    }

    /// `compression.type`. Default none.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.config.compression = compression;
        self
    }

    /// The codec's own level. Default its own.
    pub fn compression_level(mut self, level: Option<i32>) -> Self {
        self.config.compression_level = level;
        self
    }

    /// `delivery.timeout.ms`: how long after `send` a record is given up. Default 120 s.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.config.delivery_timeout = timeout;
        self
    }

    /// `retries`: attempts after the first. Default: as many as fit into the delivery timeout.
    pub fn retries(mut self, retries: u32) -> Self {
        self.config.retries = retries;
        self
    }

    /// `spool.dir`: a directory that keeps what was accepted until it is delivered, through crashes and outages
    /// (*write-ahead*). Default none: memory only. See [`SpoolConfig`].
    pub fn spool(mut self, directory: impl Into<PathBuf>) -> Self {
        match &mut self.config.spool {
            Some(spool) => spool.directory = directory.into(),
            none => *none = Some(SpoolConfig::new(directory)),
        }
        self
    }

    /// A directory for what cannot be delivered in time (*overflow*): memory first; to disk go records whose retries are
    /// used up, those that memory has no room for, and what is left when the producer is closed. The weaker promise:
    /// what is in memory dies with the process.
    pub fn spill(self, directory: impl Into<PathBuf>) -> Self {
        self.spool(directory).durability(Durability::Memory)
    }

    /// `spool.durability`: what a record in the spool survives. Default [`Durability::PowerLoss`]. Name the directory
    /// too.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.config.spool.get_or_insert_with(|| SpoolConfig::new("")).durability = durability;
        self
    }

    /// All settings of the spool at once.
    pub fn spool_config(mut self, config: SpoolConfig) -> Self {
        self.config.spool = Some(config);
        self
    }

    /// Who chooses partitions. Default [`DefaultPartitioner`], compatible with the Java client.
    pub fn partitioner(mut self, partitioner: impl Partitioner + 'static) -> Self {
        self.partitioner = Box::new(partitioner);
        self
    }

    /// Starts the producer. No broker is waited for. A spool is read first, which takes about a second for each GiB in
    /// it; what it holds is sent as soon as brokers answer.
    ///
    /// # Errors
    /// [`BuildError::Config`] for the first setting that does not fit; [`BuildError::Spool`] when the spool cannot be
    /// used.
    ///
    /// # Cancel safety
    /// Dropping the future starts nothing.
    pub async fn build(self) -> Result<Producer, BuildError> {
        if let Some(error) = self.refused {
            return Err(error.into());
        }
        self.config.validate()?;
        let cluster = self.client.cluster().clone();
        let (side, recovered) = match self.config.spool.clone() {
            None => (None, None),
            Some(config) => {
                let adopting = config.adopt.then(|| config.directory.clone());
                let (spool, mut recovered) = keeper::open(config).await?;
                if let Some(path) = adopting {
                    let deadline = cluster.thread().deadline(self.config.max_block);
                    let contact = cluster.first_contact(deadline).await;
                    let (Ok(()), Some(id)) = (contact, cluster.view().cluster_id.clone()) else {
                        let why = "spool.adopt has to know the cluster, and no broker has told its id".to_owned();
                        return Err(SpoolError::Refused { path, why }.into());
                    };
                    keeper::adopt(&spool, &mut recovered, &id);
                }
                (Some(SpoolSide { spool, positions: recovered.positions.clone() }), Some(recovered))
            }
        };
        let shared = Arc::new(Shared::new(self.config, self.partitioner, cluster.clone(), side));
        if let Some(recovered) = &recovered {
            shared.with_known_topics(&recovered.topics);
        }
        let found = recovered.map(|recovered| (recovered, shared.budget.live_token()));
        cluster.thread().spawn(sender::run(shared.clone(), found));
        Ok(Producer::new(shared))
    }
}
