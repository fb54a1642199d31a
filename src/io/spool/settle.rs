//! What is done once after reading a spool, so that it can be built on. All of it can be repeated: nothing that was found
//! is overwritten, and what is decided is durable before anybody acts on it.

use super::engine::{Engine, Failed};
use super::files::Files;
use super::scan::Found;
use crate::core::spool::Damage;
use crate::core::spool::format::{Entry, SetAside};
use crate::error::SpoolError;

impl<F: Files> Engine<F> {
    /// Syncs what the last process wrote and did not sync, sets damaged places aside, and notes durably that they are.
    pub(super) fn settle(&mut self, damage: Vec<Found>) -> Result<Vec<Damage>, SpoolError> {
        if let Some(last) = self.segments.values().next_back() {
            let mut file = self.disk.open(&last.name, true)?;
            self.disk.sync(&last.name, &mut file)?;
        }
        let dropped: Vec<u64> = self.state.dropped().keys().copied().collect();
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
