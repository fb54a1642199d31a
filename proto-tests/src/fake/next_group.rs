//! One consumer group of KIP-848: members with epochs, a target assignment, and the way of each member to it.
//!
//! ```text
//!   heartbeat ─▶ subscription or topics changed? ─▶ group epoch + 1, new target (uniform, sticky)
//!            ─▶ this member:  owned − target, until it says that it is done ─▶ the member keeps its epoch
//!                             else + what of its target nobody holds ─▶ the member is at the group's epoch
//! ```
//! So a partition goes to its next member only after the former one has told, without it, what it owns. Left out: the
//! mixing with classic members, racks, `range`, patterns other than a literal or a prefix with `.*`.

use super::code;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// A partition by its topic's id.
pub(crate) type Key = (Uuid, i32);
/// Topics by name: id and count of partitions.
pub(crate) type Topics = BTreeMap<String, (Uuid, i32)>;

/// What a heartbeat says. `None` is "as before".
#[derive(Debug, Clone, Default)]
pub(crate) struct Beat {
    pub(crate) member: String,
    pub(crate) client_id: String,
    pub(crate) epoch: i32,
    pub(crate) instance: Option<String>,
    pub(crate) rebalance_timeout_ms: Option<i64>,
    pub(crate) topics: Option<BTreeSet<String>>,
    pub(crate) pattern: Option<String>,
    pub(crate) assignor: Option<String>,
    pub(crate) owned: Option<BTreeSet<Key>>,
}

/// What is answered to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Beaten {
    pub(crate) epoch: i32,
    pub(crate) assignment: Option<BTreeSet<Key>>,
}

/// A member as ConsumerGroupDescribe tells it.
#[derive(Debug)]
pub(crate) struct ToldMember {
    pub(crate) id: String,
    pub(crate) instance: Option<String>,
    pub(crate) client_id: String,
    pub(crate) epoch: i32,
    pub(crate) topics: BTreeSet<String>,
    pub(crate) pattern: Option<String>,
    pub(crate) assigned: BTreeSet<Key>,
    pub(crate) target: BTreeSet<Key>,
}

#[derive(Debug, Default)]
struct Member {
    client_id: String,
    instance: Option<String>,
    epoch: i32,
    previous_epoch: i32,
    topics: BTreeSet<String>,
    pattern: Option<String>,
    rebalance_timeout_ms: i64,
    last_seen_ms: i64,
    /// What it has, and what it is asked to give back.
    assigned: BTreeSet<Key>,
    /// Since which epoch it has it.
    since: BTreeMap<Key, i32>,
    revoking: BTreeSet<Key>,
    revoked_until_ms: i64,
}

/// The epoch of a static member that is away for a while.
const AWAY: i32 = -2;

#[derive(Debug, Default)]
pub(crate) struct NextGroup {
    epoch: i32,
    members: BTreeMap<String, Member>,
    target: BTreeMap<String, BTreeSet<Key>>,
    /// The topics that the target was computed from.
    seen: Topics,
}

impl NextGroup {
    pub(crate) fn member_ids(&self) -> Vec<String> {
        self.members.keys().cloned().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether it ever had a member.
    pub(crate) fn exists(&self) -> bool {
        self.epoch > 0
    }

    pub(crate) fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Kafka's word for where it is. The target is computed at once, so that it is never `Assigning`.
    pub(crate) fn phase(&self) -> &'static str {
        let settled = |member: &Member| member.revoking.is_empty() && member.epoch == self.epoch;
        match self.is_empty() {
            true => "Empty",
            false if self.members.values().all(settled) => "Stable",
            false => "Reconciling",
        }
    }

    /// The name of a topic that the target was computed from.
    pub(crate) fn topic_name(&self, id: Uuid) -> Option<&str> {
        self.seen.iter().find(|(_, topic)| topic.0 == id).map(|(name, _)| name.as_str())
    }

    pub(crate) fn tell_members(&self) -> Vec<ToldMember> {
        let of = |(id, member): (&String, &Member)| ToldMember {
            id: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            epoch: member.epoch,
            topics: member.topics.clone(),
            pattern: member.pattern.clone(),
            assigned: member.assigned.clone(),
            target: self.target.get(id).cloned().unwrap_or_default(),
        };
        self.members.iter().map(of).collect()
    }

    pub(crate) fn epoch_of(&self, member: &str) -> Option<i32> {
        self.members.get(member).map(|member| member.epoch)
    }

    pub(crate) fn assigned_to(&self, member: &str) -> BTreeSet<Key> {
        self.members.get(member).map(|member| member.assigned.clone()).unwrap_or_default()
    }

    /// Takes a member out, as an administrator or a restarted coordinator may.
    pub(crate) fn fence(&mut self, member: &str) -> bool {
        self.remove(member)
    }

    pub(crate) fn heartbeat(&mut self, beat: Beat, topics: &Topics, now_ms: i64) -> Result<Beaten, i16> {
        self.check(&beat)?;
        if beat.epoch < 0 {
            return self.leave(&beat);
        }
        let id = beat.member.clone();
        if beat.epoch == 0 {
            self.enter(&beat)?;
        }
        self.admit(&beat)?;
        let full = beat.epoch == 0
            || beat.rebalance_timeout_ms.is_some()
                && beat.owned.is_some()
                && (beat.topics.is_some() || beat.pattern.is_some());
        let Some(member) = self.members.get_mut(&id) else { return Err(code::UNKNOWN_MEMBER_ID) };
        member.last_seen_ms = now_ms;
        member.client_id.clone_from(&beat.client_id);
        if let Some(timeout) = beat.rebalance_timeout_ms {
            member.rebalance_timeout_ms = timeout;
        }
        let before = (member.topics.clone(), member.pattern.clone());
        if let Some(topics) = beat.topics {
            member.topics = topics;
        }
        if let Some(pattern) = beat.pattern {
            member.pattern = Some(pattern).filter(|pattern| !pattern.is_empty());
        }
        let resubscribed = before != (member.topics.clone(), member.pattern.clone()) || !self.target.contains_key(&id);
        let seen: Topics = topics
            .iter()
            .filter(|(name, _)| self.members.values().any(|member| member.wants(name)))
            .map(|(name, topic)| (name.clone(), *topic))
            .collect();
        if resubscribed || seen != self.seen {
            self.seen = seen;
            self.epoch += 1;
            self.compute_target();
        }
        let had = self.members.get(&id).map(|member| member.assigned.clone());
        self.reconcile(&id, beat.owned.as_ref(), now_ms);
        let Some(member) = self.members.get(&id) else { return Err(code::UNKNOWN_MEMBER_ID) };
        let changed = full || had.as_ref() != Some(&member.assigned);
        Ok(Beaten { epoch: member.epoch, assignment: changed.then(|| member.assigned.clone()) })
    }

    fn check(&self, beat: &Beat) -> Result<(), i16> {
        let subscribes = beat.topics.is_some() || beat.pattern.is_some();
        let joins_badly = beat.epoch == 0
            && (beat.rebalance_timeout_ms.is_none()
                || !subscribes
                || beat.owned.as_ref().is_none_or(|owned| !owned.is_empty()));
        if beat.member.is_empty() || joins_badly || beat.epoch < AWAY || beat.epoch == AWAY && beat.instance.is_none() {
            return Err(code::INVALID_REQUEST);
        }
        if beat.assignor.as_deref().is_some_and(|name| name != "uniform" && name != "range") {
            return Err(code::UNSUPPORTED_ASSIGNOR);
        }
        if beat.pattern.as_deref().is_some_and(|pattern| pattern.contains('(') && !pattern.contains(')')) {
            return Err(code::INVALID_REGULAR_EXPRESSION);
        }
        if beat.epoch != 0 && !self.exists() { Err(code::GROUP_ID_NOT_FOUND) } else { Ok(()) }
    }

    fn leave(&mut self, beat: &Beat) -> Result<Beaten, i16> {
        match beat.instance.as_ref().map(|instance| self.holder(instance)) {
            Some(None) => return Err(code::UNKNOWN_MEMBER_ID),
            Some(Some(holder)) if holder != beat.member => return Err(code::FENCED_INSTANCE_ID),
            _ => {}
        }
        if beat.epoch == AWAY {
            let member = self.members.get_mut(&beat.member).ok_or(code::UNKNOWN_MEMBER_ID)?;
            member.previous_epoch = member.epoch;
            member.epoch = AWAY;
        } else if !self.remove(&beat.member) {
            return Err(code::UNKNOWN_MEMBER_ID);
        }
        Ok(Beaten { epoch: beat.epoch, assignment: None })
    }

    /// A member joins, for the first time or again, or takes the place of a static one that is away.
    fn enter(&mut self, beat: &Beat) -> Result<(), i16> {
        let holder = beat.instance.as_ref().and_then(|instance| self.holder(instance));
        match holder {
            Some(holder) if holder != beat.member => {
                let away = self.members.get(&holder).is_some_and(|member| member.epoch == AWAY);
                let member =
                    away.then(|| self.members.remove(&holder)).flatten().ok_or(code::UNRELEASED_INSTANCE_ID)?;
                let target = self.target.remove(&holder).unwrap_or_default();
                self.target.insert(beat.member.clone(), target);
                self.members.insert(beat.member.clone(), member);
            }
            _ => {
                let member = self.members.entry(beat.member.clone()).or_default();
                member.instance.clone_from(&beat.instance);
            }
        }
        Ok(())
    }

    fn admit(&self, beat: &Beat) -> Result<(), i16> {
        match beat.instance.as_ref().map(|instance| self.holder(instance)) {
            Some(Some(holder)) if holder != beat.member => return Err(code::FENCED_INSTANCE_ID),
            _ => {}
        }
        let member = self.members.get(&beat.member).ok_or(code::UNKNOWN_MEMBER_ID)?;
        // The answer to its last heartbeat may have been lost: then it must not hold more than it was given.
        let subset = beat.owned.as_ref().is_some_and(|owned| owned.is_subset(&member.assigned));
        let repeats = beat.epoch == member.previous_epoch && member.epoch > 0 && subset;
        if beat.epoch == 0 || beat.epoch == member.epoch || repeats { Ok(()) } else { Err(code::FENCED_MEMBER_EPOCH) }
    }

    /// Whether a commit with this identity may be stored.
    pub(crate) fn may_commit(&self, version: i16, member: &str, epoch: i32, keys: &[Key]) -> i16 {
        if epoch < 0 && self.is_empty() {
            return code::NONE;
        }
        match self.members.get(member) {
            None => code::UNKNOWN_MEMBER_ID,
            Some(_) if version < 9 => code::UNSUPPORTED_VERSION,
            Some(known) if known.epoch == epoch => code::NONE,
            // KIP-1251
            Some(known) if known.epoch > epoch && epoch > 0 && !keys.is_empty() => {
                let good = |key: &Key| known.since.get(key).is_some_and(|since| *since <= epoch);
                if keys.iter().all(good) { code::NONE } else { code::STALE_MEMBER_EPOCH }
            }
            Some(_) => code::STALE_MEMBER_EPOCH,
        }
    }

    /// Whether a member may read offsets; one that names itself has to name its epoch.
    pub(crate) fn may_fetch(&self, member: Option<&str>, epoch: i32) -> i16 {
        match member {
            None => code::NONE,
            Some(_) if epoch < 0 && self.is_empty() => code::NONE,
            Some(member) => self.may_commit(9, member, epoch, &[]),
        }
    }

    /// Sessions and revocations that ran out. Answers whether anything changed.
    pub(crate) fn tick(&mut self, session_ms: i64, now_ms: i64) -> bool {
        let over = |member: &Member| {
            now_ms - member.last_seen_ms > session_ms || !member.revoking.is_empty() && now_ms > member.revoked_until_ms
        };
        let expired: Vec<_> = self.members.iter().filter(|(_, m)| over(m)).map(|(id, _)| id.clone()).collect();
        expired.iter().filter(|id| self.remove(id)).count() > 0
    }

    fn remove(&mut self, id: &str) -> bool {
        if self.members.remove(id).is_none() {
            return false;
        }
        self.target.remove(id);
        self.epoch += 1;
        self.compute_target();
        true
    }

    /// As even as can be, and each partition where it was, if it can be.
    fn compute_target(&mut self) {
        let all: BTreeMap<Key, &str> = self
            .seen
            .iter()
            .flat_map(|(name, (id, count))| (0..*count).map(move |index| ((*id, index), name.as_str())))
            .collect();
        let wants = |id: &str, key: &Key| {
            let topic = all.get(key);
            topic.zip(self.members.get(id)).is_some_and(|(topic, member)| member.wants(topic))
        };
        let mut target: BTreeMap<String, BTreeSet<Key>> = BTreeMap::new();
        for id in self.members.keys() {
            let old = self.target.get(id).into_iter().flatten();
            target.insert(id.clone(), old.filter(|key| wants(id, key)).copied().collect());
        }
        for key in all.keys() {
            if target.values().any(|keys| keys.contains(key)) {
                continue;
            }
            let least = target.iter_mut().filter(|(id, _)| wants(id, key)).min_by_key(|(_, keys)| keys.len());
            if let Some((_, keys)) = least {
                keys.insert(*key);
            }
        }
        while let Some((from, to, key)) = uneven(&target, &wants) {
            if let Some(keys) = target.get_mut(&from) {
                keys.remove(&key);
            }
            target.entry(to).or_default().insert(key);
        }
        self.target = target;
    }

    /// One step of a member on its way to its target.
    fn reconcile(&mut self, id: &str, owned: Option<&BTreeSet<Key>>, now_ms: i64) {
        let target = self.target.get(id).cloned().unwrap_or_default();
        let held_by_others: BTreeSet<Key> = self
            .members
            .iter()
            .filter(|(other, _)| other.as_str() != id)
            .flat_map(|(_, other)| other.assigned.union(&other.revoking).copied())
            .collect();
        let Some(member) = self.members.get_mut(id) else { return };
        let still_owns = |keys: &BTreeSet<Key>| owned.is_none_or(|owned| !owned.is_disjoint(keys));
        if !member.revoking.is_empty() {
            if still_owns(&member.revoking) {
                return;
            }
            member.revoking.clear();
        }
        let gone: BTreeSet<Key> = member.assigned.difference(&target).copied().collect();
        member.assigned.retain(|key| target.contains(key));
        if !gone.is_empty() && still_owns(&gone) {
            member.revoking = gone;
            member.revoked_until_ms = now_ms + member.rebalance_timeout_ms;
            return;
        }
        member.assigned.extend(target.difference(&held_by_others));
        member.since.retain(|key, _| member.assigned.contains(key));
        for key in &member.assigned {
            member.since.entry(*key).or_insert(self.epoch);
        }
        if member.epoch != self.epoch {
            member.previous_epoch = member.epoch;
            member.epoch = self.epoch;
        }
    }

    fn holder(&self, instance: &str) -> Option<String> {
        let held = self.members.iter().find(|(_, member)| member.instance.as_deref() == Some(instance));
        held.map(|(id, _)| id.clone())
    }
}

impl Member {
    fn wants(&self, topic: &str) -> bool {
        let matches = |pattern: &str| match pattern.strip_suffix(".*") {
            Some(prefix) => topic.starts_with(prefix),
            None => topic == pattern,
        };
        self.topics.contains(topic) || self.pattern.as_deref().is_some_and(matches)
    }
}

/// A partition that makes the target more even when it goes from one member to another.
fn uneven(
    target: &BTreeMap<String, BTreeSet<Key>>,
    wants: &impl Fn(&str, &Key) -> bool,
) -> Option<(String, String, Key)> {
    for (to, few) in target {
        for (from, many) in target {
            if many.len() < few.len() + 2 {
                continue;
            }
            if let Some(key) = many.iter().rev().find(|key| wants(to, key)) {
                return Some((from.clone(), to.clone(), *key));
            }
        }
    }
    None
}
