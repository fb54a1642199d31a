//! Dead letters and retry topics on a real cluster, read back around the client.

#![allow(clippy::unwrap_used, clippy::panic, reason = "scenarios on a real cluster")]

mod real_support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indelible::{Client, ConsumeError, Delivery, Order, Record};
use proto_tests::fake::Record as Stored;
use proto_tests::real::RealCluster;
use real_support::{client, committed, has_kcat, records, topic, unique, value, wait};

const PARTITIONS: i32 = 3;
const RECORDS: usize = 60;

/// Numbered records in three partitions. Those that end with 7 are bad for ever, those with 3 the first time.
fn fill(client: &Client, topic: &str) {
    wait(async {
        let producer = client.producer().build().await.unwrap();
        let mut receipts = Vec::new();
        for n in 0..RECORDS {
            let (key, value) = (format!("key-{}", n % 10), format!("order {n}"));
            let record = Record::to(topic).partition(n as i32 % PARTITIONS).key(&key).value(&value);
            receipts.push(producer.send(record.header("trace", Some(value.as_bytes()))).await.unwrap());
        }
        for receipt in receipts {
            receipt.delivered().await.unwrap();
        }
    });
}

async fn picky(delivery: Delivery) -> Result<(), String> {
    match delivery.value().last() {
        Some(b'7') => Err("it ends with 7".to_owned()),
        Some(b'3') if delivery.origin().is_none() => Err("not yet".to_owned()),
        _ => Ok(()),
    }
}

fn header(record: &Stored, name: &str) -> String {
    let found = record.headers.iter().find(|(found, _)| found == name).and_then(|(_, value)| value.clone());
    String::from_utf8(found.unwrap_or_else(|| panic!("no header {name}")).to_vec()).unwrap()
}

fn all_of(cluster: &RealCluster, topic: &str, partitions: i32, count: usize) -> Vec<Stored> {
    let found: Vec<Stored> = (0..partitions).flat_map(|partition| records(cluster, topic, partition, 0)).collect();
    assert_eq!(found.len(), count, "records in {topic}");
    found
}

/// What kcat shows of each record: key, value and headers.
fn kcat_headers(cluster: &RealCluster, topic: &str) -> BTreeMap<String, String> {
    let output = Command::new("kcat")
        .args(["-C", "-q", "-e", "-o", "beginning", "-f", "%k;%s;%h\\n", "-t", topic, "-b"])
        .arg(cluster.bootstrap().join(","))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let mut words = line.splitn(3, ';').map(str::to_owned);
        let (key, value, headers) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        (value, format!("{key};{headers}"))
    };
    text.lines().map(line).collect()
}

#[test]
fn failed_records_come_again_and_then_go_to_the_dead_letters() {
    let cluster = RealCluster::shared().unwrap();
    let (orders, soon) = (topic(&cluster, "orders", PARTITIONS, &[]), topic(&cluster, "soon", 2, &[]));
    let dead = topic(&cluster, "dead", 1, &[]);
    let (client, group) = (client(&cluster), unique("billing"));
    fill(&client, &orders);
    let ends_with = |digit: char| (0..RECORDS).map(|n| format!("order {n}")).filter(move |v| v.ends_with(digit));
    let (bad, late): (BTreeSet<String>, BTreeSet<String>) = (ends_with('7').collect(), ends_with('3').collect());
    let handled: Arc<Mutex<Vec<String>>> = Arc::default();
    let noting = handled.clone();
    let consumer = client
        .consumer(&group)
        .topics([&orders])
        .order(Order::Key)
        .workers(8)
        .retry_topic(&soon, Duration::from_millis(800))
        .dead_letter(&dead)
        .commit_interval(Duration::from_millis(50))
        // All of the topic, and what failed once more.
        .stop_after((RECORDS + bad.len() + late.len()) as u64)
        .build()
        .unwrap();
    let handle = consumer.handle();
    let run = consumer.run(move |delivery| {
        let noting = noting.clone();
        async move {
            let value = String::from_utf8_lossy(delivery.value()).into_owned();
            picky(delivery).await?;
            noting.lock().unwrap().push(value);
            Ok::<(), String>(())
        }
    });
    wait(async { tokio::time::timeout(real_support::PATIENCE, run).await.unwrap() }).unwrap();
    let metrics = handle.metrics();
    assert_eq!((metrics.retried_later, metrics.dead_letters), ((bad.len() + late.len()) as u64, bad.len() as u64));
    let mut handled = handled.lock().unwrap().clone();
    handled.sort();
    let expected: BTreeSet<String> = (0..RECORDS).map(|n| format!("order {n}")).filter(|v| !bad.contains(v)).collect();
    assert_eq!(handled, expected.into_iter().collect::<Vec<_>>(), "each once, the late ones too");

    // Each dead letter once, with its story.
    let letters = all_of(&cluster, &dead, 1, bad.len());
    assert_eq!(letters.iter().map(value).collect::<BTreeSet<_>>(), bad);
    let originals: Vec<Vec<Stored>> =
        (0..PARTITIONS).map(|partition| records(&cluster, &orders, partition, 20)).collect();
    for letter in &letters {
        let of = |name: &str| header(letter, &format!("indelible.dead-letter.{name}"));
        let partition: usize = of("partition").parse().unwrap();
        let original = &originals[partition][of("offset").parse::<usize>().unwrap()];
        assert_eq!((&original.key, &original.value), (&letter.key, &letter.value), "the place is right");
        assert_eq!(of("timestamp"), original.timestamp.to_string());
        assert_eq!((of("topic"), of("group")), (orders.clone(), group.clone()));
        assert_eq!((of("attempts"), of("error")), ("2".to_owned(), "it ends with 7".to_owned()));
        assert_eq!(header(letter, "trace"), value(letter));
    }
    // All of it is committed, in the retry topic too.
    let retried = all_of(&cluster, &soon, 2, bad.len() + late.len());
    assert_eq!(retried.iter().map(value).collect::<BTreeSet<_>>(), bad.union(&late).cloned().collect());
    for partition in 0..PARTITIONS {
        assert_eq!(committed(&cluster, &group, &orders, partition), Some(20));
    }
    for partition in 0..2 {
        let end = records(&cluster, &soon, partition, 0).len() as i64;
        assert_eq!(committed(&cluster, &group, &soon, partition).unwrap_or(0), end);
    }
    if has_kcat() {
        let shown = kcat_headers(&cluster, &dead);
        assert_eq!(shown.keys().cloned().collect::<BTreeSet<_>>(), bad);
        let seventh = &shown["order 7"];
        let place = format!("indelible.dead-letter.topic={orders},indelible.dead-letter.partition=1,");
        for part in ["key-7;trace=order 7,", &place, "indelible.dead-letter.error=it ends with 7"] {
            assert!(seventh.contains(part), "{part}: {seventh}");
        }
    }
}

#[test]
fn a_dead_letter_topic_that_takes_less_stops_the_consumer() {
    let cluster = RealCluster::shared().unwrap();
    let orders = topic(&cluster, "orders", 1, &[]);
    let dead = topic(&cluster, "dead", 1, &[("max.message.bytes", "600")]);
    let (client, group) = (client(&cluster), unique("billing"));
    wait(async {
        let producer = client.producer().build().await.unwrap();
        let large = "x".repeat(500);
        for value in ["good", &large] {
            producer.send(Record::to(&orders).value(value)).await.unwrap().delivered().await.unwrap();
        }
    });
    let run = client
        .consumer(&group)
        .topics([&orders])
        .dead_letter(&dead)
        .run(|delivery| async move { if delivery.value() == b"good" { Ok(()) } else { Err("too long") } });
    let error = wait(run).unwrap_err();
    assert!(matches!(&error, ConsumeError::DeadLetter { offset: 1, topic, .. } if **topic == *dead), "{error:?}");
    assert!(error.to_string().contains("max.message.bytes"), "{error}");
    assert_eq!(committed(&cluster, &group, &orders, 0), Some(1));
}
