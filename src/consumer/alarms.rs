//! What the runner waits for by time: ends of pauses, time limits of handlers, the end of the shutdown.
//!
//! A time limit is rarely reached, so that setting one must be cheap: while an earlier entry of the same owner stands, it
//! is left there, and moved when it comes up. There is at most one entry for each owner.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::io::alarm::AlarmClock;
use crate::io::inbox::Inbox;
use crate::io::thread::IoThread;

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whom {
    Slot(usize),
    Lane(usize),
    Shutdown,
}

/// What an owner keeps of its alarm.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    /// When it is to ring.
    at: Option<Instant>,
    /// When its entry comes up: then or before.
    entry: Option<Instant>,
}

impl Alarm {
    /// It is not to ring any more.
    #[inline]
    pub(super) fn disarm(&mut self) {
        self.at = None;
    }
}

/// All alarms of one runner.
#[derive(Debug)]
pub(super) struct Alarms {
    entries: BTreeSet<(Instant, Whom)>,
    /// What the clock is set to.
    set: Option<Instant>,
    clock: Option<AlarmClock>,
    thread: IoThread,
    inbox: Arc<Inbox>,
}

impl Alarms {
    pub(super) fn new(thread: IoThread, inbox: Arc<Inbox>) -> Alarms {
        Alarms { entries: BTreeSet::new(), set: None, clock: None, thread, inbox }
    }

    /// `alarm` rings in `wait`, and at no other time.
    pub(super) fn arm(&mut self, alarm: &mut Alarm, whom: Whom, wait: Duration) {
        let at = self.thread.deadline(wait);
        alarm.at = Some(at);
        match alarm.entry {
            Some(entry) if entry <= at => return,
            Some(entry) => _ = self.entries.remove(&(entry, whom)),
            None => {}
        }
        self.enter(alarm, whom, at);
        if self.set.is_none_or(|set| at < set) {
            self.set_clock(Some(at));
        }
    }

    fn enter(&mut self, alarm: &mut Alarm, whom: Whom, at: Instant) {
        alarm.entry = Some(at);
        self.entries.insert((at, whom));
    }

    /// The owner of the next entry that has come up.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Whom> {
        let (at, _) = self.entries.first()?;
        if *at > now { None } else { self.entries.pop_first().map(|(_, whom)| whom) }
    }

    /// The entry of `alarm` came up. Whether it rings now; otherwise it comes up again in time.
    pub(super) fn came_up(&mut self, alarm: &mut Alarm, whom: Whom, now: Instant) -> bool {
        alarm.entry = None;
        match alarm.at {
            Some(at) if at > now => {
                self.enter(alarm, whom, at);
                false
            }
            Some(_) => {
                alarm.at = None;
                true
            }
            None => false,
        }
    }

    /// All that came up was looked at: the clock rings again for the next.
    pub(super) fn wind(&mut self) {
        let next = self.entries.first().map(|(at, _)| *at);
        self.set_clock(next);
    }

    fn set_clock(&mut self, at: Option<Instant>) {
        self.set = at;
        let clock = self.clock.get_or_insert_with(|| AlarmClock::start(&self.thread, self.inbox.clone()));
        clock.set(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarms() -> Alarms {
        Alarms::new(IoThread::start("test-io").expect("thread"), Arc::default())
    }

    /// Story: handlers with a limit of a minute are done at once, a million of them. Nothing may pile up for that minute.
    #[test]
    fn an_owner_has_one_entry_however_often_it_is_armed() {
        let mut alarms = alarms();
        let (mut slot, whom) = (Alarm::default(), Whom::Slot(3));
        for _ in 0..1000 {
            alarms.arm(&mut slot, whom, Duration::from_secs(60));
            slot.disarm();
            alarms.arm(&mut slot, whom, Duration::from_millis(1));
        }
        assert_eq!(alarms.entries.len(), 1);
        let later = alarms.thread.now() + Duration::from_secs(1);
        assert_eq!(alarms.pop(later), Some(whom));
        assert!(alarms.came_up(&mut slot, whom, later));
        assert_eq!(alarms.pop(later), None);
    }

    #[test]
    fn an_alarm_that_was_put_off_comes_up_twice_and_rings_once() {
        let mut alarms = alarms();
        let (mut slot, whom) = (Alarm::default(), Whom::Slot(0));
        alarms.arm(&mut slot, whom, Duration::from_secs(10));
        slot.disarm();
        alarms.arm(&mut slot, whom, Duration::from_secs(20));
        let (early, late) =
            (alarms.thread.now() + Duration::from_secs(15), alarms.thread.now() + Duration::from_secs(25));
        assert_eq!(alarms.pop(early), Some(whom));
        assert!(!alarms.came_up(&mut slot, whom, early));
        assert_eq!(alarms.pop(early), None);
        assert_eq!(alarms.pop(late), Some(whom));
        assert!(alarms.came_up(&mut slot, whom, late));
        alarms.wind();
        assert_eq!(alarms.set, None);
    }
}
