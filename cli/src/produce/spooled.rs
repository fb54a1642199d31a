//! Lines that are on disk from before they are sent until they are delivered.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use indelible::{Client, Place, Producer, Receipt, SendCause, SendError, SpoolConfig};
use tokio::sync::mpsc;

use super::pending::Queue;
use super::report::Report;
use super::{MOST_PENDING, SETTLE_EVERY, Shape, build};
use crate::args::ProduceOptions;
use crate::config::{self, Rest};
use crate::failure::Failure;
use crate::lines::{Input, Line, Piece};
use crate::log;
use crate::signals::Signals;
use crate::source::SourceFile;
use crate::spool::rest::{Delivery, Waiting};

/// Reads into the spool, and waits as long as the options say.
pub(super) async fn deliver(
    options: &ProduceOptions,
    directory: &Path,
    shape: &Shape<'_>,
    mut input: Input,
    mut signals: Signals,
    report: &mut Report,
) -> Result<(), Failure> {
    let file = match options.file.as_deref().filter(|_| options.resume) {
        Some(path) => Some(known(&mut input, path)?),
        None => None,
    };
    let (builder, properties) = config::client(&options.cluster)?;
    check(&properties)?;
    // No broker is asked for anything: they may be away, and the lines are kept for them.
    log::refusals();
    let client = builder.build_lazy().map_err(|error| Failure::client(&error))?;
    let producer = client.producer().spool_config(settings(options, directory)).batch_size(BATCH_SIZE);
    let producer = tokio::select! {
        producer = build(options, producer, &properties) => producer?,
        () = signals.first() => return Ok(()),
    };
    let resumed = match file {
        Some(file) => Some(file.resume(&producer.recovered_positions()).map_err(Failure::usage)?),
        None => None,
    };
    let pieces = input.read_from(resumed.as_ref().map_or(0, |resumed| resumed.at))?;
    let spooling = Spooling {
        shape,
        source: resumed.map(|resumed| resumed.name),
        client,
        producer,
        accepted: VecDeque::new(),
        places: options.print_offsets.then(Queue::default),
        waiting: Waiting::new(directory, &options.policy, &properties)?,
        report,
    };
    spooling.run(pieces, &mut signals, options.no_wait).await
}

/// The file as it can be known again.
fn known(input: &mut Input, path: &Path) -> Result<SourceFile, Failure> {
    let Some(file) = input.file() else { return Err(Failure::usage("--resume needs --file: give both")) };
    SourceFile::of(file, path).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidInput => Failure::usage(format!("--resume and --file {}: {error}", path.display())),
        _ => Failure::local(format!("{} cannot be read: {error}", path.display())),
    })
}

/// Lines in memory alone are what this command does without a spool.
fn check(properties: &Rest) -> Result<(), Failure> {
    match properties.is("spool.durability", "memory")? {
        true => Err(Failure::usage(
            "spool.durability=memory keeps lines in memory, and --spool counts them once they are on disk: set power-loss or \
             process-crash, or leave --spool out",
        )),
        false => Ok(()),
    }
}

fn settings(options: &ProduceOptions, directory: &Path) -> SpoolConfig {
    let mut spool = SpoolConfig::new(directory);
    if let Some(durability) = options.durability {
        spool.durability = durability.into();
    }
    options.policy.apply(&mut spool);
    spool
}

/// `batch.size` unless it is set, in bytes: a backlog takes memory for each batch, not for its bytes.
const BATCH_SIZE: usize = 64 << 10;

/// How often the progress line is drawn while nothing is read.
const SHOW_EVERY: Duration = Duration::from_millis(500);

struct Spooling<'a> {
    shape: &'a Shape<'a>,
    /// The name under which the lines have positions.
    source: Option<String>,
    client: Client,
    producer: Producer,
    /// Lines that are not known to be on disk yet. Once they are, the spool remembers them, and nothing here does.
    accepted: VecDeque<Receipt>,
    /// Lines whose place is to be printed. Here reading has to wait for the brokers in the end.
    places: Option<Queue>,
    waiting: Waiting,
    report: &'a mut Report,
}

impl Spooling<'_> {
    async fn run(mut self, pieces: mpsc::Receiver<Piece>, signals: &mut Signals, no_wait: bool) -> Result<(), Failure> {
        let read = self.read(pieces, signals).await;
        let kept = self.keep_all(signals).await;
        let is_kept = kept.is_ok();
        let mut outcome = read.and(kept);
        let waits = outcome.is_ok() && !no_wait;
        if waits {
            outcome = tokio::select! {
                biased;
                () = signals.second() => Ok(()),
                result = self.settle() => result,
            };
        }
        if is_kept {
            // What is left is in the spool: nothing is lost by not waiting for it.
            let _ = self.producer.close(Duration::ZERO).await;
        }
        self.count();
        if let Some(kept) = self.report.kept.as_mut().filter(|_| waits) {
            let rest = self.waiting.rest()?;
            kept.unknown = rest.unknown;
            kept.left = rest.told(kept.dead > 0, &self.waiting);
        }
        outcome
    }

    /// Sends until the input ends, a signal comes, the spool takes no more, or the output fails.
    async fn read(&mut self, mut pieces: mpsc::Receiver<Piece>, signals: &mut Signals) -> Result<(), Failure> {
        loop {
            let piece = tokio::select! {
                biased;
                () = signals.first() => return Ok(()),
                piece = pieces.recv() => piece,
                kept = next(&self.accepted), if !self.accepted.is_empty() => {
                    self.keep(kept)?;
                    self.keep_ready()?;
                    continue;
                }
            };
            match piece {
                None => return Ok(()),
                Some(Err(error)) => return Err(Failure::local(error)),
                Some(Ok(lines)) => {
                    for line in lines {
                        tokio::select! {
                            biased;
                            result = self.send(&line) => result?,
                            () = signals.first() => return Ok(()),
                        }
                    }
                    self.keep_ready()?;
                }
            }
        }
    }

    /// Sends one line. Dropped while it waits, it has not sent it.
    async fn send(&mut self, line: &Line) -> Result<(), Failure> {
        if self.accepted.len() >= MOST_PENDING {
            let kept = next(&self.accepted).await;
            self.keep(kept)?;
        }
        while self.places.as_ref().is_some_and(|places| places.len() >= MOST_PENDING) {
            self.print_next().await?;
        }
        let mut record = self.shape.record(&line.bytes);
        if let Some(source) = &self.source {
            record = record.position(source, line.end);
        }
        match self.producer.send(record).await {
            Ok(receipt) => {
                if let Some(places) = &mut self.places {
                    places.push(Ok(receipt.clone()));
                }
                self.accepted.push_back(receipt);
            }
            Err(error) => self.refuse(error)?,
        }
        if (self.accepted.len() as u64).is_multiple_of(SETTLE_EVERY) {
            self.keep_ready()?;
        }
        Ok(())
    }

    /// A line that the producer does not take.
    fn refuse(&mut self, error: SendError) -> Result<(), Failure> {
        let at = self.report.read + self.accepted.len() as u64 + 1;
        if !matches!(error.cause(), SendCause::TooLarge { .. }) {
            // The next lines would fare no better, and none of them may be passed over in silence.
            let told = format!("line {at} and what follows are not in the spool: {error}");
            return Err(match error.cause() {
                SendCause::Metadata(_) => Failure::cluster(told),
                SendCause::NoSuchPartition { .. } => Failure::usage(told),
                SendCause::Spool(error) => Failure::spool(error),
                _ => Failure::incomplete(told),
            });
        }
        if self.source.is_some() && !self.report.keeps_failed() {
            // A run that goes on after this one would not look at the line again.
            return Err(Failure::incomplete(format!(
                "line {at} of this run is not in the spool, nor what follows it: {error}; with --failed-file FILE it is put \
                 there, and the lines after it are sent"
            )));
        }
        self.report.refuse(&error, self.shape.separator())?;
        self.report.read += 1;
        if let Some(places) = &mut self.places {
            places.push(Err(error));
        }
        Ok(())
    }

    /// The oldest line is on disk, or will not be.
    fn keep(&mut self, kept: Result<(), SendError>) -> Result<(), Failure> {
        self.accepted.pop_front();
        kept.map_err(|error| Failure::local(format!("a line is not in the spool: {error}")))?;
        self.report.read += 1;
        if let Some(kept) = &mut self.report.kept {
            kept.spooled += 1;
        }
        Ok(())
    }

    /// Takes what is on disk by now.
    fn keep_ready(&mut self) -> Result<(), Failure> {
        while let Some(kept) = self.accepted.front().and_then(Receipt::try_spooled) {
            self.keep(kept)?;
        }
        self.print_ready()
    }

    /// Waits until all lines that were read are on disk; the second signal ends that.
    async fn keep_all(&mut self, signals: &mut Signals) -> Result<(), Failure> {
        let keeping = async {
            let flushed = self.producer.flush_to_spool().await;
            while !self.accepted.is_empty() {
                let kept = next(&self.accepted).await;
                self.keep(kept)?;
                self.keep_ready()?;
            }
            // The lines themselves know better what is wrong; all of them being there, nothing should be.
            flushed.map_err(|cause| Failure::local(format!("lines are not in the spool: {cause}")))
        };
        tokio::select! {
            biased;
            result = keeping => result,
            () = signals.second() => Err(Failure::incomplete(format!(
                "given up while {} lines were not on disk yet: they are not counted, and the next run has to read them again",
                self.accepted.len()
            ))),
        }
    }
}

impl Spooling<'_> {
    /// Waits until all that is in the spool is delivered, or waits for a person.
    async fn settle(&mut self) -> Result<(), Failure> {
        let delivery = Delivery::new(&self.client, &self.producer, &self.waiting);
        let mut settled = std::pin::pin!(delivery.settled());
        loop {
            let places = self.places.as_ref().filter(|places| !places.is_empty());
            tokio::select! {
                biased;
                result = next_place(places) => {
                    if let Some(places) = &mut self.places {
                        places.pop();
                    }
                    self.report.print_place(&result);
                    self.print_ready()?;
                }
                result = &mut settled => {
                    self.print_ready()?;
                    return result;
                }
                () = tokio::time::sleep(SHOW_EVERY), if self.report.progress.is_shown() => {
                    self.count();
                    self.report.print()?;
                }
            }
        }
    }

    /// Waits for the place of the oldest line that has one to come, and prints it.
    async fn print_next(&mut self) -> Result<(), Failure> {
        let result = next_place(self.places.as_ref()).await;
        if let Some(places) = &mut self.places {
            places.pop();
        }
        self.report.print_place(&result);
        self.print_ready()
    }

    /// Prints the places that are known by now, and shows how far it is.
    fn print_ready(&mut self) -> Result<(), Failure> {
        while let Some(result) = self.places.as_mut().and_then(Queue::take_ready) {
            self.report.print_place(&result);
        }
        self.count();
        self.report.print()
    }

    /// Takes over the producer's figures: lines that are on disk have no receipt here. The client is this command's alone,
    /// so they count what it sent, and what lay in the spool before.
    fn count(&mut self) {
        let metrics = self.client.metrics();
        self.report.delivered = metrics.records_delivered;
        if let Some(kept) = &mut self.report.kept {
            kept.dead = metrics.records_failed;
            kept.unknown = metrics.records_unknown;
        }
    }
}

async fn next_place(places: Option<&Queue>) -> Result<Place, SendError> {
    match places {
        Some(places) => places.next().await,
        None => std::future::pending().await,
    }
}

/// Whether the oldest line is on disk. It stays in the queue: dropping the wait loses nothing.
async fn next(accepted: &VecDeque<Receipt>) -> Result<(), SendError> {
    match accepted.front() {
        Some(receipt) => receipt.spooled().await,
        None => std::future::pending().await,
    }
}
