//! A hand on a running consumer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::io::inbox::{Inbox, Message, Stats, StopReason};
use crate::sync::lock;
use crate::types::TopicPartition;

/// Stops a running consumer, and reads its figures. Cheap to clone; keeping one keeps nothing running.
#[derive(Clone, Debug)]
pub struct ConsumerHandle {
    pub(super) inbox: Arc<Inbox>,
    pub(super) stats: Arc<Stats>,
}

/// What a consumer has done so far and holds now. A snapshot: the figures are read one after another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerMetrics {
    /// Records handled with success.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Failed handlers that were tried again.
    pub handler_retries: u64,
    /// Records handled after their partition had moved to another member.
    pub discarded: u64,
    /// Bytes fetched and not handled yet.
    pub buffered_bytes: u64,
    /// Requests for records.
    pub fetches: u64,
    /// Such requests that failed.
    pub fetch_failures: u64,
    /// Logs that were found cut below what was read of them, with `data.loss` set to go on.
    pub data_losses: u64,
    /// Commits that the coordinator took.
    pub commits: u64,
    /// Commits that failed; each is tried again while the assignment lasts.
    pub commit_failures: u64,
    /// Assignments received.
    pub rebalances: u64,
    /// Warnings of records that took longer in their handlers than `max.poll.interval.ms`; one record may have several.
    pub slow_handlers: u64,
    /// Records in the logs of the assigned partitions that are not handled yet, as far as is known.
    pub lag: u64,
    /// The assigned partitions and the offset up to which each is handled.
    pub handled: Vec<(TopicPartition, i64)>,
}

impl ConsumerHandle {
    /// Stops the consumer in good order: records in their handlers are finished (for up to `shutdown.timeout.ms`), what
    /// is handled is committed, the group is left, and `run` returns. Does not wait; does nothing when it has stopped.
    pub fn shutdown(&self) {
        self.inbox.push(Message::Stop(StopReason::Shutdown));
    }

    /// The figures now.
    pub fn metrics(&self) -> ConsumerMetrics {
        let stats = &self.stats;
        let assigned = lock(&stats.assigned).clone().unwrap_or_default();
        ConsumerMetrics {
            records: stats.records.get(),
            bytes: stats.bytes.get(),
            handler_retries: stats.handler_retries.get(),
            discarded: stats.discarded.get(),
            buffered_bytes: stats.buffered_bytes.load(Ordering::Relaxed),
            fetches: stats.fetches.get(),
            fetch_failures: stats.fetch_failures.get(),
            data_losses: stats.data_losses.get(),
            commits: stats.commits.get(),
            commit_failures: stats.commit_failures.get(),
            rebalances: stats.rebalances.get(),
            slow_handlers: stats.slow_handlers.get(),
            lag: assigned.iter().map(|assigned| assigned.lag()).sum(),
            handled: assigned.iter().map(|a| (a.partition.clone(), lock(&a.watermark).handled())).collect(),
        }
    }
}
