//! Spools written by the engine, looked into and decided about.

use super::*;
use crate::config::{Durability, SpoolConfig};
use crate::core::spool::{BatchId, Group, NewBatch, Noted, Op, Order, Outcome, Stamp, Status, Target};
use crate::error::SpoolError;
use crate::io::spool::Spool;
use crate::types::{ProducerIdentity, TopicId, TopicPartition};
use crate::wire::batch::{RecordsBuilder, SealedBatch};
use bytes::BytesMut;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

/// A directory that is gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("indelible-look-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const WHO: ProducerIdentity = ProducerIdentity { id: 7, epoch: 2 };

fn open(path: &Path) -> Spool {
    let config = SpoolConfig { durability: Durability::ProcessCrash, ..SpoolConfig::new(path) };
    Spool::open(&config).unwrap().0
}

fn write(spool: &Spool, ops: Vec<Op>) {
    let (durable, is_durable) = mpsc::channel();
    spool.write(Group { ops }, Box::new(move || durable.send(()).unwrap()));
    is_durable.recv().unwrap();
}

fn close(spool: Spool) {
    change::block_on(spool.close());
}

fn sealed(values: &[&str]) -> SealedBatch {
    let mut records = RecordsBuilder::new(BytesMut::new());
    for value in values {
        let headers: &[(&str, Option<&[u8]>)] = &[("h", Some(b"1")), ("none", None)];
        records.push(1000, Some(b"k"), Some(value.as_bytes()), headers).unwrap();
    }
    SealedBatch::new(records.finish())
}

fn batch(id: u64, target: Target, values: &[&str]) -> Op {
    Op::Batch(NewBatch {
        id: BatchId(id),
        order: Order::nth(id),
        target,
        topic_id: TopicId([1; 16]),
        accepted_at: 5000 + id as i64,
        sealed: sealed(values),
    })
}

fn place(partition: i32) -> Target {
    Target::Partition(TopicPartition::new("t", partition))
}

fn stamp(id: u64, base_sequence: i32) -> Op {
    Op::Stamp { batch: BatchId(id), stamp: Stamp { identity: WHO, base_sequence, noted: None } }
}

fn outcome(id: u64, outcome: Outcome) -> Op {
    Op::Outcome { batch: BatchId(id), outcome }
}

/// Six batches: ready, stamped, parked, parked as unknown, dead, and one without a partition.
fn fill(path: &Path) {
    let spool = open(path);
    write(&spool, vec![Op::Cluster("c1".into()), Op::Topic { name: "t".into(), id: TopicId([1; 16]), partitions: 2 }]);
    write(&spool, vec![batch(1, place(0), &["a", "b"]), stamp(1, 10)]);
    write(&spool, vec![batch(2, place(0), &["c"]), Op::Position { source: "s".into(), position: 44 }]);
    let reason: Arc<str> = "away".into();
    write(
        &spool,
        vec![batch(3, place(1), &["d"]), outcome(3, Outcome::Parked { unknown: false, reason: reason.clone() })],
    );
    write(
        &spool,
        vec![batch(4, place(1), &["e"]), outcome(4, Outcome::Parked { unknown: true, reason: reason.clone() })],
    );
    write(&spool, vec![batch(5, place(1), &["f"]), outcome(5, Outcome::Dead { unknown: false, reason })]);
    let target = Target::Unpartitioned { topic: "u".into(), chosen: vec![-1, 3] };
    write(&spool, vec![batch(6, target, &["g", "h"])]);
    write(
        &spool,
        vec![Op::Acknowledged {
            partition: TopicPartition::new("t", 2),
            identity: WHO,
            last_sequence: i32::MAX,
            newest: 0,
            noted: Noted { offset: 90, leader_epoch: 1 },
        }],
    );
    close(spool);
}

#[test]
fn everything_is_told() {
    let scratch = Scratch::new("told");
    fill(&scratch.0);
    let spool = inspect(&scratch.0).unwrap();
    assert_eq!(spool.cluster_id.as_deref(), Some("c1"));
    assert_eq!(spool.holder, None);
    assert_eq!(spool.topics["t"], Topic { id: TopicId([1; 16]), partitions: 2 });
    assert_eq!(spool.positions, [("s".to_owned(), 44)].into());
    assert_eq!((&spool.damage, &spool.set_aside), (&vec![], &vec![]));
    assert!(spool.segments > 0 && spool.disk_bytes > 0);
    assert_eq!(spool.batches.iter().map(|batch| batch.id).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(spool.batches[0].stamp, Some(Stamped { identity: WHO, base_sequence: 10 }));
    assert_eq!(spool.batches[3].status.to_string(), "parked, perhaps delivered: away");
    let partition = |topic: &str, number| &spool.partitions[&TopicPartition::new(topic, number)];
    let first = partition("t", 0);
    assert_eq!((first.ready, first.records, first.oldest), (2, 3, Some(5001)));
    assert_eq!((first.identity, first.next_sequence), (Some(WHO), Some(12)));
    let second = partition("t", 1);
    assert_eq!((second.parked, second.unknown, second.dead), (2, 1, 1));
    let third = partition("t", 2);
    assert_eq!((third.acknowledged, third.next_sequence), (Some(90), Some(0)), "sequences go round");
    assert_eq!(partition("u", -1).records, 2);
}

#[test]
fn records_are_exported_as_they_were() {
    let scratch = Scratch::new("export");
    fill(&scratch.0);
    let mut found = Vec::new();
    export(&scratch.0, &Filter::all(), |record| {
        assert_eq!((record.key, record.timestamp), (Some(&b"k"[..]), 1000));
        assert_eq!(record.headers, [(&b"h"[..], Some(&b"1"[..])), (b"none", None)]);
        let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        found.push((record.batch, value, record.partition, record.status.name()));
        found.len() < 7
    })
    .unwrap();
    let told: Vec<String> = found.iter().map(|(batch, value, ..)| format!("{batch}{value}")).collect();
    assert_eq!(told, ["1a", "1b", "2c", "3d", "4e", "5f", "6g"], "it ends when it is told to");
    assert_eq!((found[5].3, found[6].2), ("dead", None));
    let mut chosen = Vec::new();
    export(&scratch.0, &Filter::ids([6]), |record| {
        chosen.push(record.partition);
        true
    })
    .unwrap();
    assert_eq!(chosen, [None, Some(3)], "what the application chose");
}

#[test]
fn what_is_retried_is_ready_and_forgets_its_stamp_where_it_has_to() {
    let scratch = Scratch::new("retry");
    fill(&scratch.0);
    let spool = open(&scratch.0);
    write(&spool, vec![stamp(4, 20), stamp(5, 21)]);
    write(&spool, vec![stamp(3, 19)]);
    close(spool);
    let retried = retry(&scratch.0, &Filter { ids: [1, 99].into(), ..Filter::parked() }).unwrap();
    assert_eq!((retried.batches, retried.records, retried.unknown), (2, 2, 1));
    assert_eq!(retried.missing, [99]);
    let spool = inspect(&scratch.0).unwrap();
    let status: Vec<&str> = spool.batches.iter().map(|batch| batch.status.name()).collect();
    assert_eq!(status, ["ready", "ready", "ready", "ready", "dead", "ready"]);
    let stamped: Vec<bool> = spool.batches.iter().map(|batch| batch.stamp.is_some()).collect();
    assert_eq!(stamped, [true, false, true, false, true, false], "only the doubtful one goes as a new one");
    assert_eq!(retry(&scratch.0, &Filter::dead()).unwrap().batches, 1);
    assert!(inspect(&scratch.0).unwrap().batches.iter().all(|batch| batch.status == BatchStatus::Ready));
}

#[test]
fn what_is_discarded_is_gone() {
    let scratch = Scratch::new("discard");
    fill(&scratch.0);
    let discarded = discard(&scratch.0, &[4, 5, 77]).unwrap();
    assert_eq!((discarded.batches, discarded.records, discarded.missing), (2, 2, vec![77]));
    let ids: Vec<u64> = inspect(&scratch.0).unwrap().batches.iter().map(|batch| batch.id).collect();
    assert_eq!(ids, [1, 2, 3, 6]);
}

#[test]
fn a_spool_in_use_can_be_looked_into_and_not_be_changed() {
    let scratch = Scratch::new("held");
    fill(&scratch.0);
    let spool = open(&scratch.0);
    let held = inspect(&scratch.0).unwrap();
    assert_eq!(held.batches.len(), 6);
    if cfg!(target_os = "linux") {
        assert_eq!(held.holder, Some(std::process::id().to_string()));
    }
    assert!(verify(&scratch.0).unwrap().damage.is_empty());
    for refused in [retry(&scratch.0, &Filter::all()).map(drop), discard(&scratch.0, &[1]).map(drop)] {
        assert!(matches!(refused, Err(SpoolError::InUse { .. })), "{refused:?}");
    }
    close(spool);
    assert!(retry(&scratch.0, &Filter::all()).is_ok(), "closed, it is free");
}

#[test]
fn no_spool_is_made_by_looking() {
    let scratch = Scratch::new("none");
    assert!(inspect(&scratch.0).is_err());
    assert!(retry(&scratch.0, &Filter::all()).is_err());
    assert!(!scratch.0.exists());
}

#[test]
fn a_flipped_byte_is_found_and_nothing_is_changed_by_looking() {
    let scratch = Scratch::new("flipped");
    fill(&scratch.0);
    let found = verify(&scratch.0).unwrap();
    assert_eq!((found.batches, found.records, found.damage.len()), (6, 8, 0));
    // Deep in the spool, where groups behind it prove that it was synced once.
    let segment = std::fs::read_dir(&scratch.0)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with("segment-"))
        .unwrap();
    let mut file = std::fs::File::options().read(true).write(true).open(&segment).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    // The value "c" of batch 2, behind its key.
    let at = bytes.windows(4).position(|window| window == [2, b'k', 2, b'c']).unwrap() as u64 + 3;
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(b"x").unwrap();
    drop(file);
    let before = std::fs::read(&segment).unwrap();
    for _ in 0..2 {
        let found = verify(&scratch.0).unwrap();
        assert!(!found.damage.is_empty(), "{found:?}");
        assert!(found.batches < 6);
    }
    assert!(!inspect(&scratch.0).unwrap().damage.is_empty());
    assert_eq!(std::fs::read(&segment).unwrap(), before);
}

#[test]
fn a_status_is_what_the_engine_says() {
    let status = Status::Dead { unknown: true, reason: "no".into() };
    assert_eq!(BatchStatus::from(&status).to_string(), "dead, perhaps delivered: no");
}
