//! The log of one partition: batches as bytes, in offset order, with the leader epochs they were written in.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// One appended batch.
#[derive(Debug, Clone)]
pub(crate) struct StoredBatch {
    pub(crate) bytes: Bytes,
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) leader_epoch: i32,
}

/// Batches from `start` to `end`.
#[derive(Debug, Default)]
pub(crate) struct Log {
    batches: VecDeque<StoredBatch>,
    /// First offset that may be read.
    pub(crate) start: i64,
    /// Offset of the next record.
    pub(crate) end: i64,
    /// (leader epoch, offset of its first record), ascending.
    epochs: Vec<(i32, i64)>,
}

impl Log {
    pub(crate) fn append(&mut self, batch: StoredBatch) {
        debug_assert_eq!(batch.base_offset, self.end, "batches are appended without gaps");
        if self.epochs.last().is_none_or(|(epoch, _)| *epoch < batch.leader_epoch) {
            self.epochs.push((batch.leader_epoch, batch.base_offset));
        }
        self.end = batch.last_offset + 1;
        self.batches.push_back(batch);
    }

    /// Removes all batches that reach `offset` or lie beyond it, and returns them.
    pub(crate) fn truncate(&mut self, offset: i64) -> Vec<StoredBatch> {
        let keep = self.batches.partition_point(|batch| batch.last_offset < offset);
        let lost: Vec<_> = self.batches.drain(keep..).collect();
        if let Some(first) = lost.first() {
            self.end = first.base_offset;
        }
        self.epochs.retain(|(_, start)| *start < self.end);
        self.start = self.start.min(self.end);
        lost
    }

    /// Moves the log start to `offset`; returns the batches that end before it.
    pub(crate) fn delete_before(&mut self, offset: i64) -> Vec<StoredBatch> {
        self.start = self.start.max(offset.min(self.end));
        let gone = self.batches.partition_point(|batch| batch.last_offset < self.start);
        self.batches.drain(..gone).collect()
    }

    /// Batches from the one that holds `offset` on, below `limit`, at most `max_bytes` together, except that the first
    /// comes whole.
    pub(crate) fn read(&self, offset: i64, limit: i64, max_bytes: usize) -> Bytes {
        let first = self.batches.partition_point(|batch| batch.last_offset < offset);
        let mut chosen = 0;
        let mut total = 0;
        for batch in self.batches.range(first..) {
            if batch.last_offset >= limit || (chosen > 0 && total + batch.bytes.len() > max_bytes) {
                break;
            }
            chosen += 1;
            total += batch.bytes.len();
        }
        if chosen == 1 {
            return self.batches[first].bytes.clone();
        }
        let mut out = BytesMut::with_capacity(total);
        for batch in self.batches.range(first..first + chosen) {
            out.extend_from_slice(&batch.bytes);
        }
        out.freeze()
    }

    pub(crate) fn batches(&self) -> impl DoubleEndedIterator<Item = &StoredBatch> {
        self.batches.iter()
    }

    /// The largest epoch that is not above `epoch`, and where it ends; `(-1, -1)` when the log knows none.
    pub(crate) fn epoch_end(&self, epoch: i32) -> (i32, i64) {
        let next = self.epochs.partition_point(|(known, _)| *known <= epoch);
        match next.checked_sub(1) {
            None => (-1, -1),
            Some(last) => {
                let end = self.epochs.get(next).map_or(self.end, |(_, start)| *start);
                (self.epochs[last].0, end)
            }
        }
    }

    /// The epoch in which the record at `offset` was written, or -1.
    pub(crate) fn epoch_of(&self, offset: i64) -> i32 {
        let next = self.epochs.partition_point(|(_, start)| *start <= offset);
        next.checked_sub(1).map_or(-1, |at| self.epochs[at].0)
    }
}
