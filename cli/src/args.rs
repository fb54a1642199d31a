//! The command line: what clap turns into values.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use indelible::types::{Acks, Compression};
use indelible::{Durability, OnUnknown, ProducerBuilder, SpoolConfig};

mod group;
mod spool;

pub(crate) use group::*;
pub(crate) use spool::*;

/// A Kafka client that does not lose and does not double records.
#[derive(Debug, Parser)]
#[command(name = "indelible", version, about, after_help = EXIT_CODES, subcommand_required = true)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes:
  0  all was done: every record delivered, or handled and committed
  1  some records were not delivered, or not handled; the demonstration lost or doubled one
  2  the command line or a property does not fit
  3  the cluster cannot be reached, or refuses what was asked
  4  a file, a pipe or the system on this side failed: standard output closed, a file that cannot be read

Each error is one line on standard error that begins with \"indelible: \".

INDELIBLE_LOG=warn in the environment (error, info, debug, trace) has what the library notices written there as well.";

impl Arguments {
    /// Parses the process's own command line.
    ///
    /// # Errors
    /// What clap has to say, help and version included.
    pub(crate) fn from_process() -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(with_perf_in_front(std::env::args_os().collect()))
    }
}

/// Benchmark drivers that take "PROGRAM WORD" for a client put their own arguments between the two: `indelible produce
/// --acks all perf` is `indelible perf produce --acks all`. Only lines are changed that would be errors otherwise: a
/// `perf` behind an option's name is that option's value.
fn with_perf_in_front(mut line: Vec<OsString>) -> Vec<OsString> {
    let is_mode = line.get(1).is_some_and(|mode| ["produce", "consume", "latency"].iter().any(|name| mode == name));
    if let [.., before, last] = line.as_slice()
        && is_mode
        && last == "perf"
        && !before.as_encoded_bytes().starts_with(b"-")
    {
        line[1..].rotate_right(1);
    }
    line
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows what the client is for: records through an embedded cluster whose brokers are killed on the way
    #[command(after_help = EXIT_CODES)]
    Demo(DemoOptions),
    /// Sends each line of a file or of standard input as a record
    #[command(after_help = PRODUCE_HELP)]
    Produce(ProduceOptions),
    /// Prints the records of topics, or hands each to a command; commits what was handled, and nothing else
    #[command(after_help = CONSUME_HELP)]
    Consume(ConsumeOptions),
    /// Looks at consumer groups, and sets where they go on
    #[command(subcommand, after_help = GROUP_HELP)]
    Group(GroupCommand),
    /// Looks into a spool, delivers it, and decides about what could not be delivered
    #[command(subcommand, after_help = SPOOL_HELP)]
    Spool(SpoolCommand),
    /// Measures, and prints one line of JSON
    #[command(after_help = EXIT_CODES)]
    Perf(PerfOptions),
}

#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// How many records
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=2_000_000), value_name = "N")]
    pub(crate) records: u32,
}

const PRODUCE_HELP: &str = "A record is what stands between two line feeds, byte for byte; an empty line is a record with an empty value.
The last line on standard output is always
  {\"read\":N,\"delivered\":N,\"failed\":N,\"unknown\":N,\"secs\":S}
\"failed\" are certainly not in the topic; \"unknown\" may be: no broker could tell. SIGINT and SIGTERM stop the reading,
wait for what was read and print the summary; a second one gives up the waiting.

With --spool a line counts as read once it is on disk: neither kill -9 nor a power cut nor days without a broker lose or
double it. Brokers need not be there. What lay in the spool before is delivered first, and counts as delivered; the command
ends when the spool is empty, or holds only what waits for a person (see indelible spool --help). The summary is
  {\"read\":N,\"spooled\":N,\"delivered\":N,\"failed\":N,\"unknown\":N,\"secs\":S}
\"failed\" were refused for good, \"unknown\" may be in the topic or not: both are kept in the spool. The first signal stops
the reading, and waits until what was read is on disk and delivered; a second one leaves the delivery to the next run.
A line that is too large stays out of the spool and counts as failed. When the spool is full for max.block.ms, the reading
ends there.

With --resume, lines are sent exactly once however often the command is killed and started again: it goes on after the last
line that is in the spool or delivered. It is the same file while path, inode and first bytes (up to 4 KiB) are the same;
another one is refused. A last line without line feed counts as a line: of a file that is still being written, the rest of
that line would be a line of its own. Give --resume from the first run on: lines sent without it are not remembered. Lines
that are too large end the run, unless --failed-file says where to keep them: it is added to, not written anew.

Exit codes: 0 all delivered (with --no-wait: on disk), 1 not all, 2 usage, 3 cluster, 4 a file or pipe on this side";

/// Where the cluster is.
#[derive(Debug, Args)]
pub(crate) struct ClusterOptions {
    /// Brokers to start from: host:port[,host:port]... Needed unless a property names them
    #[arg(long, short = 'b', value_name = "HOST:PORT", value_delimiter = ',')]
    pub(crate) bootstrap: Vec<String>,
    #[command(flatten)]
    pub(crate) properties: PropertyOptions,
}

/// Settings by their names.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct PropertyOptions {
    /// Properties from a file, as Kafka's own tools have it: name=value on each line, bootstrap.servers, security.protocol
    /// and passwords among them. --config and other options go over it
    #[arg(long, short = 'F', value_name = "FILE")]
    pub(crate) config_file: Option<PathBuf>,
    /// A property by its name in Kafka's Java client, or librdkafka's, such as linger.ms=20; may be repeated. ${env:NAME}
    /// and ${file:PATH:KEY} in a value keep passwords out of the command line
    #[arg(long = "config", short = 'X', value_name = "KEY=VALUE")]
    pub(crate) config: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ProduceOptions {
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
    /// The topic
    #[arg(long, short = 't')]
    pub(crate) topic: String,
    /// Read this file, not standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// What stands before the first S of a line is the key; without S in it there is none. \t is a tab
    #[arg(long, short = 'K', value_name = "S")]
    pub(crate) key_separator: Option<String>,
    /// Send all to this partition
    #[arg(long, short = 'p', value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) partition: Option<i32>,
    /// How batches are compressed
    #[arg(long, short = 'z', value_enum)]
    pub(crate) compression: Option<Codec>,
    /// How long a batch waits for more records, in milliseconds
    #[arg(long, value_name = "N")]
    pub(crate) linger_ms: Option<u64>,
    /// Whose acknowledgement counts; 1 and 0 give up "once": they are sent without idempotence
    #[arg(long, value_enum)]
    pub(crate) acks: Option<AcksChoice>,
    /// Print {"partition":P,"offset":O} for each line, in their order; with "error" where it was not delivered
    #[arg(long)]
    pub(crate) print_offsets: bool,
    /// Write the lines that are certainly not in the topic to this file, as they were
    #[arg(long, value_name = "FILE")]
    pub(crate) failed_file: Option<PathBuf>,
    /// Write the lines that may or may not be in the topic to this file, as they were
    #[arg(long, value_name = "FILE", conflicts_with = "spool")]
    pub(crate) unknown_file: Option<PathBuf>,
    /// Keep lines in this directory from before they are sent until they are delivered; made when it is not there
    #[arg(long, value_name = "DIR")]
    pub(crate) spool: Option<PathBuf>,
    /// What a line in the spool survives
    #[arg(long, value_enum, requires = "spool")]
    pub(crate) durability: Option<DurabilityChoice>,
    /// End when all lines are in the spool; the next run, or indelible spool deliver, sends what is left
    #[arg(long, requires = "spool", conflicts_with = "print_offsets")]
    pub(crate) no_wait: bool,
    /// Go on in --file after the last line that is in the spool or delivered
    #[arg(long, requires = "spool", requires = "file")]
    pub(crate) resume: bool,
    #[command(flatten)]
    pub(crate) policy: PolicyOptions,
}

/// What to do with what a spool holds from before.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct PolicyOptions {
    /// What becomes of lines of which nobody can tell whether they are in the topic: park keeps them, and what comes after
    /// them in their partition, in the spool; resend sends them, perhaps a second time
    #[arg(long, value_enum, value_name = "POLICY")]
    pub(crate) on_unknown: Option<UnknownChoice>,
    /// Deliver to this cluster although the spool was written for another, or for topics since made anew: what was
    /// delivered there but not noted is then here too
    #[arg(long)]
    pub(crate) adopt: bool,
}

impl PolicyOptions {
    /// Whether any is given.
    pub(crate) fn is_given(&self) -> bool {
        self.on_unknown.is_some() || self.adopt
    }

    /// Whether records that may be in their topic are sent again.
    pub(crate) fn resends(&self) -> bool {
        self.on_unknown == Some(UnknownChoice::Resend)
    }

    /// Sets what was given, over what properties said.
    pub(crate) fn over(&self, mut builder: ProducerBuilder) -> ProducerBuilder {
        if let Some(choice) = self.on_unknown {
            let word = match choice {
                UnknownChoice::Park => "park",
                UnknownChoice::Resend => "resend",
            };
            builder = builder.property("spool.on.unknown", word);
        }
        if self.adopt { builder.property("spool.adopt", "true") } else { builder }
    }

    /// As settings of a spool.
    pub(crate) fn apply(&self, spool: &mut SpoolConfig) {
        if let Some(choice) = self.on_unknown {
            spool.on_unknown = choice.into();
        }
        spool.adopt |= self.adopt;
    }
}

const CONSUME_HELP: &str = "--format json prints {\"topic\",\"partition\",\"offset\",\"timestamp\",\"key\",\"value\",\"headers\"}, one object a line; keys
and values that are not UTF-8 appear in base64 as \"key_base64\" and \"value_base64\". Any other FORMAT is kcat's:
  %t topic   %p partition   %o offset   %T timestamp   %k key   %s value   %h headers   %K %S their lengths (-1: null)
  %n line feed   %% percent   \\n \\r \\t \\0 \\\\ \\xHH bytes; a line feed is added unless FORMAT ends in one

A record is committed only after its line was written to standard output, or after CMD exited with 0. CMD runs by
`sh -c` with the value on standard input and INDELIBLE_TOPIC, _PARTITION, _OFFSET, _TIMESTAMP and _KEY in its environment;
one at a time for each partition, unless --order says otherwise. With --order key those of one key run in their order, with
--order none in any; what is committed is the offset below which all are handled. When CMD fails, and --retries are used up,
the command ends and the record is handled again by the next start; with --dead-letter it goes to that topic, with its place
and the error as headers, and counts as handled once it is written there. SIGINT and SIGTERM finish the records in hand,
commit and leave the group; a second one ends at once.

--until-end looks up where each partition ends at the start, and stops when all that this command has are handled up to
there; what comes later is left. With several members in the group each stops when its own partitions are done, and those of
a member that stopped go to the others; one that has none stops when the group has committed all up to the ends. So all was
handled when the last one has ended.

With --offset or --partition the partitions are read by hand: no member of the group shares them, and all that are meant are
read by this command. Its progress is committed for --group all the same; a group that has members refuses that.

Exit codes: 0 all that was read is handled and committed, 1 CMD failed, 2 usage, 3 cluster, 4 standard output closed";

#[derive(Debug, Args)]
pub(crate) struct ConsumeOptions {
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
    /// The topics
    #[arg(long, short = 't', value_name = "T[,T]", value_delimiter = ',', required_unless_present = "pattern")]
    pub(crate) topic: Vec<String>,
    /// All topics whose whole name matches this regular expression, those included that are made later
    #[arg(long, value_name = "REGEX", conflicts_with_all = ["topic", "offset", "partition"])]
    pub(crate) pattern: Option<String>,
    /// The group whose members share the topics, and that the progress is committed for; without one, here or as group.id
    /// in a property, all partitions are read, and nothing is committed
    #[arg(long, short = 'g')]
    pub(crate) group: Option<String>,
    /// Where a group begins that has committed nothing; earliest, unless auto.offset.reset in a property says otherwise
    #[arg(long, value_enum)]
    pub(crate) from: Option<Beginning>,
    /// Begin there, whatever is committed: beginning, end, an offset, or a time, as in indelible group reset --help
    #[arg(long, short = 'o', value_name = "PLACE", allow_hyphen_values = true, conflicts_with = "from")]
    pub(crate) offset: Option<String>,
    /// Read only these partitions of each topic
    #[arg(long, short = 'p', value_name = "N[,N]", value_delimiter = ',', value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) partition: Vec<i32>,
    /// Stop after so many records
    #[arg(long, short = 'c', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_records: Option<u64>,
    /// Stop when no record came for so long, in milliseconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) idle_exit_ms: Option<u64>,
    /// Stop when what is there is handled: each partition up to where it ended at the start
    #[arg(long)]
    pub(crate) until_end: bool,
    /// Which records may be handled at the same time: one of each partition (the default), one of each key, or any (none)
    #[arg(long, value_parser = ["partition", "key", "none"])]
    pub(crate) order: Option<String>,
    /// How many records may be handled at the same time; never more than --order allows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) workers: Option<u32>,
    /// How often a record whose CMD failed is given to it again, with growing pauses
    #[arg(long, value_name = "N", requires = "exec")]
    pub(crate) retries: Option<u32>,
    /// Write a record whose CMD failed for the last time to this topic, and go on
    #[arg(long, value_name = "TOPIC", requires = "exec")]
    pub(crate) dead_letter: Option<String>,
    /// Run this command for each record, with the value on its standard input
    #[arg(long, value_name = "CMD", conflicts_with = "format")]
    pub(crate) exec: Option<String>,
    /// How records are printed: json, or a format as kcat's
    #[arg(long, short = 'f', value_name = "FORMAT", default_value = "json")]
    pub(crate) format: String,
}

#[derive(Debug, Args)]
pub(crate) struct PerfOptions {
    /// What is measured
    #[arg(value_enum)]
    pub(crate) mode: PerfMode,
    /// Brokers to start from: 127.0.0.1:29092 unless they are given here or by a property
    #[arg(long, short = 'b', value_delimiter = ',')]
    pub(crate) bootstrap: Vec<String>,
    /// The topic
    #[arg(long, default_value = "bench")]
    pub(crate) topic: String,
    /// How many partitions it has
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) partitions: i32,
    /// Records that are measured
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) records: u64,
    /// Records before the clock starts
    #[arg(long, default_value_t = 0)]
    pub(crate) warmup: u64,
    /// Bytes of each value
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=64 << 20))]
    pub(crate) size: u32,
    /// How batches are compressed
    #[arg(long, value_enum, default_value_t = Codec::None)]
    pub(crate) compression: Codec,
    /// How long a batch waits for more records, in milliseconds
    #[arg(long, default_value_t = 5)]
    pub(crate) linger_ms: u64,
    /// The limit of a batch
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1024..=64 << 20))]
    pub(crate) batch_bytes: u32,
    /// Whose acknowledgement counts: only all is measured
    #[arg(long, default_value = "all", value_parser = ["all"])]
    pub(crate) acks: String,
    #[command(flatten)]
    pub(crate) properties: PropertyOptions,
}

/// `indelible perf` what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PerfMode {
    /// Sends records as fast as they go
    Produce,
    /// Reads records as fast as they come
    Consume,
    /// Sends one record at a time and waits for it
    Latency,
}

/// The codecs by Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Compression {
        match codec {
            Codec::None => Compression::None,
            Codec::Gzip => Compression::Gzip,
            Codec::Snappy => Compression::Snappy,
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AcksChoice {
    /// Every replica in sync
    #[value(alias = "-1")]
    All,
    /// The leader alone
    #[value(name = "1")]
    Leader,
    /// Nobody
    #[value(name = "0")]
    None,
}

impl From<AcksChoice> for Acks {
    fn from(acks: AcksChoice) -> Acks {
        match acks {
            AcksChoice::All => Acks::All,
            AcksChoice::Leader => Acks::Leader,
            AcksChoice::None => Acks::None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DurabilityChoice {
    /// A power cut: each group of lines is synced. The default
    PowerLoss,
    /// The death of the process, not the system's
    ProcessCrash,
}

impl From<DurabilityChoice> for Durability {
    fn from(durability: DurabilityChoice) -> Durability {
        match durability {
            DurabilityChoice::PowerLoss => Durability::PowerLoss,
            DurabilityChoice::ProcessCrash => Durability::ProcessCrash,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum UnknownChoice {
    Park,
    Resend,
}

impl From<UnknownChoice> for OnUnknown {
    fn from(choice: UnknownChoice) -> OnUnknown {
        match choice {
            UnknownChoice::Park => OnUnknown::Park,
            UnknownChoice::Resend => OnUnknown::Resend,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Beginning {
    /// At the first record there is
    Earliest,
    /// Behind the last one
    Latest,
}

impl Beginning {
    /// As `auto.offset.reset` has it.
    pub(crate) fn reset(self) -> &'static str {
        match self {
            Beginning::Earliest => "earliest",
            Beginning::Latest => "latest",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_benchmarks_own_command_line_is_taken() {
        let line = "indelible perf produce --bootstrap 127.0.0.1:1 --topic t --partitions 6 --records 5 --warmup 1 --size \
                    100 --compression lz4 --linger-ms 5 --batch-bytes 1000000 --acks all";
        let arguments = Arguments::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Perf(options) = arguments.command else { panic!("not perf") };
        assert_eq!((options.mode, options.compression, options.warmup), (PerfMode::Produce, Codec::Lz4, 1));
    }

    #[test]
    fn perf_may_stand_last_where_it_cannot_be_a_value() {
        let turned = |line: &str| {
            let line = with_perf_in_front(line.split_whitespace().map(OsString::from).collect());
            line.join(" ".as_ref()).into_string().unwrap()
        };
        assert_eq!(turned("i latency --topic t --acks all perf"), "i perf latency --topic t --acks all");
        for as_it_is in ["i produce --topic perf", "i perf produce", "i demo perf", "i", "i produce -t perf"] {
            assert_eq!(turned(as_it_is), as_it_is);
        }
    }
}
