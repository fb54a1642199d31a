//! Places for handlers at work. Each is made once and used again: nothing is allocated for a record.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;

use super::alarms::Alarm;
use super::dispose::{Disposal, Disposed};
use super::parcel::Parcel;
use crate::core::consume::watermark::HandedOut;
use crate::error::HandlerFailure;
use crate::io::inbox::{Assigned, Inbox};

/// A record, or a batch of them, from the call of the handler until it is out of the way.
///
/// ```text
///  Free ── called ──> Handling ── Ok ───────────────────────> Free
///                      │    ^
///     failed, panicked,│    │ a worker is free
///             too late │    │
///                      ├─> Pausing ── time ──> Due            (retries left)
///                      └─> Disposing ── elsewhere now ──────> Free
///                              └─ impossible ── the consumer stops
/// ```
pub(super) struct Slot<F, P> {
    future: Pin<Box<Option<F>>>,
    signal: Arc<Signal>,
    waker: Waker,
    pub(super) state: State,
    pub(super) lane: usize,
    /// The assignment it belongs to, which may be over meanwhile.
    pub(super) assigned: Option<Arc<Assigned>>,
    pub(super) tokens: Vec<HandedOut>,
    /// What is handled again when it fails.
    pub(super) again: Option<P>,
    pub(super) brief: Brief,
    /// The key that is busy with it.
    pub(super) key: Option<Bytes>,
    /// It counts among the bytes that its lane keeps.
    pub(super) kept: bool,
    pub(super) alarm: Alarm,
}

/// Where a slot is.
pub(super) enum State {
    Free,
    Handling,
    Pausing,
    Due,
    Disposing(Vec<(HandedOut, Disposal)>),
}

/// What is in a slot, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Brief {
    /// Of the first record.
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) records: u32,
    pub(super) bytes: u64,
    pub(super) attempt: u32,
}

/// All slots of one runner.
pub(super) struct Slots<F, P> {
    slots: Vec<Slot<F, P>>,
    free: Vec<usize>,
    inbox: Arc<Inbox>,
}

impl<F, P> Slots<F, P> {
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Slots { slots: Vec::new(), free: Vec::new(), inbox }
    }

    /// A free slot. It stays free until [`Slots::take`].
    pub(super) fn spare(&mut self) -> usize {
        if let Some(index) = self.free.last() {
            return *index;
        }
        let index = self.slots.len();
        let signal = Arc::new(Signal { index, set: AtomicBool::new(false), inbox: self.inbox.clone() });
        self.slots.push(Slot {
            future: Box::pin(None),
            waker: Waker::from(signal.clone()),
            signal,
            state: State::Free,
            lane: 0,
            assigned: None,
            tokens: Vec::new(),
            again: None,
            brief: Brief::default(),
            key: None,
            kept: false,
            alarm: Alarm::default(),
        });
        self.free.push(index);
        index
    }

    /// The spare slot is not free any more.
    pub(super) fn take(&mut self) {
        self.free.pop();
    }

    /// The slot is free again.
    pub(super) fn give_back(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.state = State::Free;
        (slot.assigned, slot.again, slot.key, slot.kept) = (None, None, None, false);
        slot.tokens.clear();
        slot.alarm.disarm();
        self.free.push(index);
    }

    /// How many are not free.
    pub(super) fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn get(&mut self, index: usize) -> &mut Slot<F, P> {
        &mut self.slots[index]
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot<F, P>> {
        self.slots.iter()
    }
}

impl<F, P> Slot<F, P> {
    /// What woke it is being looked at.
    pub(super) fn on_woken(&self) {
        self.signal.set.store(false, Ordering::Release);
    }

    /// Whether it holds records of this assignment.
    pub(super) fn is_of(&self, assigned: &Arc<Assigned>) -> bool {
        self.assigned.as_ref().is_some_and(|mine| Arc::ptr_eq(mine, assigned))
    }

    /// Whether nobody waits for it here any more.
    pub(super) fn is_revoked(&self) -> bool {
        self.assigned.as_ref().is_some_and(|assigned| assigned.revoked.load(Ordering::Acquire))
    }

    /// Lets what it disposes of go on, in its order. What is done comes out.
    pub(super) fn poll_disposals(&mut self) -> Vec<(HandedOut, Disposed)> {
        let mut done = Vec::new();
        if let State::Disposing(list) = &mut self.state {
            let mut context = Context::from_waker(&self.waker);
            for (token, mut disposal) in std::mem::take(list) {
                match disposal.as_mut().poll(&mut context) {
                    Poll::Ready(disposed) => done.push((token, disposed)),
                    Poll::Pending => list.push((token, disposal)),
                }
            }
        }
        done
    }

    /// Drops the handler where it is. Should that panic, it counts as its failure.
    pub(super) fn abandon(&mut self) -> Option<HandlerFailure> {
        let dropped = catch_unwind(AssertUnwindSafe(|| self.future.set(None)));
        dropped.err().map(|panic| HandlerFailure::Panic(panic_message(&*panic)))
    }
}

impl<F, P, E> Slot<F, P>
where
    P: Parcel,
    F: Future<Output = Result<(), E>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Calls the handler and lets it go as far as it can. Does not catch panics.
    #[inline(always)]
    pub(super) fn start<H: FnMut(P) -> F>(&mut self, handler: &mut H, parcel: P) -> Poll<Result<(), HandlerFailure>> {
        self.future.set(Some(handler(parcel)));
        self.proceed()
    }

    #[inline(always)]
    fn proceed(&mut self) -> Poll<Result<(), HandlerFailure>> {
        let Some(future) = self.future.as_mut().as_pin_mut() else { return Poll::Pending };
        let outcome = match future.poll(&mut Context::from_waker(&self.waker)) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(error)) => Err(HandlerFailure::of(error)),
        };
        // What the future still holds is dropped here; a panic of that is the handler's failure too.
        self.future.set(None);
        Poll::Ready(outcome)
    }

    /// As [`Slot::start`]; a panic counts as the handler's failure.
    pub(super) fn call<H: FnMut(P) -> F>(&mut self, handler: &mut H, parcel: P) -> Poll<Result<(), HandlerFailure>> {
        catch_unwind(AssertUnwindSafe(|| self.start(handler, parcel))).unwrap_or_else(|panic| self.on_panic(&*panic))
    }

    /// Lets the handler go on.
    pub(super) fn poll(&mut self) -> Poll<Result<(), HandlerFailure>> {
        catch_unwind(AssertUnwindSafe(|| self.proceed())).unwrap_or_else(|panic| self.on_panic(&*panic))
    }

    /// The handler panicked.
    pub(super) fn on_panic(&mut self, panic: &(dyn std::any::Any + Send)) -> Poll<Result<(), HandlerFailure>> {
        self.abandon();
        Poll::Ready(Err(HandlerFailure::Panic(panic_message(panic))))
    }
}

/// Wakes one slot.
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
            self.inbox.push_slot(self.index);
        }
    }
}

/// The text of a panic.
pub(super) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").to_owned()
}
