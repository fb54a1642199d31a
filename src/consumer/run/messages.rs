//! What the I/O thread tells, and time.

use std::future::Future;
use std::sync::Arc;
use std::task::Context;

use super::{Phase, Runner};
use crate::consumer::alarms::Whom;
use crate::consumer::lane::Lane;
use crate::consumer::parcel::Parcel;
use crate::consumer::slots::State;
use crate::consumer::source::{Item, Source};
use crate::core::consume::watermark::AssignmentEpoch;
use crate::error::HandlerFailure;
use crate::io::inbox::{Assigned, Message};
use crate::types::TopicPartition;

impl<H, F, P, E> Runner<H, F, P>
where
    H: FnMut(P) -> F,
    P: Parcel,
    F: Future<Output = Result<(), E>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub(super) fn take_messages(&mut self, context: &Context<'_>) {
        let mut messages = std::mem::take(&mut self.messages);
        self.inbox.take(context.waker(), &mut messages, &mut self.woken);
        for message in messages.drain(..) {
            self.on_message(message);
        }
        self.messages = messages;
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Assign(assigned) => self.on_assigned(assigned),
            Message::Chunk(chunk, lease) => {
                let (partition, epoch) = (chunk.partition.clone(), chunk.assignment);
                self.push(&partition, epoch, Item::Chunk(chunk, lease));
            }
            Message::Jump(partition, epoch, offset) => self.push(&partition, epoch, Item::Jump(offset)),
            Message::Fault(partition, epoch, error) => self.push(&partition, epoch, Item::Fault(error)),
            Message::Resume(partition) => {
                if let Some(at) = self.index.get(&partition).copied() {
                    self.unpark(at);
                    self.enqueue(at);
                }
            }
            Message::Revoke(revoked, done) => {
                for revoked in &revoked {
                    self.on_revoked(revoked);
                }
                self.revoking.push((revoked, done));
                self.answer_revocations();
            }
            Message::Stop(reason) => self.stop(Ok(reason)),
            Message::Failed(error) => self.stop(Err(error)),
            Message::Alarm => self.on_alarm(),
        }
    }

    fn on_assigned(&mut self, assigned: Arc<Assigned>) {
        let partition = assigned.partition.clone();
        let source = Source::new(assigned.clone(), self.settings.source.clone());
        match self.index.get(&partition) {
            Some(at) => self.lanes[*at].assign(assigned, source),
            None => {
                self.index.insert(partition, self.lanes.len());
                self.lanes.push(Lane::new(assigned, source, self.gate.clone()));
                self.queued.push(false);
            }
        }
    }

    fn push(&mut self, partition: &TopicPartition, epoch: AssignmentEpoch, item: Item) {
        if let Some(at) = self.index.get(partition).copied() {
            // While the consumer stops, too, though none of it is handed out: what waits holds room in the fetch buffer.
            // Were it dropped, the fetcher would read on as fast as it can, for nothing.
            self.lanes[at].push(epoch, item);
            self.enqueue(at);
        }
    }

    /// Drops what waits; what is with a handler goes on.
    fn on_revoked(&mut self, revoked: &Arc<Assigned>) {
        if let Some(at) = self.index.get(&revoked.partition).copied() {
            self.unpark(at);
            if Arc::ptr_eq(&self.lanes[at].assigned, revoked) {
                self.lanes[at].clear();
            }
        }
        for index in 0..self.slots.len() {
            let slot = self.slots.get(index);
            if matches!(slot.state, State::Pausing | State::Due) && slot.is_of(revoked) {
                let records = slot.brief.records;
                self.free(index); // its next owner handles it again
                self.take_back(records.into());
            }
        }
    }

    /// Tells those who wait for handlers of an assignment that there are none.
    pub(super) fn answer_revocations(&mut self) {
        if self.revoking.is_empty() {
            return;
        }
        let (waiting, done) = std::mem::take(&mut self.revoking).into_iter().partition(|(revoked, _)| {
            self.slots.iter().any(|slot| slot.is_revoked() && revoked.iter().any(|assigned| slot.is_of(assigned)))
        });
        self.revoking = waiting;
        for (_, done) in done {
            let _ = done.send(());
        }
    }

    fn on_alarm(&mut self) {
        let now = self.thread.now();
        while let Some(whom) = self.alarms.pop(now) {
            match whom {
                Whom::Slot(index) => {
                    let slot = self.slots.get(index);
                    if self.alarms.came_up(&mut slot.alarm, whom, now) {
                        self.on_slot_alarm(index);
                    }
                }
                Whom::Lane(at) => {
                    if self.alarms.came_up(&mut self.lanes[at].alarm, whom, now) {
                        self.enqueue(at);
                    }
                }
                Whom::Shutdown => {
                    if self.alarms.came_up(&mut self.shutdown, whom, now) {
                        self.on_shutdown_expired();
                    }
                }
            }
        }
        self.alarms.wind();
    }

    fn on_slot_alarm(&mut self, index: usize) {
        let slot = self.slots.get(index);
        match slot.state {
            State::Pausing => {
                slot.state = State::Due;
                self.due.push_back(index);
            }
            State::Handling => {
                let failure = HandlerFailure::TimedOut(self.settings.handler_timeout);
                let failure = slot.abandon().unwrap_or(failure);
                self.on_outcome(index, Err(failure));
            }
            State::Free | State::Due | State::Disposing(_) => {}
        }
    }

    fn on_shutdown_expired(&mut self) {
        // What is still with its handler is given up: it is not committed, and its completion has no effect.
        if matches!(self.phase, Phase::Stopping(_)) {
            tracing::warn!(
                "handlers are still at work at the end of the shutdown timeout; their records stay uncommitted"
            );
            self.finish();
        }
    }
}
