//! Who gets which partition in the classic protocol, computed by the member that leads the group. Each assignor makes of
//! the same group what Java's of the same name makes of it, or, where that leaves a choice, what Java's leaves as it is
//! when it leads next.

mod range;
mod round_robin;
mod sticky;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::protocol::{self, Subscription};
use crate::config::Assignor;
use crate::types::TopicPartition;

/// How many partitions each topic has.
pub(crate) type Counts = BTreeMap<Arc<str>, i32>;

/// A member as the leader of the group sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) topics: Vec<Arc<str>>,
    /// What it goes on with while the group rebalances (KIP-429): nobody else may have that before it has given it back.
    pub(crate) owned: Vec<TopicPartition>,
    /// What it had, and would best keep. The same as `owned` unless it gave up everything before it joined.
    pub(crate) previous: Vec<TopicPartition>,
    /// The generation in which it got that.
    pub(crate) generation: Option<i32>,
}

impl Member {
    /// The member that sent `subscription`, as `assignor` reads it. User data that cannot be read counts as none, as in
    /// Java: the member is treated as a new one.
    pub(crate) fn new(
        assignor: Assignor,
        id: String,
        instance_id: Option<String>,
        subscription: Subscription,
    ) -> Member {
        let Subscription { topics, user_data, owned, generation, .. } = subscription;
        let user_data = user_data.unwrap_or_default();
        let (previous, generation) = match assignor {
            Assignor::Range | Assignor::RoundRobin => (Vec::new(), None),
            Assignor::Sticky => {
                let data = protocol::decode_sticky_data(&user_data).unwrap_or_default();
                (data.partitions, data.generation)
            }
            Assignor::CooperativeSticky => {
                let told = || protocol::decode_generation(&user_data).ok().flatten();
                (owned.clone(), generation.or_else(told))
            }
        };
        Member { id, instance_id, topics, owned, previous, generation }
    }
}

/// What this member had in its last assignment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Previous {
    pub(crate) partitions: Vec<TopicPartition>,
    pub(crate) generation: Option<i32>,
}

/// The user data of a member that offers `assignor`.
pub(crate) fn user_data(assignor: Assignor, previous: &Previous) -> Option<Bytes> {
    match assignor {
        Assignor::Range | Assignor::RoundRobin => None,
        Assignor::Sticky => previous.generation.map(|generation| {
            let partitions = previous.partitions.clone();
            protocol::encode_sticky_data(&protocol::StickyData { partitions, generation: Some(generation) })
        }),
        Assignor::CooperativeSticky => Some(protocol::encode_generation(previous.generation.unwrap_or(-1))),
    }
}

/// Gives each member its partitions. A topic without a count, or with none, is given to nobody until it exists. Members
/// come back in the order given.
pub(crate) fn assign(assignor: Assignor, members: &[Member], counts: &Counts) -> Vec<Vec<TopicPartition>> {
    match assignor {
        Assignor::Range => range::assign(members, counts),
        Assignor::RoundRobin => round_robin::assign(members, counts),
        Assignor::Sticky => sticky::assign(members, counts),
        Assignor::CooperativeSticky => {
            let mut assignment = sticky::assign(members, counts);
            sticky::withhold(members, &mut assignment);
            assignment
        }
    }
}

/// The members in the order in which all assignors go through them: static ones (KIP-345) by their instance id, before the
/// dynamic ones by their member id.
fn in_order(members: &[Member]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|a, b| java_order(&members[*a], &members[*b]));
    order
}

/// Java compares strings by UTF-16 units.
fn java_order(a: &Member, b: &Member) -> Ordering {
    match (&a.instance_id, &b.instance_id) {
        (Some(a), Some(b)) => a.encode_utf16().cmp(b.encode_utf16()),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.id.encode_utf16().cmp(b.id.encode_utf16()),
    }
}

/// Every partition of the topics, in order.
fn all_partitions(counts: &Counts) -> impl Iterator<Item = TopicPartition> + '_ {
    let partitions = |(topic, count): (&Arc<str>, &i32)| {
        let topic = topic.clone();
        (0..*count).map(move |partition| TopicPartition { topic: topic.clone(), partition })
    };
    counts.iter().flat_map(partitions)
}
