//! The producer through failures of real brokers: every record once and in order, whatever the brokers have forgotten.

#![allow(clippy::unwrap_used, clippy::panic, reason = "scenarios on a real cluster")]

mod real_support;

use indelible::{Client, Producer, ProducerBuilder, Receipt, Record, SendCause, SendError};
use proto_tests::real::RealCluster;
use real_support::load::Load;
use real_support::{
    PATIENCE, batches_on_disk, builder, client, expect, records, topic, until, until_on_disk, value, values, wait,
};
use std::time::Duration;

/// A producer whose every record is a batch of its own.
fn single(client: &Client) -> ProducerBuilder {
    client.producer().batch_size(0).linger(Duration::ZERO)
}

fn send(producer: &Producer, topic: &str, partition: i32, values: &[&str]) -> Vec<Receipt> {
    wait(async {
        let mut receipts = Vec::new();
        for value in values {
            receipts.push(producer.send(Record::to(topic).partition(partition).value(value)).await.unwrap());
        }
        receipts
    })
}

fn offsets(receipts: &[Receipt]) -> Vec<i64> {
    let outcome = |receipt: &Receipt| {
        let waiting = async { tokio::time::timeout(PATIENCE, receipt.delivered()).await };
        wait(waiting).unwrap().unwrap().offset().unwrap()
    };
    receipts.iter().map(outcome).collect()
}

/// A partition that broker 1 leads, and a producer that the broker knows: its first batch is in.
fn warm(cluster: &RealCluster, client: &Client, story: &str, configs: &[(&str, &str)]) -> (String, Producer) {
    let topic = topic(cluster, story, 1, configs);
    cluster.move_leader(&topic, 0, 1).unwrap();
    let producer = wait(single(client).build()).unwrap();
    assert_eq!(offsets(&send(&producer, &topic, 0, &["first"])), [0]);
    (topic, producer)
}

/// Stops replication to the followers: what broker 1 appends from now on is acknowledged to nobody.
fn pause_followers(cluster: &RealCluster) {
    for id in [2, 3] {
        cluster.pause(id).unwrap();
    }
}

fn resume_followers(cluster: &RealCluster) {
    for id in [2, 3] {
        cluster.resume(id).unwrap();
    }
}

/// Epochs and sequences in the order of the log.
fn identities(cluster: &RealCluster, topic: &str, partition: i32, count: usize) -> Vec<(i16, i32)> {
    let found = records(cluster, topic, partition, count);
    assert!(found.iter().all(|record| record.producer_id == found[0].producer_id));
    found.iter().map(|record| (record.producer_epoch, record.sequence)).collect()
}

/// The first batch of a producer that no broker knows is refused as too large, while others want to follow. A broker
/// takes any sequence of an unknown producer: had they been in flight, what replaces the first could never be stored.
#[test]
fn first_batch_refused_second_in_flight() {
    let cluster = RealCluster::shared().unwrap();
    let topic = topic(&cluster, "first-refused", 1, &[("max.message.bytes", "2000")]);
    let producer = wait(single(&client(&cluster)).build()).unwrap();
    let large = "x".repeat(5000);
    let receipts = send(&producer, &topic, 0, &[&large, "a", "b", "c"]);
    let refused = wait(receipts[0].delivered()).unwrap_err();
    assert!(matches!((&refused, refused.cause()), (SendError::NotDelivered(_), SendCause::RecordRefused)), "{refused}");
    assert_eq!(refused.into_record().value.unwrap(), large);
    assert_eq!(offsets(&receipts[1..]), [0, 1, 2]);
    assert_eq!(values(&cluster, &topic, 0, 3), ["a", "b", "c"]);
}

/// A batch of several records is too large for the topic: only the record that is too large by itself is refused.
#[test]
fn message_too_large() {
    let cluster = RealCluster::shared().unwrap();
    let topic = topic(&cluster, "too-large", 1, &[("max.message.bytes", "10000")]);
    let producer =
        wait(client(&cluster).producer().batch_size(1 << 16).linger(Duration::from_secs(1)).build()).unwrap();
    let texts: Vec<String> = (0..12).map(|n| n.to_string().repeat(if n == 7 { 12_000 } else { 1_000 })).collect();
    let receipts = send(&producer, &topic, 0, &texts.iter().map(String::as_str).collect::<Vec<_>>());
    for (n, receipt) in receipts.iter().enumerate() {
        match (n, wait(receipt.delivered())) {
            (7, Err(error)) => assert!(matches!(error.cause(), SendCause::RecordRefused), "{error}"),
            (7, Ok(place)) => panic!("stored at {place:?}"),
            (_, outcome) => assert_eq!(outcome.unwrap().offset(), Some(n as i64 - i64::from(n > 7))),
        }
    }
    let expected: Vec<&String> = texts.iter().enumerate().filter(|(n, _)| *n != 7).map(|(_, text)| text).collect();
    assert!(values(&cluster, &topic, 0, 11).iter().eq(expected));
}

/// A batch in the middle is given up, others are in flight behind it: they are stamped anew in the next epoch of this
/// partition, and the other partition knows nothing of it.
#[test]
fn given_up_batch_closes_its_epoch() {
    let cluster = RealCluster::shared().unwrap();
    let topic = topic(&cluster, "given-up", 2, &[("max.message.bytes", "2000")]);
    let producer = wait(single(&client(&cluster)).build()).unwrap();
    for partition in [0, 1] {
        assert_eq!(offsets(&send(&producer, &topic, partition, &["first"])), [0]);
    }
    let receipts = send(&producer, &topic, 0, &["a", &"x".repeat(5000), "b", "c"]);
    let neighbours = send(&producer, &topic, 1, &["y", "z"]);
    let refused = wait(receipts[1].delivered()).unwrap_err();
    assert!(!refused.may_be_delivered(), "{refused}");
    assert_eq!(offsets(&receipts[..1]), [1]);
    assert_eq!(offsets(&receipts[2..]), [2, 3]);
    assert_eq!(offsets(&neighbours), [1, 2]);
    assert_eq!(values(&cluster, &topic, 0, 4), ["first", "a", "b", "c"]);
    assert_eq!(identities(&cluster, &topic, 0, 4), [(0, 0), (0, 1), (1, 0), (1, 1)]);
    assert_eq!(identities(&cluster, &topic, 1, 3), [(0, 0), (0, 1), (0, 2)]);
}

/// Three batches are on their way to the leader, which has appended the oldest (a broker reads no further request of a
/// connection while one waits for its acknowledgement). It dies, and a follower is elected cleanly that has none of
/// them: all three are written, the oldest first. The newest alone would be taken as new, and bar the way for the others.
#[test]
fn unreplicated_batches_lost_by_clean_election() {
    /// Within this time a leader answers a follower's fetch that finds nothing (`replica.fetch.wait.max.ms`). An answer
    /// on its way to a paused follower must not carry the batches to it.
    const FETCH_WAIT: Duration = Duration::from_millis(500);
    let cluster = RealCluster::shared_alone().unwrap();
    let client = client(&cluster);
    let (topic, producer) = warm(&cluster, &client, "lost-by-election", &[]);
    pause_followers(&cluster);
    std::thread::sleep(2 * FETCH_WAIT);
    let receipts = send(&producer, &topic, 0, &["a", "b", "c"]);
    until_on_disk(&cluster, 1, &topic, 0, 2);
    cluster.kill(1).unwrap();
    resume_followers(&cluster);
    assert_eq!(offsets(&receipts), [1, 2, 3]);
    let epochs = batches_on_disk(&cluster, cluster.leader(&topic, 0).unwrap(), &topic, 0);
    assert!(epochs.len() == 4 && epochs[1..].iter().all(|epoch| *epoch > epochs[0]), "none was lost: {epochs:?}");
    cluster.start_broker(1).unwrap();
    assert_eq!(values(&cluster, &topic, 0, 4), ["first", "a", "b", "c"]);
}

/// Five batches are in flight and the first is stored, but not replicated before the requests time out: all five go
/// again, to a leader that has the first. See also `real_lost_answers`, where it has all five.
#[test]
fn acknowledgements_held_back_until_requests_time_out() {
    let cluster = RealCluster::shared_alone().unwrap();
    let client = wait(builder(&cluster).request_timeout(Duration::from_secs(1)).build()).unwrap();
    let (topic, producer) = warm(&cluster, &client, "held-back", &[]);
    pause_followers(&cluster);
    let receipts = send(&producer, &topic, 0, &["a", "b", "c", "d", "e"]);
    until_on_disk(&cluster, 1, &topic, 0, 2);
    until("all five to have no answer", || match client.metrics().batch_setbacks {
        5.. => Ok(()),
        fewer => Err(format!("{fewer} setbacks")),
    });
    resume_followers(&cluster);
    assert_eq!(offsets(&receipts), [1, 2, 3, 4, 5]);
    assert_eq!(values(&cluster, &topic, 0, 6), ["first", "a", "b", "c", "d", "e"]);
}

/// Five batches are in flight, the first is on the leader alone, when all brokers are killed at once. Whoever leads
/// afterwards, with the batch or without it, remembers of its producers the last batch only.
#[test]
fn resend_after_all_brokers_killed() {
    let cluster = RealCluster::shared_alone().unwrap();
    let client = client(&cluster);
    let (topic, producer) = warm(&cluster, &client, "all-killed", &[]);
    pause_followers(&cluster);
    let receipts = send(&producer, &topic, 0, &["a", "b", "c", "d", "e"]);
    until_on_disk(&cluster, 1, &topic, 0, 2);
    cluster.kill_all().unwrap();
    cluster.start_all().unwrap();
    assert_eq!(offsets(&receipts), [1, 2, 3, 4, 5]);
    assert_eq!(values(&cluster, &topic, 0, 6), ["first", "a", "b", "c", "d", "e"]);
}

/// All three replicas must be in sync, and one hangs. What was appended before the brokers counted it out is not
/// acknowledged (by NOT_ENOUGH_REPLICAS_AFTER_APPEND, or since Kafka 4 not before the request times out), what comes later
/// is refused by NOT_ENOUGH_REPLICAS, the first batch of a new producer too. When the replica is back all of it arrives,
/// once and in order.
#[test]
fn not_enough_replicas_after_append() {
    let cluster = RealCluster::shared_alone().unwrap();
    let client = wait(builder(&cluster).request_timeout(Duration::from_secs(2)).build()).unwrap();
    let (topic, producer) = warm(&cluster, &client, "not-enough", &[("min.insync.replicas", "3")]);
    let hangs = if cluster.controller().unwrap() == 3 { 2 } else { 3 };
    cluster.pause(hangs).unwrap();
    let before = client.metrics().batch_setbacks;
    let appended = send(&producer, &topic, 0, &["a", "b", "c"]);
    until_on_disk(&cluster, 1, &topic, 0, 2);
    until("the replica to be counted out", || {
        let partitions = cluster.partitions(&topic).map_err(|error| error.to_string())?;
        expect(partitions[0].in_sync.contains(&hangs), false)
    });
    until("the three to be refused", || match client.metrics().batch_setbacks - before {
        3.. => Ok(()),
        fewer => Err(format!("{fewer} setbacks")),
    });
    let fresh = wait(single(&client).build()).unwrap();
    let setbacks = client.metrics().batch_setbacks;
    let later = send(&fresh, &topic, 0, &["x", "y", "z"]);
    until("more refusals", || match client.metrics().batch_setbacks - setbacks {
        3.. => Ok(()),
        fewer => Err(format!("{fewer} setbacks")),
    });
    cluster.resume(hangs).unwrap();
    // Two producers: the order between them is nobody's promise.
    let mut places: Vec<_> = offsets(&appended).into_iter().zip(["a", "b", "c"]).collect();
    places.extend(offsets(&later).into_iter().zip(["x", "y", "z"]));
    assert!(places.chunks(3).all(|of_one| of_one.is_sorted()), "{places:?}");
    places.sort_unstable();
    let expected: Vec<_> = ["first"].into_iter().chain(places.iter().map(|(_, value)| *value)).collect();
    assert_eq!(values(&cluster, &topic, 0, 7), expected);
}

/// Leaders move from broker to broker while batches are on their way to them.
#[test]
fn leader_moves_mid_batch() {
    let cluster = RealCluster::shared().unwrap();
    let topic = topic(&cluster, "leader-moves", 2, &[]);
    let load = Load::start(&wait(client(&cluster).producer().build()).unwrap(), &topic, 2);
    for to in cluster.ids().chain(cluster.ids()) {
        cluster.move_leader(&topic, 0, to).unwrap();
    }
    load.finish(&cluster);
}

/// Each broker in turn is stopped and started under load, as for an upgrade; then the one that is the controller is
/// killed.
#[test]
fn rolling_restart_under_load_and_controller_killed() {
    let cluster = RealCluster::shared_alone().unwrap();
    let topic = topic(&cluster, "rolling", 3, &[]);
    let client = client(&cluster);
    let load = Load::start(&wait(client.producer().build()).unwrap(), &topic, 3);
    for id in cluster.ids() {
        cluster.stop(id).unwrap();
        cluster.start_broker(id).unwrap();
        cluster.wait_until_in_sync(&topic).unwrap();
    }
    let controller = cluster.controller().unwrap();
    cluster.kill(controller).unwrap();
    until("another controller", || match cluster.controller() {
        Ok(other) if other >= 0 && other != controller => Ok(()),
        other => Err(format!("{other:?}")),
    });
    cluster.start_broker(controller).unwrap();
    cluster.wait_until_in_sync(&topic).unwrap();
    load.finish(&cluster);
    assert_eq!(client.metrics().acknowledged_lost, 0);
    let found = records(&cluster, &topic, 0, 1);
    assert!(found.iter().all(|record| record.producer_id == found[0].producer_id), "{}", value(&found[0]));
}
