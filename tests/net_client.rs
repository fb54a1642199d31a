//! The client as an application sees it: building, administration, and what it says when nothing answers.

#![allow(clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail loudly and look at the clock")]

use std::future::Future;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use indelible::wire::ErrorCode;
use indelible::{AdminError, Client, ClientError, MetadataError, NewTopic};
use proto_tests::fake::FakeCluster;

/// An executor that knows nothing of tokio: whatever works here works everywhere.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

fn closed_port() -> String {
    // Bound and dropped again: nobody listens there now.
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("port").to_string()
}

#[test]
fn topics_are_created_described_and_deleted() {
    let fake = FakeCluster::start(3);
    block_on(async {
        let client = Client::builder(fake.bootstrap()).client_id("net-test").build().await.expect("client");
        assert_eq!(client.cluster_id().as_deref(), Some(fake.cluster_id().as_str()));
        let admin = client.admin();
        admin
            .create_topics([NewTopic::new("orders").partitions(5).replication_factor(3), NewTopic::new("small")])
            .await
            .expect("created");
        let described = admin.describe_topics(["orders", "small"]).await.expect("described");
        assert_eq!((described[0].partitions.len(), described[1].partitions.len()), (5, 1));
        assert!(described[0].id.is_some());
        assert!(described[0].partitions.iter().all(|partition| partition.leader.is_some()));
        assert_eq!(described[0].partitions[0].replicas.len(), 3);

        let error = admin.create_topics([NewTopic::new("orders")]).await.expect_err("it exists");
        assert_eq!(error.code(), Some(ErrorCode::TOPIC_ALREADY_EXISTS), "{error}");
        assert!(error.to_string().contains("topic \"orders\""), "{error}");

        let before = described[0].id;
        admin.delete_topics(["orders"]).await.expect("deleted");
        let error = admin.describe_topics(["orders"]).await.expect_err("gone");
        assert!(matches!(error, AdminError::Metadata(MetadataError::UnknownTopic { .. })), "{error}");
        admin.create_topics([NewTopic::new("orders").partitions(2)]).await.expect("created again");
        let again = admin.describe_topics(["orders"]).await.expect("described");
        assert_eq!(again[0].partitions.len(), 2);
        assert_ne!(again[0].id, before, "another topic under the same name");
        assert!(client.metrics().metadata_refreshes > 0);
    });
    assert!(fake.ledger().requests.iter().any(|request| request.client_id == "net-test"));
}

#[test]
fn settings_of_topics_and_brokers_are_described() {
    let fake = FakeCluster::start(2);
    fake.create_topic("t", 1);
    block_on(async {
        let client = Client::builder(fake.bootstrap()).build().await.expect("client");
        client.admin().describe_topic_config("t").await.expect("topic");
        let broker = client.admin().describe_broker_config(2).await.expect("broker");
        assert!(broker.iter().all(|value| !value.name.is_empty()));
    });
}

#[test]
fn build_says_what_is_wrong_with_every_address() {
    let (one, two) = (closed_port(), closed_port());
    let started = Instant::now();
    let error = block_on(Client::builder([one.clone(), two.clone()]).build()).expect_err("nobody there");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let text = error.to_string();
    assert!(text.contains(&one) && text.contains(&two), "{text}");
    assert_eq!(text.matches("connection refused").count(), 2, "{text}");

    let silent = TcpListener::bind("127.0.0.1:0").expect("port");
    let address = silent.local_addr().expect("address").to_string();
    let limit = Duration::from_millis(50);
    let error = block_on(Client::builder([address]).connect_timeout(limit).build()).expect_err("silence");
    assert!(error.to_string().contains("no answer within 50 ms"), "{error}");
}

#[test]
fn settings_that_do_not_fit_are_told_by_the_build() {
    let build = |name: &str, value: &str| Client::builder(["localhost:9092"]).property(name, value).build_lazy();
    for (name, value, words) in [
        ("request.timeout", "1", "did you mean \"request.timeout.ms\"?"),
        ("request.timeout.ms", "soon", "milliseconds"),
        ("linger.ms", "1", "belongs to the producer"),
        ("metric.reporters", "x", "not supported"),
        ("security.protocol", "TLS", "one of PLAINTEXT, SSL"),
    ] {
        let error = build(name, value).expect_err(name);
        assert!(matches!(error, ClientError::Config(_)) && error.to_string().contains(words), "{error}");
    }
    assert!(Client::builder(Vec::<String>::new()).build_lazy().is_err());
    assert!(Client::builder(["localhost"]).build_lazy().is_err());
}

#[test]
fn a_lazy_client_finds_its_cluster_later() {
    let fake = FakeCluster::start(1);
    fake.kill(1);
    let client = Client::builder(fake.bootstrap()).build_lazy().expect("started");
    assert_eq!(client.cluster_id(), None);
    fake.restart(1);
    block_on(client.admin().create_topics([NewTopic::new("late")])).expect("created");
}
