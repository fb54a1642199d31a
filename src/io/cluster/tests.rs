//! How a client finds its brokers, and finds them again.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proto_tests::fake::{FakeCluster, Fault, FaultAction};

use super::{Cluster, Lane};
use crate::config::ClientConfig;
use crate::error::{CallErrorKind, MetadataError};
use crate::io::test_support::block_on;
use crate::io::thread::IoThread;
use crate::sync::lock;
use crate::types::TopicPartition;
use crate::wire::requests::find_coordinator::CoordinatorType;

const METADATA: i16 = 3;
const FIND_COORDINATOR: i16 = 10;
const LONG: Duration = Duration::from_secs(20);

fn start(bootstrap: Vec<String>) -> Cluster {
    let config = ClientConfig {
        bootstrap_servers: bootstrap,
        retry_backoff: Duration::from_millis(5),
        retry_backoff_max: Duration::from_millis(50),
        reconnect_backoff: Duration::from_millis(5),
        reconnect_backoff_max: Duration::from_millis(50),
        ..ClientConfig::default()
    };
    Cluster::start(config, Default::default(), &IoThread::start("test-io").expect("thread"))
}

fn deadline() -> Instant {
    Instant::now() + LONG
}

/// An address that stays while what it leads to changes, as a load balancer's.
struct Front {
    address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
}

impl Front {
    fn new(target: SocketAddr) -> Front {
        let listener = TcpListener::bind("127.0.0.1:0").expect("port");
        let front = Front { address: listener.local_addr().expect("address"), target: Arc::new(Mutex::new(target)) };
        let target = front.target.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(*lock(&target)) else { continue };
                let pair = |from: &TcpStream, to: &TcpStream| {
                    (from.try_clone().expect("clone"), to.try_clone().expect("clone"))
                };
                for (mut from, mut to) in [pair(&client, &server), pair(&server, &client)] {
                    std::thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        front
    }
}

#[test]
fn callers_share_a_connection_for_each_lane() {
    let fake = FakeCluster::start(3);
    let cluster = start(fake.bootstrap());
    block_on(async {
        cluster.first_contact(deadline()).await.expect("contact");
        assert_eq!(cluster.view().brokers.len(), 3);
        let (a, b) = tokio::join!(cluster.broker(2, Lane::Produce), cluster.broker(2, Lane::Produce));
        let (a, b) = (a.expect("connection"), b.expect("connection"));
        assert!(Arc::ptr_eq(&a.handle_for_tests(), &b.handle_for_tests()));
        let own = cluster.own_lane();
        for lane in [Lane::Control, own] {
            let other = cluster.broker(2, lane).await.expect("connection");
            assert!(!Arc::ptr_eq(&a.handle_for_tests(), &other.handle_for_tests()), "{lane:?}");
            assert_eq!(other.broker(), 2);
        }
        let held = cluster.broker(2, own).await.expect("connection");
        cluster.release_lane(own);
        let fresh = cluster.broker(2, own).await.expect("connection");
        assert!(!Arc::ptr_eq(&held.handle_for_tests(), &fresh.handle_for_tests()));
        let error = cluster.broker(77, Lane::Produce).await.expect_err("unknown");
        assert!(matches!(error.kind(), CallErrorKind::UnknownBroker), "{error}");
    });
}

#[test]
fn all_addresses_change() {
    let fake = FakeCluster::start(3);
    fake.create_topic("t", 3);
    let front = Front::new(fake.address(1));
    let cluster = start(vec![front.address.to_string()]);
    block_on(async {
        cluster.topic(&"t".into(), LONG).await.expect("topic");
        let before = cluster.view();
        let old = cluster.broker(2, Lane::Produce).await.expect("connection");
        fake.brokers().into_iter().for_each(|broker| fake.readdress(broker));
        *lock(&front.target) = fake.address(3);
        cluster.refresh_and_wait("test", deadline()).await.expect("started over");
        let after = cluster.view();
        for id in fake.brokers() {
            assert_ne!(before.brokers[&id].port, after.brokers[&id].port);
            let connection = cluster.broker(id, Lane::Produce).await.expect("connection");
            assert_eq!(connection.address().socket, fake.address(id));
        }
        assert!(old.is_closed());
        assert!(cluster.counters().rebootstraps.get() >= 1);
    });
}

#[test]
fn rebootstrap_required_is_followed() {
    let fake = FakeCluster::start(2);
    let cluster = start(vec![fake.address(1).to_string()]);
    block_on(async {
        cluster.first_contact(deadline()).await.expect("contact");
        cluster.broker(2, Lane::Control).await.expect("the one that will be asked");
        fake.inject(Fault::once(FaultAction::Error(129)).api(METADATA));
        cluster.refresh_and_wait("test", deadline()).await.expect("started over");
        assert_eq!(cluster.counters().rebootstraps.get(), 1);
    });
}

#[test]
fn stale_leader_epoch_ignored() {
    let fake = FakeCluster::start(3);
    fake.create_topic("t", 1);
    let cluster = start(fake.bootstrap());
    let partition = TopicPartition::new("t", 0);
    block_on(async {
        cluster.topic(&"t".into(), LONG).await.expect("topic");
        let (leader, epoch) = cluster.view().leader(&partition).expect("leader");
        let (next, third) = ((leader % 3) + 1, ((leader + 1) % 3) + 1);
        // One broker goes on telling the past; whoever is asked, the view must not go back.
        fake.freeze_metadata(third, true);
        fake.move_leader("t", 0, next);
        // The broker asked first may be that one: a refresh without news turns to another.
        let started = Instant::now();
        while cluster.view().leader(&partition) != Some((next, epoch + 1)) {
            assert!(started.elapsed() < LONG);
            cluster.refresh_and_wait("test", deadline()).await.expect("refresh");
        }
        fake.freeze_metadata(third, false);
        for id in fake.brokers() {
            fake.freeze_metadata(id, true);
        }
        fake.move_leader("t", 0, leader);
        cluster.learn_leader(&partition, leader, epoch + 2);
        cluster.learn_leader(&partition, third, epoch + 1);
        for _ in 0..3 {
            cluster.refresh_and_wait("test", deadline()).await.expect("refresh");
            assert_eq!(cluster.view().leader(&partition), Some((leader, epoch + 2)));
        }
    });
}

#[test]
fn topic_vanishes_from_metadata_and_returns() {
    let fake = FakeCluster::start(3);
    fake.create_topic("t", 4);
    let cluster = start(fake.bootstrap());
    block_on(async {
        let name: Arc<str> = "t".into();
        let before = cluster.topic(&name, LONG).await.expect("topic");
        fake.hide_topic("t", true);
        cluster.refresh_and_wait("test", deadline()).await.expect("refresh");
        let hidden = cluster.view().topic("t").cloned().expect("kept");
        assert!(hidden.error.is_some() && !hidden.is_usable());
        assert_eq!((hidden.id, &hidden.partitions), (before.id, &before.partitions));
        let mut watch = cluster.watch();
        let waiting = cluster.topic(&name, LONG);
        fake.hide_topic("t", false);
        assert_eq!(waiting.await.expect("back"), before);
        watch.changed().await.expect("a new view");
    });
}

#[test]
fn an_unknown_topic_is_waited_for_and_then_named() {
    let fake = FakeCluster::start(1);
    let cluster = start(fake.bootstrap());
    block_on(async {
        let name: Arc<str> = "late".into();
        let error = cluster.topic(&name, Duration::from_millis(100)).await.expect_err("unknown");
        assert!(matches!(&error, MetadataError::UnknownTopic { topic, .. } if **topic == *"late"), "{error}");
        let waiting = cluster.topic(&name, LONG);
        fake.create_topic("late", 2);
        assert_eq!(waiting.await.expect("created meanwhile").partitions.len(), 2);
        let error = cluster.topic(&"no/name".into(), LONG).await.expect_err("invalid");
        assert!(matches!(error, MetadataError::InvalidTopicName { .. }));
        fake.kill_all();
        let error = cluster.topic(&"other".into(), Duration::from_secs(1)).await.expect_err("down");
        assert!(matches!(error, MetadataError::NoBrokerReachable(_)), "{error}");
        assert!(error.to_string().contains("connection refused"), "{error}");
    });
}

#[test]
fn coordinators_are_remembered_until_they_move() {
    let fake = FakeCluster::start(3);
    let cluster = start(fake.bootstrap());
    let key: Arc<str> = "g".into();
    let group = CoordinatorType::Group;
    block_on(async {
        fake.move_coordinator("g", 2);
        for _ in 0..3 {
            assert_eq!(cluster.coordinator(group, &key, Lane::Control).await.expect("coordinator").broker(), 2);
        }
        assert_eq!(fake.look(|view| view.requests(FIND_COORDINATOR)), 1);
        fake.move_coordinator("g", 3);
        cluster.coordinator_moved(group, &key);
        let own = cluster.own_lane();
        assert_eq!(cluster.coordinator(group, &key, own).await.expect("coordinator").broker(), 3);
        fake.inject(Fault::once(FaultAction::Error(15)).api(FIND_COORDINATOR));
        cluster.coordinator_moved(group, &key);
        let error = cluster.coordinator(group, &key, Lane::Control).await.expect_err("none at the moment");
        assert!(error.to_string().contains("COORDINATOR_NOT_AVAILABLE"), "{error}");
    });
}

#[test]
fn a_broker_that_comes_back_is_connected_to_again() {
    let fake = FakeCluster::start(2);
    let cluster = start(fake.bootstrap());
    block_on(async {
        cluster.first_contact(deadline()).await.expect("contact");
        let first = cluster.broker(2, Lane::Produce).await.expect("connection");
        fake.kill(2);
        let started = Instant::now();
        let error = loop {
            assert!(started.elapsed() < LONG);
            match cluster.broker(2, Lane::Produce).await {
                // Not noticed yet.
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => break error,
            }
        };
        assert!(error.is_retryable() && !error.may_have_been_applied(), "{error}");
        assert!(first.is_closed());
        fake.restart(2);
        let started = Instant::now();
        while cluster.broker(2, Lane::Produce).await.is_err() {
            assert!(started.elapsed() < LONG);
            let _ = cluster.refresh_and_wait("test", deadline()).await;
        }
    });
}

#[test]
fn everything_ends_with_the_last_handle() {
    let fake = FakeCluster::start(2);
    let cluster = start(fake.bootstrap());
    let counters = cluster.counters().clone();
    block_on(async {
        cluster.first_contact(deadline()).await.expect("contact");
        cluster.broker(2, Lane::Produce).await.expect("connection");
    });
    drop(cluster);
    let started = Instant::now();
    // Our own clone is the last: thread, refresh and connections have let go of theirs.
    while Arc::strong_count(&counters) > 1 {
        assert!(started.elapsed() < LONG, "{} holders", Arc::strong_count(&counters));
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(counters.connections.get(), 0);
}
