#![allow(clippy::unwrap_used, reason = "tests")]

use super::ready::SplitOf;
use super::*;
use crate::core::produce::window::Stampable;
use crate::core::spool::{BatchId, Order, Status, StoredBatch, Target};
use crate::error::SendError;
use crate::types::TopicId;
use crate::wire::batch::DecodeLimits;

struct Nothing;
impl Permit for Nothing {}

fn queue(batch_size: usize) -> PartitionQueue {
    let config = BatchConfig {
        batch_size,
        compression: Compression::None,
        level: None,
        delivery_timeout: Some(Duration::from_secs(120)),
    };
    PartitionQueue::new(0, TopicPartition::new("t", 0), Arc::new(config))
}

fn room() -> Option<Room> {
    Some(Room { buffer: BytesMut::new(), permit: Box::new(Nothing), live: None, space: None, unspooled: None })
}

#[test]
fn a_full_batch_is_sealed_and_the_order_is_kept() {
    let (queue, now) = (queue(200), Instant::now());
    for i in 0..10u32 {
        let value = [i as u8; 40];
        let record = Record::to("t").value(&value);
        let mut sealing = None;
        let appended = queue.append(&record, record_size(&record), 0, &mut room(), &mut sealing, || (now, 0));
        assert!(matches!(appended, Append::Done(_)));
        if let Some(sealing) = sealing {
            queue.finish(sealing);
        }
    }
    let mut values = vec![];
    loop {
        match queue.take(now + Duration::from_secs(1), Duration::ZERO) {
            Take::Batch(batch) => {
                assert!(batch.len() <= 200);
                let records = batch.sealed().unwrap().section().records(&DecodeLimits::default()).unwrap();
                let bytes = records.bytes().clone();
                values.extend(records.map(|record| record.unwrap().value(&bytes).unwrap()[0]));
                batch.deliver(None);
            }
            Take::Finish(sealing) => queue.finish(sealing),
            _ => break,
        }
    }
    assert_eq!(values, (0..10).collect::<Vec<u8>>());
}

#[test]
fn the_second_of_two_sealed_batches_waits_for_the_first() {
    let (queue, now) = (queue(100), Instant::now());
    let record = Record::to("t").value("a value of some forty bytes, more or less");
    let mut sealings = vec![];
    for _ in 0..3 {
        let mut sealing = None;
        queue.append(&record, record_size(&record), 0, &mut room(), &mut sealing, || (now, 0));
        sealings.extend(sealing);
    }
    let first = sealings.remove(0);
    queue.finish(sealings.remove(0));
    assert!(matches!(queue.take(now, Duration::ZERO), Take::Nothing));
    queue.finish(first);
    assert!(matches!(queue.take(now, Duration::ZERO), Take::Batch(_)));
}

struct Counted;
impl Permit for Counted {}

/// A finished batch of `values`, with what counts its memory and its life.
fn ready(partition: i32, compression: Compression, records: &[Record<'_>]) -> (ReadyBatch, Arc<Counted>, Arc<Counted>) {
    struct Memory(#[allow(dead_code, reason = "its drop counts")] Arc<Counted>);
    impl Permit for Memory {}
    let (memory, live) = (Arc::new(Counted), Arc::new(Counted));
    let config = BatchConfig { batch_size: 1 << 20, compression, level: None, delivery_timeout: None };
    let queue = PartitionQueue::new(0, TopicPartition::new("t", partition), Arc::new(config));
    let mut room = Some(Room {
        buffer: BytesMut::new(),
        permit: Box::new(Memory(memory.clone())),
        live: Some(live.clone()),
        space: Some(Box::new(Nothing)),
        unspooled: None,
    });
    for record in records {
        let at = record.timestamp.unwrap_or(5);
        let appended = queue.append(record, record_size(record), at, &mut room, &mut None, || (Instant::now(), 77));
        assert!(matches!(appended, Append::Done(_)));
    }
    let (sealing, slots) = queue.seal();
    assert_eq!((slots, queue.take_sealed().is_none()), (1, true), "not finished");
    queue.finish(sealing.unwrap());
    (queue.take_sealed().unwrap(), memory, live)
}

fn stored(order: Order) -> Stored {
    let durable = Arc::new(AtomicBool::new(true));
    Stored { id: BatchId(9), order, topic_id: TopicId::NONE, stamp: None, durable }
}

fn values(batch: &ReadyBatch) -> Vec<String> {
    let records = batch.sealed().unwrap().section().records(&DecodeLimits::default()).unwrap();
    let bytes = records.bytes().clone();
    records.map(|record| String::from_utf8(record.unwrap().value(&bytes).unwrap().to_vec()).unwrap()).collect()
}

fn of(values: &[&'static str]) -> Vec<Record<'static>> {
    values.iter().map(|value| Record::to("t").value(*value)).collect()
}

#[test]
fn halves_of_a_stored_batch_name_it_and_share_its_place_and_bounds() {
    let (mut batch, memory, live) = ready(0, Compression::None, &of(&["a", "b", "c"]));
    batch.stored = Some(Box::new(stored(Order::nth(3))));
    batch.cell().set_spooled();
    let deadline = batch.deadline();
    let parts = batch.split().unwrap();
    let places = Order::nth(3).halves().unwrap();
    for (part, order) in parts.iter().zip(places) {
        assert_eq!(part.split_of, Some(SplitOf { parent: BatchId(9), order }));
        assert_eq!((part.order, part.stored.is_none(), part.accepted_at), (Some(order), true, 77));
        assert!(part.cell().is_spooled() && part.deadline() == deadline);
    }
    assert_eq!((values(&parts[0]), values(&parts[1])), (vec!["a".to_owned()], vec!["b".to_owned(), "c".to_owned()]));
    let [first, mut second] = parts;
    first.deliver(Some(4));
    assert_eq!((Arc::strong_count(&memory), Arc::strong_count(&live)), (2, 2));
    // Parked: flushes wait no longer, though it has its memory still.
    second.release_live();
    assert_eq!((Arc::strong_count(&memory), Arc::strong_count(&live)), (2, 1));
    drop(second);
    assert_eq!(Arc::strong_count(&memory), 1);
}

#[test]
fn a_batch_without_a_place_to_halve_or_without_bytes_is_not_split() {
    let (mut batch, ..) = ready(0, Compression::None, &of(&["a", "b"]));
    batch.stored = Some(Box::new(stored(Order { rank: 7, span: 1 })));
    let mut batch = batch.split().unwrap_err();
    batch.stored = Some(Box::new(stored(Order::nth(0))));
    batch.unload();
    assert!(batch.split().is_err());
    let (batch, ..) = ready(0, Compression::None, &of(&["a", "b"]));
    let parts = batch.split().unwrap();
    assert!(parts.iter().all(|part| part.split_of.is_none() && part.order.is_none()));
}

#[test]
fn an_unloaded_batch_gives_its_memory_back_and_is_the_same_when_loaded() {
    let (mut batch, memory, live) =
        ready(0, Compression::Lz4, &of(&["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "b"]));
    let known = |batch: &ReadyBatch| (batch.len(), batch.count(), batch.newest_timestamp());
    let (before, sealed) = (known(&batch), batch.sealed().unwrap().clone());
    assert_eq!(batch.len(), sealed.section().batch_len());
    batch.unload();
    assert!(batch.is_loaded(), "the spool does not have it");
    batch.stored = Some(Box::new(stored(Order::nth(0))));
    batch.unload();
    assert_eq!((known(&batch), batch.is_loaded(), batch.sealed().is_none()), (before, false, true));
    assert_eq!((Arc::strong_count(&memory), Arc::strong_count(&live)), (1, 2));
    batch.load(sealed.clone(), None);
    assert_eq!((known(&batch), batch.sealed()), (before, Some(&sealed)));
    batch.cell().set_spooled();
    let cell = batch.cell().clone();
    drop(batch);
    assert!(matches!(cell.get(1), Some(Err(SendError::Spooled(_)))));
    assert_eq!(Arc::strong_count(&live), 1);
}

#[test]
fn what_is_dropped_or_kept_says_what_became_of_it() {
    let outcome = |end: fn(ReadyBatch)| {
        let (mut batch, ..) = ready(3, Compression::None, &of(&["a"]));
        let cell = batch.cell().clone();
        batch.stored = Some(Box::new(Stored { durable: Arc::default(), ..stored(Order::nth(0)) }));
        end(batch);
        cell.get(0).unwrap().unwrap_err()
    };
    let dropped = outcome(drop);
    assert!(matches!((&dropped, dropped.cause()), (SendError::MaybeDelivered(_), SendCause::Closed)));
    let kept = outcome(|batch| batch.keep(SendCause::Refused, Some(Arc::from("why"))));
    assert!(matches!((&kept, kept.cause(), kept.last()), (SendError::Spooled(_), SendCause::Refused, Some("why"))));
    assert_eq!(kept.record().value.as_deref(), Some(&b"a"[..]));
    let unloaded = outcome(|mut batch| {
        batch.unload();
        batch.fail(true, SendCause::CannotTell, None);
    });
    assert!(unloaded.may_be_delivered());
    let record = unloaded.record();
    assert_eq!((&*record.topic, record.partition, &record.value), ("t", Some(3), &None));
}

#[test]
fn a_recovered_batch_is_on_disk_and_durable() {
    let partition = TopicPartition::new("t", 4);
    let found = StoredBatch {
        id: BatchId(5),
        order: Order::nth(2),
        target: Target::Partition(partition.clone()),
        topic_id: TopicId::NONE,
        accepted_at: 123,
        count: 7,
        max_timestamp: 99,
        len: 1000,
        stamp: None,
        status: Status::Ready,
    };
    let now = Instant::now();
    let batch = ReadyBatch::recovered(found.clone(), never(now));
    assert_eq!((batch.len(), batch.count(), batch.newest_timestamp()), (HEADER_LEN + 1000, 7, 99));
    assert_eq!((batch.accepted_at, batch.is_loaded(), batch.cell().partition()), (123, false, &partition));
    assert!(batch.deadline() > now + Duration::from_secs(1 << 29));
    assert!(batch.cell().is_spooled() && batch.stored.as_deref().is_some_and(Stored::is_durable));
    let target = Target::Unpartitioned { topic: Arc::from("u"), chosen: vec![1, -1] };
    let batch = ReadyBatch::recovered(StoredBatch { target, ..found }, now);
    assert_eq!(*batch.cell().partition(), TopicPartition::new("u", UNPARTITIONED));
    assert_eq!(batch.chosen.as_deref(), Some(&[1, -1][..]));
}

#[test]
fn a_batch_without_a_partition_is_taken_apart() {
    let long = "long enough for a codec to gain something, something, something";
    let records = [
        Record::to("t").key("1").value(long).timestamp(10).header("h", Some(b"x")),
        Record::to("t").partition(2).value("chosen").timestamp(11),
        Record::to("t").partition(9).value("nowhere").timestamp(12),
        Record::to("t").key("1").value(long).timestamp(13).header("h", None),
        Record::to("t").value("free").timestamp(14),
    ];
    let (mut batch, memory, live) = ready(UNPARTITIONED, Compression::Lz4, &records);
    assert_eq!(batch.sealed().unwrap().section().compression, Compression::None, "it is opened again");
    assert_eq!(batch.chosen.as_deref(), Some(&[-1, 2, 9, -1, -1][..]));
    batch.stored = Some(Box::new(stored(Order::nth(4))));
    batch.cell().set_spooled();
    let config =
        BatchConfig { batch_size: 1 << 20, compression: Compression::Lz4, level: None, delivery_timeout: None };
    let partition_of = |chosen: i32, key: Option<&[u8]>, _: Option<&[u8]>| match (chosen, key) {
        (9, _) => Err((9, SendCause::Refused)),
        (-1, Some(_)) => Ok(1),
        (-1, None) => Ok(2),
        (chosen, _) => Ok(chosen),
    };
    let Scattered { parts, mut refused, places } = batch.scatter(&config, partition_of).unwrap();
    let whole = batch.cell().clone();
    batch.resolve_scattered(places);
    let places: Vec<_> = parts.iter().map(|part| part.cell().partition().partition).collect();
    assert_eq!(
        (places, values(&parts[0]), values(&parts[1])),
        (vec![1, 2], vec![long.to_owned(), long.to_owned()], vec!["chosen".to_owned(), "free".to_owned()])
    );
    let section = parts[0].sealed().unwrap().section();
    assert_eq!((section.compression, section.base_timestamp, section.max_timestamp), (Compression::Lz4, 10, 13));
    for part in parts.iter().chain(refused.iter().map(|(part, _)| part)) {
        assert_eq!((part.order, part.accepted_at, part.stored.is_none()), (Some(Order::nth(4)), 77, true));
        assert!(part.cell().is_spooled() && part.chosen.is_none());
    }
    let (dead, cause) = refused.pop().unwrap();
    dead.fail(false, cause, None);
    let nowhere = whole.get(2).unwrap().unwrap_err();
    assert_eq!((nowhere.record().value.as_deref(), nowhere.record().partition), (Some(&b"nowhere"[..]), Some(9)));
    let [first, second] = <[ReadyBatch; 2]>::try_from(parts).unwrap();
    first.deliver(Some(50));
    assert!(matches!(whole.get(3), Some(Ok(place)) if place.offset() == Some(51) && place.partition() == 1));
    assert_eq!((Arc::strong_count(&memory), Arc::strong_count(&live)), (2, 2));
    second.fail(false, SendCause::Refused, None);
    let failed = whole.get(4).unwrap().unwrap_err();
    assert_eq!(failed.record().timestamp, Some(14));
    let first = whole.get(0).unwrap().unwrap();
    assert_eq!(first.offset(), Some(50));
    assert_eq!((Arc::strong_count(&memory), Arc::strong_count(&live)), (1, 1));
}

#[test]
fn an_unpartitioned_record_comes_back_with_the_partition_chosen() {
    let records = [Record::to("t").value("a"), Record::to("t").partition(4).value("b")];
    let (batch, ..) = ready(UNPARTITIONED, Compression::None, &records);
    let cell = batch.cell().clone();
    batch.fail(false, SendCause::Closed, None);
    let partitions = [0, 1].map(|i| cell.get(i).unwrap().unwrap_err().record().partition);
    assert_eq!(partitions, [None, Some(4)]);
}

#[test]
fn only_a_cut_takes_what_has_positions() {
    let (queue, now) = (queue(1 << 20), Instant::now());
    let later = now + Duration::from_secs(1);
    let append = |record: Record<'_>| {
        queue.append(&record, record_size(&record), 0, &mut room(), &mut None, || (now, 0));
    };
    append(Record::to("t").value("a").position("s", 1));
    assert_eq!(queue.due_at(now, Duration::from_secs(9)), Some(now + Duration::from_secs(9)));
    assert!(matches!(queue.take(now, Duration::from_secs(9)), Take::Due(_)));
    assert!(matches!(queue.take(later, Duration::ZERO), Take::Cut), "the open batch is due");
    let (sealing, slots) = queue.seal();
    assert_eq!(slots, 1);
    assert!(matches!(queue.take(later, Duration::ZERO), Take::Cut));
    queue.finish(sealing.unwrap());
    assert!(matches!(queue.take(later, Duration::ZERO), Take::Cut));
    assert_eq!(queue.due_at(later, Duration::from_secs(9)), Some(later));
    assert!(queue.take_sealed().is_some() && queue.is_empty());
    append(Record::to("t").value("b"));
    assert!(matches!(queue.take(later, Duration::ZERO), Take::Finish(_)));
}
