//! Fetch sessions (KIP-227): what a client fetches is remembered by the broker, so that requests name only changes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI32, Ordering};

/// One partition of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) topic: String,
    pub(crate) topic_id: uuid::Uuid,
    pub(crate) partition: i32,
    pub(crate) current_leader_epoch: i32,
    pub(crate) last_fetched_epoch: i32,
    pub(crate) fetch_offset: i64,
    pub(crate) max_bytes: usize,
}

/// What was last told about a partition; an incremental answer names it again only when this changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Told {
    pub(crate) high_watermark: i64,
    pub(crate) log_start: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Session {
    /// Epoch that the next request must carry.
    pub(crate) next_epoch: i32,
    /// In the order in which the client named them, those behind that were served.
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) told: BTreeMap<(uuid::Uuid, String, i32), Told>,
}

impl Session {
    /// Adds a partition, or changes what is wanted of it.
    pub(crate) fn want(&mut self, wanted: Wanted) {
        let place = self.wanted.iter().position(|known| known.key() == wanted.key());
        match place {
            Some(at) => self.wanted[at] = wanted,
            None => self.wanted.push(wanted),
        }
    }

    /// Puts those that were served behind the others, so that each has its turn.
    pub(crate) fn serve(&mut self, served: &[(uuid::Uuid, String, i32)]) {
        let (behind, before) =
            std::mem::take(&mut self.wanted).into_iter().partition(|one| served.contains(&one.key()));
        self.wanted = before;
        self.wanted.extend::<Vec<Wanted>>(behind);
    }

    pub(crate) fn forget(&mut self, topic: &str, topic_id: uuid::Uuid, partition: i32) {
        let same = |known: &Wanted| {
            known.partition == partition && ((!topic.is_empty() && known.topic == topic) || known.topic_id == topic_id)
        };
        self.wanted.retain(|known| !same(known));
        self.told.retain(|key, _| self.wanted.iter().any(|known| known.key() == *key));
    }
}

impl Wanted {
    pub(crate) fn key(&self) -> (uuid::Uuid, String, i32) {
        (self.topic_id, self.topic.clone(), self.partition)
    }
}

/// The sessions of one broker; a restart forgets them.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub(crate) by_id: BTreeMap<i32, Session>,
}

/// Ids are unique among all brokers, so that one names its broker.
static LAST_ID: AtomicI32 = AtomicI32::new(0);

impl Sessions {
    /// `max.incremental.fetch.session.cache.slots` of a real broker; beyond it requests stay without a session.
    const SLOTS: usize = 1000;

    /// A new session, or `None` when there is no room.
    pub(crate) fn open(&mut self, session: Session) -> Option<i32> {
        if self.by_id.len() >= Self::SLOTS {
            return None;
        }
        let id = LAST_ID.fetch_add(1, Ordering::Relaxed) + 1;
        self.by_id.insert(id, session);
        Some(id)
    }
}

/// The epoch after this one; 0 and -1 have meanings of their own and are left out.
pub(crate) fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}
