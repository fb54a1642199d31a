//! `indelible perf`: what the client costs, by the rules of the side-by-side benchmark.
//!
//! One client object handles the warm-up and what is measured; values are built before the clock starts; record `i` goes
//! to partition `i % partitions`; every record's result is looked at; idempotence is on and acks are all.

mod clock;
mod consume;
mod latency;
mod pool;
mod produce;

use indelible::{Client, Producer, SendError};

use crate::args::{PerfMode, PerfOptions};
use crate::config::{self, Rest};
use crate::failure::Failure;

/// What the producer may hold. With the pool, the receipts and the sockets the process stays well below 80 MiB.
const BUFFER_MEMORY: usize = 32 << 20;
/// A request may be larger than its batch by so much.
const REQUEST_OVERHEAD: usize = 64 << 10;

/// Where benchmarks have their brokers.
const DEFAULT_BOOTSTRAP: &str = "127.0.0.1:29092";

/// Runs the command.
pub(crate) async fn run(options: PerfOptions) -> Result<(), Failure> {
    let (builder, properties) = config::client_at(&options.bootstrap, &options.properties, Some(DEFAULT_BOOTSTRAP))?;
    let client = config::connect(builder).await?;
    match options.mode {
        PerfMode::Produce => produce::run(&options, &client, &properties).await,
        PerfMode::Consume => consume::run(&options, &client, &properties).await,
        PerfMode::Latency => latency::run(&options, &client, &properties).await,
    }
}

/// The producer that is measured.
async fn producer(
    options: &PerfOptions,
    client: &Client,
    properties: &Rest,
    linger_ms: u64,
) -> Result<Producer, Failure> {
    let batch = options.batch_bytes as usize;
    let builder = client
        .producer()
        .linger(std::time::Duration::from_millis(linger_ms))
        .batch_size(batch)
        .buffer_memory(BUFFER_MEMORY.max(4 * batch))
        .max_request_size((batch.max(options.size as usize) + REQUEST_OVERHEAD).max(1 << 20))
        .compression(options.compression.into());
    properties
        .producer(builder)
        .build()
        .await
        .map_err(|error| Failure::usage(format!("{error}; see indelible perf --help")))
}

/// What was seen of the results.
#[derive(Debug, Default)]
struct Tally {
    ok: u64,
    first_error: Option<String>,
}

impl Tally {
    fn fail(&mut self, error: &SendError) {
        self.first_error.get_or_insert_with(|| error.to_string());
    }

    /// Anything short of all records is a failed run.
    fn verdict(self, wanted: u64) -> Result<(), Failure> {
        if self.ok >= wanted {
            return Ok(());
        }
        let why = self.first_error.unwrap_or_else(|| "no error was told".to_owned());
        Err(Failure::incomplete(format!("{} of {wanted} records: {why}", self.ok)))
    }
}
