//! Waiting until a spool is empty, and telling what is left of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indelible::Producer;
use indelible::spool::{BatchStatus, Inspection};

use crate::args::PolicyOptions;
use crate::config;
use crate::failure::Failure;
use crate::time::Stopwatch;

/// How often the spool is looked into at most, while records are not delivered.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A look takes longer the more there is; this is the part of the time that looking may take.
const LOOK_SHARE: u32 = 20;

/// What in a spool goes by itself, and what waits for a person.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    directory: PathBuf,
    /// Records that may be in their topic are sent again without asking.
    resends: bool,
    /// A dead batch holds its partition.
    dead_holds: bool,
}

impl Waiting {
    pub(crate) fn new(directory: &Path, policy: &PolicyOptions, properties: &config::Rest) -> Waiting {
        let set = |name: &str, value: &str| properties.get(name) == Some(value);
        let resends = set("spool.on.unknown", "resend") || policy.resends();
        Waiting { directory: directory.to_owned(), resends, dead_holds: set("spool.on.dead", "stop") }
    }

    /// Looks into the spool.
    pub(crate) fn rest(&self) -> Result<Rest, Failure> {
        let spool = indelible::spool::inspect(&self.directory).map_err(|error| Failure::spool(&error))?;
        Ok(self.count(&spool))
    }

    fn count(&self, spool: &Inspection) -> Rest {
        let mut rest = Rest::default();
        let mut held = BTreeSet::new();
        for batch in &spool.batches {
            let place = (batch.topic.as_str(), batch.partition);
            let is_held = held.contains(&place);
            match &batch.status {
                BatchStatus::Dead { .. } => rest.dead += batch.records,
                BatchStatus::Parked { unknown: true, .. } if !self.resends => rest.unknown += batch.records,
                _ if is_held => rest.held += batch.records,
                _ => rest.going += batch.records,
            }
            // One that is fenced, say, is only parked: why it does not go is worth telling too.
            if let (None, Some(reason)) = (&rest.reason, batch.status.reason()) {
                rest.reason = Some(format!("batch {} for {}: {reason}", batch.id, batch.topic));
            }
            let waits = match &batch.status {
                BatchStatus::Dead { .. } => self.dead_holds,
                BatchStatus::Parked { unknown, .. } => *unknown && !self.resends,
                _ => is_held,
            };
            if waits {
                held.insert(place);
            }
        }
        rest
    }
}

/// Records left in a spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rest {
    /// On their way.
    pub(crate) going: u64,
    /// Nobody can tell whether they are in the topic.
    pub(crate) unknown: u64,
    /// Behind one of those in their partition.
    pub(crate) held: u64,
    /// Refused for good.
    pub(crate) dead: u64,
    /// Why the first of those that wait for a person does.
    pub(crate) reason: Option<String>,
}

impl Rest {
    /// All of them.
    pub(crate) fn records(&self) -> u64 {
        self.going + self.unknown + self.held + self.dead
    }

    /// What is left and what to do about it. Dead records alone are told only when there are new ones: old ones have been.
    pub(crate) fn told(&self, any_dead: bool, waiting: &Waiting) -> Option<String> {
        let parts = [
            (self.going, "are not delivered yet"),
            (self.unknown, "may be in the topic or not"),
            (self.held, "wait behind those"),
            (self.dead, "were refused for good"),
        ];
        let only_dead = self.records() == self.dead;
        if self.records() == 0 || (only_dead && !any_dead) {
            return None;
        }
        let parts: Vec<String> =
            parts.iter().filter(|part| part.0 > 0).map(|(count, what)| format!("{count} {what}")).collect();
        let directory = waiting.directory.display();
        let mut told = format!("{} records are kept in the spool {directory}: {}", self.records(), parts.join(", "));
        if let Some(reason) = &self.reason {
            told.push_str(&format!(" ({reason})"));
        }
        if self.going > 0 {
            told.push_str(&format!(
                "; indelible spool deliver {directory} -b HOST:PORT sends them, as the next run does"
            ));
        }
        if self.unknown + self.dead > 0 {
            told.push_str(&format!("; see indelible spool list {directory}, then retry, export or discard them"));
        }
        Some(told)
    }
}

/// Waits for a producer that has a spool.
pub(crate) struct Delivery {
    producer: Producer,
    waiting: Waiting,
}

impl Delivery {
    pub(crate) fn new(producer: Producer, waiting: &Waiting) -> Delivery {
        Delivery { producer, waiting: waiting.clone() }
    }

    /// Ends when nothing in the spool goes by itself any more.
    pub(crate) async fn settled(self) -> Result<(), Failure> {
        let mut pause = LOOK_EVERY;
        let mut flushed = false;
        loop {
            // A flush ends when all is settled; it cannot when something waits for a person.
            tokio::select! {
                biased;
                () = self.producer.flush(), if !flushed => flushed = true,
                () = tokio::time::sleep(pause) => {}
            }
            let clock = Stopwatch::start();
            let waiting = self.waiting.clone();
            let rest = tokio::task::spawn_blocking(move || waiting.rest()).await;
            let rest = rest.map_err(|error| Failure::local(format!("the spool cannot be looked into: {error}")))??;
            if rest.going == 0 {
                return Ok(());
            }
            pause = LOOK_EVERY.max(clock.elapsed() * LOOK_SHARE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_records_of_old_are_not_told_again() {
        let waiting = Waiting { directory: "s".into(), resends: false, dead_holds: false };
        let dead = Rest { dead: 3, ..Rest::default() };
        assert_eq!(dead.told(false, &waiting), None);
        assert!(dead.told(true, &waiting).unwrap().contains("3 were refused for good"));
        assert_eq!(Rest::default().told(true, &waiting), None);
        let going = Rest { going: 2, ..Rest::default() };
        assert!(going.told(false, &waiting).unwrap().contains("indelible spool deliver s"));
    }
}
