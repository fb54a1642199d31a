//! Lines that live in memory until they are delivered.

use std::time::Duration;

use indelible::Producer;
use tokio::sync::mpsc;

use super::pending::Queue;
use super::report::Report;
use super::{MOST_PENDING, SETTLE_EVERY, Shape};
use crate::failure::Failure;
use crate::lines::Piece;
use crate::signals::Signals;

/// Sends lines and settles them in their order.
pub(super) struct Sending<'a> {
    shape: &'a Shape<'a>,
    producer: Producer,
    pending: Queue,
    report: &'a mut Report,
}

impl<'a> Sending<'a> {
    pub(super) fn new(shape: &'a Shape<'a>, producer: Producer, report: &'a mut Report) -> Sending<'a> {
        Sending { shape, producer, pending: Queue::default(), report }
    }

    /// Reads, sends, and waits for every result.
    pub(super) async fn run(mut self, pieces: mpsc::Receiver<Piece>, signals: &mut Signals) -> Result<(), Failure> {
        let read = self.read(pieces, signals).await;
        let settled = self.settle_all(signals).await;
        read.and(settled)
    }

    /// Sends until the input ends, a signal comes, or the output fails.
    async fn read(&mut self, mut pieces: mpsc::Receiver<Piece>, signals: &mut Signals) -> Result<(), Failure> {
        loop {
            let piece = tokio::select! {
                biased;
                () = signals.first() => return Ok(()),
                piece = pieces.recv() => piece,
                result = self.pending.next(), if !self.pending.is_empty() => {
                    self.pending.pop();
                    self.report.settle(result, self.shape.separator())?;
                    self.settle_ready()?;
                    self.report.print()?;
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
                            result = self.send(&line.bytes) => result?,
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
    async fn send(&mut self, line: &[u8]) -> Result<(), Failure> {
        if self.pending.len() >= MOST_PENDING {
            let result = self.pending.next().await;
            self.pending.pop();
            self.report.settle(result, self.shape.separator())?;
        }
        let sent = self.producer.send(self.shape.record(line)).await;
        self.report.read += 1;
        self.pending.push(sent);
        if self.report.read.is_multiple_of(SETTLE_EVERY) {
            self.settle_ready()?;
        }
        Ok(())
    }

    /// Takes what is known by now, from the front on: results come out in the order of the lines.
    fn settle_ready(&mut self) -> Result<(), Failure> {
        while let Some(result) = self.pending.take_ready() {
            self.report.settle(result, self.shape.separator())?;
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
            let result = self.pending.next().await;
            self.pending.pop();
            // Even when nothing can be written any more the counts shall be right.
            outcome = outcome.and(self.report.settle(result, self.shape.separator()));
        }
        outcome.and(self.report.print())
    }
}
