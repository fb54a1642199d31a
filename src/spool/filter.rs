//! Which batches are meant.

use super::{Batch, BatchStatus};
use std::collections::BTreeSet;

/// Which batches are meant: those that any of its fields names. The default is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filter {
    /// The ones with these ids.
    pub ids: BTreeSet<u64>,
    /// All dead ones.
    pub dead: bool,
    /// All parked ones.
    pub parked: bool,
    /// All ready ones.
    pub ready: bool,
}

impl Filter {
    /// All batches.
    pub fn all() -> Filter {
        Filter { dead: true, parked: true, ready: true, ..Filter::default() }
    }

    /// The batches with these ids.
    pub fn ids(ids: impl IntoIterator<Item = u64>) -> Filter {
        Filter { ids: ids.into_iter().collect(), ..Filter::default() }
    }

    /// The dead batches.
    pub fn dead() -> Filter {
        Filter { dead: true, ..Filter::default() }
    }

    /// The parked batches.
    pub fn parked() -> Filter {
        Filter { parked: true, ..Filter::default() }
    }

    /// Whether it means this batch.
    pub fn takes(&self, batch: &Batch) -> bool {
        let by_status = match batch.status {
            BatchStatus::Ready => self.ready,
            BatchStatus::Parked { .. } => self.parked,
            BatchStatus::Dead { .. } => self.dead,
        };
        by_status || self.ids.contains(&batch.id)
    }
}
