//! Making a producer.

use super::Producer;
use crate::client::Client;
use crate::config::{ConfigError, ProducerConfig, Settings};
use crate::core::produce::partitioner::{DefaultPartitioner, Partitioner};
use crate::io::sender;
use crate::io::sender::shared::Shared;
use crate::types::{Acks, Compression};
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

    /// Who chooses partitions. Default [`DefaultPartitioner`], compatible with the Java client.
    pub fn partitioner(mut self, partitioner: impl Partitioner + 'static) -> Self {
        self.partitioner = Box::new(partitioner);
        self
    }

    /// Starts the producer. Nothing is asked of the brokers before the first record.
    ///
    /// # Errors
    /// [`ConfigError`] for the first setting that does not fit.
    pub fn build(self) -> Result<Producer, ConfigError> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        self.config.validate()?;
        let cluster = self.client.cluster().clone();
        let shared = Arc::new(Shared::new(self.config, self.partitioner, cluster.clone()));
        cluster.thread().spawn(sender::run(shared.clone()));
        Ok(Producer::new(shared))
    }
}
