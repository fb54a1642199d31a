//! The spool on a real directory.

use super::*;
use crate::core::spool::{NewBatch, Noted, Op, Order, Outcome, Stamp, Status, Target};
use crate::types::{ProducerIdentity, TopicId, TopicPartition};
use crate::wire::batch::RecordsBuilder;
use bytes::BytesMut;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A directory that is removed at the end.
pub(super) struct Temp(pub(super) PathBuf);

impl Temp {
    pub(super) fn new() -> Temp {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        Temp(std::env::temp_dir().join(format!("indelible-spool-{}-{n}", std::process::id())))
    }

    pub(super) fn config(&self) -> SpoolConfig {
        let mut config = SpoolConfig::new(&self.0);
        config.segment_bytes = 64 << 10;
        config.max_bytes = 1 << 20;
        config
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn sealed(seed: u64, len: usize) -> SealedBatch {
    let value: Vec<u8> = (0..len).map(|i| (seed.wrapping_mul(31).wrapping_add(i as u64 * 7)) as u8).collect();
    let mut builder = RecordsBuilder::new(BytesMut::new());
    builder.push(1_000 + seed as i64, None, Some(&value), &[]).expect("fits");
    SealedBatch::new(builder.finish())
}

pub(super) fn batch(id: u64, len: usize) -> Op {
    Op::Batch(NewBatch {
        id: BatchId(id),
        order: Order::nth(id),
        target: Target::Partition(TopicPartition::new("orders", (id % 3) as i32)),
        topic_id: TopicId([7; 16]),
        accepted_at: 1_700_000_000_000 + id as i64,
        sealed: sealed(id, len),
    })
}

pub(super) fn stamp(id: u64, epoch: i16, sequence: i32) -> Op {
    let identity = ProducerIdentity { id: 4000, epoch };
    let noted = Some(Noted { offset: 17, leader_epoch: 3 });
    Op::Stamp { batch: BatchId(id), stamp: Stamp { identity, base_sequence: sequence, noted } }
}

pub(super) fn delivered(id: u64) -> Op {
    Op::Outcome { batch: BatchId(id), outcome: Outcome::Delivered { base_offset: Some(5), leader_epoch: 1 } }
}

pub(super) fn group(ops: impl IntoIterator<Item = Op>) -> Group {
    Group { ops: ops.into_iter().collect() }
}

fn write(spool: &Spool, ops: impl IntoIterator<Item = Op>) {
    let (tell, told) = mpsc::channel();
    spool.write(group(ops), Box::new(move || tell.send(()).expect("waits")));
    told.recv_timeout(std::time::Duration::from_secs(10)).expect("durable");
}

fn read(spool: &Spool, id: u64) -> Result<SealedBatch, SpoolError> {
    let (tell, told) = mpsc::channel();
    spool.read(BatchId(id), Box::new(move |read| tell.send(read).expect("waits")));
    told.recv_timeout(std::time::Duration::from_secs(10)).expect("answered")
}

fn close(spool: Spool) {
    tokio::runtime::Builder::new_current_thread().build().expect("runtime").block_on(spool.close());
}

fn ids(recovered: &Recovered) -> Vec<u64> {
    recovered.batches.iter().map(|batch| batch.id.0).collect()
}

#[test]
fn what_was_written_is_there_again_three_times() {
    let temp = Temp::new();
    for round in 0..4u64 {
        let (spool, recovered) = Spool::open(&temp.config()).expect("opens");
        assert_eq!(ids(&recovered), (0..2 * round).collect::<Vec<_>>());
        assert_eq!((recovered.next_id, recovered.next_order), (2 * round, 2 * round));
        assert!(recovered.damage.is_empty() && !recovered.stamps_in_doubt);
        for old in &recovered.batches {
            assert_eq!(read(&spool, old.id.0).expect("reads"), sealed(old.id.0, 5_000));
            assert_eq!(old.status, Status::Ready);
        }
        write(&spool, [batch(2 * round, 5_000), stamp(2 * round, round as i16, 0)]);
        spool.write_later(group([Op::Position { source: "file".into(), position: round }]));
        write(&spool, [batch(2 * round + 1, 5_000)]);
        assert_eq!(read(&spool, 2 * round).expect("reads"), sealed(2 * round, 5_000));
        if round > 0 {
            let identity = ProducerIdentity { id: 4000, epoch: round as i16 - 1 };
            assert_eq!(recovered.identity, Some(identity));
            assert_eq!(recovered.positions.get("file"), Some(&(round - 1)));
        }
        close(spool);
    }
}
