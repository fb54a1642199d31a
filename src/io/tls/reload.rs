//! Files that are read again when they have changed.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use crate::config::{PemSource, TlsConfig};

/// How a file was when it was last read. Equal stamps: the content is taken to be the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Option<Seen>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    length: u64,
    modified: Option<SystemTime>,
    /// Device, inode, and when the inode changed: a file put in another's place, or made readable.
    identity: (u64, u64, i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Stamp {
        Stamp(fs::metadata(path).ok().map(|meta| Seen {
            length: meta.len(),
            modified: meta.modified().ok(),
            identity: identity(&meta),
        }))
    }
}

#[cfg(unix)]
fn identity(meta: &fs::Metadata) -> (u64, u64, i64, i64) {
    use std::os::unix::fs::MetadataExt;
    (meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec())
}

#[cfg(not(unix))]
fn identity(_: &fs::Metadata) -> (u64, u64, i64, i64) {
    (0, 0, 0, 0)
}

/// The files that `settings` names.
pub(super) fn files(settings: &TlsConfig) -> impl Iterator<Item = &Path> {
    let sources = settings.roots.iter().filter(|_| !settings.unverified);
    sources.chain(&settings.chain).chain(&settings.key).filter_map(|source| match source {
        PemSource::File(path) => Some(path.as_path()),
        PemSource::Text(_) => None,
    })
}

/// How the files are now. Taken before they are read: what changes in between is then read once more.
pub(super) fn stamps(settings: &TlsConfig) -> Vec<Stamp> {
    files(settings).map(Stamp::of).collect()
}
