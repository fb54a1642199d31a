//! The thread that owns the engine: takes what waits, commits it as one, tells those who wait.

use super::engine::Engine;
use super::files::Files;
use super::room::{Room, weight};
use super::{Then, ThenRead};
use crate::core::spool::{BatchId, Group, Op};
use crate::error::SpoolError;
use crate::wire::batch::SealedBatch;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long what nobody waits for may wait.
const LATER: Duration = Duration::from_millis(50);
/// How long written bytes may stay unsynced when nothing asks for a sync.
const UNSYNCED: Duration = Duration::from_secs(1);
/// How long after an error of the disk it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often it is tried at the end before what was never durable is given up.
const LAST_TRIES: u32 = 10;
/// What goes into one group at most, in bytes, when a single one is not larger. Small beside a segment, whose end it may
/// not fit into.
const GROUP: u64 = 4 << 20;
/// After so many commits without an idle moment space is reclaimed all the same.
const BUSY: u32 = 64;

/// What the thread is asked for.
pub(super) enum Ask {
    Write(Group, Option<Then>),
    Read(BatchId, Answer),
    Close(oneshot::Sender<()>),
}

/// Whom to answer; dropped without, it says that the spool was closed.
pub(super) struct Answer(Option<ThenRead>);

impl Answer {
    pub(super) fn new(then: ThenRead) -> Answer {
        Answer(Some(then))
    }

    fn give(mut self, read: Result<SealedBatch, SpoolError>) {
        if let Some(then) = self.0.take() {
            then(read);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(then) = self.0.take() {
            then(Err(SpoolError::Closed));
        }
    }
}

/// The thread's state.
pub(super) struct Thread<F: Files> {
    engine: Engine<F>,
    asked: Receiver<Ask>,
    room: Arc<Room>,
    waiting: Vec<Group>,
    thens: Vec<Then>,
    /// Of `waiting`, in bytes.
    weight: u64,
    /// When what waits is to be written.
    due: Option<Instant>,
    unsynced_since: Option<Instant>,
    troubled: bool,
    /// There may be space to be reclaimed.
    untidy: bool,
    /// Commits since space was last looked for.
    commits: u32,
}

impl<F: Files> Thread<F> {
    pub(super) fn new(engine: Engine<F>, asked: Receiver<Ask>, room: Arc<Room>) -> Thread<F> {
        Thread {
            engine,
            asked,
            room,
            waiting: Vec::new(),
            thens: Vec::new(),
            weight: 0,
            due: None,
            unsynced_since: None,
            troubled: false,
            untidy: false,
            commits: 0,
        }
    }

    /// Runs until it is closed or the last handle is gone.
    pub(super) fn run(mut self) {
        let ended = loop {
            let asked = match self.wait() {
                None => self.asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => self.asked.recv_timeout(wait),
            };
            let end = match asked {
                Ok(ask) => self.take_all(ask),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(None),
            };
            if let Some(ended) = end {
                break ended;
            }
            self.work();
        };
        self.finish();
        let Thread { engine, asked, room, .. } = self;
        room.close();
        // The lock goes with it.
        drop((engine, asked));
        if let Some(ended) = ended {
            let _ = ended.send(());
        }
    }

    /// How long to wait for the next ask; none for as long as it takes.
    fn wait(&self) -> Option<Duration> {
        if self.untidy && !self.troubled {
            return Some(Duration::ZERO);
        }
        let unsynced = self.unsynced_since.map(|since| since + UNSYNCED);
        let due = [self.due, unsynced].into_iter().flatten().min()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Takes `ask` and those behind it, as many as go into one group. Some when it is to end, with whom to tell.
    fn take_all(&mut self, ask: Ask) -> Option<Option<oneshot::Sender<()>>> {
        let mut next = Some(ask);
        while let Some(ask) = next {
            match ask {
                Ask::Write(group, then) => self.take(group, then),
                Ask::Read(id, answer) => self.read(id, answer),
                Ask::Close(ended) => return Some(Some(ended)),
            }
            next = if self.weight < GROUP || self.troubled { self.asked.try_recv().ok() } else { None };
        }
        None
    }

    fn take(&mut self, group: Group, then: Option<Then>) {
        let now = Instant::now();
        self.weight += weight(&group);
        self.waiting.push(group);
        if !self.troubled {
            let due = if then.is_some() { now } else { now + LATER };
            self.due = Some(self.due.map_or(due, |other| other.min(due)));
        }
        self.thens.extend(then);
    }

    /// What still waits is answered from memory.
    fn read(&mut self, id: BatchId, answer: Answer) {
        let waiting = self.waiting.iter().flat_map(|group| &group.ops).find_map(|op| match op {
            Op::Batch(batch) if batch.id == id => Some(batch.sealed.clone()),
            _ => None,
        });
        match waiting {
            Some(sealed) => answer.give(Ok(sealed)),
            None => answer.give(self.engine.read(id)),
        }
    }

    /// Does what is due, and tidies up when nothing is.
    fn work(&mut self) {
        let now = Instant::now();
        if self.due.is_some_and(|due| due <= now) {
            self.commit();
            self.commits += 1;
            if self.commits >= BUSY && !self.troubled {
                self.tidy();
            }
        } else if self.unsynced_since.is_some_and(|since| since + UNSYNCED <= now) {
            self.unsynced_since = None;
            if let Err(error) = self.engine.sync() {
                tracing::warn!(%error, "the spool could not be synced; it is tried again");
                self.unsynced_since = Some(now);
            }
        } else if self.untidy && !self.troubled {
            self.tidy();
        }
    }

    fn commit(&mut self) {
        self.due = None;
        match self.engine.commit(&self.waiting) {
            Ok(()) => {
                if self.troubled {
                    self.troubled = false;
                    tracing::info!("the spool is written again");
                    self.room.trouble(None);
                }
                self.waiting.clear();
                self.room.unqueue(std::mem::take(&mut self.weight));
                self.room.update(self.engine.usage());
                self.untidy = true;
                if self.engine.is_unsynced() {
                    self.unsynced_since.get_or_insert_with(Instant::now);
                } else {
                    self.unsynced_since = None;
                }
                self.thens.drain(..).for_each(|then| then());
            }
            Err(error) => {
                if !self.troubled {
                    tracing::warn!(%error, "the spool cannot be written; it is tried again every second");
                }
                self.troubled = true;
                self.room.trouble(Some(Arc::from(error.to_string())));
                self.due = Some(Instant::now() + RETRY);
            }
        }
    }

    fn tidy(&mut self) {
        self.commits = 0;
        match self.engine.maintain() {
            Ok(more) => self.untidy = more,
            Err(error) => {
                self.untidy = false;
                tracing::warn!(%error, "space in the spool could not be reclaimed; it is tried again");
            }
        }
        self.room.update(self.engine.usage());
    }

    /// Writes what waits, at most for a while: what is not durable then was never said to be.
    fn finish(&mut self) {
        for left in (0..LAST_TRIES).rev() {
            if !self.waiting.is_empty() {
                self.commit();
            }
            if self.waiting.is_empty() {
                match self.engine.sync() {
                    Ok(()) => return,
                    Err(error) => tracing::warn!(%error, "the spool could not be synced at its end"),
                }
            }
            if left > 0 {
                std::thread::sleep(RETRY);
            }
        }
        let groups = self.waiting.len();
        tracing::error!(groups, "the spool was closed although the disk could not be written: what waited is lost");
    }
}
