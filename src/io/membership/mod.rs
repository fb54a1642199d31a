//! Drives [`crate::core::consume::group`] on the I/O thread: joins, heartbeats, commits, hands assignments to the
//! fetcher and to the future that runs handlers. Partitions assigned by hand take the same way, without the group.

mod commit;
mod control;
mod member;
mod next;
mod pattern;
mod requests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::cluster::{Cluster, Lane};
use super::fetcher::{FetchCommand, sleep_until};
use super::inbox::{Assigned, Command, Inbox, Message, Stats};
use super::offsets::{self, SeekTo, Start};
use crate::config::ConsumerConfig;
use crate::core::consume::group::classic::{self, GroupConfig, Joined};
use crate::core::consume::group::next::Beaten;
use crate::core::consume::group::{Action, GroupFailure, RequestId};
use crate::core::consume::pattern::TopicPattern;
use crate::core::consume::slow::SlowWatch;
use crate::core::consume::watermark::AssignmentEpoch;
use crate::error::{CallError, ConsumeError};
use crate::sync::lock;
use crate::types::{TopicId, TopicPartition};
use crate::wire::ErrorCode;
use crate::wire::requests::find_coordinator::CoordinatorType;
use commit::{CommitFailure, Committer};
use control::{Control, Sought};
use member::Group;
use pattern::PatternWatch;
pub(crate) use pattern::all_topics;

/// What a consumer reads.
#[derive(Clone, Debug)]
pub(crate) enum Subscription {
    /// Topics, shared out within the group.
    Topics(Vec<Arc<str>>),
    /// Topics whose names match, those to come too.
    Pattern(TopicPattern),
    /// Partitions, each perhaps from a given place on.
    Partitions(Vec<(TopicPartition, Option<SeekTo>)>),
}

/// What the membership works with.
pub(crate) struct MembershipContext {
    pub(crate) cluster: Cluster,
    pub(crate) config: Arc<ConsumerConfig>,
    pub(crate) group: Option<Arc<str>>,
    pub(crate) subscription: Subscription,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) fetcher: mpsc::UnboundedSender<FetchCommand>,
}

/// What something of ours came to.
enum Event {
    Coordinator(RequestId, bool),
    Joined(RequestId, Joined),
    Counted(RequestId, BTreeMap<Arc<str>, i32>),
    Synced(RequestId, ErrorCode, bytes::Bytes),
    Heartbeat(RequestId, ErrorCode),
    Left(RequestId),
    /// All topics there are.
    Topics(Result<Vec<Arc<str>>, CallError>),
    /// Whether the group is to be joined by KIP-848.
    Protocol(bool),
    Beaten(RequestId, Beaten),
    Resolved(RequestId, BTreeMap<TopicId, Arc<str>>),
    /// No answer, and none to come.
    Unanswered(RequestId),
    /// An answer that cannot be, such as a version that the broker does not have.
    Impossible(ConsumeError),
    /// Where some partitions of an assignment begin.
    Positions(AssignmentEpoch, Result<Vec<Start>, ConsumeError>),
    Sought(Sought),
    Committed(Result<(), CommitFailure>),
    /// Handlers of the assignment are done, or had their time, and what they did is committed if it could be.
    GivenBack(u64, Result<(), CommitFailure>),
}

struct Membership {
    context: MembershipContext,
    group: Option<Group>,
    committer: Option<Committer>,
    /// For joins alone: each waits at the coordinator for other members, and what follows it on its connection waits
    /// behind it. Commits and heartbeats go on meanwhile.
    joins: Option<Lane>,
    events: mpsc::UnboundedSender<Event>,
    /// What is fetched and handled.
    assigned: Vec<Arc<Assigned>>,
    /// What is ours, and since when: look-ups of positions for anything else are late.
    owned: HashMap<TopicPartition, AssignmentEpoch>,
    /// The newest epoch given out.
    epoch: AssignmentEpoch,
    /// Look-ups of positions that are under way.
    positions: JoinSet<()>,
    control: Control,
    /// What the newest revocation gives back, and its number: an older one's end means nothing.
    giving_back: Vec<Arc<Assigned>>,
    revocation: u64,
    pattern: Option<PatternWatch>,
    slow: SlowWatch,
    next_commit: Instant,
    committing: bool,
    failed_commits: u32,
    /// Whom to tell when all is committed and left.
    finishing: Option<Vec<oneshot::Sender<Result<(), ConsumeError>>>>,
    deadline: Option<Instant>,
    outcome: Result<(), ConsumeError>,
    /// The future that runs handlers is gone.
    alone: bool,
    over: bool,
}

/// How long the last commit for topics is tried that the lists of topics do not have any more.
const GONE_TOPIC: Duration = Duration::from_secs(1);
/// Commits that fail in a row before the log warns.
const WARN_AFTER: u32 = 3;

/// Runs one consumer's membership until it is told to finish, or nobody is left to tell it.
pub(crate) async fn run(context: MembershipContext, mut commands: mpsc::UnboundedReceiver<Command>) {
    let (events, mut happened) = mpsc::unbounded_channel();
    let mut views = context.cluster.watch();
    let mut membership = Membership::new(context, events);
    membership.start();
    while !membership.over {
        membership.act();
        if membership.over {
            break;
        }
        let timeout = membership.timeout();
        tokio::select! {
            biased;
            Some(event) = happened.recv() => membership.on_event(event),
            command = commands.recv(), if !membership.alone => membership.on_command(command),
            Ok(()) = views.changed() => { views.borrow_and_update(); membership.on_view(); }
            () = sleep_until(timeout) => membership.on_timeout(),
        }
    }
    membership.end();
}

impl Membership {
    fn new(context: MembershipContext, events: mpsc::UnboundedSender<Event>) -> Membership {
        let now = context.cluster.thread().now();
        let config = context.config.clone();
        let committer = context.group.as_ref().map(|name| Committer {
            cluster: context.cluster.clone(),
            group: name.clone(),
            instance_id: config.group_instance_id.clone(),
            lane: context.cluster.own_lane(),
            stats: context.stats.clone(),
            turn: Arc::default(),
            plain: Arc::default(),
            newest: Arc::default(),
        });
        let next_commit = now + config.commit_interval;
        Membership {
            joins: None,
            pattern: None,
            slow: SlowWatch::new(config.rebalance_timeout, now),
            context,
            group: None,
            committer,
            events,
            assigned: Vec::new(),
            owned: HashMap::new(),
            epoch: AssignmentEpoch(0),
            positions: JoinSet::new(),
            control: Control::default(),
            giving_back: Vec::new(),
            revocation: 0,
            next_commit,
            committing: false,
            failed_commits: 0,
            finishing: None,
            deadline: None,
            outcome: Ok(()),
            alone: false,
            over: false,
        }
    }

    fn now(&self) -> Instant {
        self.context.cluster.thread().now()
    }

    fn start(&mut self) {
        match self.context.subscription.clone() {
            Subscription::Partitions(partitions) => self.assign(partitions),
            Subscription::Topics(_) | Subscription::Pattern(_) => self.choose_protocol(),
        }
    }

    /// Becomes a member by the classic protocol.
    fn join(&mut self, topics: Vec<Arc<str>>) {
        let (cluster, config) = (&self.context.cluster, &self.context.config);
        let group = GroupConfig {
            topics,
            assignors: config.assignors.clone(),
            rack: cluster.config().client_rack.as_deref().map(Arc::from),
            instance_id: config.group_instance_id.clone(),
            heartbeat_interval: config.heartbeat_interval,
            backoff: cluster.retry_backoff(),
        };
        self.joins.get_or_insert_with(|| cluster.own_lane());
        self.group = Some(Group::Classic(classic::Group::new(group, self.now())));
    }

    fn timeout(&self) -> Option<Instant> {
        let group = self.group.as_ref().and_then(Group::poll_timeout);
        let commit =
            (self.committer.is_some() && !self.committing && !self.assigned.is_empty()).then_some(self.next_commit);
        let look = self.pattern.as_ref().and_then(PatternWatch::timeout);
        let slow = (!self.assigned.is_empty()).then(|| self.slow.next_look());
        [group, commit, look, slow, self.deadline].into_iter().flatten().min()
    }

    fn on_timeout(&mut self) {
        let now = self.now();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            // The coordinator does not even take the leave: the session timeout will.
            return self.finished();
        }
        if let Some(group) = &mut self.group {
            group.handle_timeout(now);
        }
        self.look_for_topics(now);
        if self.slow.next_look() <= now {
            self.tell_of_slow_handlers(now);
        }
        if self.next_commit <= now {
            self.commit_in_passing();
        }
    }

    fn tell_of_slow_handlers(&mut self, now: Instant) {
        let oldest = |assigned: &Arc<Assigned>| {
            let offset = lock(&assigned.watermark).oldest_in_handler()?;
            Some((assigned.partition.clone(), assigned.epoch, offset))
        };
        for slow in self.slow.look(now, self.assigned.iter().filter_map(oldest)) {
            self.context.stats.slow_handlers.add(1);
            tracing::warn!(
                partition = %slow.partition,
                offset = slow.offset,
                seconds = slow.since.as_secs(),
                "a record is with its handler for longer than max.poll.interval.ms; it holds back commits and its \
                 successors, and the membership goes on"
            );
        }
    }

    fn on_view(&mut self) {
        let now = self.now();
        if let Some(pattern) = &mut self.pattern {
            pattern.on_view();
        }
        let view = self.context.cluster.view();
        let Some(group) = &mut self.group else { return };
        let Some(topics) = group.watched_topics() else { return };
        let counts =
            topics.iter().filter_map(|topic| Some((topic.clone(), requests::count(view.topic(topic)?)))).collect();
        group.on_counts_seen(now, &counts);
    }

    fn on_command(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Commit) => self.commit_in_passing(),
            Some(Command::Pause(partitions, paused, reply)) => self.pause(partitions, paused, reply),
            Some(Command::Seek(partition, to, reply)) => self.seek(partition, to, reply),
            Some(Command::Finish(reply)) => self.finish(Some(reply)),
            None => {
                self.alone = true;
                self.finish(None);
            }
        }
    }

    /// Commits what is handled, without making anybody wait.
    fn commit_in_passing(&mut self) {
        let now = self.now();
        self.next_commit = now + self.context.config.commit_interval;
        self.renew_commits(now);
        let generation = self.group.as_ref().and_then(Group::generation);
        let in_group = self.group.is_some();
        if self.committing || self.finishing.is_some() || in_group && generation.is_none() {
            return;
        }
        let Some(committer) = self.committer.clone() else { return };
        if self.assigned.iter().all(|assigned| !lock(&assigned.watermark).is_dirty()) {
            return;
        }
        self.committing = true;
        let (assigned, events) = (self.assigned.clone(), self.events.clone());
        tokio::spawn(async move {
            let outcome = committer.commit(generation.as_ref(), &assigned, None).await;
            let _ = events.send(Event::Committed(outcome));
        });
    }

    fn on_committed(&mut self, outcome: Result<(), CommitFailure>) {
        self.committing = false;
        match outcome {
            Ok(()) => self.failed_commits = 0,
            Err(failure) => {
                self.failed_commits += 1;
                if self.failed_commits >= WARN_AFTER {
                    tracing::warn!(
                        attempts = self.failed_commits,
                        reason = failure.reason,
                        "handled offsets cannot be committed; still trying"
                    );
                }
                self.on_commit_failure(&failure);
                if failure.hopeless {
                    self.fail_commit(failure);
                }
            }
        }
    }

    fn on_commit_failure(&mut self, failure: &CommitFailure) {
        let now = self.now();
        if let (Some(group), Some(generation), Some(code)) = (&mut self.group, &failure.generation, failure.fenced) {
            group.on_commit_refused(now, generation, code);
        }
    }

    fn fail_commit(&mut self, failure: CommitFailure) {
        if let Some(committer) = &self.committer {
            self.context.inbox.push(Message::Failed(failure.into_error(committer.group.clone())));
        }
    }

    /// Begins partitions: at which offset? Others that are ours go on meanwhile.
    fn assign(&mut self, partitions: Vec<(TopicPartition, Option<SeekTo>)>) {
        self.epoch.0 += 1;
        let epoch = self.epoch;
        self.owned.extend(partitions.iter().map(|(partition, _)| (partition.clone(), epoch)));
        self.context.stats.rebalances.add(1);
        if partitions.is_empty() && !self.owned.is_empty() {
            return; // all stays as it was
        }
        self.count_beginning();
        tracing::info!(group = self.context.group.as_deref(), ?epoch, count = partitions.len(), "partitions assigned");
        let (cluster, config) = (self.context.cluster.clone(), self.context.config.clone());
        let group = self.committer.as_ref().map(|committer| (committer.group.clone(), committer.lane));
        let events = self.events.clone();
        self.positions.spawn(async move {
            let group = group.as_ref().map(|(name, lane)| (name, *lane));
            let found = |starts| {
                let _ = events.send(Event::Positions(epoch, Ok(starts)));
            };
            if let Err(error) = offsets::starts(&cluster, &config, group, partitions, &found).await {
                let _ = events.send(Event::Positions(epoch, Err(error)));
            }
        });
    }

    fn on_positions(&mut self, epoch: AssignmentEpoch, starts: Result<Vec<Start>, ConsumeError>) {
        while self.positions.try_join_next().is_some() {}
        if !self.owned.values().any(|owned| *owned == epoch) {
            return;
        }
        let starts = match starts {
            Ok(starts) => starts,
            Err(error) => return self.context.inbox.push(Message::Failed(error)),
        };
        let current = |start: &Start| self.owned.get(&start.partition) == Some(&epoch);
        let starts = starts.into_iter().filter(current).collect();
        self.begin(starts);
    }

    /// Stops handing out, so that nothing new begins; what is lost ends at once, what is not is waited for and committed.
    fn revoke(&mut self, partitions: &[TopicPartition], lost: bool) {
        for partition in partitions {
            self.owned.remove(partition);
        }
        self.forget_control(partitions);
        if self.owned.is_empty() {
            self.positions.abort_all();
        }
        let revoked = |assigned: &&Arc<Assigned>| !self.owned.contains_key(&assigned.partition);
        let assigned: Vec<Arc<Assigned>> = self.assigned.iter().filter(revoked).cloned().collect();
        self.giving_back.clone_from(&assigned);
        self.revocation += 1;
        let revocation = self.revocation;
        assigned.iter().for_each(|assigned| assigned.revoke());
        let _ = self.context.fetcher.send(FetchCommand::End(assigned.clone()));
        let (tell, done) = oneshot::channel();
        self.context.inbox.push(Message::Revoke(assigned.clone(), tell));
        if lost {
            tracing::warn!(
                group = self.context.group.as_deref(),
                "partitions lost: what was handled and not committed will be handled again"
            );
            return self.on_given_back();
        }
        let config = &self.context.config;
        // A topic that is gone takes no commit.
        let is_gone = |assigned: &Arc<Assigned>| {
            self.pattern.as_ref().is_some_and(|watch| !watch.matched.contains(&assigned.partition.topic))
        };
        let gone = !assigned.is_empty() && assigned.iter().all(is_gone);
        let (patience, last) = match self.finishing {
            // The future that runs handlers has waited for them already.
            Some(_) => (Duration::ZERO, config.shutdown_timeout),
            None if gone => (config.rebalance_timeout / 4 * 3, GONE_TOPIC),
            None => (config.rebalance_timeout / 4 * 3, config.rebalance_timeout / 8),
        };
        let generation = self.group.as_ref().and_then(Group::generation);
        let (events, committer) = (self.events.clone(), self.committer.clone());
        let thread = self.context.cluster.thread().clone();
        let wait = !patience.is_zero() && !self.alone;
        tokio::spawn(async move {
            if wait && tokio::time::timeout(patience, done).await.is_err() {
                tracing::warn!("handlers outlived the rebalance: their records will be handled again elsewhere");
            }
            let outcome = match committer {
                Some(committer) => committer.commit(generation.as_ref(), &assigned, Some(thread.now() + last)).await,
                None => Ok(()),
            };
            let _ = events.send(Event::GivenBack(revocation, outcome));
        });
    }

    /// From here on completions of what is given back have no effect. Who waits for the end hears what stays uncommitted.
    fn close(&mut self) {
        let closed = std::mem::take(&mut self.giving_back);
        if let (Some(_), Some(committer), Ok(())) = (&self.finishing, &self.committer, &self.outcome) {
            let left = |assigned: &Arc<Assigned>| lock(&assigned.watermark).committable();
            let left = closed.iter().filter_map(left).map(|c| (c.partition().clone(), c.offset()));
            let uncommitted: Vec<_> = left.collect();
            if !uncommitted.is_empty() {
                let (group, reason) = (committer.group.clone(), "the assignment ended before its last commit".into());
                self.outcome = Err(ConsumeError::Commit { group, uncommitted, reason });
            }
        }
        for assigned in &closed {
            assigned.revoke();
            lock(&assigned.watermark).close();
        }
        self.assigned.retain(|assigned| !closed.iter().any(|closed| Arc::ptr_eq(assigned, closed)));
        self.publish();
    }

    /// Everything that is left ends at once.
    fn close_all(&mut self) {
        self.positions.abort_all();
        self.owned.clear();
        self.giving_back.clone_from(&self.assigned);
        self.close();
    }

    fn on_given_back(&mut self) {
        self.close();
        let now = self.now();
        match &mut self.group {
            Some(group) => group.on_revoked(now),
            None => self.finished(),
        }
    }

    fn finish(&mut self, reply: Option<oneshot::Sender<Result<(), ConsumeError>>>) {
        if let Some(waiting) = &mut self.finishing {
            waiting.extend(reply);
            return;
        }
        self.finishing = Some(reply.into_iter().collect());
        let now = self.now();
        // The last commit, then the leave: each has its time.
        self.deadline = Some(now + self.context.config.shutdown_timeout * 2);
        match &mut self.group {
            Some(group) if group.is_over() => self.finished(),
            Some(group) => group.leave(now),
            None => {
                let all: Vec<TopicPartition> = self.owned.keys().cloned().collect();
                self.revoke(&all, false);
            }
        }
    }

    fn finished(&mut self) {
        self.over = true;
    }

    fn on_event(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Committed(outcome) => return self.on_committed(outcome),
            Event::Topics(topics) => return self.on_topics(topics),
            Event::Protocol(next) => return self.on_protocol(next),
            Event::Positions(epoch, starts) => return self.on_positions(epoch, starts),
            Event::Sought(sought) => return self.on_sought(sought),
            Event::GivenBack(revocation, outcome) => {
                if revocation != self.revocation {
                    return;
                }
                if let Err(failure) = outcome {
                    tracing::warn!(reason = failure.reason, "a last commit before giving partitions back failed");
                    self.on_commit_failure(&failure);
                    if self.group.as_ref().is_some_and(|group| !group.is_over() && !group.is_revoking()) {
                        // The group went on to a generation in which it can be committed: that is waited for, and
                        // everything is revoked again then.
                        return;
                    }
                    if let (Some(_), Some(committer)) = (&self.finishing, &self.committer) {
                        self.outcome = Err(failure.into_error(committer.group.clone()));
                    }
                }
                return self.on_given_back();
            }
            Event::Impossible(error) => {
                // Nothing waits for an answer that cannot come: the leave is tried, once.
                if let Some(group) = &mut self.group {
                    group.on_impossible(now);
                }
                return self.context.inbox.push(Message::Failed(error));
            }
            _ => {}
        }
        let Some(group) = &mut self.group else { return };
        match event {
            Event::Coordinator(id, found) => group.on_coordinator(now, id, found),
            Event::Joined(id, joined) => group.on_joined(now, id, joined),
            Event::Counted(id, counts) => group.on_counted(now, id, counts),
            Event::Synced(id, error, assignment) => group.on_synced(now, id, error, &assignment),
            Event::Heartbeat(id, error) => group.on_heartbeat(now, id, error),
            Event::Left(id) => group.on_left(id),
            Event::Beaten(id, beaten) => group.on_beaten(now, id, beaten),
            Event::Resolved(id, names) => group.on_resolved(now, id, names),
            Event::Unanswered(id) => group.on_unanswered(now, id),
            _ => {}
        }
    }

    /// Does what the group decided on.
    fn act(&mut self) {
        while let Some(action) = self.group.as_mut().and_then(Group::poll_action) {
            match action {
                Action::Assign { partitions } => {
                    let meant = self.meant(partitions);
                    self.assign(meant.map(|partition| (partition, None)).collect());
                }
                Action::Revoke { partitions, lost } => self.revoke(&partitions, lost),
                Action::Fail(failure) => self.on_group_failure(failure),
                request => self.request(request),
            }
        }
        self.publish_generation();
        if self.finishing.is_some() && self.group.as_ref().is_some_and(Group::is_over) {
            self.finished();
        }
    }

    fn on_group_failure(&mut self, failure: GroupFailure) {
        if self.falls_back(&failure) {
            return;
        }
        let Some(committer) = &self.committer else { return };
        let GroupFailure { during, code, detail } = failure;
        let error = ConsumeError::Group { group: committer.group.clone(), during, code, detail };
        let _ = self.context.fetcher.send(FetchCommand::End(self.assigned.clone()));
        self.close_all();
        self.context.inbox.push(Message::Failed(error));
    }

    fn end(&mut self) {
        self.close_all();
        if let Some(committer) = &self.committer {
            self.context.cluster.release_lane(committer.lane);
        }
        if let Some(lane) = self.joins {
            self.context.cluster.release_lane(lane);
        }
        let outcome = std::mem::replace(&mut self.outcome, Ok(()));
        if let Some(reply) = self.finishing.take().and_then(|mut waiting| waiting.pop()) {
            let _ = reply.send(outcome);
        }
    }

    fn lane(&self) -> Lane {
        self.committer.as_ref().map_or(Lane::Control, |committer| committer.lane)
    }

    fn coordinator_moved(&self) {
        if let Some(committer) = &self.committer {
            self.context.cluster.coordinator_moved(CoordinatorType::Group, &committer.group);
        }
    }
}
