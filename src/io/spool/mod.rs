//! The spool's thread: what it is asked to write goes to disk in groups, one sync for all that waited.

#[cfg(any(test, fuzzing))]
mod faulty;
mod files;
#[cfg(test)]
mod model_tests;

use crate::config::SpoolConfig;
use crate::core::produce::accumulator::Permit;
use crate::core::spool::{BatchId, Group, Recovered};
use crate::error::SpoolError;
use crate::wire::batch::SealedBatch;
use std::sync::Arc;

/// Called on the spool's thread.
pub(crate) type Then = Box<dyn FnOnce() + Send>;
/// Called on the spool's thread with what was read.
pub(crate) type ThenRead = Box<dyn FnOnce(Result<SealedBatch, SpoolError>) + Send>;

/// A handle on an open spool; cheap to clone. When the last one is dropped, what was asked to be written is written, and
/// the directory is free for the next.
#[derive(Clone, Debug)]
pub(crate) struct Spool {}

/// How full a spool is, and whether it can be written.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpoolState {
    /// Bytes that records take, reserved ones included.
    pub(crate) used: u64,
    /// The most they may take.
    pub(crate) limit: u64,
    /// Why nothing can be written just now (no space, an error of the disk); it is tried again and again.
    pub(crate) trouble: Option<Arc<str>>,
}

impl Spool {
    /// Takes the directory, reads what is in it and starts the thread. Blocks for about a second for each GiB.
    pub(crate) fn open(_config: &SpoolConfig) -> Result<(Spool, Recovered), SpoolError> {
        todo!()
    }

    /// Has `group` written; `durable` is called once it is as durable as the settings say. Groups are written in the order
    /// of these calls.
    pub(crate) fn write(&self, _group: Group, _durable: Then) {
        todo!()
    }

    /// Has `group` written with the next one, or soon if none comes: nobody waits for it.
    pub(crate) fn write_later(&self, _group: Group) {
        todo!()
    }

    /// Reads a batch back, its checksum compared.
    pub(crate) fn read(&self, _id: BatchId, _then: ThenRead) {
        todo!()
    }

    /// Sets space aside for a batch of `bytes`, until the permit is dropped, which is when it has been written.
    pub(crate) fn try_reserve(&self, _bytes: usize) -> Option<Box<dyn Permit>> {
        todo!()
    }

    /// As [`Self::try_reserve`], when there is space. None once the spool is closed.
    pub(crate) async fn reserve(&self, _bytes: usize) -> Option<Box<dyn Permit>> {
        todo!()
    }

    /// How it stands.
    pub(crate) fn state(&self) -> SpoolState {
        todo!()
    }

    /// Resolves when everything asked for so far is written, the lock is released and the thread has ended.
    pub(crate) async fn close(self) {
        todo!()
    }
}
