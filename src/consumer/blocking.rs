//! Handlers that block, on threads of their own.

use std::fmt;
use std::future::Future;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use super::builder::ConsumerBuilder;
use super::delivery::Delivery;
use super::offer::{Offer, Running, Terms, offer};
use super::run::Summary;
use super::slots::panic_message;
use super::start::Consumer;
use crate::error::{ConsumeError, HandlerFailure};
use crate::sync::lock;

/// A consumer whose handlers run on threads of their own; made by [`Consumer::run_blocking`]. Awaited on any executor, or
/// waited for with [`RunBlocking::wait`].
#[must_use = "nothing happens before it is awaited or waited for"]
pub struct RunBlocking {
    future: Pin<Box<dyn Future<Output = Result<Summary, ConsumeError>> + Send>>,
}

impl Consumer {
    /// As [`Consumer::run`], for a handler that blocks: it runs on `handler.workers` threads of its own (default: as many
    /// as the machine runs at once), so it may compute for long, wait for locks and use blocking libraries.
    ///
    /// ```no_run
    /// # fn store(_: &[u8]) -> Result<(), std::io::Error> { Ok(()) }
    /// # fn example(client: indelible::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let consumer = client.consumer("billing").topics(["orders"]).build()?;
    /// consumer.run_blocking(|delivery| store(delivery.value())).wait()?;
    /// # Ok(()) }
    /// ```
    ///
    /// The threads live as long as the consumer runs. A panic is a failure of its record, as an error is; the thread goes
    /// on.
    ///
    /// `handler.timeout.ms` cannot stop a thread. When it is over the record has failed, which the log tells: it is
    /// retried, or `handler.on.failure` decides, while the thread may still work on it. What the handler returns later is
    /// discarded. Until then its thread is missing to the others.
    ///
    /// # Errors
    /// As [`Consumer::run`]; also [`ConsumeError::Threads`].
    ///
    /// # Cancel safety
    /// As [`Consumer::run`]. Records that are with a handler when the future is dropped, or when `shutdown.timeout.ms` is
    /// over, are not committed; their threads end when the handler returns.
    pub fn run_blocking<H, E>(self, handler: H) -> RunBlocking
    where
        H: Fn(Delivery) -> Result<(), E> + Send + Sync + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        RunBlocking { future: Box::pin(run(self, handler)) }
    }
}

impl ConsumerBuilder {
    /// Builds the consumer and runs it: see [`Consumer::run_blocking`].
    ///
    /// # Errors
    /// As [`ConsumerBuilder::build`] and [`Consumer::run_blocking`].
    ///
    /// # Cancel safety
    /// As [`Consumer::run_blocking`].
    pub fn run_blocking<H, E>(self, handler: H) -> RunBlocking
    where
        H: Fn(Delivery) -> Result<(), E> + Send + Sync + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        RunBlocking { future: Box::pin(async { self.build()?.run_blocking(handler).await }) }
    }
}

impl RunBlocking {
    /// Blocks the calling thread until the consumer has stopped. Not for a thread that runs other tasks: those wait too.
    ///
    /// # Errors
    /// As [`Consumer::run_blocking`].
    pub fn wait(self) -> Result<Summary, ConsumeError> {
        let mut future = pin!(self);
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        loop {
            if let Poll::Ready(outcome) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return outcome;
            }
            thread::park();
        }
    }
}

impl Future for RunBlocking {
    type Output = Result<Summary, ConsumeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(context)
    }
}

impl fmt::Debug for RunBlocking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunBlocking").finish_non_exhaustive()
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

async fn run<H, E>(mut consumer: Consumer, handler: H) -> Result<Summary, ConsumeError>
where
    H: Fn(Delivery) -> Result<(), E> + Send + Sync + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
{
    let terms = Terms::of(&mut consumer);
    let config = Arc::make_mut(&mut consumer.config);
    if config.workers == 0 {
        config.workers = thread::available_parallelism().map_or(1, NonZero::get);
    }
    // No longer than what may be with handlers at once, which is as many as there are threads.
    let (give, offers) = mpsc::channel();
    start_threads(config.workers, &Arc::new(handler), &Arc::new(Mutex::new(offers)))?;
    let mut running = Running::start(consumer, terms.clone(), move |delivery: Delivery| {
        let give = give.clone();
        offer(terms.clone(), delivery, async move |offer| {
            let _ = give.send(offer);
        })
    });
    running.outcome().await
}

/// Starts as many of them as the system has.
fn start_threads<H, E>(
    count: usize,
    handler: &Arc<H>,
    offers: &Arc<Mutex<mpsc::Receiver<Offer>>>,
) -> Result<(), ConsumeError>
where
    H: Fn(Delivery) -> Result<(), E> + Send + Sync + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
{
    for started in 0..count {
        let (handler, offers) = (handler.clone(), offers.clone());
        let thread = thread::Builder::new().name(format!("handler-{started}"));
        match thread.spawn(move || work(&*handler, &offers)) {
            Ok(_) => {}
            Err(error) if started == 0 => return Err(ConsumeError::Threads(error)),
            Err(error) => {
                tracing::warn!(%error, started, asked = count, "handlers get fewer threads than asked for");
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A thread's life: until the consumer is gone.
fn work<H, E>(handler: &H, offers: &Mutex<mpsc::Receiver<Offer>>)
where
    H: Fn(Delivery) -> Result<(), E>,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
{
    loop {
        // The one that waits holds the lock; the others wait for the lock.
        let next = lock(offers).recv();
        let Ok(next) = next else { return };
        let Some(mut taken) = next.take() else { continue };
        let delivery = taken.delivery.clone();
        let outcome = match catch_unwind(AssertUnwindSafe(|| handler(delivery))) {
            Ok(outcome) => outcome.map_err(|error| HandlerFailure::Error(error.into())),
            Err(panic) => Err(HandlerFailure::Panic(panic_message(&*panic))),
        };
        if !taken.answer(outcome) {
            let (partition, offset) = (taken.delivery.topic_partition(), taken.delivery.offset());
            tracing::warn!(%partition, offset, "a handler returned when nobody waited for it any more: its result is discarded");
        }
    }
}
