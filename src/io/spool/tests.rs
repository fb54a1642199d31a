//! The spool on a real directory: the handle, and who may open what.

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

#[test]
fn a_second_opener_is_told_who_has_it_and_gets_it_afterwards() {
    let temp = Temp::new();
    let (spool, _) = Spool::open(&temp.config()).expect("opens");
    let other = spool.clone();
    let refused = Spool::open(&temp.config()).expect_err("is in use");
    let SpoolError::InUse { holder, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*holder, std::process::id().to_string());
    write(&spool, [batch(0, 100)]);
    close(spool);
    other.write_later(group([batch(1, 100)]));
    assert!(matches!(read(&other, 0), Err(SpoolError::Closed)));
    let (_spool, recovered) = Spool::open(&temp.config()).expect("opens");
    assert_eq!(ids(&recovered), [0]);
}

#[test]
fn dropping_the_last_handle_writes_what_was_asked() {
    let temp = Temp::new();
    let (spool, _) = Spool::open(&temp.config()).expect("opens");
    spool.write_later(group([batch(0, 100)]));
    drop(spool);
    for _ in 0..500 {
        match Spool::open(&temp.config()) {
            Ok((_, recovered)) => {
                assert_eq!(ids(&recovered), [0]);
                return;
            }
            Err(SpoolError::InUse { .. }) => std::thread::sleep(std::time::Duration::from_millis(10)),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("still in use");
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn refusal(config: &SpoolConfig) -> String {
        match Spool::open(config) {
            Err(SpoolError::Refused { path, why }) => format!("{}: {why}", path.display()),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("opened"),
        }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).expect("is there").mode() & 0o7777
    }

    #[test]
    fn only_the_owner_may_look() {
        let temp = Temp::new();
        let (spool, _) = Spool::open(&temp.config()).expect("opens");
        write(&spool, [batch(0, 100)]);
        close(spool);
        assert_eq!(mode(temp.path()), 0o700);
        let segment = temp.path().join("segment-00000001");
        assert_eq!((mode(&segment), mode(&temp.path().join("lock"))), (0o600, 0o600));
        set_permissions(&segment, Permissions::from_mode(0o640)).expect("set");
        assert!(refusal(&temp.config()).contains("chmod 600"));
        set_permissions(&segment, Permissions::from_mode(0o600)).expect("set");
        set_permissions(temp.path(), Permissions::from_mode(0o755)).expect("set");
        assert!(refusal(&temp.config()).contains("chmod 700"));
    }

    #[test]
    fn links_are_refused() {
        let temp = Temp::new();
        let (spool, _) = Spool::open(&temp.config()).expect("opens");
        write(&spool, [batch(0, 100)]);
        close(spool);
        let link = Temp::new();
        symlink(temp.path(), link.path()).expect("linked");
        assert!(refusal(&link.config()).contains("symbolic link"));
        std::fs::remove_file(link.path()).expect("removed");
        let (segment, elsewhere) = (temp.path().join("segment-00000001"), temp.path().join("elsewhere"));
        std::fs::rename(&segment, &elsewhere).expect("moved");
        symlink(&elsewhere, &segment).expect("linked");
        assert!(refusal(&temp.config()).contains("symbolic link"));
    }

    #[test]
    fn a_directory_of_something_else_is_left_alone() {
        let temp = Temp::new();
        std::fs::create_dir(temp.path()).expect("made");
        set_permissions(temp.path(), Permissions::from_mode(0o700)).expect("set");
        std::fs::write(temp.path().join("letter"), "dear").expect("written");
        assert!(refusal(&temp.config()).contains("not a spool"));
        assert_eq!(std::fs::read_dir(temp.path()).expect("lists").count(), 1);
    }
}

#[test]
fn space_is_reserved_until_it_is_full_and_again_when_it_is_not() {
    let temp = Temp::new();
    let (spool, _) = Spool::open(&temp.config()).expect("opens");
    let mut n = 0;
    let mut permits = Vec::new();
    while let Some(permit) = spool.try_reserve(10_000) {
        permits.push(permit);
        write(&spool, [batch(n, 10_000)]);
        permits.clear();
        n += 1;
    }
    let state = spool.state();
    assert!(n > 50 && state.used <= state.limit && state.used + 11_000 > state.limit, "{n} {state:?}");
    let files: u64 =
        std::fs::read_dir(temp.path()).expect("lists").map(|e| e.expect("is").metadata().expect("is").len()).sum();
    assert!(files <= temp.config().max_bytes, "{files}");
    let waiting = spool.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(waiting.reserve(10_000)).is_some()
    });
    write(&spool, [delivered(0)]);
    assert!(thread.join().expect("ends"));
    close(spool);
}
