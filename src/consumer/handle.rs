//! A hand on a running consumer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{mpsc, oneshot};

use crate::error::ControlError;
use crate::io::inbox::{Command, ControlReply, Inbox, Message, Stats, StopReason};
use crate::io::offsets::SeekTo;
use crate::sync::lock;
use crate::types::TopicPartition;

/// Stops a running consumer, holds or moves its partitions, and reads its figures. Cheap to clone; keeping one keeps
/// nothing running.
#[derive(Clone, Debug)]
pub struct ConsumerHandle {
    pub(super) inbox: Arc<Inbox>,
    pub(super) stats: Arc<Stats>,
    /// Weak: when the running consumer drops its own, it is over.
    pub(super) commands: mpsc::WeakUnboundedSender<Command>,
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
    /// Records that could not be handled and were skipped (`handler.on.failure=skip`); they count as handled.
    pub skipped: u64,
    /// Records that could not be handled and were written to the dead letter topic; they count as handled.
    pub dead_letters: u64,
    /// Records that were written to a retry topic, to be handled later; they count as handled.
    pub retried_later: u64,
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
    /// The assigned partitions for which the group has an offset, and that offset.
    pub committed: Vec<(TopicPartition, i64)>,
}

impl ConsumerHandle {
    /// Stops the consumer in good order: records in their handlers are finished (for up to `shutdown.timeout.ms`), what
    /// is handled is committed, the group is left, and `run` returns. Does not wait; does nothing when it has stopped.
    pub fn shutdown(&self) {
        self.inbox.push(Message::Stop(StopReason::Shutdown));
    }

    /// Hands out no record of these partitions until [`ConsumerHandle::resume`], and fetches none. Those that are with
    /// handlers are finished; what was fetched waits in the fetch buffer. Heartbeats and commits go on.
    ///
    /// A partition stays paused through a seek and through rebalances in which it stays with this consumer. One that goes
    /// away and comes back is not paused any more.
    ///
    /// Returns when it is in force, for all of the partitions or none of them.
    ///
    /// # Errors
    /// [`ControlError::NotAssigned`] when one of them is not with this consumer, [`ControlError::Stopped`].
    ///
    /// # Cancel safety
    /// Once polled it happens, even if the future is dropped.
    pub async fn pause(
        &self,
        partitions: impl IntoIterator<Item = (impl AsRef<str>, i32)>,
    ) -> Result<(), ControlError> {
        let partitions = named(partitions);
        self.ask(|reply| Command::Pause(partitions, true, reply)).await
    }

    /// Goes on with partitions that were paused. One that was not simply goes on.
    ///
    /// # Errors
    /// As [`ConsumerHandle::pause`].
    ///
    /// # Cancel safety
    /// As [`ConsumerHandle::pause`].
    pub async fn resume(
        &self,
        partitions: impl IntoIterator<Item = (impl AsRef<str>, i32)>,
    ) -> Result<(), ControlError> {
        let partitions = named(partitions);
        self.ask(|reply| Command::Pause(partitions, false, reply)).await
    }

    /// Goes on elsewhere in a partition: what is handed out from now on lies there. Records that are with handlers are
    /// finished, but count for nothing; what was fetched is dropped, and an answer still on its way too.
    ///
    /// With a group the new place is committed, also when it lies before the one committed until now. Records in between
    /// are then handled again, or never: that is for the application to know.
    ///
    /// Returns when the new place is found and in force. Of two seeks of the same partition the later one counts.
    ///
    /// # Errors
    /// [`ControlError`]; the partition then goes on where it was.
    ///
    /// # Cancel safety
    /// Once polled it happens, even if the future is dropped.
    pub async fn seek(&self, topic: impl AsRef<str>, partition: i32, to: SeekTo) -> Result<(), ControlError> {
        let partition = TopicPartition::new(topic.as_ref(), partition);
        self.ask(|reply| Command::Seek(partition, to, reply)).await
    }

    async fn ask(&self, command: impl FnOnce(ControlReply) -> Command) -> Result<(), ControlError> {
        let (reply, answer) = oneshot::channel();
        // Not kept while waiting: the consumer must be able to end.
        let sent = self.commands.upgrade().is_some_and(|commands| commands.send(command(reply)).is_ok());
        if sent { answer.await.unwrap_or(Err(ControlError::Stopped)) } else { Err(ControlError::Stopped) }
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
            skipped: stats.skipped.get(),
            dead_letters: stats.dead_letters.get(),
            retried_later: stats.retried_later.get(),
            buffered_bytes: stats.buffered_bytes.load(Ordering::Relaxed),
            fetches: stats.fetches.get(),
            fetch_failures: stats.fetch_failures.get(),
            data_losses: stats.data_losses.get(),
            commits: stats.commits.get(),
            commit_failures: stats.commit_failures.get(),
            rebalances: stats.rebalances.get(),
            slow_handlers: stats.slow_handlers.get(),
            lag: assigned.iter().map(|assigned| assigned.lag()).sum(),
            committed: assigned
                .iter()
                .filter_map(|a| Some((a.partition.clone(), lock(&a.watermark).committed()?)))
                .collect(),
            handled: assigned.iter().map(|a| (a.partition.clone(), lock(&a.watermark).handled())).collect(),
        }
    }
}

fn named(partitions: impl IntoIterator<Item = (impl AsRef<str>, i32)>) -> Vec<TopicPartition> {
    partitions.into_iter().map(|(topic, partition)| TopicPartition::new(topic.as_ref(), partition)).collect()
}
