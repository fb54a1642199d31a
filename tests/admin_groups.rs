//! Groups looked at, and their offsets moved, on the fake cluster.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod consumer_support;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use consumer_support::{OFFSET_COMMIT, PATIENCE, billing, client, cluster, write};
use indelible::types::TopicPartition;
use indelible::wire::ErrorCode;
use indelible::{Admin, AdminError, Client, ConsumerHandle, Delivery, GroupKind, NewTopic, OffsetSpec};
use proto_tests::fake::{FakeCluster, Fault, FaultAction};
use tokio::sync::Notify;
use tokio::task::JoinSet;

const LIST_OFFSETS: i16 = 2;
const METADATA: i16 = 3;
const FIND_COORDINATOR: i16 = 10;
const DESCRIBE_GROUPS: i16 = 15;
const LIST_GROUPS: i16 = 16;
const CREATE_TOPICS: i16 = 19;
const DELETE_TOPICS: i16 = 20;
const DESCRIBE_CONFIGS: i16 = 32;
const DELETE_GROUPS: i16 = 42;
const CONSUMER_GROUP_DESCRIBE: i16 = 69;

fn orders(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

/// Handles all that is there and stops; the group is left.
async fn handle_all(client: &Client, records: u64) {
    billing(client).stop_after(records).run(|_: Delivery| async { Ok::<_, String>(()) }).await.unwrap();
}

/// A member of "billing" that holds its partitions while `during` runs.
async fn beside_a_member<T>(client: &Client, during: impl Future<Output = T>) -> T {
    let handled = Arc::new(Notify::new());
    let consumer = billing(client).instance_id("till-1").build().unwrap();
    let handle: ConsumerHandle = consumer.handle();
    let told = handled.clone();
    let running = consumer.run(move |_| {
        told.notify_one();
        async { Ok::<_, String>(()) }
    });
    let work = async {
        handled.notified().await;
        let outcome = during.await;
        handle.shutdown();
        outcome
    };
    let (ran, outcome) = tokio::join!(running, work);
    ran.unwrap();
    outcome
}

/// A group that each of the three brokers coordinates one of.
async fn three_groups(client: &Client, cluster: &FakeCluster) -> BTreeMap<i32, String> {
    let mut groups = BTreeMap::new();
    for n in 0.. {
        let name = format!("group-{n}");
        let coordinator = cluster.look(|view| view.coordinator(&name)).unwrap();
        if let std::collections::btree_map::Entry::Vacant(place) = groups.entry(coordinator) {
            client.admin().commit_group_offsets(name.as_str(), [(orders(0), 0)]).await.unwrap();
            place.insert(name);
        }
        if groups.len() == 3 {
            break;
        }
    }
    groups
}

/// Groups lie on several brokers: each is asked.
#[tokio::test]
async fn groups_of_all_coordinators_are_listed() {
    let cluster = cluster("orders", 1);
    let client = client(&cluster).await;
    let groups = three_groups(&client, &cluster).await;
    let listed = client.admin().list_groups().await.unwrap();
    let found: BTreeMap<i32, String> =
        listed.iter().map(|group| (group.coordinator, group.name.as_ref().to_owned())).collect();
    assert_eq!(found, groups);
    for group in &listed {
        assert_eq!((&group.kind, group.state.as_deref()), (&GroupKind::Classic, Some("Empty")));
    }
}

/// A broker that is loading its groups is asked again, and a list without its groups is not given out.
#[tokio::test]
async fn a_list_of_groups_is_whole() {
    let cluster = cluster("orders", 1);
    let client = client(&cluster).await;
    let groups = three_groups(&client, &cluster).await;
    let loading = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS.0;
    cluster.inject(Fault::once(FaultAction::Error(loading)).api(LIST_GROUPS).broker(2).times(2));
    cluster.inject(Fault::once(FaultAction::DropBeforeApply).api(LIST_GROUPS).broker(3).times(1));
    assert_eq!(client.admin().list_groups().await.unwrap().len(), 3);

    // A killed broker's groups go to others.
    cluster.kill(1);
    let mut names: Vec<String> =
        client.admin().list_groups().await.unwrap().iter().map(|group| group.name.to_string()).collect();
    names.sort();
    let mut expected: Vec<String> = groups.into_values().collect();
    expected.sort();
    assert_eq!(names, expected);

    // What is told in the end is why the groups are missing, also when the brokers were asked for something else last.
    let short = Client::builder(cluster.bootstrap())
        .property("client.id", "short")
        .property("default.api.timeout.ms", "1500")
        .build()
        .await
        .unwrap();
    cluster.inject(Fault::always(FaultAction::Error(loading)).api(LIST_GROUPS).broker(2));
    cluster.inject(Fault::always(FaultAction::NoAnswerBefore).api(METADATA).client_id("short").skip(1));
    let error = short.admin().list_groups().await.unwrap_err();
    assert!(error.to_string().contains("broker 2 was refused: COORDINATOR_LOAD_IN_PROGRESS"), "{error}");
}

#[tokio::test]
async fn a_group_with_a_member_is_described() {
    let cluster = cluster("orders", 2);
    write(&cluster, "orders", 0, &["a", "b"]);
    let client = client(&cluster).await;
    let group = beside_a_member(&client, client.admin().describe_group("billing")).await.unwrap();
    assert_eq!((&*group.name, &group.kind), ("billing", &GroupKind::Classic));
    assert_eq!((group.state.as_str(), group.protocol_type.as_str()), ("Stable", "consumer"));
    assert_eq!(group.assignor, "range");
    assert_eq!(Some(group.coordinator), cluster.look(|view| view.coordinator("billing")));
    let [member] = &group.members[..] else { panic!("{group:?}") };
    assert_eq!(member.instance_id.as_deref(), Some("till-1"));
    assert_eq!((member.client_id.as_str(), member.host.as_str()), ("indelible", "127.0.0.1"));
    assert_eq!(member.assignment, [orders(0), orders(1)]);
    assert_eq!(member.target, None);

    // A static member is one until its session is over, so that it may come back.
    let group = client.admin().describe_group("billing").await.unwrap();
    assert_eq!((group.state.as_str(), group.members.len()), ("Stable", 1));
}

/// Both ways in which a broker says so, and a coordinator that moves meanwhile.
#[tokio::test]
async fn a_group_that_is_not_there_is_named() {
    let cluster = cluster("orders", 1);
    let client = client(&cluster).await;
    cluster.inject(Fault::once(FaultAction::Error(ErrorCode::NOT_COORDINATOR.0)).api(DESCRIBE_GROUPS).times(1));
    cluster.inject(Fault::once(FaultAction::DropAfterApply).api(FIND_COORDINATOR).times(1));
    let error = client.admin().describe_group("nobody").await.unwrap_err();
    assert!(matches!(&error, AdminError::GroupNotFound { group } if &**group == "nobody"), "{error}");
    let old = FakeCluster::builder().brokers(1).max_version(DESCRIBE_GROUPS, 5).start();
    let client = consumer_support::client(&old).await;
    let error = client.admin().describe_group("nobody").await.unwrap_err();
    assert_eq!(error.to_string(), "group \"nobody\" does not exist; check its name");
    assert!(matches!(client.admin().delete_group("nobody").await, Err(AdminError::GroupNotFound { .. })));
    assert_eq!(client.admin().group_offsets("nobody").await.unwrap(), BTreeMap::new());
}

/// The broker deletes the group and its answer is lost: asked again, it knows no such group.
#[tokio::test]
async fn a_group_whose_deletion_was_not_answered_is_deleted() {
    let cluster = cluster("orders", 1);
    let client = client(&cluster).await;
    client.admin().commit_group_offsets("billing", [(orders(0), 0)]).await.unwrap();
    cluster.inject(Fault::once(FaultAction::DropAfterApply).api(DELETE_GROUPS));
    client.admin().delete_group("billing").await.unwrap();
    assert!(matches!(client.admin().delete_group("billing").await, Err(AdminError::GroupNotFound { .. })));
}

/// Story: a cluster was upgraded, and the feature that KIP-848 needs was not: its brokers offer the request and refuse it.
#[tokio::test]
async fn a_classic_group_is_described_where_the_new_protocol_is_switched_off() {
    let cluster = cluster("orders", 1);
    let client = client(&cluster).await;
    cluster.inject(Fault::always(FaultAction::Error(ErrorCode::UNSUPPORTED_VERSION.0)).api(CONSUMER_GROUP_DESCRIBE));
    client.admin().commit_group_offsets("billing", [(orders(0), 0)]).await.unwrap();
    let group = client.admin().describe_group("billing").await.unwrap();
    assert_eq!((&group.kind, group.state.as_str()), (&GroupKind::Classic, "Empty"));
    let error = client.admin().describe_group("nobody").await.unwrap_err();
    assert!(matches!(&error, AdminError::GroupNotFound { .. }), "{error}");
}

/// A broker that hangs costs an operation what `default.api.timeout.ms` says, however long `request.timeout.ms` is.
#[tokio::test]
async fn operations_end_in_time() {
    type Outcome = Pin<Box<dyn Future<Output = Result<(), AdminError>> + Send>>;
    type Operation = (&'static str, i16, fn(Admin) -> Outcome);
    let operations: [Operation; 8] = [
        ("creation", CREATE_TOPICS, |a| Box::pin(async move { a.create_topics([NewTopic::new("new")]).await })),
        ("deletion", DELETE_TOPICS, |a| Box::pin(async move { a.delete_topics(["orders"]).await })),
        ("configuration", DESCRIBE_CONFIGS, |a| Box::pin(async move { a.describe_broker_config(1).await.map(drop) })),
        ("offsets", LIST_OFFSETS, |a| {
            Box::pin(async move { a.list_offsets([orders(0)], OffsetSpec::End).await.map(drop) })
        }),
        ("groups", LIST_GROUPS, |a| Box::pin(async move { a.list_groups().await.map(drop) })),
        ("group", DESCRIBE_GROUPS, |a| Box::pin(async move { a.describe_group("billing").await.map(drop) })),
        ("coordinator", FIND_COORDINATOR, |a| Box::pin(async move { a.group_offsets("billing").await.map(drop) })),
        ("commit", OFFSET_COMMIT, |a| {
            Box::pin(async move { a.commit_group_offsets("billing", [(orders(0), 0)]).await })
        }),
    ];
    let cluster = cluster("orders", 1);
    let mut ended = JoinSet::new();
    for (what, api, operation) in operations {
        let hasty = Client::builder(cluster.bootstrap()).client_id(what).property("default.api.timeout.ms", "4000");
        let admin = hasty.build().await.unwrap().admin();
        cluster.inject(Fault::always(FaultAction::NoAnswerBefore).api(api).client_id(what));
        ended.spawn(async move { (what, api, tokio::time::timeout(PATIENCE, operation(admin)).await) });
    }
    while let Some(ended) = ended.join_next().await {
        let (what, api, outcome) = ended.unwrap();
        let error = outcome.unwrap_or_else(|_| panic!("{what} does not end")).unwrap_err();
        let AdminError::Call(error) = &error else { panic!("{what}: {error}") };
        assert!(error.to_string().contains("timed out after 4 s"), "{what}: {error}");
        let asked = !matches!(api, FIND_COORDINATOR | LIST_OFFSETS);
        assert_eq!(error.may_have_been_applied(), asked, "{what}: {error}");
    }
}

#[tokio::test]
async fn refusals_name_the_group() {
    let cluster = cluster("orders", 1);
    let client = client(&cluster).await;
    cluster.inject(Fault::always(FaultAction::Error(ErrorCode::GROUP_AUTHORIZATION_FAILED.0)).api(DESCRIBE_GROUPS));
    let error = client.admin().describe_group("billing").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::GROUP_AUTHORIZATION_FAILED));
    assert!(error.to_string().starts_with("description of group \"billing\" was refused"), "{error}");
}

/// Offsets are moved, and the group goes on there: what it had handled is handled again, no more and no less.
#[tokio::test]
async fn moved_offsets_are_where_the_group_goes_on() {
    let cluster = cluster("orders", 2);
    write(&cluster, "orders", 0, &["a", "b", "c"]);
    write(&cluster, "orders", 1, &["d"]);
    let client = client(&cluster).await;
    let admin = client.admin();
    handle_all(&client, 4).await;
    let group = admin.describe_group("billing").await.unwrap();
    assert_eq!((group.state.as_str(), group.members.len()), ("Empty", 0));
    let committed = admin.group_offsets("billing").await.unwrap();
    let offsets = |committed: &BTreeMap<TopicPartition, indelible::CommittedOffset>| {
        committed.iter().map(|(partition, committed)| (partition.clone(), committed.offset)).collect::<Vec<_>>()
    };
    assert_eq!(offsets(&committed), [(orders(0), 3), (orders(1), 1)]);

    admin.commit_group_offsets("billing", [(orders(0), 1)]).await.unwrap();
    let committed = admin.group_offsets("billing").await.unwrap();
    assert_eq!(offsets(&committed), [(orders(0), 1), (orders(1), 1)], "the other partition stays");
    assert_eq!((committed[&orders(0)].leader_epoch, committed[&orders(0)].metadata.as_str()), (None, ""));
    handle_all(&client, 2).await;
    assert_eq!(offsets(&admin.group_offsets("billing").await.unwrap()), [(orders(0), 3), (orders(1), 1)]);

    admin.delete_group("billing").await.unwrap();
    assert_eq!(admin.group_offsets("billing").await.unwrap(), BTreeMap::new());
}

/// Its members would commit over it.
#[tokio::test]
async fn offsets_of_a_group_with_members_are_not_moved() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["a", "b"]);
    let client = client(&cluster).await;
    let admin = client.admin();
    let (moved, deleted) = beside_a_member(&client, async {
        (admin.commit_group_offsets("billing", [(orders(0), 0)]).await, admin.delete_group("billing").await)
    })
    .await;
    for outcome in [moved, deleted] {
        let error = outcome.unwrap_err();
        assert!(matches!(&error, AdminError::GroupHasMembers { group } if &**group == "billing"), "{error}");
    }
    assert_eq!(admin.group_offsets("billing").await.unwrap()[&orders(0)].offset, 2);
}

#[tokio::test]
async fn places_in_logs_are_looked_up() {
    let cluster = cluster("orders", 2);
    let client = client(&cluster).await;
    let admin = client.admin();
    write(&cluster, "orders", 0, &["a", "b"]);
    let before = cluster.now_ms();
    cluster.advance_time(Duration::from_secs(60));
    write(&cluster, "orders", 0, &["c"]);
    let both = || [orders(0), orders(1)];
    let found = async |of| admin.list_offsets(both(), of).await.unwrap().into_values().collect::<Vec<i64>>();
    assert_eq!(found(OffsetSpec::Beginning).await, [0, 0]);
    assert_eq!(found(OffsetSpec::End).await, [3, 0]);
    assert_eq!(found(OffsetSpec::Timestamp(before + 1)).await, [2, 0]);
    assert_eq!(found(OffsetSpec::Timestamp(-5)).await, [0, 0], "a time before all others, not a word of the protocol");
    assert_eq!(found(OffsetSpec::Timestamp(i64::MAX)).await, [3, 0], "later than all records is the end");

    let error = admin.list_offsets([orders(2)], OffsetSpec::End).await.unwrap_err();
    assert!(error.to_string().contains("partition orders-2 was refused"), "{error}");
    let error = admin.list_offsets([TopicPartition::new("nowhere", 0)], OffsetSpec::End).await.unwrap_err();
    assert!(matches!(error, AdminError::Metadata(_)), "{error}");
    let error = admin.commit_group_offsets("billing", [(orders(0), -1)]).await.unwrap_err();
    assert!(error.to_string().contains("partition orders-0 was refused"), "{error}");
    assert_eq!(cluster.ledger().committed("billing", "orders", 0), None);
    let error = admin.commit_group_offsets("billing", [(orders(2), 0)]).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
}
