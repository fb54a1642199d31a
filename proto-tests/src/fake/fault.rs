//! Faults that a test injects into the answers of brokers.

use bytes::Bytes;
use std::time::Duration;

/// Names an injected fault, to ask how often it struck or to take it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FaultId(pub(crate) u64);

/// Which requests go wrong, how often, and how.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Only this broker; `None` is all.
    pub broker: Option<i32>,
    /// Only this API key; `None` is all.
    pub api_key: Option<i16>,
    /// Only requests that name this topic; `None` is all.
    pub topic: Option<String>,
    /// Only requests that name this partition (with `topic`: of that topic); `None` is all.
    pub partition: Option<i32>,
    /// Only requests from this client id; `None` is all.
    pub client_id: Option<String>,
    /// Matching requests that pass before the fault begins.
    pub skip: usize,
    /// Matching requests that it strikes then; `usize::MAX` is for ever.
    pub times: usize,
    /// What happens.
    pub action: FaultAction,
}

impl Fault {
    /// `action` once, at the next request of any kind at any broker.
    pub fn once(action: FaultAction) -> Self {
        Self { broker: None, api_key: None, topic: None, partition: None, client_id: None, skip: 0, times: 1, action }
    }

    /// `action` at every request until it is cleared.
    pub fn always(action: FaultAction) -> Self {
        Self { times: usize::MAX, ..Self::once(action) }
    }

    /// Only at this broker.
    #[must_use]
    pub fn broker(mut self, broker: i32) -> Self {
        self.broker = Some(broker);
        self
    }

    /// Only for requests with this API key.
    #[must_use]
    pub fn api(mut self, api_key: i16) -> Self {
        self.api_key = Some(api_key);
        self
    }

    /// Only for requests that name this topic.
    #[must_use]
    pub fn topic(mut self, topic: &str) -> Self {
        self.topic = Some(topic.to_owned());
        self
    }

    /// Only for requests that name this partition.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Only for requests from this client id.
    #[must_use]
    pub fn client_id(mut self, client_id: &str) -> Self {
        self.client_id = Some(client_id.to_owned());
        self
    }

    /// Lets `requests` matching requests pass first.
    #[must_use]
    pub fn skip(mut self, requests: usize) -> Self {
        self.skip = requests;
        self
    }

    /// Strikes `times` times.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Whether a request that names `touched` (topic, partition) is meant.
    pub(crate) fn matches(&self, request: &Seen<'_>, touched: impl FnOnce() -> Vec<(String, i32)>) -> bool {
        let is = |wanted: Option<i32>, got: i32| wanted.is_none_or(|wanted| wanted == got);
        if !is(self.broker, request.broker)
            || !is(self.api_key.map(i32::from), i32::from(request.api_key))
            || self.client_id.as_deref().is_some_and(|wanted| wanted != request.client_id)
        {
            return false;
        }
        if self.topic.is_none() && self.partition.is_none() {
            return true;
        }
        touched().iter().any(|(topic, partition)| self.names(topic, *partition))
    }

    /// Whether the filter by topic and partition lets this one through.
    pub(crate) fn names(&self, topic: &str, partition: i32) -> bool {
        self.topic.as_deref().is_none_or(|wanted| wanted == topic)
            && self.partition.is_none_or(|wanted| wanted == partition)
    }
}

/// What a fault does to a request.
#[derive(Debug, Clone)]
pub enum FaultAction {
    /// Closes the connection; the request has no effect.
    DropBeforeApply,
    /// The request has its effect, then the connection is closed without an answer.
    DropAfterApply,
    /// Never answers on this connection again and leaves it open; the request has no effect.
    NoAnswerBefore,
    /// The same, but the request has its effect.
    NoAnswerAfter,
    /// The request has its effect and is never answered; the connection goes on with the next one.
    SwallowAnswer,
    /// Handles the request after this time.
    Delay(Duration),
    /// Handles the request at once and answers after this time.
    DelayAnswer(Duration),
    /// Answers with this error code where the API has its error field. The request has no effect; with a filter by topic
    /// or partition the other partitions of a Produce or Fetch request are served.
    Error(i16),
    /// The request has its effect and the answer carries this error code.
    ErrorAfterApply(i16),
    /// The request has its effect; half of the answer is written, then the connection is closed.
    HalfFrame,
    /// Writes so many bytes of the answer at a time, with this pause between.
    SlowBytes(usize, Duration),
    /// Answers with another correlation id.
    WrongCorrelationId,
    /// Writes these bytes instead of an answer, frame length and all; the request has no effect.
    RawBytes(Bytes),
    /// Answers with this throttle time, in milliseconds. The connection is not muted, so that a client which does not
    /// wait is seen in the request log.
    Throttle(i32),
    /// The answer to Produce names the first partition of each topic three times, twice with a wrong offset.
    DuplicatePartition,
    /// The answer to Produce leaves out the first partition of each topic.
    MissingPartition,
    /// Writes the answer in pieces of so many bytes.
    SplitEvery(usize),
}

/// The request that a fault is compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) broker: i32,
    pub(crate) api_key: i16,
    pub(crate) client_id: &'a str,
}

/// A fault with its counters.
#[derive(Debug)]
pub(crate) struct Armed {
    pub(crate) id: FaultId,
    pub(crate) fault: Fault,
    pub(crate) seen: usize,
    pub(crate) struck: usize,
}

/// All faults, in the order of their injection.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    armed: Vec<Armed>,
    next: u64,
    /// How often a fault struck, kept after it is used up or cleared.
    struck: std::collections::BTreeMap<FaultId, usize>,
}

impl Faults {
    pub(crate) fn inject(&mut self, fault: Fault) -> FaultId {
        let id = FaultId(self.next);
        self.next += 1;
        self.armed.push(Armed { id, fault, seen: 0, struck: 0 });
        id
    }

    pub(crate) fn clear(&mut self) {
        self.armed.clear();
    }

    pub(crate) fn remove(&mut self, id: FaultId) {
        self.armed.retain(|armed| armed.id != id);
    }

    pub(crate) fn struck(&self, id: FaultId) -> usize {
        self.struck.get(&id).copied().unwrap_or(0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.armed.is_empty()
    }

    /// The first fault that strikes this request. Only matching faults count it.
    pub(crate) fn strike(&mut self, seen: &Seen<'_>, touched: &[(String, i32)]) -> Option<Fault> {
        let mut chosen = None;
        for armed in &mut self.armed {
            if !armed.fault.matches(seen, || touched.to_vec()) {
                continue;
            }
            armed.seen += 1;
            if armed.seen > armed.fault.skip && armed.struck < armed.fault.times && chosen.is_none() {
                armed.struck += 1;
                *self.struck.entry(armed.id).or_default() += 1;
                chosen = Some(armed.fault.clone());
            }
        }
        self.armed.retain(|armed| armed.struck < armed.fault.times);
        chosen
    }
}
