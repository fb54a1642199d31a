//! The command line of `indelible group`.

use clap::{Args, Subcommand};

use super::ClusterOptions;

pub(super) const GROUP_HELP: &str = "list, describe and lag change nothing. reset shows what it would do, and does it with --yes.

Exit codes: 0 done, 2 usage, 3 the cluster cannot be reached or refuses, the group does not exist or has members, 4 standard
output closed";

#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// All groups of the cluster, with type and state
    #[command(after_help = LIST_HELP)]
    List(GroupListOptions),
    /// A group and its members, and which partitions each has
    Describe(GroupOptions),
    /// How far a group is behind the ends of the logs, for each partition and in all
    #[command(after_help = LAG_HELP)]
    Lag(GroupOptions),
    /// Sets the offsets at which a group goes on when its members start again
    #[command(after_help = RESET_HELP)]
    Reset(ResetOptions),
}

const LIST_HELP: &str = "Only groups that the principal may DESCRIBE are listed. The type is classic or consumer (KIP-848); brokers before 2.6 do
not tell the state.";

const LAG_HELP: &str = "The lag is the end of the log less the committed offset: records, save for what compaction and transactions leave out. A
partition that is assigned and not committed yet has none. What a member has handled and not committed counts as lag, and
so does what it has handled out of order behind the committed offset.";

const RESET_HELP: &str = "PLACE is
  beginning                the first record in the log
  end                      behind the last one
  N                        this offset; one outside of the log is moved to its nearer end, and the table says so
  2026-11-21T10:00:00Z     the first record with this time (RFC 3339) or a later one, the end if there is none
  -90s -15m -1h -2d -1w    as far back from now
  @1700000000000           this time, in milliseconds since 1970

Without --topic all partitions are meant of all topics that the group has committed for. A group that does not exist yet is
made when --topic names what it begins with.

With --yes it is done, unless the group has members: they would commit over it, so stop them first. A static member
(group.instance.id) counts as one until its session is over (session.timeout.ms after it stopped). What the group has
handled beyond its offsets is forgotten: it handles every record from the new offset on.";

#[derive(Debug, Args)]
pub(crate) struct GroupListOptions {
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which group.
#[derive(Debug, Args)]
pub(crate) struct GroupOptions {
    /// The group
    #[arg(value_name = "GROUP")]
    pub(crate) group: String,
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ResetOptions {
    #[command(flatten)]
    pub(crate) look: GroupOptions,
    /// Where it goes on: beginning, end, an offset or a time, see below
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    pub(crate) to: String,
    /// Only this topic, or this partition of it; may be repeated
    #[arg(long = "topic", short = 't', value_name = "T[:P]")]
    pub(crate) topics: Vec<String>,
    /// Do it
    #[arg(long)]
    pub(crate) yes: bool,
}
