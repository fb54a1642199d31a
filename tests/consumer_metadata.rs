//! What is handled beyond the committed offset is remembered in the commit, and not repeated by a restart.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod consumer_support;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use consumer_support::{
    OFFSET_COMMIT, PATIENCE, Seen, billing, client, cluster, committed, eventually, write, write_commit,
};
use indelible::{Client, ConsumeError, ConsumerBuilder, ConsumerHandle, Order, Summary};
use proto_tests::fake::{FakeCluster, Fault, FaultAction};
use tokio::task::JoinHandle;

/// Kafka's OFFSET_METADATA_TOO_LARGE.
const OFFSET_METADATA_TOO_LARGE: i16 = 12;

type Offsets = Arc<Mutex<BTreeSet<i64>>>;

/// Handles any record at once, except for those of `stuck`.
struct Running {
    handle: ConsumerHandle,
    handled: Offsets,
    repeated: Offsets,
    task: JoinHandle<Result<Summary, ConsumeError>>,
}

impl Running {
    fn start(builder: ConsumerBuilder, stuck: &'static [i64]) -> Running {
        let consumer = builder.order(Order::None).workers(16).build().unwrap();
        let (handle, handled, repeated) = (consumer.handle(), Offsets::default(), Offsets::default());
        let (noting, again) = (handled.clone(), repeated.clone());
        let task = tokio::spawn(consumer.run(move |delivery| {
            let (noting, again) = (noting.clone(), again.clone());
            async move {
                if stuck.contains(&delivery.offset()) {
                    std::future::pending::<()>().await;
                }
                if !noting.lock().unwrap().insert(delivery.offset()) {
                    again.lock().unwrap().insert(delivery.offset());
                }
                Ok::<(), String>(())
            }
        }));
        Running { handle, handled, repeated, task }
    }

    fn handled(&self) -> Vec<i64> {
        self.handled.lock().unwrap().iter().copied().collect()
    }
}

fn metadata(cluster: &FakeCluster) -> String {
    let committed = cluster.look(|view| view.committed("billing", "orders", 0));
    committed.and_then(|committed| committed.metadata).unwrap_or_default()
}

/// Ten records, of which 3 and 6 are stuck; a consumer that has committed the others dies.
async fn died(change: impl FnOnce(ConsumerBuilder) -> ConsumerBuilder) -> (FakeCluster, Client) {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    let client = client(&cluster).await;
    let running = Running::start(change(billing(&client)), &[3, 6]);
    eventually("the others are handled", || running.handled() == [0, 1, 2, 4, 5, 7, 8, 9]).await;
    eventually("as far as the first that is stuck", || committed(&cluster, 0) == Some(3)).await;
    let commits = running.handle.metrics().commits;
    write(&cluster, "orders", 0, &["10"]);
    eventually("what came later", || running.handled().ends_with(&[10])).await;
    if change_is_seen(&cluster).await {
        eventually("and is committed", || running.handle.metrics().commits > commits).await;
    }
    running.task.abort();
    let _ = running.task.await;
    eventually("the member has left", || cluster.look(|view| view.members("billing").is_empty())).await;
    (cluster, client)
}

/// Whether commits carry metadata: it comes soon, or never.
async fn change_is_seen(cluster: &FakeCluster) -> bool {
    let seen = async {
        while metadata(cluster).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_millis(500), seen).await.is_ok()
}

#[tokio::test]
async fn completion_out_of_order() {
    let (cluster, client) = died(|builder| builder).await;
    assert_eq!(committed(&cluster, 0), Some(3), "the lowest that is not handled");
    assert!(metadata(&cluster).starts_with("i1."), "{}", metadata(&cluster));
    // The next life handles what was not, and nothing else.
    let running = Running::start(billing(&client), &[]);
    eventually("the rest", || committed(&cluster, 0) == Some(11)).await;
    assert_eq!(running.handled(), [3, 6]);
    assert_eq!(metadata(&cluster), "", "nothing is beyond");
    running.handle.shutdown();
    assert_eq!(running.task.await.unwrap().unwrap().records, 2);
}

/// Story: a second life dies before it came to the end; what it found in the metadata is still in its own commits.
#[tokio::test]
async fn what_was_remembered_is_remembered_again() {
    let (cluster, client) = died(|builder| builder).await;
    let running = Running::start(billing(&client), &[6]);
    eventually("one more", || committed(&cluster, 0) == Some(6)).await;
    running.task.abort();
    eventually("the member has left", || cluster.look(|view| view.members("billing").is_empty())).await;
    let running = Running::start(billing(&client), &[]);
    eventually("the rest", || committed(&cluster, 0) == Some(11)).await;
    assert_eq!(running.handled(), [6]);
    running.handle.shutdown();
    running.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn without_metadata_what_lies_beyond_is_handled_again() {
    let (cluster, client) = died(|builder| builder.commit_metadata(false)).await;
    assert!(cluster.ledger().commits.iter().all(|commit| commit.metadata.as_deref().unwrap_or("").is_empty()));
    let running = Running::start(billing(&client), &[]);
    eventually("the rest", || committed(&cluster, 0) == Some(11)).await;
    assert_eq!(running.handled(), [3, 4, 5, 6, 7, 8, 9, 10]);
    assert!(running.repeated.lock().unwrap().is_empty());
    running.handle.shutdown();
    running.task.await.unwrap().unwrap();
}

/// Story: the broker's `offset.metadata.max.bytes` is smaller than what is sent. The offset must be committed all the same,
/// and not be refused again and again.
#[tokio::test]
async fn metadata_that_the_broker_does_not_take_is_left_off() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["0", "1", "2", "3"]);
    let client = client(&cluster).await;
    let running = Running::start(billing(&client), &[1]);
    eventually("the others", || running.handled() == [0, 2, 3]).await;
    eventually("as far as the first that is stuck", || metadata(&cluster).starts_with("i1.")).await;
    let refused = cluster.inject(Fault::once(FaultAction::Error(OFFSET_METADATA_TOO_LARGE)).api(OFFSET_COMMIT));
    write(&cluster, "orders", 0, &["4"]);
    eventually("it is refused", || cluster.look(|view| view.struck(refused)) == 1).await;
    write(&cluster, "orders", 0, &["5"]);
    eventually("it goes on", || running.handled().ends_with(&[5])).await;
    running.handle.shutdown();
    // The stuck handler is given up.
    let summary = running.task.await.unwrap().unwrap();
    assert_eq!(summary.records, 5);
    assert_eq!(cluster.look(|view| view.struck(refused)), 1);
    assert_eq!(committed(&cluster, 0), Some(1));
}

/// Story: between two lives the log was cut beyond the committed offset by an unclean election, and other records stand
/// there now. Going by the metadata alone would skip them.
#[tokio::test]
async fn what_the_log_has_lost_beyond_the_offset_is_handled_anew() {
    let cluster = cluster("orders", 1);
    (0..6).for_each(|n| write(&cluster, "orders", 0, &[&n.to_string()]));
    let client = client(&cluster).await;
    let running = Running::start(billing(&client), &[1]);
    eventually("the others", || running.handled() == [0, 2, 3, 4, 5]).await;
    let before = metadata(&cluster);
    eventually("all are committed", || metadata(&cluster).starts_with("i1.") && committed(&cluster, 0) == Some(1))
        .await;
    running.task.abort();
    eventually("the member has left", || cluster.look(|view| view.members("billing").is_empty())).await;
    assert!(metadata(&cluster) != before || before.starts_with("i1."));
    cluster.unclean_election("orders", 0, 2);
    ["new", "newer", "newest"].iter().for_each(|value| write(&cluster, "orders", 0, &[value]));
    let running = Running::start(billing(&client), &[]);
    eventually("the rest", || committed(&cluster, 0) == Some(7)).await;
    assert_eq!(running.handled(), [1, 4, 5, 6], "2 and 3 are as they were");
    running.handle.shutdown();
    running.task.await.unwrap().unwrap();
}

/// Story: an administrator moves the offset and a mirror copies metadata; the topic is created anew. Each time the text says
/// something about other records than these.
#[tokio::test]
async fn metadata_of_another_offset_or_log_is_not_taken() {
    let (cluster, client) = died(|builder| builder).await;
    let ours = metadata(&cluster);
    write_commit(&cluster, "billing", "orders", 0, (2, 0), &ours);
    let running = Running::start(billing(&client), &[]);
    eventually("the rest", || committed(&cluster, 0) == Some(11)).await;
    assert_eq!(running.handled(), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
    running.handle.shutdown();
    running.task.await.unwrap().unwrap();
    cluster.delete_topic("orders");
    cluster.create_topic("orders", 1);
    write(&cluster, "orders", 0, &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
    write_commit(&cluster, "billing", "orders", 0, (3, 0), &ours);
    let running = Running::start(billing(&consumer_support::client(&cluster).await), &[]);
    eventually("the rest of the new topic", || committed(&cluster, 0) == Some(11)).await;
    assert_eq!(running.handled(), [3, 4, 5, 6, 7, 8, 9, 10]);
    running.handle.shutdown();
    running.task.await.unwrap().unwrap();
}

/// Story: a topic is deleted and made anew while the offset of its last records is not committed yet. By its name it would be
/// committed for the new topic, and the first records of that would never be handled.
#[tokio::test]
async fn what_was_handled_of_a_topic_is_not_committed_for_another_of_its_name() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["a", "b", "c"]);
    let client = client(&cluster).await;
    let seen = Seen::default();
    let noting = seen.clone();
    let consumer = billing(&client).commit_interval(Duration::from_secs(3600)).build().unwrap();
    let run = consumer.run(move |delivery| {
        noting.note(&delivery);
        async { Ok::<(), String>(()) }
    });
    let anew = async {
        eventually("all is handled", || seen.len() == 3).await;
        cluster.delete_topic("orders");
        cluster.create_topic("orders", 1);
        write(&cluster, "orders", 0, &["A", "B", "C", "D"]);
    };
    let (stopped, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(run, anew) }).await.unwrap();
    assert!(matches!(stopped.unwrap_err(), ConsumeError::TopicRecreated { .. }));
    assert_eq!(committed(&cluster, 0), None);
}
