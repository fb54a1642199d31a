//! The window's batches as their owner sees them, who keeps them on disk or in memory.

use super::{EntryId, Next, Stampable, State, Window};

impl<B: Stampable> Window<B> {
    /// Stamps one batch more ahead of its turn, if it may: as [`Next::Save`], without asking what else could be done.
    pub(crate) fn save_next(&mut self) -> Option<EntryId> {
        self.finish_closing();
        self.identity?;
        match self.save_ahead()? {
            Next::Save(id) => Some(id),
            _ => None,
        }
    }

    /// How often a batch was sent under its stamp, this time included; 0 when it was settled meanwhile.
    pub(crate) fn attempts(&self, id: EntryId) -> u32 {
        self.entries.iter().find(|entry| entry.id == id).map_or(0, |entry| entry.attempts)
    }

    /// All batches that are not just being sent, in order.
    pub(crate) fn idle_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut B> {
        let entries = self.entries.iter_mut().filter(|entry| entry.state != State::InFlight);
        entries.filter_map(|entry| entry.batch.as_mut()).chain(&mut self.pending)
    }

    /// The batches that are stamped, with their first sequence.
    pub(crate) fn stamped_mut(&mut self) -> impl Iterator<Item = (&mut B, i32)> {
        self.entries.iter_mut().filter_map(|entry| Some((entry.batch.as_mut()?, entry.first)))
    }

    /// Takes out the next batch that is not stamped.
    pub(crate) fn pop_pending(&mut self) -> Option<B> {
        self.pending.pop_front()
    }
}
