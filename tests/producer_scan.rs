//! Records dated two days back: the broker forgets their producer at once, so only the log can tell whether one whose
//! answer was lost is in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a scenario may fail loudly")]
#![allow(clippy::disallowed_methods, reason = "a test may look at the clock")]

mod producer_support;

use indelible::{Producer, Receipt, Record, SendCause};
use producer_support::*;
use proto_tests::fake::{FakeCluster, Fault, FaultAction, TopicConfig};
use std::time::Duration;

const FETCH: i16 = 1;
const DESCRIBE_CONFIGS: i16 = 32;
const TOPIC_AUTHORIZATION_FAILED: i16 = 29;

async fn patient(cluster: &FakeCluster) -> Producer {
    let client = impatient(cluster).property("retry.backoff.ms", "300").build().await.unwrap();
    one_by_one(&client).build().await.unwrap()
}

async fn send_old(cluster: &FakeCluster, producer: &Producer, value: &str) -> Receipt {
    let old = cluster.now_ms() - 48 * 3_600_000;
    producer.send(Record::to("t").partition(0).key("k").timestamp(old).value(value)).await.unwrap()
}

/// Sends "a" so that its answer is lost, and has the broker forget who sent it.
async fn forgotten(cluster: &FakeCluster, producer: &Producer, fault: FaultAction) -> Receipt {
    let fault = cluster.inject(next_produce(fault));
    let receipt = send_old(cluster, producer, "a").await;
    until(cluster, "struck", |view| view.struck(fault) == 1);
    cluster.check_producer_expiry();
    receipt
}

async fn is_unknown(receipt: &Receipt) {
    let error = outcome(receipt).await.unwrap_err();
    assert!(error.may_be_delivered() && matches!(error.cause(), SendCause::CannotTell), "{error}");
}

/// Defects: a second copy; "unknown" although the log has it.
#[tokio::test]
async fn found_in_the_log() {
    let cluster = cluster(1);
    let producer = patient(&cluster).await;
    all_delivered(&[send(&producer, 0, "w").await]).await;
    let receipt = forgotten(&cluster, &producer, FaultAction::DropAfterApply).await;
    assert_eq!(offset(&receipt).await, Some(1), "where it is");
    all_delivered(&[send(&producer, 0, "b").await]).await;
    assert_eq!(values(&cluster), ["w", "a", "b"]);
}

/// Defect: "unknown" although all of the log was read and it is not there.
#[tokio::test]
async fn not_in_the_log() {
    let cluster = cluster(1);
    let producer = patient(&cluster).await;
    all_delivered(&[send_old(&cluster, &producer, "w").await]).await;
    let receipt = forgotten(&cluster, &producer, FaultAction::DropBeforeApply).await;
    assert_eq!(offset(&receipt).await, Some(1));
    all_delivered(&[send(&producer, 0, "b").await]).await;
    assert_eq!(values(&cluster), ["w", "a", "b"]);
}

/// Defect: what is missing in a log with holes is taken for never written.
#[tokio::test]
async fn logs_with_holes() {
    for compacted in [true, false] {
        let cluster = FakeCluster::start(1);
        cluster.create_topic_with("t", 1, TopicConfig { compacted, ..TopicConfig::default() });
        let producer = patient(&cluster).await;
        all_delivered(&[send_old(&cluster, &producer, "w").await]).await;
        if !compacted {
            cluster.delete_records("t", 0, 1);
        }
        is_unknown(&forgotten(&cluster, &producer, FaultAction::DropBeforeApply).await).await;
        let receipt = forgotten(&cluster, &producer, FaultAction::DropAfterApply).await;
        assert_eq!(offset(&receipt).await, Some(1), "compacted: {compacted}");
    }
}

/// Defects: an endless loop without permission to read; a topic taken for uncompacted because nobody may ask.
#[tokio::test]
async fn without_permissions() {
    for api in [FETCH, DESCRIBE_CONFIGS] {
        let cluster = cluster(1);
        let denied = Fault::always(FaultAction::Error(TOPIC_AUTHORIZATION_FAILED)).api(api);
        cluster.inject(denied);
        let producer = patient(&cluster).await;
        all_delivered(&[send_old(&cluster, &producer, "w").await]).await;
        is_unknown(&forgotten(&cluster, &producer, FaultAction::DropBeforeApply).await).await;
        let receipt = forgotten(&cluster, &producer, FaultAction::DropAfterApply).await;
        if api == FETCH {
            is_unknown(&receipt).await;
        } else {
            assert_eq!(offset(&receipt).await, Some(1));
        }
    }
}

/// Defect: a second copy of what the leader has and does not show yet, because no follower has it.
#[tokio::test]
async fn not_replicated_yet() {
    let cluster = cluster(3);
    let producer = patient(&cluster).await;
    cluster.hold_replication("t", 0, true);
    let receipt = send_old(&cluster, &producer, "a").await;
    until(&cluster, "appended", |view| view.end_offset("t", 0) == Some(1));
    cluster.check_producer_expiry();
    let early = tokio::time::timeout(Duration::from_millis(1500), receipt.delivered()).await;
    assert!(early.is_err(), "nobody can tell yet: {early:?}");
    cluster.hold_replication("t", 0, false);
    assert_eq!(offset(&receipt).await, Some(0));
    assert_eq!(values(&cluster), ["a"]);
}
