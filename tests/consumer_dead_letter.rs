//! Records that cannot be handled: written elsewhere, retried later, skipped. Only what is acknowledged there is committed
//! here.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod consumer_support;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use consumer_support::{PATIENCE, PRODUCE, Seen, billing, client, cluster, committed, eventually, write};
use indelible::{Client, ConsumeError, ConsumerBuilder, Delivery, HandlerFailure, OnFailure, Record, StopReason};
use proto_tests::fake::{FakeCluster, Fault, FaultAction, Record as Stored, TopicConfig};
use tokio::time::timeout;

/// Kafka's TOPIC_AUTHORIZATION_FAILED.
const TOPIC_AUTHORIZATION_FAILED: i16 = 29;

/// An error with a cause.
#[derive(Debug)]
struct NoOrder(std::num::ParseIntError);

impl fmt::Display for NoOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such order")
    }
}

impl std::error::Error for NoOrder {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Fails for every record that begins with "bad".
async fn picky(delivery: Delivery) -> Result<(), NoOrder> {
    match delivery.value() {
        value if value.starts_with(b"bad") => Err(NoOrder("x".parse::<i32>().unwrap_err())),
        _ => Ok(()),
    }
}

async fn send(client: &Client, record: Record<'_>) {
    let producer = client.producer().linger(Duration::ZERO).build().await.unwrap();
    producer.send(record).await.unwrap().delivered().await.unwrap();
}

fn headers(record: &Stored) -> Vec<(String, Option<String>)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    record.headers.iter().map(|(name, value)| (text(name), value.as_ref().map(|value| text(value)))).collect()
}

/// The headers by name, without `prefix`.
fn story(record: &Stored, prefix: &str) -> BTreeMap<String, String> {
    let of_prefix = |(name, value): (String, Option<String>)| Some((name.strip_prefix(prefix)?.to_owned(), value?));
    headers(record).into_iter().filter_map(of_prefix).collect()
}

fn values(cluster: &FakeCluster, topic: &str) -> Vec<String> {
    cluster.ledger().values(topic)
}

/// To the topic "dead".
fn to_dead(client: &Client) -> ConsumerBuilder {
    billing(client).dead_letter("dead")
}

#[tokio::test]
async fn a_dead_letter_has_the_record_and_its_story() {
    let cluster = cluster("orders", 1);
    cluster.create_topic("dead", 1);
    let client = client(&cluster).await;
    write(&cluster, "orders", 0, &["good"]);
    let record = Record::to("orders").key("k").value("bad order").timestamp(cluster.now_ms() - 5000);
    let record = record.header("trace", Some(b"7f")).header("empty", None).header("trace", Some(b"80"));
    // What an earlier stay in a dead letter topic left.
    send(&client, record.header("indelible.dead-letter.error", Some(b"old"))).await;
    write(&cluster, "orders", 0, &["after"]);
    let consumer = to_dead(&client).handler_retries(1).property("handler.retry.backoff.ms", "10").stop_after(3);
    let consumer = consumer.build().unwrap();
    let handle = consumer.handle();
    let summary = timeout(PATIENCE, consumer.run(picky)).await.unwrap().unwrap();
    assert_eq!((summary.records, summary.reason), (3, StopReason::MaxRecords));
    assert_eq!(committed(&cluster, 0), Some(3));
    let (metrics, ledger) = (handle.metrics(), cluster.ledger());
    assert_eq!((metrics.dead_letters, metrics.skipped, metrics.handler_retries), (1, 0, 1));
    let [dead] = &ledger.records("dead", 0)[..] else { panic!("{:?}", values(&cluster, "dead")) };
    let original = &ledger.records("orders", 0)[1];
    assert_eq!((&dead.key, &dead.value), (&original.key, &original.value));
    assert!(dead.producer_id >= 0, "written by an idempotent producer");
    assert!(dead.timestamp > original.timestamp, "kept for as long as its topic says, from now on");
    let own = [("trace", Some("7f")), ("empty", None), ("trace", Some("80"))];
    let own = own.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
    assert_eq!(headers(dead)[..3], own);
    assert_eq!(headers(dead).len(), 3 + 7, "nothing is left of the old story: {:?}", headers(dead));
    let told = story(dead, "indelible.dead-letter.");
    let timestamp = original.timestamp.to_string();
    for (name, value) in [
        ("topic", "orders"),
        ("partition", "0"),
        ("offset", "1"),
        ("timestamp", timestamp.as_str()),
        ("group", "billing"),
        ("attempts", "2"),
        ("error", "no such order: invalid digit found in string"),
    ] {
        assert_eq!(told.get(name).map(String::as_str), Some(value), "{name}");
    }
}

#[tokio::test]
async fn null_stays_null_and_a_panic_is_told() {
    let cluster = cluster("orders", 1);
    cluster.create_topic("dead", 1);
    let client = client(&cluster).await;
    send(&client, Record::to("orders")).await;
    send(&client, Record::to("orders").key("").value("")).await;
    let consumer = to_dead(&client).stop_after(2);
    let run = consumer.run(|_| async {
        assert!(std::hint::black_box(false), "nobody expected that");
        Ok::<(), String>(())
    });
    timeout(PATIENCE, run).await.unwrap().unwrap();
    let dead = cluster.ledger().records("dead", 0);
    let bytes: Vec<_> = dead.iter().map(|dead| (dead.key.as_deref(), dead.value.as_deref())).collect();
    assert_eq!(bytes, [(None, None), (Some(&b""[..]), Some(&b""[..]))]);
    let told = story(&dead[0], "indelible.dead-letter.");
    assert_eq!(told["error"], "it panicked: nobody expected that");
}

/// The write to the dead letter topic is refused: the record stays uncommitted, whatever comes after it.
#[tokio::test]
async fn dead_letter_write_fails() {
    let cluster = cluster("orders", 1);
    cluster.create_topic("dead", 1);
    write(&cluster, "orders", 0, &["good", "bad", "after"]);
    let client = client(&cluster).await;
    let refusal = Fault::always(FaultAction::Error(TOPIC_AUTHORIZATION_FAILED)).api(PRODUCE).topic("dead");
    let refusal = cluster.inject(refusal);
    let error = timeout(PATIENCE, to_dead(&client).run(picky)).await.unwrap().unwrap_err();
    match &error {
        ConsumeError::DeadLetter { partition, offset: 1, topic, attempts: 1, failure, error } => {
            assert_eq!((partition.to_string(), &**topic), ("orders-0".to_owned(), "dead"));
            assert!(matches!(failure, HandlerFailure::Error(_)));
            assert_eq!(error.record().value.as_deref(), Some(&b"bad"[..]), "the record comes back");
        }
        other => panic!("{other:?}"),
    }
    let text = error.to_string();
    for part in ["orders-0 offset 1", "no such order", "\"dead\"", "may write to"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(committed(&cluster, 0), Some(1), "what was handled before, and nothing of the record");

    cluster.remove_fault(refusal);
    let seen = Seen::default();
    let noting = seen.clone();
    let run = to_dead(&client).stop_after(2).run(move |delivery| {
        noting.note(&delivery);
        picky(delivery)
    });
    timeout(PATIENCE, run).await.unwrap().unwrap();
    assert_eq!(seen.values(), ["after", "bad"], "handled again by the next start");
    assert_eq!((values(&cluster, "dead"), committed(&cluster, 0)), (vec!["bad".to_owned()], Some(3)));
}

/// The leader has the dead letter, its followers have not: nothing is committed until they have. Other partitions go on.
#[tokio::test]
async fn a_dead_letter_is_committed_once_it_is_acknowledged() {
    let cluster = cluster("orders", 2);
    cluster.create_topic("dead", 1);
    write(&cluster, "orders", 0, &["bad", "after"]);
    write(&cluster, "orders", 1, &["x", "y"]);
    let client = client(&cluster).await;
    cluster.hold_replication("dead", 0, true);
    let consumer = to_dead(&client).stop_after(4).build().unwrap();
    let handle = consumer.handle();
    let running = tokio::spawn(consumer.run(picky));
    eventually("the leader has the dead letter", || cluster.look(|view| view.end_offset("dead", 0) == Some(1))).await;
    eventually("the other partition goes on", || committed(&cluster, 1) == Some(2)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(committed(&cluster, 0).is_none_or(|offset| offset == 0));
    assert_eq!((handle.metrics().records, handle.metrics().dead_letters), (2, 0));
    cluster.hold_replication("dead", 0, false);
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    assert_eq!(committed(&cluster, 0), Some(2));
    assert_eq!(values(&cluster, "dead"), ["bad"]);
}

#[tokio::test]
async fn a_dead_letter_that_does_not_fit_is_told_as_such() {
    let cluster = cluster("orders", 1);
    cluster.create_topic_with("dead", 1, TopicConfig { max_message_bytes: 600, ..TopicConfig::default() });
    let client = client(&cluster).await;
    let value = format!("bad{}", "x".repeat(500));
    send(&client, Record::to("orders").value(&value)).await;
    let error = timeout(PATIENCE, to_dead(&client).run(picky)).await.unwrap().unwrap_err();
    assert!(matches!(error, ConsumeError::DeadLetter { offset: 0, .. }), "{error:?}");
    assert!(error.to_string().contains("raise max.message.bytes of \"dead\""), "{error}");
    assert!(committed(&cluster, 0).is_none_or(|offset| offset == 0));
}

#[tokio::test]
async fn records_can_be_skipped_and_are_counted() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["bad 1", "good", "bad 2"]);
    let client = client(&cluster).await;
    let consumer = billing(&client).on_failure(OnFailure::Skip).stop_after(3).build().unwrap();
    let handle = consumer.handle();
    timeout(PATIENCE, consumer.run(picky)).await.unwrap().unwrap();
    let metrics = handle.metrics();
    assert_eq!((metrics.skipped, metrics.dead_letters, committed(&cluster, 0)), (2, 0, Some(3)));
}

/// What nobody took is no failure: it goes to no dead letter topic when the consumer ends, and what failed does.
#[tokio::test]
async fn pulled_records_that_failed_are_dead_letters_and_withdrawn_ones_are_not() {
    let cluster = cluster("orders", 3);
    cluster.create_topic("dead", 1);
    (0..3).for_each(|partition| write(&cluster, "orders", partition, &["bad", "next"]));
    let client = client(&cluster).await;
    let mut deliveries = to_dead(&client).deliveries().unwrap();
    let first = timeout(PATIENCE, deliveries.next()).await.unwrap().unwrap();
    let partition = first.partition();
    first.failed("no such order");
    eventually("a dead letter", || deliveries.handle().metrics().dead_letters == 1).await;
    deliveries.finish().await.unwrap();
    let end_of_dead = cluster.look(|view| view.end_offset("dead", 0));
    assert_eq!(end_of_dead, Some(1));
    assert_eq!(committed(&cluster, partition), Some(1));

    // The same when it is dropped.
    let mut deliveries = to_dead(&client).deliveries().unwrap();
    let out = timeout(PATIENCE, deliveries.next()).await.unwrap().unwrap();
    drop(deliveries);
    drop(out);
    eventually("the member leaves", || cluster.look(|view| view.members("billing").is_empty())).await;
    assert_eq!(cluster.look(|view| view.end_offset("dead", 0)), Some(1));
}

fn retried(client: &Client) -> ConsumerBuilder {
    let builder = to_dead(client).retry_topic("soon", Duration::from_millis(300));
    builder.retry_topic("later", Duration::from_millis(600)).property("handler.retry.backoff.ms", "10")
}

/// A record on its way: the topic it came from, its attempt, its origin, and how many milliseconds it came too early.
type Step = (String, u32, Option<(String, i64)>, i64);

#[tokio::test]
async fn a_record_goes_through_all_retry_topics_and_then_to_the_dead_letters() {
    let cluster = cluster("orders", 1);
    ["soon", "later", "dead"].iter().for_each(|topic| cluster.create_topic(topic, 1));
    write(&cluster, "orders", 0, &["good", "bad", "after"]);
    let client = client(&cluster).await;
    let steps: Arc<Mutex<Vec<Step>>> = Arc::default();
    let (noting, clock) = (steps.clone(), cluster.clone());
    // Three of the topic, and the bad one twice more.
    let consumer = retried(&client).handler_retries(1).stop_after(5).build().unwrap();
    let handle = consumer.handle();
    let run = consumer.run(move |delivery| {
        if delivery.value() == b"bad" {
            let origin = delivery.origin().map(|origin| (origin.partition.to_string(), origin.offset));
            let due = delivery.header("indelible.retry.due").map(|due| String::from_utf8_lossy(due).into_owned());
            let early = due.map_or(0, |due| due.parse::<i64>().unwrap() - clock.now_ms());
            noting.lock().unwrap().push((delivery.topic().to_owned(), delivery.attempt(), origin, early));
        }
        picky(delivery)
    });
    timeout(PATIENCE, run).await.unwrap().unwrap();
    let steps = steps.lock().unwrap().clone();
    let seen: Vec<_> =
        steps.iter().map(|(topic, attempt, origin, _)| (topic.as_str(), *attempt, origin.clone())).collect();
    let first = Some(("orders-0".to_owned(), 1));
    let expected = [
        ("orders", 1, None),
        ("orders", 2, None),
        ("soon", 3, first.clone()),
        ("soon", 4, first.clone()),
        ("later", 5, first.clone()),
        ("later", 6, first),
    ];
    assert_eq!(seen, expected);
    // The two clocks are read at their own precision.
    assert!(steps.iter().all(|(_, _, _, early)| *early <= 5), "handled before its time: {steps:?}");
    let metrics = handle.metrics();
    assert_eq!((metrics.retried_later, metrics.dead_letters), (2, 1));
    let ledger = cluster.ledger();
    assert_eq!(committed(&cluster, 0), Some(3));
    assert_eq!(["soon", "later"].map(|topic| ledger.committed("billing", topic, 0)), [Some(1); 2]);
    let dead = &ledger.records("dead", 0)[0];
    let told = story(dead, "indelible.dead-letter.");
    let place = ["topic", "partition", "offset", "attempts"].map(|name| told[name].as_str());
    assert_eq!(place, ["orders", "0", "1", "6"]);
    assert_eq!(story(dead, "indelible.retry.").len(), 0, "the way is over");
    assert_eq!(headers(dead)[0], ("h".to_owned(), Some("v".to_owned())));
    let soon = story(&ledger.records("soon", 0)[0], "indelible.retry.");
    assert_eq!((soon["attempts"].as_str(), soon["error"].as_str()), ("2", told["error"].as_str()));
    // The second delay begins when the record failed in the first retry topic.
    let due = |topic: &str| story(&ledger.records(topic, 0)[0], "indelible.retry.")["due"].parse::<i64>().unwrap();
    assert!(due("later") - due("soon") >= 595, "{} and {}", due("soon"), due("later"));
}

/// While one record waits in its retry topic, its own partition goes on behind it.
#[tokio::test]
async fn a_record_that_waits_holds_nothing_up() {
    let cluster = cluster("orders", 1);
    ["soon", "later", "dead"].iter().for_each(|topic| cluster.create_topic(topic, 1));
    write(&cluster, "orders", 0, &["bad once", "a", "b", "c"]);
    let client = client(&cluster).await;
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let noting = seen.clone();
    let run = retried(&client).stop_after(5).run(move |delivery| {
        noting.lock().unwrap().push(format!("{} {}", delivery.topic(), String::from_utf8_lossy(delivery.value())));
        async move { if delivery.origin().is_some() { Ok(()) } else { picky(delivery).await } }
    });
    timeout(PATIENCE, run).await.unwrap().unwrap();
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen, ["orders bad once", "orders a", "orders b", "orders c", "soon bad once"]);
    assert_eq!(values(&cluster, "dead"), Vec::<String>::new());
}

/// Somebody else wrote to the retry topic, with a time at the end of days: the delay of the settings is the bound.
#[tokio::test]
async fn a_foreign_due_time_holds_nothing_up_for_longer_than_the_delay() {
    let cluster = cluster("orders", 1);
    ["soon", "later", "dead"].iter().for_each(|topic| cluster.create_topic(topic, 1));
    let client = client(&cluster).await;
    for due in [&b"9223372036854775807"[..], b"x", b"-1"] {
        send(&client, Record::to("soon").value("forged").header("indelible.retry.due", Some(due))).await;
    }
    send(&client, Record::to("soon").value("bare")).await;
    let run = retried(&client).stop_after(4).run(picky);
    assert_eq!(timeout(PATIENCE, run).await.unwrap().unwrap().records, 4);
}

/// What is not acknowledged by the retry topic is not committed either.
#[tokio::test]
async fn retry_topic_write_fails() {
    let cluster = cluster("orders", 1);
    ["soon", "later", "dead"].iter().for_each(|topic| cluster.create_topic(topic, 1));
    write(&cluster, "orders", 0, &["good", "bad"]);
    let client = client(&cluster).await;
    cluster.inject(Fault::always(FaultAction::Error(TOPIC_AUTHORIZATION_FAILED)).api(PRODUCE).topic("soon"));
    let error = timeout(PATIENCE, retried(&client).run(picky)).await.unwrap().unwrap_err();
    let named = matches!(&error, ConsumeError::DeadLetter { topic, offset: 1, .. } if &**topic == "soon");
    assert!(named, "{error:?}");
    assert_eq!(committed(&cluster, 0), Some(1));
}

/// Records that wait for their time fill no more than their share of the fetch buffer: the topic itself is read on.
#[tokio::test]
async fn what_waits_in_retry_topics_does_not_use_up_the_fetch_buffer() {
    const WAITING: i32 = 6;
    let cluster = cluster("orders", 1);
    ["later", "dead"].iter().for_each(|topic| cluster.create_topic(topic, WAITING));
    let client = client(&cluster).await;
    // More than the buffer holds, of each partition.
    let value = "x".repeat(10_000);
    for partition in 0..WAITING {
        (0..20).for_each(|_| write(&cluster, "later", partition, &[&value]));
    }
    let consumer = to_dead(&client).retry_topic("later", Duration::from_secs(3600)).stop_after(20);
    let consumer = consumer.buffer_bytes(1 << 20).build().unwrap();
    let handle = consumer.handle();
    let running = tokio::spawn(consumer.run(picky));
    eventually("what waits is fetched", || handle.metrics().buffered_bytes >= 400_000).await;
    for n in 0..20 {
        write(&cluster, "orders", 0, &[&format!("{n} {}", "y".repeat(10_000))]);
    }
    timeout(PATIENCE, running).await.expect("orders are read on").unwrap().unwrap();
    assert_eq!(committed(&cluster, 0), Some(20));
}
