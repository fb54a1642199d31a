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

/// What was fetched of a partition and is not handed out yet. A few chunks wait at most: the fetcher sees to that. The
/// room of a chunk in the fetch buffer comes back as soon as all its records went out.
#[derive(Debug)]
pub(super) struct Source {
    assigned: Arc<Assigned>,
    settings: SourceSettings,
    queue: VecDeque<Item>,
    chunk: Option<OpenChunk>,
    batch: Option<OpenBatch>,
    /// What was taken and could not be used yet.
    unread: Option<Step>,
    /// The offset behind the last record that went out or was passed.
    position: i64,
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

/// What comes next.
#[derive(Debug)]
pub(super) enum Step {
    /// A record to hand out.
    Record(Next),
    /// What comes next lies at another offset. The watermark has to jump there once all before is done.
    Jump(i64),
    /// Nothing more can come.
    Fault(Box<ConsumeError>),
}

/// A record to hand out.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) section: Arc<Section>,
    pub(super) record: RawRecord,
    pub(super) leader_epoch: i32,
}

impl Next {
    /// The record's key.
    pub(super) fn key(&self) -> Option<&[u8]> {
        self.record.key(&self.section.bytes)
    }
}

impl Source {
    /// Nothing fetched yet.
    pub(super) fn new(assigned: Arc<Assigned>, settings: SourceSettings) -> Source {
        let position = lock(&assigned.watermark).handled();
        let (queue, look) = (VecDeque::new(), i64::MIN);
        Source { assigned, settings, queue, chunk: None, batch: None, unread: None, position, look }
    }

    /// Appends what was fetched.
    pub(super) fn push(&mut self, item: Item) {
        self.queue.push_back(item);
    }

    /// Puts back what `next` gave last.
    pub(super) fn unread(&mut self, step: Step) {
        self.unread = Some(step);
    }

    /// Drops all that is not handed out.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.chunk = None;
        self.batch = None;
        self.unread = None;
    }

    /// What comes next, if anything is there. What holds no records (gaps, control batches, aborted transactions) is
    /// passed on the watermark as it goes by, so that every record before must be handled or noted there as open.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<Step> {
        if self.unread.is_none()
            && let Some(step) = self.read()
        {
            return Some(step);
        }
        self.next_slowly()
    }

    /// The next record of the open batch.
    #[inline(always)]
    fn read(&mut self) -> Option<Step> {
        let batch = self.batch.as_mut()?;
        match batch.records.next() {
            Some(Ok(record)) if record.offset >= batch.from => {
                if record.offset >= self.look {
                    let mut watermark = lock(&self.assigned.watermark);
                    let (done, until) = watermark.is_done(record.offset);
                    if done {
                        batch.from = until;
                        self.position = until.min(batch.last_offset.saturating_add(1));
                        watermark.pass(self.position, batch.leader_epoch);
                        return None;
                    }
                    self.look = until;
                }
                self.position = record.offset.saturating_add(1);
                let (section, leader_epoch) = (batch.section.clone(), batch.leader_epoch);
                Some(Step::Record(Next { section, record, leader_epoch }))
            }
            Some(Ok(_)) => None,
            Some(Err(error)) => Some(self.damaged(error)),
            None => {
                self.position = batch.last_offset.saturating_add(1);
                lock(&self.assigned.watermark).pass(self.position, batch.leader_epoch);
                self.batch = None;
                None
            }
        }
    }

    #[inline(never)]
    fn next_slowly(&mut self) -> Option<Step> {
        if let Some(step) = self.unread.take() {
            return Some(step);
        }
        loop {
            if self.batch.is_some() {
                match self.read() {
                    Some(step) => return Some(step),
                    None => continue,
                }
            }
            if let Some(chunk) = &mut self.chunk {
                match chunk.batches.next() {
                    Some(Ok(batch)) => {
                        let last_offset = batch.last_offset();
                        match open(batch, chunk, &self.settings, &self.assigned) {
                            Ok(None) => self.position = self.position.max(last_offset.saturating_add(1)),
                            Ok(opened) => self.batch = opened,
                            Err(error) => return Some(self.damaged(error)),
                        }
                    }
                    Some(Err(error)) => return Some(self.damaged(error)),
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
                    (self.position, self.look) = (offset, i64::MIN);
                    return Some(Step::Jump(offset));
                }
                Item::Fault(error) => return Some(Step::Fault(Box::new(error))),
            }
        }
    }

    #[cold]
    fn damaged(&mut self, error: BatchError) -> Step {
        self.clear();
        let (partition, position) = (self.assigned.partition.clone(), self.position);
        Step::Fault(Box::new(ConsumeError::Batch { partition, position, error }))
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
