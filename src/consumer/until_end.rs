//! Stopping a consumer where its logs end: for jobs that handle what is there and are done.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::admin::Admin;
use crate::config::ConsumerConfig;
use crate::error::ConsumeError;
use crate::io::cluster::Cluster;
use crate::io::inbox::{Assigned, Command, Inbox, Message, Stats, StopReason};
use crate::io::membership::{self, Subscription};
use crate::io::offsets::{self, EARLIEST, LATEST};
use crate::sync::lock;
use crate::types::TopicPartition;

/// How often the watermarks are compared with the ends.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often a member that has no partitions asks what the others have committed.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How long a topic that does not exist is looked for.
const MISSING_TOPIC: Duration = Duration::from_millis(500);

/// What is watched, and where.
pub(super) struct Watched {
    pub(super) cluster: Cluster,
    pub(super) config: Arc<ConsumerConfig>,
    pub(super) group: Option<Arc<str>>,
    pub(super) subscription: Subscription,
    pub(super) inbox: Arc<Inbox>,
    pub(super) stats: Arc<Stats>,
    pub(super) running: mpsc::WeakUnboundedSender<Command>,
}

impl Watched {
    /// Stops the consumer when all partitions that it has are handled up to where they ended when they were first seen.
    pub(super) async fn run(self) {
        // A look-up tries until it has all, whoever still waits for it.
        let gone = async {
            while self.running.upgrade().is_some() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            outcome = self.watch() => {
                self.inbox.push(outcome.map_or_else(Message::Failed, |()| Message::Stop(StopReason::End)));
            }
            () = gone => {}
        }
    }

    async fn watch(&self) -> Result<(), ConsumeError> {
        // The earlier they are looked up, the less a member chases records that come while it handles the others.
        let mut ends = self.ends(&self.subscribed().await).await?;
        let mut pause = LOOK_EVERY;
        loop {
            tokio::time::sleep(pause).await;
            pause = LOOK_EVERY;
            // None before the first assignment.
            let Some(assigned) = lock(&self.stats.assigned).clone() else { continue };
            if self.stats.beginning.load(Ordering::Acquire) > 0 {
                continue;
            }
            let unseen = |assigned: &&Arc<Assigned>| !ends.contains_key(&assigned.partition);
            let unseen: Vec<_> = assigned.iter().filter(unseen).map(|assigned| assigned.partition.clone()).collect();
            if !unseen.is_empty() {
                ends.extend(self.ends(&unseen).await?);
            }
            let reached = if assigned.is_empty() {
                // Between two assignments, or a spare member. What it has had may be unfinished, and come back to it.
                pause = ASK_EVERY;
                self.committed_to(&ends).await?
            } else {
                let is_done = |one: &Arc<Assigned>| {
                    ends.get(&one.partition).is_some_and(|end| lock(&one.watermark).handled() >= *end)
                };
                assigned.iter().all(is_done)
            };
            if reached {
                return Ok(());
            }
        }
    }

    /// All partitions that may be assigned, as far as is known.
    async fn subscribed(&self) -> Vec<TopicPartition> {
        let topics = match &self.subscription {
            Subscription::Topics(topics) => topics.clone(),
            Subscription::Pattern(pattern) => {
                let all = membership::all_topics(&self.cluster).await.unwrap_or_default();
                all.into_iter().filter(|topic| pattern.matches(topic)).collect()
            }
            Subscription::Partitions(partitions) => {
                return partitions.iter().map(|(partition, _)| partition.clone()).collect();
            }
        };
        let mut partitions = Vec::new();
        for topic in topics {
            // One that is missing is told by whoever reads it.
            let Ok(view) = self.cluster.topic(&topic, MISSING_TOPIC).await else { continue };
            let count = i32::try_from(view.partitions.len()).unwrap_or(i32::MAX);
            partitions.extend((0..count).map(|index| TopicPartition::new(topic.clone(), index)));
        }
        partitions
    }

    async fn ends(&self, partitions: &[TopicPartition]) -> Result<HashMap<TopicPartition, i64>, ConsumeError> {
        self.offsets(partitions, LATEST).await
    }

    async fn offsets(
        &self,
        partitions: &[TopicPartition],
        timestamp: i64,
    ) -> Result<HashMap<TopicPartition, i64>, ConsumeError> {
        let found = offsets::list(&self.cluster, partitions, timestamp, self.config.isolation).await?;
        Ok(found.into_iter().map(|(partition, (offset, _))| (partition, offset)).collect())
    }

    /// Whether the group has committed as far as the ends. Where nothing ever was, nothing needs to be.
    async fn committed_to(&self, ends: &HashMap<TopicPartition, i64>) -> Result<bool, ConsumeError> {
        let Some(group) = self.group.clone().filter(|_| !ends.is_empty()) else { return Ok(false) };
        let committed = match Admin::new(self.cluster.clone()).group_offsets(group).await {
            Ok(committed) => committed,
            Err(error) => {
                tracing::debug!(%error, "what the group has committed cannot be read; asked again");
                return Ok(false);
            }
        };
        let mut untouched = Vec::new();
        for (partition, end) in ends {
            match committed.get(partition) {
                Some(committed) if committed.offset >= *end => {}
                Some(_) => return Ok(false),
                None => untouched.push(partition.clone()),
            }
        }
        let first = self.offsets(&untouched, EARLIEST).await?;
        Ok(first.iter().all(|(partition, first)| ends.get(partition).is_some_and(|end| first >= end)))
    }
}
