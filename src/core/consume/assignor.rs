//! The `range` assignor: the same partitions to the same members as Java's, so that both kinds can share a group.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::TopicPartition;

/// The name under which members offer it.
pub(crate) const RANGE: &str = "range";

/// A member as the leader of the group sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) topics: Vec<Arc<str>>,
}

/// Gives each member its partitions. `partitions` says how many each topic has; a topic without an entry, or with none,
/// is given to nobody until it exists. Members come back in the order given.
pub(crate) fn range(members: &[Member], partitions: &BTreeMap<Arc<str>, i32>) -> Vec<Vec<TopicPartition>> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|a, b| java_order(&members[*a], &members[*b]));
    let mut assignment = vec![Vec::new(); members.len()];
    for (topic, count) in partitions {
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

/// Static members (KIP-345) by their instance id, before the dynamic ones by their member id. Java compares UTF-16.
fn java_order(a: &Member, b: &Member) -> Ordering {
    match (&a.instance_id, &b.instance_id) {
        (Some(a), Some(b)) => a.encode_utf16().cmp(b.encode_utf16()),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.id.encode_utf16().cmp(b.id.encode_utf16()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, instance_id: Option<&str>, topics: &[&str]) -> Member {
        let topics = topics.iter().map(|topic| Arc::from(*topic)).collect();
        Member { id: id.into(), instance_id: instance_id.map(Into::into), topics }
    }

    fn counts(topics: &[(&str, i32)]) -> BTreeMap<Arc<str>, i32> {
        topics.iter().map(|(topic, count)| (Arc::from(*topic), *count)).collect()
    }

    fn show(assignment: &[Vec<TopicPartition>]) -> Vec<String> {
        let line =
            |partitions: &Vec<TopicPartition>| partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        assignment.iter().map(line).collect()
    }

    #[test]
    fn ranges_are_contiguous_and_the_first_members_take_the_remainder() {
        let members = [member("c2", None, &["a", "b"]), member("c1", None, &["a", "b"])];
        let assignment = range(&members, &counts(&[("a", 3), ("b", 3)]));
        assert_eq!(show(&assignment), ["a-2 b-2", "a-0 a-1 b-0 b-1"]);
    }

    #[test]
    fn static_members_come_first_by_their_instance_id() {
        let members =
            [member("a-dynamic", None, &["t"]), member("z", Some("i2"), &["t"]), member("y", Some("i1"), &["t"])];
        assert_eq!(show(&range(&members, &counts(&[("t", 4)]))), ["t-3", "t-2", "t-0 t-1"]);
    }

    #[test]
    fn only_subscribers_of_a_topic_get_its_partitions() {
        let members = [member("c1", None, &["a"]), member("c2", None, &["a", "b"]), member("c3", None, &["missing"])];
        let assignment = range(&members, &counts(&[("a", 1), ("b", 2)]));
        assert_eq!(show(&assignment), ["a-0", "b-0 b-1", ""]);
    }

    #[test]
    fn every_partition_has_exactly_one_owner() {
        for consumers in 1..9 {
            let members: Vec<Member> = (0..consumers).map(|i| member(&format!("m{i}"), None, &["t"])).collect();
            for count in 0..20 {
                let mut all: Vec<i32> =
                    range(&members, &counts(&[("t", count)])).concat().iter().map(|p| p.partition).collect();
                all.sort_unstable();
                assert_eq!(all, (0..count).collect::<Vec<_>>());
            }
        }
    }
}
