//! The group protocol of KIP-848: member epochs, who may commit when, and how partitions move. Real brokers that have it
//! are those from 4.0 on.

use super::bench::{Bench, expect, text};
use super::{Case, Needs};
use crate::raw::{RawClient, name};
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, FindCoordinatorRequest, GroupId, OffsetCommitRequest, OffsetFetchRequest,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

pub(super) const CASES: &[Case] = &[
    case("a_member_epoch_decides_who_may_commit", lone_member),
    case("a_partition_moves_when_its_owner_has_let_go", two_members),
    case("a_static_member_goes_away_and_comes_back", static_member),
    case("joins_that_are_refused", refusals),
];

const fn case(name: &'static str, run: fn(&mut Bench<'_>) -> Result<(), String>) -> Case {
    Case { name, needs: Needs::Nothing, run }
}

fn string(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// What a heartbeat is answered: error code, member epoch, assigned partitions of the topic.
type Answer = (i16, i32, Option<Vec<i32>>);

/// One group of one case, at its coordinator.
struct Group {
    client: RawClient,
    topic: String,
    id: Uuid,
    instance: Option<String>,
}

impl Group {
    fn new(bench: &Bench<'_>) -> Result<Self, String> {
        let topic = bench.topic(4, 1, &[])?;
        let metadata = bench.any()?.metadata(Some(&topic)).map_err(text)?;
        let id = metadata.topics.first().ok_or("no topic")?.topic_id;
        let client = bench.until("the coordinator", || {
            let request = FindCoordinatorRequest::default().with_key(string(&topic));
            let found = bench.any()?.call(3, &request).map_err(text)?;
            expect("FindCoordinator", found.error_code, 0)?;
            RawClient::connect(format!("{}:{}", found.host, found.port)).map_err(text)
        })?;
        let mut group = Self { client, topic, id, instance: None };
        bench.until("the coordinator to be ready", || expect("heartbeat", group.beat("nobody", 1, None)?.0, 69))?;
        Ok(group)
    }

    fn request(&self, member: &str, epoch: i32, owned: Option<&[i32]>) -> ConsumerGroupHeartbeatRequest {
        let row = |list: &[i32]| TopicPartitions::default().with_topic_id(self.id).with_partitions(list.to_vec());
        let owned = owned.map(|list| if list.is_empty() { Vec::new() } else { vec![row(list)] });
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(string(&self.topic)))
            .with_member_id(string(member))
            .with_member_epoch(epoch)
            .with_instance_id(self.instance.as_deref().map(string))
            .with_rebalance_timeout_ms(-1)
            .with_topic_partitions(owned)
    }

    fn call(&mut self, request: &ConsumerGroupHeartbeatRequest) -> Result<Answer, String> {
        let answer = self.client.call(1, request).map_err(text)?;
        let assigned = answer.assignment.map(|assignment| {
            let mut all: Vec<i32> =
                assignment.topic_partitions.into_iter().flat_map(|topic| topic.partitions).collect();
            all.sort_unstable();
            all
        });
        Ok((answer.error_code, answer.member_epoch, assigned))
    }

    fn beat(&mut self, member: &str, epoch: i32, owned: Option<&[i32]>) -> Result<Answer, String> {
        let request = self.request(member, epoch, owned);
        self.call(&request)
    }

    /// A heartbeat that tells all there is.
    fn full(&mut self, member: &str, epoch: i32, owned: &[i32]) -> Result<Answer, String> {
        let names = vec![name(&self.topic)];
        let request = self.request(member, epoch, Some(owned));
        self.call(&request.with_rebalance_timeout_ms(20_000).with_subscribed_topic_names(Some(names)))
    }

    /// Joins as the first one, and acknowledges all partitions; answers its epoch. Kafka 4.3 computes assignments at most
    /// once a second, and the coordinator may hear of a new topic late.
    fn first(&mut self, bench: &Bench<'_>, member: &str) -> Result<i32, String> {
        let epoch = bench.until("all partitions", || {
            let (epoch, assigned) = self.join(member)?;
            expect("assigned", assigned, vec![0, 1, 2, 3]).map(|()| epoch)
        })?;
        let (code, epoch, _) = self.beat(member, epoch, Some(&[0, 1, 2, 3]))?;
        expect("acknowledged", code, 0).map(|()| epoch)
    }

    /// Joins; answers epoch and assignment.
    fn join(&mut self, member: &str) -> Result<(i32, Vec<i32>), String> {
        let (code, epoch, assigned) = self.full(member, 0, &[])?;
        expect("join", code, 0)?;
        Ok((epoch, assigned.ok_or("a join without an assignment")?))
    }

    fn commit(&mut self, version: i16, member: &str, epoch: i32) -> Result<i16, String> {
        self.commit_of(&[0], version, member, epoch)
    }

    fn commit_of(&mut self, partitions: &[i32], version: i16, member: &str, epoch: i32) -> Result<i16, String> {
        let row =
            |index: &i32| OffsetCommitRequestPartition::default().with_partition_index(*index).with_committed_offset(1);
        let rows = partitions.iter().map(row).collect();
        let topic = OffsetCommitRequestTopic::default().with_name(name(&self.topic)).with_partitions(rows);
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(string(&self.topic)))
            .with_generation_id_or_member_epoch(epoch)
            .with_member_id(string(member))
            .with_topics(vec![topic]);
        let answer = self.client.call(version, &request).map_err(text)?;
        let row = answer.topics.first().and_then(|topic| topic.partitions.first());
        row.map(|row| row.error_code).ok_or_else(|| "no answer for the partition".to_owned())
    }

    fn look_up(&mut self, member: Option<&str>, epoch: i32) -> Result<i16, String> {
        let topic = OffsetFetchRequestTopics::default().with_name(name(&self.topic)).with_partition_indexes(vec![0]);
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(string(&self.topic)))
            .with_member_id(member.map(string))
            .with_member_epoch(epoch)
            .with_topics(Some(vec![topic]));
        let answer = self.client.call(9, &OffsetFetchRequest::default().with_groups(vec![group])).map_err(text)?;
        answer.groups.first().map(|group| group.error_code).ok_or_else(|| "no answer for the group".to_owned())
    }
}

/// It joins with an id of its own; only its very epoch commits and looks up, and heartbeats of another are fenced, but
/// for the one before it, whose answer may have been lost.
fn lone_member(bench: &mut Bench<'_>) -> Result<(), String> {
    let mut group = Group::new(bench)?;
    expect("commit from outside", group.commit(9, "", -1)?, 0)?;
    let epoch = group.first(bench, "one")?;
    expect("beat", group.beat("one", epoch, None)?, (0, epoch, None))?;
    expect("all told", group.full("one", epoch, &[0, 1, 2, 3])?, (0, epoch, Some(vec![0, 1, 2, 3])))?;
    expect("later epoch", group.beat("one", epoch + 1, None)?.0, 110)?;
    expect("stranger", group.beat("who", epoch, None)?.0, 25)?;
    for (what, at, code) in
        [("commit", epoch, 0), ("older", epoch - 1, 113), ("newer", epoch + 1, 113), ("none", -1, 113)]
    {
        expect(&format!("{what}: commit"), group.commit(9, "one", at)?, code)?;
        expect(&format!("{what}: look-up"), group.look_up(Some("one"), at)?, code)?;
    }
    expect("commit without epochs", group.commit(8, "one", epoch)?, 35)?;
    expect("commit of a stranger", group.commit(9, "who", epoch)?, 25)?;
    expect("commit from outside again", group.commit(9, "", -1)?, 25)?;
    expect("look-up of a stranger", group.look_up(Some("who"), epoch)?, 25)?;
    expect("look-up of nobody", group.look_up(None, -1)?, 0)?;
    expect("joins again", group.join("one")?, (epoch, vec![0, 1, 2, 3]))?;
    expect("leaves", group.beat("one", -1, None)?, (0, -1, None))?;
    expect("leaves twice", group.beat("one", -1, None)?.0, 25)?;
    expect("commit of one that left", group.commit(9, "one", epoch)?, 25)?;
    expect("commit from outside at last", group.commit(9, "", -1)?, 0)
}

/// The second one waits; the first keeps its epoch, and may commit, until it says that it has let go.
fn two_members(bench: &mut Bench<'_>) -> Result<(), String> {
    let mut group = Group::new(bench)?;
    let mut one = group.first(bench, "one")?;
    let (mut two, assigned) = group.join("two")?;
    expect("nothing is free", assigned, Vec::new())?;
    bench.until("the first to be asked", || {
        let (code, epoch, assigned) = group.beat("one", one, None)?;
        one = epoch;
        expect("asked to give back", (code, assigned), (0, Some(vec![0, 1])))
    })?;
    expect("not told twice", group.beat("one", one, None)?, (0, one, None))?;
    expect("commit while giving back", group.commit(9, "one", one)?, 0)?;
    expect("part is not all", group.beat("one", one, Some(&[0, 1, 2]))?, (0, one, None))?;
    expect("after a lost answer", group.full("one", one, &[0, 1, 2, 3])?, (0, one, Some(vec![0, 1])))?;
    let (code, epoch, assigned) = group.beat("two", two, None)?;
    two = epoch;
    expect("not yet", (code, assigned, epoch > one), (0, None, true))?;
    let (code, now, assigned) = group.beat("one", one, Some(&[0, 1]))?;
    expect("let go", (code, assigned, now > one), (0, None, true))?;
    // KIP-1251: an older epoch is good for what was its own then, and still is. One that is not spoils all.
    expect("commit of the old epoch", group.commit(9, "one", one)?, 0)?;
    expect("commit of what has moved", group.commit_of(&[3], 9, "one", one)?, 113)?;
    expect("commit of both", group.commit_of(&[0, 3], 9, "one", one)?, 113)?;
    expect("look-up of the old epoch", group.look_up(Some("one"), one)?, 113)?;
    expect("commit of the new epoch", group.commit(9, "one", now)?, 0)?;
    let (code, epoch, assigned) = group.beat("two", two, None)?;
    two = epoch;
    expect("moved", (code, assigned), (0, Some(vec![2, 3])))?;
    expect("commit of another's under the present epoch", group.commit_of(&[3], 9, "one", now)?, 0)?;
    expect("the epoch before, nothing told", group.beat("one", one, None)?.0, 110)?;
    expect("the epoch before, owned told", group.beat("one", one, Some(&[0, 1]))?, (0, now, None))?;
    expect("the epoch before, too much", group.beat("one", one, Some(&[0, 1, 2]))?.0, 110)?;
    expect("leaves", group.beat("two", -1, None)?, (0, -1, None))?;
    expect("commit of one that left", group.commit(9, "two", two)?, 25)?;
    let mut now = now;
    bench.until("all to come back", || {
        let (code, epoch, assigned) = group.beat("one", now, None)?;
        now = epoch;
        expect("gets all", (code, assigned), (0, Some(vec![0, 1, 2, 3])))
    })
}

/// KIP-345: its partitions wait for it; meanwhile it neither beats nor commits.
fn static_member(bench: &mut Bench<'_>) -> Result<(), String> {
    let mut group = Group::new(bench)?;
    group.instance = Some("a".to_owned());
    let epoch = group.first(bench, "one")?;
    expect("the id is in use", group.full("other", 0, &[])?.0, 111)?;
    expect("away", group.beat("one", -2, None)?, (0, -2, None))?;
    expect("beat while away", group.beat("one", epoch, None)?.0, 110)?;
    expect("commit while away", group.commit(9, "one", epoch)?, 113)?;
    expect("back under another id", group.join("other")?, (epoch, vec![0, 1, 2, 3]))?;
    expect("the old one is fenced", group.beat("one", epoch, None)?.0, 82)?;
    expect("its leave too", group.beat("one", -1, None)?.0, 82)?;
    expect("leaves for good", group.beat("other", -1, None)?, (0, -1, None))
}

/// What is no request, and what this broker cannot do.
fn refusals(bench: &mut Bench<'_>) -> Result<(), String> {
    let mut group = Group::new(bench)?;
    let join = |group: &Group, member: &str| group.request(member, 0, Some(&[])).with_rebalance_timeout_ms(20_000);
    let topics = |group: &Group| Some(vec![name(&group.topic)]);
    let request = join(&group, "one");
    expect("no subscription", group.call(&request)?.0, 42)?;
    let request = join(&group, "one").with_subscribed_topic_names(topics(&group)).with_topic_partitions(None);
    expect("owned not told", group.call(&request)?.0, 42)?;
    let request = join(&group, "").with_subscribed_topic_names(topics(&group));
    expect("no member id", group.call(&request)?.0, 42)?;
    let request = join(&group, "one").with_subscribed_topic_names(topics(&group)).with_rebalance_timeout_ms(-1);
    expect("no timeout", group.call(&request)?.0, 42)?;
    let request = join(&group, "one").with_subscribed_topic_names(topics(&group));
    let request = request.with_server_assignor(Some(string("nonsense")));
    expect("no such assignor", group.call(&request)?.0, 112)?;
    let request = join(&group, "one").with_subscribed_topic_regex(Some(string("((")));
    expect("no pattern", group.call(&request)?.0, 128)?;
    let request = join(&group, "one").with_subscribed_topic_names(Some(vec![name("never-there")]));
    let (code, epoch, assigned) = group.call(&request)?;
    expect("a topic that is missing", (code, assigned), (0, Some(Vec::new())))?;
    expect("away without an instance", group.beat("one", -2, None)?.0, 42)?;
    expect("beat", group.beat("one", epoch, None)?.0, 0)
}
