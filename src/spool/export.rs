//! Records as they lie in a spool.

use super::look::Look;
use super::{Batch, BatchStatus, Filter};
use crate::core::spool::{BatchId, StoredBatch, Target};
use crate::error::SpoolError;
use crate::wire::batch::DecodeLimits;
use std::path::Path;

/// A record in a spool; it borrows from the batch that is being read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportedRecord<'a> {
    /// The batch it is in.
    pub batch: u64,
    /// How that batch stands.
    pub status: &'a BatchStatus,
    /// Its topic.
    pub topic: &'a str,
    /// Its partition; none while that is not chosen.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// The headers in order.
    pub headers: Vec<(&'a [u8], Option<&'a [u8]>)>,
    /// The timestamp in milliseconds since 1970.
    pub timestamp: i64,
}

/// Hands the records of the batches that `filter` takes to `take`, in the order in which they are sent, until that answers
/// false. Changes nothing; a batch that a running producer delivers meanwhile is left out.
///
/// # Errors
/// [`SpoolError`] when the spool or one of its batches cannot be read.
pub fn export(
    directory: impl AsRef<Path>,
    filter: &Filter,
    mut take: impl FnMut(ExportedRecord<'_>) -> bool,
) -> Result<(), SpoolError> {
    let mut look = Look::at(directory.as_ref())?;
    for stored in look.take_batches() {
        let batch = Batch::from(&stored);
        if filter.takes(&batch) && !hand_out(&mut look, &stored, &batch, &mut take)? {
            break;
        }
    }
    Ok(())
}

/// Whether `take` wants more.
fn hand_out(
    look: &mut Look,
    stored: &StoredBatch,
    batch: &Batch,
    take: &mut impl FnMut(ExportedRecord<'_>) -> bool,
) -> Result<bool, SpoolError> {
    let Some(sealed) = look.read(BatchId(batch.id))? else { return Ok(true) };
    let broken = |what: &dyn std::fmt::Display| look.damaged(format!("batch {}: {what}", batch.id));
    let limits = DecodeLimits { batch_bytes: i32::MAX as usize };
    let records = sealed.section().records(&limits).map_err(|error| broken(&error))?;
    let bytes = records.bytes().clone();
    for (index, record) in records.enumerate() {
        let record = record.map_err(|error| broken(&error))?;
        let wants_more = take(ExportedRecord {
            batch: batch.id,
            status: &batch.status,
            topic: &batch.topic,
            partition: partition(&stored.target, index),
            key: record.key(&bytes),
            value: record.value(&bytes),
            headers: record.headers(&bytes).collect(),
            timestamp: record.timestamp,
        });
        if !wants_more {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The partition of one record: where the batch has none, the application may have chosen one.
fn partition(target: &Target, index: usize) -> Option<i32> {
    match target {
        Target::Partition(partition) => Some(partition.partition),
        Target::Unpartitioned { chosen, .. } => chosen.get(index).copied().filter(|partition| *partition >= 0),
    }
}
