//! Handlers side by side: order by partition, by key or none, a bound of workers, and what a handler that takes its time
//! holds up.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod consumer_support;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use consumer_support::{PATIENCE, Seen, billing, client, cluster, committed, eventually, write, write_keyed};
use indelible::{ConsumeError, Order, StopReason};
use proto_tests::fake::FakeCluster;
use tokio::sync::{Notify, Semaphore};

type Key = Option<String>;

/// Keys "0" to "{keys}" in turn, and none for every eleventh record.
fn key(record: usize, keys: usize) -> Key {
    (!record.is_multiple_of(11)).then(|| (record * 7 % keys).to_string())
}

/// Story: the second and third record are handled, the first is still with its handler. The offset behind the third must
/// not be committed: after a crash the first would be skipped.
#[tokio::test]
async fn completion_out_of_order() {
    let cluster = cluster("orders", 2);
    write(&cluster, "orders", 0, &["first", "second", "third"]);
    let client = client(&cluster).await;
    let (seen, release) = (Seen::default(), Arc::new(Notify::new()));
    let (noting, waiting) = (seen.clone(), release.clone());
    let consumer = billing(&client).order(Order::None).workers(8).build().unwrap();
    let handle = consumer.handle();
    let run = consumer.run(move |delivery| {
        let (noting, waiting) = (noting.clone(), waiting.clone());
        async move {
            if delivery.value() == b"first" {
                waiting.notified().await;
            }
            noting.note(&delivery);
            Ok::<(), String>(())
        }
    });
    let story = async {
        eventually("the others are handled", || seen.len() == 2).await;
        // Commits go on: that of another partition shows it.
        write(&cluster, "orders", 1, &["other"]);
        eventually("a commit", || committed(&cluster, 1) == Some(1)).await;
        assert!(committed(&cluster, 0).unwrap_or(0) == 0, "{:?}", committed(&cluster, 0));
        release.notify_one();
        eventually("the rest is committed", || committed(&cluster, 0) == Some(3)).await;
        handle.shutdown();
    };
    let (summary, ()) = tokio::join!(run, story);
    assert_eq!(summary.unwrap().records, 4);
    assert_eq!(seen.all().last().unwrap().2, "first");
}

/// What handlers may see, and the lowest record that none of them is done with.
#[derive(Debug, Default)]
struct Model {
    busy: HashSet<(i32, String)>,
    at_work: usize,
    most_at_work: usize,
    last: HashMap<(i32, String), i64>,
    done: BTreeMap<i32, BTreeSet<i64>>,
}

impl Model {
    fn begin(&mut self, partition: i32, key: &Key, order: Order) {
        self.at_work += 1;
        self.most_at_work = self.most_at_work.max(self.at_work);
        match (order, key) {
            (Order::Key, Some(key)) => {
                assert!(self.busy.insert((partition, key.clone())), "two records of key {key} at once");
            }
            (Order::Partition, _) => {
                assert!(self.busy.insert((partition, String::new())), "two records of partition {partition} at once");
            }
            _ => {}
        }
    }

    fn end(&mut self, partition: i32, key: &Key, offset: i64, ok: bool, order: Order) {
        self.at_work -= 1;
        self.busy.remove(&(partition, key.clone().filter(|_| order == Order::Key).unwrap_or_default()));
        if !ok {
            return;
        }
        assert!(self.done.entry(partition).or_default().insert(offset), "{partition}: {offset} handled twice");
        let ordered = match (order, key) {
            (Order::Partition, _) => Some(String::new()),
            (Order::Key, key) => key.clone(),
            (Order::None, _) => None,
        };
        if let Some(key) = ordered {
            let last = self.last.insert((partition, key.clone()), offset);
            assert!(last.is_none_or(|last| last < offset), "key {key:?}: {offset} after {last:?}");
        }
    }

    fn lowest_unhandled(&self, partition: i32) -> i64 {
        let Some(done) = self.done.get(&partition) else { return 0 };
        done.iter().zip(0..).find(|(offset, expected)| *offset != expected).map_or(done.len() as i64, |(_, at)| at)
    }
}

/// Thousands of records, handlers that take their time or fail at random, against a model of what each order allows.
async fn random_handlers(order: Order, workers: usize) {
    const PARTITIONS: i32 = 3;
    const RECORDS: usize = 1500;
    let cluster = cluster("orders", PARTITIONS);
    for partition in 0..PARTITIONS {
        for batch in (0..RECORDS).step_by(100) {
            write_keyed(&cluster, "orders", partition, (batch..batch + 100).map(|at| (key(at, 40), at.to_string())));
        }
    }
    let client = client(&cluster).await;
    let model = Arc::new(Mutex::new(Model::default()));
    let shared = model.clone();
    let cluster = Arc::new(cluster);
    let log: Arc<FakeCluster> = cluster.clone();
    let run = billing(&client)
        .order(order)
        .workers(workers)
        .handler_retries(3)
        .property("handler.retry.backoff.ms", "2")
        .commit_interval(Duration::from_millis(5))
        .stop_after(RECORDS as u64 * PARTITIONS as u64)
        .run(move |delivery| {
            let (model, log) = (shared.clone(), log.clone());
            let (partition, offset) = (delivery.partition(), delivery.offset());
            let key = delivery.key().map(|key| String::from_utf8_lossy(key).into_owned());
            // As good as random, and the same each time.
            let chance = (offset as u64 ^ 0x9e37).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let ok = !(chance.is_multiple_of(23) && u64::from(delivery.attempt()) <= chance % 3);
            async move {
                model.lock().unwrap().begin(partition, &key, order);
                match chance % 10 {
                    0 => tokio::time::sleep(Duration::from_millis(chance % 5)).await,
                    1..4 => tokio::task::yield_now().await,
                    _ => {}
                }
                if offset % 16 == 0 {
                    let committed = committed(&log, partition).unwrap_or(0);
                    let lowest = model.lock().unwrap().lowest_unhandled(partition);
                    assert!(committed <= lowest, "{partition}: {committed} is committed, {lowest} not handled");
                }
                model.lock().unwrap().end(partition, &key, offset, ok, order);
                if ok { Ok(()) } else { Err("not today") }
            }
        });
    let summary = tokio::time::timeout(PATIENCE, run).await.expect("in time").unwrap();
    assert_eq!(summary.records, RECORDS as u64 * PARTITIONS as u64);
    let model = model.lock().unwrap();
    assert!(model.most_at_work <= workers, "{} of {workers} workers", model.most_at_work);
    let expected = if order == Order::Partition { workers.min(PARTITIONS as usize) } else { workers };
    assert_eq!(model.most_at_work, expected, "no more at once than that?");
    for partition in 0..PARTITIONS {
        assert_eq!(model.lowest_unhandled(partition), RECORDS as i64);
        assert_eq!(committed(&cluster, partition), Some(RECORDS as i64));
    }
}

#[tokio::test]
async fn order_by_key_holds_whatever_handlers_do() {
    random_handlers(Order::Key, 12).await;
}

#[tokio::test]
async fn order_by_partition_holds_whatever_handlers_do() {
    random_handlers(Order::Partition, 3).await;
}

#[tokio::test]
async fn order_by_partition_with_fewer_workers_than_partitions() {
    random_handlers(Order::Partition, 2).await;
}

#[tokio::test]
async fn no_order_and_no_more_handlers_than_workers() {
    random_handlers(Order::None, 7).await;
}

/// Story: the handler of one record hangs. More than a hundred thousand records of other keys go by, those of its own key
/// wait, and nothing beyond it is committed.
#[tokio::test]
async fn a_stuck_key_holds_up_only_itself() {
    const RECORDS: usize = 120_000;
    const EACH: usize = 1000;
    let cluster = cluster("orders", 1);
    for batch in 0..RECORDS / EACH {
        let key = |at: usize| Some(if at == 0 { "stuck".to_owned() } else { (batch * at % 5000).to_string() });
        write_keyed(&cluster, "orders", 0, (0..EACH).map(|at| (key(at), format!("{batch}"))));
    }
    let client = client(&cluster).await;
    let (stuck, others) = (Seen::default(), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let (noting, counting) = (stuck.clone(), others.clone());
    let release = Arc::new(Semaphore::new(0));
    let waiting = release.clone();
    let consumer = billing(&client).order(Order::Key).workers(4).build().unwrap();
    let handle = consumer.handle();
    let run = consumer.run(move |delivery| {
        let (noting, counting, waiting) = (noting.clone(), counting.clone(), waiting.clone());
        async move {
            if delivery.key() == Some(b"stuck") {
                let _permit = waiting.acquire().await;
                noting.note(&delivery);
            } else {
                counting.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            Ok::<(), String>(())
        }
    });
    let story = async {
        let rest = RECORDS - RECORDS / EACH;
        let count = || others.load(std::sync::atomic::Ordering::Relaxed);
        eventually("the others are handled", || count() == rest).await;
        assert_eq!(stuck.len(), 0);
        eventually("all of the fetch buffer is free", || handle.metrics().buffered_bytes == 0).await;
        assert_eq!(committed(&cluster, 0).unwrap_or(0), 0);
        release.add_permits(1);
        eventually("the rest is committed", || committed(&cluster, 0) == Some(RECORDS as i64)).await;
        handle.shutdown();
    };
    let (summary, ()) = tokio::join!(run, story);
    assert_eq!(summary.unwrap().records, RECORDS as u64);
    let in_order: Vec<String> = (0..RECORDS / EACH).map(|batch| batch.to_string()).collect();
    assert_eq!(stuck.all().into_iter().map(|(.., value)| value).collect::<Vec<_>>(), in_order);
}

/// Story: nothing but records of the stuck key comes. They are not all kept: the partition is not read on, and goes on
/// when the key does.
#[tokio::test]
async fn what_waits_behind_a_stuck_key_is_bounded() {
    const RECORDS: usize = 30_000;
    let cluster = cluster("orders", 1);
    for _ in 0..RECORDS / 1000 {
        write_keyed(&cluster, "orders", 0, (0..1000).map(|_| (Some("stuck"), "x")));
    }
    write_keyed(&cluster, "orders", 0, [(Some("other"), "behind")]);
    let client = client(&cluster).await;
    let (seen, release) = (Seen::default(), Arc::new(Semaphore::new(0)));
    let (noting, waiting) = (seen.clone(), release.clone());
    // So small a buffer that what is not read on stays there.
    let consumer = billing(&client).order(Order::Key).workers(4).property("max.partition.fetch.bytes", "20000");
    let consumer = consumer.stop_after(RECORDS as u64 + 1).build().unwrap();
    let handle = consumer.handle();
    let run = consumer.run(move |delivery| {
        let (noting, waiting) = (noting.clone(), waiting.clone());
        async move {
            if delivery.key() == Some(b"stuck") {
                let _permit = waiting.acquire().await;
            }
            noting.note(&delivery);
            Ok::<(), String>(())
        }
    });
    let story = async {
        eventually("fetching stands still", || handle.metrics().buffered_bytes > 0 && handle.metrics().fetches > 5)
            .await;
        let mut before = u64::MAX;
        eventually("no more is fetched", || std::mem::replace(&mut before, handle.metrics().fetches) == before).await;
        assert_eq!(seen.len(), 0);
        release.add_permits(1);
    };
    let (summary, ()) = tokio::join!(run, story);
    assert_eq!(summary.unwrap().reason, StopReason::MaxRecords);
    assert_eq!(seen.len(), RECORDS + 1);
}

#[tokio::test]
async fn a_stuck_partition_holds_up_only_itself() {
    const RECORDS: usize = 110_000;
    let cluster = cluster("orders", 2);
    write(&cluster, "orders", 0, &["stuck", "behind"]);
    for _ in 0..RECORDS / 1000 {
        write_keyed(&cluster, "orders", 1, (0..1000).map(|_| (None::<&str>, "x")));
    }
    let client = client(&cluster).await;
    let (seen, release) = (Seen::default(), Arc::new(Notify::new()));
    let (noting, waiting) = (seen.clone(), release.clone());
    let run = billing(&client).stop_after(RECORDS as u64 + 2).run(move |delivery| {
        let (noting, waiting) = (noting.clone(), waiting.clone());
        async move {
            if delivery.value() == b"stuck" {
                waiting.notified().await;
            }
            noting.note(&delivery);
            Ok::<(), String>(())
        }
    });
    let story = async {
        eventually("the other partition is committed", || committed(&cluster, 1) == Some(RECORDS as i64)).await;
        assert_eq!((seen.len(), committed(&cluster, 0).unwrap_or(0)), (RECORDS, 0));
        release.notify_one();
    };
    let (summary, ()) = tokio::join!(run, story);
    assert_eq!(summary.unwrap().records, RECORDS as u64 + 2);
    assert_eq!(committed(&cluster, 0), Some(2));
}

/// Story: the application shuts down while a handler hangs, with records of its key behind it. The rest is committed, the
/// hanging one is given up, and nothing of its key is handed out any more.
#[tokio::test]
async fn shutdown_gives_up_what_hangs_after_its_time() {
    let cluster = cluster("orders", 1);
    let records = [("a", "1"), ("stuck", "2"), ("stuck", "3"), ("b", "4")];
    write_keyed(&cluster, "orders", 0, records.map(|(key, value)| (Some(key), value)));
    let client = client(&cluster).await;
    let consumer = billing(&client).order(Order::Key).shutdown_timeout(Duration::from_millis(200)).build().unwrap();
    let (seen, handle) = (Seen::default(), consumer.handle());
    let (noting, stopping) = (seen.clone(), handle.clone());
    let run = consumer.run(move |delivery| {
        noting.note(&delivery);
        let last = delivery.value() == b"4";
        let stopping = stopping.clone();
        async move {
            if delivery.key() == Some(b"stuck") {
                std::future::pending::<()>().await;
            }
            if last {
                stopping.shutdown();
            }
            Ok::<(), String>(())
        }
    });
    let summary = tokio::time::timeout(PATIENCE, run).await.expect("it ends").unwrap();
    assert_eq!((summary.records, summary.reason), (2, StopReason::Shutdown));
    assert_eq!(seen.values(), ["1", "2", "4"]);
    assert_eq!(committed(&cluster, 0), Some(1));
}

#[tokio::test]
async fn batches_and_order_by_key_contradict_each_other() {
    let cluster = cluster("orders", 1);
    let client = client(&cluster).await;
    let run = billing(&client).order(Order::Key).run_batches(10, |_| async { Ok::<(), String>(()) });
    assert!(matches!(run.await, Err(ConsumeError::Config(_))));
    let run = billing(&client).run_batches(0, |_| async { Ok::<(), String>(()) });
    assert!(matches!(run.await, Err(ConsumeError::Config(_))));
}
