//! Processes that die with records in their spool, and what the next one does about it: each record is in the topic once
//! and in order, whatever the broker has forgotten meanwhile, or nobody can tell and nothing is written.
//!
//! A process "dies" here by a copy of its spool: what is opened next is the copy, made while nothing was written. The
//! program itself is killed in `cli/tests/real_spool.rs`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "scenarios on a real cluster")]

mod real_support;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indelible::{Client, Durability, OnUnknown, Producer, Record, SendCause, SendError};
use proto_tests::raw::RawClient;
use proto_tests::real::{RealCluster, RealConfig};
use real_support::proxy::Proxied;
use real_support::spools::{
    Left, Scratch, config, copy, crash_image, in_time, left, offsets, open, spool, stays, until_left, until_spooled,
};
use real_support::{builder, client, expect, records, topic, topic_of, until, until_on_disk, values, wait};

const FIVE: [&str; 5] = ["a", "b", "c", "d", "e"];
const ALL: [&str; 7] = ["first", "a", "b", "c", "d", "e", "next"];
/// After how long the forgetful broker forgets a producer.
const EXPIRATION: Duration = Duration::from_secs(12);
/// What has not happened for so long, although nothing hinders it, does not happen.
const LONG_ENOUGH: Duration = Duration::from_secs(4);

/// A broker behind a network of ours, for one test after the other.
fn one_broker() -> MutexGuard<'static, Proxied> {
    static BROKER: OnceLock<Mutex<Proxied>> = OnceLock::new();
    let broker = BROKER.get_or_init(|| Mutex::new(Proxied::start(RealConfig::default())));
    broker.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One that forgets its producers quickly.
fn forgetful_broker() -> MutexGuard<'static, Proxied> {
    static BROKER: OnceLock<Mutex<Proxied>> = OnceLock::new();
    let config = RealConfig::default()
        .config("producer.id.expiration.ms", &EXPIRATION.as_millis().to_string())
        .config("producer.id.expiration.check.interval.ms", "500");
    let broker = BROKER.get_or_init(|| Mutex::new(Proxied::start(config)));
    broker.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reach(broker: &Proxied) -> Client {
    wait(Client::builder([broker.address()]).build()).unwrap()
}

/// For brokers that forget quickly: so long may a request take there, that batches are young for some seconds, and the next
/// process does not wait long for what may be late of the one before.
fn reach_forgetful(broker: &Proxied) -> Client {
    wait(Client::builder([broker.address()]).request_timeout(Duration::from_secs(2)).build()).unwrap()
}

/// A process at work: what it sent first is in the topic and in the spool's books.
struct Life {
    topic: String,
    client: Client,
    producer: Producer,
    scratch: Scratch,
}

impl Life {
    fn begin(client: Client, topic: String) -> Life {
        let scratch = Scratch::new(&topic);
        let producer = open(&client, &scratch.spool());
        assert_eq!(offsets(&spool(&producer, &topic, &["first"])), [Some(0)]);
        Life { topic, client, producer, scratch }
    }

    fn at(broker: &Proxied, story: &str) -> Life {
        Life::with(reach(broker), broker, story)
    }

    fn with(client: Client, broker: &Proxied, story: &str) -> Life {
        Life::begin(client, topic_of(&broker.cluster, story, 1, 1, &[]))
    }

    /// On three brokers, of which the first leads.
    fn on(cluster: &RealCluster, story: &str) -> Life {
        let topic = topic(cluster, story, 1, &[]);
        cluster.move_leader(&topic, 0, 1).unwrap();
        Life::begin(client(cluster), topic)
    }

    /// What it leaves behind.
    fn die(self) -> (String, Scratch) {
        let image = crash_image(&self.scratch.spool(), &self.topic);
        drop((self.producer, self.client));
        (self.topic, image)
    }
}

/// Five records are with the broker, their acknowledgements are lost, and the process dies.
fn five_stored(broker: &Proxied, life: Life) -> (String, Scratch) {
    broker.lose_answers();
    spool(&life.producer, &life.topic, &FIVE);
    until_on_disk(&broker.cluster, 1, &life.topic, 0, 6);
    let left = life.die();
    broker.mend();
    left
}

/// Five records are on their way to the first of three brokers, which has one of them and no follower has any.
fn five_in_flight(cluster: &RealCluster, story: &str) -> (String, Scratch) {
    let life = Life::on(cluster, story);
    for id in [2, 3] {
        cluster.pause(id).unwrap();
    }
    spool(&life.producer, &life.topic, &FIVE);
    until_on_disk(cluster, 1, &life.topic, 0, 2);
    life.die()
}

/// The next process: sends what is left, and one more record behind it.
fn recover(client: &Client, image: &Scratch, topic: &str) -> Producer {
    let producer = open(client, &image.spool());
    offsets(&spool(&producer, topic, &["next"]));
    until_left(&image.spool(), Left::default());
    producer
}

fn until_forgotten(broker: &Proxied, topic: &str) {
    until("the broker to forget", || {
        let mut raw = RawClient::connect(broker.cluster.address(1)).map_err(|error| error.to_string())?;
        let known = raw.describe_producers(topic, 0).map_err(|error| error.to_string())?;
        expect(known.map(|known| known.len()), Ok(0)).map(drop)
    });
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Epochs and sequences in the order of the log; there is but one producer id.
fn identities(cluster: &RealCluster, topic: &str, count: usize) -> Vec<(i16, i32)> {
    let found = records(cluster, topic, 0, count);
    assert!(found.iter().all(|record| record.producer_id == found[0].producer_id), "{found:?}");
    found.iter().map(|record| (record.producer_epoch, record.sequence)).collect()
}

/// Five records were in flight when the process was killed: stored, their acknowledgements lost. The next process finds
/// out, and writes its own under the next epoch.
#[test]
fn resend_of_the_five_in_flight() {
    let broker = one_broker();
    let (topic, image) = five_stored(&broker, Life::at(&broker, "five"));
    let client = reach(&broker);
    recover(&client, &image, &topic);
    assert_eq!(values(&broker.cluster, &topic, 0, 7), ALL);
    let expected = [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (1, 0)];
    assert_eq!(identities(&broker.cluster, &topic, 7), expected);
    assert!(client.metrics().probes > 0, "nobody was asked");
}

/// As before, and none of the five had reached the broker: they are sent as they were, under their old identity.
#[test]
fn resend_of_the_five_that_never_arrived() {
    let broker = one_broker();
    let life = Life::at(&broker, "five-absent");
    let held = broker.hold_requests();
    spool(&life.producer, &life.topic, &FIVE);
    let (topic, image) = life.die();
    recover(&reach(&broker), &image, &topic);
    drop(held);
    assert_eq!(values(&broker.cluster, &topic, 0, 7), ALL);
    let expected = [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (1, 0)];
    assert_eq!(identities(&broker.cluster, &topic, 7), expected);
    broker.mend();
}

/// As before, and the requests of the dead process reach the broker after the next one has sent the records again: they
/// are recognised, since they are the same bytes under the same identity.
#[test]
fn late_request_of_the_dead_process() {
    let broker = one_broker();
    let life = Life::at(&broker, "late");
    let held = broker.hold_requests();
    spool(&life.producer, &life.topic, &FIVE);
    // A stamp is durable before its request; the request is on the way soon after.
    let sent = life.client.clone();
    until("five requests", || match sent.metrics().batches_in_flight {
        5 => Ok(()),
        other => Err(format!("{other} batches in flight")),
    });
    let (topic, image) = life.die();
    drop(sent);
    let producer = open(&reach(&broker), &image.spool());
    until_left(&image.spool(), Left::default());
    assert_eq!(values(&broker.cluster, &topic, 0, 6), ALL[..6]);
    held.release();
    until("the broker to answer the dead", || match held.answered() {
        0 => Err("no answer".into()),
        _ => Ok(()),
    });
    offsets(&spool(&producer, &topic, &["next"]));
    stays(Duration::from_secs(1), || values(&broker.cluster, &topic, 0, 7));
    assert_eq!(values(&broker.cluster, &topic, 0, 7), ALL);
    broker.mend();
}

/// The broker was restarted in between, cleanly and by kill -9: it knows the last of the five only, and answers the
/// others as it answers a gap.
#[test]
fn resend_after_clean_broker_restart() {
    let broker = one_broker();
    for (cleanly, story) in [(true, "restart"), (false, "kill")] {
        let (topic, image) = five_stored(&broker, Life::at(&broker, story));
        if cleanly { broker.cluster.stop(1) } else { broker.cluster.kill(1) }.unwrap();
        broker.cluster.start_broker(1).unwrap();
        recover(&reach(&broker), &image, &topic);
        assert_eq!(values(&broker.cluster, &topic, 0, 7), ALL);
    }
}

/// The first of the five is on the leader alone when all brokers are killed at once, with the producer. Whoever leads
/// afterwards has it or not, and remembers of each producer the last batch only.
#[test]
fn resend_after_all_brokers_killed() {
    let cluster = RealCluster::shared_alone().unwrap();
    let (topic, image) = five_in_flight(&cluster, "all-killed");
    cluster.kill_all().unwrap();
    cluster.start_all().unwrap();
    recover(&client(&cluster), &image, &topic);
    assert_eq!(values(&cluster, &topic, 0, 7), ALL);
}

/// Records with an old event time are stored; because of that time the broker forgets their producer at once, and would
/// take a repetition for something new.
#[test]
fn old_timestamp_producer_id_expired() {
    let broker = forgetful_broker();
    let life = Life::with(reach_forgetful(&broker), &broker, "old");
    broker.lose_answers();
    let old = now_ms() - 3_600_000;
    let receipts: Vec<_> = wait(async {
        let mut receipts = Vec::new();
        for value in FIVE {
            let record = Record::to(&life.topic).partition(0).value(value).timestamp(old);
            receipts.push(life.producer.send(record).await.unwrap());
        }
        receipts
    });
    until_spooled(&receipts);
    // In flight they are one after the other: a broker that forgets between two would not miss the first.
    until_on_disk(&broker.cluster, 1, &life.topic, 0, 2);
    let (topic, image) = life.die();
    until_forgotten(&broker, &topic);
    broker.mend();
    recover(&reach_forgetful(&broker), &image, &topic);
    assert_eq!(values(&broker.cluster, &topic, 0, 7), ALL);
}

/// Two of five records are stored when the process dies, and it stays away until the broker has forgotten it. An empty
/// memory proves nothing: the log is read, the two are found in it, and the three are sent.
#[test]
fn unknown_producer_id_scans_before_resend() {
    let broker = forgetful_broker();
    let life = Life::with(reach_forgetful(&broker), &broker, "scan");
    broker.lose_answers();
    spool(&life.producer, &life.topic, &FIVE[..2]);
    until_on_disk(&broker.cluster, 1, &life.topic, 0, 3);
    let held = broker.hold_requests();
    spool(&life.producer, &life.topic, &FIVE[2..]);
    let (topic, image) = life.die();
    broker.mend();
    until_forgotten(&broker, &topic);
    recover(&reach_forgetful(&broker), &image, &topic);
    drop(held);
    assert_eq!(values(&broker.cluster, &topic, 0, 7), ALL);
}

/// The broker has forgotten the producer, and the part of the log is gone that would tell. Nobody knows: nothing is
/// written, what comes after it waits too, and both stay in the spool until somebody decides.
#[test]
fn log_trimmed_past_resume_offset() {
    let broker = forgetful_broker();
    let (topic, image) = five_stored(&broker, Life::with(reach_forgetful(&broker), &broker, "trimmed"));
    until_forgotten(&broker, &topic);
    let mut raw = RawClient::connect(broker.cluster.address(1)).unwrap();
    assert_eq!(raw.delete_records(&topic, 0, -1).unwrap(), (0, 6));

    let client = reach_forgetful(&broker);
    let producer = open(&client, &image.spool());
    let next = spool(&producer, &topic, &["next"]);
    until_left(&image.spool(), Left { ready: 1, parked: 5, unknown: 5, dead: 0 });
    stays(LONG_ENOUGH, || raw.fetch(&topic, 0, 6).unwrap());
    assert!(client.metrics().probes > 0);
    wait(producer.close(Duration::ZERO)).unwrap();
    let left = wait(next[0].delivered()).unwrap_err();
    assert!(matches!(left, SendError::Spooled(_)), "{left}");
    drop(producer);

    let mut decided = config(&image.spool());
    decided.on_unknown = OnUnknown::Resend;
    let _producer = wait(client.producer().spool_config(decided).build()).unwrap();
    until_left(&image.spool(), Left::default());
    let found: Vec<_> = raw.fetch(&topic, 0, 6).unwrap().1.iter().map(real_support::value).collect();
    assert_eq!(found, ALL[1..]);
}

/// The topic was deleted and made again under its name while the process was dead. What the spool holds was for the old
/// one: it is not written into the new one unless somebody says so.
#[test]
fn topic_recreated_between_runs() {
    let cluster = RealCluster::shared_alone().unwrap();
    let (topic, image) = five_in_flight(&cluster, "recreated");
    cluster.heal().unwrap();
    cluster.delete_topic(&topic).unwrap();
    cluster.create_topic(&topic, 1, 3, &[]).unwrap();
    cluster.wait_until_in_sync(&topic).unwrap();

    let client = client(&cluster);
    let producer = open(&client, &image.spool());
    until("what is for the old one to be parked", || match left(&image.spool()).parked {
        0 => Err("nothing is".into()),
        _ => Ok(()),
    });
    stays(LONG_ENOUGH, || values(&cluster, &topic, 0, 0));
    wait(producer.close(Duration::ZERO)).unwrap();
    drop(producer);
    assert_eq!(values(&cluster, &topic, 0, 0), [""; 0]);

    let mut adopting = config(&image.spool());
    adopting.adopt = true;
    let _producer = wait(client.producer().spool_config(adopting).build()).unwrap();
    until_left(&image.spool(), Left::default());
    assert_eq!(values(&cluster, &topic, 0, 5), FIVE);
}

/// The spool is opened with the brokers of another cluster, where its producer id is a stranger's and a topic happens to
/// have the same name. Nothing is written there unless somebody says so; both clusters are named.
#[test]
fn spool_opened_against_another_cluster() {
    let broker = one_broker();
    let life = Life::at(&broker, "other-cluster");
    let held = broker.hold_requests();
    spool(&life.producer, &life.topic, &FIVE);
    let (topic, image) = life.die();
    drop(held);
    broker.mend();

    let other = RealCluster::shared().unwrap();
    other.create_topic(&topic, 1, 3, &[]).unwrap();
    let client = client(&other);
    let producer = open(&client, &image.spool());
    // Which cluster it is comes to light with its first answer; what is accepted before stays in the spool.
    let refused = until("a refusal", || match wait(producer.send(Record::to(&topic).partition(0).value("early"))) {
        Err(refused) => Ok(refused),
        Ok(_) => Err("it is accepted".to_owned()),
    });
    println!("{refused}");
    let SendCause::Spool(cause) = refused.cause() else { panic!("{refused}") };
    assert!(matches!(cause, indelible::SpoolError::OtherCluster { .. }), "{cause}");
    drop(producer);
    assert_eq!(values(&other, &topic, 0, 0), [""; 0]);

    // Back home all is as it was.
    let home = reach(&broker);
    let copied = Scratch::new("home");
    copy(&image.spool(), &copied.spool());
    recover(&home, &copied, &topic);
    let found = values(&broker.cluster, &topic, 0, 7);
    assert_eq!(found[..6], ALL[..6]);
    assert_eq!(found.last().unwrap(), "next");

    let mut adopting = config(&image.spool());
    adopting.adopt = true;
    let _producer = wait(client.producer().spool_config(adopting).build()).unwrap();
    until_left(&image.spool(), Left::default());
    assert_eq!(values(&other, &topic, 0, 5)[..5], FIVE);
}

/// The spool was copied while five records were on their way; the original went on, delivered them and six more, more
/// than the broker remembers. Then the copy is opened: none of the five is written again.
#[test]
fn spool_restored_from_an_old_backup() {
    let broker = one_broker();
    let life = Life::at(&broker, "backup");
    broker.lose_answers();
    spool(&life.producer, &life.topic, &FIVE);
    let backup = crash_image(&life.scratch.spool(), "backup-copy");
    broker.mend();
    let later = ["f", "g", "h", "i", "j", "k"];
    offsets(&spool(&life.producer, &life.topic, &later));
    let topic = life.topic.clone();
    in_time("the end of the original", life.producer.close(Duration::from_secs(60))).unwrap();
    drop(life);

    recover(&reach(&broker), &backup, &topic);
    let expected: Vec<_> = ALL[..6].iter().chain(&later).chain(&["next"]).copied().collect();
    stays(Duration::from_secs(1), || values(&broker.cluster, &topic, 0, expected.len()));
    assert_eq!(values(&broker.cluster, &topic, 0, expected.len()), expected);
}

/// As before, and the original was restarted: it went on under an epoch of which the copy knows nothing. The copy must
/// not write into that partition.
#[test]
fn spool_restored_from_a_backup_older_than_a_restart() {
    let broker = one_broker();
    let life = Life::at(&broker, "older-backup");
    broker.lose_answers();
    spool(&life.producer, &life.topic, &FIVE);
    let backup = crash_image(&life.scratch.spool(), "older-copy");
    let (topic, original) = life.die();
    broker.mend();
    let client = reach(&broker);
    recover(&client, &original, &topic);
    assert_eq!(values(&broker.cluster, &topic, 0, 7), ALL);

    let producer = open(&client, &backup.spool());
    let more = spool(&producer, &topic, &["of the copy"]);
    stays(LONG_ENOUGH, || values(&broker.cluster, &topic, 0, 7));
    assert_eq!(more[0].is_delivered(), None);
    assert_eq!(values(&broker.cluster, &topic, 0, 7), ALL);
}

/// The copy was made while nothing was on its way, so nothing in it is in doubt; then the original was opened again, and sent
/// under the epoch that the copy would begin as its own. Its sequences are taken: to the broker the copy's first record would
/// look like a repetition of the original's, and be acknowledged without being written.
#[test]
fn spool_restored_from_a_backup_with_nothing_in_doubt() {
    let broker = one_broker();
    let life = Life::at(&broker, "idle-backup");
    let client = reach(&broker);
    let backup = crash_image(&life.scratch.spool(), "idle-copy");
    let (topic, original) = life.die();
    let producer = open(&client, &original.spool());
    offsets(&spool(&producer, &topic, &["a", "b", "c"]));
    drop(producer);

    let producer = open(&client, &backup.spool());
    let receipts = spool(&producer, &topic, &["x", "y"]);
    std::thread::sleep(LONG_ENOUGH);
    let found = values(&broker.cluster, &topic, 0, 4);
    let told: Vec<_> = receipts.iter().map(|receipt| receipt.try_delivered()).collect();
    println!("{found:?} {told:?}");
    assert_eq!(found[..4], ["first", "a", "b", "c"]);
    match found[4..].iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => assert!(told.iter().all(|told| !matches!(told, Some(Ok(_)))), "acknowledged and not there: {told:?}"),
        ["x", "y"] => {}
        ref other => panic!("{other:?}, {told:?}"),
    }
}

/// Acknowledged records are lost by an unclean election while the process is dead, one of its own is in doubt. The loss is
/// told; what was in doubt is written, and what comes after it.
#[test]
fn unclean_election_loses_acked_records() {
    let cluster = RealCluster::shared_alone().unwrap();
    let topic = topic_of(&cluster, "unclean", 1, 2, &[("min.insync.replicas", "1")]);
    cluster.reassign(&topic, 0, &[1, 2]).unwrap();
    cluster.move_leader(&topic, 0, 1).unwrap();
    let life = Life::begin(client(&cluster), topic);
    offsets(&spool(&life.producer, &life.topic, &["a"]));
    cluster.kill(2).unwrap();
    offsets(&spool(&life.producer, &life.topic, &["lost", "lost too"]));
    cluster.pause(1).unwrap();
    spool(&life.producer, &life.topic, &["b"]);
    let (topic, image) = life.die();
    cluster.kill(1).unwrap();
    cluster.start_broker(2).unwrap();
    until("broker 2 to lead", || {
        cluster.elect_unclean(&topic, 0).map_err(|error| error.to_string()).and_then(|id| expect(id, 2))
    });

    let survivors: Vec<_> = cluster.bootstrap()[1..].to_vec();
    let client = wait(Client::builder(survivors).build()).unwrap();
    recover(&client, &image, &topic);
    assert!(client.metrics().acknowledged_lost > 0, "nobody was told: {:?}", client.metrics());
    let leader = cluster.leader(&topic, 0).unwrap();
    let mut raw = RawClient::connect(cluster.address(leader)).unwrap();
    let found: Vec<_> = raw.fetch(&topic, 0, 0).unwrap().1.iter().map(real_support::value).collect();
    assert_eq!(found, ["first", "a", "b", "next"]);
}

/// A batch of several records is too large for the topic: the record that is too large by itself is kept as dead, its
/// neighbours go through. The next process does not send it again, and holds up nothing because of it.
#[test]
fn message_too_large() {
    let cluster = RealCluster::shared().unwrap();
    let topic = topic(&cluster, "spooled-too-large", 1, &[("max.message.bytes", "10000")]);
    let scratch = Scratch::new("too-large");
    let client = client(&cluster);
    let building =
        client.producer().batch_size(1 << 16).linger(Duration::from_secs(1)).spool_config(config(&scratch.spool()));
    let producer = wait(building.build()).unwrap();
    let texts: Vec<String> = (0..12).map(|n| n.to_string().repeat(if n == 7 { 12_000 } else { 1_000 })).collect();
    let receipts = spool(&producer, &topic, &texts.iter().map(String::as_str).collect::<Vec<_>>());
    for (n, receipt) in receipts.iter().enumerate() {
        match (n, in_time("an outcome", receipt.delivered())) {
            (7, Err(error)) => assert!(matches!(error.cause(), SendCause::RecordRefused), "{error}"),
            (7, Ok(place)) => panic!("stored at {place:?}"),
            (_, outcome) => assert_eq!(outcome.unwrap().offset(), Some(n as i64 - i64::from(n > 7))),
        }
    }
    in_time("the end", producer.close(Duration::from_secs(60))).unwrap();
    drop(producer);
    assert_eq!(left(&scratch.spool()), Left { dead: 1, ..Left::default() });
    let producer = open(&client, &scratch.spool());
    offsets(&spool(&producer, &topic, &["next"]));
    let mut expected: Vec<&str> = texts.iter().map(String::as_str).collect();
    expected.remove(7);
    expected.push("next");
    assert_eq!(values(&cluster, &topic, 0, 12), expected);
}

/// Overflow: nothing touches the disk while brokers answer. They are away for longer than `delivery.timeout.ms`: what
/// would come back as not delivered goes to disk instead, and from there into the topic when they are back, in order.
#[test]
fn overflow_outlives_the_delivery_timeout() {
    let cluster = RealCluster::shared_alone().unwrap();
    let topic = topic(&cluster, "overflow", 1, &[]);
    let scratch = Scratch::new("overflow");
    let client = wait(builder(&cluster).request_timeout(Duration::from_secs(1)).build()).unwrap();
    let mut spill = config(&scratch.spool());
    spill.durability = Durability::Memory;
    let producer = wait(
        client
            .producer()
            .batch_size(0)
            .linger(Duration::ZERO)
            .delivery_timeout(Duration::from_secs(2))
            .spool_config(spill)
            .build(),
    )
    .unwrap();
    let send = |value: &'static str| wait(producer.send(Record::to(&topic).partition(0).value(value))).unwrap();
    offsets(&[send("first")]);
    cluster.kill_all().unwrap();
    let receipts = FIVE.map(send);
    until_spooled(&receipts);
    assert!(receipts.iter().all(|receipt| receipt.is_delivered().is_none()));
    assert_eq!(left(&scratch.spool()).parked + left(&scratch.spool()).ready, 5);
    cluster.start_all().unwrap();
    offsets(&receipts);
    offsets(&[send("next")]);
    assert_eq!(values(&cluster, &topic, 0, 7), ALL);
}
