//! How much more the spool takes: what callers reserve, without asking the spool's thread.

use super::SpoolState;
use super::engine::Usage;
use crate::core::produce::accumulator::Permit;
use crate::core::spool::state::footprint;
use crate::core::spool::{Group, Op};
use crate::sync::lock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// What may wait in memory while the disk cannot be written, in bytes.
const QUEUED: u64 = 1 << 20;

/// Shared by the handles and the thread.
#[derive(Debug)]
pub(super) struct Room {
    live: AtomicU64,
    reserved: AtomicU64,
    /// Bytes of groups that wait to be written.
    queued: AtomicU64,
    /// Dead batches have used up their share.
    too_many_dead: AtomicBool,
    limit: u64,
    trouble: Mutex<Option<Arc<str>>>,
    closed: AtomicBool,
    changed: Notify,
}

/// Space set aside.
struct Reserved {
    room: Arc<Room>,
    bytes: u64,
}

impl Permit for Reserved {}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.room.reserved.fetch_sub(self.bytes, Ordering::AcqRel);
        self.room.changed.notify_waiters();
    }
}

impl Room {
    pub(super) fn new(usage: Usage) -> Room {
        let room = Room {
            live: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            too_many_dead: AtomicBool::new(false),
            limit: usage.limit,
            trouble: Mutex::new(None),
            closed: AtomicBool::new(false),
            changed: Notify::new(),
        };
        room.update(usage);
        room
    }

    /// After each change on disk.
    pub(super) fn update(&self, usage: Usage) {
        let before = self.live.swap(usage.live, Ordering::AcqRel);
        let too_many = usage.dead > usage.dead_limit;
        let had_too_many = self.too_many_dead.swap(too_many, Ordering::AcqRel);
        if usage.live < before || (had_too_many && !too_many) {
            self.changed.notify_waiters();
        }
    }

    /// What keeps the disk from being written; none when it works again.
    pub(super) fn trouble(&self, trouble: Option<Arc<str>>) {
        *lock(&self.trouble) = trouble;
        self.changed.notify_waiters();
    }

    /// Nothing more is taken.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    pub(super) fn queue(&self, group: &Group) {
        self.queued.fetch_add(weight(group), Ordering::AcqRel);
    }

    pub(super) fn unqueue(&self, bytes: u64) {
        self.queued.fetch_sub(bytes, Ordering::AcqRel);
    }

    pub(super) fn try_reserve(self: &Arc<Self>, bytes: usize) -> Option<Box<dyn Permit>> {
        let is_held = self.closed.load(Ordering::Acquire)
            || self.too_many_dead.load(Ordering::Acquire)
            || (self.queued.load(Ordering::Acquire) > QUEUED && lock(&self.trouble).is_some());
        if is_held {
            return None;
        }
        let bytes = footprint(bytes as u64);
        let fits = |reserved: u64| {
            let all = self.live.load(Ordering::Acquire).saturating_add(reserved).saturating_add(bytes);
            (all <= self.limit).then_some(reserved + bytes)
        };
        self.reserved.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).ok()?;
        Some(Box::new(Reserved { room: self.clone(), bytes }))
    }

    pub(super) async fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Box<dyn Permit>> {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // Before looking, so that no change is missed in between.
            changed.as_mut().enable();
            if self.closed.load(Ordering::Acquire) {
                return None;
            }
            if let Some(permit) = self.try_reserve(bytes) {
                return Some(permit);
            }
            changed.await;
        }
    }

    pub(super) fn state(&self) -> SpoolState {
        let mut trouble = lock(&self.trouble).clone();
        if trouble.is_none() && self.too_many_dead.load(Ordering::Acquire) {
            let text = "batches that the brokers refused for good fill their tenth of spool.max.bytes: export and discard \
                        them, or retry them";
            trouble = Some(Arc::from(text));
        }
        let used = self.live.load(Ordering::Acquire) + self.reserved.load(Ordering::Acquire);
        SpoolState { used, limit: self.limit, trouble }
    }
}

/// What a group takes while it waits.
pub(super) fn weight(group: &Group) -> u64 {
    let of = |op: &Op| match op {
        Op::Batch(batch) => batch.sealed.section().bytes.len() as u64 + 128,
        _ => 64,
    };
    group.ops.iter().map(of).sum()
}
