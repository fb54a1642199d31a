//! One classic consumer group: members, generations, rebalances and committed offsets.
//!
//! ```text
//!           join                    all joined, or deadline          leader's sync
//!   Empty ───────▶ PreparingRebalance ─────────────────▶ CompletingRebalance ──────▶ Stable
//!     ▲                 ▲   │ nobody joined                   │ join, leave, expiry   │
//!     └─────────────────┼───┘                                 │                       │
//!                       └─────────────────────────────────────┴───────────────────────┘
//! ```

use super::code;
use bytes::Bytes;
use std::collections::BTreeMap;
use tokio::sync::oneshot;

/// Where a group is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupPhase {
    /// No members; offsets may remain.
    Empty,
    /// Members are asked to join again.
    PreparingRebalance,
    /// All have joined; the leader's assignment is awaited.
    CompletingRebalance,
    /// Every member has its assignment.
    Stable,
}

impl GroupPhase {
    /// Kafka's word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            GroupPhase::Empty => "Empty",
            GroupPhase::PreparingRebalance => "PreparingRebalance",
            GroupPhase::CompletingRebalance => "CompletingRebalance",
            GroupPhase::Stable => "Stable",
        }
    }
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Next offset to consume.
    pub offset: i64,
    /// Leader epoch of the record before it, or -1.
    pub leader_epoch: i32,
    /// The application's note.
    pub metadata: Option<String>,
}

/// Answer to JoinGroup.
#[derive(Debug, Clone, Default)]
pub(crate) struct Joined {
    pub(crate) error: i16,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: String,
    pub(crate) member_id: String,
    pub(crate) skip_assignment: bool,
    /// (member id, instance id, metadata), for the leader only.
    pub(crate) members: Vec<(String, Option<String>, Bytes)>,
}

impl Joined {
    pub(crate) fn refused(error: i16, member_id: &str) -> Self {
        Self { error, generation: -1, member_id: member_id.to_owned(), ..Self::default() }
    }
}

/// Answer to SyncGroup.
#[derive(Debug, Clone, Default)]
pub(crate) struct Synced {
    pub(crate) error: i16,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignment: Bytes,
}

impl Synced {
    pub(crate) fn refused(error: i16) -> Self {
        Self { error, ..Self::default() }
    }
}

/// An answer that is there, or one that comes when other members have acted.
#[derive(Debug)]
pub(crate) enum Answer<T> {
    Now(T),
    Later(oneshot::Receiver<T>),
}

/// What a member says when it joins.
#[derive(Debug, Clone)]
pub(crate) struct JoinAsk {
    pub(crate) member_id: String,
    /// Used when the member has none yet.
    pub(crate) new_member_id: String,
    pub(crate) client_id: String,
    pub(crate) instance: Option<String>,
    pub(crate) session_timeout_ms: i64,
    pub(crate) rebalance_timeout_ms: i64,
    pub(crate) protocol_type: String,
    pub(crate) protocols: Vec<(String, Bytes)>,
    /// JoinGroup v4 and up: a new member is first told its id.
    pub(crate) needs_known_id: bool,
    /// JoinGroup v9 and up.
    pub(crate) can_skip_assignment: bool,
}

/// A member as DescribeGroups tells it.
#[derive(Debug)]
pub(crate) struct ToldMember {
    pub(crate) id: String,
    pub(crate) instance: Option<String>,
    pub(crate) client_id: String,
    /// Both empty unless the group is stable.
    pub(crate) metadata: Bytes,
    pub(crate) assignment: Bytes,
}

#[derive(Debug)]
struct Member {
    client_id: String,
    instance: Option<String>,
    session_timeout_ms: i64,
    rebalance_timeout_ms: i64,
    protocols: Vec<(String, Bytes)>,
    assignment: Bytes,
    last_seen_ms: i64,
    joining: Option<oneshot::Sender<Joined>>,
    syncing: Option<oneshot::Sender<Synced>>,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) phase: GroupPhase,
    pub(crate) generation: i32,
    pub(crate) offsets: BTreeMap<(String, i32), Committed>,
    initial_delay_ms: i64,
    protocol_type: String,
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Member ids given out by MEMBER_ID_REQUIRED and not used yet, with the time at which they lapse.
    pending: BTreeMap<String, i64>,
    not_before_ms: i64,
    deadline_ms: i64,
}

impl Group {
    pub(crate) fn new(initial_delay_ms: i64) -> Self {
        Self {
            phase: GroupPhase::Empty,
            generation: 0,
            offsets: BTreeMap::new(),
            initial_delay_ms,
            protocol_type: String::new(),
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            pending: BTreeMap::new(),
            not_before_ms: 0,
            deadline_ms: i64::MAX,
        }
    }

    pub(crate) fn member_ids(&self) -> Vec<String> {
        self.members.keys().cloned().collect()
    }

    pub(crate) fn has_classic_members(&self) -> bool {
        !self.members.is_empty()
    }

    pub(crate) fn join(&mut self, ask: JoinAsk, now_ms: i64) -> Answer<Joined> {
        if !self.speaks(&ask) {
            return Answer::Now(Joined::refused(code::INCONSISTENT_GROUP_PROTOCOL, &ask.member_id));
        }
        let answer = self.join_checked(ask, now_ms);
        self.maybe_complete(now_ms);
        answer
    }

    fn join_checked(&mut self, ask: JoinAsk, now_ms: i64) -> Answer<Joined> {
        let holder = ask.instance.as_ref().and_then(|instance| self.holder(instance));
        if ask.member_id.is_empty() {
            return match holder {
                Some(old) => self.replace_static(&old, ask, now_ms),
                None if ask.instance.is_none() && ask.needs_known_id => {
                    self.pending.insert(ask.new_member_id.clone(), now_ms + ask.session_timeout_ms);
                    Answer::Now(Joined::refused(code::MEMBER_ID_REQUIRED, &ask.new_member_id))
                }
                None => {
                    let id = ask.new_member_id.clone();
                    self.enter(id, ask, now_ms)
                }
            };
        }
        let id = ask.member_id.clone();
        if holder.is_some_and(|holder| holder != id) {
            return Answer::Now(Joined::refused(code::FENCED_INSTANCE_ID, &id));
        }
        if self.pending.remove(&id).is_some() {
            return self.enter(id, ask, now_ms);
        }
        let Some(member) = self.members.get_mut(&id) else {
            return Answer::Now(Joined::refused(code::UNKNOWN_MEMBER_ID, &id));
        };
        let changed = member.protocols != ask.protocols;
        member.last_seen_ms = now_ms;
        let is_leader = self.leader.as_deref() == Some(id.as_str());
        match self.phase {
            GroupPhase::CompletingRebalance if !changed => Answer::Now(self.describe(&id)),
            GroupPhase::Stable if !changed && !is_leader => Answer::Now(self.describe(&id)),
            _ => self.enter(id, ask, now_ms),
        }
    }

    pub(crate) fn sync(
        &mut self,
        member_id: &str,
        instance: Option<&str>,
        generation: i32,
        protocol: (Option<&str>, Option<&str>),
        assignments: BTreeMap<String, Bytes>,
        now_ms: i64,
    ) -> Answer<Synced> {
        if let Err(error) = self.admit(member_id, instance, generation) {
            return Answer::Now(Synced::refused(error));
        }
        let (kind, name) = protocol;
        let other = kind.is_some_and(|kind| kind != self.protocol_type)
            || name.is_some_and(|name| Some(name) != self.protocol.as_deref());
        if other {
            return Answer::Now(Synced::refused(code::INCONSISTENT_GROUP_PROTOCOL));
        }
        self.touch(member_id, now_ms);
        match self.phase {
            GroupPhase::Empty => Answer::Now(Synced::refused(code::UNKNOWN_MEMBER_ID)),
            GroupPhase::PreparingRebalance => Answer::Now(Synced::refused(code::REBALANCE_IN_PROGRESS)),
            GroupPhase::Stable => Answer::Now(self.assignment_of(member_id)),
            GroupPhase::CompletingRebalance => {
                let (sender, receiver) = oneshot::channel();
                if let Some(member) = self.members.get_mut(member_id) {
                    member.syncing = Some(sender);
                }
                if self.leader.as_deref() == Some(member_id) {
                    self.assign(assignments, now_ms);
                }
                Answer::Later(receiver)
            }
        }
    }

    pub(crate) fn heartbeat(&mut self, member_id: &str, instance: Option<&str>, generation: i32, now_ms: i64) -> i16 {
        if let Err(error) = self.admit(member_id, instance, generation) {
            return error;
        }
        self.touch(member_id, now_ms);
        match self.phase {
            GroupPhase::Empty => code::UNKNOWN_MEMBER_ID,
            GroupPhase::PreparingRebalance => code::REBALANCE_IN_PROGRESS,
            GroupPhase::CompletingRebalance | GroupPhase::Stable => code::NONE,
        }
    }

    /// Whether a commit with this identity may be stored. Generation -1 is a commit from outside the group protocol.
    pub(crate) fn may_commit(&mut self, member_id: &str, instance: Option<&str>, generation: i32, now_ms: i64) -> i16 {
        if generation < 0 && self.members.is_empty() {
            return code::NONE;
        }
        if let Err(error) = self.admit(member_id, instance, generation) {
            return error;
        }
        self.touch(member_id, now_ms);
        match self.phase {
            GroupPhase::CompletingRebalance => code::REBALANCE_IN_PROGRESS,
            _ => code::NONE,
        }
    }

    /// A member leaves, named by its id or by its instance id.
    pub(crate) fn leave(&mut self, member_id: &str, instance: Option<&str>, now_ms: i64) -> i16 {
        if self.pending.remove(member_id).is_some() {
            self.maybe_complete(now_ms);
            return code::NONE;
        }
        let id = match instance.map(|instance| self.holder(instance)) {
            None => member_id.to_owned(),
            Some(None) => return code::UNKNOWN_MEMBER_ID,
            Some(Some(holder)) if member_id.is_empty() || holder == member_id => holder,
            Some(Some(_)) => return code::FENCED_INSTANCE_ID,
        };
        if self.remove(&id, now_ms) { code::NONE } else { code::UNKNOWN_MEMBER_ID }
    }

    /// Sessions that ran out, rebalances whose time is over. Answers whether anything changed.
    pub(crate) fn tick(&mut self, now_ms: i64) -> bool {
        self.pending.retain(|_, lapses| *lapses > now_ms);
        let silent = |member: &Member| {
            member.joining.is_none()
                && member.syncing.is_none()
                && now_ms - member.last_seen_ms > member.session_timeout_ms
        };
        let expired: Vec<_> = self.members.iter().filter(|(_, m)| silent(m)).map(|(id, _)| id.clone()).collect();
        for id in &expired {
            self.remove(id, now_ms);
        }
        let before = (self.phase, self.generation);
        if self.phase == GroupPhase::CompletingRebalance && now_ms >= self.deadline_ms {
            let late: Vec<_> =
                self.members.iter().filter(|(_, m)| m.syncing.is_none()).map(|(id, _)| id.clone()).collect();
            for id in &late {
                self.remove(id, now_ms);
            }
        }
        self.maybe_complete(now_ms);
        !expired.is_empty() || before != (self.phase, self.generation)
    }

    // --- steps of a rebalance ---

    fn enter(&mut self, id: String, ask: JoinAsk, now_ms: i64) -> Answer<Joined> {
        let (sender, receiver) = oneshot::channel();
        self.protocol_type = ask.protocol_type;
        let assignment = self.members.get(&id).map(|member| member.assignment.clone()).unwrap_or_default();
        self.members.insert(
            id,
            Member {
                client_id: ask.client_id,
                instance: ask.instance,
                session_timeout_ms: ask.session_timeout_ms,
                rebalance_timeout_ms: ask.rebalance_timeout_ms,
                protocols: ask.protocols,
                assignment,
                last_seen_ms: now_ms,
                joining: Some(sender),
                syncing: None,
            },
        );
        self.prepare(now_ms);
        Answer::Later(receiver)
    }

    /// KIP-345: a static member is back under a new member id and keeps its place.
    fn replace_static(&mut self, old: &str, ask: JoinAsk, now_ms: i64) -> Answer<Joined> {
        let new = ask.new_member_id.clone();
        let Some(mut member) = self.members.remove(old) else {
            return self.enter(new, ask, now_ms);
        };
        if let Some(waiting) = member.joining.take() {
            let _ = waiting.send(Joined::refused(code::FENCED_INSTANCE_ID, old));
        }
        if let Some(waiting) = member.syncing.take() {
            let _ = waiting.send(Synced::refused(code::FENCED_INSTANCE_ID));
        }
        let was_leader = self.leader.as_deref() == Some(old);
        let unchanged = member.protocols == ask.protocols;
        member.last_seen_ms = now_ms;
        self.members.insert(new.clone(), member);
        if was_leader {
            self.leader = Some(new.clone());
        }
        if self.phase != GroupPhase::Stable || !unchanged {
            return self.enter(new, ask, now_ms);
        }
        let mut joined = self.describe(&new);
        if was_leader && ask.can_skip_assignment {
            joined.skip_assignment = true;
        } else if was_leader {
            // Before v9 a returning leader must not assign again, so it is told the old leader's id.
            joined.leader = old.to_owned();
            joined.members.clear();
        }
        Answer::Now(joined)
    }

    fn prepare(&mut self, now_ms: i64) {
        if self.phase == GroupPhase::PreparingRebalance {
            return;
        }
        self.not_before_ms = if self.phase == GroupPhase::Empty { now_ms + self.initial_delay_ms } else { now_ms };
        for member in self.members.values_mut() {
            if let Some(waiting) = member.syncing.take() {
                let _ = waiting.send(Synced::refused(code::REBALANCE_IN_PROGRESS));
            }
        }
        self.deadline_ms = now_ms + self.longest_rebalance_ms();
        self.phase = GroupPhase::PreparingRebalance;
    }

    fn maybe_complete(&mut self, now_ms: i64) {
        if self.phase != GroupPhase::PreparingRebalance {
            return;
        }
        let all = self.members.values().all(|member| member.joining.is_some()) && self.pending.is_empty();
        if !(all && now_ms >= self.not_before_ms || now_ms >= self.deadline_ms) {
            return;
        }
        // Static members keep their place until their session ends.
        self.members.retain(|_, member| member.joining.is_some() || member.instance.is_some());
        self.generation += 1;
        if self.members.is_empty() {
            self.phase = GroupPhase::Empty;
            self.leader = None;
            self.protocol = None;
            return;
        }
        self.protocol = self.elect_protocol();
        if !self.leader.as_ref().is_some_and(|leader| self.members.contains_key(leader)) {
            self.leader = self.members.keys().next().cloned();
        }
        self.phase = GroupPhase::CompletingRebalance;
        self.deadline_ms = now_ms + self.longest_rebalance_ms();
        for id in self.member_ids() {
            let joined = self.describe(&id);
            if let Some(member) = self.members.get_mut(&id) {
                member.last_seen_ms = now_ms;
                if let Some(waiting) = member.joining.take() {
                    let _ = waiting.send(joined);
                }
            }
        }
    }

    fn assign(&mut self, mut assignments: BTreeMap<String, Bytes>, now_ms: i64) {
        self.phase = GroupPhase::Stable;
        self.deadline_ms = i64::MAX;
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
            member.last_seen_ms = now_ms;
        }
        for id in self.member_ids() {
            let synced = self.assignment_of(&id);
            if let Some(waiting) = self.members.get_mut(&id).and_then(|member| member.syncing.take()) {
                let _ = waiting.send(synced);
            }
        }
    }

    fn remove(&mut self, id: &str, now_ms: i64) -> bool {
        let Some(mut member) = self.members.remove(id) else { return false };
        if let Some(waiting) = member.joining.take() {
            let _ = waiting.send(Joined::refused(code::UNKNOWN_MEMBER_ID, id));
        }
        if let Some(waiting) = member.syncing.take() {
            let _ = waiting.send(Synced::refused(code::UNKNOWN_MEMBER_ID));
        }
        self.prepare(now_ms);
        self.maybe_complete(now_ms);
        true
    }

    // --- looking things up ---

    /// Whether anybody ever joined it or committed for it: a look-up makes an entry here, which is no group yet.
    pub(crate) fn exists(&self) -> bool {
        self.generation > 0 || !self.members.is_empty() || !self.pending.is_empty() || !self.offsets.is_empty()
    }

    pub(crate) fn protocol_type(&self) -> &str {
        &self.protocol_type
    }

    /// The protocol of a stable group.
    pub(crate) fn settled_protocol(&self) -> &str {
        self.protocol.as_deref().filter(|_| self.phase == GroupPhase::Stable).unwrap_or_default()
    }

    pub(crate) fn tell_members(&self) -> Vec<ToldMember> {
        let settled = self.phase == GroupPhase::Stable;
        let of = |(id, member): (&String, &Member)| ToldMember {
            id: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            metadata: member.metadata(self.settled_protocol()).cloned().unwrap_or_default(),
            assignment: if settled { member.assignment.clone() } else { Bytes::new() },
        };
        self.members.iter().map(of).collect()
    }

    fn admit(&self, member_id: &str, instance: Option<&str>, generation: i32) -> Result<(), i16> {
        let holder = instance.and_then(|instance| self.holder(instance));
        if holder.is_some_and(|holder| holder != member_id) {
            return Err(code::FENCED_INSTANCE_ID);
        }
        if !self.members.contains_key(member_id) {
            return Err(code::UNKNOWN_MEMBER_ID);
        }
        if generation != self.generation {
            return Err(code::ILLEGAL_GENERATION);
        }
        Ok(())
    }

    fn touch(&mut self, member_id: &str, now_ms: i64) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.last_seen_ms = now_ms;
        }
    }

    fn holder(&self, instance: &str) -> Option<String> {
        let held = self.members.iter().find(|(_, member)| member.instance.as_deref() == Some(instance));
        held.map(|(id, _)| id.clone())
    }

    fn longest_rebalance_ms(&self) -> i64 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }

    /// Whether the newcomer shares a protocol with all others.
    fn speaks(&self, ask: &JoinAsk) -> bool {
        if ask.protocols.is_empty() || ask.protocol_type.is_empty() {
            return false;
        }
        let mut others = self.members.iter().filter(|(id, _)| **id != ask.member_id).peekable();
        if others.peek().is_none() {
            return true;
        }
        let others: Vec<&Member> = others.map(|(_, member)| member).collect();
        ask.protocol_type == self.protocol_type
            && ask.protocols.iter().any(|(name, _)| others.iter().all(|member| member.metadata(name).is_some()))
    }

    /// Each member votes for the first of its protocols that all know.
    fn elect_protocol(&self) -> Option<String> {
        let known = |name: &str| self.members.values().all(|member| member.metadata(name).is_some());
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| known(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned())
    }

    fn describe(&self, id: &str) -> Joined {
        let leader = self.leader.clone().unwrap_or_default();
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = if leader == id {
            let of = |(id, member): (&String, &Member)| {
                (id.clone(), member.instance.clone(), member.metadata(&protocol).cloned().unwrap_or_default())
            };
            self.members.iter().map(of).collect()
        } else {
            Vec::new()
        };
        Joined {
            error: code::NONE,
            generation: self.generation,
            protocol_type: Some(self.protocol_type.clone()),
            protocol: Some(protocol),
            leader,
            member_id: id.to_owned(),
            skip_assignment: false,
            members,
        }
    }

    fn assignment_of(&self, id: &str) -> Synced {
        Synced {
            error: code::NONE,
            protocol_type: Some(self.protocol_type.clone()),
            protocol: self.protocol.clone(),
            assignment: self.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default(),
        }
    }
}

impl Member {
    fn metadata(&self, protocol: &str) -> Option<&Bytes> {
        self.protocols.iter().find(|(name, _)| name == protocol).map(|(_, metadata)| metadata)
    }
}
