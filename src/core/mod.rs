//! Decisions: state machines without clock, socket or file. Time is an argument, bytes and answers go in, actions come
//! out. Of the wire layer only [`crate::wire::batch`], [`crate::wire::code`] and the plain messages in
//! [`crate::wire::requests`] may be used here.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a made-up clock has to start somewhere"))]

pub(crate) mod consume;
pub(crate) mod metadata;
pub(crate) mod produce;
pub(crate) mod retry;
pub(crate) mod sasl;
pub(crate) mod spool;
pub(crate) mod verdict;
