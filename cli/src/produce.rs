//! `indelible produce`: each line a record.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use indelible::{Place, Producer, Receipt, Record, SendError};

use crate::args::ProduceOptions;
use crate::config;
use crate::failure::Failure;
use crate::json;
use crate::lines;
use crate::progress::Progress;
use crate::signals::Signals;
use crate::time::Stopwatch;

/// Records whose result is not known yet. The producer's memory is bounded in bytes; this bounds what short lines take.
const MOST_PENDING: usize = 1 << 18;
/// Lines between two looks at what was delivered.
const SETTLE_EVERY: u64 = 256;
/// Printed offsets are written at the latest when so many bytes wait.
const PRINT_BYTES: usize = 64 << 10;

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
    let separator = match &options.key_separator {
        Some(text) => Some(lines::unescape(text).map_err(|error| Failure::usage(format!("--key-separator: {error}")))?),
        None => None,
    };
    if separator.as_ref().is_some_and(Vec::is_empty) {
        return Err(Failure::usage("--key-separator must not be empty: give one or more characters"));
    }
    // Before the cluster is asked for anything: a mistyped file name should not wait for it.
    let pieces = lines::read(options.file.as_deref())?;
    let mut signals = Signals::listen(None)?;
    let (builder, properties) = config::client(&options.cluster)?;
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
    let mut builder = client.producer();
    if let Some(linger) = options.linger_ms {
        builder = builder.linger(Duration::from_millis(linger));
    }
    if let Some(codec) = options.compression {
        builder = builder.compression(codec.into());
    }
    if let Some(acks) = options.acks {
        builder = builder.acks(acks.into());
    }
    let producer = properties.apply(builder, |builder, name, value| builder.property(name, value));
    let producer =
        producer.build().await.map_err(|error| Failure::usage(format!("{error}; see indelible produce --help")))?;
    let mut sending = Sending {
        topic: &options.topic,
        partition: options.partition,
        separator: separator.as_deref(),
        producer,
        pending: VecDeque::new(),
        report,
    };
    let read = sending.read(pieces, &mut signals).await;
    let settled = sending.settle_all(&mut signals).await;
    read.and(settled)
}

/// A line on its way.
enum Pending {
    /// With the producer.
    Sent(Receipt),
    /// Refused at once. It waits for its turn in the output all the same.
    Refused(SendError),
}

struct Sending<'a> {
    topic: &'a str,
    partition: Option<i32>,
    separator: Option<&'a [u8]>,
    producer: Producer,
    pending: VecDeque<Pending>,
    report: &'a mut Report,
}

impl Sending<'_> {
    /// Sends until the input ends, a signal comes, or the output fails.
    async fn read(
        &mut self,
        mut pieces: tokio::sync::mpsc::Receiver<lines::Piece>,
        signals: &mut Signals,
    ) -> Result<(), Failure> {
        loop {
            let piece = tokio::select! {
                biased;
                () = signals.first() => return Ok(()),
                piece = pieces.recv() => piece,
                result = next_result(&self.pending), if !self.pending.is_empty() => {
                    self.pending.pop_front();
                    self.report.settle(result, self.separator)?;
                    self.settle_ready()?;
                    self.report.print()?;
                    continue;
                }
            };
            match piece {
                None => return Ok(()),
                Some(Err(error)) => return Err(Failure::local(error)),
                Some(Ok(mut piece)) => {
                    while let Some(line) = lines::next(&mut piece) {
                        tokio::select! {
                            biased;
                            result = self.send(&line) => result?,
                            () = signals.first() => return Ok(()),
                        }
                    }
                    self.settle_ready()?;
                    self.report.print()?;
                }
            }
        }
    }

    /// Sends one line. Dropped while it waits, it has not sent and not counted it.
    async fn send(&mut self, line: &Bytes) -> Result<(), Failure> {
        if self.pending.len() >= MOST_PENDING {
            let result = next_result(&self.pending).await;
            self.pending.pop_front();
            self.report.settle(result, self.separator)?;
        }
        let (key, value) = split(line, self.separator);
        let mut record = Record::to(self.topic).value(value);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(partition) = self.partition {
            record = record.partition(partition);
        }
        let sent = self.producer.send(record).await;
        self.report.read += 1;
        self.pending.push_back(match sent {
            Ok(receipt) => Pending::Sent(receipt),
            Err(error) => Pending::Refused(error),
        });
        if self.report.read.is_multiple_of(SETTLE_EVERY) {
            self.settle_ready()?;
        }
        Ok(())
    }

    /// Takes what is known by now, from the front on: results come out in the order of the lines.
    fn settle_ready(&mut self) -> Result<(), Failure> {
        while let Some(front) = self.pending.front() {
            let result = match front {
                Pending::Sent(receipt) => receipt.try_delivered(),
                Pending::Refused(_) => None,
            };
            let result = match (result, self.pending.front()) {
                (Some(result), _) => {
                    self.pending.pop_front();
                    result
                }
                (None, Some(Pending::Refused(_))) => match self.pending.pop_front() {
                    Some(Pending::Refused(error)) => Err(error),
                    _ => break,
                },
                (None, _) => break,
            };
            self.report.settle(result, self.separator)?;
        }
        Ok(())
    }

    /// Waits for all results; the second signal ends the waiting, and what was not acknowledged by then is told as such.
    async fn settle_all(&mut self, signals: &mut Signals) -> Result<(), Failure> {
        let given_up = tokio::select! {
            biased;
            () = self.producer.flush() => false,
            () = signals.second() => true,
        };
        if given_up {
            // The receipts of what is left resolve with it.
            let _ = self.producer.close(Duration::ZERO).await;
        }
        let mut outcome = Ok(());
        while !self.pending.is_empty() {
            let result = next_result(&self.pending).await;
            self.pending.pop_front();
            // Even when nothing can be written any more the counts shall be right.
            outcome = outcome.and(self.report.settle(result, self.separator));
        }
        outcome.and(self.report.print())
    }
}

/// The result of the oldest line, which stays in the queue: dropping the wait loses nothing.
async fn next_result(pending: &VecDeque<Pending>) -> Result<Place, SendError> {
    match pending.front() {
        Some(Pending::Sent(receipt)) => receipt.delivered().await,
        Some(Pending::Refused(error)) => Err(error.clone()),
        None => std::future::pending().await,
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

/// What became of the lines, and where that is told.
struct Report {
    read: u64,
    delivered: u64,
    failed: Fate,
    unknown: Fate,
    print_offsets: bool,
    out: Vec<u8>,
    progress: Progress,
}

/// Lines that were not delivered.
struct Fate {
    count: u64,
    first: Option<String>,
    file: Option<(PathBuf, BufWriter<File>)>,
}

impl Fate {
    fn new(path: Option<&PathBuf>) -> Result<Fate, Failure> {
        let file = match path {
            Some(path) => {
                let file = File::create(path)
                    .map_err(|error| Failure::local(format!("{} cannot be written: {error}", path.display())))?;
                Some((path.clone(), BufWriter::new(file)))
            }
            None => None,
        };
        Ok(Fate { count: 0, first: None, file })
    }

    fn note(&mut self, error: &SendError, separator: Option<&[u8]>) -> Result<(), Failure> {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(error.to_string());
        }
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        let record = error.record();
        let mut write = || {
            if let (Some(key), Some(separator)) = (&record.key, separator) {
                file.write_all(key)?;
                file.write_all(separator)?;
            }
            file.write_all(record.value.as_deref().unwrap_or_default())?;
            file.write_all(b"\n")
        };
        write().map_err(|error| Failure::local(format!("{} cannot be written: {error}", path.display())))
    }

    fn close(&mut self) -> Result<(), Failure> {
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        file.flush().map_err(|error| Failure::local(format!("{} cannot be written: {error}", path.display())))
    }

    fn told(&self, what: &str) -> Option<String> {
        let first = self.first.as_ref()?;
        Some(match &self.file {
            Some((path, _)) => format!("{} {what} (in {}), the first: {first}", self.count, path.display()),
            None => format!("{} {what}, the first: {first}", self.count),
        })
    }
}

impl Report {
    fn new(options: &ProduceOptions) -> Result<Report, Failure> {
        Ok(Report {
            read: 0,
            delivered: 0,
            failed: Fate::new(options.failed_file.as_ref())?,
            unknown: Fate::new(options.unknown_file.as_ref())?,
            print_offsets: options.print_offsets,
            out: Vec::new(),
            progress: Progress::spinner(),
        })
    }

    /// Takes down what became of a line.
    fn settle(&mut self, result: Result<Place, SendError>, separator: Option<&[u8]>) -> Result<(), Failure> {
        match result {
            Ok(place) => {
                self.delivered += 1;
                if self.print_offsets {
                    let offset = place.offset().map_or("null".to_owned(), |offset| offset.to_string());
                    let line = format!("{{\"partition\":{},\"offset\":{offset}}}\n", place.partition());
                    self.out.extend_from_slice(line.as_bytes());
                }
            }
            Err(error) => {
                if self.print_offsets {
                    self.out.extend_from_slice(b"{\"partition\":null,\"offset\":null,\"error\":");
                    json::push_string(&mut self.out, &error.to_string());
                    self.out.extend_from_slice(b"}\n");
                }
                let fate = if error.may_be_delivered() { &mut self.unknown } else { &mut self.failed };
                fate.note(&error, separator)?;
            }
        }
        if self.out.len() >= PRINT_BYTES { self.print() } else { Ok(()) }
    }

    /// Writes what waits for it.
    fn print(&mut self) -> Result<(), Failure> {
        let (read, delivered) = (self.read, self.delivered);
        self.progress.show(delivered, || format!("{read} lines read, {delivered} delivered"));
        let out = std::mem::take(&mut self.out);
        if out.is_empty() { Ok(()) } else { write_out(&out) }
    }

    /// The summary.
    fn finish(&mut self, took: Duration) -> Result<(), Failure> {
        let closed = self.failed.close().and(self.unknown.close());
        let line = format!(
            "{{\"read\":{},\"delivered\":{},\"failed\":{},\"unknown\":{},\"secs\":{:.3}}}\n",
            self.read,
            self.delivered,
            self.failed.count,
            self.unknown.count,
            took.as_secs_f64()
        );
        closed.and(write_out(line.as_bytes()))
    }

    fn verdict(&self) -> Result<(), Failure> {
        let told = [self.failed.told("not delivered"), self.unknown.told("perhaps delivered, nobody can tell")];
        let told: Vec<String> = told.into_iter().flatten().collect();
        if told.is_empty() {
            return Ok(());
        }
        Err(Failure::incomplete(format!("of {} lines {}", self.read, told.join("; "))))
    }
}

fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::closed_output(),
        _ => Failure::local(format!("standard output cannot be written: {error}")),
    })
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
