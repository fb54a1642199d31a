//! A record on offer: between the loop that hands records out and somebody who takes them when he likes.
//!
//! ```text
//!  on offer ── taken ──> at work ── answered ──> done or failed
//!     │                     │
//!     │ revoked, stopped    │ handler.timeout.ms
//!     v                     v
//!  withdrawn             failed, and the answer discarded
//! ```
//! What is on offer and not taken can be withdrawn at any time: it is nobody's yet. So a rebalance never waits for an
//! application that does not ask for records, and the time limit counts from the moment when a record was taken.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use super::delivery::Delivery;
use super::run::Summary;
use super::start::Consumer;
use crate::error::{ConsumeError, HandlerFailure};

/// A record that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Offer {
    delivery: Delivery,
    taken: oneshot::Sender<()>,
    answer: oneshot::Sender<Result<(), HandlerFailure>>,
}

/// A record that is to be answered for.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) delivery: Delivery,
    answer: Option<oneshot::Sender<Result<(), HandlerFailure>>>,
}

impl Offer {
    /// Takes it, unless it was withdrawn.
    pub(super) fn take(self) -> Option<Taken> {
        let Offer { delivery, taken, answer } = self;
        taken.send(()).ok()?;
        Some(Taken { delivery, answer: Some(answer) })
    }
}

impl Taken {
    /// Tells what came of it; the first answer counts. False when nobody waits for it any more.
    pub(super) fn answer(&mut self, outcome: Result<(), HandlerFailure>) -> bool {
        self.answer.take().is_some_and(|answer| answer.send(outcome).is_ok())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.answer.is_some() {
            let text = match std::thread::panicking() {
                true => "dropped by a panic, without done()",
                false => "dropped without done()",
            };
            self.answer(Err(HandlerFailure::Error(text.into())));
        }
    }
}

/// How records are offered.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// How long after it was taken a record has to be answered; zero for no limit.
    limit: Duration,
    /// The consumer was dropped: no outcome counts any more.
    dropped: Arc<AtomicBool>,
}

impl Terms {
    /// Takes the time limit over from the loop, for which it would begin with the offer.
    pub(super) fn of(consumer: &mut Consumer) -> Terms {
        let limit = std::mem::take(&mut Arc::make_mut(&mut consumer.config).handler_timeout);
        Terms { limit, dropped: Arc::default() }
    }
}

/// Offers `delivery` by way of `give`, and waits for what comes of it. Needs the I/O thread's timers.
pub(super) async fn offer<G, W>(terms: Terms, delivery: Delivery, give: G) -> Result<(), HandlerFailure>
where
    G: FnOnce(Offer) -> W,
    W: Future<Output = ()>,
{
    let outcome = offer_for(terms.limit, delivery, give).await;
    if terms.dropped.load(Ordering::Acquire) {
        // This poll of the loop is its last. It must not take what was dropped along with it for a failure.
        std::future::pending::<()>().await;
    }
    outcome
}

async fn offer_for<G, W>(limit: Duration, delivery: Delivery, give: G) -> Result<(), HandlerFailure>
where
    G: FnOnce(Offer) -> W,
    W: Future<Output = ()>,
{
    let revoked = delivery.revoked();
    let (taken, mut is_taken) = oneshot::channel();
    let (answer, mut answered) = oneshot::channel();
    let giving = async {
        give(Offer { delivery, taken, answer }).await;
        // An offer that is dropped is refused.
        (&mut is_taken).await
    };
    let taken = tokio::select! {
        taken = giving => taken.is_ok(),
        () = revoked => false,
    };
    // Taken in the very moment when it was withdrawn: then it is with its handler all the same.
    is_taken.close();
    if !taken && is_taken.try_recv().is_err() {
        // The loop was told to stop before this was withdrawn, and may not have read it yet: this poll of it may have begun
        // before. Another task of its thread runs only when this poll is over, and the next one begins with reading.
        let _ = tokio::spawn(async {}).await;
        return Err(HandlerFailure::Error(Box::new(Withdrawn)));
    }
    let gone = |_| Err(HandlerFailure::Error("its handler ended without an answer".into()));
    if limit.is_zero() {
        return answered.await.unwrap_or_else(gone);
    }
    match tokio::time::timeout(limit, &mut answered).await {
        Ok(answer) => answer.unwrap_or_else(gone),
        Err(_) => Err(HandlerFailure::TimedOut(limit)),
    }
}

/// Nobody took it, and nobody will: no failure, and nothing to dispose of.
#[derive(Debug)]
pub(super) struct Withdrawn;

impl fmt::Display for Withdrawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("withdrawn before anybody took it")
    }
}

impl std::error::Error for Withdrawn {}

impl Withdrawn {
    /// Whether `failure` is none.
    pub(super) fn is(failure: &HandlerFailure) -> bool {
        matches!(failure, HandlerFailure::Error(error) if error.is::<Withdrawn>())
    }
}

/// A consumer that runs on the I/O thread. Dropped, it drops the run future there.
#[derive(Debug)]
pub(super) struct Running {
    dropped: Arc<AtomicBool>,
    outcome: oneshot::Receiver<Result<Summary, ConsumeError>>,
    _cancel: oneshot::Sender<()>,
}

impl Running {
    /// Runs `consumer` there with `handler`, which offers on these terms.
    pub(super) fn start<H, F>(consumer: Consumer, terms: Terms, handler: H) -> Running
    where
        H: FnMut(Delivery) -> F + Send + 'static,
        F: Future<Output = Result<(), HandlerFailure>> + Send + 'static,
    {
        let thread = consumer.client.cluster().thread().clone();
        let runner = consumer.runner(handler);
        let (cancel, cancelled) = oneshot::channel::<()>();
        let (tell, outcome) = oneshot::channel();
        thread.spawn(async move {
            tokio::select! {
                biased;
                _ = cancelled => {}
                outcome = runner => {
                    let _ = tell.send(outcome);
                }
            }
        });
        Running { dropped: terms.dropped, outcome, _cancel: cancel }
    }

    /// Waits until it has stopped.
    pub(super) async fn outcome(&mut self) -> Result<Summary, ConsumeError> {
        (&mut self.outcome).await.unwrap_or(Err(ConsumeError::Closed))
    }

    /// The error it stopped with, if it has and nobody asked.
    pub(super) fn unseen_error(&mut self) -> Option<ConsumeError> {
        self.outcome.try_recv().ok()?.err()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Release);
    }
}
