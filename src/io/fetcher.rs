//! Drives [`crate::core::consume::fetch`]: requests to the leaders, records to the inbox.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::cluster::{Cluster, Lane};
use super::inbox::{Assigned, Inbox, Lease, Message, Releases, Room, Stats};
use super::offsets::{self, EARLIEST, LATEST};
use crate::config::{ConsumerConfig, OnDataLoss, OutOfRange};
use crate::core::consume::fetch::{Answer, FetchConfig, FetchId, Fetches, Outcome, Outcomes, Place, Plan};
use crate::core::consume::watermark::AssignmentEpoch;
use crate::core::metadata::ClusterView;
use crate::core::verdict::fetch::{SessionVerdict, session};
use crate::error::{CallError, ConsumeError};
use crate::sync::lock;
use crate::types::{BrokerId, IsolationLevel, TopicId, TopicPartition};
use crate::wire::ErrorCode;
use crate::wire::requests::LAST_VERSION_BY_NAME;
use crate::wire::requests::fetch::{
    FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic,
};

/// How often metadata is asked for while a partition has no leader.
const LEADERLESS_REFRESH: Duration = Duration::from_millis(500);

/// A replica is read for no longer before its leader is asked again, however seldom metadata is asked for.
const LONGEST_LEASE: Duration = Duration::from_secs(24 * 3600);

/// What the membership tells the fetcher.
#[derive(Debug)]
pub(crate) enum FetchCommand {
    /// Fetch these, from an offset, behind a record of a leader epoch (-1: unknown).
    Start(Vec<(Arc<Assigned>, i64, i32)>),
    /// Fetch nothing more of these.
    End(Vec<Arc<Assigned>>),
    /// Fetch nothing of these for now. What comes of requests that are out is kept.
    Pause(Vec<Arc<Assigned>>),
    /// Fetch these again.
    Resume(Vec<Arc<Assigned>>),
}

/// What the fetcher works with.
pub(crate) struct FetchContext {
    pub(crate) cluster: Cluster,
    pub(crate) config: Arc<ConsumerConfig>,
    pub(crate) group: Option<Arc<str>>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) stats: Arc<Stats>,
}

/// Something that a request of ours came to.
enum Event {
    Fetched(FetchId, BrokerId, Result<FetchResponse, CallError>),
    /// Where the log of an out-of-range partition begins and ends.
    Range(TopicPartition, AssignmentEpoch, i64, Result<(i64, i64), ConsumeError>),
}

struct Fetcher {
    context: Arc<FetchContext>,
    fetches: Fetches,
    assigned: HashMap<TopicPartition, Arc<Assigned>>,
    releases: Arc<Releases>,
    events: mpsc::UnboundedSender<Event>,
    plans: HashMap<FetchId, Arc<Plan>>,
    /// `client.rack`, for fetching from a near replica (KIP-392).
    rack: Arc<str>,
    lane: Lane,
    leaderless_since: Option<Instant>,
}

/// Fetches until the membership drops its end of `commands`.
pub(crate) async fn run(context: FetchContext, mut commands: mpsc::UnboundedReceiver<FetchCommand>) {
    let (events, mut happened) = mpsc::unbounded_channel();
    let config = &context.config;
    let fetches = Fetches::new(FetchConfig {
        max_bytes: config.fetch_max_bytes,
        partition_max_bytes: config.partition_max_bytes,
        buffer_bytes: config.buffer_bytes,
        max_wait: config.fetch_max_wait,
        backoff: context.cluster.retry_backoff(),
        replica_lease: context.cluster.config().metadata_max_age.min(LONGEST_LEASE),
    });
    let rack = context.cluster.config().client_rack.as_deref().unwrap_or_default().into();
    let releases = Arc::new(Releases::default());
    // A fetch waits at the broker, and what follows it on its connection waits behind it: the lane is ours alone.
    let lane = context.cluster.own_lane();
    let (context, assigned, plans) = (Arc::new(context), HashMap::new(), HashMap::new());
    let mut views = context.cluster.watch();
    let mut fetcher =
        Fetcher { context, fetches, assigned, releases, events, plans, rack, lane, leaderless_since: None };
    loop {
        fetcher.transmit();
        let timeout = fetcher.timeout();
        let releases = fetcher.releases.clone();
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(command) => fetcher.on_command(command),
                None => break,
            },
            Some(event) = happened.recv() => fetcher.on_event(event),
            () = releases.wait() => {}
            Ok(()) = views.changed() => { views.borrow_and_update(); fetcher.on_view(); }
            () = sleep_until(timeout) => {
                let now = fetcher.now();
                fetcher.fetches.handle_timeout(now);
                fetcher.on_view();
            }
        }
    }
    fetcher.context.cluster.release_lane(fetcher.lane);
}

/// Sleeps until `at`; for ever without it.
pub(crate) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

impl Fetcher {
    fn now(&self) -> Instant {
        self.context.cluster.thread().now()
    }

    fn timeout(&self) -> Option<Instant> {
        let leaderless = self.leaderless_since.map(|since| since + LEADERLESS_REFRESH);
        [self.fetches.poll_timeout(), leaderless].into_iter().flatten().min()
    }

    fn on_command(&mut self, command: FetchCommand) {
        match command {
            FetchCommand::Start(partitions) => {
                let view = self.context.cluster.view();
                for (assigned, position, last_epoch) in partitions {
                    let place =
                        place(&view, &assigned.partition).unwrap_or(Place { topic_id: TopicId::NONE, leader: None });
                    self.fetches.add(assigned.partition.clone(), assigned.epoch, place, position, last_epoch);
                    self.assigned.insert(assigned.partition.clone(), assigned);
                }
                self.on_view();
            }
            FetchCommand::Pause(held) => self.set_paused(&held, true),
            FetchCommand::Resume(held) => self.set_paused(&held, false),
            FetchCommand::End(ended) => {
                for ended in ended {
                    self.fetches.end(&ended.partition, ended.epoch);
                    if self.assigned.get(&ended.partition).is_some_and(|assigned| assigned.epoch == ended.epoch) {
                        self.assigned.remove(&ended.partition);
                    }
                }
            }
        }
    }

    fn set_paused(&mut self, held: &[Arc<Assigned>], paused: bool) {
        for held in held {
            self.fetches.set_paused(&held.partition, held.epoch, paused);
        }
    }

    /// Metadata may have changed.
    fn on_view(&mut self) {
        let view = self.context.cluster.view();
        let list = self.fetches.on_places(|partition| place(&view, partition));
        self.on_outcomes(Outcomes { list, shared: None });
        let leaderless = self.assigned.keys().any(|partition| view.leader(partition).is_none());
        let now = self.now();
        self.leaderless_since = match (leaderless, self.leaderless_since) {
            (false, _) => None,
            (true, Some(since)) if now < since + LEADERLESS_REFRESH => Some(since),
            (true, _) => {
                self.context.cluster.request_refresh("a partition that is consumed has no leader");
                Some(now)
            }
        };
    }

    fn take_releases(&mut self) {
        let released = self.releases.take();
        self.fetches.on_released(released.bytes);
        for (partition, assignment) in released.chunks {
            self.fetches.on_chunk_done(&partition, assignment);
        }
    }

    /// Takes back room, and makes all requests that can be made.
    fn transmit(&mut self) {
        self.take_releases();
        while let Some(plan) = self.fetches.poll_plan(self.now()) {
            self.send(plan);
        }
        self.releases.want(self.fetches.is_waiting_for_room());
        let buffered = u64::try_from(self.fetches.buffered()).unwrap_or(u64::MAX);
        self.context.stats.buffered_bytes.store(buffered, Ordering::Relaxed);
    }

    fn send(&mut self, plan: Arc<Plan>) {
        let (id, broker, lane) = (plan.id, plan.broker, self.lane);
        let request = self.request(&plan);
        let by_name = plan.partitions.iter().any(|planned| !planned.topic_id.is_some());
        let ceiling = if by_name { LAST_VERSION_BY_NAME } else { i16::MAX };
        let timeout = self.context.cluster.config().request_timeout.saturating_add(plan.max_wait);
        self.plans.insert(id, plan);
        self.context.stats.fetches.add(1);
        let (cluster, events) = (self.context.cluster.clone(), self.events.clone());
        tokio::spawn(async move {
            let answer = match cluster.broker(broker, lane).await {
                Ok(connection) => connection.submit_at_most(&request, timeout, ceiling).await,
                Err(error) => Err(error),
            };
            let _ = events.send(Event::Fetched(id, broker, answer));
        });
    }

    fn request(&self, plan: &Plan) -> FetchRequest {
        let config = &self.context.config;
        let mut topics: Vec<FetchTopic> = Vec::new();
        for planned in plan.session.named.iter().filter_map(|at| plan.partitions.get(*at)) {
            let partition = FetchPartition {
                partition: planned.partition.partition,
                leader_epoch: planned.leader_epoch,
                offset: planned.offset,
                last_fetched_epoch: planned.last_fetched_epoch,
                max_bytes: to_i32(planned.max_bytes),
            };
            // Neighbours of one topic share an entry; the order of partitions is the plan's, and matters.
            match topics.last_mut().filter(|topic| topic.name == planned.partition.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(FetchTopic {
                    name: planned.partition.topic.clone(),
                    id: planned.topic_id,
                    partitions: vec![partition],
                }),
            }
        }
        let mut forgotten: Vec<ForgottenTopic> = Vec::new();
        for (partition, id) in &plan.session.forgotten {
            let same = |topic: &&mut ForgottenTopic| topic.name == partition.topic && topic.id == *id;
            match forgotten.last_mut().filter(same) {
                Some(topic) => topic.partitions.push(partition.partition),
                None => forgotten.push(ForgottenTopic {
                    name: partition.topic.clone(),
                    id: *id,
                    partitions: vec![partition.partition],
                }),
            }
        }
        FetchRequest {
            max_wait_ms: i32::try_from(plan.max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: to_i32(config.fetch_min_bytes),
            max_bytes: to_i32(plan.max_bytes),
            isolation: config.isolation,
            session_id: plan.session.id,
            session_epoch: plan.session.epoch,
            topics,
            forgotten,
            rack: self.rack.clone(),
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Fetched(id, broker, answer) => self.on_fetched(id, broker, answer),
            Event::Range(partition, assignment, position, range) => {
                self.on_range(partition, assignment, position, range)
            }
        }
    }

    fn on_fetched(&mut self, id: FetchId, broker: BrokerId, answer: Result<FetchResponse, CallError>) {
        let now = self.now();
        let Some(plan) = self.plans.remove(&id) else { return };
        self.take_releases(); // whether handlers had anything left to do decides how much is asked for next
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(broker, %error, "fetch failed");
                self.context.stats.fetch_failures.add(1);
                self.fetches.on_failed(now, id);
                self.context.cluster.request_refresh("a fetch failed");
                // Only a fault of the bytes or of the configuration is for ever.
                if !error.is_retryable() {
                    self.fail(&plan, error);
                }
                return;
            }
        };
        match session(response.error) {
            SessionVerdict::Done => {}
            verdict => {
                tracing::debug!(broker, error = %response.error, session = plan.session.id, "fetch refused");
                self.context.stats.fetch_failures.add(1);
                self.fetches.on_refused(now, id, verdict);
                match verdict {
                    SessionVerdict::Fatal => self.refuse(&plan, response.error),
                    SessionVerdict::Refresh => self.context.cluster.request_refresh("a fetch was refused"),
                    _ => {}
                }
                return;
            }
        }
        let (bytes, session) = (response.bytes, response.session_id);
        let answers = answers(&plan, response, self.context.config.isolation);
        let outcomes = self.fetches.on_answer(now, id, bytes, session, answers);
        self.on_outcomes(outcomes);
    }

    fn on_outcomes(&mut self, outcomes: Outcomes) {
        let inbox = self.context.inbox.clone();
        let shared = outcomes.shared.map(|bytes| Room::new(bytes, &self.releases));
        for outcome in outcomes.list {
            match outcome {
                Outcome::Chunk(mut chunk) => {
                    self.context.stats.activity.add(1);
                    let lease = match &shared {
                        Some(room) => Lease::within(&chunk, room.clone()),
                        None => {
                            // A slow partition must not keep all of a large answer in memory.
                            chunk.records = Bytes::copy_from_slice(&chunk.records);
                            Lease::on(&chunk, &self.releases)
                        }
                    };
                    inbox.push(Message::Chunk(chunk, lease));
                }
                Outcome::End(partition, epoch, end) => {
                    if let Some(assigned) = self.assigned.get(&partition).filter(|assigned| assigned.epoch == epoch) {
                        assigned.end.store(end, Ordering::Relaxed);
                    }
                }
                Outcome::Refresh(partition, leader) => {
                    if let Some((leader, epoch)) = leader {
                        self.context.cluster.learn_leader(&partition, leader, epoch);
                    }
                    self.context.cluster.request_refresh("the leader of a consumed partition moved");
                }
                Outcome::OutOfRange(partition, epoch, position) => self.find_range(partition, epoch, position),
                Outcome::Diverged { partition, assignment, position, end, epoch } => {
                    self.on_diverged(partition, assignment, position, end, epoch);
                }
                Outcome::Refused(partition, epoch, code) => {
                    let error = ConsumeError::Fetch { partition: partition.clone(), code };
                    inbox.push(Message::Fault(partition, epoch, error));
                }
                Outcome::Malformed(partition, epoch, position, reason) => {
                    let error = ConsumeError::Malformed { partition: partition.clone(), position, reason };
                    inbox.push(Message::Fault(partition, epoch, error));
                }
                Outcome::Recreated(partition, epoch) => {
                    let error = ConsumeError::TopicRecreated { partition: partition.clone() };
                    inbox.push(Message::Fault(partition, epoch, error));
                }
            }
        }
    }

    /// The log was cut at `end`, the end of leader epoch `epoch`, below the position.
    fn on_diverged(
        &mut self,
        partition: TopicPartition,
        assignment: AssignmentEpoch,
        position: i64,
        end: i64,
        epoch: i32,
    ) {
        if self.context.config.data_loss == OnDataLoss::Stop {
            let error = ConsumeError::DataLoss { partition: partition.clone(), position, end, leader_epoch: epoch };
            return self.context.inbox.push(Message::Fault(partition, assignment, error));
        }
        tracing::warn!(%partition, position, end, epoch, "the log was cut below the position: records that were read are gone; data.loss says to go on");
        self.context.stats.data_losses.add(1);
        self.context.inbox.push(Message::Jump(partition.clone(), assignment, end));
        self.fetches.set_position(self.now(), &partition, assignment, end, epoch);
    }

    fn fail(&self, plan: &Plan, error: CallError) {
        if let Some(planned) = plan.partitions.first() {
            let fault = Message::Fault(planned.partition.clone(), planned.assignment, ConsumeError::Call(error));
            self.context.inbox.push(fault);
        }
    }

    fn refuse(&self, plan: &Plan, code: ErrorCode) {
        if let Some(planned) = plan.partitions.first() {
            let partition = planned.partition.clone();
            let error = ConsumeError::Fetch { partition: partition.clone(), code };
            self.context.inbox.push(Message::Fault(partition, planned.assignment, error));
        }
    }

    /// Asks where the log begins and ends.
    fn find_range(&self, partition: TopicPartition, epoch: AssignmentEpoch, position: i64) {
        let (context, events) = (self.context.clone(), self.events.clone());
        tokio::spawn(async move {
            let asked = [partition.clone()];
            let range = async {
                let isolation = context.config.isolation;
                let first = offsets::list(&context.cluster, &asked, EARLIEST, isolation).await?;
                let last = offsets::list(&context.cluster, &asked, LATEST, isolation).await?;
                let offset = |found: HashMap<TopicPartition, (i64, i32)>| {
                    found.values().next().map_or(-1, |(offset, _)| *offset)
                };
                Ok((offset(first), offset(last)))
            };
            let _ = events.send(Event::Range(partition, epoch, position, range.await));
        });
    }

    fn on_range(
        &mut self,
        partition: TopicPartition,
        epoch: AssignmentEpoch,
        position: i64,
        range: Result<(i64, i64), ConsumeError>,
    ) {
        let Some(assigned) = self.assigned.get(&partition).filter(|assigned| assigned.epoch == epoch) else { return };
        let (first, last) = match range {
            Ok(range) => range,
            Err(error) => return self.context.inbox.push(Message::Fault(partition, epoch, error)),
        };
        if (first..=last).contains(&position) {
            // A broker that had not caught up refused it.
            return self.fetches.set_position(self.now(), &partition, epoch, position, -1);
        }
        let target = match self.context.config.out_of_range {
            OutOfRange::Error => {
                lock(&assigned.watermark).on_out_of_range(position);
                let (group, named) = (self.context.group.clone(), partition.clone());
                let error = ConsumeError::OffsetOutOfRange { group, partition, offset: position, first, last };
                return self.context.inbox.push(Message::Fault(named, epoch, error));
            }
            OutOfRange::Earliest => first,
            OutOfRange::Latest => last,
        };
        tracing::warn!(%partition, offset = position, first, last, target, "the offset is outside of the log; offset.out.of.range says to jump");
        self.context.inbox.push(Message::Jump(partition.clone(), epoch, target));
        self.fetches.set_position(self.now(), &partition, epoch, target, -1);
    }
}

/// The answer in the terms of the plan: from version 13 on it names topics by id alone.
fn answers(plan: &Plan, response: FetchResponse, isolation: IsolationLevel) -> Vec<Answer> {
    let mut answers = Vec::new();
    let mut names: HashMap<TopicId, &Arc<str>> = HashMap::new();
    if response.topics.iter().any(|topic| topic.id.is_some()) {
        names = plan.partitions.iter().map(|planned| (planned.topic_id, &planned.partition.topic)).collect();
    }
    for topic in response.topics {
        let name = match names.get(&topic.id).filter(|_| topic.id.is_some()) {
            Some(name) => Arc::clone(name),
            None => topic.name,
        };
        for partition in topic.partitions {
            answers.push(Answer {
                partition: TopicPartition { topic: name.clone(), partition: partition.partition },
                error: partition.error,
                end: log_end(&partition, isolation),
                diverging: partition.diverging,
                leader: partition.current_leader,
                preferred: Some(partition.preferred_replica).filter(|replica| *replica >= 0),
                aborted: partition.aborted,
                records: partition.records,
            });
        }
    }
    answers
}

/// Where the log ends for whoever reads it so. Brokers tell where the first open transaction begins to all.
fn log_end(partition: &FetchPartitionResponse, isolation: IsolationLevel) -> i64 {
    match isolation {
        IsolationLevel::ReadCommitted if partition.last_stable_offset >= 0 => partition.last_stable_offset,
        IsolationLevel::ReadCommitted | IsolationLevel::ReadUncommitted => partition.high_watermark,
    }
}

fn place(view: &ClusterView, partition: &TopicPartition) -> Option<Place> {
    let topic = view.topic(&partition.topic)?;
    Some(Place { topic_id: topic.id, leader: view.leader(partition) })
}

fn to_i32(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Story: a transaction is open from offset 60 on. Who reads its records all the same is not at the end at 60.
    #[test]
    fn a_log_ends_before_open_transactions_for_those_alone_who_do_not_read_them() {
        let told = |last_stable_offset| FetchPartitionResponse {
            partition: 0,
            error: ErrorCode::NONE,
            high_watermark: 100,
            last_stable_offset,
            log_start_offset: 0,
            diverging: None,
            current_leader: None,
            aborted: Vec::new(),
            preferred_replica: -1,
            records: Bytes::new(),
        };
        assert_eq!(log_end(&told(60), IsolationLevel::ReadCommitted), 60);
        assert_eq!(log_end(&told(60), IsolationLevel::ReadUncommitted), 100);
        assert_eq!(log_end(&told(-1), IsolationLevel::ReadCommitted), 100);
    }
}
