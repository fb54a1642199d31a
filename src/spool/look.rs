//! A spool read without taking it.

use super::holder::holder;
use super::{DamagedPlace, SetAside};
use crate::core::spool::format::{ENTRY_HEAD, Entry, EntryHead, SpoolId, entry_crc};
use crate::core::spool::{BatchId, Recovered, StoredBatch};
use crate::error::SpoolError;
use crate::io::spool::disk::Disk;
use crate::io::spool::files::Directory;
use crate::io::spool::scan::{Scan, scan, slot};
use crate::wire::batch::{RecordsSection, SealedBatch};
use bytes::Bytes;
use std::path::{Path, PathBuf};

/// The lock file's name.
const LOCK: &str = "lock";
/// A producer that writes and reclaims meanwhile may make a look incoherent; the next one sees it whole.
const LOOKS: usize = 4;

/// A spool as of a moment.
pub(super) struct Look {
    directory: PathBuf,
    disk: Disk<Directory>,
    scan: Scan,
    pub(super) recovered: Recovered,
    pub(super) holder: Option<String>,
    pub(super) disk_bytes: u64,
    pub(super) segments: usize,
    pub(super) damage: Vec<DamagedPlace>,
    pub(super) set_aside: Vec<SetAside>,
}

impl Look {
    /// Reads the spool in `directory`.
    pub(super) fn at(directory: &Path) -> Result<Look, SpoolError> {
        let mut look = Look::once(directory)?;
        for _ in 1..LOOKS {
            // Nobody else writes: what was found stands.
            if look.damage.is_empty() || look.holder.is_none() {
                break;
            }
            let mut again = Look::once(directory)?;
            // Damage stays; what was just being written is whole by now.
            again.damage.retain(|place| look.damage.contains(place));
            look = again;
        }
        Ok(look)
    }

    fn once(directory: &Path) -> Result<Look, SpoolError> {
        let mut disk = Disk::new(Directory::look(directory)?, directory.to_owned());
        let mut looks = 1;
        let mut scan = loop {
            match scan(&mut disk) {
                // A segment that was there when the files were listed has been reclaimed since.
                Err(SpoolError::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound && looks < LOOKS =>
                {
                    looks += 1;
                }
                other => break other?,
            }
        };
        let files = disk.list()?;
        let segment_files: Vec<u64> =
            files.iter().filter(|(name, _)| slot(name).is_some()).map(|(_, size)| *size).collect();
        let others = files.iter().filter(|(name, _)| slot(name).is_none() && name != LOCK);
        let damage = scan.damage.iter().map(|found| DamagedPlace {
            file: if found.name.is_empty() { format!("segment {}", found.place.segment) } else { found.name.clone() },
            offset: found.place.offset,
            len: found.len,
            what: found.what.clone(),
        });
        Ok(Look {
            holder: holder(&directory.join(LOCK)),
            disk_bytes: segment_files.iter().sum(),
            segments: segment_files.len(),
            damage: damage.collect(),
            set_aside: others.map(|(file, bytes)| SetAside { file: file.clone(), bytes: *bytes }).collect(),
            recovered: scan.state.recovered(),
            directory: directory.to_owned(),
            disk,
            scan,
        })
    }

    /// The batches, in the order in which they are sent.
    pub(super) fn take_batches(&mut self) -> Vec<StoredBatch> {
        std::mem::take(&mut self.recovered.batches)
    }

    /// Reads a batch back, its checksums compared. None when it is no longer there: a running producer has delivered it
    /// since, and used its place for others.
    pub(super) fn read(&mut self, id: BatchId) -> Result<Option<SealedBatch>, SpoolError> {
        if self.scan.state.locate(id).is_none() {
            return Ok(None);
        }
        match self.read_at_its_place(id) {
            Err(_) if self.holder.is_some() => {
                self.scan = Look::once(&self.directory)?.scan;
                let is_there = self.scan.state.locate(id).is_some();
                is_there.then(|| self.read_at_its_place(id)).transpose()
            }
            other => other.map(Some),
        }
    }

    fn read_at_its_place(&mut self, id: BatchId) -> Result<SealedBatch, SpoolError> {
        let Some(located) = self.scan.state.locate(id) else {
            return Err(self.damaged(format!("batch {id} is not in it")));
        };
        let place = located.place;
        let segment = self.scan.segments.iter().find(|file| file.sequence == place.segment);
        let name = segment.map(|file| file.name.clone()).unwrap_or_default();
        let damaged = |what: &str| SpoolError::Damaged {
            path: self.directory.join(&name),
            offset: place.offset,
            what: format!("batch {id}: {what}"),
        };
        let mut file = self.disk.open(&name, false)?;
        let head_len = ENTRY_HEAD + located.fields as usize;
        let mut bytes = vec![0; head_len + located.payload as usize];
        let len = self.disk.read(&name, &mut file, place.offset, &mut bytes)?;
        bytes.truncate(len);
        let bytes = Bytes::from(bytes);
        let head = bytes.get(..head_len).ok_or_else(|| damaged("the file ends before it"))?;
        let spool = self.scan.spool.unwrap_or(SpoolId::default());
        let entry = EntryHead::decode(head).filter(|entry| entry.crc == entry_crc(spool, place, head));
        let entry = entry.ok_or_else(|| damaged("its checksum is wrong"))?;
        let Some(Entry::Batch(batch)) = Entry::decode(entry.kind, head.get(ENTRY_HEAD..).unwrap_or_default()) else {
            return Err(damaged("it is not where it should be"));
        };
        let payload = bytes.slice(head_len..);
        if batch.id != id || payload.len() != located.payload as usize || crc32c::crc32c(&payload) != batch.records_crc
        {
            return Err(damaged("the checksum of its records is wrong"));
        }
        let section = RecordsSection {
            bytes: payload,
            count: batch.count,
            base_timestamp: batch.base_timestamp,
            max_timestamp: batch.max_timestamp,
            compression: batch.compression,
        };
        Ok(SealedBatch::with_crc(section, batch.records_crc))
    }

    /// An error about the spool as a whole.
    pub(super) fn damaged(&self, what: String) -> SpoolError {
        SpoolError::Damaged { path: self.directory.clone(), offset: 0, what }
    }
}
