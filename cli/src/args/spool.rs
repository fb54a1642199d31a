//! The command line of `indelible spool`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ClusterOptions, PolicyOptions};

pub(super) const SPOOL_HELP: &str = "A batch in a spool is
  ready   it goes when its turn comes
  parked  it could not be delivered yet; it goes again by itself. With \"unknown\" nobody can tell whether it is in the
          topic, and it waits for you: retry, or discard. What comes after it in its partition waits with it
  dead    the broker refused it for good: retry when the reason is gone, export, or discard. The others go on

status, list, verify and export change nothing, and work while a producer has the spool.

Exit codes: 0 done, 1 something is left (deliver), damaged (verify) or was not found, 2 usage, 3 cluster, 4 the spool or a
file on this side cannot be used";

#[derive(Debug, Subcommand)]
pub(crate) enum SpoolCommand {
    /// What lies in the spool, for each partition
    Status(LookOptions),
    /// Its batches, in the order in which they are sent
    List(ListOptions),
    /// Reads every byte and compares every checksum
    Verify(LookOptions),
    /// Sends what lies in it, and waits until it is delivered
    #[command(after_help = DELIVER_HELP)]
    Deliver(DeliverOptions),
    /// Makes parked and dead batches ready; the next producer, or deliver, sends them
    #[command(after_help = RETRY_HELP)]
    Retry(RetryOptions),
    /// Writes records to standard output, a JSON object a line
    #[command(after_help = EXPORT_HELP)]
    Export(ExportOptions),
    /// Throws batches away: their records will not be delivered
    Discard(DiscardOptions),
}

const DELIVER_HELP: &str = "The last line on standard output is
  {\"delivered\":N,\"failed\":N,\"unknown\":N,\"left\":N,\"secs\":S}
with the records that were delivered and those that are left in the spool. It waits for brokers as long as it takes; the
first SIGINT or SIGTERM ends it, and nothing is lost by that.

Exit codes: 0 the spool is empty, 1 something is left, 2 usage, 3 cluster, 4 the spool cannot be used";

const RETRY_HELP: &str = "A batch that was certainly refused is sent as a new one. One of which nobody can tell (\"unknown\" in list) may be in the
topic already, and be there twice then: it is taken only with --yes.";

const EXPORT_HELP: &str = "Each line is {\"topic\",\"partition\",\"key\",\"value\",\"headers\",\"timestamp\",\"batch\",\"status\"}, as indelible consume prints
records: partition is null while it is not chosen, timestamp is in milliseconds since 1970, headers are
{\"name\",\"value\"}, and keys and values that are not UTF-8 appear in base64 as \"key_base64\" and \"value_base64\".";

/// Which spool.
#[derive(Debug, Args)]
pub(crate) struct LookOptions {
    /// The spool's directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListOptions {
    #[command(flatten)]
    pub(crate) look: LookOptions,
    /// Only dead ones
    #[arg(long)]
    pub(crate) dead: bool,
    /// Only parked ones; with --dead both
    #[arg(long)]
    pub(crate) parked: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeliverOptions {
    /// The spool's directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
    #[command(flatten)]
    pub(crate) policy: PolicyOptions,
}

/// Which batches.
#[derive(Debug, Args)]
pub(crate) struct Choice {
    /// The batch with this number; may be repeated
    #[arg(long = "id", value_name = "N")]
    pub(crate) ids: Vec<u64>,
    /// All dead ones
    #[arg(long)]
    pub(crate) dead: bool,
    /// All parked ones
    #[arg(long)]
    pub(crate) parked: bool,
    /// All
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RetryOptions {
    #[command(flatten)]
    pub(crate) look: LookOptions,
    #[command(flatten)]
    pub(crate) choice: Choice,
    /// Also those that may be in the topic already
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportOptions {
    /// The spool's directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    #[command(flatten)]
    pub(crate) choice: Choice,
    /// JSON lines, which is what is written in any case
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DiscardOptions {
    #[command(flatten)]
    pub(crate) look: LookOptions,
    /// The batch with this number; may be repeated
    #[arg(long = "id", value_name = "N", required = true)]
    pub(crate) ids: Vec<u64>,
    /// Really throw them away
    #[arg(long)]
    pub(crate) yes: bool,
}
