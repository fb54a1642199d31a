//! Assignments by hand, and what holds for any group.

use std::collections::{BTreeSet, HashMap};

use super::*;

fn member(id: &str, instance_id: Option<&str>, topics: &[&str]) -> Member {
    let topics = topics.iter().map(|topic| Arc::from(*topic)).collect();
    Member { id: id.into(), instance_id: instance_id.map(Into::into), topics, ..Member::default() }
}

fn counts(topics: &[(&str, i32)]) -> Counts {
    topics.iter().map(|(topic, count)| (Arc::from(*topic), *count)).collect()
}

fn show(assignment: &[Vec<TopicPartition>]) -> Vec<String> {
    let line =
        |partitions: &Vec<TopicPartition>| partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    assignment.iter().map(line).collect()
}

fn had(mut member: Member, generation: i32, partitions: &[(&str, i32)]) -> Member {
    member.previous = partitions.iter().map(|(topic, partition)| TopicPartition::new(*topic, *partition)).collect();
    member.owned = member.previous.clone();
    member.generation = Some(generation);
    member
}

#[test]
fn ranges_are_contiguous_and_the_first_members_take_the_remainder() {
    let members = [member("c2", None, &["a", "b"]), member("c1", None, &["a", "b"])];
    let assignment = assign(Assignor::Range, &members, &counts(&[("a", 3), ("b", 3)]));
    assert_eq!(show(&assignment), ["a-2 b-2", "a-0 a-1 b-0 b-1"]);
}

#[test]
fn static_members_come_first_by_their_instance_id() {
    let members = [member("a-dynamic", None, &["t"]), member("z", Some("i2"), &["t"]), member("y", Some("i1"), &["t"])];
    assert_eq!(show(&assign(Assignor::Range, &members, &counts(&[("t", 4)]))), ["t-3", "t-2", "t-0 t-1"]);
    assert_eq!(show(&assign(Assignor::RoundRobin, &members, &counts(&[("t", 4)]))), ["t-2", "t-1", "t-0 t-3"]);
}

#[test]
fn only_subscribers_of_a_topic_get_its_partitions() {
    let members = [member("c1", None, &["a"]), member("c2", None, &["a", "b"]), member("c3", None, &["missing"])];
    let counts = counts(&[("a", 1), ("b", 2)]);
    for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky, Assignor::CooperativeSticky] {
        assert_eq!(show(&assign(assignor, &members, &counts)), ["a-0", "b-0 b-1", ""], "{assignor:?}");
    }
}

/// The example in the documentation of Java's `RoundRobinAssignor`.
#[test]
fn round_robin_passes_by_who_does_not_want_the_topic() {
    let members =
        [member("c0", None, &["t0"]), member("c1", None, &["t0", "t1"]), member("c2", None, &["t0", "t1", "t2"])];
    let assignment = assign(Assignor::RoundRobin, &members, &counts(&[("t0", 1), ("t1", 2), ("t2", 3)]));
    assert_eq!(show(&assignment), ["t0-0", "t1-0", "t1-1 t2-0 t2-1 t2-2"]);
}

#[test]
fn a_new_member_gets_what_the_numbers_demand_and_the_rest_stays() {
    let before = had(member("c1", None, &["t"]), 3, &[("t", 0), ("t", 1), ("t", 2), ("t", 3)]);
    let members = [before, member("c2", None, &["t"])];
    let assignment = assign(Assignor::Sticky, &members, &counts(&[("t", 4)]));
    assert_eq!(show(&assignment), ["t-0 t-1", "t-2 t-3"]);
    // Nobody has what another member goes on with.
    let assignment = assign(Assignor::CooperativeSticky, &members, &counts(&[("t", 4)]));
    assert_eq!(show(&assignment), ["t-0 t-1", ""]);
}

#[test]
fn of_two_claims_the_newer_generation_is_believed_and_in_the_same_neither() {
    let late = had(member("c1", None, &["t"]), 4, &[("t", 0), ("t", 1)]);
    let early = had(member("c2", None, &["t"]), 5, &[("t", 1), ("t", 2)]);
    let counts = counts(&[("t", 4)]);
    let assignment = assign(Assignor::Sticky, &[late.clone(), early.clone()], &counts);
    assert_eq!(show(&assignment), ["t-0 t-3", "t-1 t-2"]);
    let one = had(member("c1", None, &["t"]), 4, &[("t", 1), ("t", 2)]);
    let other = had(member("c2", None, &["t"]), 4, &[("t", 2), ("t", 3)]);
    let assignment = assign(Assignor::Sticky, &[one, other], &counts);
    assert_eq!(show(&assignment), ["t-0 t-1", "t-2 t-3"]);
}

/// c1 can only give to c2, and c2 to c3.
#[test]
fn partitions_are_passed_on_along_a_chain() {
    let members = [
        had(member("c1", None, &["a"]), 1, &[("a", 0), ("a", 1), ("a", 2)]),
        had(member("c2", None, &["a", "b"]), 1, &[("b", 0), ("b", 1)]),
        member("c3", None, &["b"]),
    ];
    let assignment = assign(Assignor::Sticky, &members, &counts(&[("a", 3), ("b", 2)]));
    assert_eq!(assignment.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
}

#[test]
fn claims_of_what_does_not_exist_or_is_not_wanted_count_for_nothing() {
    let members = [
        had(member("c1", None, &["t"]), 1, &[("t", 7), ("gone", 0), ("u", 0)]),
        had(member("c2", None, &["t", "u"]), 1, &[]),
    ];
    let assignment = assign(Assignor::CooperativeSticky, &members, &counts(&[("t", 1), ("u", 1)]));
    // u-0 is still with c1, which does not want it any more and gives it back.
    assert_eq!(show(&assignment), ["t-0", ""]);
}

#[test]
fn members_are_read_as_their_assignor_means_them() {
    let partitions = vec![TopicPartition::new("t", 1)];
    let previous = Previous { partitions: partitions.clone(), generation: Some(6) };
    let read = |assignor, owned: &[TopicPartition], generation| {
        let user_data = user_data(assignor, &previous);
        let subscription = Subscription { user_data, owned: owned.to_vec(), generation, ..Subscription::default() };
        Member::new(assignor, "m".into(), None, subscription)
    };
    let sticky = read(Assignor::Sticky, &[], Some(9));
    assert_eq!((sticky.previous, sticky.generation), (partitions.clone(), Some(6)), "user data alone");
    let cooperative = read(Assignor::CooperativeSticky, &partitions, Some(9));
    assert_eq!((cooperative.previous, cooperative.generation), (partitions.clone(), Some(9)));
    let version_1 = read(Assignor::CooperativeSticky, &partitions, None);
    assert_eq!((version_1.previous, version_1.generation), (partitions, Some(6)), "the generation from the user data");
    let garbage = Subscription { user_data: Some(Bytes::from_static(b"\x7f\xff")), ..Subscription::default() };
    assert_eq!(Member::new(Assignor::Sticky, "m".into(), None, garbage).previous, []);
}

/// Numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

const TOPICS: [&str; 5] = ["a", "b", "c", "d", "e"];

fn random_counts(dice: &mut Dice) -> Counts {
    TOPICS[..1 + dice.roll(5)].iter().map(|topic| (Arc::from(*topic), dice.roll(12) as i32)).collect()
}

fn random_members(dice: &mut Dice, equal: bool) -> Vec<Member> {
    let one = |dice: &mut Dice, id: usize| {
        let topics: Vec<&str> = TOPICS.into_iter().filter(|_| equal || dice.roll(2) == 0).collect();
        let instance = (dice.roll(3) == 0).then(|| format!("i{}", 9 - id % 10));
        member(&format!("m{id}"), instance.as_deref(), &topics)
    };
    (0..1 + dice.roll(7)).map(|id| one(dice, id)).collect()
}

fn owners(assignment: &[Vec<TopicPartition>]) -> HashMap<TopicPartition, usize> {
    let mut owners = HashMap::new();
    for (member, partitions) in assignment.iter().enumerate() {
        for partition in partitions {
            assert_eq!(owners.insert(partition.clone(), member), None, "{partition} twice");
        }
    }
    owners
}

/// Each partition that somebody wants has one owner, who wants it.
fn check_complete(members: &[Member], counts: &Counts, assignment: &[Vec<TopicPartition>]) {
    let owners = owners(assignment);
    for partition in all_partitions(counts) {
        let wanted = members.iter().any(|member| member.topics.contains(&partition.topic));
        assert_eq!(owners.contains_key(&partition), wanted, "{partition}");
    }
    for (partition, owner) in owners {
        assert!(members[owner].topics.contains(&partition.topic), "{partition}");
    }
}

/// No chain of members makes it more even.
fn check_balanced(members: &[Member], assignment: &[Vec<TopicPartition>]) {
    for start in 0..members.len() {
        let mut reached = BTreeSet::from([start]);
        loop {
            let topics: BTreeSet<&str> =
                reached.iter().flat_map(|member| &assignment[*member]).map(|partition| &*partition.topic).collect();
            let wants = |member: &usize| members[*member].topics.iter().any(|topic| topics.contains(&**topic));
            let next: BTreeSet<usize> = (0..members.len()).filter(|m| reached.contains(m) || wants(m)).collect();
            if next == reached {
                break;
            }
            reached = next;
        }
        let least = reached.iter().map(|member| assignment[*member].len()).min().unwrap_or(0);
        assert!(assignment[start].len() <= least + 1, "{assignment:?}");
    }
}

fn remember(members: &mut [Member], assignment: &[Vec<TopicPartition>], generation: i32) {
    for (member, partitions) in members.iter_mut().zip(assignment) {
        (member.previous, member.owned) = (partitions.clone(), partitions.clone());
        member.generation = Some(generation);
    }
}

#[test]
fn every_partition_has_exactly_one_owner_with_every_assignor() {
    let mut dice = Dice(7);
    for round in 0..600 {
        let counts = random_counts(&mut dice);
        let members = random_members(&mut dice, round % 2 == 0);
        for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky, Assignor::CooperativeSticky] {
            let assignment = assign(assignor, &members, &counts);
            check_complete(&members, &counts, &assignment);
            let mut turned = members.clone();
            turned.reverse();
            let mut again = assign(assignor, &turned, &counts);
            again.reverse();
            assert_eq!(again, assignment, "the order in which members are listed decides nothing");
        }
        if round % 2 == 0 {
            let loads: Vec<usize> = assign(Assignor::RoundRobin, &members, &counts).iter().map(Vec::len).collect();
            assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);
        }
    }
}

/// Members come and go, topics grow, subscriptions change: a partition stays unless balance demands that it moves.
#[test]
fn sticky_assignments_are_even_and_move_no_more_than_they_must() {
    let mut dice = Dice(11);
    for round in 0..400 {
        let equal = round % 2 == 0;
        let mut counts = random_counts(&mut dice);
        let mut members = random_members(&mut dice, equal);
        for generation in 0..6 {
            let assignment = assign(Assignor::Sticky, &members, &counts);
            check_complete(&members, &counts, &assignment);
            check_balanced(&members, &assignment);
            if equal {
                // As many moves as the numbers demand, and none more.
                let kept = |(member, partitions): (&Member, &Vec<TopicPartition>)| {
                    member.previous.iter().filter(|partition| partitions.contains(partition)).count()
                };
                let kept: usize = members.iter().zip(&assignment).map(kept).sum();
                let total: usize = counts.values().map(|count| *count as usize).sum();
                let (least, extra) = (total / members.len(), total % members.len());
                let most: usize = members.iter().map(|member| member.previous.len().min(least)).sum();
                let above = members.iter().filter(|member| member.previous.len() > least).count();
                assert_eq!(kept, most + above.min(extra), "{members:?}");
            }
            remember(&mut members, &assignment, generation);
            assert_eq!(assign(Assignor::Sticky, &members, &counts), assignment, "nothing to do");
            match dice.roll(4) {
                0 if members.len() > 1 => drop(members.remove(dice.roll(members.len()))),
                1 => counts.values_mut().for_each(|count| *count += dice.roll(3) as i32),
                2 if !equal => {
                    let other = TOPICS.into_iter().filter(|_| dice.roll(2) == 0).map(Arc::from).collect();
                    let changed = dice.roll(members.len());
                    members[changed].topics = other;
                }
                _ => {
                    let id = format!("n{round}-{generation}");
                    let topics: Vec<&str> = TOPICS.into_iter().filter(|_| equal || dice.roll(2) == 0).collect();
                    members.push(member(&id, None, &topics));
                }
            }
        }
    }
}

/// Nothing is given to a member while another one owns it; once that has given it back, it is, and all is even.
#[test]
fn cooperative_assignments_wait_for_the_owner_and_come_to_rest() {
    let mut dice = Dice(23);
    for round in 0..400 {
        let counts = random_counts(&mut dice);
        let mut members = random_members(&mut dice, round % 2 == 0);
        let first = assign(Assignor::CooperativeSticky, &members, &counts);
        remember(&mut members, &first, 1);
        match dice.roll(2) {
            0 if members.len() > 1 => drop(members.remove(dice.roll(members.len()))),
            _ => members.push(member("n", None, &TOPICS)),
        }
        let target = assign(Assignor::Sticky, &members, &counts);
        let mut generation = 1;
        loop {
            generation += 1;
            let assignment = assign(Assignor::CooperativeSticky, &members, &counts);
            for (partition, owner) in owners(&assignment) {
                let elsewhere = |(member, other): (usize, &Member)| member != owner && other.owned.contains(&partition);
                assert!(!members.iter().enumerate().any(elsewhere), "{partition} is with two members");
            }
            let settled = members.iter().zip(&assignment).all(|(member, given)| member.owned == *given);
            let gives_back = |(member, given): (&Member, &Vec<TopicPartition>)| {
                member.owned.iter().any(|owned| !given.contains(owned))
            };
            let again = members.iter().zip(&assignment).any(gives_back);
            remember(&mut members, &assignment, generation);
            if settled {
                break;
            }
            assert!(generation <= 4 || !again, "it does not come to rest");
        }
        let given = members.iter().map(|member| member.owned.clone()).collect::<Vec<_>>();
        check_complete(&members, &counts, &given);
        check_balanced(&members, &given);
        let loads = |assignment: &[Vec<TopicPartition>]| {
            let mut loads: Vec<usize> = assignment.iter().map(Vec::len).collect();
            loads.sort_unstable();
            loads
        };
        assert_eq!(loads(&given), loads(&target), "as even as the eager one");
    }
}
