//! Seeded chaos: several threads send numbered records through small batches while brokers die, leaders move and answers
//! go wrong. At the end the log itself is asked whether every promise was kept.
//!
//! `INDELIBLE_SEED` replays one seed, `INDELIBLE_TEST_SCALE` multiplies the rounds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a scenario may fail loudly")]
#![allow(clippy::disallowed_methods, reason = "a test may look at the clock")]

mod producer_support;

use indelible::types::Compression;
use indelible::{Producer, Receipt, Record, SendCause, SendError};
use producer_support::*;
use proto_tests::fake::{FakeCluster, Fault, FaultAction, TopicConfig};
use proto_tests::real::scaled;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const TOPICS: [&str; 2] = ["t", "u"];
const PARTITIONS: i32 = 3;
const SENDERS: usize = 3;
/// Batches above it are refused; some records are larger.
const MAX_MESSAGE: usize = 2000;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize].clone()
    }
}

/// How the producer is set for a run.
#[derive(Clone, Copy, Debug)]
struct Mode {
    compression: Compression,
    /// None: nothing is ever given up.
    delivery_timeout: Option<Duration>,
    retries: Option<u32>,
}

#[test]
fn nothing_is_given_up_and_everything_arrives() {
    run(1, Mode { compression: Compression::None, delivery_timeout: None, retries: None });
}

#[test]
fn compressed_batches_arrive_too() {
    run(2, Mode { compression: Compression::Lz4, delivery_timeout: None, retries: None });
}

#[test]
fn what_is_given_up_in_time_is_told_truthfully() {
    let delivery_timeout = Some(Duration::from_millis(250));
    run(3, Mode { compression: Compression::None, delivery_timeout, retries: None });
}

#[test]
fn what_is_given_up_by_count_is_told_truthfully() {
    run(4, Mode { compression: Compression::Zstd, delivery_timeout: None, retries: Some(1) });
}

fn run(salt: u64, mode: Mode) {
    let given = std::env::var("INDELIBLE_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let seeds = if given.is_some() { 1 } else { scaled(3) };
    for round in 0..seeds {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = given.unwrap_or(Random(now ^ salt << 32 ^ u64::from(round) << 40).below(u64::MAX));
        println!("{mode:?}: INDELIBLE_SEED={seed}");
        one(&mut Random(seed), mode);
    }
}

/// What a sender did: value, topic, partition, receipt.
type Sent = Vec<(String, &'static str, i32, Receipt)>;

fn one(random: &mut Random, mode: Mode) {
    let cluster = FakeCluster::start(3);
    for topic in TOPICS {
        let config = TopicConfig { max_message_bytes: MAX_MESSAGE, min_insync: Some(2), ..TopicConfig::default() };
        cluster.create_topic_with(topic, PARTITIONS, config);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = runtime.block_on(client(&cluster));
    let mut builder = client.producer().linger(Duration::from_millis(1)).batch_size(400).compression(mode.compression);
    if let Some(timeout) = mode.delivery_timeout {
        builder = builder.delivery_timeout(timeout);
    }
    if let Some(retries) = mode.retries {
        builder = builder.retries(retries);
    }
    let producer = runtime.block_on(builder.build()).unwrap();
    // The first batches of a producer are the most delicate ones: several wait, and the first is refused.
    cluster.inject(Fault::once(FaultAction::Delay(Duration::from_millis(30))).api(INIT_PRODUCER_ID));
    for partition in 0..PARTITIONS {
        cluster.inject(Fault::once(FaultAction::Error(19)).api(PRODUCE).topic(random.of(&TOPICS)).partition(partition));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| thread(send_until(producer.clone(), sender, Random(random.below(u64::MAX)), stop.clone())))
        .collect();
    for _ in 0..20 {
        disturb(&cluster, random, mode);
        std::thread::sleep(Duration::from_millis(10 + random.below(40)));
    }
    stop.store(true, Ordering::Relaxed);
    heal(&cluster);
    let sent: Vec<Sent> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(15), producer.flush()).await.expect("a flush that ends");
    });
    // The fake may still hold requests of connections that are gone.
    std::thread::sleep(LATE);
    check(&cluster, &sent, mode);
    let metrics = client.metrics();
    assert_eq!(
        (metrics.batches_in_flight, metrics.buffered_bytes, metrics.acknowledged_lost),
        (0, 0, 0),
        "{metrics:?}"
    );
}

/// The longest that a fault holds a request up.
const LATE: Duration = Duration::from_millis(60);

async fn send_until(producer: Producer, sender: usize, mut random: Random, stop: Arc<AtomicBool>) -> Sent {
    let mut sent = Sent::new();
    while !stop.load(Ordering::Relaxed) {
        let (topic, partition) = (random.of(&TOPICS), random.below(PARTITIONS as u64) as i32);
        let mut value = format!("{sender}-{:06}", sent.len());
        if random.below(400) == 0 {
            // Not compressible, too large for the topic.
            value.push(':');
            value.extend((0..2 * MAX_MESSAGE).map(|_| char::from(b'a' + random.below(26) as u8)));
        }
        match producer.send(Record::to(topic).partition(partition).value(&value)).await {
            Ok(receipt) => sent.push((value, topic, partition, receipt)),
            Err(error) => panic!("{error}"),
        }
        if random.below(20) == 0 {
            std::thread::sleep(Duration::from_millis(random.below(4)));
        }
    }
    sent
}

fn disturb(cluster: &FakeCluster, random: &mut Random, mode: Mode) {
    let (topic, partition) = (random.of(&TOPICS), random.below(PARTITIONS as u64) as i32);
    let broker = 1 + random.below(3) as i32;
    match random.below(12) {
        0 => cluster.kill(broker),
        1 | 2 => {
            cluster.restart_all();
            cluster.hold_replication(topic, partition, false);
        }
        3 => {
            let isr = cluster.look(|view| view.isr(topic, partition));
            if isr.contains(&broker) && cluster.look(|view| view.leader(topic, partition)).is_some() {
                cluster.move_leader(topic, partition, broker);
            }
        }
        4 => cluster.hold_replication(topic, partition, true),
        5 => cluster.cut_connections(broker),
        6 => {
            for topic in TOPICS {
                for partition in 0..PARTITIONS {
                    cluster.hold_replication(topic, partition, false);
                }
            }
        }
        _ => {
            let action = match random.below(4) {
                0 => FaultAction::Error(random.of(&[3, 5, 6, 7, 19, 20, 56, -1, 10])),
                1 => FaultAction::ErrorAfterApply(random.of(&[6, 7, 20, 56, -1])),
                // A late request of a batch that was given up and stamped anew can be written twice before the new epoch
                // arrives: nobody can prevent that. So requests are late only where nothing is given up.
                2 if mode.delivery_timeout.is_none() && mode.retries.is_none() => {
                    FaultAction::Delay(Duration::from_millis(random.below(LATE.as_millis() as u64)))
                }
                2 => FaultAction::DelayAnswer(Duration::from_millis(random.below(LATE.as_millis() as u64))),
                _ => random.of(&[
                    FaultAction::DropBeforeApply,
                    FaultAction::DropAfterApply,
                    FaultAction::NoAnswerBefore,
                    FaultAction::NoAnswerAfter,
                    FaultAction::SwallowAnswer,
                    FaultAction::HalfFrame,
                    FaultAction::WrongCorrelationId,
                    FaultAction::SplitEvery(3),
                    FaultAction::Throttle(20),
                    FaultAction::MissingPartition,
                    FaultAction::DuplicatePartition,
                ]),
            };
            let times = 1 + random.below(4) as usize;
            let fault = Fault::once(action).api(PRODUCE).times(times).skip(random.below(3) as usize);
            cluster.inject(match random.below(2) {
                0 => fault.topic(topic).partition(partition),
                _ => fault.broker(broker),
            });
        }
    }
}

fn heal(cluster: &FakeCluster) {
    cluster.clear_faults();
    cluster.restart_all();
    for topic in TOPICS {
        for partition in 0..PARTITIONS {
            cluster.hold_replication(topic, partition, false);
        }
    }
}

/// The log against what the receipts say.
fn check(cluster: &FakeCluster, sent: &[Sent], mode: Mode) {
    let ledger = cluster.ledger();
    assert_eq!(ledger.damage(), Vec::<String>::new());
    // Where each value is.
    let mut places: HashMap<(&str, i32, String), Vec<usize>> = HashMap::new();
    let mut records = 0;
    for topic in TOPICS {
        for partition in 0..PARTITIONS {
            for (offset, value) in ledger.partition_values(topic, partition).into_iter().enumerate() {
                places.entry((topic, partition, value)).or_default().push(offset);
                records += 1;
            }
        }
    }
    let (mut delivered, mut unknown, mut failed, mut found) = (0, 0, 0, 0);
    for sender in sent {
        let mut last: HashMap<(&str, i32), usize> = HashMap::new();
        for (value, topic, partition, receipt) in sender {
            let name = &value[..8];
            let nowhere = Vec::new();
            let at = places.get(&(*topic, *partition, value.clone())).unwrap_or(&nowhere);
            found += at.len();
            match receipt.try_delivered().expect("settled after the flush") {
                Ok(place) => {
                    delivered += 1;
                    assert_eq!(at.len(), 1, "{name} delivered to {place}, but is at {at:?}");
                    assert_eq!((place.topic(), place.partition()), (*topic, *partition));
                    if let Some(offset) = place.offset() {
                        assert_eq!(offset as usize, at[0], "{name} in {topic}-{partition}");
                    }
                    let before = last.insert((*topic, *partition), at[0]);
                    assert!(
                        before.is_none_or(|before| before < at[0]),
                        "{name} overtook another in {topic}-{partition}"
                    );
                }
                Err(SendError::MaybeDelivered(undelivered)) => {
                    unknown += 1;
                    assert!(at.len() <= 1, "{name} is at {at:?}: {undelivered:?}");
                }
                Err(error) => {
                    failed += 1;
                    assert_eq!(*at, Vec::<usize>::new(), "{name} is there: {error}");
                }
            }
            if let Some(Err(error)) = receipt.try_delivered() {
                assert_eq!(error.record().value.as_deref(), Some(value.as_bytes()), "it comes back whole");
                let large = value.len() > MAX_MESSAGE;
                let gives_up = mode.delivery_timeout.is_some() || mode.retries.is_some();
                // A batch that was appended, not acknowledged, and then refused for its size: nobody can confirm it.
                let unconfirmed = matches!(error.cause(), SendCause::Refused) && error.may_be_delivered();
                let refused = matches!(error.cause(), SendCause::RecordRefused) && !error.may_be_delivered();
                assert!(refused || unconfirmed || gives_up || large, "{name}: {error}");
            } else {
                assert!(value.len() <= MAX_MESSAGE, "{name} is too large to be there");
            }
        }
    }
    assert_eq!(found, records, "nothing else is in the log");
    println!("  {delivered} delivered, {unknown} perhaps, {failed} not");
    assert!(delivered > 100, "the chaos was not so bad");
}
