//! The receipt of a record, and the future of its outcome.

use crate::core::produce::accumulator::Appended;
use crate::core::produce::batch::{BatchCell, Place, Slot};
use crate::error::SendError;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// For one accepted record. Costs a reference on its batch; dropping it changes nothing.
#[derive(Clone, Debug)]
#[must_use = "the record is in memory only; await delivered() or spooled(), or flush() and look at the outcome"]
pub struct Receipt {
    cell: Arc<BatchCell>,
    index: u32,
}

impl Receipt {
    pub(crate) fn new(appended: Appended) -> Receipt {
        Receipt { cell: appended.cell, index: appended.index }
    }

    /// Resolves once the record is acknowledged or given up. Needs no particular runtime.
    pub fn delivered(&self) -> Delivered {
        Delivered { cell: self.cell.clone(), index: self.index, slot: None }
    }

    /// Resolves once the record is safe from a crash of this process: on disk, as durable as the spool's settings say, or,
    /// without a spool, in the topic. Needs no particular runtime.
    pub fn spooled(&self) -> Spooled {
        Spooled { cell: self.cell.clone(), index: self.index, slot: None }
    }

    /// Whether [`Receipt::spooled`] has resolved, and to what.
    pub fn try_spooled(&self) -> Option<Result<(), SendError>> {
        self.cell.spooled(self.index)
    }

    /// The outcome, if there is one yet.
    pub fn try_delivered(&self) -> Option<Result<Place, SendError>> {
        self.cell.get(self.index)
    }

    /// Whether the record was delivered, if that is decided: cheaper than [`Receipt::try_delivered`] where nobody asks
    /// for the place.
    pub fn is_delivered(&self) -> Option<bool> {
        self.cell.is_delivered(self.index)
    }
}

/// The outcome of a record. See [`Receipt::delivered`].
///
/// # Errors
/// [`SendError`], which carries the record back.
///
/// # Cancel safety
/// Dropping it stops the waiting only.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Delivered {
    cell: Arc<BatchCell>,
    index: u32,
    slot: Slot,
}

impl Future for Delivered {
    type Output = Result<Place, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.cell.poll(this.index, &mut this.slot, cx)
    }
}

impl Drop for Delivered {
    fn drop(&mut self) {
        if let Some((cell, place)) = self.slot.take() {
            cell.forget(place);
        }
    }
}

/// Whether a record is safe from a crash. See [`Receipt::spooled`].
///
/// # Errors
/// [`SendError`]: it was given up before it was safe.
///
/// # Cancel safety
/// Dropping it stops the waiting only.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Spooled {
    cell: Arc<BatchCell>,
    index: u32,
    slot: Slot,
}

impl Future for Spooled {
    type Output = Result<(), SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.cell.poll_spooled(this.index, &mut this.slot, cx)
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        if let Some((cell, place)) = self.slot.take() {
            cell.forget_spooled(place);
        }
    }
}
