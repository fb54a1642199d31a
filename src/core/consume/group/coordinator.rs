//! Whom a member asks, at which pace, and which answer it waits for: the part that both protocols have in common.
//!
//! Losing the coordinator costs a look-up and no membership, since that outlives a coordinator's move. One request of the
//! membership is under way at a time; the look-up may be beside it.

use std::time::Instant;

use super::{Action, RequestId};
use crate::core::retry::Backoff;

/// The requests of one member.
#[derive(Debug)]
pub(super) struct Requests {
    backoff: Backoff,
    coordinator: Coordinator,
    /// The request that is not answered yet.
    waiting: Option<RequestId>,
    last_id: u64,
    failures: u32,
    not_before: Instant,
}

#[derive(Debug, PartialEq, Eq)]
enum Coordinator {
    Unknown { moved: bool },
    Asked(RequestId),
    Known,
}

/// What has to happen before the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// The coordinator is to be looked up, not before this time.
    LookUp(Instant),
    /// An answer is under way.
    Answer,
    /// Nothing but the end of a pause.
    Open(Instant),
}

impl Requests {
    /// Nobody is known, and there is no reason to wait.
    pub(super) fn new(backoff: Backoff, now: Instant) -> Requests {
        let coordinator = Coordinator::Unknown { moved: false };
        Requests { backoff, coordinator, waiting: None, last_id: 0, failures: 0, not_before: now }
    }

    /// What the next request waits for.
    pub(super) fn gate(&self) -> Gate {
        match (&self.coordinator, self.waiting) {
            (Coordinator::Unknown { .. }, _) => Gate::LookUp(self.not_before),
            (Coordinator::Asked(_), _) | (_, Some(_)) => Gate::Answer,
            (Coordinator::Known, None) => Gate::Open(self.not_before),
        }
    }

    /// Whether a request may go out now. First looks the coordinator up, if it is not known and no pause holds that back.
    pub(super) fn may_ask(&mut self, now: Instant, actions: &mut impl Extend<Action>) -> bool {
        if now < self.not_before && self.is_failing() {
            return false;
        }
        if let Coordinator::Unknown { moved } = self.coordinator {
            let id = self.new_id();
            self.coordinator = Coordinator::Asked(id);
            actions.extend([Action::FindCoordinator { id, moved }]);
        }
        self.coordinator == Coordinator::Known && self.waiting.is_none()
    }

    /// A number for a request.
    pub(super) fn new_id(&mut self) -> RequestId {
        self.last_id += 1;
        RequestId(self.last_id)
    }

    /// Nothing else goes out before this request is answered.
    pub(super) fn wait_for(&mut self, id: RequestId) {
        self.waiting = Some(id);
    }

    /// Whether this is the answer that is waited for; it is so once.
    pub(super) fn answered(&mut self, id: RequestId) -> bool {
        self.waiting.take_if(|waiting| *waiting == id).is_some()
    }

    /// The answer under way does not matter any more.
    pub(super) fn forget(&mut self) {
        self.waiting = None;
    }

    /// The answer to the look-up; a failed one is repeated after a pause. False when it is not the one waited for.
    pub(super) fn on_coordinator(&mut self, now: Instant, id: RequestId, found: bool) -> bool {
        if self.coordinator != Coordinator::Asked(id) {
            return false;
        }
        if found {
            self.coordinator = Coordinator::Known;
        } else {
            self.coordinator = Coordinator::Unknown { moved: false };
            self.pause(now);
        }
        true
    }

    /// The coordinator does not answer, or is it no more.
    pub(super) fn on_coordinator_lost(&mut self, now: Instant) {
        if self.coordinator == Coordinator::Known {
            self.coordinator = Coordinator::Unknown { moved: true };
            self.pause(now);
        }
    }

    /// Something failed: what comes next waits a little, longer each time.
    pub(super) fn pause(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + self.backoff.delay(self.failures, 200);
    }

    /// It went well.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Whether the last thing that was tried failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }
}
