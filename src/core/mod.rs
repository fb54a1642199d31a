//! Decisions: state machines without clock, socket or file. Time is an argument, bytes and answers go in, actions come
//! out. Of the wire layer only [`crate::wire::batch`] and [`crate::wire::code`] may be used here.

pub(crate) mod consume;
pub(crate) mod metadata;
pub(crate) mod produce;
pub(crate) mod retry;
pub(crate) mod verdict;
