//! Decisions of the consumer: membership in a group, what to fetch, and how far each partition is handled.

pub(crate) mod aborted;
pub(crate) mod assignor;
pub(crate) mod fetch;
pub(crate) mod group;
pub(crate) mod history;
#[cfg(any(test, fuzzing))]
pub(crate) mod ops;
pub(crate) mod pattern;
pub(crate) mod progress;
pub(crate) mod protocol;
pub(crate) mod slow;
pub(crate) mod watermark;
