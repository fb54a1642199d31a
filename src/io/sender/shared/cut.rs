//! Positions, and the cuts that keep them exact.
//!
//! A record may say where it stands in its source. A *cut* seals the open batches of all queues at one moment and takes
//! each source's last position: whoever writes all of it as one group has a prefix of every source on disk.

use super::{Shared, Wait};
use crate::core::produce::accumulator::{PartitionQueue, Sealing};
use crate::error::SendCause;
use crate::sync::lock;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// What has to go to disk together.
#[derive(Default)]
pub(crate) struct Cut {
    /// The queues with sealed batches, and how many of them belong to the cut, from the front. Some may still be being
    /// compressed: [`PartitionQueue::take_sealed`] has them later.
    pub(crate) queues: Vec<(Arc<PartitionQueue>, usize)>,
    /// The last position of each source that has grown since the last cut.
    pub(crate) positions: Vec<(Arc<str>, u64)>,
}

/// The last position of each source.
#[derive(Default)]
pub(super) struct Sources {
    used: AtomicBool,
    by_name: RwLock<HashMap<Arc<str>, Mutex<Source>>>,
}

#[derive(Default)]
struct Source {
    last: Option<u64>,
    /// The last one is in a cut, or was recovered.
    cut: bool,
}

impl Sources {
    pub(super) fn new(recovered: &BTreeMap<Arc<str>, u64>) -> Sources {
        let source = |position: &u64| Mutex::new(Source { last: Some(*position), cut: true });
        let by_name = recovered.iter().map(|(name, position)| (name.clone(), source(position))).collect();
        Sources { used: AtomicBool::new(false), by_name: RwLock::new(by_name) }
    }

    /// Appends a record with a position: the position counts only if the record got in. Another record of the source waits
    /// meanwhile, so that no position overtakes a lower one.
    pub(super) fn advance<T>(
        &self,
        name: &str,
        position: u64,
        append: impl FnOnce() -> Result<T, Wait>,
    ) -> Result<T, Wait> {
        self.used.store(true, Ordering::Release);
        loop {
            {
                let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
                if let Some(source) = by_name.get(name) {
                    let mut source = lock(source);
                    if let Some(last) = source.last.filter(|last| position <= *last) {
                        let name = Arc::from(name);
                        return Err(Wait::Refused(SendCause::PositionNotGrowing { name, position, last }));
                    }
                    let appended = append()?;
                    *source = Source { last: Some(position), cut: false };
                    return Ok(appended);
                }
            }
            self.by_name.write().unwrap_or_else(PoisonError::into_inner).entry(Arc::from(name)).or_default();
        }
    }

    /// The last positions that no cut has yet.
    fn take_changed(&self) -> Vec<(Arc<str>, u64)> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        let changed = by_name.iter().filter_map(|(name, source)| {
            let mut source = lock(source);
            let last = source.last.filter(|_| !source.cut)?;
            source.cut = true;
            Some((name.clone(), last))
        });
        changed.collect()
    }
}

impl Shared {
    /// Whether any record had a position: from then on batches are taken by cuts only.
    pub(crate) fn uses_cuts(&self) -> bool {
        self.sources.used.load(Ordering::Acquire)
    }

    /// Seals everything accepted so far, at one moment for all queues and sources. For the sender alone: it takes nothing
    /// from the queues between this and the taking of what was cut.
    pub(crate) fn cut(&self) -> Cut {
        self.cut_with(|queue, sealing| queue.finish(sealing))
    }

    /// As [`Self::cut`], with the sealed batches finished by `finish`, perhaps on another thread.
    pub(crate) fn cut_with(&self, mut finish: impl FnMut(&Arc<PartitionQueue>, Sealing)) -> Cut {
        let mut sealings = Vec::new();
        let cut = {
            // Nobody is within `append` while this is held.
            let _topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
            let queues = lock(&self.queues);
            let mut cut = Cut { queues: Vec::new(), positions: self.sources.take_changed() };
            for queue in queues.iter() {
                let (sealing, sealed) = queue.seal();
                sealings.extend(sealing.map(|sealing| (queue.clone(), sealing)));
                if sealed > 0 {
                    cut.queues.push((queue.clone(), sealed));
                }
            }
            cut
        };
        for (queue, sealing) in sealings {
            finish(&queue, sealing);
        }
        cut
    }
}
