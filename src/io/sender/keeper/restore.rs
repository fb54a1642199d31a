//! The start: what the spool held becomes the windows' contents again.

use super::{Durable, Keeper, LOOK_EVERY, Told};
use crate::config::SpoolConfig;
use crate::core::produce::accumulator::{PartitionQueue, ReadyBatch, Token, UNPARTITIONED, never};
use crate::core::produce::window::{ProbeAnswer, Restored, Window, WindowConfig};
use crate::core::spool::plan::plan;
use crate::core::spool::{Group, Noted, Op, Recovered, Status, StoredBatch};
use crate::error::SpoolError;
use crate::io::clock::exact_millis;
use crate::io::sender::Sender;
use crate::io::spool::Spool;
use crate::types::{ProducerIdentity, TopicId, TopicPartition};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;

/// Opens a spool without blocking the caller.
pub(crate) async fn open(config: SpoolConfig) -> Result<(Spool, Recovered), SpoolError> {
    let path = config.directory.clone();
    let (give, take) = oneshot::channel();
    let opening = std::thread::Builder::new().name("indelible-spool-open".to_owned()).spawn(move || {
        let _ = give.send(Spool::open(&config));
    });
    match opening {
        Ok(_) => take.await.unwrap_or(Err(SpoolError::Closed)),
        Err(source) => Err(SpoolError::Io { path, what: "no thread to read it", source: Arc::new(source) }),
    }
}

/// Makes everything in the spool new records of this cluster: its producer ids are a stranger's here, or were given out a
/// second time since it was copied.
pub(crate) fn adopt(spool: &Spool, recovered: &mut Recovered, cluster: &Arc<str>) {
    tracing::warn!(
        from = recovered.cluster_id.as_deref(), to = %cluster, batches = recovered.batches.len(),
        "the spool is adopted: its records are sent to this cluster as new ones, also those that may be there already"
    );
    spool.write_later(Group { ops: vec![Op::Adopted(cluster.clone())] });
    recovered.cluster_id = Some(cluster.clone());
    recovered.identity = None;
    recovered.acknowledged.clear();
    recovered.topics.values_mut().for_each(|(id, _)| *id = TopicId::NONE);
    for batch in &mut recovered.batches {
        batch.stamp = None;
        batch.topic_id = TopicId::NONE;
    }
}

impl Keeper {
    /// Takes over what an opened spool told.
    pub(in crate::io::sender) fn new(
        spool: Spool,
        config: SpoolConfig,
        recovered: Recovered,
        waits: Token,
        now: Instant,
    ) -> Keeper {
        let mut found: HashMap<TopicPartition, Vec<StoredBatch>> = HashMap::new();
        for batch in recovered.batches {
            if matches!(batch.status, Status::Dead { .. }) {
                continue;
            }
            let partition = batch.target.partition().unwrap_or(UNPARTITIONED);
            found.entry(TopicPartition::new(batch.target.topic().clone(), partition)).or_default().push(batch);
        }
        Keeper {
            spool,
            next_id: recovered.next_id,
            next_order: recovered.next_order,
            cluster: recovered.cluster_id,
            foreign: None,
            topics: recovered.topics,
            found,
            waits: Some(waits),
            acknowledged: recovered.acknowledged,
            current: recovered.identity,
            recorded: recovered.identity.iter().map(|identity| (identity.id, identity.epoch)).collect(),
            stamps_in_doubt: recovered.stamps_in_doubt,
            opened_at: exact_millis(),
            config,
            outgoing: Group::default(),
            waiting: Durable::default(),
            later: Group::default(),
            loaded: Arc::default(),
            hungry: VecDeque::new(),
            urged: None,
            cut: None,
            cut_at: None,
            scattering: BTreeSet::new(),
            look_at: now + LOOK_EVERY,
            told: Told::default(),
        }
    }

    /// Under whom this process sends: the next epoch fences whoever still sends as the last one. None at the last epoch.
    pub(in crate::io::sender) fn identity(&self) -> Option<ProducerIdentity> {
        let current = self.current?;
        Some(ProducerIdentity { epoch: current.epoch.checked_add(1)?, ..current })
    }

    /// The partitions of which the spool has batches.
    pub(in crate::io::sender) fn found(&self) -> Vec<TopicPartition> {
        self.found.keys().cloned().collect()
    }

    /// The window of a partition, with what was found of it; where its log stood; and whether the leader need not be asked
    /// whether it knows this producer further than the spool does.
    pub(in crate::io::sender) fn window(
        &mut self,
        queue: &PartitionQueue,
        config: WindowConfig,
        now: Instant,
    ) -> (Window<ReadyBatch>, Option<Noted>, bool) {
        let partition = &queue.partition;
        // The probe for what was found tells as well.
        let is_first = self.identity().is_none();
        let acknowledged = self.acknowledged.get(partition).copied();
        let noted = acknowledged.map(|acknowledged| acknowledged.noted);
        let found = self.found.remove(partition).unwrap_or_default();
        if found.is_empty() {
            return (Window::new(config), noted, is_first);
        }
        let plan = plan(found, acknowledged.as_ref(), self.current, self.stamps_in_doubt);
        let revive = |batch: StoredBatch| {
            let mut batch = ReadyBatch::recovered(batch, never(now));
            if let Some(waits) = &self.waits {
                batch.set_live(waits.clone());
            }
            batch
        };
        let pending: Vec<ReadyBatch> = plan.unsent.into_iter().map(revive).collect();
        let Some(identity) = plan.identity else {
            let mut window = Window::new(config);
            pending.into_iter().for_each(|batch| window.push(batch));
            return (window, noted, is_first);
        };
        tracing::debug!(
            %partition,
            %identity,
            acknowledged = plan.acknowledged,
            newest = plan.acknowledged_newest,
            sent = ?plan.sent.iter().map(|(batch, stamp)| (stamp.map(|stamp| stamp.base_sequence), batch.max_timestamp)).collect::<Vec<_>>(),
            "restored"
        );
        let restored = Restored {
            identity,
            acknowledged: plan.acknowledged,
            acknowledged_newest: plan.acknowledged_newest,
            dead_since: self.opened_at,
            floor: self.current.map_or(0, |current| current.epoch.checked_add(1).unwrap_or(-1)),
            entries: plan
                .sent
                .into_iter()
                .map(|(batch, stamp)| (revive(batch), stamp.map(|stamp| stamp.base_sequence)))
                .collect(),
            pending,
        };
        (Window::restore(config, restored), noted, true)
    }
}

impl Sender {
    /// What a leader has of this producer before this process has sent it anything.
    pub(in crate::io::sender) fn on_first_asked(&mut self, id: usize, answer: ProbeAnswer) {
        let Some(part) = self.parts.get_mut(id) else { return };
        match (answer, self.identity) {
            (ProbeAnswer::Known { epoch, .. }, Some(identity)) if epoch >= identity.epoch => {
                let why = format!(
                    "the leader has epoch {epoch} of producer {}, which this spool never gave out: it was restored from a \
                     backup, or a copy of it is in use. Nothing of it is sent; open it with spool.adopt, or discard it",
                    identity.id
                );
                self.hold_from_first(id, &why);
            }
            _ => {
                part.asked = true;
                self.make_runnable(id);
            }
        }
    }

    /// Makes the parts of what was found, and has their leaders looked for.
    pub(in crate::io::sender) fn restore(&mut self) {
        let Some(keeper) = &self.keeper else { return };
        let found = keeper.found();
        if !found.is_empty() {
            tracing::info!(partitions = found.len(), "the spool has records that were not delivered");
        }
        for partition in &found {
            match usize::try_from(partition.partition) {
                Ok(index) => self.shared.add_partitions(&partition.topic, index + 1),
                Err(_) => drop(self.shared.unpartitioned_queue(&partition.topic)),
            }
            self.shared.ask_until_known(partition.topic.clone());
        }
        self.ensure_parts(usize::MAX);
        if let Some(keeper) = &mut self.keeper {
            keeper.waits = None;
        }
        for id in 0..self.parts.len() {
            self.make_runnable(id);
        }
    }
}
