//! Files with errors that name them, and reads and writes that are never short.

use super::files::{Files, NotOurs};
use crate::error::SpoolError;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

/// A spool's files.
pub(crate) struct Disk<F: Files> {
    files: F,
    directory: PathBuf,
}

impl<F: Files> Disk<F> {
    /// `directory` is only for the errors.
    pub(crate) fn new(files: F, directory: PathBuf) -> Disk<F> {
        Disk { files, directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.directory.clone() } else { self.directory.join(name) }
    }

    fn failed(&self, name: &str, what: &'static str, source: io::Error) -> SpoolError {
        match source.get_ref().and_then(|inner| inner.downcast_ref::<NotOurs>()) {
            Some(NotOurs(why)) => SpoolError::Refused { path: self.path(name), why: why.clone() },
            None => SpoolError::Io { path: self.path(name), what, source: Arc::new(source) },
        }
    }

    pub(crate) fn list(&mut self) -> Result<Vec<(String, u64)>, SpoolError> {
        self.files.list().map_err(|source| self.failed("", "cannot be listed", source))
    }

    pub(crate) fn create(&mut self, name: &str) -> Result<F::File, SpoolError> {
        self.files.create(name).map_err(|source| self.failed(name, "cannot be created", source))
    }

    pub(crate) fn open(&mut self, name: &str, writable: bool) -> Result<F::File, SpoolError> {
        self.files.open(name, writable).map_err(|source| self.failed(name, "cannot be opened", source))
    }

    pub(crate) fn remove(&mut self, name: &str) -> Result<(), SpoolError> {
        match self.files.remove(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| self.failed(name, "cannot be removed", source)),
        }
    }

    pub(crate) fn sync_dir(&mut self) -> Result<(), SpoolError> {
        self.files.sync_dir().map_err(|source| self.failed("", "cannot be synced", source))
    }

    pub(crate) fn sync(&mut self, name: &str, file: &mut F::File) -> Result<(), SpoolError> {
        self.files.sync(file).map_err(|source| self.failed(name, "cannot be synced", source))
    }

    /// Fills `into` from `offset` on as far as the file goes.
    pub(crate) fn read(
        &mut self,
        name: &str,
        file: &mut F::File,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize, SpoolError> {
        let mut done = 0;
        while let Some(left) = into.get_mut(done..).filter(|left| !left.is_empty()) {
            match self.files.read_at(file, offset + done as u64, left) {
                Ok(0) => break,
                Ok(len) => done += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.failed(name, "cannot be read", source)),
            }
        }
        Ok(done)
    }

    /// Writes all of `parts`.
    pub(crate) fn write(
        &mut self,
        name: &str,
        file: &mut F::File,
        mut offset: u64,
        mut parts: &mut [IoSlice<'_>],
    ) -> Result<(), SpoolError> {
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.files.write_at(file, offset, parts) {
                Ok(0) => return Err(self.failed(name, "cannot be written", io::ErrorKind::WriteZero.into())),
                Ok(len) => {
                    offset += len as u64;
                    IoSlice::advance_slices(&mut parts, len);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.failed(name, "cannot be written", source)),
            }
        }
        Ok(())
    }

    /// Writes zeros over `from..to`.
    pub(crate) fn zero(&mut self, name: &str, file: &mut F::File, from: u64, to: u64) -> Result<(), SpoolError> {
        static ZEROS: [u8; 256 << 10] = [0; 256 << 10];
        let mut at = from;
        while at < to {
            let len = (to - at).min(ZEROS.len() as u64);
            let zeros = ZEROS.get(..len as usize).unwrap_or_default();
            self.write(name, file, at, &mut [IoSlice::new(zeros)])?;
            at += len;
        }
        Ok(())
    }
}
