//! The group's actions as requests to the coordinator, and the answers as events.

use std::sync::Arc;
use std::time::Duration;

use super::next::{HEARTBEAT, beaten};
use super::{Event, Membership};
use crate::core::consume::group::classic::Joined;
use crate::core::consume::group::{Action, RequestId};
use crate::core::consume::protocol::PROTOCOL_TYPE;
use crate::core::metadata::TopicView;
use crate::error::CallError;
use crate::io::cluster::{Cluster, Lane};
use crate::io::connection::Throttled;
use crate::wire::Request;
use crate::wire::requests::find_coordinator::CoordinatorType;
use crate::wire::requests::heartbeat::HeartbeatRequest;
use crate::wire::requests::join_group::{JoinGroupRequest, JoinGroupResponse};
use crate::wire::requests::leave_group::LeaveGroupRequest;
use crate::wire::requests::sync_group::SyncGroupRequest;

/// The coordinator answers a join when all members have come or their time is over; this much later it is not to come.
const JOIN_GRACE: Duration = Duration::from_secs(5);
/// How long topics that do not exist are looked for before the group is assigned without them.
const MISSING_TOPIC: Duration = Duration::from_millis(500);

/// Partitions of a topic.
pub(super) fn count(topic: &Arc<TopicView>) -> i32 {
    i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX)
}

impl Membership {
    /// Sends what `action` asks for.
    pub(super) fn request(&mut self, action: Action) {
        let Some(group) = self.context.group.clone() else { return };
        let config = self.context.config.clone();
        let cluster = self.context.cluster.clone();
        let timeout = cluster.config().request_timeout;
        let instance_id = config.group_instance_id.clone();
        match action {
            Action::FindCoordinator { id, moved } => {
                if moved {
                    self.coordinator_moved();
                }
                let (lane, events) = (self.lane(), self.events.clone());
                tokio::spawn(async move {
                    let found = cluster.coordinator(CoordinatorType::Group, &group, lane).await;
                    let event = match found {
                        Ok(_) => Event::Coordinator(id, true),
                        Err(error) if impossible(&error) => Event::Impossible(error.into()),
                        Err(error) => {
                            tracing::debug!(%group, %error, "no coordinator yet");
                            cluster.coordinator_moved(CoordinatorType::Group, &group);
                            Event::Coordinator(id, false)
                        }
                    };
                    let _ = events.send(event);
                });
            }
            Action::Join { id, member_id, protocols } => {
                let request = JoinGroupRequest {
                    group,
                    session_timeout_ms: millis(config.session_timeout),
                    rebalance_timeout_ms: millis(config.rebalance_timeout),
                    member_id,
                    instance_id,
                    protocol_type: PROTOCOL_TYPE,
                    protocols: protocols
                        .into_iter()
                        .map(|(name, subscription)| (name.to_owned(), subscription))
                        .collect(),
                    reason: None,
                };
                let timeout = timeout.max(config.rebalance_timeout + JOIN_GRACE);
                self.send_on(self.joins(), id, request, timeout, |id, answer| Event::Joined(id, joined(answer)));
            }
            Action::CountPartitions { id, topics } => {
                let events = self.events.clone();
                tokio::spawn(async move {
                    let mut counts = std::collections::BTreeMap::new();
                    // No heartbeat goes out meanwhile: many missing topics must not take many times as long as one.
                    let deadline = cluster.thread().now() + MISSING_TOPIC;
                    for topic in topics {
                        let left = deadline.saturating_duration_since(cluster.thread().now());
                        match cluster.topic(&topic, left).await {
                            Ok(view) => {
                                counts.insert(topic, count(&view));
                            }
                            Err(error) => tracing::warn!(%group, %error, "the group is assigned without a topic"),
                        }
                    }
                    let _ = events.send(Event::Counted(id, counts));
                });
            }
            Action::Sync { id, generation, protocol, assignments } => {
                let (generation, member_id) = (generation.number, generation.member_id);
                let request = SyncGroupRequest { group, generation, member_id, instance_id, protocol, assignments };
                // The coordinator answers when the leader has assigned.
                let timeout = timeout.max(config.rebalance_timeout + JOIN_GRACE);
                self.send_on(self.joins(), id, request, timeout, |id, answer| {
                    Event::Synced(id, answer.error, answer.assignment)
                });
            }
            Action::Heartbeat { id, generation } => {
                let (generation, member_id) = (generation.number, generation.member_id);
                let request = HeartbeatRequest { group, generation, member_id, instance_id };
                // An answer that takes as long as the session is worth nothing.
                let timeout = timeout.min(config.session_timeout);
                self.send(id, request, timeout, |id, answer| Event::Heartbeat(id, answer.error));
            }
            Action::Leave { id, member_id } => {
                let request = LeaveGroupRequest { group, member_id, instance_id, reason: None };
                // A join that is not answered yet holds up what follows it on its connection, and it may be waiting for
                // a slow member: the leave, which would end it, must not stand behind it.
                self.send_on(Lane::Control, id, request, timeout, |id, _| Event::Left(id));
            }
            Action::ConsumerHeartbeat { id, beat } => {
                let request = self.heartbeat(group, beat);
                self.send(id, request, timeout.min(HEARTBEAT), |id, answer| Event::Beaten(id, beaten(answer)));
            }
            Action::ResolveTopics { id, topics } => self.resolve(id, topics),
            Action::Assign { .. } | Action::Revoke { .. } | Action::Fail(_) => {}
        }
    }

    fn joins(&self) -> Lane {
        self.joins.unwrap_or(Lane::Control)
    }

    fn send<R>(
        &self,
        id: RequestId,
        request: R,
        timeout: Duration,
        event: impl FnOnce(RequestId, R::Response) -> Event + Send + 'static,
    ) where
        R: Request + Send + Sync + 'static,
        R::Response: Throttled + Send + 'static,
    {
        self.send_on(self.lane(), id, request, timeout, event);
    }

    fn send_on<R>(
        &self,
        lane: Lane,
        id: RequestId,
        request: R,
        timeout: Duration,
        event: impl FnOnce(RequestId, R::Response) -> Event + Send + 'static,
    ) where
        R: Request + Send + Sync + 'static,
        R::Response: Throttled + Send + 'static,
    {
        let Some(group) = self.context.group.clone() else { return };
        let (cluster, events) = (self.context.cluster.clone(), self.events.clone());
        tokio::spawn(async move {
            let event = match call(&cluster, lane, &group, &request, timeout).await {
                Ok(answer) => event(id, answer),
                Err(error) if impossible(&error) => Event::Impossible(error.into()),
                Err(error) => {
                    tracing::debug!(%group, %error, "the coordinator did not answer");
                    Event::Unanswered(id)
                }
            };
            let _ = events.send(event);
        });
    }
}

async fn call<R>(
    cluster: &Cluster,
    lane: Lane,
    group: &Arc<str>,
    request: &R,
    timeout: Duration,
) -> Result<R::Response, CallError>
where
    R: Request,
    R::Response: Throttled + Send + 'static,
{
    cluster.coordinator(CoordinatorType::Group, group, lane).await?.submit(request, timeout).await
}

/// Whether no repetition can help.
fn impossible(error: &CallError) -> bool {
    !error.is_retryable()
}

fn joined(answer: JoinGroupResponse) -> Joined {
    Joined {
        error: answer.error,
        generation: answer.generation,
        protocol: answer.protocol,
        leader: answer.leader,
        member_id: answer.member_id,
        skip_assignment: answer.skip_assignment,
        members: answer
            .members
            .into_iter()
            .map(|member| (member.member_id, member.instance_id, member.metadata))
            .collect(),
    }
}

pub(super) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
