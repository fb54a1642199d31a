//! Batches that are not there yet, numbered in the order of their opening, and those who wait until none is left.

use crate::core::produce::accumulator::Permit;
use crate::core::produce::batch::Unspooled;
use crate::error::SendCause;
use crate::sync::lock;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

#[derive(Default)]
pub(super) struct Outstanding {
    set: Mutex<Set>,
}

#[derive(Default)]
struct Set {
    next: u64,
    batches: BTreeSet<u64>,
    waits: Vec<Wait>,
}

/// Told when no batch below the number is left.
struct Wait {
    below: u64,
    lost: Option<Lost>,
    done: oneshot::Sender<Option<Lost>>,
}

/// Batches that will not get there.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    /// Why the first of them did not.
    pub(crate) cause: SendCause,
    /// How many they are.
    pub(crate) batches: usize,
}

/// One batch; it is there when this is dropped.
pub(super) struct Entry {
    of: Arc<Outstanding>,
    id: u64,
}

impl Outstanding {
    /// One batch more.
    pub(super) fn enter(self: &Arc<Self>) -> Arc<Entry> {
        let mut set = lock(&self.set);
        let id = set.next;
        set.next += 1;
        set.batches.insert(id);
        drop(set);
        Arc::new(Entry { of: self.clone(), id })
    }

    /// Resolves when every batch that entered before now is there, with those that were lost. The sender is dropped
    /// unused along with this.
    pub(super) fn none_left(&self) -> oneshot::Receiver<Option<Lost>> {
        let (done, none_left) = oneshot::channel();
        let mut set = lock(&self.set);
        if set.batches.is_empty() {
            let _ = done.send(None);
        } else {
            let below = set.next;
            set.waits.push(Wait { below, lost: None, done });
        }
        none_left
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        lock(&self.set).batches.len()
    }

    /// Whether somebody waits for [`Self::none_left`].
    pub(super) fn is_awaited(&self) -> bool {
        lock(&self.set).waits.iter().any(|wait| !wait.done.is_closed())
    }
}

impl Permit for Entry {}

impl Unspooled for Entry {
    fn lost(&self, cause: &SendCause) {
        for wait in lock(&self.of.set).waits.iter_mut().filter(|wait| self.id < wait.below) {
            wait.lost.get_or_insert_with(|| Lost { cause: cause.clone(), batches: 0 }).batches += 1;
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut set = lock(&self.of.set);
        set.batches.remove(&self.id);
        if set.waits.is_empty() {
            return;
        }
        let oldest = set.batches.first().copied().unwrap_or(u64::MAX);
        for wait in std::mem::take(&mut set.waits) {
            if wait.below <= oldest {
                // Whoever dropped the flush does not want to know.
                let _ = wait.done.send(wait.lost);
            } else {
                set.waits.push(wait);
            }
        }
    }
}
