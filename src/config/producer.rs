//! Settings of a producer.

use super::spool::{Durability, OnDead, OnUnknown, SpoolConfig};
use super::{ConfigError, MAX_MILLIS, Setting, Settings};
use crate::types::{Acks, Compression};
use std::time::Duration;

/// How a producer batches, retries and gives up. The defaults are those of Kafka 4's Java producer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerConfig {
    /// `acks`. Default [`Acks::All`]. Anything less can lose acknowledged records, and turns idempotence off.
    pub acks: Acks,
    /// `enable.idempotence`: sequence numbers, by which the broker recognises what it has already. Default true. Without
    /// it a retry can double records, and one batch per partition is in flight to keep the order.
    pub idempotence: bool,
    /// `linger.ms`: how long a batch waits for more records. Default 5 ms. Less lowers the delay of single records; more
    /// makes larger batches, which cost client and broker less per record.
    pub linger: Duration,
    /// `batch.size`: the size at which a batch is sealed, in bytes. Default 16 KiB. 100 KiB to 1 MiB costs a busy producer
    /// about half the CPU and compresses better; each partition with an open batch holds this much of `buffer.memory`.
    pub batch_size: usize,
    /// `buffer.memory`: bytes held in batches, open, waiting and in flight. Default 32 MiB. When it is full `send` waits.
    pub buffer_memory: usize,
    /// `max.request.size`: the largest record, and the largest request, in bytes. Default 1 MiB.
    pub max_request_size: usize,
    /// `compression.type`. Default none.
    pub compression: Compression,
    /// `compression.gzip.level`, `compression.zstd.level`: the codec's own scale. Default none: the codec's own.
    pub compression_level: Option<i32>,
    /// `delivery.timeout.ms`: how long after `send` a record is given up. Default 120 s.
    pub delivery_timeout: Duration,
    /// `retries`: attempts after the first. Default 2³¹−1: `delivery.timeout.ms` alone decides. The waits between them are
    /// the client's `retry.backoff.ms` (100 ms) doubled up to `retry.backoff.max.ms` (1 s), with jitter; the often seen
    /// "3 retries, 300 ms apart" survives about a second of trouble, less than an election takes.
    pub retries: u32,
    /// `max.block.ms`: how long `send` waits for metadata and memory. Default 60 s.
    pub max_block: Duration,
    /// `max.in.flight.requests.per.connection`: unanswered requests per broker, 1 to 5. Default 5. The order is kept with
    /// any number.
    pub max_in_flight: usize,
    /// `producer.id.expiration.ms` of the brokers, for when they may not be asked for it. Default none: they are asked,
    /// and 24 h is assumed meanwhile.
    pub producer_id_expiration: Option<Duration>,
    /// `spool.dir` and the other `spool.*`: a directory that keeps what was accepted until it is delivered, through
    /// crashes and outages. Default none: memory only.
    pub spool: Option<SpoolConfig>,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        ProducerConfig {
            acks: Acks::All,
            idempotence: true,
            linger: Duration::from_millis(5),
            batch_size: 16 << 10,
            buffer_memory: 32 << 20,
            max_request_size: 1 << 20,
            compression: Compression::None,
            compression_level: None,
            delivery_timeout: Duration::from_secs(120),
            retries: i32::MAX as u32,
            max_block: Duration::from_secs(60),
            max_in_flight: 5,
            producer_id_expiration: None,
            spool: None,
        }
    }
}

impl ProducerConfig {
    /// Whether batches carry sequence numbers: not below acks=all.
    pub fn is_idempotent(&self) -> bool {
        self.idempotence && self.acks == Acks::All
    }

    /// Checks what no single setting shows.
    ///
    /// # Errors
    /// [`ConfigError::Conflict`] naming the settings.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let conflict = |text: &str| Err(ConfigError::Conflict(text.to_owned()));
        let longest = Duration::from_millis(MAX_MILLIS);
        if [self.delivery_timeout, self.linger, self.max_block].iter().any(|time| *time > longest) {
            return conflict("delivery.timeout.ms, linger.ms and max.block.ms take 24 days at most");
        }
        if self.delivery_timeout < self.linger {
            return conflict("delivery.timeout.ms is below linger.ms: every record would be given up; raise it");
        }
        if self.buffer_memory < self.batch_size.max(self.max_request_size) {
            return conflict("buffer.memory is below batch.size or max.request.size: such a batch could never be sent");
        }
        if !(1..=5).contains(&self.max_in_flight) {
            return conflict("max.in.flight.requests.per.connection takes 1 to 5: brokers remember five batches");
        }
        if let Some(spool) = &self.spool {
            if !self.is_idempotent() {
                return conflict(
                    "a spool keeps \"once\" by sequence numbers: it needs acks=all and enable.idempotence",
                );
            }
            spool.validate()?;
        }
        Ok(())
    }

    /// The spool's settings, to be changed; made if there are none yet.
    fn spool_settings(&mut self) -> &mut SpoolConfig {
        self.spool.get_or_insert_with(|| SpoolConfig::new(""))
    }
}

impl Settings for ProducerConfig {
    const PLACE: &'static str = "producer";
    const TABLES: &'static [&'static [Setting<Self>]] = &[&[
        Setting {
            name: "acks",
            set: |config, raw| {
                let words = [("all", Acks::All), ("-1", Acks::All), ("1", Acks::Leader), ("0", Acks::None)];
                raw.one_of(&words).map(|acks| config.acks = acks)
            },
        },
        Setting { name: "enable.idempotence", set: |config, raw| raw.boolean().map(|on| config.idempotence = on) },
        Setting {
            name: "linger.ms",
            set: |config, raw| raw.millis(0..=MAX_MILLIS).map(|linger| config.linger = linger),
        },
        Setting {
            name: "batch.size",
            set: |config, raw| raw.bytes(0..=1 << 30).map(|bytes| config.batch_size = bytes),
        },
        Setting {
            name: "buffer.memory",
            set: |config, raw| raw.bytes(1..=1 << 40).map(|bytes| config.buffer_memory = bytes),
        },
        Setting {
            name: "max.request.size",
            set: |config, raw| raw.bytes(1..=1 << 30).map(|bytes| config.max_request_size = bytes),
        },
        Setting {
            name: "compression.type",
            set: |config, raw| {
                use Compression::*;
                let words = [None, Gzip, Snappy, Lz4, Zstd].map(|codec| (codec.name(), codec));
                raw.one_of(&words).map(|codec| config.compression = codec)
            },
        },
        Setting {
            name: "compression.level",
            set: |config, raw| {
                let level = raw.number("a level of the codec (-1: its own default)", -131_072..=22)?;
                config.compression_level = Some(level).filter(|level| *level != -1);
                Ok(())
            },
        },
        Setting {
            name: "compression.gzip.level",
            set: |config, raw| raw.number("a level of gzip", -1..=9).map(|n| config.compression_level = Some(n)),
        },
        Setting {
            name: "compression.lz4.level",
            set: |_, raw| raw.number("a level of lz4, which has one here", 1..=17).map(drop),
        },
        Setting {
            name: "compression.zstd.level",
            set: |config, raw| raw.number("a level of zstd", -131_072..=22).map(|n| config.compression_level = Some(n)),
        },
        Setting {
            name: "delivery.timeout.ms",
            set: |config, raw| raw.millis(0..=MAX_MILLIS).map(|timeout| config.delivery_timeout = timeout),
        },
        Setting {
            name: "retries",
            set: |config, raw| {
                raw.number("a count of retries", 0..=i32::MAX as u32).map(|retries| config.retries = retries)
            },
        },
        Setting {
            name: "max.block.ms",
            set: |config, raw| raw.millis(0..=MAX_MILLIS).map(|block| config.max_block = block),
        },
        Setting {
            name: "max.in.flight.requests.per.connection",
            set: |config, raw| raw.number("requests", 1..=5).map(|requests| config.max_in_flight = requests),
        },
        Setting {
            name: "producer.id.expiration.ms",
            set: |config, raw| raw.millis(1..=MAX_MILLIS).map(|time| config.producer_id_expiration = Some(time)),
        },
        Setting {
            name: "spool.dir",
            set: |config, raw| raw.non_empty().map(|directory| config.spool_settings().directory = directory.into()),
        },
        Setting {
            name: "spool.durability",
            set: |config, raw| {
                let words = [
                    ("memory", Durability::Memory),
                    ("process-crash", Durability::ProcessCrash),
                    ("power-loss", Durability::PowerLoss),
                ];
                raw.one_of(&words).map(|durability| config.spool_settings().durability = durability)
            },
        },
        Setting {
            name: "spool.max.bytes",
            set: |config, raw| raw.number("bytes", 1..=1 << 50).map(|bytes| config.spool_settings().max_bytes = bytes),
        },
        Setting {
            name: "spool.segment.bytes",
            set: |config, raw| {
                raw.number("bytes", 1 << 16..=1 << 32).map(|bytes| config.spool_settings().segment_bytes = bytes)
            },
        },
        Setting {
            name: "spool.rescan.ms",
            set: |config, raw| raw.millis(1..=MAX_MILLIS).map(|rescan| config.spool_settings().rescan = rescan),
        },
        Setting {
            name: "spool.on.unknown",
            set: |config, raw| {
                let words = [("park", OnUnknown::Park), ("resend", OnUnknown::Resend)];
                raw.one_of(&words).map(|policy| config.spool_settings().on_unknown = policy)
            },
        },
        Setting {
            name: "spool.on.dead",
            set: |config, raw| {
                let words = [("continue", OnDead::Continue), ("stop", OnDead::Stop)];
                raw.one_of(&words).map(|policy| config.spool_settings().on_dead = policy)
            },
        },
        Setting {
            name: "spool.scan.max.bytes",
            set: |config, raw| {
                raw.number("bytes", 0..=1 << 50).map(|bytes| config.spool_settings().scan_max_bytes = bytes)
            },
        },
        Setting {
            name: "spool.adopt",
            set: |config, raw| raw.boolean().map(|adopt| config.spool_settings().adopt = adopt),
        },
    ]];
}
