//! The `range` assignor: contiguous ranges of each topic, topic by topic.

use super::{Counts, Member, in_order};
use crate::types::TopicPartition;

/// Shares out each topic among its subscribers; the first of them take the remainder. Racks decide nothing (Java's
/// prefers them among equal assignments, KIP-881).
pub(super) fn assign(members: &[Member], counts: &Counts) -> Vec<Vec<TopicPartition>> {
    let order = in_order(members);
    let mut assignment = vec![Vec::new(); members.len()];
    for (topic, count) in counts {
        let subscribed: Vec<usize> = order.iter().copied().filter(|i| members[*i].topics.contains(topic)).collect();
        let Ok(consumers) = i32::try_from(subscribed.len()) else { continue };
        if consumers == 0 || *count <= 0 {
            continue;
        }
        let (each, extra) = (count / consumers, count % consumers);
        let mut next = 0;
        for (i, member) in (0..consumers).zip(subscribed) {
            let length = each + i32::from(i < extra);
            assignment[member].extend((next..next + length).map(|p| TopicPartition::new(topic.clone(), p)));
            next += length;
        }
    }
    assignment
}
