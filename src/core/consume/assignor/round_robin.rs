//! The `roundrobin` assignor: all partitions of all topics in turn.

use super::{Counts, Member, all_partitions, in_order};
use crate::types::TopicPartition;

/// Goes round the members; a partition is for the next one that wants its topic, and those passed by have had their
/// turn.
pub(super) fn assign(members: &[Member], counts: &Counts) -> Vec<Vec<TopicPartition>> {
    let order = in_order(members);
    let mut assignment = vec![Vec::new(); members.len()];
    let mut next = 0;
    let mut unwanted = None;
    for partition in all_partitions(counts) {
        if unwanted.as_ref() == Some(&partition.topic) {
            continue;
        }
        let wants = |turn: &usize| {
            order.get(turn % order.len()).is_some_and(|member| members[*member].topics.contains(&partition.topic))
        };
        match (next..next + order.len()).find(wants) {
            Some(turn) => {
                assignment[order[turn % order.len()]].push(partition);
                next = (turn + 1) % order.len();
            }
            None => unwanted = Some(partition.topic),
        }
    }
    assignment
}
