//! Who is next, when a worker is free.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use super::burst::Halt;
use super::{Freed, Phase, Runner};
use crate::config::Order;
use crate::consumer::alarms::Whom;
use crate::consumer::delivery::Delivery;
use crate::consumer::order::Waiting;
use crate::consumer::parcel::Parcel;
use crate::consumer::slots::{Brief, State};
use crate::consumer::source::{Next, Step};
use crate::sync::lock;
use crate::types::TopicPartition;

/// Calls of handlers before the caller's executor gets a turn.
const TURN: u32 = 1024;
/// Calls for one partition before another gets a turn.
const LANE_TURN: u32 = 256;

impl<H, F, P, E> Runner<H, F, P>
where
    H: FnMut(P) -> F,
    P: Parcel,
    F: Future<Output = Result<(), E>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Calls handlers for what is there, while a worker is free. Whether there is more to do than fits in a turn.
    pub(super) fn dispatch(&mut self) -> bool {
        let mut turn = TURN;
        while matches!(self.phase, Phase::Running) && self.running < self.settings.workers {
            if turn == 0 {
                return !(self.due.is_empty() && self.freed.is_empty() && self.ready.is_empty());
            }
            if let Some(index) = self.due.pop_front() {
                turn -= 1;
                self.retry(index);
            } else if self.room() == 0 {
                break;
            } else if let Some(freed) = self.freed.pop_front() {
                turn -= 1;
                self.start_freed(freed);
            } else if let Some(at) = self.ready.pop_front() {
                self.queued[at] = false;
                let mut left = LANE_TURN.min(turn);
                let given = left;
                if self.drive(at, &mut left) {
                    self.enqueue(at);
                }
                turn -= given - left;
            } else {
                break;
            }
        }
        false
    }

    /// The lane may have something to hand out.
    pub(super) fn enqueue(&mut self, at: usize) {
        if let Some(queued) = self.queued.get_mut(at)
            && !std::mem::replace(queued, true)
        {
            self.ready.push_back(at);
        }
    }

    /// How many records may still be handed out.
    pub(super) fn room(&self) -> u64 {
        self.settings.stop_after.map_or(u64::MAX, |most| most.saturating_sub(self.handed_out))
    }

    /// Records that were handed out do not count: others may go out in their place, of whatever lane.
    pub(super) fn take_back(&mut self, records: u64) {
        self.handed_out = self.handed_out.saturating_sub(records);
    }

    /// Drives one lane until it has to wait (false), or may have more when it is its turn again (true).
    fn drive(&mut self, at: usize, left: &mut u32) -> bool {
        loop {
            let room = self.room();
            if *left == 0 || room == 0 || self.running >= self.settings.workers || !matches!(self.phase, Phase::Running)
            {
                return true;
            }
            if !self.lanes[at].may_read(self.settings.order, self.settings.workers) {
                return false; // it is looked at again when something of it is done
            }
            let (calls, halt) = self.burst(at, *left, room);
            *left = left.saturating_sub(calls.max(1));
            match halt {
                Halt::Turn => {}
                Halt::Empty => {
                    self.lanes[at].keys.detach();
                    return false;
                }
                Halt::Held => return false,
                Halt::Pending(slot) => {
                    self.take(at, slot);
                    self.on_pending(slot);
                }
                Halt::Failed(slot, failure) => {
                    self.take(at, slot);
                    self.on_outcome(slot, Err(failure));
                }
                Halt::Busy(next) => self.wait(at, next),
                Halt::Early(next, due) => {
                    let wait = u64::try_from(due.saturating_sub(self.thread.coarse_millis())).unwrap_or(0);
                    let lane = &mut self.lanes[at];
                    lane.source.unread(Step::Record(next));
                    self.alarms.arm(&mut lane.alarm, Whom::Lane(at), Duration::from_millis(wait));
                    return false;
                }
                Halt::Jump(offset) => {
                    let lane = &mut self.lanes[at];
                    if !lane.is_clear() {
                        lane.source.unread(Step::Jump(offset));
                        return false;
                    }
                    lock(&lane.assigned.watermark).jump(offset);
                }
                Halt::Fault(error) => self.stop(Err(*error)),
            }
        }
    }

    /// What was given to the handler in a burst, in the spare slot, stays in it.
    fn take(&mut self, at: usize, index: usize) {
        self.slots.take();
        let lane = &mut self.lanes[at];
        lane.in_hand += 1;
        self.running += 1;
        let slot = self.slots.get(index);
        (slot.state, slot.lane, slot.assigned) = (State::Handling, at, Some(lane.assigned.clone()));
        if slot.tokens.is_empty() {
            slot.tokens.push(lane.open(slot.brief.offset, slot.brief.leader_epoch));
        }
        if self.settings.order == Order::Key {
            let key = slot.again.as_ref().and_then(|again| again.deliveries().first()).and_then(Delivery::key);
            slot.key = key.map(|key| lane.keys.occupy(key));
        }
        if !self.settings.keep {
            slot.again = None;
        }
    }

    /// The handler is not done: it has its time from now on.
    fn on_pending(&mut self, index: usize) {
        if !self.settings.handler_timeout.is_zero() {
            let slot = self.slots.get(index);
            self.alarms.arm(&mut slot.alarm, Whom::Slot(index), self.settings.handler_timeout);
        }
    }

    /// The record waits until its key is free.
    fn wait(&mut self, at: usize, next: Next) {
        let lane = &mut self.lanes[at];
        let token = lane.open(next.record.offset, next.leader_epoch);
        let delivery = Delivery::new(next.section, next.record, 1);
        lane.kept_bytes += delivery.payload_len();
        lane.keys.wait(Waiting { delivery, token });
    }

    /// Records that waited for the end of their partition's pause may go.
    pub(super) fn unpark(&mut self, at: usize) {
        let (here, elsewhere) = std::mem::take(&mut self.parked).into_iter().partition(|freed| freed.lane == at);
        self.parked = elsewhere;
        self.freed.extend::<Vec<Freed>>(here);
    }

    /// A record goes to its handler whose key has become free.
    fn start_freed(&mut self, freed: Freed) {
        let assigned = &freed.assigned;
        if assigned.paused.load(Ordering::Acquire) && !assigned.revoked.load(Ordering::Acquire) {
            return self.parked.push(freed);
        }
        let Freed { lane: at, assigned, key, waiting: Waiting { delivery, token } } = freed;
        if assigned.revoked.load(Ordering::Acquire) {
            self.lanes[at].in_hand -= 1;
            return self.release_key(at, &key);
        }
        let index = self.slots.spare();
        self.slots.take();
        self.running += 1;
        self.handed_out += 1;
        let slot = self.slots.get(index);
        slot.brief = Brief {
            offset: delivery.offset(),
            leader_epoch: -1,
            records: 1,
            bytes: delivery.payload_len(),
            attempt: 1,
        };
        (slot.state, slot.lane, slot.assigned, slot.key) = (State::Handling, at, Some(assigned), Some(key));
        slot.tokens.push(token);
        let parcel = P::single(delivery);
        slot.again = self.settings.keep.then(|| parcel.clone());
        self.call(index, parcel);
    }

    /// Handles once more what failed, now that its pause is over.
    fn retry(&mut self, index: usize) {
        let slot = self.slots.get(index);
        if !matches!(slot.state, State::Due) {
            return;
        }
        let parcel = slot.again.clone().filter(|_| !slot.is_revoked());
        let Some(parcel) = parcel else {
            let records = slot.brief.records;
            self.free(index);
            return self.take_back(records.into());
        };
        slot.brief.attempt += 1;
        slot.state = State::Handling;
        self.running += 1;
        let parcel = parcel.at_attempt(slot.brief.attempt);
        self.call(index, parcel);
    }

    fn call(&mut self, index: usize, parcel: P) {
        match self.slots.get(index).call(&mut self.handler, parcel) {
            Poll::Pending => self.on_pending(index),
            Poll::Ready(outcome) => self.on_outcome(index, outcome),
        }
    }

    /// The record of `key` is out of the way: the next one may go.
    pub(super) fn release_key(&mut self, at: usize, key: &bytes::Bytes) {
        let lane = &mut self.lanes[at];
        if let Some(waiting) = lane.keys.release(key) {
            lane.kept_bytes -= waiting.delivery.payload_len();
            lane.in_hand += 1;
            let assigned = waiting.delivery.section().assigned.clone();
            self.freed.push_back(Freed { lane: at, assigned, key: key.clone(), waiting });
        }
    }

    /// The slot's records are done, or of no concern any more.
    pub(super) fn free(&mut self, index: usize) {
        let slot = self.slots.get(index);
        let (at, key) = (slot.lane, slot.key.take());
        let lane = &mut self.lanes[at];
        lane.in_hand -= 1;
        if slot.kept {
            lane.kept_bytes -= slot.brief.bytes;
        }
        self.slots.give_back(index);
        if let Some(key) = key {
            self.release_key(at, &key);
        }
        self.enqueue(at);
        self.answer_revocations();
    }

    /// Where the slot's records are.
    pub(super) fn place(&mut self, index: usize) -> Option<TopicPartition> {
        let slot = self.slots.get(index);
        slot.assigned.as_ref().map(|assigned: &Arc<_>| assigned.partition.clone())
    }
}
