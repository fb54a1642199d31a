//! How long after the end of its connection a broker still takes up a request: what a window's waits are made of.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "scenarios on a real cluster")]

mod real_support;

use std::time::{Duration, Instant};

use proto_tests::raw::{BatchSpec, RawClient, produce_request};
use proto_tests::real::RealCluster;
use real_support::{batches_on_disk, topic_of, until_on_disk};

/// How long a request waits for followers.
const WAITS: Duration = Duration::from_secs(3);
/// What a busy broker may take for the next thing it does.
const SLACK: Duration = Duration::from_secs(1);

/// Three requests lie at a broker whose followers are away, and their client dies. The first was appended at once. The second
/// is taken up when the first has waited in vain, long after the connection has ended; the third never is.
#[test]
fn a_broker_takes_up_one_more_request_of_a_dead_client() {
    let cluster = RealCluster::shared_alone().unwrap();
    let topic = topic_of(&cluster, "late", 1, 3, &[("min.insync.replicas", "2")]);
    cluster.reassign(&topic, 0, &[1, 2, 3]).unwrap();
    cluster.move_leader(&topic, 0, 1).unwrap();
    let mut raw = RawClient::connect(cluster.address(1)).unwrap();
    let (id, epoch) = raw.init_producer_id().unwrap();
    // Two of three controllers are away with them, so nobody takes them out of the replicas in sync.
    for broker in [2, 3] {
        cluster.pause(broker).unwrap();
    }
    let begin = Instant::now();
    for sequence in 0..3 {
        let batch = BatchSpec::new(id, epoch, sequence, &["late"]).build();
        raw.send(9, &produce_request(&topic, 0, &batch, -1, WAITS)).unwrap();
    }
    until_on_disk(&cluster, 1, &topic, 0, 1);
    drop(raw);
    let ended = begin.elapsed();
    until_on_disk(&cluster, 1, &topic, 0, 2);
    let taken_up = begin.elapsed();
    println!("ended after {ended:.0?}, the second taken up after {taken_up:.0?}");
    assert!(taken_up > WAITS - SLACK, "before the first was answered: {taken_up:?}");
    while begin.elapsed() < taken_up + WAITS + SLACK {
        assert_eq!(batches_on_disk(&cluster, 1, &topic, 0).len(), 2, "the third: {:?}", begin.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
}
