//! The records of one partition in their order, decoded one batch at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use super::delivery::Section;
use crate::core::consume::aborted::Aborted;
use crate::core::consume::fetch::Chunk;
use crate::error::ConsumeError;
use crate::io::inbox::{Assigned, Lease};
use crate::sync::lock;
use crate::types::IsolationLevel;
use crate::wire::batch::{Batch, BatchError, Batches, ControlType, DecodeLimits, RawRecord, Records};

/// What was fetched of a partition and is not handed out yet. At most two chunks wait: the fetcher sees to that.
#[derive(Debug)]
pub(super) struct Source {
    assigned: Arc<Assigned>,
    settings: SourceSettings,
    queue: VecDeque<Item>,
    chunk: Option<OpenChunk>,
    batch: Option<OpenBatch>,
    /// From this offset on the watermark is to be asked what was handled before, under an earlier assignment.
    look: i64,
}

/// How batches are read.
#[derive(Clone, Debug)]
pub(super) struct SourceSettings {
    pub(super) limits: DecodeLimits,
    pub(super) isolation: IsolationLevel,
}

/// Something in the order of a partition.
#[derive(Debug)]
pub(super) enum Item {
    /// Batches.
    Chunk(Chunk, Lease),
    /// From here on at another offset.
    Jump(i64),
    /// Here it ends.
    Fault(ConsumeError),
}

#[derive(Debug)]
struct OpenChunk {
    batches: Batches,
    from: i64,
    aborted: Aborted,
    _lease: Lease,
}

#[derive(Debug)]
struct OpenBatch {
    records: Records,
    section: Arc<Section>,
    from: i64,
    leader_epoch: i32,
    last_offset: i64,
}

/// A record to hand out.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) section: Arc<Section>,
    pub(super) record: RawRecord,
    pub(super) leader_epoch: i32,
}

impl Source {
    /// Nothing fetched yet.
    pub(super) fn new(assigned: Arc<Assigned>, settings: SourceSettings) -> Source {
        Source { assigned, settings, queue: VecDeque::new(), chunk: None, batch: None, look: i64::MIN }
    }

    /// Appends what was fetched.
    pub(super) fn push(&mut self, item: Item) {
        self.queue.push_back(item);
    }

    /// Drops all that is not handed out.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.chunk = None;
        self.batch = None;
    }

    /// The next record, if one is there. What holds no records (gaps, control batches, aborted transactions) is passed
    /// on the watermark as it goes by.
    pub(super) fn next(&mut self) -> Option<Result<Next, ConsumeError>> {
        loop {
            if let Some(batch) = &mut self.batch {
                match batch.records.next() {
                    Some(Ok(record)) if record.offset < batch.from => continue,
                    Some(Ok(record)) => {
                        if record.offset >= self.look {
                            let (done, until) = lock(&self.assigned.watermark).is_done(record.offset);
                            if done {
                                batch.from = until;
                                continue;
                            }
                            self.look = until;
                        }
                        let (section, leader_epoch) = (batch.section.clone(), batch.leader_epoch);
                        return Some(Ok(Next { section, record, leader_epoch }));
                    }
                    Some(Err(error)) => return Some(Err(self.damaged(error))),
                    None => {
                        lock(&self.assigned.watermark).pass(batch.last_offset.saturating_add(1), batch.leader_epoch);
                        self.batch = None;
                    }
                }
            }
            if let Some(chunk) = &mut self.chunk {
                match chunk.batches.next() {
                    Some(Ok(batch)) => match open(batch, chunk, &self.settings, &self.assigned) {
                        Ok(opened) => self.batch = opened,
                        Err(error) => return Some(Err(self.damaged(error))),
                    },
                    Some(Err(error)) => return Some(Err(self.damaged(error))),
                    None => self.chunk = None,
                }
                continue;
            }
            match self.queue.pop_front()? {
                Item::Chunk(chunk, lease) => {
                    let aborted = Aborted::new(chunk.aborted);
                    let batches = Batches::new(chunk.records);
                    self.chunk = Some(OpenChunk { batches, from: chunk.from, aborted, _lease: lease });
                }
                Item::Jump(offset) => {
                    lock(&self.assigned.watermark).jump(offset);
                    self.look = i64::MIN;
                }
                Item::Fault(error) => return Some(Err(error)),
            }
        }
    }

    fn damaged(&mut self, error: BatchError) -> ConsumeError {
        self.clear();
        let position = lock(&self.assigned.watermark).handled();
        ConsumeError::Batch { partition: self.assigned.partition.clone(), position, error }
    }
}

/// Opens a batch of data; passes any other.
fn open(
    batch: Batch,
    chunk: &mut OpenChunk,
    settings: &SourceSettings,
    assigned: &Arc<Assigned>,
) -> Result<Option<OpenBatch>, BatchError> {
    let last_offset = batch.last_offset();
    let committed_only = settings.isolation == IsolationLevel::ReadCommitted;
    let aborted = committed_only && chunk.aborted.covers(batch.identity.id, last_offset) && batch.is_transactional();
    if batch.is_control() {
        // A mark ends the transaction before it: only with the next batch of that producer another one begins.
        if batch.control_type(&settings.limits)? == Some(ControlType::Abort) {
            chunk.aborted.on_abort_mark(batch.identity.id);
        }
    } else if !aborted && last_offset >= chunk.from {
        let records = batch.records(&settings.limits)?;
        let section = Arc::new(Section { assigned: assigned.clone(), bytes: records.bytes().clone() });
        let leader_epoch = batch.leader_epoch;
        return Ok(Some(OpenBatch { records, section, from: chunk.from, leader_epoch, last_offset }));
    }
    lock(&assigned.watermark).pass(last_offset.saturating_add(1), batch.leader_epoch);
    Ok(None)
}

#[cfg(test)]
mod tests;
