//! Handlers that fail: attempts, time limits, batches, and what becomes of records that cannot be handled.

mod consumer_support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use consumer_support::{PATIENCE, Seen, billing, client, cluster, committed, eventually, write, write_keyed};
use indelible::{Batch, ConsumeError, HandlerFailure, OnFailure, Order, StopReason};

/// Counts how often it is dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Story: the handler of a record waits for an answer that never comes, once. Its future is dropped, and the next attempt
/// succeeds.
#[tokio::test]
async fn a_handler_that_takes_too_long_is_dropped_and_its_record_handled_again() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["quick", "hangs", "after"]);
    let client = client(&cluster).await;
    let dropped = Arc::new(AtomicUsize::new(0));
    let counting = dropped.clone();
    let run = billing(&client)
        .handler_timeout(Duration::from_millis(50))
        .handler_retries(1)
        .property("handler.retry.backoff.ms", "1")
        .stop_after(3)
        .run(move |delivery| {
            let guard = Dropped(counting.clone());
            async move {
                if delivery.value() == b"hangs" && delivery.attempt() == 1 {
                    let _guard = guard;
                    std::future::pending::<()>().await;
                } else {
                    std::mem::forget(guard);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok::<(), String>(())
            }
        });
    let summary = tokio::time::timeout(PATIENCE, run).await.expect("in time").unwrap();
    assert_eq!((summary.records, dropped.load(Ordering::SeqCst)), (3, 1));
    assert_eq!(committed(&cluster, 0), Some(3));
}

#[tokio::test]
async fn a_handler_that_takes_too_long_stops_the_consumer_by_default() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["hangs"]);
    let client = client(&cluster).await;
    let limit = Duration::from_millis(30);
    let run = billing(&client).handler_timeout(limit).run(|_| std::future::pending::<Result<(), String>>());
    match tokio::time::timeout(PATIENCE, run).await.expect("in time").unwrap_err() {
        ConsumeError::Handler { offset: 0, attempts: 1, failure: HandlerFailure::TimedOut(after), .. } => {
            assert_eq!(after, limit);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(committed(&cluster, 0).unwrap_or(0), 0);
}

/// Story: one worker, and a record that fails and pauses. The worker goes on with other keys meanwhile; those of the same
/// key wait for their turn.
#[tokio::test]
async fn a_record_between_two_attempts_holds_up_its_key_and_no_worker() {
    let cluster = cluster("orders", 1);
    let records = [("bad", "1"), ("bad", "2"), ("a", "3"), ("b", "4"), ("bad", "5"), ("c", "6")];
    write_keyed(&cluster, "orders", 0, records.map(|(key, value)| (Some(key), value)));
    let client = client(&cluster).await;
    let seen = Seen::default();
    let noting = seen.clone();
    let others = Arc::new(tokio::sync::Semaphore::new(0));
    let run = billing(&client)
        .order(Order::Key)
        .workers(1)
        .handler_retries(1)
        .property("handler.retry.backoff.ms", "100")
        .stop_after(6)
        .run(move |delivery| {
            noting.note(&delivery);
            let others = others.clone();
            async move {
                match (delivery.value(), delivery.attempt()) {
                    (b"1", 1) => return Err("not now"),
                    // Only if all others were handled before, the second attempt succeeds.
                    (b"1", _) => _ = others.try_acquire_many(3).map_err(|_| "the others were held up")?,
                    (b"2" | b"5", _) => {}
                    _ => others.add_permits(1),
                }
                Ok(())
            }
        });
    let summary = tokio::time::timeout(PATIENCE, run).await.expect("in time").unwrap();
    assert_eq!(summary.records, 6);
    let order: Vec<String> = seen.all().into_iter().map(|(.., value)| value).collect();
    assert_eq!(order, ["1", "3", "4", "6", "1", "2", "5"]);
    assert_eq!(committed(&cluster, 0), Some(6));
}

#[tokio::test]
async fn what_cannot_be_handled_is_skipped_if_the_application_says_so() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["good", "bad", "worse", "good"]);
    let client = client(&cluster).await;
    let seen = Seen::default();
    let noting = seen.clone();
    let run = billing(&client)
        .handler_retries(1)
        .property("handler.retry.backoff.ms", "1")
        .on_failure(OnFailure::Skip)
        .stop_after(4)
        .run(move |delivery| {
            noting.note(&delivery);
            async move {
                assert!(delivery.value() != b"worse", "an order nobody expected");
                if delivery.value() == b"bad" { Err("no such order") } else { Ok(()) }
            }
        });
    let summary = tokio::time::timeout(PATIENCE, run).await.expect("in time").unwrap();
    assert_eq!((summary.records, summary.reason), (4, StopReason::MaxRecords));
    assert_eq!(seen.values(), ["bad", "bad", "good", "good", "worse", "worse"]);
    assert_eq!(committed(&cluster, 0), Some(4));
}

fn values(batch: &Batch) -> Vec<String> {
    batch.iter().map(|delivery| String::from_utf8_lossy(delivery.value()).into_owned()).collect()
}

/// Story: the second batch fails once. It comes again as it was, and nothing of it is committed before it succeeds.
#[tokio::test]
async fn batches_are_all_or_nothing() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["1", "2", "3", "4"]);
    write(&cluster, "orders", 0, &["5", "6", "7"]);
    let cluster = Arc::new(cluster);
    let client = client(&cluster).await;
    let batches: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
    let (noting, log) = (batches.clone(), cluster.clone());
    let run = billing(&client).handler_retries(1).property("handler.retry.backoff.ms", "1").stop_after(7).run_batches(
        3,
        move |batch: Batch| {
            noting.lock().unwrap().push(values(&batch));
            assert!(batch.iter().all(|delivery| delivery.attempt() == batch[0].attempt()));
            let log = log.clone();
            async move {
                if batch[0].offset() == 3 && batch[0].attempt() == 1 {
                    eventually("what is before is committed", || committed(&log, 0) == Some(3)).await;
                    return Err("the database is gone");
                }
                if batch[0].offset() == 3 {
                    assert_eq!(committed(&log, 0), Some(3));
                }
                Ok(())
            }
        },
    );
    let summary = tokio::time::timeout(PATIENCE, run).await.expect("in time").unwrap();
    assert_eq!(summary.records, 7);
    let batches = batches.lock().unwrap();
    let mut expected = vec![vec!["1", "2", "3"], vec!["4", "5", "6"], vec!["4", "5", "6"], vec!["7"]];
    if batches[1].len() == 1 {
        // The second fetch was on its way: what is there is not held back for it.
        expected = vec![vec!["1", "2", "3"], vec!["4"], vec!["4"], vec!["5", "6", "7"]];
    }
    assert_eq!(*batches, expected);
    assert_eq!(committed(&cluster, 0), Some(7));
}

#[tokio::test]
async fn a_batch_that_cannot_be_handled_stops_the_consumer_before_it() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["1", "2", "3", "4", "5"]);
    let client = client(&cluster).await;
    let run = billing(&client).run_batches(2, |batch: Batch| async move {
        tokio::task::yield_now().await;
        if values(&batch).contains(&"4".to_owned()) { Err("no such order") } else { Ok(()) }
    });
    match tokio::time::timeout(PATIENCE, run).await.expect("in time").unwrap_err() {
        ConsumeError::Handler { offset: 2, attempts: 1, .. } => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(committed(&cluster, 0), Some(2));
}

#[tokio::test]
async fn each_record_of_a_batch_that_cannot_be_handled_is_skipped() {
    let cluster = cluster("orders", 2);
    for partition in 0..2 {
        write(&cluster, "orders", partition, &["1", "2", "3", "4", "5"]);
    }
    let client = client(&cluster).await;
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let noting = seen.clone();
    let run = billing(&client).on_failure(OnFailure::Skip).stop_after(10).run_batches(2, move |batch: Batch| {
        assert!(batch.windows(2).all(|two| two[0].partition() == two[1].partition()));
        assert!(batch.windows(2).all(|two| two[0].offset() < two[1].offset()));
        let failed = values(&batch).contains(&"4".to_owned());
        if !failed {
            noting.lock().unwrap().extend(values(&batch));
        }
        async move { if failed { Err("no such order") } else { Ok(()) } }
    });
    let summary = tokio::time::timeout(PATIENCE, run).await.expect("in time").unwrap();
    assert_eq!(summary.records, 10);
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    assert_eq!(seen, ["1", "1", "2", "2", "5", "5"]);
    assert_eq!([committed(&cluster, 0), committed(&cluster, 1)], [Some(5); 2]);
}
