//! Looking at a spool without taking it: for people and tools. Never writes.

use super::disk::Disk;
use super::engine::{fetch, sealed};
use super::files::Files;
use super::scan::{Scan, SegmentFile, scan};
use crate::core::spool::format::{ENTRY_HEAD, SpoolId, VERSION};
use crate::core::spool::state::State;
use crate::core::spool::{BatchId, Damage, Recovered};
use crate::error::SpoolError;
use crate::wire::batch::SealedBatch;
use std::path::Path;

/// A spool as its files say. While a producer has it, they may change under the reader: what it tells is then a little
/// old, and a place may look damaged that is only being written.
pub(crate) struct Inspection<F: Files> {
    disk: Disk<F>,
    state: State,
    /// Its random name; none when it has never been written.
    pub(crate) spool: Option<SpoolId>,
    /// The format version.
    pub(crate) version: u32,
    /// What an opening would tell. Damage that an earlier opening has set aside is not in it; see `quarantined`.
    pub(crate) recovered: Recovered,
    /// The files that count, by sequence.
    pub(crate) segments: Vec<SegmentFile>,
    /// Files kept to be used again: name and size.
    pub(crate) spares: Vec<(String, u64)>,
    /// Files with damaged bytes that were set aside: name and size.
    pub(crate) quarantined: Vec<(String, u64)>,
}

/// Where a batch lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredAt {
    /// The segment's file.
    pub(crate) file: String,
    /// The first byte of its entry.
    pub(crate) offset: u64,
    /// How many bytes its entry has.
    pub(crate) bytes: u64,
}

impl<F: Files> Inspection<F> {
    /// Reads every byte that counts and compares every checksum. `directory` is for the errors.
    pub(crate) fn new(files: F, directory: &Path) -> Result<Inspection<F>, SpoolError> {
        let mut disk = Disk::new(files, directory.to_owned());
        let mut quarantined = disk.list()?;
        quarantined.retain(|(name, _)| name.starts_with("quarantine-"));
        quarantined.sort_unstable();
        let Scan { spool, mut state, segments, unused, damage, .. } = scan(&mut disk)?;
        let mut recovered = state.recovered();
        recovered.stamps_in_doubt |= damage.iter().any(|found| found.doubt);
        recovered.damage.extend(damage.into_iter().map(|found| Damage {
            file: found.name,
            offset: found.place.offset,
            len: found.len,
            what: found.what,
            set_aside: None,
        }));
        Ok(Inspection { disk, state, spool, version: VERSION, recovered, segments, spares: unused, quarantined })
    }

    /// Where a batch lies.
    pub(crate) fn stored_at(&self, id: BatchId) -> Option<StoredAt> {
        let located = self.state.locate(id)?;
        let file = self.segments.iter().find(|file| file.sequence == located.place.segment)?;
        let bytes = ENTRY_HEAD as u64 + u64::from(located.fields) + u64::from(located.payload);
        Some(StoredAt { file: file.name.clone(), offset: located.place.offset, bytes })
    }

    /// Bytes that all batches take, and those of them that are dead.
    pub(crate) fn live(&self) -> (u64, u64) {
        (self.state.live(), self.state.dead())
    }

    /// Reads a batch, its checksums compared.
    pub(crate) fn read(&mut self, id: BatchId) -> Result<SealedBatch, SpoolError> {
        let found = self.state.locate(id).zip(self.stored_at(id));
        let Some((located, at)) = found else {
            let what = format!("batch {id} is not in it");
            return Err(SpoolError::Damaged { path: self.disk.path(""), offset: 0, what });
        };
        let mut file = self.disk.open(&at.file, false)?;
        let spool = self.spool.unwrap_or_default();
        let (head, payload) = fetch(&mut self.disk, spool, &at.file, &mut file, id, located)?;
        Ok(sealed(&head, payload))
    }
}
