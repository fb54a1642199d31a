//! The producer's decisions: which partition, which batch, which sequence, what next after an answer.
//!
//! A record's way: [`partitioner`] chooses, [`accumulator`] encodes it into the partition's open batch and seals the
//! batch, [`window`] stamps sealed batches with [`sequence`] numbers and keeps order and identity through every failure,
//! [`batch`] tells the waiting receipts.

pub(crate) mod accumulator;
pub(crate) mod batch;
pub(crate) mod partitioner;
pub(crate) mod sequence;
pub(crate) mod window;
