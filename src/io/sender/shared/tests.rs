#![allow(clippy::unwrap_used, reason = "tests")]

use super::cut::Cut;
use super::*;
use crate::config::{ClientConfig, Durability, SpoolConfig};
use crate::core::produce::accumulator::{ReadyBatch, Scattered, Take};
use crate::core::produce::partitioner::DefaultPartitioner;
use crate::core::produce::window::Stampable;
use crate::error::SendError;
use crate::io::test_support::block_on;
use crate::io::thread::IoThread;
use crate::producer::Producer;
use crate::types::Compression;
use crate::wire::batch::DecodeLimits;
use proto_tests::fake::FakeCluster;
use std::collections::BTreeSet;

/// A port that nobody listens on.
fn nowhere() -> Vec<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    vec![listener.local_addr().unwrap().to_string()]
}

/// Without a sender, and with the settings of a spool, but not the spool itself.
fn shared(
    bootstrap: Vec<String>,
    durability: Option<Durability>,
    change: impl FnOnce(&mut ProducerConfig),
) -> Arc<Shared> {
    let client = ClientConfig {
        bootstrap_servers: bootstrap,
        retry_backoff: Duration::from_millis(5),
        retry_backoff_max: Duration::from_millis(20),
        reconnect_backoff: Duration::from_millis(5),
        reconnect_backoff_max: Duration::from_millis(20),
        ..ClientConfig::default()
    };
    let spool = durability.map(|durability| SpoolConfig { durability, ..SpoolConfig::new("/spool") });
    let mut config = ProducerConfig { spool, linger: Duration::from_secs(60), ..ProducerConfig::default() };
    change(&mut config);
    let cluster = Cluster::start(client, Default::default(), &IoThread::start("test-io").unwrap());
    Arc::new(Shared::new(config, Box::new(DefaultPartitioner), cluster, None))
}

fn write_ahead() -> Arc<Shared> {
    shared(nowhere(), Some(Durability::PowerLoss), |_| {})
}

/// Appends, and waits for memory by trying again.
fn put(shared: &Shared, record: &Record<'_>) {
    loop {
        match shared.append(record, &mut None) {
            Ok(_) => return,
            Err(Wait::Memory { .. }) => std::thread::yield_now(),
            Err(Wait::Refused(cause)) => panic!("{cause}"),
            Err(_) => panic!("the topic is not known"),
        }
    }
}

fn refusal(shared: &Shared, record: Record<'_>) -> SendCause {
    match shared.append(&record, &mut None) {
        Err(Wait::Refused(cause)) => cause,
        _ => panic!("not refused"),
    }
}

fn values(batch: &ReadyBatch) -> Vec<String> {
    let records = batch.sealed().unwrap().section().records(&DecodeLimits::default()).unwrap();
    let bytes = records.bytes().clone();
    records.map(|record| String::from_utf8(record.unwrap().value(&bytes).unwrap().to_vec()).unwrap()).collect()
}

/// Exactly the batches of a cut, waited for where they are still being compressed.
fn take(cut: &Cut) -> Vec<ReadyBatch> {
    let mut batches = Vec::new();
    for (queue, sealed) in &cut.queues {
        for _ in 0..*sealed {
            batches.push(loop {
                match queue.take_sealed() {
                    Some(batch) => break batch,
                    None => std::thread::yield_now(),
                }
            });
        }
    }
    batches
}

#[test]
fn cuts_are_prefixes_of_every_source_while_others_send() {
    const SOURCES: u64 = 3;
    const RECORDS: u64 = 5000;
    let shared = shared(nowhere(), Some(Durability::ProcessCrash), |config| {
        config.batch_size = 400;
        config.compression = Compression::Lz4;
    });
    shared.add_partitions(&Arc::from("t"), 7);
    let mut taken = Vec::new();
    std::thread::scope(|scope| {
        let send = |source: u64| {
            let shared = &shared;
            move || {
                let name = source.to_string();
                for position in 1..=RECORDS {
                    let value = format!("{source} {position}");
                    let partition = (position * 5 + source) % 7;
                    put(shared, &Record::to("t").value(&value).partition(partition as i32).position(&name, position));
                }
            }
        };
        let senders: Vec<_> = (0..SOURCES).map(|source| scope.spawn(send(source))).collect();
        // Looked at afterwards: so the cuts come while the others send.
        while !senders.iter().all(|sender| sender.is_finished()) {
            let cut = shared.cut();
            taken.push((take(&cut), cut.positions));
        }
    });
    let last_cut = shared.cut();
    taken.push((take(&last_cut), last_cut.positions));
    assert!(taken.len() > 5, "only {} cuts", taken.len());

    let mut positions = vec![BTreeSet::new(); SOURCES as usize];
    let mut last = vec![0; SOURCES as usize];
    for (batches, grown) in taken {
        for batch in &batches {
            for value in values(batch) {
                let (source, position) = value.split_once(' ').unwrap();
                let fresh = positions[source.parse::<usize>().unwrap()].insert(position.parse::<u64>().unwrap());
                assert!(fresh, "{value} twice");
            }
        }
        for (name, position) in grown {
            let last = &mut last[name.parse::<usize>().unwrap()];
            assert!(position > *last, "told once");
            *last = position;
        }
        for (positions, last) in positions.iter().zip(&last) {
            assert_eq!((positions.len() as u64, positions.last().copied().unwrap_or(0)), (*last, *last));
        }
    }
    assert_eq!(last, [RECORDS; SOURCES as usize]);
    assert!(shared.uses_cuts());
    let cut = shared.cut();
    assert!(cut.queues.is_empty() && cut.positions.is_empty());
}

#[test]
fn positions_grow_and_need_a_write_ahead() {
    let record = |position| Record::to("t").value("v").position("file:x", position);
    for durability in [None, Some(Durability::Memory)] {
        let shared = shared(nowhere(), durability, |_| {});
        shared.add_partitions(&Arc::from("t"), 1);
        assert!(matches!(refusal(&shared, record(1)), SendCause::NeedsSpool(_)));
        assert!(!shared.uses_cuts());
    }
    let shared = write_ahead();
    shared.add_partitions(&Arc::from("t"), 1);
    put(&shared, &Record::to("t").value("v"));
    assert!(!shared.uses_cuts());
    put(&shared, &record(7));
    let cause = refusal(&shared, record(7));
    assert!(matches!(cause, SendCause::PositionNotGrowing { position: 7, last: 7, .. }), "{cause}");
    // What does not get in does not count.
    assert!(matches!(refusal(&shared, record(9).partition(5)), SendCause::NoSuchPartition { .. }));
    put(&shared, &record(8));
    assert_eq!(shared.cut().positions, [(Arc::from("file:x"), 8)]);
    assert_eq!(shared.cut().positions, []);
}

#[test]
fn without_any_broker_records_are_accepted_and_partitioned_later() {
    let shared = write_ahead();
    let producer = Producer::new(shared.clone());
    let first = block_on(producer.send(Record::to("t").key("1").value("a"))).unwrap();
    assert!(shared.cluster.thread().now() >= shared.since + Duration::from_millis(500), "a broker had its chance");
    let started = shared.cluster.thread().now();
    // From here on nobody waits: neither for this topic nor for another.
    let second = block_on(producer.send(Record::to("t").partition(1).value("b"))).unwrap();
    let third = producer.try_send(Record::to("t").partition(8).value("c")).unwrap();
    let _other = block_on(producer.send(Record::to("u").value("d"))).unwrap();
    let _another = producer.try_send(Record::to("v").value("e")).unwrap();
    assert!(shared.cluster.thread().now() < started + Duration::from_millis(400));
    for refused in [block_on(producer.send(Record::to("no/name"))), producer.try_send(Record::to("no/name"))] {
        let error = refused.unwrap_err();
        assert!(matches!(error.cause(), SendCause::Metadata(MetadataError::InvalidTopicName { .. })), "{error}");
    }
    let error = producer.try_send(Record::to("t").partition(-3)).unwrap_err();
    assert!(matches!(error.cause(), SendCause::NoSuchPartition { partition: -3, .. }), "{error}");

    let queue = shared.unpartitioned("t").unwrap();
    assert!(shared.is_undivided("t") && !shared.is_undivided("other"));
    assert!(!shared.drained("t"), "its partitions are not known");
    let mut signals = Vec::new();
    shared.take_signals(&mut signals);
    queue.looked();
    signals.clear();
    shared.add_partitions(&Arc::from("t"), 2);
    shared.take_signals(&mut signals);
    assert!(signals.iter().any(|signalled| Arc::ptr_eq(signalled, &queue)), "the sender learns it");
    let _newer = producer.try_send(Record::to("t").key("1").value("f")).unwrap();
    assert!(!shared.drained("t"), "there is a batch");
    let batch = queue.take_sealed().unwrap();
    assert_eq!((values(&batch), queue.is_empty()), (vec!["a".to_owned(), "b".to_owned(), "c".to_owned()], true));
    let Scattered { parts, refused, places } = shared.scatter(&batch, 2).unwrap();
    batch.resolve_scattered(places);
    assert!(shared.drained("t") && shared.unpartitioned("t").is_none() && !shared.is_undivided("t"));
    for (batch, cause) in refused {
        batch.fail(false, cause, None);
    }
    for batch in parts {
        batch.deliver(Some(10));
    }
    let places = [first, second].map(|receipt| receipt.try_delivered().unwrap().unwrap().partition());
    let keyed = murmur(b"1", 2);
    assert_eq!(places, [keyed, 1]);
    let error = third.try_delivered().unwrap().unwrap_err();
    assert!(matches!(error, SendError::NotDelivered(_)), "{error}");
    let cause = error.cause();
    assert!(matches!(cause, SendCause::NoSuchPartition { partition: 8, partitions: 2, .. }), "{cause}");
}

fn murmur(key: &[u8], partitions: i32) -> i32 {
    DefaultPartitioner.partition("t", Some(key), None, partitions).unwrap()
}

#[test]
fn no_record_of_an_unpartitioned_topic_is_lost_or_late_while_the_partitions_come() {
    for _ in 0..20 {
        let shared = write_ahead();
        let unpartitioned = shared.unpartitioned_queue(&Arc::from("t"));
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| {
                for i in 0..400 {
                    put(&shared, &Record::to("t").partition(0).value(&i.to_string()));
                }
            });
            std::thread::sleep(Duration::from_micros(200));
            shared.add_partitions(&Arc::from("t"), 1);
            sending.join().unwrap();
        });
        let partition = shared.queues_from(0)[1].clone();
        let mut all = Vec::new();
        for queue in [unpartitioned, partition] {
            let sealing = queue.seal().0;
            if let Some(sealing) = sealing {
                assert!(!queue.is_unpartitioned(), "it was sealed with the coming of the partitions");
                queue.finish(sealing);
            }
            while let Some(batch) = queue.take_sealed() {
                all.extend(values(&batch));
            }
        }
        assert_eq!(all, (0..400).map(|i| i.to_string()).collect::<Vec<_>>());
    }
}

#[test]
fn brokers_that_do_not_know_the_topic_are_believed() {
    let fake = FakeCluster::start(1);
    let shared = shared(fake.bootstrap(), Some(Durability::PowerLoss), |config| {
        config.max_block = Duration::from_millis(900);
    });
    let producer = Producer::new(shared.clone());
    let started = shared.cluster.thread().now();
    let error = block_on(producer.send(Record::to("missing").value("a"))).unwrap_err();
    assert!(matches!(error.cause(), SendCause::Metadata(MetadataError::UnknownTopic { .. })), "{error}");
    assert!(shared.cluster.thread().now() >= started + Duration::from_millis(700), "as long as without a spool");
    assert!(shared.unpartitioned("missing").is_none());
    let error = producer.try_send(Record::to("other").value("a")).unwrap_err();
    assert!(matches!(error.cause(), SendCause::NotYetKnown(_)), "{error}");
    fake.create_topic("there", 3);
    let _there = block_on(producer.send(Record::to("there").value("a"))).unwrap();
    assert!(shared.unpartitioned("there").is_none());
    fake.kill_all();
    // The brokers were heard, but not in time for this one.
    let _accepted = block_on(producer.send(Record::to("new").value("a"))).unwrap();
    assert!(shared.unpartitioned("new").is_some());
}

#[test]
fn an_unpartitioned_topic_is_asked_for_until_it_is_known() {
    let fake = FakeCluster::start(1);
    fake.kill_all();
    let shared = shared(fake.bootstrap(), Some(Durability::PowerLoss), |_| {});
    let queue = shared.unpartitioned_queue(&Arc::from("t"));
    put(&shared, &Record::to("t").value("a"));
    fake.restart_all();
    std::thread::sleep(Duration::from_millis(50));
    fake.create_topic("t", 2);
    let started = shared.cluster.thread().now();
    while queue.take_sealed().is_none() {
        assert!(shared.cluster.thread().now() < started + Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(shared.queues_from(0).len(), 3);
    // What the spool remembers needs no broker.
    shared.with_known_topics(&BTreeMap::from([(Arc::from("u"), (crate::types::TopicId::NONE, 2))]));
    put(&shared, &Record::to("u").partition(1).value("b"));
}

#[test]
fn flushes_wait_for_the_spool_or_for_the_settled() {
    let shared = write_ahead();
    shared.add_partitions(&Arc::from("t"), 2);
    for partition in [0, 1] {
        put(&shared, &Record::to("t").partition(partition).value("a"));
    }
    block_on(async {
        let (spooled, settled) = (shared.flush_to_spool(), shared.flush());
        let (mut spooled, mut settled) = (Box::pin(spooled), Box::pin(settled));
        let soon = Duration::from_millis(5);
        assert!(tokio::time::timeout(soon, &mut spooled).await.is_err());
        assert!(tokio::time::timeout(soon, &mut settled).await.is_err());
        assert!(shared.is_spooling_awaited());
        let mut batches = Vec::new();
        for queue in shared.queues_from(0) {
            let Take::Finish(sealing) = queue.take(shared.cluster.thread().now(), Duration::MAX / 4) else { panic!() };
            queue.finish(sealing);
            batches.extend(queue.take_sealed());
        }
        // What comes later is not waited for.
        put(&shared, &Record::to("t").partition(0).value("b"));
        let [mut first, second] = <[ReadyBatch; 2]>::try_from(batches).unwrap();
        first.cell().set_spooled();
        assert!(tokio::time::timeout(soon, &mut spooled).await.is_err());
        assert!(tokio::time::timeout(soon, &mut settled).await.is_err());
        second.fail(false, SendCause::Refused, None);
        assert!(matches!(spooled.await, Err(SendCause::Refused)), "it did not get there");
        assert!(!shared.is_spooling_awaited());
        assert!(tokio::time::timeout(soon, &mut settled).await.is_err());
        first.release_live();
        settled.await;
        assert_eq!((shared.budget.live(), shared.budget.unspooled(), first.count()), (1, 1, 1));
    });
    let plain = self::shared(nowhere(), None, |_| {});
    assert!(matches!(block_on(plain.flush_to_spool()), Err(SendCause::NeedsSpool(_))));
}

#[test]
fn closing_waits_for_the_spool_and_says_what_is_not_in_it() {
    for written in [true, false] {
        let shared = write_ahead();
        shared.add_partitions(&Arc::from("t"), 1);
        put(&shared, &Record::to("t").value("a"));
        let queue = shared.queues_from(0)[0].clone();
        let closing = std::thread::spawn({
            let shared = shared.clone();
            move || block_on(shared.close(Duration::from_millis(50)))
        });
        let batch = loop {
            match queue.take(shared.cluster.thread().now(), Duration::from_secs(60)) {
                Take::Finish(sealing) => queue.finish(sealing),
                Take::Batch(batch) => break batch,
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        std::thread::sleep(Duration::from_millis(200));
        assert!(!shared.is_stopping(), "longer than the timeout, for the spool");
        assert!(matches!(refusal(&shared, Record::to("t")), SendCause::Closed));
        if written {
            batch.cell().set_spooled();
        } else {
            // As the sender's end would, when the disk never took it.
            shared.budget.close();
            shared.stop();
        }
        if written {
            while !shared.is_stopping() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        shared.set_ended(usize::from(!written));
        let cell = batch.cell().clone();
        if written {
            batch.keep(SendCause::Closed, None);
            assert!(matches!(cell.get(0), Some(Err(SendError::Spooled(_)))));
        } else {
            batch.fail(false, SendCause::Closed, None);
        }
        assert_eq!(closing.join().unwrap().is_ok(), written);
    }
}

#[test]
fn who_waits_for_memory_urges_the_sender() {
    let shared = shared(nowhere(), Some(Durability::PowerLoss), |config| {
        config.buffer_memory = 20 << 10;
        config.max_block = Duration::from_millis(100);
        config.max_request_size = 16 << 10;
    });
    shared.add_partitions(&Arc::from("t"), 2);
    put(&shared, &Record::to("t").partition(0).value("a"));
    assert!(!shared.take_urged());
    let producer = Producer::new(shared.clone());
    let error = producer.try_send(Record::to("t").partition(1).value("b")).unwrap_err();
    assert!(matches!(error.cause(), SendCause::BufferFull { .. }), "{error}");
    assert!(shared.take_urged() && !shared.take_urged());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| block_on(producer.send(Record::to("t").partition(1).value("b"))));
        while !shared.take_urged() {
            std::thread::yield_now();
        }
        assert!(shared.take_urged(), "as long as somebody waits");
        let error = waiting.join().unwrap().unwrap_err();
        assert!(matches!(error.cause(), SendCause::BufferFull { .. }), "{error}");
    });
    assert!(!shared.take_urged());
}
