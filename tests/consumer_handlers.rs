//! Handlers that succeed, fail, panic and take their time: only what was handled is committed.

mod consumer_support;

use std::time::Duration;

use consumer_support::{Seen, billing, client, cluster, committed, eventually, write};
use indelible::{ConsumeError, HandlerFailure, OffsetReset, StopReason};

#[tokio::test]
async fn a_group_reads_all_partitions_and_goes_on_behind_its_commits() {
    let cluster = cluster("orders", 3);
    for partition in 0..3 {
        write(&cluster, "orders", partition, &["a", "b"]);
    }
    let client = client(&cluster).await;
    let seen = Seen::default();
    let noting = seen.clone();
    let summary = billing(&client)
        .stop_after(6)
        .run(move |delivery| {
            noting.note(&delivery);
            assert_eq!((delivery.key(), delivery.header("h")), (Some(&b"key"[..]), Some(&b"v"[..])));
            async { Ok::<(), String>(()) }
        })
        .await
        .unwrap();
    assert_eq!((summary.records, summary.reason), (6, StopReason::MaxRecords));
    assert_eq!(seen.values(), ["a", "a", "a", "b", "b", "b"]);
    assert_eq!([0, 1, 2].map(|partition| committed(&cluster, partition)), [Some(2); 3]);

    write(&cluster, "orders", 1, &["c"]);
    let again = Seen::default();
    let noting = again.clone();
    let run = billing(&client).stop_when_idle(Duration::from_millis(300)).run(move |delivery| {
        noting.note(&delivery);
        async { Ok::<(), String>(()) }
    });
    assert_eq!(run.await.unwrap().reason, StopReason::Idle);
    assert_eq!(again.values(), ["c"]);
}

#[tokio::test]
async fn handler_error() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["good", "good", "bad", "after"]);
    let client = client(&cluster).await;
    let seen = Seen::default();
    let noting = seen.clone();
    let error = billing(&client)
        .run(move |delivery| {
            noting.note(&delivery);
            async move { if delivery.value() == b"bad" { Err("no such order") } else { Ok(()) } }
        })
        .await
        .unwrap_err();
    match &error {
        ConsumeError::Handler {
            partition,
            offset: 2,
            attempts: 1,
            failure: HandlerFailure::Error(_),
            commit: None,
        } => {
            assert_eq!(partition.to_string(), "orders-0");
        }
        other => panic!("{other:?}"),
    }
    assert!(error.to_string().contains("no such order"), "{error}");
    assert_eq!(committed(&cluster, 0), Some(2), "what was handled before, and nothing of the failed record");
    assert_eq!(seen.values(), ["bad", "good", "good"]);
}

#[tokio::test]
async fn handler_panic() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["good", "bad"]);
    let client = client(&cluster).await;
    let error = billing(&client)
        .run(|delivery| async move {
            tokio::task::yield_now().await;
            assert!(delivery.value() != b"bad", "an order nobody expected");
            Ok::<(), String>(())
        })
        .await
        .unwrap_err();
    match error {
        ConsumeError::Handler { offset: 1, failure: HandlerFailure::Panic(message), .. } => {
            assert_eq!(message, "an order nobody expected");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(committed(&cluster, 0), Some(1));
}

#[tokio::test]
async fn a_failing_record_is_retried_while_other_partitions_go_on() {
    let cluster = cluster("orders", 2);
    write(&cluster, "orders", 0, &["flaky", "next"]);
    write(&cluster, "orders", 1, &["x", "y", "z"]);
    let client = client(&cluster).await;
    let seen = Seen::default();
    let noting = seen.clone();
    let summary = billing(&client)
        .handler_retries(2)
        .property("handler.retry.backoff.ms", "30")
        .stop_after(5)
        .run(move |delivery| {
            noting.note(&delivery);
            async move { if delivery.value() == b"flaky" && delivery.attempt() < 3 { Err("not yet") } else { Ok(()) } }
        })
        .await
        .unwrap();
    assert_eq!(summary.records, 5);
    assert_eq!(seen.values(), ["flaky", "flaky", "flaky", "next", "x", "y", "z"]);
    assert_eq!((committed(&cluster, 0), committed(&cluster, 1)), (Some(2), Some(3)));
}

#[tokio::test]
async fn one_record_of_a_partition_at_a_time_and_partitions_beside_each_other() {
    let cluster = cluster("orders", 4);
    for partition in 0..4 {
        write(&cluster, "orders", partition, &["1", "2", "3", "4", "5"]);
    }
    let client = client(&cluster).await;
    let busy = std::sync::Arc::new(std::sync::Mutex::new((Vec::new(), 0)));
    let shared = busy.clone();
    billing(&client)
        .stop_after(20)
        .run(move |delivery| {
            let busy = shared.clone();
            async move {
                {
                    let mut busy = busy.lock().unwrap();
                    assert!(!busy.0.contains(&delivery.partition()), "two records of one partition at once");
                    busy.0.push(delivery.partition());
                    busy.1 = busy.1.max(busy.0.len());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                busy.lock().unwrap().0.retain(|partition| *partition != delivery.partition());
                Ok::<(), String>(())
            }
        })
        .await
        .unwrap();
    assert!(busy.lock().unwrap().1 > 1, "partitions do not go on beside each other");
}

#[tokio::test]
async fn shutdown_lets_handlers_finish_and_commits_them() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["slow", "never"]);
    let client = client(&cluster).await;
    let consumer = billing(&client).build().unwrap();
    let handle = consumer.handle();
    let stopping = handle.clone();
    let summary = consumer
        .run(move |_| {
            stopping.shutdown();
            async {
                tokio::time::sleep(Duration::from_millis(150)).await;
                Ok::<(), String>(())
            }
        })
        .await
        .unwrap();
    assert_eq!((summary.records, summary.reason), (1, StopReason::Shutdown));
    assert_eq!(committed(&cluster, 0), Some(1));
    assert_eq!(handle.metrics().records, 1);
    eventually("the member leaves", || cluster.look(|view| view.members("billing").is_empty())).await;
}

#[tokio::test]
async fn a_slow_handler_keeps_its_membership() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["slow"]);
    let client = client(&cluster).await;
    let summary = billing(&client)
        .property("session.timeout.ms", "300")
        .stop_after(1)
        .run(|_| async {
            tokio::time::sleep(Duration::from_millis(1000)).await;
            Ok::<(), String>(())
        })
        .await
        .unwrap();
    assert_eq!(summary.discarded, 0);
    assert_eq!(committed(&cluster, 0), Some(1));
}

#[tokio::test]
async fn a_blocking_handler_on_the_only_thread_does_not_stop_heartbeats() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["blocks"]);
    let client = client(&cluster).await;
    billing(&client)
        .property("session.timeout.ms", "300")
        .stop_after(1)
        .run(|_| {
            std::thread::sleep(Duration::from_millis(900));
            async { Ok::<(), String>(()) }
        })
        .await
        .unwrap();
    assert_eq!(committed(&cluster, 0), Some(1));
}

#[tokio::test]
async fn a_group_at_latest_finds_its_first_place_again() {
    let cluster = cluster("orders", 1);
    write(&cluster, "orders", 0, &["old"]);
    let client = client(&cluster).await;
    let idle = || billing(&client).offset_reset(OffsetReset::Latest).stop_when_idle(Duration::from_millis(200));
    let summary = idle().run(|_| async { Ok::<(), String>(()) }).await.unwrap();
    assert_eq!(summary.records, 0);
    assert_eq!(committed(&cluster, 0), Some(1), "the starting point itself");
    write(&cluster, "orders", 0, &["written while nobody ran"]);
    let summary = idle().run(|_| async { Ok::<(), String>(()) }).await.unwrap();
    assert_eq!(summary.records, 1);
}

#[test]
fn any_executor_will_do() {
    // No tokio context at all: a loop that parks the thread.
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
        loop {
            match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
                std::task::Poll::Ready(value) => return value,
                std::task::Poll::Pending => std::thread::park(),
            }
        }
    }
    let cluster = cluster("orders", 2);
    write(&cluster, "orders", 0, &["a"]);
    write(&cluster, "orders", 1, &["b"]);
    let client = block_on(client(&cluster));
    let summary = block_on(billing(&client).stop_after(2).run(|_| async { Ok::<(), String>(()) })).unwrap();
    assert_eq!(summary.records, 2);
}
