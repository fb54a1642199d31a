//! Sending what watermarks allow to be committed, and nothing else.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::core::consume::group::Generation;
use crate::core::consume::watermark::Committable;
use crate::core::verdict::group::{CommitVerdict, commit as verdict};
use crate::error::ConsumeError;
use crate::io::cluster::{Cluster, Lane};
use crate::io::inbox::{Assigned, Stats};
use crate::sync::lock;
use crate::types::TopicPartition;
use crate::wire::ErrorCode;
use crate::wire::requests::find_coordinator::CoordinatorType;
use crate::wire::requests::offset_commit::{OffsetCommitPartition, OffsetCommitRequest};

/// How commits reach the coordinator.
#[derive(Clone)]
pub(super) struct Committer {
    pub(super) cluster: Cluster,
    pub(super) group: Arc<str>,
    pub(super) instance_id: Option<String>,
    pub(super) lane: Lane,
    pub(super) stats: Arc<Stats>,
    /// One commit at a time: an older one that is repeated must not overtake a newer one.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    /// The broker takes no metadata as long as ours.
    pub(super) plain: Arc<AtomicBool>,
    /// The member's newest generation, or epoch of KIP-848. It changes while partitions stay, and commits go on under it.
    pub(super) newest: Arc<Mutex<Option<Generation>>>,
}

/// A commit that did not go through.
#[derive(Clone, Debug)]
pub(super) struct CommitFailure {
    /// The code, when the coordinator says that this member is not (or not in this generation) of the group.
    pub(super) fenced: Option<ErrorCode>,
    /// The generation that the request named.
    pub(super) generation: Option<Generation>,
    /// It will be refused however often it is sent.
    pub(super) hopeless: bool,
    /// It is sent again at once, without metadata.
    at_once: bool,
    /// All that it lacks is of topics that the metadata does not have any more either.
    gone: bool,
    pub(super) reason: String,
    pub(super) uncommitted: Vec<(TopicPartition, i64)>,
}

impl CommitFailure {
    /// As the application is told.
    pub(super) fn into_error(self, group: Arc<str>) -> ConsumeError {
        ConsumeError::Commit { group, uncommitted: self.uncommitted, reason: self.reason }
    }
}

impl Committer {
    /// Commits what is handled of `assigned` now, repeating until `deadline`; without one there is a single attempt.
    ///
    /// `generation` is none for partitions that were assigned by hand.
    pub(super) async fn commit(
        &self,
        generation: Option<&Generation>,
        assigned: &[Arc<Assigned>],
        deadline: Option<Instant>,
    ) -> Result<(), CommitFailure> {
        let _turn = self.turn.lock().await;
        let mut attempt = 0;
        loop {
            let view = self.cluster.view();
            let committable = |assigned: &Arc<Assigned>| {
                let watermark = lock(&assigned.watermark);
                let topic = view.topic(&assigned.partition.topic);
                // Commits go by name: of a topic made anew, they would say that records are handled which nobody saw.
                let is_same = topic.is_none_or(|topic| watermark.is_of(topic.id));
                Some((assigned.clone(), watermark.committable().filter(|_| is_same)?))
            };
            let offsets: Vec<(Arc<Assigned>, Committable)> = assigned.iter().filter_map(committable).collect();
            if offsets.is_empty() {
                return Ok(());
            }
            // A watermark is closed when its partition is lost: what is committable now is good under the newest epoch.
            let newest = lock(&self.newest).clone();
            let newest = newest.filter(|newest| generation.is_some_and(|old| old.member_id == newest.member_id));
            let named = newest.as_ref().or(generation);
            let Err(mut failure) = self.send(named, &offsets).await else {
                self.stats.commits.add(1);
                return Ok(());
            };
            failure.generation = named.cloned();
            if failure.at_once {
                continue;
            }
            self.stats.commit_failures.add(1);
            attempt += 1;
            let pause = self.cluster.retry_backoff().delay(attempt, self.cluster.thread().random().next());
            let in_time = deadline.is_some_and(|deadline| self.cluster.thread().now() + pause < deadline);
            // The group may have gone on while the request was under way.
            let goes_on = named.is_some_and(|named| {
                lock(&self.newest).as_ref().is_some_and(|now| now != named && now.member_id == named.member_id)
            });
            if failure.fenced.is_some() && !goes_on || failure.hopeless || failure.gone || !in_time {
                return Err(failure);
            }
            tokio::time::sleep(pause.max(Duration::from_millis(1))).await;
        }
    }

    /// Whether commits name no offsets beyond theirs, since the broker refused that.
    pub(super) fn is_plain(&self) -> bool {
        self.plain.load(Ordering::Relaxed)
    }

    async fn send(
        &self,
        generation: Option<&Generation>,
        offsets: &[(Arc<Assigned>, Committable)],
    ) -> Result<(), CommitFailure> {
        let mut topics: BTreeMap<Arc<str>, Vec<OffsetCommitPartition>> = BTreeMap::new();
        for (_, committable) in offsets {
            let partition = committable.partition();
            topics.entry(partition.topic.clone()).or_default().push(OffsetCommitPartition {
                partition: partition.partition,
                offset: committable.offset(),
                leader_epoch: committable.leader_epoch(),
                metadata: committable.metadata().to_owned(),
            });
        }
        let request = OffsetCommitRequest {
            group: self.group.clone(),
            generation: generation.map_or(-1, |generation| generation.number),
            member_id: generation.map_or(String::new(), |generation| generation.member_id.clone()),
            instance_id: generation.and(self.instance_id.clone()),
            topics: topics.into_iter().collect(),
        };
        let mut failure = CommitFailure {
            fenced: None,
            generation: None,
            hopeless: false,
            at_once: false,
            gone: false,
            reason: String::new(),
            uncommitted: Vec::new(),
        };
        let answer = match self.cluster.coordinator(CoordinatorType::Group, &self.group, self.lane).await {
            Ok(connection) => connection.submit(&request, self.cluster.config().request_timeout).await,
            Err(error) => Err(error),
        };
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                self.cluster.coordinator_moved(CoordinatorType::Group, &self.group);
                failure.hopeless = !error.is_retryable();
                failure.reason = error.to_string();
                failure.uncommitted = offsets.iter().map(|(_, c)| (c.partition().clone(), c.offset())).collect();
                return Err(failure);
            }
        };
        let code = |partition: &TopicPartition| {
            let (_, partitions) = response.topics.iter().find(|(topic, _)| *topic == partition.topic)?;
            partitions.iter().find(|(index, _)| *index == partition.partition).map(|(_, code)| *code)
        };
        let view = self.cluster.view();
        let mut gone = true;
        for (assigned, committable) in offsets {
            // A partition that the answer leaves out is not committed.
            let code = code(committable.partition()).unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR);
            match verdict(code) {
                CommitVerdict::Committed => {
                    lock(&assigned.watermark).on_committed(committable);
                    continue;
                }
                CommitVerdict::Retry | CommitVerdict::Rebalancing => {}
                CommitVerdict::FindCoordinator => self.cluster.coordinator_moved(CoordinatorType::Group, &self.group),
                // Nobody is asked to join again for partitions that were assigned by hand: others share the group.
                CommitVerdict::Fenced => {
                    failure.fenced = Some(code);
                    failure.hopeless |= generation.is_none();
                }
                CommitVerdict::WithoutMetadata if !committable.metadata().is_empty() => {
                    self.plain.store(true, Ordering::Relaxed);
                    lock(&assigned.watermark).commit_plainly();
                    failure.at_once = true;
                    tracing::warn!(
                        group = %self.group,
                        partition = %committable.partition(),
                        bytes = committable.metadata().len(),
                        "the broker's offset.metadata.max.bytes is too small: what is handled beyond the committed offset \
                         will be repeated after a crash"
                    );
                }
                CommitVerdict::WithoutMetadata => failure.hopeless = true,
                CommitVerdict::Refused => failure.hopeless = true,
            }
            let unknown = code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
            if unknown {
                self.cluster.request_refresh("a topic of a commit is not known");
            }
            let topic = view.topic(&committable.partition().topic);
            gone &= unknown && topic.is_some_and(|topic| topic.error == Some(code));
            failure.reason = format!("{code}: {}", code.meaning());
            failure.uncommitted.push((committable.partition().clone(), committable.offset()));
        }
        failure.gone = gone;
        if failure.uncommitted.is_empty() { Ok(()) } else { Err(failure) }
    }
}
