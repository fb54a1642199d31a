//! Which protocol a group is joined by, and the requests of KIP-848's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::member::Group;
use super::pattern::PatternWatch;
use super::requests::millis;
use super::{Event, Membership, Subscription};
use crate::config::{ConsumerConfig, GroupProtocol};
use crate::core::consume::group::next::{Beat, Beaten, NextConfig, NextMember};
use crate::core::consume::group::{GroupFailure, RequestId};
use crate::core::verdict::group::suggests_classic;
use crate::error::CallError;
use crate::io::cluster::{Cluster, Lane};
use crate::sync::lock;
use crate::types::TopicId;
use crate::wire::ApiKey;
use crate::wire::requests::consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use crate::wire::requests::find_coordinator::CoordinatorType;
use crate::wire::requests::metadata::{MetadataRequest, MetadataTopics};

/// A heartbeat is answered at once or not at all, and brokers give members up after 45 seconds of silence.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// The version from which on the protocol is finished: version 0 was a preview in Kafka 3.7 to 3.9.
const FINISHED: i16 = 1;

impl Membership {
    /// Finds out how to join. Without an answer of the coordinator nothing can be joined either way.
    pub(super) fn choose_protocol(&mut self) {
        let config = &self.context.config;
        match protocol(config) {
            GroupProtocol::Classic => self.on_protocol(false),
            GroupProtocol::Consumer => self.on_protocol(true),
            GroupProtocol::Auto => {
                let (Some(group), lane, events) = (self.context.group.clone(), self.lane(), self.events.clone()) else {
                    return;
                };
                let cluster = self.context.cluster.clone();
                self.positions.spawn(async move {
                    let event = match has_next(&cluster, &group, lane).await {
                        Ok(next) => Event::Protocol(next),
                        Err(error) => Event::Impossible(error.into()),
                    };
                    let _ = events.send(event);
                });
            }
        }
    }

    /// Becomes a member by the protocol that was chosen.
    pub(super) fn on_protocol(&mut self, next: bool) {
        if self.group.is_some() || self.finishing.is_some() {
            return;
        }
        match self.context.subscription.clone() {
            Subscription::Partitions(_) => return,
            Subscription::Topics(topics) if !next => return self.join(topics),
            // Joining begins with the first list of topics, for with nothing it would cost a rebalance.
            Subscription::Pattern(pattern) if !next => {
                self.pattern = Some(PatternWatch::new(pattern, self.now()));
                return;
            }
            Subscription::Topics(_) | Subscription::Pattern(_) => {}
        }
        let random = self.context.cluster.thread().random();
        let mut bytes = [0; 16];
        for half in bytes.chunks_exact_mut(8) {
            half.copy_from_slice(&random.next().to_be_bytes());
        }
        let config = NextConfig {
            is_static: self.context.config.group_instance_id.is_some(),
            backoff: self.context.cluster.retry_backoff(),
            random: bytes,
        };
        self.group = Some(Group::Next(NextMember::new(config, self.now())));
    }

    /// Whether the group cannot be joined by the new protocol, and is by the classic one instead.
    pub(super) fn falls_back(&mut self, failure: &GroupFailure) -> bool {
        let Some(Group::Next(member)) = &self.group else { return false };
        let refuses = failure.code.is_some_and(suggests_classic);
        if member.has_joined() || !refuses || protocol(&self.context.config) != GroupProtocol::Auto {
            return false;
        }
        tracing::warn!(
            group = self.context.group.as_deref(),
            code = failure.code.map(tracing::field::display),
            reason = failure.detail,
            "the group cannot be joined by the consumer protocol (KIP-848); joining by the classic one"
        );
        self.group = None;
        self.on_protocol(false);
        true
    }

    /// Tells commits that are under way, and repeated, which generation or epoch is good now. A member that is taken in
    /// and has no partitions is told to those who wait for an assignment: it may be the only one that ever comes.
    pub(super) fn publish_generation(&self) {
        let Some(committer) = &self.committer else { return };
        let generation = self.group.as_ref().and_then(Group::generation);
        if generation.is_some() && self.owned.is_empty() && lock(&self.context.stats.assigned).is_none() {
            self.publish();
        }
        *lock(&committer.newest) = generation;
    }

    pub(super) fn heartbeat(&self, group: Arc<str>, beat: Beat) -> ConsumerGroupHeartbeatRequest {
        let config = &self.context.config;
        let mut request = ConsumerGroupHeartbeatRequest {
            group,
            member_id: beat.member_id,
            member_epoch: beat.epoch,
            instance_id: config.group_instance_id.clone(),
            rack: None,
            rebalance_timeout_ms: -1,
            topics: None,
            pattern: None,
            assignor: None,
            owned: beat.owned,
        };
        if beat.full {
            request.rack = self.context.cluster.config().client_rack.as_deref().map(str::to_owned);
            request.rebalance_timeout_ms = millis(config.rebalance_timeout);
            request.assignor.clone_from(&config.remote_assignor);
            match &self.context.subscription {
                Subscription::Topics(topics) => request.topics = Some(topics.clone()),
                // The broker wants a match of the whole name, as we do.
                Subscription::Pattern(pattern) => request.pattern = Some(pattern.text().to_string()),
                Subscription::Partitions(_) => {}
            }
        }
        request
    }

    /// Finds out what topics are called: the metadata that is known has most of them.
    pub(super) fn resolve(&self, id: RequestId, topics: BTreeSet<TopicId>) {
        let (cluster, events) = (self.context.cluster.clone(), self.events.clone());
        tokio::spawn(async move {
            let view = cluster.view();
            let known = view.topics.values().filter(|topic| topics.contains(&topic.id));
            let mut names: BTreeMap<TopicId, Arc<str>> = known.map(|topic| (topic.id, topic.name.clone())).collect();
            let unknown: Vec<TopicId> = topics.into_iter().filter(|topic| !names.contains_key(topic)).collect();
            if !unknown.is_empty() {
                match ask(&cluster, unknown).await {
                    Ok(found) => names.extend(found),
                    Err(error) => tracing::debug!(%error, "names of assigned topics are not known yet"),
                }
            }
            let _ = events.send(Event::Resolved(id, names));
        });
    }
}

/// The protocol that the settings ask for: a setting that only the classic one has is a choice, too.
fn protocol(config: &ConsumerConfig) -> GroupProtocol {
    let default = ConsumerConfig::default();
    let classic_only = config.classic_only
        || config.session_timeout != default.session_timeout
        || config.heartbeat_interval != default.heartbeat_interval
        || config.assignors != default.assignors;
    match config.group_protocol {
        GroupProtocol::Auto if classic_only => GroupProtocol::Classic,
        chosen => chosen,
    }
}

/// Whether the group's coordinator speaks KIP-848. Tries until it knows.
async fn has_next(cluster: &Cluster, group: &Arc<str>, lane: Lane) -> Result<bool, CallError> {
    let mut attempt = 0;
    loop {
        match cluster.coordinator(CoordinatorType::Group, group, lane).await {
            Ok(connection) => {
                let range = connection.versions().range(ApiKey::ConsumerGroupHeartbeat);
                return Ok(range.is_some_and(|(least, most)| least <= FINISHED && FINISHED <= most));
            }
            Err(error) if !error.is_retryable() => return Err(error),
            Err(error) => tracing::debug!(%group, %error, "no coordinator yet"),
        }
        cluster.coordinator_moved(CoordinatorType::Group, group);
        attempt += 1;
        let pause = cluster.retry_backoff().delay(attempt, cluster.thread().random().next());
        tokio::time::sleep(pause.max(Duration::from_millis(1))).await;
    }
}

async fn ask(cluster: &Cluster, topics: Vec<TopicId>) -> Result<Vec<(TopicId, Arc<str>)>, CallError> {
    let request = MetadataRequest { topics: MetadataTopics::Ids(topics), allow_auto_create: false };
    let answer = cluster.any_broker().await?.submit(&request, cluster.config().request_timeout).await?;
    let named = answer.topics.into_iter().filter(|topic| topic.error.is_ok() && !topic.name.is_empty());
    Ok(named.map(|topic| (topic.id, topic.name)).collect())
}

pub(super) fn beaten(answer: ConsumerGroupHeartbeatResponse) -> Beaten {
    Beaten {
        error: answer.error,
        message: answer.message,
        epoch: answer.member_epoch,
        interval: Duration::from_millis(u64::try_from(answer.heartbeat_interval_ms).unwrap_or(0)),
        assignment: answer.assignment,
    }
}
