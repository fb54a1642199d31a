//! The fast way of a partition: records that their handler is done with as soon as it is called.
//!
//! Such a record never appears on the watermark by itself: once for each run of them all below is noted as handled. Only
//! one that stays with its handler is noted as open.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Poll;

use super::Runner;
use crate::config::Order;
use crate::consumer::parcel::Parcel;
use crate::consumer::slots::Brief;
use crate::consumer::source::{Next, Step};
use crate::core::consume::watermark::Completion;
use crate::error::{ConsumeError, HandlerFailure};
use crate::sync::lock;

/// While a handler is at work its partition is read on, unless its order forbids that. A record that shared the fetched
/// bytes would keep a whole answer in memory for as long, and each worker another one. So after a handler that is not done
/// at once, so many records are copied out before they go to theirs.
const DETACHING: u32 = 10_000;

/// Why a burst ended.
pub(super) enum Halt {
    /// Its turn is over.
    Turn,
    /// There is nothing more.
    Empty,
    /// Nothing may be handed out: revoked or paused.
    Held,
    /// The handler is at work, in this slot.
    Pending(usize),
    /// What is in this slot failed.
    Failed(usize, HandlerFailure),
    /// The record's key is with a handler.
    Busy(Next),
    /// The record must wait until then, in milliseconds since 1970.
    Early(Next, i64),
    /// What comes next lies at another offset.
    Jump(i64),
    /// Nothing more can come.
    Fault(Box<ConsumeError>),
}

/// Records done in one burst.
#[derive(Default)]
struct Run {
    calls: u32,
    handed_out: u64,
    done: u64,
    discarded: u64,
    bytes: u64,
    /// What the watermark has to be told: the offset behind the last, and its leader epoch.
    behind: Option<(i64, i32)>,
}

impl<H, F, P, E> Runner<H, F, P>
where
    H: FnMut(P) -> F,
    P: Parcel,
    F: Future<Output = Result<(), E>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Calls the handler up to `most` times, with up to `room` records. How often it was called.
    pub(super) fn burst(&mut self, at: usize, most: u32, room: u64) -> (u32, Halt) {
        let commit_records = self.settings.commit_records;
        let most = match commit_records {
            0 => most,
            limit => u32::try_from(limit.saturating_sub(self.uncommitted)).unwrap_or(most).clamp(1, most),
        };
        let index = self.slots.spare();
        let Runner { handler, settings, lanes, slots, thread, detaching, .. } = self;
        let (lane, slot) = (&mut lanes[at], slots.get(index));
        let keyed = settings.order == Order::Key;
        let keep = settings.keep || keyed;
        let mut run = Run::default();
        let mut calling = false;
        let mut began = 0;
        let caught = catch_unwind(AssertUnwindSafe(|| {
            while run.calls < most && run.handed_out < room {
                // A handler may take its time on this thread. What is done before it must not wait for it for long.
                match run.calls {
                    0 => {}
                    1 => began = thread.coarse_millis(),
                    _ if thread.coarse_millis() != began => return Halt::Turn,
                    _ => {}
                }
                if lane.is_held() {
                    return Halt::Held;
                }
                let next = match lane.source.next() {
                    Some(Step::Record(next)) => next,
                    Some(Step::Jump(offset)) => return Halt::Jump(offset),
                    Some(Step::Fault(error)) => return Halt::Fault(error),
                    None => return Halt::Empty,
                };
                if let Some(due) = lane.early(&next) {
                    return Halt::Early(next, due);
                }
                if keyed && !lane.keys.are_free() {
                    lane.keys.on_read(&next.section);
                    if next.key().is_some_and(|key| lane.keys.is_busy(key)) {
                        return Halt::Busy(next);
                    }
                }
                let (offset, leader_epoch) = (next.record.offset, next.leader_epoch);
                let batch = u32::try_from(room - run.handed_out).unwrap_or(u32::MAX).min(settings.batch);
                let mut parcel = P::gather(next, lane, batch, &mut slot.tokens);
                if *detaching > 0 {
                    *detaching -= 1;
                    parcel = parcel.detached();
                }
                let deliveries = parcel.deliveries();
                let (records, bytes) =
                    (deliveries.len() as u32, deliveries.iter().map(|delivery| delivery.payload_len()).sum());
                slot.brief = Brief { offset, leader_epoch, records, bytes, attempt: 1 };
                if keep {
                    slot.again = Some(parcel.clone());
                }
                run.calls += 1;
                run.handed_out += u64::from(records);
                calling = true;
                let polled = slot.start(handler, parcel);
                calling = false;
                match polled {
                    Poll::Pending => {
                        if settings.order != Order::Partition {
                            *detaching = DETACHING;
                        }
                        return Halt::Pending(index);
                    }
                    Poll::Ready(Err(failure)) => return Halt::Failed(index, failure),
                    Poll::Ready(Ok(())) => {}
                }
                if slot.tokens.is_empty() {
                    run.behind = Some((offset.saturating_add(1), leader_epoch));
                    (run.done, run.bytes) = (run.done + 1, run.bytes + bytes);
                } else {
                    let mut watermark = lock(&lane.assigned.watermark);
                    for token in slot.tokens.drain(..) {
                        match watermark.complete(token) {
                            Completion::Counted => run.done += 1,
                            Completion::Discarded => run.discarded += 1,
                        }
                    }
                    run.bytes += bytes;
                }
            }
            Halt::Turn
        }));
        let halt = match caught {
            Ok(halt) => halt,
            Err(panic) if !calling => resume_unwind(panic),
            Err(panic) => match slot.on_panic(&*panic) {
                Poll::Ready(Err(failure)) => Halt::Failed(index, failure),
                Poll::Ready(Ok(())) | Poll::Pending => Halt::Turn,
            },
        };
        if !matches!(halt, Halt::Pending(_) | Halt::Failed(..)) {
            slot.again = None;
        }
        self.settle(at, &mut run);
        (run.calls, halt)
    }

    /// Notes what is done, before anything else of this partition is noted.
    fn settle(&mut self, at: usize, run: &mut Run) {
        self.handed_out += run.handed_out;
        if let Some((offset, leader_epoch)) = run.behind.take()
            && lock(&self.lanes[at].assigned.watermark).complete_at_once(offset, leader_epoch) == Completion::Discarded
        {
            run.discarded += std::mem::take(&mut run.done);
        }
        self.count(run.done, if run.done > 0 { run.bytes } else { 0 }, run.discarded);
    }
}
