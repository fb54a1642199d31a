//! Consumer groups: which there are, who is in them, and what they have committed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Admin, Told, Work};
use crate::core::consume::protocol::{PROTOCOL_TYPE, decode_assignment};
use crate::core::verdict::group::{LookupVerdict, lookup};
use crate::error::{AdminError, CallError};
use crate::io::cluster::Lane;
use crate::io::connection::Connection;
use crate::types::{BrokerId, TopicPartition};
use crate::wire::requests::consumer_group_describe::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupMember,
};
use crate::wire::requests::delete_groups::DeleteGroupsRequest;
use crate::wire::requests::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse, DescribedMember};
use crate::wire::requests::list_groups::{ListGroupsRequest, ListedGroup};
use crate::wire::requests::offset_commit::{OffsetCommitPartition, OffsetCommitRequest};
use crate::wire::requests::offset_fetch::{OffsetFetchRequest, OffsetFetchResponse};
use crate::wire::{ApiKey, ErrorCode};

/// Which protocol the members of a group speak.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupKind {
    /// JoinGroup and SyncGroup: one of the members assigns the partitions. Also a group that never had members, whose
    /// offsets are committed from outside.
    Classic,
    /// The consumer protocol of KIP-848: the coordinator assigns the partitions.
    Consumer,
    /// Another one, in the broker's word for it, such as `share`.
    Other(String),
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupListing {
    /// Its name.
    pub name: Arc<str>,
    /// Its protocol; [`GroupKind::Classic`] where the broker is older than all others.
    pub kind: GroupKind,
    /// Its state in Kafka's words, such as `Stable` or `Empty`; none from brokers before 2.6.
    pub state: Option<String>,
    /// What its members are: `consumer`, `connect`; empty for a group that never had any.
    pub protocol_type: String,
    /// The broker that coordinates it.
    pub coordinator: BrokerId,
}

/// A group and its members.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupDescription {
    /// Its name.
    pub name: Arc<str>,
    /// Its protocol.
    pub kind: GroupKind,
    /// Its state in Kafka's words, such as `Stable`, `PreparingRebalance` or `Empty`.
    pub state: String,
    /// What its members are: `consumer`, `connect`; empty for a group that never had any.
    pub protocol_type: String,
    /// How partitions are assigned, such as `range` or `uniform`; empty while that is not decided.
    pub assignor: String,
    /// The broker that coordinates it.
    pub coordinator: BrokerId,
    /// Its members, by member id.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMember {
    /// Its member id, given out by the coordinator or chosen by itself.
    pub id: String,
    /// Its `group.instance.id`, if it is a static member (KIP-345).
    pub instance_id: Option<String>,
    /// Its `client.id`.
    pub client_id: String,
    /// The address it connects from.
    pub host: String,
    /// The partitions it has, sorted. Empty while the group rebalances, and for members that are no consumers.
    pub assignment: Vec<TopicPartition>,
    /// The partitions it is to have, sorted, while they are others ([`GroupKind::Consumer`] only).
    pub target: Option<Vec<TopicPartition>>,
}

/// What a group has committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommittedOffset {
    /// The offset of the next record to handle.
    pub offset: i64,
    /// The leader epoch of the last record handled; none when it was not committed.
    pub leader_epoch: Option<i32>,
    /// The text committed with it. Consumers of this library keep there which records behind the offset are handled.
    pub metadata: String,
}

impl GroupKind {
    fn of(word: &str) -> GroupKind {
        if word.is_empty() || word.eq_ignore_ascii_case("classic") {
            GroupKind::Classic
        } else if word.eq_ignore_ascii_case("consumer") {
            GroupKind::Consumer
        } else {
            GroupKind::Other(word.to_owned())
        }
    }
}

impl fmt::Display for GroupKind {
    /// Kafka's word in lower case: `classic`, `consumer`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GroupKind::Classic => f.write_str("classic"),
            GroupKind::Consumer => f.write_str("consumer"),
            GroupKind::Other(word) => f.write_str(&word.to_lowercase()),
        }
    }
}

impl Admin {
    /// All groups of the cluster that the principal may DESCRIBE, by name. Every broker is asked for those it coordinates.
    ///
    /// # Errors
    /// [`AdminError::Call`] when a broker of the cluster gave no answer within `default.api.timeout.ms`: a list without its
    /// groups would look whole. [`AdminError::Refused`] when one refused.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, AdminError> {
        self.run(|work| async move { work.list_groups().await }).await
    }

    /// A group and its members.
    ///
    /// # Errors
    /// [`AdminError::GroupNotFound`]; [`AdminError::Refused`] when DESCRIBE on the group is not allowed (and, for a group of
    /// the consumer protocol, on its topics).
    pub async fn describe_group(&self, name: impl Into<Arc<str>>) -> Result<GroupDescription, AdminError> {
        let name = name.into();
        self.run(|work| async move { work.describe_group(name).await }).await
    }

    /// What a group has committed, by partition. Nothing for a group that does not exist.
    ///
    /// # Errors
    /// [`AdminError::Refused`] or [`AdminError::Call`] when DESCRIBE on the group is not allowed.
    pub async fn group_offsets(
        &self,
        name: impl Into<Arc<str>>,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, AdminError> {
        let name = name.into();
        self.run(|work| async move { work.group_offsets(&name).await }).await
    }

    /// Commits offsets for a group from outside of it: where its members go on when they start again. What was committed
    /// for other partitions stays. A group that does not exist is made.
    ///
    /// What the group has handled beyond the offset (see [`CommittedOffset::metadata`]) is forgotten: every record from the
    /// offset on is handled again.
    ///
    /// # Errors
    /// [`AdminError::GroupHasMembers`]: they would commit their own offsets over these; stop them first.
    /// [`AdminError::Metadata`] for a topic that does not exist, [`AdminError::Refused`] for a partition that does not, and
    /// when READ on the group or a topic is not allowed: some of the offsets may be committed then.
    pub async fn commit_group_offsets(
        &self,
        name: impl Into<Arc<str>>,
        offsets: impl IntoIterator<Item = (TopicPartition, i64)>,
    ) -> Result<(), AdminError> {
        let name = name.into();
        let offsets: BTreeMap<TopicPartition, i64> = offsets.into_iter().collect();
        self.run(|work| async move { work.commit_group_offsets(&name, offsets).await }).await
    }

    /// Deletes a group without members, and what it has committed.
    ///
    /// # Errors
    /// [`AdminError::GroupNotFound`]; [`AdminError::GroupHasMembers`]; [`AdminError::Refused`] when DELETE on the group is
    /// not allowed.
    pub async fn delete_group(&self, name: impl Into<Arc<str>>) -> Result<(), AdminError> {
        let name = name.into();
        self.run(|work| async move {
            let request = DeleteGroupsRequest { groups: vec![name.clone()] };
            // An attempt was not answered, and may have deleted it.
            let doubtful = AtomicBool::new(false);
            let deleted = work.at_coordinator(&name, ("deletion", ApiKey::DeleteGroups), |connection, timeout| {
                let (answer, doubtful) = (connection.submit(&request, timeout), &doubtful);
                async move {
                    let answer = answer.await.inspect_err(|error| {
                        doubtful.fetch_or(error.may_have_been_applied(), Ordering::Relaxed);
                    })?;
                    let code = answer.groups.first().map_or(ErrorCode::NONE, |group| group.1);
                    let verdict = match lookup(code) {
                        LookupVerdict::Missing if doubtful.load(Ordering::Relaxed) => LookupVerdict::Done,
                        verdict => verdict,
                    };
                    Ok(Told { answer: (), verdict, code, message: None })
                }
            });
            deleted.await.map(|_| ())
        })
        .await
    }
}

impl Work {
    async fn list_groups(&self) -> Result<Vec<GroupListing>, AdminError> {
        let mut groups = BTreeMap::new();
        let mut asked = Vec::new();
        let mut attempt = 0;
        let mut missed: Option<AdminError> = None;
        loop {
            // A broker that has gone leaves the metadata, and its groups go to others.
            let refreshed =
                self.cluster.refresh_and_wait("all brokers are asked for their groups", self.deadline).await;
            // Why groups are missing says more than that the time was over while the metadata was asked for again.
            refreshed.map_err(|error| missed.take().unwrap_or_else(|| error.into()))?;
            let mut missing = None;
            for broker in self.cluster.view().brokers.keys() {
                if asked.contains(broker) {
                    continue;
                }
                match self.groups_of(*broker).await {
                    Ok(found) => {
                        groups.extend(found.into_iter().map(|group| (group.name.clone(), group)));
                        asked.push(*broker);
                    }
                    Err(Missed::Now(error)) => _ = missing.get_or_insert(error),
                    Err(Missed::Always(error)) => return Err(error),
                }
            }
            let Some(error) = missing else { return Ok(groups.into_values().collect()) };
            attempt += 1;
            let Some(pause) = self.pause_before(attempt) else { return Err(error) };
            missed = Some(error);
            tokio::time::sleep(pause).await;
        }
    }

    async fn groups_of(&self, broker: BrokerId) -> Result<Vec<GroupListing>, Missed> {
        let call = async {
            let connection = self.connected(self.cluster.broker(broker, Lane::Control)).await?;
            let answer = connection.submit(&ListGroupsRequest, self.cluster.config().request_timeout);
            self.answered(ApiKey::ListGroups, broker, answer).await
        };
        let answer = call.await.map_err(|error| match error.is_retryable() {
            true => Missed::Now(error.into()),
            false => Missed::Always(error.into()),
        })?;
        let (what, code) = (format!("groups at broker {broker}"), answer.error);
        let refused = || AdminError::Refused { operation: "listing", what, code, message: None };
        match lookup(code) {
            LookupVerdict::Done => {}
            LookupVerdict::Retry | LookupVerdict::FindCoordinator => return Err(Missed::Now(refused())),
            LookupVerdict::Missing | LookupVerdict::HasMembers | LookupVerdict::Refused => {
                return Err(Missed::Always(refused()));
            }
        }
        let listed = |group: ListedGroup| GroupListing {
            name: group.name,
            kind: GroupKind::of(&group.kind),
            state: Some(group.state).filter(|state| !state.is_empty()),
            protocol_type: group.protocol_type,
            coordinator: broker,
        };
        Ok(answer.groups.into_iter().map(listed).collect())
    }

    async fn describe_group(&self, name: Arc<str>) -> Result<GroupDescription, AdminError> {
        let described = self.at_coordinator(&name, ("description", ApiKey::DescribeGroups), |connection, timeout| {
            describe(connection, name.clone(), timeout)
        });
        let (described, coordinator) = described.await?;
        let mut description = match described {
            Described::Consumer(group) => GroupDescription {
                kind: GroupKind::Consumer,
                state: group.state,
                protocol_type: PROTOCOL_TYPE.to_owned(),
                assignor: group.assignor,
                members: group.members.into_iter().map(consumer_member).collect(),
                name,
                coordinator,
            },
            Described::Classic(group) => {
                let are_consumers = group.protocol_type == PROTOCOL_TYPE;
                let member = |member| classic_member(&name, member, are_consumers);
                GroupDescription {
                    kind: GroupKind::Classic,
                    state: group.state,
                    protocol_type: group.protocol_type,
                    assignor: group.protocol,
                    members: group.members.into_iter().map(member).collect(),
                    name,
                    coordinator,
                }
            }
        };
        description.members.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(description)
    }

    async fn group_offsets(&self, name: &Arc<str>) -> Result<BTreeMap<TopicPartition, CommittedOffset>, AdminError> {
        // Offsets of a transaction that is still open are not the group's yet: what it had before is told.
        let request = OffsetFetchRequest { group: name.clone(), topics: None, require_stable: false, member: None };
        let fetched = self.at_coordinator(name, ("look-up of offsets", ApiKey::OffsetFetch), |connection, timeout| {
            let answer = connection.submit(&request, timeout);
            async move {
                let answer = answer.await?;
                let (verdict, code) = worst(codes(&answer));
                Ok(Told { answer, verdict, code, message: None })
            }
        });
        let (fetched, _) = match fetched.await {
            // Before version 8 a group that does not exist has no offsets; some brokers say so with an error.
            Err(AdminError::GroupNotFound { .. }) => return Ok(BTreeMap::new()),
            fetched => fetched?,
        };
        let mut offsets = BTreeMap::new();
        for (topic, partitions) in fetched.topics {
            for found in partitions.into_iter().filter(|found| found.offset >= 0) {
                let partition = TopicPartition { topic: topic.clone(), partition: found.partition };
                let leader_epoch = Some(found.leader_epoch).filter(|epoch| *epoch >= 0);
                offsets.insert(
                    partition,
                    CommittedOffset { offset: found.offset, leader_epoch, metadata: found.metadata },
                );
            }
        }
        Ok(offsets)
    }

    async fn commit_group_offsets(
        &self,
        name: &Arc<str>,
        offsets: BTreeMap<TopicPartition, i64>,
    ) -> Result<(), AdminError> {
        if let Some((partition, offset)) = offsets.iter().find(|(_, offset)| **offset < 0) {
            // Brokers take it, and then the group has none.
            let message = Some(format!("{offset} is no offset: they begin with 0"));
            let (operation, what) = ("change of offsets", format!("partition {partition}"));
            return Err(AdminError::Refused { operation, what, code: ErrorCode::OFFSET_OUT_OF_RANGE, message });
        }
        self.check_partitions(offsets.keys()).await?;
        let mut topics: BTreeMap<Arc<str>, Vec<OffsetCommitPartition>> = BTreeMap::new();
        for (partition, offset) in offsets {
            topics.entry(partition.topic).or_default().push(OffsetCommitPartition {
                partition: partition.partition,
                offset,
                // Not known, so nobody compares it: a log that was cut meanwhile is noticed at the first fetch.
                leader_epoch: -1,
                metadata: String::new(),
            });
        }
        let request = OffsetCommitRequest {
            group: name.clone(),
            generation: -1,
            member_id: String::new(),
            instance_id: None,
            topics: topics.into_iter().collect(),
        };
        let committed =
            self.at_coordinator(name, ("change of offsets", ApiKey::OffsetCommit), |connection, timeout| {
                let answer = connection.submit(&request, timeout);
                async move {
                    let answer = answer.await?;
                    let codes = answer.topics.iter().flat_map(|(_, partitions)| partitions.iter().map(|told| told.1));
                    let (verdict, code) = worst(codes);
                    Ok(Told { answer: (), verdict, code, message: None })
                }
            });
        committed.await.map(|_| ())
    }
}

/// Groups that a broker did not tell.
enum Missed {
    /// It may a little later.
    Now(AdminError),
    /// It never will.
    Always(AdminError),
}

enum Described {
    Classic(DescribeGroupsResponse),
    Consumer(ConsumerGroupDescribeResponse),
}

/// Asks for a group of the consumer protocol first: to the other request such a group does not exist.
async fn describe(connection: Connection, group: Arc<str>, timeout: Duration) -> Result<Told<Described>, CallError> {
    /// The state of a group that does not exist, in versions without an error code for it.
    const DEAD: &str = "Dead";
    if connection.versions().range(ApiKey::ConsumerGroupDescribe).is_some() {
        let mut answer = connection.submit(&ConsumerGroupDescribeRequest { group: group.clone() }, timeout).await?;
        let (code, message) = (answer.error, answer.error_message.take());
        let verdict = lookup(code);
        // Brokers that have the protocol switched off know the request and refuse it: to them all groups are classic ones.
        if verdict != LookupVerdict::Missing && code != ErrorCode::UNSUPPORTED_VERSION {
            return Ok(Told { answer: Described::Consumer(answer), verdict, code, message });
        }
    }
    let mut answer = connection.submit(&DescribeGroupsRequest { group }, timeout).await?;
    let (code, message) = (answer.error, answer.error_message.take());
    let verdict = match lookup(code) {
        LookupVerdict::Done if answer.state == DEAD => LookupVerdict::Missing,
        verdict => verdict,
    };
    Ok(Told { answer: Described::Classic(answer), verdict, code, message })
}

fn consumer_member(member: ConsumerGroupMember) -> GroupMember {
    let sorted = |mut partitions: Vec<TopicPartition>| {
        partitions.sort();
        partitions
    };
    let (assignment, target) = (sorted(member.assignment), sorted(member.target));
    GroupMember {
        id: member.id,
        instance_id: member.instance_id,
        client_id: member.client_id,
        host: host(member.client_host),
        target: Some(target).filter(|target| *target != assignment),
        assignment,
    }
}

fn classic_member(group: &Arc<str>, member: DescribedMember, is_consumer: bool) -> GroupMember {
    let assignment = match is_consumer.then(|| decode_assignment(&member.assignment)) {
        Some(Ok(assignment)) => assignment,
        Some(Err(error)) => {
            tracing::warn!(%group, member = member.id, %error, "the assignment of a member cannot be read");
            Vec::new()
        }
        None => Vec::new(),
    };
    GroupMember {
        id: member.id,
        instance_id: member.instance_id,
        client_id: member.client_id,
        host: host(member.client_host),
        assignment,
        target: None,
    }
}

/// Java's way to write an address has an empty host name in front: `/10.0.0.7`.
fn host(told: String) -> String {
    told.strip_prefix('/').map(str::to_owned).unwrap_or(told)
}

fn codes(answer: &OffsetFetchResponse) -> impl Iterator<Item = ErrorCode> {
    let partitions = answer.topics.iter().flat_map(|(_, partitions)| partitions.iter().map(|told| told.error));
    std::iter::once(answer.error).chain(partitions)
}

/// The first code that is an error; what cannot be mended by asking again before what can.
fn worst(codes: impl Iterator<Item = ErrorCode>) -> (LookupVerdict, ErrorCode) {
    let failed = codes.map(|code| (lookup(code), code)).filter(|(verdict, _)| *verdict != LookupVerdict::Done);
    let is_passing = |verdict: &LookupVerdict| matches!(verdict, LookupVerdict::Retry | LookupVerdict::FindCoordinator);
    failed.min_by_key(|(verdict, _)| is_passing(verdict)).unwrap_or((LookupVerdict::Done, ErrorCode::NONE))
}
