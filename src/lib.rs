#![doc = include_str!("../README.md")]

pub mod spool;
pub mod types;
#[doc(hidden)]
pub mod wire;

mod admin;
mod client;
mod config;
mod consumer;
mod core;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod io;
mod metrics;
mod producer;
mod record;
mod sync;

pub use admin::{Admin, ConfigValue, NewTopic, OffsetSpec, PartitionDescription, TopicDescription};
pub use admin::{CommittedOffset, GroupDescription, GroupKind, GroupListing, GroupMember};
pub use client::{Client, ClientBuilder};
pub use config::{Assignor, GroupProtocol, OnDataLoss, OnFailure, Order, RetryTopic};
pub use config::{ClientConfig, ConfigError, ConsumerConfig, DnsLookup, MetadataRecovery, OffsetReset, OutOfRange};
pub use config::{Durability, OnDead, OnUnknown, ProducerConfig, Properties, SpoolConfig};
pub use config::{SaslConfig, Secret, SecurityProtocol, TlsConfig, TlsVersions};
pub use consumer::{Batch, Deliveries, Origin, Pulled, RunBlocking};
pub use consumer::{
    Consumer, ConsumerBuilder, ConsumerHandle, ConsumerMetrics, Delivery, Revoked, StopReason, Summary,
};
pub use core::produce::batch::Place;
pub use core::produce::partitioner::{DefaultPartitioner, Partitioner, murmur2};
pub use core::sasl::{SaslContext, SaslError, SaslExchange, SaslFuture, SaslMechanism};
pub use core::sasl::{Token, TokenFuture, TokenProvider};
pub use error::{
    AdminError, CallError, CallErrorKind, ClientError, ConnectCause, ConnectFailure, ConsumeError, ControlError,
    HandlerFailure, MetadataError,
};
pub use error::{BuildError, CloseError, SaslFailure, SendCause, SendError, SpoolError, TlsFailure, Undelivered};
pub use io::offsets::SeekTo;
#[cfg(feature = "oidc")]
pub use io::oidc::OidcClientCredentials;
pub use metrics::Metrics;
pub use producer::{Delivered, Producer, ProducerBuilder, Receipt, Spooled};
pub use record::{OwnedRecord, Record};

// The examples of the chapter on the spool compile.
#[cfg(doctest)]
#[doc = include_str!("../docs/spool.md")]
mod spool_chapter {}

#[cfg(doctest)]
#[doc = include_str!("../docs/groups.md")]
mod groups_chapter {}

#[cfg(doctest)]
#[doc = include_str!("../docs/consumer.md")]
mod consumer_chapter {}

#[cfg(doctest)]
#[doc = include_str!("../docs/connecting.md")]
mod connecting_chapter {}
