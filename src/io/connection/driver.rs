//! The task that owns a connection's socket. One fixed order: take what is queued, write, read, timers.

mod reauthentication;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::Sleep;
use tracing::{debug, trace, warn};

use super::{Shared, Ticket, Waiter};
use crate::error::{CallErrorKind, Human};
use crate::io::clock::after;
use crate::io::stream::Stream;
use crate::sync::lock;
use crate::wire::correlation_id;
use crate::wire::frame::FrameDecoder;
pub(super) use reauthentication::Reauthentication;
pub(in crate::io) use reauthentication::Session;

/// Parts given to the kernel in one write.
const MAX_SLICES: usize = 64;
/// How far ahead an idle timer is set when there is nothing to wait for.
const FAR: Duration = Duration::from_secs(3600);

pub(super) struct Driver {
    shared: Arc<Shared>,
    stream: Stream,
    decoder: FrameDecoder,
    /// Bytes to write, in order, uncopied.
    out: VecDeque<Bytes>,
    /// Bytes ever put into `out`, and taken from it by the stream: whoever starts below `written` may have been sent.
    queued: u64,
    written: u64,
    /// Bytes that the kernel has for certain. TLS keeps what the socket has no room for.
    flushed: u64,
    /// Requests whose answer is due, in the order in which the broker answers.
    in_flight: VecDeque<InFlight>,
    /// Requests without an answer that are not written yet.
    unanswered: VecDeque<InFlight>,
    idle: Option<Duration>,
    last_traffic: Instant,
    throttled_until: Option<Instant>,
    reauthentication: Option<Reauthentication>,
    /// Something changed behind what this round has passed already.
    go_round: bool,
    sleep: Pin<Box<Sleep>>,
    armed: Instant,
    ended: Option<End>,
}

/// A request that is written, or being written.
struct InFlight {
    ticket: Ticket,
    /// The stream position of its first byte and of the byte after its last.
    start: u64,
    end: u64,
    deadline: Instant,
}

/// Why the connection ended, and which request's time-out it was if it was one.
struct End {
    why: CallErrorKind,
    timed_out: Option<i32>,
}

impl From<CallErrorKind> for End {
    fn from(why: CallErrorKind) -> End {
        End { why, timed_out: None }
    }
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        stream: Stream,
        decoder: FrameDecoder,
        idle: Option<Duration>,
        reauthentication: Option<Reauthentication>,
    ) -> Driver {
        let now = Instant::now();
        shared.counters.connections.add(1);
        shared.counters.connects.add(1);
        Driver {
            shared,
            stream,
            decoder,
            out: VecDeque::new(),
            queued: 0,
            written: 0,
            flushed: 0,
            in_flight: VecDeque::new(),
            unanswered: VecDeque::new(),
            idle,
            last_traffic: now,
            throttled_until: None,
            reauthentication,
            go_round: false,
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed: now,
            ended: None,
        }
    }

    /// Serves the connection until it ends; whoever still waits then learns why (see [`Drop`]).
    pub(super) async fn run(mut self) {
        let end = poll_fn(|cx| self.poll(cx)).await;
        let end = self.refused_silently(end);
        if self.is_quiet() {
            self.stream.say_goodbye().await;
        }
        self.ended = Some(end);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut now = Instant::now();
        if let Err(end) = self.reauthenticate(cx, now) {
            return Poll::Ready(end);
        }
        if let Some(end) = self.take_queued(cx, now) {
            return Poll::Ready(end);
        }
        if let Err(end) = self.write(cx, now) {
            return Poll::Ready(end);
        }
        if let Err(end) = self.read(cx, now) {
            return Poll::Ready(end);
        }
        // The last answer may just have come, and nobody is left to ask for more.
        if self.is_quiet() && lock(&self.shared.queue).is_drained() {
            return Poll::Ready(CallErrorKind::Closed.into());
        }
        if std::mem::take(&mut self.go_round) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            let due = self.next_due(now);
            if due <= now {
                match self.handle_due(now) {
                    Some(end) => return Poll::Ready(end),
                    // A throttle is over, or it is time to authenticate again: go round for what was held back.
                    None => {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
            }
            // A timer that is set too early is left alone: moving it at every request costs more than one idle wake-up.
            if due < self.armed || self.armed <= now {
                self.armed = due;
                self.sleep.as_mut().reset(due.into());
            }
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            now = Instant::now().max(self.armed);
        }
    }

    /// Moves what is queued to the socket's side, unless the broker wants silence, or to know first who this is.
    fn take_queued(&mut self, cx: &mut Context<'_>, now: Instant) -> Option<End> {
        let mut queue = lock(&self.shared.queue);
        if !queue.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            queue.waker = Some(cx.waker().clone());
        }
        if self.throttled_until.is_some_and(|until| now < until) {
            return None;
        }
        if self.throttled_until.take().is_some() {
            queue.throttled_until = None;
        }
        if self.reauthentication.as_ref().is_some_and(|session| session.holds(now)) {
            return None;
        }
        let requests = std::mem::take(&mut queue.requests);
        drop(queue);
        for request in requests {
            let start = self.queued;
            self.queued += request.parts.iter().map(|part| part.len() as u64).sum::<u64>();
            self.out.extend(request.parts.into_iter().filter(|part| !part.is_empty()));
            trace!(
                broker = self.shared.broker,
                api = %request.ticket.api,
                version = request.ticket.version,
                correlation = request.ticket.correlation,
                bytes = self.queued - start,
                "request"
            );
            let deadline = after(now, request.ticket.timeout);
            let entry = InFlight { start, end: self.queued, deadline, ticket: request.ticket };
            match entry.ticket.waiter {
                Waiter::Answer(_) | Waiter::Sasl => self.in_flight.push_back(entry),
                Waiter::Written(_) => self.unanswered.push_back(entry),
            }
        }
        None
    }

    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), End> {
        while self.flush(cx)? && !self.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let count = self.out.len().min(MAX_SLICES);
            for (slice, part) in slices.iter_mut().zip(&self.out) {
                *slice = IoSlice::new(part);
            }
            match Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..count]) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err(disconnected("the socket takes no more bytes")),
                Poll::Ready(Ok(written)) => self.advance(written, now),
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Err(disconnected(error)),
            }
        }
        while let Some(entry) = self.unanswered.pop_front_if(|entry| entry.end <= self.flushed) {
            self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
            if let Waiter::Written(give) = entry.ticket.waiter {
                let _ = give.send(Ok(()));
            }
        }
        Ok(())
    }

    /// Gives the kernel what the stream still keeps; false when it does not take all of it now. A stream is given more only
    /// when it keeps nothing: it would not go any faster, and what is on its way would be known less well.
    fn flush(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        while self.stream.holds_back() {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(())) => break,
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Err(disconnected(error)),
            }
        }
        self.flushed = self.written;
        Ok(true)
    }

    /// Takes `written` bytes off the front of what is to be written.
    fn advance(&mut self, mut written: usize, now: Instant) {
        self.last_traffic = now;
        self.written += written as u64;
        self.shared.counters.bytes_out.add(written as u64);
        while let Some(part) = self.out.front_mut() {
            if written < part.len() {
                part.advance(written);
                return;
            }
            written -= part.len();
            self.out.pop_front();
        }
    }

    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), End> {
        loop {
            self.handle_frames(now)?;
            let read = pin!(self.stream.read_buf(self.decoder.buffer())).poll(cx);
            match read {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) if self.decoder.is_mid_frame() => {
                    return Err(disconnected("the broker closed it in the middle of an answer"));
                }
                Poll::Ready(Ok(0)) => return Err(disconnected("the broker closed it")),
                Poll::Ready(Ok(read)) => {
                    self.last_traffic = now;
                    self.shared.counters.bytes_in.add(read as u64);
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Err(disconnected(error)),
            }
        }
    }

    /// Gives whole frames to those who wait for them. Brokers answer in the order of the requests, so a frame that is not
    /// the next one due proves that the two sides no longer mean the same by anything.
    fn handle_frames(&mut self, now: Instant) -> Result<(), End> {
        while let Some(frame) = self.decoder.next().map_err(CallErrorKind::Frame)? {
            let got = correlation_id(&frame).unwrap_or(-1);
            let due = self.in_flight.front().map(|entry| entry.ticket.correlation);
            // An answer to what has not been written whole is none, whatever its number.
            let Some(entry) =
                self.in_flight.pop_front_if(|entry| entry.ticket.correlation == got && entry.end <= self.written)
            else {
                return Err(CallErrorKind::Unsolicited { got, due }.into());
            };
            self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
            trace!(
                broker = self.shared.broker,
                api = %entry.ticket.api,
                correlation = got,
                bytes = frame.len(),
                "answer"
            );
            match entry.ticket.waiter {
                Waiter::Answer(take) => take(Ok(frame), &mut |silence| {
                    if !silence.is_zero() {
                        self.throttle(now + silence, silence);
                    }
                }),
                Waiter::Sasl => self.sasl_answered(entry.ticket.api, entry.ticket.version, frame, now)?,
                Waiter::Written(_) => {}
            }
        }
        Ok(())
    }

    fn throttle(&mut self, until: Instant, silence: Duration) {
        debug!(broker = self.shared.broker, address = %self.shared.address, ?silence, "throttled");
        self.shared.counters.throttles.add(1);
        self.shared.counters.throttled_millis.add(silence.as_millis() as u64);
        let until = self.throttled_until.map_or(until, |old| old.max(until));
        self.throttled_until = Some(until);
        lock(&self.shared.queue).throttled_until = Some(until);
    }

    fn is_quiet(&self) -> bool {
        self.in_flight.is_empty() && self.unanswered.is_empty() && self.out.is_empty()
    }

    /// When the next timer is due.
    fn next_due(&self, now: Instant) -> Instant {
        let deadlines = self.in_flight.iter().chain(&self.unanswered).map(|entry| entry.deadline);
        let idle = self.idle.filter(|_| self.is_quiet()).map(|idle| after(self.last_traffic, idle));
        let session = self.reauthentication.as_ref().and_then(Reauthentication::due);
        deadlines.chain(idle).chain(self.throttled_until).chain(session).min().unwrap_or(now + FAR)
    }

    fn handle_due(&mut self, now: Instant) -> Option<End> {
        let overdue = self.in_flight.iter().chain(&self.unanswered).find(|entry| entry.deadline <= now);
        if let Some(entry) = overdue {
            // Nobody could tell the late answer from a lost one; as Java's client, give the connection up.
            self.shared.counters.request_timeouts.add(1);
            let after = entry.ticket.timeout;
            let why = format!("a {} request got no answer within {}", entry.ticket.api, Human(after));
            return Some(End { why: CallErrorKind::Disconnected(why), timed_out: Some(entry.ticket.correlation) });
        }
        if self.throttled_until.is_some_and(|until| until <= now) {
            return None;
        }
        if self.reauthentication.as_ref().and_then(Reauthentication::due).is_some_and(|due| due <= now) {
            return None;
        }
        // What was queued but not taken (a submission raced with this timer) is told that it was not sent.
        let idle = self.idle.unwrap_or(FAR);
        Some(CallErrorKind::Disconnected(format!("it was idle for {}", Human(idle))).into())
    }
}

fn disconnected(why: impl ToString) -> End {
    CallErrorKind::Disconnected(why.to_string()).into()
}

impl Drop for Driver {
    /// Tells everybody who waits. Also when the task is torn down with the runtime, or panicked.
    fn drop(&mut self) {
        let end = self.ended.take().unwrap_or(End { why: CallErrorKind::Closed, timed_out: None });
        let queued = {
            let mut queue = lock(&self.shared.queue);
            queue.ended = Some(end.why.clone());
            std::mem::take(&mut queue.requests)
        };
        self.shared.counters.connections.sub(1);
        let (broker, address) = (self.shared.broker, &self.shared.address);
        let lost = self.in_flight.len() + self.unanswered.len();
        match &end.why {
            CallErrorKind::Closed => debug!(broker, %address, lost, "connection closed"),
            CallErrorKind::Frame(_) | CallErrorKind::Unsolicited { .. } => {
                self.shared.counters.disconnects.add(1);
                warn!(broker, %address, lost, why = %end.why, "connection given up");
            }
            why => {
                self.shared.counters.disconnects.add(1);
                debug!(broker, %address, lost, %why, "disconnected");
            }
        }
        let started = self.in_flight.drain(..).chain(self.unanswered.drain(..));
        for entry in started {
            let sent = entry.start < self.written;
            let why = match end.timed_out == Some(entry.ticket.correlation) {
                true => CallErrorKind::TimedOut(entry.ticket.timeout),
                false => end.why.clone(),
            };
            self.shared.fail(entry.ticket, why, sent);
        }
        for request in queued {
            self.shared.fail(request.ticket, end.why.clone(), false);
        }
    }
}
