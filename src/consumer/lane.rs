//! One partition: what was fetched of it, and which of its records may go to a handler next.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::alarms::Alarm;
use super::delivery::Delivery;
use super::dispose::Disposer;
use super::order::{KEPT_BYTES, KEPT_RECORDS, Keys};
use super::source::{Item, Next, Source, Step};
use crate::config::Order;
use crate::core::consume::watermark::{AssignmentEpoch, HandedOut};
use crate::io::inbox::Assigned;
use crate::io::thread::IoThread;
use crate::sync::lock;

/// A partition, from its first assignment to the end of the consumer.
///
/// When an assignment begins while records of an older one are with handlers, those count on: their partition (or key)
/// stays busy until they are done, so that the order holds across assignments.
pub(super) struct Lane {
    pub(super) assigned: Arc<Assigned>,
    pub(super) source: Source,
    pub(super) keys: Keys,
    /// Records or batches that are out of the source and not done, but for those behind busy keys.
    pub(super) in_hand: usize,
    /// Bytes of those that wait behind a key or between two attempts.
    pub(super) kept_bytes: u64,
    pub(super) alarm: Alarm,
    /// Tells which records must not be handled yet, when there are such topics.
    gate: Option<Arc<Gate>>,
}

/// What records of retry topics wait at.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) disposer: Disposer,
    pub(super) thread: IoThread,
}

impl Lane {
    /// A lane that has nothing yet.
    pub(super) fn new(assigned: Arc<Assigned>, source: Source, gate: Option<Arc<Gate>>) -> Lane {
        let (keys, alarm) = (Keys::default(), Alarm::default());
        Lane { assigned, source, keys, in_hand: 0, kept_bytes: 0, alarm, gate }
    }

    /// Begins another assignment of the partition.
    pub(super) fn assign(&mut self, assigned: Arc<Assigned>, source: Source) {
        self.clear();
        (self.assigned, self.source) = (assigned, source);
    }

    /// Drops all that is not with a handler yet.
    pub(super) fn clear(&mut self) {
        self.source.clear();
        self.kept_bytes -= self.keys.clear();
    }

    /// Appends `item` if it belongs to an assignment that counts.
    pub(super) fn push(&mut self, epoch: AssignmentEpoch, item: Item) {
        if self.assigned.epoch == epoch && !self.is_revoked() {
            self.source.push(item);
        }
    }

    /// Whether no further record may be handed out.
    #[inline]
    pub(super) fn is_revoked(&self) -> bool {
        self.assigned.revoked.load(Ordering::Acquire)
    }

    /// Whether no further record may be handed out now.
    #[inline]
    pub(super) fn is_held(&self) -> bool {
        self.is_revoked() || self.assigned.paused.load(Ordering::Acquire)
    }

    /// Whether order and bounds allow to read on, with at most `workers` handlers at once.
    pub(super) fn may_read(&self, order: Order, workers: usize) -> bool {
        match order {
            Order::Partition => self.in_hand == 0,
            Order::Key | Order::None => {
                self.in_hand + self.keys.waiting() < KEPT_RECORDS.saturating_add(workers)
                    && self.kept_bytes < KEPT_BYTES
            }
        }
    }

    /// Whether nothing that was read is left to be done.
    pub(super) fn is_clear(&self) -> bool {
        self.in_hand == 0 && self.keys.waiting() == 0
    }

    /// Until when the record has to wait, in milliseconds since 1970, if it has to.
    #[inline]
    pub(super) fn early(&self, next: &Next) -> Option<i64> {
        self.gate.as_ref().and_then(|gate| gate.early(next))
    }

    /// The next record, if the one that comes next is there and may go out.
    pub(super) fn next_record(&mut self) -> Option<Next> {
        if self.is_held() {
            return None;
        }
        match self.source.next()? {
            Step::Record(next) if self.early(&next).is_none() => Some(next),
            step => {
                self.source.unread(step);
                None
            }
        }
    }

    /// Notes on the watermark that the record is not done.
    pub(super) fn open(&self, offset: i64, leader_epoch: i32) -> HandedOut {
        lock(&self.assigned.watermark).hand_out(offset, leader_epoch)
    }
}

impl Gate {
    fn early(&self, next: &Next) -> Option<i64> {
        let delivery = Delivery::new(next.section.clone(), next.record.clone(), 1);
        self.disposer.due(&delivery).filter(|due| *due > self.thread.coarse_millis())
    }
}
