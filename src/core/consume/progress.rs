//! What is handled beyond the committed offset, as text in the metadata of a commit, so that a restart does not repeat it.
//!
//! ```text
//! text     = "i1." base64url(checksum, leader epoch, run, run, ...)       without padding, at most 4,096 bytes
//! checksum = CRC-32C, 4 bytes, big-endian, of: topic id (16 bytes), partition (4), committed offset (8), the topic's
//!            name, and all that follows the checksum
//! epoch    = varint of the leader epoch of what lies right below the end of the last run
//! run      = varint of a length; the first begins at the committed offset and is open, the next is done, and so on in
//!            turn; the last is done. Only the first may be of length 0
//! varint   = unsigned, 7 bits a byte, lowest first, at most 10 bytes
//! ```
//! Done is what was handled and what is not there to be handled: a gap costs nothing. When there are more runs than fit,
//! the first of them are written; the others are handled again after a crash.
//!
//! Skipping a record that nobody handled is the one mistake that must not happen, so that text is taken only if
//! - its checksum fits this topic and this committed offset. Tools move offsets and mirrors copy metadata to other clusters;
//!   a topic of the same name may have been created anew. Run lengths are relative and would say something else there. The
//!   topic's id stands for the log, so that no other mark of the log is needed.
//! - the leader's log still has the last run's epoch up to its end (KIP-320). The epoch committed beside the offset cannot
//!   show that: it belongs to the record below the offset, and an election may have cut the log anywhere above it.

use std::collections::VecDeque;

use crate::types::{TopicId, TopicPartition};

/// What brokers allow unless told otherwise: `offset.metadata.max.bytes`.
const MAX_TEXT: usize = 4096;
/// Version and mark in one: what begins otherwise is somebody else's.
const PREFIX: &str = "i1.";
/// So many bytes become no more text than fits.
const MAX_PAYLOAD: usize = (MAX_TEXT - PREFIX.len()) / 4 * 3;
const CHECKSUM: usize = 4;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Ranges of offsets beyond a committed one that need not be handled again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// First offset and the one behind the last, in order, none empty, none touching the next.
    pub(crate) ranges: VecDeque<(i64, i64)>,
    /// At least the leader epoch of everything in them.
    pub(crate) leader_epoch: i32,
}

impl Done {
    /// Where the last range ends.
    #[cfg(test)]
    pub(crate) fn end(&self) -> Option<i64> {
        self.ranges.back().map(|(_, end)| *end)
    }

    /// Forgets what lies at `end` and beyond: the log is another from there on.
    pub(crate) fn cut(&mut self, end: i64) {
        self.ranges.retain(|(from, _)| *from < end);
        if let Some((_, last)) = self.ranges.back_mut() {
            *last = (*last).min(end);
        }
    }

    /// Forgets what lies below `offset`.
    pub(crate) fn drop_below(&mut self, offset: i64) {
        while self.ranges.front().is_some_and(|(_, end)| *end <= offset) {
            self.ranges.pop_front();
        }
    }

    /// Whether `offset` is done, and the next offset at which that may be otherwise.
    pub(crate) fn look(&self, offset: i64) -> (bool, i64) {
        let at = self.ranges.partition_point(|(_, end)| *end <= offset);
        match self.ranges.get(at) {
            Some((from, end)) if *from <= offset => (true, *end),
            Some((from, _)) => (false, *from),
            None => (false, i64::MAX),
        }
    }
}

/// Which log an offset belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log<'a> {
    pub(crate) partition: &'a TopicPartition,
    /// All zero where brokers have none.
    pub(crate) topic_id: TopicId,
}

/// Metadata that is not ours, or not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// Written by something else.
    Foreign,
    /// Ours, and changed; or for another log or another offset.
    Damaged,
}

/// Writes runs one after another, as long as they fit.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    log: Log<'a>,
    offset: i64,
    payload: Vec<u8>,
    /// Up to where is written.
    written: i64,
    /// The range that ends last, not written yet: the next may touch it.
    last: Option<(i64, i64)>,
    any: bool,
    full: bool,
}

impl<'a> Writer<'a> {
    /// For a commit of `offset`. `leader_epoch` is that of what lies right below the end of the last range to come.
    pub(crate) fn new(log: Log<'a>, offset: i64, leader_epoch: i32) -> Writer<'a> {
        let mut payload = vec![0; CHECKSUM];
        // Without an epoch nobody could tell later whether the log was cut.
        let full = u32::try_from(leader_epoch).map(|epoch| put(&mut payload, u64::from(epoch))).is_err();
        Writer { log, offset, payload, written: offset, last: None, any: false, full }
    }

    /// Everything from `from` to below `end` is done. Ranges come in order.
    pub(crate) fn done(&mut self, from: i64, end: i64) {
        if from >= end {
            return;
        }
        match &mut self.last {
            Some((_, last)) if *last >= from => *last = (*last).max(end),
            _ => {
                self.flush();
                self.last = Some((from, end));
            }
        }
    }

    fn flush(&mut self) {
        let Some((from, end)) = self.last.take().filter(|_| !self.full) else { return };
        let runs = (from.checked_sub(self.written), end.checked_sub(from));
        let (Some(open @ 0..), Some(done @ 1..)) = runs else { return self.full = true };
        let before = self.payload.len();
        put(&mut self.payload, open.unsigned_abs());
        put(&mut self.payload, done.unsigned_abs());
        if self.payload.len() > MAX_PAYLOAD {
            self.payload.truncate(before);
            return self.full = true;
        }
        (self.written, self.any) = (end, true);
    }

    /// Whether nothing more can be written.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// The text; empty when nothing is done.
    pub(crate) fn finish(mut self) -> String {
        self.flush();
        if !self.any {
            return String::new();
        }
        let sum = checksum(&self.log, self.offset, &self.payload[CHECKSUM..]);
        self.payload[..CHECKSUM].copy_from_slice(&sum.to_be_bytes());
        let mut text = String::with_capacity(PREFIX.len() + self.payload.len().div_ceil(3) * 4);
        text.push_str(PREFIX);
        encode(&self.payload, &mut text);
        text
    }
}

/// Reads what was committed with `offset` of `log`. Empty text names nothing.
///
/// # Errors
/// [`Unusable`]: then everything from the offset on is to be handled.
pub(crate) fn read(text: &str, log: Log<'_>, offset: i64) -> Result<Done, Unusable> {
    if text.is_empty() {
        return Ok(Done::default());
    }
    let coded = text.strip_prefix(PREFIX).filter(|_| text.len() <= MAX_TEXT).ok_or(Unusable::Foreign)?;
    let payload = decode(coded.as_bytes()).ok_or(Unusable::Damaged)?;
    let (sum, body) = payload.split_first_chunk::<CHECKSUM>().ok_or(Unusable::Damaged)?;
    if u32::from_be_bytes(*sum) != checksum(&log, offset, body) {
        return Err(Unusable::Damaged);
    }
    runs(body, offset).ok_or(Unusable::Damaged)
}

fn runs(mut body: &[u8], offset: i64) -> Option<Done> {
    let leader_epoch = i32::try_from(take(&mut body)?).ok()?;
    let (mut ranges, mut at) = (VecDeque::new(), offset);
    while !body.is_empty() {
        let least = i64::from(!ranges.is_empty());
        let mut run = |least| i64::try_from(take(&mut body)?).ok().filter(|length| *length >= least);
        let from = at.checked_add(run(least)?)?;
        at = from.checked_add(run(1)?)?;
        ranges.push_back((from, at));
    }
    Some(Done { ranges, leader_epoch })
}

fn checksum(log: &Log<'_>, offset: i64, body: &[u8]) -> u32 {
    let mut sum = crc32c::crc32c(&log.topic_id.0);
    sum = crc32c::crc32c_append(sum, &log.partition.partition.to_be_bytes());
    sum = crc32c::crc32c_append(sum, &offset.to_be_bytes());
    sum = crc32c::crc32c_append(sum, log.partition.topic.as_bytes());
    crc32c::crc32c_append(sum, body)
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(body: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = body.split_first()?;
        *body = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn encode(bytes: &[u8], out: &mut String) {
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            out.push(char::from(ALPHABET[(bits >> (18 - 6 * i) & 63) as usize]));
        }
    }
}

fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for chunk in text.chunks(4) {
        let mut bits = 0u32;
        for letter in chunk {
            let value = match letter {
                b'A'..=b'Z' => letter - b'A',
                b'a'..=b'z' => letter - b'a' + 26,
                b'0'..=b'9' => letter - b'0' + 52,
                b'-' => 62,
                b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let [_, three @ ..] = (bits << (6 * (4 - chunk.len()))).to_be_bytes();
        // One letter alone is no byte.
        let whole = chunk.len().checked_sub(1).filter(|whole| *whole > 0)?;
        bytes.extend_from_slice(three.get(..whole)?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> TopicPartition {
        TopicPartition::new("orders", 3)
    }

    fn log(partition: &TopicPartition) -> Log<'_> {
        Log { partition, topic_id: TopicId([7; 16]) }
    }

    fn write(offset: i64, epoch: i32, ranges: &[(i64, i64)]) -> String {
        let partition = orders();
        let mut writer = Writer::new(log(&partition), offset, epoch);
        ranges.iter().for_each(|(from, end)| writer.done(*from, *end));
        writer.finish()
    }

    #[test]
    fn what_is_written_is_read() {
        let partition = orders();
        let text = write(100, 5, &[(101, 110), (110, 120), (5000, 5001), (1 << 40, 1 << 41)]);
        assert!(text.starts_with("i1.") && text.len() < 40, "{text}");
        let done = read(&text, log(&partition), 100).unwrap();
        assert_eq!(done.ranges, [(101, 120), (5000, 5001), (1 << 40, 1 << 41)]);
        assert_eq!(done.leader_epoch, 5);
        assert_eq!(done.look(100), (false, 101));
        assert_eq!(done.look(101), (true, 120));
        assert_eq!(done.look(119), (true, 120));
        assert_eq!(done.look(120), (false, 5000));
        assert_eq!(done.look(1 << 41), (false, i64::MAX));
    }

    /// The layout is what other processes find: it does not change unnoticed.
    #[test]
    fn the_layout_stays() {
        assert_eq!(write(100, 5, &[(101, 110), (300, 301)]), "i1.l6EJ_wUBCb4BAQ");
    }

    #[test]
    fn nothing_done_is_no_text_and_no_epoch_neither() {
        assert_eq!(write(100, 5, &[]), "");
        assert_eq!(write(100, 5, &[(120, 120)]), "");
        assert_eq!(write(100, -1, &[(120, 130)]), "");
        assert_eq!(read("", log(&orders()), 100).unwrap(), Done::default());
    }

    /// Story: a mirror copies a group's metadata with a translated offset; a tool resets the offset; the topic is deleted
    /// and created again. The runs would name records that nobody handled.
    #[test]
    fn text_for_another_offset_or_another_log_is_not_taken() {
        let text = write(100, 5, &[(101, 110)]);
        let partition = orders();
        assert_eq!(read(&text, log(&partition), 99), Err(Unusable::Damaged));
        let again = Log { partition: &partition, topic_id: TopicId([8; 16]) };
        assert_eq!(read(&text, again, 100), Err(Unusable::Damaged));
        for other in [TopicPartition::new("orders", 2), TopicPartition::new("order", 3)] {
            assert_eq!(read(&text, log(&other), 100), Err(Unusable::Damaged));
        }
    }

    #[test]
    fn foreign_text_is_nothing_to_stop_at() {
        let partition = orders();
        for text in ["committed by hand", "{\"a\":1}", "i2.AAAA", "é", &"x".repeat(70_000)] {
            assert_eq!(read(text, log(&partition), 100), Err(Unusable::Foreign), "{text}");
        }
        for text in ["i1.", "i1.A", "i1.é", "i1.AAAA====", "i1.AAAAAAA"] {
            assert_eq!(read(text, log(&partition), 100), Err(Unusable::Damaged), "{text}");
        }
    }

    #[test]
    fn each_flipped_bit_is_noticed() {
        let text = write(100, 5, &[(101, 110), (300, 301)]);
        let partition = orders();
        let good = read(&text, log(&partition), 100).unwrap();
        for at in 0..text.len() {
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let damaged = String::from_utf8(bytes).unwrap();
                // The last letter has bits that mean nothing.
                let read = read(&damaged, log(&partition), 100);
                assert!(read.is_err() || read.as_ref() == Ok(&good), "{damaged}: {read:?}");
            }
        }
    }

    #[test]
    fn runs_that_cannot_be_are_refused_whatever_the_checksum() {
        let lengths = |values: &[u64]| {
            let mut body = Vec::new();
            values.iter().for_each(|value| put(&mut body, *value));
            runs(&body, 100)
        };
        assert!(lengths(&[5, 1, 2, 3, 4]).is_some());
        assert!(lengths(&[5]).is_some_and(|done| done.ranges.is_empty()));
        assert_eq!(lengths(&[]), None);
        assert_eq!(lengths(&[5, 1]), None, "ends open");
        assert!(lengths(&[5, 0, 1]).is_some(), "the first may be empty");
        assert_eq!(lengths(&[5, 1, 1, 0, 1]), None);
        assert_eq!(lengths(&[5, 1, 0]), None);
        assert_eq!(lengths(&[5, 1, i64::MAX as u64]), None, "beyond all offsets");
        assert_eq!(lengths(&[5, 1, u64::MAX]), None);
        assert_eq!(lengths(&[1 << 40, 1, 1]), None, "no epoch");
        assert_eq!(runs(&[0x80; 11], 100), None);
    }

    #[test]
    fn what_does_not_fit_is_left_off_at_the_end() {
        let partition = orders();
        let ranges: Vec<(i64, i64)> = (0..5000).map(|n| (n * 400 + 1, n * 400 + 201)).collect();
        let text = write(0, 5, &ranges);
        assert!((MAX_TEXT - 8..=MAX_TEXT).contains(&text.len()), "{}", text.len());
        let done = read(&text, log(&partition), 0).unwrap();
        assert!(done.ranges.len() > 700);
        assert_eq!(done.ranges, &ranges[..done.ranges.len()]);
    }

    #[test]
    fn a_log_that_was_cut_keeps_what_is_below() {
        let mut done = Done { ranges: VecDeque::from([(5, 10), (20, 30), (40, 50)]), leader_epoch: 1 };
        done.cut(25);
        assert_eq!(done.ranges, [(5, 10), (20, 25)]);
        done.cut(20);
        assert_eq!(done.ranges, [(5, 10)]);
        done.drop_below(10);
        assert_eq!(done.end(), None);
    }

    /// Bytes from anywhere: no panic, and whatever is taken is in order and beyond the offset.
    #[test]
    fn random_bytes_do_no_harm() {
        let mut seed = 1u64;
        let mut random = move || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as u8
        };
        for length in 0..300 {
            for _ in 0..40 {
                let body: Vec<u8> = (0..length % 40).map(|_| random() >> (random() % 8)).collect();
                let _ = take(&mut body.as_slice());
                if let Some(done) = runs(&body, i64::from(random())) {
                    assert!(done.ranges.iter().all(|(from, end)| from < end));
                }
                let text: Vec<u8> = body.iter().map(|byte| ALPHABET[usize::from(*byte) % 64]).collect();
                let text = format!("i1.{}", String::from_utf8(text).unwrap());
                assert!(read(&text, log(&orders()), 0).is_err(), "{text}");
            }
        }
    }
}
