//! What handlers come to: counted, tried again, or disposed of.

use std::future::Future;
use std::sync::Arc;
use std::task::Poll;

use super::{Phase, Runner};
use crate::consumer::alarms::Whom;
use crate::consumer::dispose::{Disposed, Disposer};
use crate::consumer::parcel::Parcel;
use crate::consumer::slots::State;
use crate::core::consume::watermark::{Completion, HandedOut};
use crate::error::{ConsumeError, HandlerFailure};
use crate::io::inbox::{Command, StopReason};
use crate::sync::lock;

impl<H, F, P, E> Runner<H, F, P>
where
    H: FnMut(P) -> F,
    P: Parcel,
    F: Future<Output = Result<(), E>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Lets go on what was woken, and nothing else.
    pub(super) fn poll_woken(&mut self) {
        let mut woken = std::mem::take(&mut self.woken);
        if !matches!(self.phase, Phase::Running | Phase::Stopping(_)) {
            woken.clear(); // handlers had their time
        }
        for index in woken.drain(..) {
            let slot = self.slots.get(index);
            slot.on_woken();
            match slot.state {
                State::Handling => {
                    if let Poll::Ready(outcome) = slot.poll() {
                        self.on_outcome(index, outcome);
                    }
                }
                State::Disposing(_) => self.go_on_disposing(index),
                State::Free | State::Pausing | State::Due => {}
            }
        }
        self.woken = woken;
    }

    /// The handler in slot `index` came to an end.
    pub(super) fn on_outcome(&mut self, index: usize, outcome: Result<(), HandlerFailure>) {
        self.running -= 1;
        let slot = self.slots.get(index);
        slot.alarm.disarm();
        match outcome {
            Ok(()) => {
                let (tokens, bytes) = (std::mem::take(&mut slot.tokens), slot.brief.bytes);
                let tokens = self.complete(index, tokens, bytes);
                self.slots.get(index).tokens = tokens;
                self.free(index);
            }
            Err(failure) => self.on_failure(index, failure),
        }
    }

    /// Notes on the watermark that these are done. Gives their container back, empty.
    fn complete(&mut self, index: usize, mut tokens: Vec<HandedOut>, bytes: u64) -> Vec<HandedOut> {
        let Some(assigned) = self.slots.get(index).assigned.clone() else { return tokens };
        let (mut done, mut discarded) = (0, 0);
        {
            let mut watermark = lock(&assigned.watermark);
            for token in tokens.drain(..) {
                match watermark.complete(token) {
                    Completion::Counted => done += 1,
                    Completion::Discarded => discarded += 1,
                }
            }
        }
        self.count(done, if done > 0 { bytes } else { 0 }, discarded);
        tokens
    }

    /// Records are done, or were for nothing: those come again, here or elsewhere.
    pub(super) fn count(&mut self, done: u64, bytes: u64, discarded: u64) {
        if discarded > 0 {
            self.discarded += discarded;
            self.stats.discarded.add(discarded);
            self.take_back(discarded);
        }
        if done == 0 {
            return;
        }
        self.handled += done;
        self.uncommitted += done;
        self.stats.records.add_alone(done);
        self.stats.bytes.add_alone(bytes);
        if self.settings.commit_records > 0 && self.uncommitted >= self.settings.commit_records {
            self.uncommitted = 0;
            let _ = self.commands.send(Command::Commit);
        }
        if self.settings.stop_after.is_some_and(|most| self.handled >= most) {
            self.stop(Ok(StopReason::MaxRecords));
        }
    }

    fn on_failure(&mut self, index: usize, failure: HandlerFailure) {
        let slot = self.slots.get(index);
        let (brief, running) = (slot.brief, matches!(self.phase, Phase::Running));
        if slot.is_revoked() || !running {
            // Nobody waits for this record here any more: its next owner, or the next start, handles it again.
            self.free(index);
            return self.take_back(brief.records.into());
        }
        let Some(partition) = self.place(index) else { return };
        let (offset, attempt) = (brief.offset, brief.attempt);
        if attempt <= self.settings.retries {
            tracing::warn!(%partition, offset, attempt, %failure, "handler failed; again after a pause");
            self.stats.handler_retries.add(1);
            let pause = self.settings.backoff.delay(attempt, self.thread.random().next());
            let slot = self.slots.get(index);
            slot.state = State::Pausing;
            if !std::mem::replace(&mut slot.kept, true) {
                // Its batch need not stay for as long as it does.
                slot.again = slot.again.take().map(P::detached);
                self.lanes[slot.lane].kept_bytes += brief.bytes;
            }
            self.alarms.arm(&mut slot.alarm, Whom::Slot(index), pause);
            let at = slot.lane;
            return self.enqueue(at);
        }
        match self.settings.disposer.clone() {
            Some(disposer) => self.dispose(index, &disposer, attempt, failure),
            None => {
                self.stop(Err(ConsumeError::Handler { partition, offset, attempts: attempt, failure, commit: None }));
                self.free(index);
            }
        }
    }

    /// Brings records out of the way that cannot be handled, each by itself.
    fn dispose(&mut self, index: usize, disposer: &Disposer, attempts: u32, failure: HandlerFailure) {
        let slot = self.slots.get(index);
        let Some(parcel) = slot.again.take() else { return };
        let tokens = std::mem::take(&mut slot.tokens);
        let failures = shares(failure, tokens.len());
        let disposals = tokens
            .into_iter()
            .zip(parcel.deliveries())
            .zip(failures)
            .map(|((token, delivery), failure)| (token, disposer.dispose(delivery, attempts, failure)));
        slot.state = State::Disposing(disposals.collect());
        self.go_on_disposing(index);
    }

    fn go_on_disposing(&mut self, index: usize) {
        let slot = self.slots.get(index);
        let records = u64::from(slot.brief.records.max(1));
        let each = slot.brief.bytes / records;
        for (token, disposed) in slot.poll_disposals() {
            match disposed {
                Disposed::Handled => _ = self.complete(index, vec![token], each),
                Disposed::Stop(error) => self.stop(Err(error)),
            }
        }
        if matches!(&self.slots.get(index).state, State::Disposing(left) if left.is_empty()) {
            self.free(index);
        }
    }
}

/// The same failure for each record of a batch.
fn shares(failure: HandlerFailure, records: usize) -> impl Iterator<Item = HandlerFailure> {
    enum Shared {
        One(Option<HandlerFailure>),
        Error(Arc<dyn std::error::Error + Send + Sync>),
        Other(HandlerFailure),
    }
    let mut shared = match failure {
        failure if records <= 1 => Shared::One(Some(failure)),
        HandlerFailure::Error(error) => Shared::Error(Arc::from(error)),
        failure => Shared::Other(failure),
    };
    std::iter::from_fn(move || match &mut shared {
        Shared::One(failure) => failure.take(),
        Shared::Error(error) => Some(HandlerFailure::Error(Box::new(SharedError(error.clone())))),
        Shared::Other(HandlerFailure::Panic(message)) => Some(HandlerFailure::Panic(message.clone())),
        Shared::Other(HandlerFailure::TimedOut(limit)) => Some(HandlerFailure::TimedOut(*limit)),
        Shared::Other(HandlerFailure::Error(_)) => None,
    })
}

/// An error of a handler that several records share.
#[derive(Debug)]
struct SharedError(Arc<dyn std::error::Error + Send + Sync>);

impl std::fmt::Display for SharedError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for SharedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}
