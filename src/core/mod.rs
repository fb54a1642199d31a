//! Decisions: state machines without clock, socket or file. Time is an argument, bytes and answers go in, actions come
//! out. Of the wire layer only [`crate::wire::batch`], [`crate::wire::code`] and the plain messages in
//! [`crate::wire::requests`] may be used here.

pub(crate) mod consume;
#[allow(dead_code, reason = "the producer and the consumer, on branches of their own, use the rest")]
pub(crate) mod metadata;
pub(crate) mod produce;
pub(crate) mod retry;
pub(crate) mod verdict;
