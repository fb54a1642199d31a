//! The producer: what an application sends records through.

mod builder;
mod receipt;

pub use builder::ProducerBuilder;
pub use receipt::{Delivered, Receipt, Spooled};

use crate::core::produce::accumulator::Appended;
use crate::core::produce::batch::Place;
use crate::error::{CloseError, SendCause, SendError};
use crate::io::sender::shared::{Shared, Wait};
use crate::record::Record;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Sends records. Cheap to clone; all clones share batches, memory and order. Made by
/// [`Client::producer`](crate::Client::producer).
///
/// Records of one partition arrive in the order in which `send` accepted them, through every retry. What is accepted
/// lives in memory until its receipt resolves: a process that dies before loses it. With a spool
/// ([`ProducerBuilder::spool`]) it is safe from the moment [`Receipt::spooled`] resolves, and is delivered by this
/// process or the next one that opens the spool.
///
/// When the last clone is dropped, what is not acknowledged is given up, or stays in the spool: its receipts resolve to
/// [`SendCause::Closed`] and a line of the log tells how much it was. [`Producer::flush`] or [`Producer::close`] come first.
#[derive(Clone, Debug)]
pub struct Producer {
    handle: Arc<Handle>,
}

/// Ends the sender when the last producer is gone.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl Producer {
    pub(crate) fn new(shared: Arc<Shared>) -> Producer {
        Producer { handle: Arc::new(Handle { shared }) }
    }

    /// Puts `record` into a batch. Waits, up to `max.block.ms`, for the topic's metadata, for memory and for space in the
    /// spool; this is the one place where a producer pushes back. The returned receipt tells when the record is in the
    /// topic. With a spool a topic that no broker can be asked for, within half a second, is no obstacle: the record gets
    /// its partition later.
    ///
    /// # Errors
    /// [`SendError::NotDelivered`] with the record: too large, no such topic or partition, no room in time, a position
    /// that does not grow, closed.
    ///
    /// # Cancel safety
    /// Dropping the future before it is ready leaves the record unsent. Dropping the receipt changes nothing: the record
    /// is sent.
    pub async fn send(&self, record: Record<'_>) -> Result<Receipt, SendError> {
        let shared = &self.handle.shared;
        match shared.append(&record, &mut None) {
            Ok(appended) => Ok(Receipt::new(appended)),
            Err(wait) => self.send_after(record, wait).await.map(Receipt::new),
        }
    }

    /// As [`Producer::send`], without ever waiting.
    ///
    /// # Errors
    /// Also [`SendCause::BufferFull`] and [`SendCause::SpoolFull`], and [`SendCause::NotYetKnown`] while the topic's
    /// metadata is being asked for; with a spool, not as long as no broker has answered this client at all.
    pub fn try_send(&self, record: Record<'_>) -> Result<Receipt, SendError> {
        let shared = &self.handle.shared;
        let mut appended = shared.append(&record, &mut None);
        if let Err(Wait::Topic) = appended {
            appended = shared.try_spool_topic(record.topic).and_then(|()| shared.append(&record, &mut None));
        }
        let cause = match appended {
            Ok(appended) => return Ok(Receipt::new(appended)),
            Err(Wait::Refused(cause)) => cause,
            Err(Wait::Memory { bytes }) => {
                shared.urge();
                shared.memory_full(bytes, Duration::ZERO)
            }
            Err(Wait::Space { .. }) => shared.spool_full(Duration::ZERO),
            Err(Wait::Topic) => {
                shared.ask_for_topic(record.topic);
                SendCause::NotYetKnown(Arc::from(record.topic))
            }
        };
        Err(SendError::refused(record.to_owned_record(), cause))
    }

    /// As [`Producer::send`], with the outcome told to `callback` instead of a receipt. It runs on the client's I/O
    /// thread: it must not block, nor wait for this client.
    ///
    /// # Errors
    /// As [`Producer::send`]; the callback is not called then.
    ///
    /// # Cancel safety
    /// As [`Producer::send`].
    pub async fn send_with(
        &self,
        record: Record<'_>,
        callback: impl FnOnce(Result<Place, SendError>) + Send + 'static,
    ) -> Result<(), SendError> {
        let appended = match self.handle.shared.append(&record, &mut None) {
            Ok(appended) => appended,
            Err(wait) => self.send_after(record, wait).await?,
        };
        appended.cell.call_back(appended.index, Box::new(callback));
        Ok(())
    }

    /// Waits until every record accepted before this call is acknowledged or given up; their receipts tell which.
    /// Lingering batches go at once. Bounded by `delivery.timeout.ms`; with a spool, which gives nothing up, not bounded:
    /// there a record that could not be delivered and is parked for another attempt is not waited for either.
    ///
    /// # Cancel safety
    /// Dropping the future stops the waiting only.
    pub async fn flush(&self) {
        self.handle.shared.flush().await;
    }

    /// Waits until every record accepted before this call is in the spool, or in its topic: it survives a crash of this
    /// process then, as far as the spool's [`Durability`](crate::Durability) says. Lingering batches go at once.
    ///
    /// # Errors
    /// [`SendCause`]: why the first record that was given up meanwhile got to neither; the receipts tell of each. Also
    /// [`SendCause::NeedsSpool`] for a producer without one.
    ///
    /// # Cancel safety
    /// Dropping the future stops the waiting only.
    pub async fn flush_to_spool(&self) -> Result<(), SendCause> {
        self.handle.shared.flush_to_spool().await
    }

    /// Up to where the records of each source were in the spool, or delivered, when this producer opened it: reading goes
    /// on after these positions. See [`Record::position`].
    pub fn recovered_positions(&self) -> BTreeMap<String, u64> {
        let positions = self.handle.shared.recovered_positions.iter();
        positions.map(|(name, position)| (name.to_string(), *position)).collect()
    }

    /// Refuses new records, sends what it holds, and ends within `timeout`.
    ///
    /// With a spool it first waits until all of it is in the spool, for as long as something still gets there, and then up
    /// to `timeout` for delivery. What is not delivered then stays in the spool for the next producer that opens it: that
    /// is no error, and the receipts resolve to [`SendError::Spooled`]. A spool that is not written ahead
    /// ([`ProducerBuilder::spill`]) takes what was not delivered within `timeout`.
    ///
    /// # Errors
    /// [`CloseError`]: something was left. Its receipts have resolved to [`SendCause::Closed`]. With a spool: something
    /// could not be written there.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the producer closed for new records; what it holds is still being sent until the last
    /// clone is dropped.
    pub async fn close(&self, timeout: Duration) -> Result<(), CloseError> {
        self.handle.shared.close(timeout).await
    }

    #[cold]
    async fn send_after(&self, record: Record<'_>, mut wait: Wait) -> Result<Appended, SendError> {
        let shared = &self.handle.shared;
        let thread = shared.cluster.thread();
        let deadline: Instant = thread.now() + shared.config.max_block;
        let mut room = None;
        let cause = loop {
            let left = deadline.saturating_duration_since(thread.now());
            match wait {
                Wait::Refused(cause) => break cause,
                Wait::Topic => {
                    if let Err(error) = shared.learn_topic_or_spool(record.topic, left).await {
                        break error.into();
                    }
                }
                Wait::Memory { bytes } | Wait::Space { bytes } => match shared.reserve(bytes, left).await {
                    Ok(reserved) => room = Some(reserved),
                    Err(cause) => break cause,
                },
            }
            match shared.append(&record, &mut room) {
                Ok(appended) => return Ok(appended),
                Err(next) => wait = next,
            }
        };
        Err(SendError::refused(record.to_owned_record(), cause))
    }
}
