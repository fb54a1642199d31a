//! The spool's thread: what it is asked to write goes to disk in groups, one sync for all that waited.

mod disk;
pub(crate) mod engine;
#[cfg(test)]
mod engine_tests;
#[cfg(any(test, fuzzing))]
pub(crate) mod faulty;
pub(crate) mod files;
pub(crate) mod inspect;
#[cfg(any(test, fuzzing))]
mod model_tests;
mod reclaim;
mod room;
pub(crate) mod scan;
mod settle;
#[cfg(test)]
mod tests;
mod thread;

use crate::config::SpoolConfig;
use crate::core::produce::accumulator::Permit;
use crate::core::spool::{BatchId, Group, Recovered};
use crate::error::SpoolError;
use crate::wire::batch::SealedBatch;
use engine::Engine;
use files::Directory;
use room::Room;
use std::sync::{Arc, mpsc};
use thread::{Answer, Ask, Thread};
use tokio::sync::oneshot;

#[cfg(fuzzing)]
pub(crate) use model_tests::fuzz::Written;

/// Called on the spool's thread.
pub(crate) type Then = Box<dyn FnOnce() + Send>;
/// Called on the spool's thread with what was read.
pub(crate) type ThenRead = Box<dyn FnOnce(Result<SealedBatch, SpoolError>) + Send>;

/// A handle on an open spool; cheap to clone. When the last one is dropped, what was asked to be written is written, and
/// the directory is free for the next.
#[derive(Clone)]
pub(crate) struct Spool {
    asks: mpsc::Sender<Ask>,
    room: Arc<Room>,
}

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
    pub(crate) fn open(config: &SpoolConfig) -> Result<(Spool, Recovered), SpoolError> {
        let directory = Directory::take(&config.directory)?;
        let failed = |what, source: std::io::Error| SpoolError::Io {
            path: config.directory.clone(),
            what,
            source: Arc::new(source),
        };
        let mut entropy = [0; 16];
        getrandom::fill(&mut entropy)
            .map_err(|error| failed("cannot be named at random", std::io::Error::other(error.to_string())))?;
        let (engine, recovered) = Engine::open(directory, config, entropy)?;
        let room = Arc::new(Room::new(engine.usage()));
        let (asks, asked) = mpsc::channel();
        let thread = Thread::new(engine, asked, room.clone());
        std::thread::Builder::new()
            .name("indelible-spool".to_owned())
            .spawn(move || thread.run())
            .map_err(|error| failed("has no thread", error))?;
        Ok((Spool { asks, room }, recovered))
    }

    /// Has `group` written; `durable` is called once it is as durable as the settings say. Groups are written in the order
    /// of these calls.
    pub(crate) fn write(&self, group: Group, durable: Then) {
        self.room.queue(&group);
        // Closed: nobody is told that it is durable.
        let _ = self.asks.send(Ask::Write(group, Some(durable)));
    }

    /// Has `group` written with the next one, or soon if none comes: nobody waits for it.
    pub(crate) fn write_later(&self, group: Group) {
        self.room.queue(&group);
        let _ = self.asks.send(Ask::Write(group, None));
    }

    /// Reads a batch back, its checksum compared.
    pub(crate) fn read(&self, id: BatchId, then: ThenRead) {
        // If nobody takes the ask, its drop answers.
        let _ = self.asks.send(Ask::Read(id, Answer::new(then)));
    }

    /// Sets space aside for a batch of `bytes`, until the permit is dropped, which is when it has been written.
    pub(crate) fn try_reserve(&self, bytes: usize) -> Option<Box<dyn Permit>> {
        self.room.try_reserve(bytes)
    }

    /// As [`Self::try_reserve`], when there is space. None once the spool is closed.
    ///
    /// # Cancel safety
    /// Dropping the future reserves nothing.
    pub(crate) async fn reserve(&self, bytes: usize) -> Option<Box<dyn Permit>> {
        self.room.reserve(bytes).await
    }

    /// How it stands.
    pub(crate) fn state(&self) -> SpoolState {
        self.room.state()
    }

    /// Resolves when everything asked for so far is written, the lock is released and the thread has ended.
    ///
    /// # Cancel safety
    /// Dropping the future does not keep the spool from closing.
    pub(crate) async fn close(self) {
        let (ended, end) = oneshot::channel();
        if self.asks.send(Ask::Close(ended)).is_ok() {
            drop(self);
            let _ = end.await;
        }
    }
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool").field("state", &self.state()).finish()
    }
}
