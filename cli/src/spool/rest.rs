//! Waiting until a spool is empty, and telling what is left of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indelible::spool::{BatchStatus, Inspection};
use indelible::{Client, Producer, SpoolError};

use crate::args::PolicyOptions;
use crate::config;
use crate::failure::Failure;
use crate::table;
use crate::time::Stopwatch;

/// When the spool is looked into first, once all should be delivered: what it notes of that is written a little later.
const FIRST_LOOK: Duration = Duration::from_millis(60);
/// How often later on.
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
    /// Whatever cluster there is will do.
    adopts: bool,
}

impl Waiting {
    pub(crate) fn new(directory: &Path, policy: &PolicyOptions, properties: &config::Rest) -> Result<Waiting, Failure> {
        let resends = match policy.on_unknown {
            Some(_) => policy.resends(),
            None => properties.is("spool.on.unknown", "resend")?,
        };
        let dead_holds = properties.is("spool.on.dead", "stop")?;
        let adopts = policy.adopt || properties.is("spool.adopt", "true")?;
        Ok(Waiting { directory: directory.to_owned(), resends, dead_holds, adopts })
    }

    /// Looks into the spool.
    pub(crate) fn rest(&self) -> Result<Rest, Failure> {
        let spool = indelible::spool::inspect(&self.directory).map_err(|error| Failure::spool(&error))?;
        Ok(self.count(&spool))
    }

    fn count(&self, spool: &Inspection) -> Rest {
        let mut rest = Rest { cluster: spool.cluster_id.as_deref().map(Arc::from), ..Rest::default() };
        let (mut places, mut held) = (BTreeSet::new(), BTreeSet::new());
        for batch in &spool.batches {
            let place = (batch.topic.as_str(), batch.partition);
            if !batch.status.is_dead() || self.dead_holds {
                places.insert(place);
            }
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
        rest.partitions = places.len() as u64;
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
    /// Partitions that have any of them, dead ones aside unless they hold their partition.
    partitions: u64,
    /// The cluster that the spool belongs to.
    cluster: Option<Arc<str>>,
}

impl Rest {
    /// All of them.
    pub(crate) fn records(&self) -> u64 {
        self.going + self.unknown + self.held + self.dead
    }

    /// What is left and what to do about it. Dead records alone are told only when there are new ones: old ones have been.
    pub(crate) fn told(&self, any_dead: bool, waiting: &Waiting) -> Option<String> {
        let parts = [
            (self.going, "not delivered yet"),
            (self.unknown, "of which nobody can tell whether the topic has it"),
            (self.held, "behind one of those"),
            (self.dead, "refused for good"),
        ];
        let only_dead = self.records() == self.dead;
        if self.records() == 0 || (only_dead && !any_dead) {
            return None;
        }
        let parts: Vec<String> =
            parts.iter().filter(|part| part.0 > 0).map(|(count, what)| format!("{count} {what}")).collect();
        let directory = waiting.directory.display();
        let mut told = format!("the spool {directory} keeps {}: {}", table::records(self.records()), parts.join(", "));
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
    client: Client,
    producer: Producer,
    waiting: Waiting,
}

impl Delivery {
    pub(crate) fn new(client: &Client, producer: &Producer, waiting: &Waiting) -> Delivery {
        Delivery { client: client.clone(), producer: producer.clone(), waiting: waiting.clone() }
    }

    /// Ends when nothing in the spool goes by itself any more.
    pub(crate) async fn settled(self) -> Result<(), Failure> {
        // A flush ends when all is settled, or parked after many attempts. Not when something waits for a person.
        let mut flush = std::pin::pin!(self.producer.flush());
        let (mut flushed, mut pause) = (false, LOOK_EVERY);
        loop {
            tokio::select! {
                biased;
                () = &mut flush, if !flushed => {
                    (flushed, pause) = (true, FIRST_LOOK);
                    continue;
                }
                () = tokio::time::sleep(pause) => {}
            }
            let metrics = self.client.metrics();
            // The figures may be a second old, so what a flush has just brought about is looked at more closely.
            let is_news = flushed && pause < LOOK_EVERY;
            let mut cost = Duration::ZERO;
            if is_news || metrics.spool_held > 0 || flushed && metrics.spool_records == 0 {
                let clock = Stopwatch::start();
                let rest = self.look().await?;
                if rest.going == 0 || metrics.spool_held >= rest.partitions {
                    return Ok(());
                }
                cost = clock.elapsed() * if is_news { 1 } else { LOOK_SHARE };
            }
            pause = (pause * 2).min(LOOK_EVERY).max(cost);
        }
    }

    async fn look(&self) -> Result<Rest, Failure> {
        let waiting = self.waiting.clone();
        let rest = tokio::task::spawn_blocking(move || waiting.rest()).await;
        let rest = rest.map_err(|error| Failure::local(format!("the spool cannot be looked into: {error}")))??;
        match (&rest.cluster, self.client.cluster_id()) {
            (Some(spool), Some(cluster)) if *spool != cluster && !self.waiting.adopts => {
                Err(Failure::spool(&SpoolError::OtherCluster { spool: spool.clone(), cluster }))
            }
            _ => Ok(rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_records_of_old_are_not_told_again() {
        let waiting = Waiting { directory: "s".into(), resends: false, dead_holds: false, adopts: false };
        let dead = Rest { dead: 3, ..Rest::default() };
        assert_eq!(dead.told(false, &waiting), None);
        assert!(dead.told(true, &waiting).unwrap().contains("keeps 3 records: 3 refused for good"));
        assert_eq!(Rest::default().told(true, &waiting), None);
        let going = Rest { going: 2, ..Rest::default() };
        assert!(going.told(false, &waiting).unwrap().contains("indelible spool deliver s"));
    }
}
