//! What the fuzz target `group_ops` does: a member of a group, of either protocol, is driven as the input says, with answers
//! in any order, late, foreign and missing; records are handed out, done and committed beside it. The plainest model there
//! is watches: the sets of handled offsets.
//!
//! - No committable offset is above a record that was not handled, and no metadata names one.
//! - What is lost, or given back, is neither completed nor committed any more.
//! - A partition begins only when it is not ours yet, and only ours are revoked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::group::classic::{Group, GroupConfig, Joined};
use super::group::next::{Beaten, NextConfig, NextMember};
use super::group::{Action, Generation, RequestId};
use super::progress::{self, Log};
use super::protocol;
use super::watermark::{AssignmentEpoch, Committable, Completion, HandedOut, Watermark};
use crate::config::Assignor;
use crate::core::retry::Backoff;
use crate::types::{TopicId, TopicPartition};
use crate::wire::ErrorCode;

const PARTITIONS: i32 = 4;
const TOPIC_ID: TopicId = TopicId([9; 16]);
const CODES: [ErrorCode; 10] = [
    ErrorCode::REBALANCE_IN_PROGRESS,
    ErrorCode::ILLEGAL_GENERATION,
    ErrorCode::UNKNOWN_MEMBER_ID,
    ErrorCode::NOT_COORDINATOR,
    ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode::MEMBER_ID_REQUIRED,
    ErrorCode::FENCED_MEMBER_EPOCH,
    ErrorCode::STALE_MEMBER_EPOCH,
    ErrorCode::FENCED_INSTANCE_ID,
    ErrorCode(999),
];

/// The bytes of the input, one decision each; zeros when they are used up.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.next()) % limit.max(1)
    }

    fn code(&mut self) -> ErrorCode {
        // Most answers are good ones, or nothing would ever happen.
        let choice = self.next();
        if choice < 224 { ErrorCode::NONE } else { CODES[usize::from(choice) % CODES.len()] }
    }

    /// Some bytes of the input itself.
    fn foreign(&mut self) -> Bytes {
        let (taken, rest) = self.0.split_at(self.below(40).min(self.0.len()));
        self.0 = rest;
        Bytes::copy_from_slice(taken)
    }

    fn partitions(&mut self) -> Vec<TopicPartition> {
        let mask = self.next();
        let named = |index: &i32| mask >> index & 1 == 1;
        (0..PARTITIONS).filter(named).map(|index| TopicPartition::new("orders", index)).collect()
    }
}

enum Member {
    Classic(Box<Group>),
    Next(Box<NextMember>),
}

impl Member {
    fn new(choices: &mut Choices<'_>, now: Instant) -> Member {
        let backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(100));
        let kind = choices.next();
        if kind & 1 == 0 {
            let random = [7; 16];
            return Member::Next(Box::new(NextMember::new(
                NextConfig { is_static: kind & 2 > 0, backoff, random },
                now,
            )));
        }
        let assignors = match kind >> 2 & 3 {
            0 => vec![Assignor::CooperativeSticky],
            1 => vec![Assignor::Sticky],
            2 => vec![Assignor::RoundRobin, Assignor::Range],
            _ => vec![Assignor::Range, Assignor::CooperativeSticky],
        };
        let config = GroupConfig {
            topics: vec![Arc::from("orders")],
            assignors,
            rack: None,
            instance_id: (kind & 2 > 0).then(|| "instance".to_owned()),
            heartbeat_interval: Duration::from_millis(30),
            backoff,
        };
        Member::Classic(Box::new(Group::new(config, now)))
    }

    fn poll_action(&mut self) -> Option<Action> {
        match self {
            Member::Classic(member) => member.poll_action(),
            Member::Next(member) => member.poll_action(),
        }
    }

    fn generation(&self) -> Option<Generation> {
        match self {
            Member::Classic(member) => member.generation(),
            Member::Next(member) => member.generation(),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match self {
            Member::Classic(member) => member.handle_timeout(now),
            Member::Next(member) => member.handle_timeout(now),
        }
    }

    fn on_revoked(&mut self, now: Instant) {
        match self {
            Member::Classic(member) => member.on_revoked(now),
            Member::Next(member) => member.on_revoked(now),
        }
    }
}

/// A partition under one assignment, and what was really done of it.
struct Held {
    mark: Watermark,
    epoch: u64,
    position: i64,
    handlers: Vec<(i64, HandedOut)>,
    /// Offsets that were handed out and not handled.
    open: BTreeSet<i64>,
}

struct World<'a> {
    choices: Choices<'a>,
    now: Instant,
    member: Member,
    /// Requests that are out, and some that were answered already: their second answer is late.
    out: Vec<Action>,
    held: BTreeMap<TopicPartition, Held>,
    owned: BTreeSet<TopicPartition>,
    giving_back: bool,
    epoch: u64,
    /// Of assignments that are over.
    late: Vec<(TopicPartition, HandedOut)>,
    commits: Vec<Committable>,
    /// What the group has.
    stored: BTreeMap<TopicPartition, (i64, i32, String)>,
    failed: bool,
    tally: (usize, usize),
}

/// Lives one life as `input` says: how many commits were stored, and how many of them named something beyond their offset.
/// Panics when a promise is broken.
#[allow(clippy::disallowed_methods, reason = "a made-up clock has to start somewhere")]
pub(crate) fn live(input: &[u8]) -> (usize, usize) {
    let (mut choices, now) = (Choices(input), Instant::now());
    let member = Member::new(&mut choices, now);
    let mut world = World {
        choices,
        now,
        member,
        out: Vec::new(),
        held: BTreeMap::new(),
        owned: BTreeSet::new(),
        giving_back: false,
        epoch: 0,
        late: Vec::new(),
        commits: Vec::new(),
        stored: BTreeMap::new(),
        failed: false,
        tally: (0, 0),
    };
    world.act();
    // Answers may ask for answers without end; the input does not.
    while !world.choices.0.is_empty() {
        world.step();
        world.act();
        world.check();
    }
    world.tally
}

impl World<'_> {
    fn step(&mut self) {
        match self.choices.next() % 16 {
            0..=4 => self.answer(),
            5 => {
                self.now += Duration::from_millis(u64::from(self.choices.next()));
                self.member.handle_timeout(self.now);
            }
            6..=8 => self.hand_out(),
            9..=10 => self.complete(),
            11 => self.commit(),
            12 => self.committed(),
            13 if self.giving_back => self.given_back(),
            14 => self.late(),
            15 => self.meddle(),
            _ => {}
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.member.poll_action() {
            match action {
                Action::Assign { partitions } => self.assign(partitions),
                Action::Revoke { partitions, lost } => self.revoke(&partitions, lost),
                Action::Fail(_) => {
                    self.failed = true;
                    let all: Vec<TopicPartition> = self.held.keys().cloned().collect();
                    self.owned.clear();
                    self.close(&all);
                }
                request => self.out.push(request),
            }
        }
    }

    fn assign(&mut self, partitions: Vec<TopicPartition>) {
        self.epoch += 1;
        for partition in partitions {
            assert!(self.owned.insert(partition.clone()), "{partition} is ours already");
            assert!(!self.held.contains_key(&partition), "{partition} begins while it is given back");
            let (offset, leader_epoch, text) = self.stored.get(&partition).cloned().unwrap_or((0, -1, String::new()));
            let log = Log { partition: &partition, topic_id: TOPIC_ID };
            let done = progress::read(&text, log, offset).unwrap_or_default();
            let committed = self.stored.get(&partition).map(|_| offset);
            let mark = Watermark::new(partition.clone(), AssignmentEpoch(self.epoch), offset, leader_epoch, committed)
                .restored(TOPIC_ID, done);
            let held = Held { mark, epoch: self.epoch, position: offset, handlers: Vec::new(), open: BTreeSet::new() };
            self.held.insert(partition, held);
        }
    }

    fn revoke(&mut self, partitions: &[TopicPartition], lost: bool) {
        for partition in partitions {
            assert!(self.held.contains_key(partition), "{partition} is revoked and was never ours");
            self.owned.remove(partition);
        }
        self.giving_back = true;
        if lost {
            self.given_back();
        }
    }

    /// The driver: what is not owned any more is closed, and the member hears of it.
    fn given_back(&mut self) {
        self.giving_back = false;
        let over: Vec<TopicPartition> =
            self.held.keys().filter(|partition| !self.owned.contains(*partition)).cloned().collect();
        self.close(&over);
        self.member.on_revoked(self.now);
    }

    fn close(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            let Some(mut held) = self.held.remove(partition) else { continue };
            held.mark.close();
            assert!(held.mark.committable().is_none(), "{partition} is over");
            for (_, token) in held.handlers.drain(..) {
                self.late.push((partition.clone(), token));
            }
            if let Some((_, token)) = self.late.pop() {
                assert_eq!(held.mark.complete(token), Completion::Discarded);
            }
        }
    }

    fn pick(&mut self) -> Option<TopicPartition> {
        let at = self.choices.below(self.held.len());
        self.held.keys().nth(at).cloned()
    }

    fn hand_out(&mut self) {
        let Some(partition) = self.pick() else { return };
        let (skip, revoked) = (self.choices.below(3) as i64, !self.owned.contains(&partition));
        let Some(held) = self.held.get_mut(&partition) else { return };
        if revoked {
            return;
        }
        held.position += skip;
        let (done, until) = held.mark.is_done(held.position);
        if done {
            held.position = until;
            return;
        }
        let token = held.mark.hand_out(held.position, 1);
        held.open.insert(held.position);
        held.handlers.push((held.position, token));
        held.position += 1;
    }

    fn complete(&mut self) {
        let Some(partition) = self.pick() else { return };
        let at = self.choices.next();
        let Some(held) = self.held.get_mut(&partition).filter(|held| !held.handlers.is_empty()) else { return };
        let (offset, token) = held.handlers.swap_remove(usize::from(at) % held.handlers.len());
        assert_eq!(held.mark.complete(token), Completion::Counted, "{partition} is ours");
        held.open.remove(&offset);
    }

    /// A commit goes out, if the member may commit.
    fn commit(&mut self) {
        let Some(partition) = self.pick() else { return };
        if self.member.generation().is_some()
            && let Some(commit) = self.held.get(&partition).and_then(|held| held.mark.committable())
        {
            self.commits.push(commit);
        }
    }

    /// One is answered, in any order.
    fn committed(&mut self) {
        if self.commits.is_empty() {
            return;
        }
        let commit = self.commits.swap_remove(self.choices.below(self.commits.len()));
        let code = self.choices.code();
        if code == ErrorCode::NONE {
            if let Some(held) = self.held.get_mut(commit.partition()) {
                held.mark.on_committed(&commit);
            }
            self.tally.0 += 1;
            self.tally.1 += usize::from(!commit.metadata().is_empty());
            let stored = (commit.offset(), commit.leader_epoch(), commit.metadata().to_owned());
            self.stored.insert(commit.partition().clone(), stored);
        } else if let Some(generation) = self.member.generation() {
            match &mut self.member {
                Member::Classic(member) => member.on_commit_refused(self.now, &generation, code),
                Member::Next(member) => member.on_commit_refused(self.now, &generation, code),
            }
        }
    }

    /// A handler of an assignment that is over comes to its end.
    fn late(&mut self) {
        let Some((partition, token)) = self.late.pop() else { return };
        if let Some(held) = self.held.get_mut(&partition) {
            assert_eq!(held.mark.complete(token), Completion::Discarded, "{partition} epoch {}", held.epoch);
        }
    }

    fn meddle(&mut self) {
        let (choice, now) = (self.choices.next(), self.now);
        let counts = || BTreeMap::from([(Arc::from("orders"), i32::from(choice >> 4))]);
        match (&mut self.member, choice % 4) {
            (Member::Classic(member), 0) if choice > 200 => member.leave(now),
            (Member::Next(member), 0) if choice > 200 => member.leave(now),
            (Member::Classic(member), 1) => member.on_coordinator_lost(now),
            (Member::Next(member), 1) => member.on_coordinator_lost(now),
            (Member::Classic(member), 2) => member.on_counts_seen(now, &counts()),
            (Member::Classic(member), 3) if choice > 128 => {
                member.subscribe(now, vec![Arc::from(if choice > 192 { "orders" } else { "parcels" })]);
            }
            _ => {}
        }
    }

    /// Answers a request that is out, or one that has been answered.
    fn answer(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let at = self.choices.below(self.out.len());
        let kind = self.choices.next();
        let action = self.out.swap_remove(at);
        let now = self.now;
        if kind % 32 == 31 {
            let Some(id) = id(&action) else { return };
            match &mut self.member {
                Member::Classic(member) => member.on_unanswered(now, id),
                Member::Next(member) => member.on_unanswered(now, id),
            }
            return;
        }
        match &mut self.member {
            Member::Classic(member) => answer_classic(member, &mut self.choices, now, &action),
            Member::Next(member) => answer_next(member, &mut self.choices, now, &action),
        }
        if kind % 16 == 14 {
            self.out.push(action);
        }
    }

    fn check(&self) {
        for (partition, held) in &self.held {
            let lowest = held.open.first().copied().unwrap_or(i64::MAX);
            assert!(held.mark.handled() <= lowest, "{partition}: {lowest} is open");
            let Some(commit) = held.mark.committable() else { continue };
            assert!(commit.offset() <= lowest, "{partition}: {lowest} is open");
            let log = Log { partition, topic_id: TOPIC_ID };
            let done = progress::read(commit.metadata(), log, commit.offset()).unwrap_or_default();
            for (from, end) in done.ranges {
                let open = held.open.range(from..end).next();
                assert_eq!(open, None, "{partition}: named as done");
            }
        }
        assert!(!self.failed || self.held.is_empty(), "a member that has failed holds nothing");
    }
}

fn id(action: &Action) -> Option<RequestId> {
    match action {
        Action::FindCoordinator { id, .. }
        | Action::Join { id, .. }
        | Action::CountPartitions { id, .. }
        | Action::Sync { id, .. }
        | Action::Heartbeat { id, .. }
        | Action::Leave { id, .. }
        | Action::ConsumerHeartbeat { id, .. }
        | Action::ResolveTopics { id, .. } => Some(*id),
        Action::Assign { .. } | Action::Revoke { .. } | Action::Fail(_) => None,
    }
}

fn answer_classic(member: &mut Group, choices: &mut Choices<'_>, now: Instant, action: &Action) {
    match action {
        Action::FindCoordinator { id, .. } => member.on_coordinator(now, *id, choices.below(16) > 0),
        Action::Join { id, protocols, .. } => {
            let (error, kind) = (choices.code(), choices.next());
            let mut members = Vec::new();
            let offered = protocols.get(usize::from(kind >> 1) % protocols.len().max(1));
            if let Some((_, subscription)) = offered {
                members.push(("me".to_owned(), None, subscription.clone()));
            }
            if kind > 240 {
                members.push(("other".to_owned(), None, choices.foreign()));
            }
            let joined = Joined {
                error,
                generation: i32::from(choices.next()),
                protocol: offered.map_or("range", |(name, _)| name).to_owned(),
                leader: if kind & 1 > 0 { "me" } else { "other" }.to_owned(),
                member_id: "me".to_owned(),
                skip_assignment: kind & 16 > 0,
                members,
            };
            member.on_joined(now, *id, joined);
        }
        Action::CountPartitions { id, topics } => {
            let count = choices.below(6) as i32;
            member.on_counted(now, *id, topics.iter().map(|topic| (topic.clone(), count)).collect());
        }
        Action::Sync { id, .. } => {
            let error = choices.code();
            let assignment = match choices.below(8) {
                0 => choices.foreign(),
                _ => protocol::encode_assignment(&choices.partitions()),
            };
            member.on_synced(now, *id, error, &assignment);
        }
        Action::Heartbeat { id, .. } => member.on_heartbeat(now, *id, choices.code()),
        Action::Leave { id, .. } => member.on_left(*id),
        _ => {}
    }
}

fn answer_next(member: &mut NextMember, choices: &mut Choices<'_>, now: Instant, action: &Action) {
    match action {
        Action::FindCoordinator { id, .. } => member.on_coordinator(now, *id, choices.below(16) > 0),
        Action::ConsumerHeartbeat { id, .. } => {
            let error = choices.code();
            let epoch = i32::from(choices.next()) - 1;
            let wanted = choices.partitions().iter().map(|named| named.partition).collect();
            let assignment = (choices.below(3) > 0).then(|| vec![(TOPIC_ID, wanted)]);
            let interval = Duration::from_millis(u64::from(choices.next()));
            member.on_beaten(now, *id, Beaten { error, message: String::new(), epoch, interval, assignment });
        }
        Action::ResolveTopics { id, topics } => {
            let found = choices.below(3) > 0;
            let names = topics.iter().filter(|_| found).map(|id| (*id, Arc::from("orders"))).collect();
            member.on_resolved(now, *id, names);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    /// Some of what the fuzz target looks for, without a fuzzer.
    #[test]
    fn random_lives_break_no_promise() {
        let (mut seed, mut tally) = (1u64, (0, 0));
        for life in 0..3000 {
            let input: Vec<u8> = (0..400)
                .map(|_| {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    (seed >> 33) as u8
                })
                .collect();
            let lived = std::panic::catch_unwind(|| super::live(&input));
            let Ok((commits, beyond)) = lived else { panic!("life {life}: {input:?}") };
            tally = (tally.0 + commits, tally.1 + beyond);
        }
        assert!(tally.0 > 1000 && tally.1 > 100, "too little happened: {tally:?}");
    }
}
