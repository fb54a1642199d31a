//! What is done once after reading a spool, so that it can be built on. All of it can be repeated: nothing that was found
//! is overwritten, and what is decided is durable before anybody acts on it.

use super::engine::{Engine, Failed};
use super::files::Files;
use super::scan::Found;
use crate::core::spool::Damage;
use crate::core::spool::format::{Entry, SetAside};
use crate::error::SpoolError;
use std::io::IoSlice;

/// How much is written again at once.
const PART: u64 = 1 << 20;

impl<F: Files> Engine<F> {
    /// What was read may be in memory only, and if a sync of the last process failed, the system takes it for written: a
    /// sync alone would do nothing. So whatever no later group proves to have been synced is written again as it is.
    fn write_unproven(&mut self) -> Result<(), SpoolError> {
        for segment in self.segments.values_mut().filter(|segment| segment.synced < segment.end) {
            let mut file = self.disk.open(&segment.name, true)?;
            let mut at = segment.synced;
            while at < segment.end {
                let mut part = vec![0; (segment.end - at).min(PART) as usize];
                let len = self.disk.read(&segment.name, &mut file, at, &mut part)?;
                let part = part.get(..len).filter(|part| !part.is_empty());
                let Some(part) = part else { break };
                self.disk.write(&segment.name, &mut file, at, &mut [IoSlice::new(part)])?;
                at += len as u64;
            }
            self.disk.sync(&segment.name, &mut file)?;
            segment.synced = segment.end;
        }
        self.disk.sync_dir()
    }

    /// Syncs what the last process wrote and did not sync, sets damaged places aside, and notes durably that they are.
    pub(super) fn settle(&mut self, damage: Vec<Found>) -> Result<Vec<Damage>, SpoolError> {
        self.write_unproven()?;
        let dropped: Vec<u64> = self.state.dropped().iter().copied().collect();
        for sequence in dropped {
            if let Some(file) = self.segments.remove(&sequence) {
                self.doomed.push(file.name);
            }
        }
        let mut told = Vec::with_capacity(damage.len());
        for found in damage {
            let set_aside = if found.name.is_empty() {
                None
            } else {
                Some(self.quarantine(&found.name, found.place, found.len)?)
            };
            let doubt_below = if found.doubt { self.state.next_id().max(1) } else { 0 };
            let known = SetAside { place: found.place, len: found.len, doubt_below, number: self.number };
            self.state.apply(&Entry::SetAside(known), found.place, 0, 0);
            tracing::error!(
                file = found.name,
                offset = found.place.offset,
                len = found.len,
                copy = set_aside,
                "the spool is damaged: {}",
                found.what
            );
            let Found { name, place, len, what, .. } = found;
            told.push(Damage { file: name, offset: place.offset, len, what, set_aside });
        }
        if !told.is_empty() {
            // The new segment's beginning holds what was decided.
            self.rotate(0).map_err(|failed| match failed {
                Failed::Write(error) | Failed::Sync(error) => error,
            })?;
        }
        Ok(told)
    }
}
