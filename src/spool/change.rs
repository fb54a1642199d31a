//! Deciding about what could not be delivered.

use super::{Batch, BatchStatus, Filter};
use crate::config::SpoolConfig;
use crate::core::spool::{BatchId, Group, Op, Outcome, StoredBatch};
use crate::error::SpoolError;
use crate::io::spool::Spool;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// How often a write that takes long is asked what is wrong.
const PATIENCE: Duration = Duration::from_secs(2);

/// What [`retry`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retried {
    /// How many batches are ready now.
    pub batches: u64,
    /// How many records they have.
    pub records: u64,
    /// How many of these batches may be in their topic already, and be there twice then.
    pub unknown: u64,
    /// The ids asked for that are not in the spool.
    pub missing: Vec<u64>,
}

/// What [`discard`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Discarded {
    /// How many batches are gone.
    pub batches: u64,
    /// How many records they had.
    pub records: u64,
    /// The ids asked for that are not in the spool.
    pub missing: Vec<u64>,
}

/// Makes the parked and dead batches that `filter` takes ready again: the next producer sends them. A dead batch, and one
/// of which nobody can tell whether it is in its topic, goes as a new one, under a sequence of its own; the latter may
/// then be there twice ([`BatchStatus::is_unknown`] tells which these are). A parked one of which that is not in question
/// goes as it stands.
///
/// # Errors
/// [`SpoolError::InUse`] while a producer has it; others when it cannot be read or written.
pub fn retry(directory: impl AsRef<Path>, filter: &Filter) -> Result<Retried, SpoolError> {
    let mut retried = Retried::default();
    let seen = change(directory.as_ref(), |batch| {
        let is_ready = batch.status == BatchStatus::Ready;
        if is_ready || !filter.takes(batch) {
            return None;
        }
        retried.batches += 1;
        retried.records += batch.records;
        retried.unknown += u64::from(batch.status.is_unknown());
        Some(Outcome::Ready { afresh: batch.status.is_dead() || batch.status.is_unknown() })
    })?;
    retried.missing = filter.ids.difference(&seen).copied().collect();
    Ok(retried)
}

/// Throws the batches with these ids away, so that what they hold up can go on: their records are not delivered, unless
/// they were and nobody could tell.
///
/// # Errors
/// [`SpoolError::InUse`] while a producer has it; others when it cannot be read or written.
pub fn discard(directory: impl AsRef<Path>, ids: &[u64]) -> Result<Discarded, SpoolError> {
    let ids: BTreeSet<u64> = ids.iter().copied().collect();
    let mut discarded = Discarded::default();
    let seen = change(directory.as_ref(), |batch| {
        ids.contains(&batch.id).then(|| {
            discarded.batches += 1;
            discarded.records += batch.records;
            Outcome::Discarded
        })
    })?;
    discarded.missing = ids.difference(&seen).copied().collect();
    Ok(discarded)
}

/// Writes what `decide` says of each batch, all at once, and tells the ids of all batches there were.
fn change(directory: &Path, mut decide: impl FnMut(&Batch) -> Option<Outcome>) -> Result<BTreeSet<u64>, SpoolError> {
    // Opened for writing it would be made: a mistyped name must not become a spool.
    std::fs::symlink_metadata(directory).map_err(|source| SpoolError::Io {
        path: directory.to_owned(),
        what: "cannot be looked at",
        source: Arc::new(source),
    })?;
    let (spool, recovered) = Spool::open(&SpoolConfig::new(directory))?;
    let ops = recovered.batches.iter().filter_map(|stored: &StoredBatch| {
        let outcome = decide(&Batch::from(stored))?;
        Some(Op::Outcome { batch: BatchId(stored.id.0), outcome })
    });
    let ops: Vec<Op> = ops.collect();
    if !ops.is_empty() {
        write(&spool, directory, Group { ops })?;
    }
    block_on(spool.close());
    Ok(recovered.batches.iter().map(|batch| batch.id.0).collect())
}

/// Waits until the group is on disk.
fn write(spool: &Spool, directory: &Path, group: Group) -> Result<(), SpoolError> {
    let (durable, is_durable) = mpsc::channel();
    spool.write(
        group,
        Box::new(move || {
            let _ = durable.send(());
        }),
    );
    loop {
        match is_durable.recv_timeout(PATIENCE) {
            Ok(()) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => return Err(SpoolError::Closed),
            // A producer goes on trying; a person who decides something wants to know.
            Err(RecvTimeoutError::Timeout) => {
                if let Some(trouble) = spool.state().trouble {
                    let source = Arc::new(io::Error::other(trouble.to_string()));
                    return Err(SpoolError::Io { path: directory.to_owned(), what: "cannot be written", source });
                }
            }
        }
    }
}

/// Waits for a future that needs no runtime.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
