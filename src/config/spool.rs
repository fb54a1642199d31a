//! Settings of a spool.

use super::ConfigError;
use std::path::PathBuf;
use std::time::Duration;

/// What accepted records survive, from the moment `Receipt::spooled` resolves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Nothing beyond the process. With a spool directory: records go to disk when their retries are used up, when memory
    /// is full, and when the producer is closed (*overflow*).
    Memory,
    /// The death of the process, `kill -9` included: written, not synced.
    ProcessCrash,
    /// A power cut: synced (fdatasync). The default.
    #[default]
    PowerLoss,
}

/// What to do with a batch of which nobody can tell whether it is in the topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnUnknown {
    /// Keep it, and what comes after it in its partition, until a person decides (`indelible spool retry`).
    #[default]
    Park,
    /// Send it again: it may then be there twice.
    Resend,
}

/// What becomes of a partition of which a batch was refused for good. The batch is kept as dead either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnDead {
    /// The others go on without it.
    #[default]
    Continue,
    /// What comes after it waits until a person decides.
    Stop,
}

/// A producer's spool.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpoolConfig {
    /// Its directory, made (mode 0700) when it is not there. One producer at a time has it.
    pub directory: PathBuf,
    /// `spool.durability`: what accepted records survive. Default [`Durability::PowerLoss`].
    pub durability: Durability,
    /// `spool.max.bytes`: the most it takes on disk, in bytes. Default 10 GiB. When it is full `send` waits, then fails;
    /// nothing is dropped.
    pub max_bytes: u64,
    /// `spool.segment.bytes`: the size of its files. Default 64 MiB.
    pub segment_bytes: u64,
    /// `spool.rescan.ms`: how often parked batches are looked at again at the latest. Default 5 min.
    pub rescan: Duration,
    /// `spool.on.unknown`. Default [`OnUnknown::Park`].
    pub on_unknown: OnUnknown,
    /// `spool.on.dead`. Default [`OnDead::Continue`].
    pub on_dead: OnDead,
    /// `spool.scan.max.bytes`: how much of a log is read to find out whether a batch is in it. Default 1 GiB.
    pub scan_max_bytes: u64,
    /// `spool.adopt`: deliver to whatever cluster and topics there are, although the spool was written for others, or is
    /// older than what its producer wrote. All of it is sent as new, so what had been delivered but not noted is written
    /// again: set it for one run. Default false.
    pub adopt: bool,
}

impl SpoolConfig {
    /// A spool in `directory` with the defaults.
    pub fn new(directory: impl Into<PathBuf>) -> SpoolConfig {
        SpoolConfig {
            directory: directory.into(),
            durability: Durability::default(),
            max_bytes: 10 << 30,
            segment_bytes: 64 << 20,
            rescan: Duration::from_secs(5 * 60),
            on_unknown: OnUnknown::default(),
            on_dead: OnDead::default(),
            scan_max_bytes: 1 << 30,
            adopt: false,
        }
    }

    /// Whether batches are written before they are sent, and not only when they overflow.
    pub(crate) fn is_write_ahead(&self) -> bool {
        self.durability != Durability::Memory
    }

    /// Checks what no single setting shows.
    ///
    /// # Errors
    /// [`ConfigError::Conflict`] naming the settings.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.directory.as_os_str().is_empty() {
            return Err(ConfigError::Conflict("spool.dir is not set: name the spool's directory".to_owned()));
        }
        if self.max_bytes < self.segment_bytes.saturating_mul(3) {
            return Err(ConfigError::Conflict(
                "spool.max.bytes is below three times spool.segment.bytes: it could not reclaim space; raise it"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}
