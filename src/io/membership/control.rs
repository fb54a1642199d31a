//! What the application asks of a running consumer: to hold partitions, and to go on elsewhere in them.
//!
//! A seek gives the partition a new assignment epoch, as if it had been taken away and given back: what is fetched or with
//! handlers belongs to the old one and has no effect any more. Until the new place is known the old one goes on.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::{Event, Membership};
use crate::core::consume::watermark::Watermark;
use crate::error::{ConsumeError, ControlError};
use crate::io::fetcher::FetchCommand;
use crate::io::inbox::{Assigned, ControlReply, Message};
use crate::io::offsets::{self, SeekTo, Start};
use crate::sync::lock;
use crate::types::{TopicId, TopicPartition};

/// What was asked for and is in force, or under way.
#[derive(Default)]
pub(super) struct Control {
    paused: HashSet<TopicPartition>,
    /// The newest seek of each partition: an older one whose place is found later must not undo it.
    seeks: HashMap<TopicPartition, u64>,
    number: u64,
    /// Look-ups of places; they end with the membership.
    look_ups: JoinSet<()>,
    /// When commits of partitions by hand were renewed last.
    renewed: Option<Instant>,
}

/// How often what is committed for partitions assigned by hand is committed again, although nothing was handled. To brokers
/// that is a group without members: `offsets.retention.minutes` after an offset was committed they forget it, and after a
/// restart the partition would begin anew. What a group with members has committed lives as long as they do.
const RENEW: Duration = Duration::from_secs(3600);

/// A seek whose place is known, or cannot be.
pub(super) struct Sought {
    partition: TopicPartition,
    number: u64,
    place: Result<i64, ConsumeError>,
    reply: ControlReply,
}

impl Membership {
    /// Has all be committed again that was for a long time not, if brokers would forget it.
    pub(super) fn renew_commits(&mut self, now: Instant) {
        let renewed = *self.control.renewed.get_or_insert(now);
        if self.group.is_none() && now.saturating_duration_since(renewed) >= RENEW {
            self.control.renewed = Some(now);
            self.assigned.iter().for_each(|assigned| lock(&assigned.watermark).renew());
        }
    }

    /// Holds partitions back, or lets them go on. All of them or none.
    pub(super) fn pause(&mut self, partitions: Vec<TopicPartition>, paused: bool, reply: ControlReply) {
        if let Err(error) = partitions.iter().try_for_each(|partition| self.controllable(partition)) {
            let _ = reply.send(Err(error));
            return;
        }
        let named = |assigned: &&Arc<Assigned>| partitions.contains(&assigned.partition);
        let begun: Vec<Arc<Assigned>> = self.assigned.iter().filter(named).cloned().collect();
        if paused {
            self.control.paused.extend(partitions);
        } else {
            partitions.iter().for_each(|partition| {
                self.control.paused.remove(partition);
            });
        }
        self.set_paused(begun, paused);
        let _ = reply.send(Ok(()));
    }

    fn set_paused(&self, begun: Vec<Arc<Assigned>>, paused: bool) {
        for assigned in &begun {
            assigned.paused.store(paused, Ordering::Release);
            if !paused {
                self.context.inbox.push(Message::Resume(assigned.partition.clone()));
            }
        }
        let command = if paused { FetchCommand::Pause(begun) } else { FetchCommand::Resume(begun) };
        let _ = self.context.fetcher.send(command);
    }

    /// Goes on at another place.
    pub(super) fn seek(&mut self, partition: TopicPartition, to: SeekTo, reply: ControlReply) {
        let refused = match to {
            SeekTo::Offset(offset @ ..0) => Some(ControlError::Offset { partition: partition.clone(), offset }),
            _ => self.controllable(&partition).err(),
        };
        if let Some(error) = refused {
            let _ = reply.send(Err(error));
            return;
        }
        self.control.number += 1;
        let number = self.control.number;
        self.control.seeks.insert(partition.clone(), number);
        if let SeekTo::Offset(offset) = to {
            return self.on_sought(Sought { partition, number, place: Ok(offset), reply });
        }
        let (cluster, isolation) = (self.context.cluster.clone(), self.context.config.isolation);
        let events = self.events.clone();
        while self.control.look_ups.try_join_next().is_some() {}
        self.control.look_ups.spawn(async move {
            let found = offsets::look_up(&cluster, std::slice::from_ref(&partition), to, isolation).await;
            let place = found.map(|found| found.get(&partition).copied().unwrap_or(0));
            let _ = events.send(Event::Sought(Sought { partition, number, place, reply }));
        });
    }

    pub(super) fn on_sought(&mut self, sought: Sought) {
        let Sought { partition, number, place, reply } = sought;
        let _ = reply.send(self.begin_at(partition, number, place));
    }

    fn begin_at(
        &mut self,
        partition: TopicPartition,
        number: u64,
        place: Result<i64, ConsumeError>,
    ) -> Result<(), ControlError> {
        self.controllable(&partition)?;
        match self.control.seeks.get(&partition) {
            Some(newest) if *newest == number => {}
            // It was done, and then undone by the later one.
            Some(_) => return Ok(()),
            // The partition was given back, and perhaps came again.
            None => return Err(ControlError::NotAssigned { partition }),
        }
        let offset = match place {
            Ok(offset) => offset,
            Err(error) => return Err(ControlError::LookUp { partition, error: Box::new(error) }),
        };
        let topic_id = self.context.cluster.view().topic(&partition.topic).map_or(TopicId::NONE, |topic| topic.id);
        tracing::info!(%partition, offset, "the application goes on at another place");
        let old: Vec<Arc<Assigned>> = self.assigned.extract_if(.., |old| old.partition == partition).collect();
        for old in &old {
            old.revoke();
            lock(&old.watermark).close();
        }
        let _ = self.context.fetcher.send(FetchCommand::End(old.clone()));
        // Nobody waits for its handlers: what they do has no effect.
        let (tell, _) = oneshot::channel();
        self.context.inbox.push(Message::Revoke(old, tell));
        self.epoch.0 += 1;
        self.owned.insert(partition.clone(), self.epoch);
        self.begin(vec![Start::at(partition, topic_id, offset)]);
        Ok(())
    }

    /// Hands partitions to the fetcher and to the future that runs handlers, under the epochs they are owned under.
    pub(super) fn begin(&mut self, starts: Vec<Start>) {
        let plain = !self.context.config.commit_metadata || self.committer.as_ref().is_some_and(|c| c.is_plain());
        let mut fetched = Vec::with_capacity(starts.len());
        let mut held = Vec::new();
        for Start { partition, topic_id, offset, leader_epoch, committed, done } in starts {
            let Some(epoch) = self.owned.get(&partition).copied() else { continue };
            let mut watermark = Watermark::new(partition.clone(), epoch, offset, leader_epoch, committed);
            watermark = watermark.restored(topic_id, done);
            if plain {
                watermark.commit_plainly();
            }
            let assigned = Arc::new(Assigned::new(partition, epoch, watermark));
            if self.control.paused.contains(&assigned.partition) {
                assigned.paused.store(true, Ordering::Release);
                held.push(assigned.clone());
            }
            self.context.inbox.push(Message::Assign(assigned.clone()));
            self.assigned.push(assigned.clone());
            fetched.push((assigned, offset, leader_epoch));
        }
        self.publish();
        self.context.stats.activity.add(1);
        let _ = self.context.fetcher.send(FetchCommand::Start(fetched));
        if !held.is_empty() {
            let _ = self.context.fetcher.send(FetchCommand::Pause(held));
        }
    }

    /// Shows what is assigned.
    pub(super) fn publish(&self) {
        self.count_beginning();
        *lock(&self.context.stats.assigned) = Some(self.assigned.clone());
    }

    /// Shows how many partitions are ours and wait for their starting points.
    pub(super) fn count_beginning(&self) {
        let begun: HashSet<&TopicPartition> = self.assigned.iter().map(|assigned| &assigned.partition).collect();
        let beginning = self.owned.keys().filter(|owned| !begun.contains(owned)).count();
        self.context.stats.beginning.store(beginning, Ordering::Release);
    }

    /// What was asked for these ends with their assignment.
    pub(super) fn forget_control(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.control.paused.remove(partition);
            self.control.seeks.remove(partition);
        }
    }

    fn controllable(&self, partition: &TopicPartition) -> Result<(), ControlError> {
        if self.finishing.is_some() {
            return Err(ControlError::Stopped);
        }
        let owned = self.owned.contains_key(partition);
        if owned { Ok(()) } else { Err(ControlError::NotAssigned { partition: partition.clone() }) }
    }
}
