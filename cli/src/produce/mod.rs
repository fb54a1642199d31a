//! `indelible produce`: each line a record.

mod memory;
mod pending;
mod report;
mod spooled;

use std::time::Duration;

use indelible::{Producer, ProducerBuilder, Record};

use crate::args::ProduceOptions;
use crate::config::{self, Rest};
use crate::failure::Failure;
use crate::lines::{self, Input};
use crate::signals::Signals;
use crate::time::Stopwatch;
use memory::Sending;
use report::Report;

/// Records whose result is not known yet. The producer's memory is bounded in bytes; this bounds what short lines take.
const MOST_PENDING: usize = 1 << 18;
/// Lines between two looks at what became of them.
const SETTLE_EVERY: u64 = 256;

/// Runs the command.
pub(crate) async fn run(options: ProduceOptions) -> Result<(), Failure> {
    let clock = Stopwatch::start();
    let mut report = Report::new(&options)?;
    let outcome = deliver(&options, &mut report).await;
    report.progress.clear();
    let told = report.finish(clock.elapsed());
    // The first of what went wrong is what the rest followed from.
    outcome.and(told).and(report.verdict())
}

/// Reads, sends, and waits for every result.
async fn deliver(options: &ProduceOptions, report: &mut Report) -> Result<(), Failure> {
    let shape = Shape::new(options)?;
    if options.spool.is_none() && options.policy.is_given() {
        return Err(Failure::usage("--on-unknown and --adopt are about what lies in a spool: give --spool too"));
    }
    // Before the cluster is asked for anything: a mistyped file name should not wait for it.
    let input = Input::open(options.file.as_deref())?;
    let signals = Signals::listen(None)?;
    if let Some(directory) = &options.spool {
        return spooled::deliver(options, directory, &shape, input, signals, report).await;
    }
    deliver_from_memory(options, &shape, input, signals, report).await
}

async fn deliver_from_memory(
    options: &ProduceOptions,
    shape: &Shape<'_>,
    input: Input,
    mut signals: Signals,
    report: &mut Report,
) -> Result<(), Failure> {
    let pieces = input.read_from(0)?;
    let (builder, properties) = config::client(&options.cluster)?;
    if properties.get("spool.dir")?.is_some() {
        // What is kept there is delivered later, and would be counted as failed here.
        return Err(Failure::usage(
            "property \"spool.dir\" keeps lines in a spool, which has to be known here: give --spool DIR",
        ));
    }
    let starting = async {
        let client = config::connect(builder).await?;
        // Without this look a mistyped name would be told once for each line, each after a wait.
        if !client.config().allow_auto_create_topics {
            let topics = config::describe(&client, [options.topic.as_str()]).await?;
            let partitions = topics.first().map_or(0, |topic| topic.partitions.len());
            if let Some(partition) = options.partition.filter(|p| usize::try_from(*p).is_ok_and(|p| p >= partitions)) {
                return Err(Failure::usage(format!(
                    "topic {:?} has {partitions} partitions, from 0 on, and no partition {partition}: change --partition",
                    options.topic
                )));
            }
        }
        Ok(client)
    };
    let client = tokio::select! {
        client = starting => client?,
        () = signals.first() => return Ok(()),
    };
    let producer = build(options, client.producer(), &properties).await?;
    Sending::new(shape, producer, report).run(pieces, &mut signals).await
}

/// The producer that the options describe.
async fn build(options: &ProduceOptions, mut builder: ProducerBuilder, properties: &Rest) -> Result<Producer, Failure> {
    builder = properties.producer(builder);
    if let Some(linger) = options.linger_ms {
        builder = builder.linger(Duration::from_millis(linger));
    }
    if let Some(codec) = options.compression {
        builder = builder.compression(codec.into());
    }
    if let Some(acks) = options.acks {
        builder = builder.acks(acks.into());
    }
    if let Some(directory) = &options.spool {
        builder = options.policy.over(builder.spool(directory));
        if let Some(durability) = options.durability {
            builder = builder.durability(durability.into());
        }
    }
    builder.build().await.map_err(|error| Failure::build(&error, "see indelible produce --help"))
}

/// How a line becomes a record.
struct Shape<'a> {
    topic: &'a str,
    partition: Option<i32>,
    separator: Option<Vec<u8>>,
}

impl<'a> Shape<'a> {
    fn new(options: &'a ProduceOptions) -> Result<Shape<'a>, Failure> {
        let separator = options.key_separator.as_deref().map(lines::unescape).transpose();
        let separator = separator.map_err(|error| Failure::usage(format!("--key-separator: {error}")))?;
        if separator.as_ref().is_some_and(Vec::is_empty) {
            return Err(Failure::usage("--key-separator must not be empty: give one or more characters"));
        }
        Ok(Shape { topic: &options.topic, partition: options.partition, separator })
    }

    fn separator(&self) -> Option<&[u8]> {
        self.separator.as_deref()
    }

    fn record<'r>(&'r self, line: &'r [u8]) -> Record<'r> {
        let (key, value) = split(line, self.separator());
        let mut record = Record::to(self.topic).value(value);
        if let Some(key) = key {
            record = record.key(key);
        }
        match self.partition {
            Some(partition) => record.partition(partition),
            None => record,
        }
    }
}

/// Key and value of a line.
fn split<'a>(line: &'a [u8], separator: Option<&[u8]>) -> (Option<&'a [u8]>, &'a [u8]) {
    let found = separator.and_then(|separator| Some((memchr::memmem::find(line, separator)?, separator.len())));
    match found {
        Some((at, len)) => (Some(&line[..at]), &line[at + len..]),
        None => (None, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_splits() {
        assert_eq!(split(b"k:v:w", Some(b":")), (Some(&b"k"[..]), &b"v:w"[..]));
        assert_eq!(split(b":v", Some(b":")), (Some(&b""[..]), &b"v"[..]));
        assert_eq!(split(b"v", Some(b":")), (None, &b"v"[..]));
        assert_eq!(split(b"a::b", None), (None, &b"a::b"[..]));
    }
}
