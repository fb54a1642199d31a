//! A spool read without taking it.

use super::holder::holder;
use super::{DamagedPlace, SetAside};
use crate::core::spool::{BatchId, StoredBatch};
use crate::error::SpoolError;
use crate::io::spool::files::Directory;
use crate::io::spool::inspect::Inspection;
use crate::wire::batch::SealedBatch;
use std::io;
use std::path::{Path, PathBuf};

/// A producer that writes and reclaims meanwhile may make a look incoherent; the next one sees it whole.
const LOOKS: usize = 4;

/// A spool as of a moment.
pub(super) struct Look {
    directory: PathBuf,
    pub(super) found: Inspection<Directory>,
    pub(super) holder: Option<String>,
    pub(super) damage: Vec<DamagedPlace>,
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
        let mut looks = 1;
        let found = loop {
            match Inspection::new(Directory::look(directory)?, directory) {
                // A segment that was there when the files were listed has been reclaimed since.
                Err(SpoolError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound && looks < LOOKS => {
                    looks += 1;
                }
                other => break other?,
            }
        };
        Ok(Look {
            holder: holder(&directory.join("lock")),
            damage: found.recovered.damage.iter().map(DamagedPlace::from).collect(),
            directory: directory.to_owned(),
            found,
        })
    }

    /// How many files there are for batches, and what they take.
    pub(super) fn files(&self) -> (usize, u64) {
        let used = self.found.segments.iter().map(|file| file.size);
        let sizes = used.chain(self.found.spares.iter().map(|(_, size)| *size));
        sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size))
    }

    /// Files that damaged places were copied to.
    pub(super) fn set_aside(&self) -> Vec<SetAside> {
        let files = self.found.quarantined.iter();
        files.map(|(file, bytes)| SetAside { file: file.clone(), bytes: *bytes }).collect()
    }

    /// The batches, in the order in which they are sent.
    pub(super) fn take_batches(&mut self) -> Vec<StoredBatch> {
        std::mem::take(&mut self.found.recovered.batches)
    }

    /// Reads a batch back, its checksums compared. None when it is no longer there: a running producer has delivered it
    /// since, and used its place for others.
    pub(super) fn read(&mut self, id: BatchId) -> Result<Option<SealedBatch>, SpoolError> {
        if self.found.stored_at(id).is_none() {
            return Ok(None);
        }
        match self.found.read(id) {
            Err(_) if self.holder.is_some() => {
                self.found = Look::once(&self.directory)?.found;
                let is_there = self.found.stored_at(id).is_some();
                is_there.then(|| self.found.read(id)).transpose()
            }
            other => other.map(Some),
        }
    }

    /// An error about the spool as a whole.
    pub(super) fn damaged(&self, what: String) -> SpoolError {
        SpoolError::Damaged { path: self.directory.clone(), offset: 0, what }
    }
}
