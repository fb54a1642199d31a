//! The `sticky` and `cooperative-sticky` assignors (KIP-54, KIP-429): as even as subscriptions allow, and each partition
//! where it was unless that stands in the way.
//!
//! 1. Each partition goes to the member that had it last. Of two that claim it the newer generation is believed; in the
//!    same generation neither.
//! 2. When all members want the same topics, every one gets `partitions / members`, and the remainder goes first to those
//!    that hold more: nobody gives up more than the numbers demand.
//! 3. Else what is free goes to the least loaded of those that want it, and then partitions are passed on along the
//!    shortest chain of members that brings one from a member to another that has at least two less, until there is none.
//!
//! Java's assignor moves single partitions only, so that it finds nothing to do in what this one has assigned.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::{Counts, Member, all_partitions, in_order};
use crate::types::TopicPartition;

/// The most even assignment, with as few moves as that takes.
pub(super) fn assign(members: &[Member], counts: &Counts) -> Vec<Vec<TopicPartition>> {
    if members.is_empty() {
        return Vec::new();
    }
    let order = in_order(members);
    let wanted: Vec<HashSet<&str>> = members.iter().map(|m| m.topics.iter().map(|topic| &**topic).collect()).collect();
    let held = claims(members, &wanted, counts, &order);
    let mut assignment = match wanted.iter().all(|topics| *topics == wanted[0]) {
        true => share_equally(held, &wanted[0], counts, &order),
        false => share(members, held, &wanted, counts, &order),
    };
    assignment.iter_mut().for_each(|partitions| partitions.sort());
    assignment
}

/// Takes out what is still with another member than the one it is meant for (KIP-429): the first gives it back, and the
/// rebalance which that causes hands it on.
pub(super) fn withhold(members: &[Member], assignment: &mut [Vec<TopicPartition>]) {
    let mut owners: HashMap<&TopicPartition, Vec<usize>> = HashMap::new();
    for (member, owned) in members.iter().map(|member| &member.owned).enumerate() {
        owned.iter().for_each(|partition| owners.entry(partition).or_default().push(member));
    }
    for (member, partitions) in assignment.iter_mut().enumerate() {
        partitions.retain(|partition| owners.get(partition).is_none_or(|owners| owners.contains(&member)));
    }
}

/// What each member had and may keep.
fn claims(members: &[Member], wanted: &[HashSet<&str>], counts: &Counts, order: &[usize]) -> Vec<Vec<TopicPartition>> {
    let exists = |partition: &TopicPartition| {
        counts.get(&partition.topic).is_some_and(|count| (0..*count).contains(&partition.partition))
    };
    // None as the owner: claimed twice in that generation.
    let mut owners: HashMap<&TopicPartition, (Option<i32>, Option<usize>)> = HashMap::new();
    for member in order.iter().copied() {
        let Member { previous, generation, .. } = &members[member];
        for partition in previous.iter().filter(|p| exists(p) && wanted[member].contains(&*p.topic)) {
            match owners.get_mut(partition) {
                None => {
                    owners.insert(partition, (*generation, Some(member)));
                }
                Some((known, owner)) if known == generation => {
                    owner.take_if(|owner| *owner != member);
                }
                Some(claim) if claim.0 < *generation => *claim = (*generation, Some(member)),
                Some(_) => {}
            }
        }
    }
    let mut held = vec![Vec::new(); members.len()];
    for (partition, (_, owner)) in owners {
        if let Some(owner) = owner {
            held[owner].push(partition.clone());
        }
    }
    held.iter_mut().for_each(|partitions| partitions.sort());
    held
}

/// All members want the same.
fn share_equally(
    mut held: Vec<Vec<TopicPartition>>,
    wanted: &HashSet<&str>,
    counts: &Counts,
    order: &[usize],
) -> Vec<Vec<TopicPartition>> {
    let all: Vec<TopicPartition> = all_partitions(counts).filter(|p| wanted.contains(&*p.topic)).collect();
    let (least, mut extra) = (all.len() / held.len(), all.len() % held.len());
    // Who has more than the least keeps one more, as long as the remainder lasts.
    let mut by_load = order.to_vec();
    by_load.sort_by_key(|member| std::cmp::Reverse(held[*member].len()));
    let mut quotas = vec![least; held.len()];
    for member in by_load {
        if extra > 0 {
            quotas[member] += 1;
            extra -= 1;
        }
    }
    for (partitions, quota) in held.iter_mut().zip(&quotas) {
        partitions.truncate(*quota);
    }
    let kept: HashSet<TopicPartition> = held.iter().flatten().cloned().collect();
    // In turn, so that the partitions of one topic are spread.
    let mut open: VecDeque<usize> =
        order.iter().copied().filter(|member| held[*member].len() < quotas[*member]).collect();
    for partition in all.into_iter().filter(|partition| !kept.contains(partition)) {
        let Some(member) = open.pop_front() else { break };
        held[member].push(partition);
        if held[member].len() < quotas[member] {
            open.push_back(member);
        }
    }
    held
}

/// Members want different topics.
fn share(
    members: &[Member],
    held: Vec<Vec<TopicPartition>>,
    wanted: &[HashSet<&str>],
    counts: &Counts,
    order: &[usize],
) -> Vec<Vec<TopicPartition>> {
    let wanting = |topic: &Arc<str>| -> Vec<usize> {
        order.iter().copied().filter(|member| wanted[*member].contains(&**topic)).collect()
    };
    let wanting: BTreeMap<&Arc<str>, Vec<usize>> = counts.keys().map(|topic| (topic, wanting(topic))).collect();
    let kept: HashSet<&TopicPartition> = held.iter().flatten().collect();
    let mut free: Vec<TopicPartition> = all_partitions(counts).filter(|p| !kept.contains(p)).collect();
    // The less choice there is, the sooner.
    free.sort_by_key(|partition| wanting[&partition.topic].len());
    let mut shares = Shares { held: vec![BTreeMap::new(); members.len()], loads: vec![0; members.len()], wanting };
    for (member, partitions) in held.into_iter().enumerate() {
        partitions.into_iter().for_each(|partition| shares.give(member, partition));
    }
    for partition in free {
        let wanting = shares.wanting[&partition.topic].iter().copied();
        if let Some(member) = wanting.min_by_key(|member| shares.loads[*member]) {
            shares.give(member, partition);
        }
    }
    while shares.improve(order) {}
    shares.held.into_iter().map(|topics| topics.into_values().flatten().collect()).collect()
}

/// An assignment that is being made more even.
struct Shares<'a> {
    /// By member and topic. The last of a topic were given last, and go first.
    held: Vec<BTreeMap<Arc<str>, Vec<TopicPartition>>>,
    loads: Vec<usize>,
    wanting: BTreeMap<&'a Arc<str>, Vec<usize>>,
}

impl Shares<'_> {
    fn give(&mut self, member: usize, partition: TopicPartition) {
        self.loads[member] += 1;
        self.held[member].entry(partition.topic.clone()).or_default().push(partition);
    }

    fn pass(&mut self, from: usize, topic: &Arc<str>, to: usize) {
        let partitions = self.held[from].get_mut(topic);
        if let Some(partition) = partitions.and_then(Vec::pop) {
            self.loads[from] -= 1;
            self.give(to, partition);
        }
    }

    /// Passes partitions on so that one member has one less and another one more. Whether there was a way.
    fn improve(&mut self, order: &[usize]) -> bool {
        let mut from = order.to_vec();
        from.sort_by_key(|member| std::cmp::Reverse(self.loads[*member]));
        // What a more loaded member could reach without finding a way cannot be one for a less loaded member.
        let mut seen = vec![false; self.loads.len()];
        let mut expanded: HashSet<Arc<str>> = HashSet::new();
        for start in from {
            if seen[start] {
                continue;
            }
            seen[start] = true;
            let mut steps: HashMap<usize, (usize, Arc<str>)> = HashMap::new();
            let mut reached = VecDeque::from([start]);
            while let Some(member) = reached.pop_front() {
                if self.loads[member] + 2 <= self.loads[start] {
                    self.pass_along(&steps, start, member);
                    return true;
                }
                for (topic, partitions) in &self.held[member] {
                    if partitions.is_empty() || !expanded.insert(topic.clone()) {
                        continue;
                    }
                    for next in self.wanting.get(topic).into_iter().flatten().copied() {
                        if !std::mem::replace(&mut seen[next], true) {
                            steps.insert(next, (member, topic.clone()));
                            reached.push_back(next);
                        }
                    }
                }
            }
        }
        false
    }

    fn pass_along(&mut self, steps: &HashMap<usize, (usize, Arc<str>)>, start: usize, end: usize) {
        let mut to = end;
        while to != start {
            let Some((from, topic)) = steps.get(&to) else { return };
            self.pass(*from, topic, to);
            to = *from;
        }
    }
}
