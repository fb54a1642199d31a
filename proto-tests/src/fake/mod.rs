//! A fake Kafka cluster in this process.
//!
//! Several brokers listen on ports of 127.0.0.1 and share one state; they run on a thread of their own, so that any test
//! can use them. They speak the real protocol and keep the rules that were measured on Apache Kafka 4.3: what a broker
//! remembers of a producer, what an election loses, when acks=all is answered. Tests start and kill brokers, move leaders,
//! hold replication back, move the clock and inject [`Fault`]s; afterwards the [`Ledger`] tells what really happened.
//!
//! ```text
//! cluster.rs  what a test holds                 state.rs      all that the brokers share, behind one lock
//! server.rs   sockets and frames                partition.rs  replicas, elections, high watermark
//! api/        one file for each API key         producers.rs  the memory of idempotent producers
//! fault.rs    what goes wrong                   log.rs batch.rs records.rs   bytes
//! ledger.rs   what really happened              group.rs next_group.rs       consumer groups, classic and KIP-848
//! socket.rs   bytes, by TLS or not              sessions.rs                  fetch sessions
//! tls.rs      certificates                      sasl.rs scram.rs             who the client is
//! security.rs what was seen of both             cluster_security.rs          changing both at run time
//! ```
//! Left out: transactions, ACLs, quotas, compaction, retention, groups with members of both protocols.

mod api;
mod batch;
mod builder;
mod clock;
mod cluster;
mod cluster_security;
pub mod code;
mod fault;
mod group;
mod ledger;
mod log;
mod next_group;
mod partition;
mod producers;
mod records;
mod sasl;
mod scram;
mod security;
mod server;
mod sessions;
mod socket;
mod state;
mod tls;
mod view;

pub use builder::Builder;
pub use cluster::FakeCluster;
pub use fault::{Fault, FaultAction, FaultId};
pub use group::{Committed, GroupPhase};
pub use ledger::{Commit, Ledger, RequestSeen};
pub use records::{Record, decode_batch};
pub use sasl::{FakeSasl, SaslFault};
pub use security::{Arrived, Authenticated, BrokerSecurity, SecuritySeen};
pub use state::TopicConfig;
pub use tls::{FakeTls, TlsFault};
pub use view::View;
