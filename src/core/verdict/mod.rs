//! The one table that decides what an error code means, by the kind of request that was answered with it.

pub(crate) mod fetch;
pub(crate) mod group;
pub(crate) mod produce;
