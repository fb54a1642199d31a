//! A consumer that is set up: its forms of `run`, and what is started for it on the I/O thread.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use super::delivery::Delivery;
use super::dispose::Disposer;
use super::handle::ConsumerHandle;
use super::parcel::Batch;
use super::run::{RunSettings, Runner, Summary};
use super::source::SourceSettings;
use super::until_end::Watched;
use crate::client::Client;
use crate::config::{ConfigError, ConsumerConfig, OnFailure, Order};
use crate::core::retry::Backoff;
use crate::error::ConsumeError;
use crate::io::fetcher::{self, FetchContext};
use crate::io::inbox::{Command, Inbox, Message, Stats, StopReason};
use crate::io::membership::{self, MembershipContext, Subscription};
use crate::wire::batch::DecodeLimits;

/// Up to how many times its first wait a retry of a handler waits.
const HANDLER_BACKOFF_GROWTH: u32 = 100;
/// Handlers at once where it is not the partitions that bound them.
const DEFAULT_WORKERS: usize = 64;

/// A consumer that is set up and does not run yet.
#[derive(Debug)]
#[must_use = "nothing happens before run()"]
pub struct Consumer {
    pub(super) client: Client,
    pub(super) group: Option<Arc<str>>,
    pub(super) subscription: Subscription,
    pub(super) config: Arc<ConsumerConfig>,
    pub(super) stop_after: Option<u64>,
    pub(super) stop_when_idle: Option<Duration>,
    pub(super) stop_at_end: bool,
    pub(super) handle: ConsumerHandle,
    pub(super) commands: (mpsc::UnboundedSender<Command>, mpsc::UnboundedReceiver<Command>),
}

impl Consumer {
    /// A hand on the consumer, to stop it and to read its figures while it runs.
    pub fn handle(&self) -> ConsumerHandle {
        self.handle.clone()
    }

    /// Hands every record to `handler`, until [`ConsumerHandle::shutdown`], a failure, or what `stop_after` and
    /// `stop_when_idle` and `stop_at_end` ask for.
    ///
    /// Of each partition one record is with its handler at a time, in the order of offsets; partitions go on beside each
    /// other. With [`Order::Key`] that holds for each key, and with [`Order::None`] there is no order; up to
    /// [`workers`](crate::ConsumerBuilder::workers) handlers are at work at once. Handlers run inside this future, on the executor
    /// that polls it: any will do. A handler that returns `Ok` has handled its record, and only then can the offset behind
    /// it be committed: in passing every `auto.commit.interval.ms`, and in any case before partitions go to another member
    /// and before this returns. Heartbeats go on whatever handlers do.
    ///
    /// A handler that takes its time holds up what comes after it in its order, and nothing else. Records of its key that
    /// were read meanwhile wait in memory. A partition is not read on while 10,000 of its records, or 4 MiB, wait behind
    /// busy keys or between two attempts.
    ///
    /// A record is handled at least once: again after a crash, and when its partition moved while it was handled.
    ///
    /// # Errors
    /// [`ConsumeError`]. A handler fails when it returns an error, panics, or takes longer than `handler.timeout.ms`.
    /// Nothing of that record is committed. After `handler.retries` further attempts it is brought out of the way as
    /// `handler.on.failure` says; by default the consumer stops with [`ConsumeError::Handler`]. What was handled before an
    /// error is committed before it is returned, or the error says that it could not be.
    ///
    /// # Cancel safety
    /// Dropping the future drops the handlers at work: their records are not committed. What was handled is committed in
    /// the background, then the group is left.
    pub async fn run<H, F, E>(self, handler: H) -> Result<Summary, ConsumeError>
    where
        H: FnMut(Delivery) -> F,
        F: Future<Output = Result<(), E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.runner(handler).await
    }

    /// Hands batches to `handler`: each of one partition, in the order of offsets, of as many records as are there, at
    /// least one and at most `most`. Nothing waits for a batch to fill up. As [`Consumer::run`] otherwise.
    ///
    /// When the handler succeeds, all records of the batch are handled. When it fails, none is: the same batch is handled
    /// again up to `handler.retries` times, and then each of its records is brought out of the way as
    /// `handler.on.failure` says.
    ///
    /// ```no_run
    /// # async fn insert(_: &[indelible::Delivery]) -> Result<(), std::io::Error> { Ok(()) }
    /// # async fn example(client: indelible::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let consumer = client.consumer("warehouse").topics(["orders"]);
    /// consumer.run_batches(500, |batch| async move { insert(&batch).await }).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Consumer::run`], and [`ConsumeError::Config`] when `most` is 0, or `handler.order` is not
    /// [`Order::Partition`].
    ///
    /// # Cancel safety
    /// As [`Consumer::run`].
    pub async fn run_batches<H, F, E>(self, most: usize, handler: H) -> Result<Summary, ConsumeError>
    where
        H: FnMut(Batch) -> F,
        F: Future<Output = Result<(), E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let conflict = |text: &str| Err(ConfigError::Conflict(text.to_owned()).into());
        if self.config.order != Order::Partition {
            return conflict(
                "run_batches() hands out the records of a partition in their order: handler.order must be partition",
            );
        }
        if most == 0 {
            return conflict("run_batches() needs a batch size of 1 or more");
        }
        self.start::<H, F, Batch>(handler, most).await
    }

    /// Starts fetching; what is returned hands out and commits while it is polled.
    pub(super) fn runner<H, F>(self, handler: H) -> Runner<H, F> {
        self.start(handler, 1)
    }

    fn start<H, F, P>(self, handler: H, batch: usize) -> Runner<H, F, P> {
        let Consumer { client, group, subscription, config, stop_after, stop_when_idle, stop_at_end, handle, commands } =
            self;
        let ConsumerHandle { inbox, stats, .. } = handle;
        let cluster = client.cluster().clone();
        let thread = cluster.thread().clone();
        let (to_fetcher, fetch_commands) = mpsc::unbounded_channel();
        let (to_membership, commands) = commands;
        let disposer = Disposer::new(&config, group.as_ref(), &client, &stats);
        disposer.look_for_topics();
        let fetch = FetchContext {
            cluster: cluster.clone(),
            config: config.clone(),
            group: group.clone(),
            inbox: inbox.clone(),
            stats: stats.clone(),
        };
        thread.spawn(fetcher::run(fetch, fetch_commands));
        let at_end = stop_at_end.then(|| Watched {
            cluster: cluster.clone(),
            config: config.clone(),
            group: group.clone(),
            subscription: subscription.clone(),
            inbox: inbox.clone(),
            stats: stats.clone(),
            running: to_membership.downgrade(),
        });
        let membership = MembershipContext {
            cluster,
            config: config.clone(),
            group,
            subscription,
            inbox: inbox.clone(),
            stats: stats.clone(),
            fetcher: to_fetcher,
        };
        thread.spawn(membership::run(membership, commands));
        if let Some(idle) = stop_when_idle {
            thread.spawn(watch_idle(idle, inbox.clone(), stats.clone(), to_membership.downgrade()));
        }
        if let Some(watched) = at_end {
            thread.spawn(watched.run());
        }
        let settings = run_settings(&config, disposer, batch, stop_after);
        Runner::new(handler, settings, inbox, to_membership, stats, thread)
    }
}

fn run_settings(config: &ConsumerConfig, disposer: Disposer, batch: usize, stop_after: Option<u64>) -> RunSettings {
    let backoff = config.handler_backoff;
    let workers = match (config.workers, config.order) {
        (0, Order::Partition) => usize::MAX,
        (0, Order::Key | Order::None) => DEFAULT_WORKERS,
        (workers, _) => workers,
    };
    let delays = !config.retry_topics.is_empty();
    RunSettings {
        source: SourceSettings {
            limits: DecodeLimits { batch_bytes: config.decompressed_max_bytes },
            isolation: config.isolation,
        },
        order: config.order,
        workers,
        batch: u32::try_from(batch).unwrap_or(u32::MAX).max(1),
        handler_timeout: config.handler_timeout,
        retries: config.handler_retries,
        backoff: Backoff::new(backoff, backoff.saturating_mul(HANDLER_BACKOFF_GROWTH)),
        keep: config.handler_retries > 0 || config.on_failure != OnFailure::Stop || delays,
        disposer: (config.on_failure != OnFailure::Stop || delays).then_some(disposer),
        delays,
        commit_records: config.commit_records,
        stop_after,
        shutdown_timeout: config.shutdown_timeout,
    }
}

/// Stops the consumer when nothing came for `idle`.
async fn watch_idle(idle: Duration, inbox: Arc<Inbox>, stats: Arc<Stats>, running: mpsc::WeakUnboundedSender<Command>) {
    const LOOKS: u32 = 10;
    let (mut seen, mut quiet) = ((0, 0), 0);
    while running.upgrade().is_some() {
        tokio::time::sleep((idle / LOOKS).max(Duration::from_millis(1))).await;
        let now = (stats.activity.get(), stats.records.get());
        let busy = stats.buffered_bytes.load(Ordering::Relaxed) > 0 || stats.in_hand.load(Ordering::Relaxed) > 0;
        quiet = if now == seen && now.0 > 0 && !busy { quiet + 1 } else { 0 };
        seen = now;
        if quiet >= LOOKS {
            return inbox.push(Message::Stop(StopReason::Idle));
        }
    }
}
