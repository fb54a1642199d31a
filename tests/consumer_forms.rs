//! The other ways to handle records: pulled by the application, and on threads that block. And what a delivery tells
//! about its place.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod consumer_support;

use std::collections::BTreeSet;
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::time::Duration;

use consumer_support::{HEARTBEAT, PATIENCE, Seen, billing, client, cluster, committed, eventually, write};
use indelible::{ConsumeError, Deliveries, HandlerFailure, Order, Pulled, StopReason};
use proto_tests::fake::{Fault, FaultAction};
use tokio::time::timeout;

/// Kafka's ILLEGAL_GENERATION.
const ILLEGAL_GENERATION: i16 = 22;

async fn pull(deliveries: &mut Deliveries) -> Option<Pulled> {
    timeout(PATIENCE, deliveries.next()).await.unwrap()
}

fn value(pulled: &Pulled) -> String {
    String::from_utf8_lossy(pulled.value()).into_owned()
}

#[tokio::test]
async fn what_is_pulled_and_done_is_committed_while_nobody_pulls() {
    let cluster = cluster("orders", 2);
    write(&cluster, "orders", 0, &["a", "b", "c"]);
    write(&cluster, "orders", 1, &["x"]);
    let client = client(&cluster).await;
    let mut deliveries = billing(&client).deliveries().unwrap();
    let mut values = BTreeSet::new();
    for _ in 0..4 {
        let pulled = pull(&mut deliveries).await.unwrap();
        values.insert(value(&pulled));
        pulled.done();
    }
    assert_eq!(values.into_iter().collect::<String>(), "abcx");
    eventually("commits without a call", || (committed(&cluster, 0), committed(&cluster, 1)) == (Some(3), Some(1)))
        .await;
    let summary = deliveries.finish().await.unwrap();
    assert_eq!((summary.records, summary.reason), (4, StopReason::Shutdown));
    assert!(cluster.look(|view| view.members("billing").is_empty()));
}

#[tokio::test]
async fn pulled_records_are_answered_in_any_order_and_by_other_tasks() {
    let cluster = cluster("orders", 3);
    (0..3).for_each(|partition| write(&cluster, "orders", partition, &["1", "2"]));
    let client = client(&cluster).await;
    let mut deliveries = billing(&client).deliveries().unwrap();
    let mut out = Vec::new();
    for _ in 0..3 {
        out.push(pull(&mut deliveries).await.unwrap());
    }
    let partitions: BTreeSet<i32> = out.iter().map(|pulled| pulled.partition()).collect();
    assert_eq!(partitions.len(), 3, "one of each partition");
    assert!(timeout(Duration::from_millis(100), deliveries.next()).await.is_err(), "all that may be out is out");
    let answering = out.into_iter().rev().map(|pulled| tokio::spawn(async move { pulled.done() }));
    for answered in answering.collect::<Vec<_>>() {
        answered.await.unwrap();
    }
    for _ in 0..3 {
        pull(&mut deliveries).await.unwrap().done();
    }
    assert_eq!(deliveries.finish().await.unwrap().records, 6);
    assert_eq!([0, 1, 2].map(|partition| committed(&cluster, partition)), [Some(2); 3]);
}

#[tokio::test]
async fn several_of_one_partition_can_be_out_where_the_order_allows() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["1", "2", "3", "4"]);
    let client = client(&cluster).await;
    let mut deliveries = billing(&client).order(Order::None).workers(3).deliveries().unwrap();
    let mut out = Vec::new();
    for _ in 0..3 {
        out.push(pull(&mut deliveries).await.unwrap());
    }
    assert!(timeout(Duration::from_millis(100), deliveries.next()).await.is_err(), "no more than the workers");
    let first = out.remove(0);
    out.into_iter().for_each(Pulled::done);
    pull(&mut deliveries).await.unwrap().done();
    eventually("three are done", || deliveries.handle().metrics().records == 3).await;
    assert!(committed(&cluster, 0).is_none_or(|offset| offset == 0), "the lowest is still out");
    first.done();
    assert_eq!(deliveries.finish().await.unwrap().records, 4);
    assert_eq!(committed(&cluster, 0), Some(4));
}

#[tokio::test]
async fn dropped_without_done() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["good", "forgotten", "after"]);
    let client = client(&cluster).await;
    let builder = billing(&client).handler_retries(1).property("handler.retry.backoff.ms", "10");
    let mut deliveries = builder.deliveries().unwrap();
    let mut seen = Vec::new();
    while let Some(pulled) = pull(&mut deliveries).await {
        seen.push((value(&pulled), pulled.attempt()));
        if pulled.value() == b"good" {
            pulled.done();
        }
    }
    let [good, first, second] = [("good", 1), ("forgotten", 1), ("forgotten", 2)].map(|(v, n)| (v.to_owned(), n));
    assert_eq!(seen, [good, first, second]);
    let error = deliveries.finish().await.unwrap_err();
    assert!(matches!(error, ConsumeError::Handler { offset: 1, attempts: 2, .. }), "{error:?}");
    assert!(error.to_string().contains("dropped without done()"), "{error}");
    assert_eq!(committed(&cluster, 0), Some(1));
}

#[tokio::test]
async fn a_reason_for_failure_is_told_by_finish() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["bad"]);
    let client = client(&cluster).await;
    let mut deliveries = billing(&client).deliveries().unwrap();
    pull(&mut deliveries).await.unwrap().failed("no such order");
    assert!(pull(&mut deliveries).await.is_none());
    let error = deliveries.finish().await.unwrap_err();
    assert!(error.to_string().contains("no such order"), "{error}");
    assert!(committed(&cluster, 0).is_none_or(|offset| offset == 0));
}

/// `next()` inside a `select!` is dropped again and again, mostly when it was just about to get something.
#[tokio::test]
async fn a_dropped_next_takes_no_record_away() {
    const RECORDS: usize = 200;
    let cluster = cluster("orders", 4);
    let values: Vec<String> = (0..RECORDS / 4).map(|n| n.to_string()).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    (0..4).for_each(|partition| write(&cluster, "orders", partition, &values));
    let client = client(&cluster).await;
    let mut deliveries = billing(&client).deliveries().unwrap();
    let (mut pulled, mut dropped) = (Vec::new(), 0);
    let all = timeout(PATIENCE, async {
        while pulled.len() < RECORDS {
            tokio::select! {
                biased;
                next = deliveries.next() => {
                    let next = next.unwrap();
                    pulled.push((next.partition(), next.offset()));
                    next.done();
                }
                () = tokio::task::yield_now() => dropped += 1,
            }
        }
    });
    all.await.unwrap();
    assert!(dropped > 0);
    let distinct: BTreeSet<_> = pulled.iter().collect();
    assert_eq!(distinct.len(), RECORDS, "no record twice, none lost");
    assert_eq!(deliveries.finish().await.unwrap().records, RECORDS as u64);
}

/// A member that does not pull holds nobody up: what is on offer is nobody's, and moves at once, although the rebalance
/// would wait for handlers for minutes.
#[tokio::test]
async fn records_on_offer_are_withdrawn_when_their_partition_moves() {
    let cluster = cluster("orders", 2);
    (0..2).for_each(|partition| write(&cluster, "orders", partition, &["1", "2"]));
    let client = client(&cluster).await;
    let mut idle = billing(&client).deliveries().unwrap();
    eventually("both partitions", || idle.handle().metrics().handled.len() == 2).await;
    // One of them is out, the other one on offer.
    let out = pull(&mut idle).await.unwrap();
    assert!(!out.is_revoked());
    let mut busy = billing(&client).deliveries().unwrap();
    timeout(PATIENCE, out.revoked()).await.unwrap();
    assert!(out.is_revoked());
    out.done();
    // Each member gets one of the two partitions, and all that is left of it.
    let (mut of_idle, mut of_busy) = (BTreeSet::new(), BTreeSet::new());
    for (member, seen) in [(&mut busy, &mut of_busy), (&mut idle, &mut of_idle)] {
        while seen.iter().all(|(_, offset)| *offset != 1) {
            let next = pull(member).await.unwrap();
            seen.insert((next.partition(), next.offset()));
            next.done();
        }
    }
    assert_ne!(of_busy.first().unwrap().0, of_idle.first().unwrap().0);
    assert_eq!(of_busy.len() + of_idle.len(), 3, "each record once: {of_busy:?}, {of_idle:?}");
    assert_eq!(idle.finish().await.unwrap().discarded, 0, "what was done in time counts");
    busy.finish().await.unwrap();
    assert_eq!([0, 1].map(|partition| committed(&cluster, partition)), [Some(2); 2]);
}

#[tokio::test]
async fn finish_waits_for_what_was_pulled_and_withdraws_the_rest() {
    let cluster = cluster("orders", 2);
    (0..2).for_each(|partition| write(&cluster, "orders", partition, &["1", "2"]));
    let client = client(&cluster).await;
    // Longer than this test: what nobody took is not waited for.
    let mut deliveries = billing(&client).shutdown_timeout(PATIENCE * 3).deliveries().unwrap();
    let out = pull(&mut deliveries).await.unwrap();
    let (partition, revoked) = (out.partition(), out.revoked());
    let finishing = tokio::spawn(deliveries.finish());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!finishing.is_finished(), "a record is out");
    out.done();
    let summary = timeout(PATIENCE, finishing).await.unwrap().unwrap().unwrap();
    assert_eq!((summary.records, summary.reason), (1, StopReason::Shutdown));
    assert_eq!(committed(&cluster, partition), Some(1));
    assert!(committed(&cluster, 1 - partition).is_none_or(|offset| offset == 0), "the other was never taken");
    timeout(PATIENCE, revoked).await.expect("the end of the consumer revokes, too");
}

#[tokio::test]
async fn dropped_deliveries_commit_what_was_done_and_leave() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["done", "out", "never"]);
    let client = client(&cluster).await;
    let mut deliveries = billing(&client).commit_interval(Duration::from_secs(60)).deliveries().unwrap();
    pull(&mut deliveries).await.unwrap().done();
    let out = pull(&mut deliveries).await.unwrap();
    drop(deliveries);
    eventually("what was done is committed", || committed(&cluster, 0) == Some(1)).await;
    eventually("the member leaves", || cluster.look(|view| view.members("billing").is_empty())).await;
    out.done();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(committed(&cluster, 0), Some(1), "an answer after the end has no effect");
}

/// The limit counts from the pull: a record may be on offer for as long as nobody asks for it.
#[tokio::test]
async fn a_pulled_record_has_its_time_from_the_pull_on() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["a", "slow"]);
    let client = client(&cluster).await;
    let mut deliveries = billing(&client).property("handler.timeout.ms", "200").deliveries().unwrap();
    eventually("an assignment", || deliveries.handle().metrics().handled.len() == 1).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    pull(&mut deliveries).await.unwrap().done();
    let slow = pull(&mut deliveries).await.unwrap();
    assert!(pull(&mut deliveries).await.is_none(), "the consumer stops");
    slow.done();
    match deliveries.finish().await.unwrap_err() {
        ConsumeError::Handler { offset: 1, failure: HandlerFailure::TimedOut(limit), .. } => {
            assert_eq!(limit, Duration::from_millis(200));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(committed(&cluster, 0), Some(1), "too late");
}

#[tokio::test]
async fn handlers_that_block_run_beside_each_other() {
    let cluster = cluster("orders", 3);
    (0..3).for_each(|partition| write(&cluster, "orders", partition, &["1", "2"]));
    let client = client(&cluster).await;
    let (seen, together) = (Seen::default(), Barrier::new(3));
    let noting = seen.clone();
    let run = billing(&client).property("handler.workers", "3").stop_after(6).run_blocking(move |delivery| {
        // Passed only by three at once.
        together.wait();
        noting.note(&delivery);
        Ok::<(), String>(())
    });
    assert_eq!(timeout(PATIENCE, run).await.unwrap().unwrap().records, 6);
    assert_eq!(seen.values(), ["1", "1", "1", "2", "2", "2"]);
    assert_eq!([0, 1, 2].map(|partition| committed(&cluster, partition)), [Some(2); 3]);
}

#[tokio::test]
async fn a_handler_that_blocks_and_panics_or_fails() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["good", "flaky", "bad"]);
    let client = client(&cluster).await;
    let builder = billing(&client).handler_retries(1).property("handler.retry.backoff.ms", "10");
    let consumer = builder.build().unwrap();
    // On a thread without any executor.
    let run = consumer.run_blocking(|delivery| match delivery.value() {
        b"good" => Ok(()),
        b"flaky" if delivery.attempt() == 2 => Ok(()),
        b"flaky" => Err("not yet"),
        _ => panic!("an order nobody expected"),
    });
    let error = tokio::task::spawn_blocking(|| run.wait()).await.unwrap().unwrap_err();
    match error {
        ConsumeError::Handler { offset: 2, attempts: 2, failure: HandlerFailure::Panic(message), .. } => {
            assert_eq!(message, "an order nobody expected");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(committed(&cluster, 0), Some(2));
}

#[tokio::test]
async fn a_blocked_thread_that_is_late_changes_nothing() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["stuck"]);
    let client = client(&cluster).await;
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let waiting = gate.clone();
    let builder = billing(&client).property("handler.workers", "2").property("handler.timeout.ms", "100");
    let builder = builder.handler_retries(1).property("handler.retry.backoff.ms", "10");
    let (seen, ended) = (Seen::default(), Seen::default());
    let (noting, ending) = (seen.clone(), ended.clone());
    let run = builder.run_blocking(move |delivery| {
        noting.note(&delivery);
        let open = waiting.0.lock().unwrap();
        drop(waiting.1.wait_while(open, |open| !*open).unwrap());
        ending.note(&delivery);
        Ok::<(), String>(())
    });
    let error = timeout(PATIENCE, run).await.unwrap().unwrap_err();
    let timed_out = matches!(error, ConsumeError::Handler { failure: HandlerFailure::TimedOut(_), attempts: 2, .. });
    assert!(timed_out, "{error:?}");
    assert_eq!(seen.len(), 2, "the second attempt found another thread");
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    eventually("both threads go on", || ended.len() == 2).await;
    assert!(committed(&cluster, 0).is_none_or(|offset| offset == 0), "their results are discarded");
}

#[tokio::test]
async fn a_delivery_tells_its_lag_and_its_revocation() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["a", "b", "c"]);
    let client = client(&cluster).await;
    let lags = Arc::new(Mutex::new(Vec::new()));
    let noting = lags.clone();
    let consumer = billing(&client).stop_after(3).build().unwrap();
    let (handle, faults) = (consumer.handle(), cluster.clone());
    let run = consumer.run(move |delivery| {
        noting.lock().unwrap().push((delivery.offset(), delivery.lag()));
        let (cluster, figures, again) = (faults.clone(), handle.clone(), noting.lock().unwrap().len() > 1);
        async move {
            if !again {
                assert!(!delivery.is_revoked());
                // The generation is over without this member, while its handler is at work.
                cluster.inject(Fault::once(FaultAction::Error(ILLEGAL_GENERATION)).api(HEARTBEAT));
                delivery.revoked().await;
                assert!(delivery.is_revoked());
                eventually("the next assignment", || figures.metrics().rebalances >= 2).await;
            }
            Ok::<(), String>(())
        }
    });
    let summary = timeout(PATIENCE, run).await.unwrap().unwrap();
    assert_eq!((summary.records, summary.discarded), (3, 1));
    assert_eq!(*lags.lock().unwrap(), [(0, 2), (0, 2), (1, 1), (2, 0)]);
}
