//! What can be wrong with a spool.

use crate::config::ConfigError;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a spool cannot be used. Nothing in it was changed or lost by it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The operating system refused.
    #[error("spool {path:?}: {what}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The system's words.
        source: Arc<io::Error>,
    },
    /// Another process, or another producer of this one, has it.
    #[error(
        "spool {path:?} is in use by process {holder}: end that one first, or give each producer a spool of its own"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process id of the holder; `?` when it is not to be read.
        holder: String,
    },
    /// Something in its place is not a spool's: a symbolic link, a foreign file, permissions too wide.
    #[error("spool {path:?} is refused: {why}")]
    Refused {
        /// The file or directory.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// It was written by a newer version of this library.
    #[error("spool {path:?} has format version {found}, this version reads up to {known}: use a newer indelible")]
    NewerFormat {
        /// The segment.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version this one reads.
        known: u32,
    },
    /// Bytes of it are damaged.
    #[error("spool {path:?} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// It belongs to another cluster, where its producer ids are somebody else's.
    #[error(
        "the spool belongs to cluster {spool}, and this is cluster {cluster}: connect to the former, or set spool.adopt \
         to send its records here, where some may then be a second time"
    )]
    OtherCluster {
        /// The id the spool was written for.
        spool: Arc<str>,
        /// The id of the cluster connected to.
        cluster: Arc<str>,
    },
    /// The producer that had it open has ended.
    #[error("the spool was closed")]
    Closed,
}

/// Why a producer could not be made.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A setting does not fit.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its spool cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}
