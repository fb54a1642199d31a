//! Ways into the inside for the fuzz targets; not there in any other build.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::Assignor;
use crate::core::consume::assignor::{self, Counts, Member};
use crate::core::consume::ops;
use crate::core::consume::protocol;
use crate::io::spool::Written;
use crate::types::TopicPartition;

/// A spool that was really written, to be damaged.
pub struct SpoolStory(Written);

impl SpoolStory {
    /// Each `choice` is another one.
    #[must_use]
    pub fn new(choice: u8) -> SpoolStory {
        SpoolStory(Written::new(choice))
    }

    /// Changes a copy of its files as `edits` say, opens it, and panics when that breaks a promise. `within` is given the
    /// number of bytes there are, and runs the opening.
    pub fn recover(&self, edits: &[u8], within: impl Fn(usize, &mut dyn FnMut())) {
        self.0.recover(edits, within);
    }
}

/// Lives the life of a consumer's membership as `input` says, against a model, and panics when that breaks a promise.
pub fn group_ops(input: &[u8]) {
    let _ = ops::live(input);
}

/// Reads `bytes` as one of the things that members of a group send each other through the coordinator.
pub fn read_foreign(what: u8, bytes: &[u8]) {
    match what % 4 {
        0 => drop(protocol::decode_assignment(bytes)),
        1 => drop(protocol::decode_sticky_data(bytes)),
        2 => drop(protocol::decode_generation(bytes)),
        _ => drop(protocol::decode_subscription(bytes)),
    }
}

/// Leads a group with members that sent these bytes, and panics when the assignment breaks a promise.
pub fn lead(choice: u8, subscriptions: &[&[u8]]) {
    const ASSIGNORS: [Assignor; 4] =
        [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky, Assignor::CooperativeSticky];
    let assignor = ASSIGNORS[usize::from(choice) % ASSIGNORS.len()];
    let member = |(index, bytes): (usize, &&[u8])| {
        let subscription = protocol::decode_subscription(bytes).ok()?;
        Some(Member::new(assignor, format!("m{index}"), None, subscription))
    };
    let members: Vec<Member> = subscriptions.iter().enumerate().filter_map(member).collect();
    let topics = members.iter().flat_map(|member| member.topics.iter().cloned());
    // Every third topic does not exist.
    let count = |topic: &Arc<str>| i32::try_from(topic.len() % 3).unwrap_or(0) * i32::from(1 + choice / 16);
    let counts: Counts = topics.map(|topic| (topic.clone(), count(&topic))).filter(|(_, count)| *count > 0).collect();
    let assignment = assignor::assign(assignor, &members, &counts);
    assert_eq!(assignment.len(), members.len());
    let mut given = BTreeSet::new();
    for (member, partitions) in members.iter().zip(&assignment) {
        for partition in partitions {
            assert!(given.insert(partition.clone()), "{partition} is given twice");
            assert!(member.topics.contains(&partition.topic), "{partition} is given to a member that does not want it");
            assert!((0..counts[&partition.topic]).contains(&partition.partition), "{partition} does not exist");
        }
        assert_eq!(protocol::decode_assignment(&protocol::encode_assignment(partitions)).as_ref(), Ok(partitions));
    }
    let all = usize::try_from(counts.values().sum::<i32>()).unwrap_or(0);
    match assignor {
        Assignor::CooperativeSticky => {
            for (member, partitions) in members.iter().zip(&assignment) {
                for other in members.iter().filter(|other| other.id != member.id) {
                    let taken = |partition: &TopicPartition| {
                        other.owned.contains(partition) && !member.owned.contains(partition)
                    };
                    assert!(!partitions.iter().any(taken), "a partition is given away before its owner gave it back");
                }
            }
        }
        Assignor::Range | Assignor::RoundRobin | Assignor::Sticky => assert_eq!(given.len(), all, "some have no owner"),
    }
}
