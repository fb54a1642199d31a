//! A consumer that stops where its logs end.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod consumer_support;

use std::cell::Cell;
use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use consumer_support::{PATIENCE, billing, client, cluster, eventually, write};
use indelible::{Client, ConsumeError, Delivery, StopReason, Summary};
use proto_tests::fake::{FakeCluster, Fault, FaultAction};

const LIST_OFFSETS: i16 = 2;
const SYNC_GROUP: i16 = 14;

fn ok(_: Delivery) -> impl Future<Output = Result<(), String>> {
    ready(Ok(()))
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap()
}

fn committed(cluster: &FakeCluster, partition: i32) -> Option<i64> {
    cluster.ledger().committed("billing", "orders", partition)
}

/// Handles what is there, and what it is given by name, one by one or in a group that has been there before.
#[tokio::test]
async fn what_is_there_is_handled() {
    let cluster = cluster("orders", 3);
    write(&cluster, "orders", 0, &["a", "b"]);
    write(&cluster, "orders", 2, &["c"]);
    let client = client(&cluster).await;
    let summary = in_time(billing(&client).stop_at_end().run(ok)).await.unwrap();
    assert_eq!((summary.records, summary.reason), (3, StopReason::End));
    assert_eq!((committed(&cluster, 0), committed(&cluster, 2)), (Some(2), Some(1)));
    // All is done already.
    let summary = in_time(billing(&client).stop_at_end().run(ok)).await.unwrap();
    assert_eq!((summary.records, summary.reason), (0, StopReason::End));
    // Without a group, each time anew.
    let alone = client.consumer_without_group().assign_from([("orders", 0, 1), ("orders", 1, 0)]).stop_at_end();
    let summary = in_time(alone.run(ok)).await.unwrap();
    assert_eq!((summary.records, summary.reason), (1, StopReason::End));
}

/// Somebody writes on and on, and this one is done all the same.
#[tokio::test]
async fn what_comes_later_is_left() {
    let cluster = cluster("orders", 2);
    write(&cluster, "orders", 0, &["a", "b", "c"]);
    let client = client(&cluster).await;
    let written = Cell::new(0);
    let summary = in_time(billing(&client).stop_at_end().run(|_: Delivery| {
        let cluster = &cluster;
        let written = &written;
        async move {
            written.set(written.get() + 1);
            write(cluster, "orders", 0, &["later"]);
            // Longer than it takes to see what was just written.
            tokio::time::sleep(Duration::from_millis(150)).await;
            Ok::<_, String>(())
        }
    }))
    .await
    .unwrap();
    assert_eq!(summary.reason, StopReason::End);
    // It hands out on until the end is noticed: one more record at most with handlers that take so long.
    assert!((3..=4).contains(&summary.records), "{summary:?}");
    assert_eq!(u64::from(written.get() as u32), summary.records);
}

/// A record in its handler is not done: the consumer stops behind it.
#[tokio::test]
async fn a_slow_last_record_is_waited_for() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["slow"]);
    let client = client(&cluster).await;
    let done = Cell::new(false);
    let summary = in_time(billing(&client).stop_at_end().run(|_: Delivery| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        done.set(true);
        Ok::<_, String>(())
    }))
    .await
    .unwrap();
    assert!(done.get());
    assert_eq!((summary.records, committed(&cluster, 0)), (1, Some(1)));
}

/// A member on a thread of its own that notes what it handles, each record for a while.
fn member(
    client: &Client,
    seen: &Arc<Mutex<Vec<(i32, i64)>>>,
    pause: Duration,
) -> std::thread::JoinHandle<Result<Summary, ConsumeError>> {
    let (consumer, seen) = (billing(client).stop_at_end().build().unwrap(), seen.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(consumer.run(|delivery: Delivery| {
            let seen = seen.clone();
            async move {
                tokio::time::sleep(pause).await;
                seen.lock().unwrap().push((delivery.partition(), delivery.offset()));
                Ok::<_, String>(())
            }
        }))
    })
}

/// Members come while others work, so that partitions go from one to the other half done; one has no partition at all.
/// Together they handle everything, and all of them end.
#[tokio::test]
async fn members_that_share_the_work_all_end() {
    let cluster = cluster("orders", 2);
    let values: Vec<String> = (0..60).map(|n| n.to_string()).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    for partition in 0..2 {
        write(&cluster, "orders", partition, &values);
    }
    let client = client(&cluster).await;
    let seen = Arc::default();
    let mut members = Vec::new();
    for started in 0..3 {
        members.push(member(&client, &seen, Duration::from_millis(10)));
        let next = 5 * (started + 1);
        let came = cluster.wait_for(|view| view.members("billing").len() == started + 1, PATIENCE);
        assert!(came, "member {started} did not come");
        while seen.lock().unwrap().len() < next {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let summaries: Vec<Summary> =
        tokio::task::spawn_blocking(|| members.into_iter().map(|member| member.join().unwrap().unwrap()).collect())
            .await
            .unwrap();
    assert!(summaries.iter().all(|summary| summary.reason == StopReason::End), "{summaries:?}");
    assert_eq!((committed(&cluster, 0), committed(&cluster, 1)), (Some(60), Some(60)));
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 120, "every record was handled");
}

/// While members give back what they have and wait for what they get, they have nothing. That is no end.
#[tokio::test]
async fn a_rebalance_is_no_end() {
    let cluster = cluster("orders", 2);
    let values: Vec<String> = (0..60).map(|n| n.to_string()).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    for partition in 0..2 {
        write(&cluster, "orders", partition, &values);
    }
    let client = client(&cluster).await;
    let seen = Arc::default();
    let first = member(&client, &seen, Duration::from_millis(10));
    while seen.lock().unwrap().len() < 5 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Each of the two is told what it gets so much later.
    cluster.inject(Fault::once(FaultAction::DelayAnswer(Duration::from_millis(700))).api(SYNC_GROUP).times(2));
    let second = member(&client, &seen, Duration::from_millis(10));
    let both = tokio::task::spawn_blocking(|| [first, second].map(|member| member.join().unwrap().unwrap()));
    let [first, second] = both.await.unwrap();
    assert!(first.records >= 40 && second.records >= 40, "{first:?}, {second:?}");
    assert!(first.records + second.records >= 120, "{first:?}, {second:?}");
}

/// Ends that cannot be looked up stop the consumer with the reason, and hold up nothing when the consumer is gone.
#[tokio::test]
async fn ends_that_cannot_be_looked_up() {
    let cluster = cluster("orders", 1);
    let client = client(&cluster).await;
    let fault = cluster.inject(Fault::always(FaultAction::Error(29)).api(LIST_OFFSETS));
    let error = in_time(billing(&client).stop_at_end().run(ok)).await.unwrap_err();
    assert!(error.to_string().contains("orders-0") && error.to_string().contains("Not authorized"), "{error}");
    cluster.remove_fault(fault);
    cluster.inject(Fault::always(FaultAction::Error(78)).api(LIST_OFFSETS));
    let consumer = billing(&client).stop_at_end().build().unwrap();
    let dropped = tokio::time::timeout(Duration::from_millis(300), consumer.run(ok)).await;
    assert!(dropped.is_err(), "{dropped:?}");
    drop(client);
    let closed = |view: proto_tests::fake::View<'_>| (1..=3).all(|broker| view.connections(broker) == 0);
    assert!(cluster.wait_for(closed, PATIENCE), "somebody still holds the client");
}

/// A member for which no partition is left waits for the others, and ends with them.
#[tokio::test]
async fn a_spare_member_ends_when_the_others_have() {
    let cluster = cluster("orders", 1);
    let values: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    write(&cluster, "orders", 0, &values.iter().map(String::as_str).collect::<Vec<_>>());
    let client = client(&cluster).await;
    let seen = Arc::default();
    let mut members = Vec::new();
    for _ in 0..2 {
        members.push(member(&client, &seen, Duration::from_millis(10)));
        while seen.lock().unwrap().len() < 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let reason = |member: std::thread::JoinHandle<Result<Summary, _>>| member.join().unwrap().unwrap().reason;
    let all = tokio::task::spawn_blocking(move || members.into_iter().map(reason).collect::<Vec<_>>());
    assert_eq!(all.await.unwrap(), [StopReason::End, StopReason::End]);
    assert_eq!(committed(&cluster, 0), Some(100));
}

/// A job joins a service that goes on: there is no partition for it, and there will be none.
#[tokio::test]
async fn a_spare_member_ends_beside_one_that_stays() {
    for protocol in ["classic", "consumer"] {
        let cluster = cluster("orders", 1);
        write(&cluster, "orders", 0, &["a", "b", "c"]);
        let client = client(&cluster).await;
        let member = || client.consumer("billing").topics(["orders"]).property("group.protocol", protocol);
        let service = member().instance_id("first").commit_interval(Duration::from_millis(20)).build().unwrap();
        let handle = service.handle();
        let service = tokio::spawn(service.run(ok));
        eventually("all is committed", || committed(&cluster, 0) == Some(3)).await;
        let spare = tokio::time::timeout(PATIENCE, member().stop_at_end().run(ok)).await;
        let summary = spare.unwrap_or_else(|_| panic!("{protocol}: the job does not end")).unwrap();
        assert_eq!((summary.records, summary.reason), (0, StopReason::End), "{protocol}");
        handle.shutdown();
        service.await.unwrap().unwrap();
    }
}
