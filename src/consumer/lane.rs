//! One partition's records on their way through the handler, one at a time.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::oneshot;

use super::delivery::Delivery;
use super::source::{Item, Source};
use crate::core::consume::watermark::{AssignmentEpoch, HandedOut};
use crate::error::HandlerFailure;
use crate::io::inbox::{Assigned, Inbox};
use crate::sync::lock;

/// A partition, from its first assignment to the end of the consumer.
///
/// ```text
///  Idle ── record ──> Handling ── Ok ──> Idle
///                       │  ^
///                 failed │  │ time
///                       v  │
///                     Waiting        (retries left)
/// ```
/// An assignment that begins while the handler of an older one is still at work waits for it: one record at a time.
pub(super) struct Lane<F> {
    pub(super) assigned: Arc<Assigned>,
    pub(super) source: Source,
    /// The next assignment, when a handler of this one is still at work.
    pub(super) next: Option<(Arc<Assigned>, Source)>,
    pub(super) state: LaneState,
    /// The record in hand, kept while it may be handled again. Not part of the state, which is moved for each record.
    pub(super) again: Option<Delivery>,
    /// One place for every future of this lane: nothing is allocated for a record.
    slot: Pin<Box<Option<F>>>,
    signal: Arc<Signal>,
    waker: Waker,
}

/// Where a lane is.
#[derive(Debug)]
pub(super) enum LaneState {
    Idle,
    Handling(InHand),
    Waiting(InHand, oneshot::Receiver<()>),
}

/// The record that is with the handler.
#[derive(Debug)]
pub(super) struct InHand {
    pub(super) token: HandedOut,
    pub(super) offset: i64,
    pub(super) attempt: u32,
    pub(super) bytes: u64,
}

impl<F> Lane<F> {
    /// A lane that has nothing yet; `index` is what it is woken under.
    pub(super) fn new(assigned: Arc<Assigned>, source: Source, index: usize, inbox: &Arc<Inbox>) -> Lane<F> {
        let signal = Arc::new(Signal { index, set: AtomicBool::new(false), inbox: inbox.clone() });
        let waker = Waker::from(signal.clone());
        let (slot, state) = (Box::pin(None), LaneState::Idle);
        Lane { assigned, source, next: None, state, again: None, slot, signal, waker }
    }

    /// Begins another assignment of the partition, at once or when the handler is done.
    pub(super) fn assign(&mut self, assigned: Arc<Assigned>, source: Source) {
        self.source.clear();
        if self.is_busy() {
            self.next = Some((assigned, source));
        } else {
            (self.assigned, self.source) = (assigned, source);
        }
    }

    /// Appends `item` if it belongs to an assignment that counts.
    pub(super) fn push(&mut self, epoch: AssignmentEpoch, item: Item) {
        let current = self.assigned.epoch == epoch && !self.is_revoked();
        match &mut self.next {
            Some((assigned, source)) if assigned.epoch == epoch => source.push(item),
            _ if current => self.source.push(item),
            _ => {}
        }
    }

    /// Goes over to the assignment that waited.
    pub(super) fn turn_over(&mut self) {
        if let Some((assigned, source)) = self.next.take() {
            (self.assigned, self.source) = (assigned, source);
        }
    }

    /// Whether a record is with its handler, or waits to be handled again.
    #[inline]
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.state, LaneState::Idle)
    }

    /// Whether no further record may be handed out.
    pub(super) fn is_revoked(&self) -> bool {
        self.assigned.revoked.load(Ordering::Acquire)
    }

    /// Whether no further record may be handed out now.
    pub(super) fn is_held(&self) -> bool {
        self.is_revoked() || self.assigned.paused.load(Ordering::Acquire)
    }

    /// The waker of this lane alone.
    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// What woke the lane is being looked at.
    pub(super) fn on_driven(&self) {
        self.signal.set.store(false, Ordering::Release);
    }

    /// Notes on the watermark that a record goes out.
    pub(super) fn hand_out(&self, offset: i64, leader_epoch: i32) -> HandedOut {
        lock(&self.assigned.watermark).hand_out(offset, leader_epoch)
    }

    /// The record in hand is not handled again here.
    pub(super) fn let_go(&mut self) {
        self.state = LaneState::Idle;
        self.again = None;
    }

    /// Gives `delivery` to the handler. A panic of the handler itself counts as its failure.
    #[inline]
    pub(super) fn call<H: FnMut(Delivery) -> F>(
        &mut self,
        handler: &mut H,
        delivery: Delivery,
    ) -> Option<HandlerFailure> {
        match catch_unwind(AssertUnwindSafe(|| handler(delivery))) {
            Ok(future) => {
                self.slot.as_mut().set(Some(future));
                None
            }
            Err(panic) => Some(HandlerFailure::Panic(panic_message(&*panic))),
        }
    }
}

impl<F, E> Lane<F>
where
    F: Future<Output = Result<(), E>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Lets the handler go on.
    pub(super) fn poll(&mut self) -> Poll<Result<(), HandlerFailure>> {
        let Some(future) = self.slot.as_mut().as_pin_mut() else { return Poll::Pending };
        let mut context = Context::from_waker(&self.waker);
        let outcome = match catch_unwind(AssertUnwindSafe(|| future.poll(&mut context))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Ok(()))) => Ok(()),
            Ok(Poll::Ready(Err(error))) => Err(HandlerFailure::of(error)),
            Err(panic) => Err(HandlerFailure::Panic(panic_message(&*panic))),
        };
        // What the future still holds is dropped here; a panic of that is the handler's failure too.
        match catch_unwind(AssertUnwindSafe(|| self.slot.as_mut().set(None))) {
            Ok(()) => Poll::Ready(outcome),
            Err(panic) => Poll::Ready(Err(HandlerFailure::Panic(panic_message(&*panic)))),
        }
    }
}

/// Wakes one lane.
struct Signal {
    index: usize,
    set: AtomicBool,
    inbox: Arc<Inbox>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.set.swap(true, Ordering::AcqRel) {
            self.inbox.push_lane(self.index);
        }
    }
}

/// The text of a panic.
pub(super) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").to_owned()
}
