//! Chunks as a hostile or compacted log would send them.

use bytes::{Bytes, BytesMut};

use super::*;
use crate::core::consume::progress::Done;
use crate::core::consume::watermark::{AssignmentEpoch, Watermark};
use crate::io::inbox::Releases;
use crate::types::{Compression, ProducerIdentity};
use crate::types::{TopicId, TopicPartition};
use crate::wire::batch::{RecordsBuilder, SealedBatch};

const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const LAST_DELTA_AT: usize = 23;
const TRANSACTIONAL: u8 = 1 << 4;
const CONTROL: u8 = 1 << 5;

/// A batch at `base`; `change` may forge its header before the checksum is made right again.
fn forged(base: i64, values: &[&[u8]], producer: i64, codec: Compression, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut builder = RecordsBuilder::new(BytesMut::new());
    for value in values {
        builder.push(1000, Some(b"\0\0\0\0"), Some(value), &[]).unwrap();
    }
    let batch = SealedBatch::new(builder.finish().compress(codec, None).unwrap());
    let header = batch.stamp(ProducerIdentity { id: producer, epoch: 0 }, 0, false);
    let mut bytes = [&header[..], &batch.section().bytes[..]].concat();
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    change(&mut bytes);
    let crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
    bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn batch(base: i64, values: &[&[u8]]) -> Vec<u8> {
    forged(base, values, -1, Compression::None, |_| {})
}

struct Story {
    source: Source,
    assigned: Arc<Assigned>,
    releases: Arc<Releases>,
}

impl Story {
    fn new(start: i64, limit: usize, isolation: IsolationLevel) -> Story {
        let partition = TopicPartition::new("orders", 0);
        let settings = SourceSettings { limits: DecodeLimits { batch_bytes: limit }, isolation };
        let mark = Watermark::new(partition.clone(), AssignmentEpoch(1), start, -1, Some(start));
        let assigned = Arc::new(Assigned::new(partition, AssignmentEpoch(1), mark));
        Story { source: Source::new(assigned.clone(), settings), assigned, releases: Arc::default() }
    }

    fn committed(start: i64) -> Story {
        Story::new(start, 1 << 20, IsolationLevel::ReadCommitted)
    }

    fn fetch(&mut self, from: i64, records: Vec<u8>, aborted: Vec<(i64, i64)>) {
        let partition = TopicPartition::new("orders", 0);
        let chunk = Chunk { partition, assignment: AssignmentEpoch(1), from, records: Bytes::from(records), aborted };
        let lease = Lease::on(&chunk, &self.releases);
        self.source.push(Item::Chunk(chunk, lease));
    }

    /// Handles all there is; offsets, and the error that ended it.
    fn drain(&mut self) -> (Vec<i64>, Option<ConsumeError>) {
        let mut offsets = Vec::new();
        loop {
            match self.source.next() {
                None => return (offsets, None),
                Some(Step::Fault(error)) => return (offsets, Some(*error)),
                Some(Step::Jump(to)) => lock(&self.assigned.watermark).jump(to),
                Some(Step::Record(next)) => {
                    offsets.push(next.record.offset);
                    let token = lock(&self.assigned.watermark).hand_out(next.record.offset, next.leader_epoch);
                    lock(&self.assigned.watermark).complete(token);
                }
            }
        }
    }

    fn handled(&self) -> i64 {
        lock(&self.assigned.watermark).handled()
    }
}

#[test]
fn records_before_the_position_are_left_out_and_room_comes_back() {
    let mut story = Story::committed(11);
    story.fetch(11, [batch(10, &[b"a", b"b"]), batch(12, &[b"c"])].concat(), Vec::new());
    assert_eq!(story.drain().0, [11, 12]);
    assert_eq!(story.handled(), 13);
    assert_eq!(story.releases.take().chunks.len(), 1);
}

#[test]
fn what_was_handled_under_an_earlier_assignment_is_not_handed_out_again() {
    let mut story = Story::committed(10);
    let done = Done { ranges: [(11, 13), (14, 15), (16, 18)].into(), leader_epoch: 0 };
    let mark = Watermark::new(TopicPartition::new("orders", 0), AssignmentEpoch(1), 10, 0, Some(10));
    *lock(&story.assigned.watermark) = mark.restored(TopicId::NONE, done);
    // 17 is in the second batch, like 16; the third batch is beyond all that was done.
    let log = [batch(10, &[b"a", b"b", b"c", b"d", b"e"]), batch(15, &[b"f", b"g", b"h"]), batch(18, &[b"i"])];
    story.fetch(10, log.concat(), Vec::new());
    // 11 and 12 count as passed as soon as they come up, so that the offset moves on over them.
    let mut next = || match story.source.next() {
        Some(Step::Record(next)) => lock(&story.assigned.watermark).hand_out(next.record.offset, next.leader_epoch),
        other => panic!("{other:?}"),
    };
    let first = next();
    let _second = next();
    lock(&story.assigned.watermark).complete(first);
    assert_eq!(story.handled(), 13);
    assert_eq!(story.drain().0, [15, 18]);
    assert_eq!(story.handled(), 13);
}

#[test]
fn a_jump_forgets_what_was_handled_before() {
    let mut story = Story::committed(10);
    let done = Done { ranges: [(11, 13)].into(), leader_epoch: 0 };
    let mark = Watermark::new(TopicPartition::new("orders", 0), AssignmentEpoch(1), 10, 0, Some(10));
    *lock(&story.assigned.watermark) = mark.restored(TopicId::NONE, done);
    story.fetch(10, batch(10, &[b"a", b"b"]), Vec::new());
    story.source.push(Item::Jump(10));
    story.fetch(10, batch(10, &[b"a", b"b"]), Vec::new());
    assert_eq!(story.drain().0, [10, 10, 11]);
}

#[test]
fn compacted_empty_and_control_batches_advance_the_position() {
    let mut story = Story::committed(0);
    // Records 1 to 4 were compacted away; what was left ends at offset 4 all the same.
    let compacted = forged(0, &[b"a"], -1, Compression::None, |bytes| {
        bytes[LAST_DELTA_AT..LAST_DELTA_AT + 4].copy_from_slice(&4i32.to_be_bytes());
    });
    let control = forged(7, &[b"\0\0\0\0\0\0"], 5, Compression::None, |bytes| {
        bytes[ATTRIBUTES_AT + 1] |= CONTROL | TRANSACTIONAL
    });
    story.fetch(0, [compacted, control].concat(), Vec::new());
    let (offsets, error) = story.drain();
    assert!(error.is_none(), "{error:?}");
    assert_eq!(offsets, [0]);
    assert_eq!(story.handled(), 8);
}

#[test]
fn aborted_transactions_are_left_out_only_when_asked() {
    let transactional = |base, producer| {
        forged(base, &[b"x"], producer, Compression::None, |bytes| bytes[ATTRIBUTES_AT + 1] |= TRANSACTIONAL)
    };
    let abort = |base, producer| {
        forged(base, &[b"\0\0\0\0\0\0"], producer, Compression::None, |bytes| {
            bytes[ATTRIBUTES_AT + 1] |= CONTROL | TRANSACTIONAL;
        })
    };
    // Producer 7 aborts at 2 and goes on at 3; producer 8 commits.
    let log = [transactional(0, 7), transactional(1, 8), abort(2, 7), transactional(3, 7)].concat();
    let mut committed = Story::committed(0);
    committed.fetch(0, log.clone(), vec![(7, 0)]);
    assert_eq!(committed.drain().0, [1, 3]);
    assert_eq!(committed.handled(), 4);
    let mut all = Story::new(0, 1 << 20, IsolationLevel::ReadUncommitted);
    all.fetch(0, log, Vec::new());
    assert_eq!(all.drain().0, [0, 1, 3]);
}

#[test]
fn crc_wrong() {
    let mut story = Story::committed(0);
    let mut damaged = batch(1, &[b"b"]);
    *damaged.last_mut().unwrap() ^= 1;
    story.fetch(0, [batch(0, &[b"a"]), damaged, batch(2, &[b"c"])].concat(), Vec::new());
    let (offsets, error) = story.drain();
    assert_eq!(offsets, [0]);
    assert!(matches!(error, Some(ConsumeError::Batch { position: 1, .. })), "{error:?}");
    assert_eq!(story.handled(), 1, "the position does not advance");
    assert!(story.drain().0.is_empty(), "nothing behind the damage comes out");
}

#[test]
fn decompression_bomb() {
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let mut story = Story::new(0, 1 << 20, IsolationLevel::ReadCommitted);
        story.fetch(0, forged(0, &[&[0; 4 << 20]], -1, codec, |_| {}), Vec::new());
        let (offsets, error) = story.drain();
        assert!(offsets.is_empty(), "{codec}");
        assert!(matches!(error, Some(ConsumeError::Batch { position: 0, .. })), "{codec}: {error:?}");
        assert_eq!(story.handled(), 0, "{codec}");
    }
}
