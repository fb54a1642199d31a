//! The files of a spool: the only place that touches the disk, behind a trait so that tests can lose what was not synced.

use crate::error::SpoolError;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory of files, as the engine uses it. Writes may be short and reads too; nothing is durable before its sync, and
/// a file's name not before [`Files::sync_dir`].
pub(crate) trait Files: Send {
    /// An open file.
    type File: Send;

    /// Names and sizes of the files in it.
    fn list(&mut self) -> io::Result<Vec<(String, u64)>>;

    /// Creates the file `name`, which must not exist, for reading and writing, mode 0600.
    fn create(&mut self, name: &str) -> io::Result<Self::File>;

    /// Opens the file `name`. A symbolic link is refused.
    fn open(&mut self, name: &str, writable: bool) -> io::Result<Self::File>;

    /// Removes the file `name`.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// Makes creations and removals durable.
    fn sync_dir(&mut self) -> io::Result<()>;

    /// Reads at `offset`; 0 at the end of the file.
    fn read_at(&mut self, file: &mut Self::File, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes the concatenation of `parts` at `offset`, and says how much of it.
    fn write_at(&mut self, file: &mut Self::File, offset: u64, parts: &[io::IoSlice<'_>]) -> io::Result<usize>;

    /// Makes the contents durable (fdatasync).
    fn sync(&mut self, file: &mut Self::File) -> io::Result<()>;
}

/// The real thing.
pub(crate) struct Directory {
    path: PathBuf,
    /// Held for the life of this; none when only looking.
    _lock: Option<File>,
}

const LOCK: &str = "lock";

impl Directory {
    /// Takes the directory for oneself, and makes it when it is not there.
    pub(crate) fn take(path: &Path) -> Result<Directory, SpoolError> {
        let path = &plain(path);
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match make(path) {
                    // Somebody else was quicker: the lock decides.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    other => other.map_err(|source| failed(path, "cannot be made", source))?,
                }
            }
            Err(source) => return Err(failed(path, "cannot be looked at", source)),
            Ok(_) => {}
        }
        check(path)?;
        let lock_path = path.join(LOCK);
        let is_new = match fs::symlink_metadata(&lock_path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut entries = fs::read_dir(path).map_err(|source| failed(path, "cannot be listed", source))?;
                if entries.next().is_some() && !holds_segments(path) {
                    let why = "it holds files that are not a spool's: name a directory of its own".to_owned();
                    return Err(SpoolError::Refused { path: path.to_owned(), why });
                }
                true
            }
            _ => false,
        };
        let opened = match open(&lock_path, true, is_new) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open(&lock_path, true, false),
            other => other,
        };
        let mut lock = opened.map_err(|source| refused(&lock_path, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Windows lets nobody read a locked file.
                let read = Read::by_ref(&mut lock).take(20).read_to_string(&mut holder);
                let holder = if read.is_err() || holder.trim().is_empty() { "?" } else { holder.trim() };
                return Err(SpoolError::InUse { path: path.to_owned(), holder: holder.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(failed(&lock_path, "cannot be locked", source)),
        }
        // Written over what is there: on a full disk there may be no other place for it, and what is in the spool has
        // to be delivered all the same.
        let holder = format!("{}\n", std::process::id());
        let told = lock.write_all(holder.as_bytes()).and_then(|()| lock.set_len(holder.len() as u64));
        told.map_err(|source| failed(&lock_path, "cannot be written", source))?;
        Ok(Directory { path: path.to_owned(), _lock: Some(lock) })
    }

    /// Looks at it without taking it; a producer may have it.
    pub(crate) fn look(path: &Path) -> Result<Directory, SpoolError> {
        let path = &plain(path);
        check(path)?;
        Ok(Directory { path: path.to_owned(), _lock: None })
    }
}

/// Without a slash at the end, behind which a link would be followed unseen.
fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}

fn holds_segments(path: &Path) -> bool {
    let Ok(mut entries) = fs::read_dir(path) else { return false };
    entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("segment-")))
}

fn failed(path: &Path, what: &'static str, source: io::Error) -> SpoolError {
    SpoolError::Io { path: path.to_owned(), what, source: Arc::new(source) }
}

/// What was found in place of a plain private file is refused; the rest is the system's.
fn refused(path: &Path, source: io::Error) -> SpoolError {
    match source.get_ref().and_then(|inner| inner.downcast_ref::<NotOurs>()) {
        Some(NotOurs(why)) => SpoolError::Refused { path: path.to_owned(), why: why.clone() },
        None => failed(path, "cannot be opened", source),
    }
}

/// Why a file is not to be used; travels inside an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotOurs(pub(crate) String);

fn not_ours(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, NotOurs(why.into()))
}

/// The directory itself must be one, no link, and nobody else's to read.
fn check(path: &Path) -> Result<(), SpoolError> {
    let meta = fs::symlink_metadata(path).map_err(|source| failed(path, "cannot be looked at", source))?;
    let refuse = |why: String| Err(SpoolError::Refused { path: path.to_owned(), why });
    if meta.is_symlink() {
        return refuse("it is a symbolic link: name the directory it leads to".to_owned());
    }
    if !meta.is_dir() {
        return refuse("it is no directory: name another place".to_owned());
    }
    match too_wide(&meta) {
        Some(mode) => refuse(format!(
            "others can look into it (mode {mode:04o}): chmod 700 it, or name a directory inside that does not exist yet"
        )),
        None => Ok(()),
    }
}

#[cfg(unix)]
fn make(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    fs::DirBuilder::new().mode(0o700).create(path)?;
    // Its name is to survive a power cut along with what is in it.
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

#[cfg(not(unix))]
fn make(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

#[cfg(unix)]
fn too_wide(meta: &fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    let mode = meta.mode() & 0o7777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn too_wide(_meta: &fs::Metadata) -> Option<u32> {
    None
}

#[cfg(unix)]
fn is_same(before: &fs::Metadata, opened: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (before.dev(), before.ino()) == (opened.dev(), opened.ino())
}

#[cfg(not(unix))]
fn is_same(_before: &fs::Metadata, _opened: &fs::Metadata) -> bool {
    true
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600);
}

#[cfg(not(unix))]
fn private(_options: &mut OpenOptions) {}

/// Opens or creates a plain file that is nobody else's; a link put in its place is noticed.
fn open(path: &Path, writable: bool, new: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(writable).create_new(new);
    private(&mut options);
    if new {
        return options.open(path);
    }
    let before = fs::symlink_metadata(path)?;
    if before.is_symlink() {
        return Err(not_ours("it is a symbolic link: remove it"));
    }
    if !before.is_file() {
        return Err(not_ours("it is no plain file: remove it"));
    }
    if let Some(mode) = too_wide(&before) {
        return Err(not_ours(format!("others can read or write it (mode {mode:04o}): chmod 600 it")));
    }
    let file = options.open(path)?;
    match is_same(&before, &file.metadata()?) {
        true => Ok(file),
        false => Err(not_ours("it was replaced while it was opened: see who else writes to this directory")),
    }
}

impl Files for Directory {
    type File = File;

    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                found.push((name, fs::symlink_metadata(entry.path())?.len()));
            }
        }
        Ok(found)
    }

    fn create(&mut self, name: &str) -> io::Result<File> {
        open(&self.path.join(name), true, true)
    }

    fn open(&mut self, name: &str, writable: bool) -> io::Result<File> {
        open(&self.path.join(name), writable, false)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    #[cfg(unix)]
    fn sync_dir(&mut self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Windows has no such call; names are as durable as its file system makes them.
    #[cfg(not(unix))]
    fn sync_dir(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn read_at(&mut self, file: &mut File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        file.seek(SeekFrom::Start(offset))?;
        file.read(into)
    }

    fn write_at(&mut self, file: &mut File, offset: u64, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        file.seek(SeekFrom::Start(offset))?;
        file.write_vectored(parts)
    }

    fn sync(&mut self, file: &mut File) -> io::Result<()> {
        file.sync_data()
    }
}
