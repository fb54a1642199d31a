//! Reading records: lazily, as ranges into the decompressed bytes.

use std::ops::Range;

use bytes::Bytes;

use super::encode::RecordsSection;
use super::{Batch, BatchError, BatchErrorKind, DecodeLimits, varint};
use crate::types::Compression;
use crate::wire::compression;

/// The least a record takes: seven varints and attributes of a byte each, the length among them.
const MIN_RECORD: usize = 7;

/// The records of one batch. After an error there are no more.
#[derive(Clone, Debug)]
pub struct Records {
    bytes: Bytes,
    at: usize,
    base_offset: i64,
    base_timestamp: i64,
    append_time: Option<i64>,
    last_offset_delta: i32,
    /// The offset delta of the last record.
    delta: i32,
    /// How many are left.
    left: i32,
    count: i32,
}

/// A record: where its parts are in [`Records::bytes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRecord {
    /// Its offset in the partition.
    pub offset: i64,
    /// Its timestamp in milliseconds since 1970: its own, or the time of its append.
    pub timestamp: i64,
    /// Where the key is; none for null.
    pub key: Option<Range<u32>>,
    /// Where the value is; none for null.
    pub value: Option<Range<u32>>,
    /// Where the encoded headers are. They have been checked; see [`Headers::new`].
    pub headers: Range<u32>,
    /// How many headers there are.
    pub header_count: u32,
}

impl RawRecord {
    /// The key, out of [`Records::bytes`].
    pub fn key<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        slice(bytes, self.key.as_ref()?)
    }

    /// The value, out of [`Records::bytes`].
    pub fn value<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        slice(bytes, self.value.as_ref()?)
    }

    /// The headers, out of [`Records::bytes`].
    pub fn headers<'a>(&self, bytes: &'a [u8]) -> Headers<'a> {
        Headers::new(slice(bytes, &self.headers).unwrap_or_default())
    }
}

fn slice<'a>(bytes: &'a [u8], range: &Range<u32>) -> Option<&'a [u8]> {
    bytes.get(range.start as usize..range.end as usize)
}

impl Records {
    pub(super) fn of_batch(batch: &Batch, limits: &DecodeLimits) -> Result<Records, BatchError> {
        let fail = |kind| BatchError { base_offset: batch.base_offset, record: None, kind };
        let bytes = decompress(batch.compression, &batch.raw, batch.count, limits).map_err(fail)?;
        Ok(Records {
            bytes,
            at: 0,
            base_offset: batch.base_offset,
            base_timestamp: batch.base_timestamp,
            append_time: batch.is_append_time().then_some(batch.max_timestamp),
            last_offset_delta: batch.last_offset_delta,
            delta: -1,
            left: batch.count,
            count: batch.count,
        })
    }

    pub(super) fn of_section(section: &RecordsSection, limits: &DecodeLimits) -> Result<Records, BatchError> {
        let fail = |kind| BatchError { base_offset: 0, record: None, kind };
        let bytes = decompress(section.compression, &section.bytes, section.count, limits).map_err(fail)?;
        Ok(Records {
            bytes,
            at: 0,
            base_offset: 0,
            base_timestamp: section.base_timestamp,
            append_time: None,
            last_offset_delta: section.count.saturating_sub(1),
            delta: -1,
            left: section.count,
            count: section.count,
        })
    }

    /// The bytes that the records' ranges point into: a slice of the response, or decompressed.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many records are left.
    pub fn remaining(&self) -> usize {
        usize::try_from(self.left).unwrap_or(0)
    }

    // Inlined to the end: a record that is written to memory in pieces and read back whole stalls for as long as all
    // the rest takes.
    #[inline(always)]
    fn parse(&mut self) -> Result<RawRecord, &'static str> {
        const CUT: &str = "a number that is cut short or too long";
        let bytes = &self.bytes[..];
        let mut at = self.at;
        let length = varint::get_32(bytes, &mut at).ok_or(CUT)?;
        let end = usize::try_from(length).ok().and_then(|length| at.checked_add(length)).ok_or("a negative length")?;
        // From here on nothing can reach into the next record.
        let record = bytes.get(..end).ok_or("longer than the batch")?;
        if at == end {
            return Err("an empty record");
        }
        at += 1; // attributes: no bit of them has a meaning
        let timestamp_delta = varint::get_64(record, &mut at).ok_or(CUT)?;
        let delta = varint::get_32(record, &mut at).ok_or(CUT)?;
        if delta <= self.delta || delta > self.last_offset_delta {
            return Err("an offset out of order");
        }
        let timestamp = match self.append_time {
            Some(time) => time,
            None => self.base_timestamp.checked_add(timestamp_delta).ok_or("a timestamp out of range")?,
        };
        let key = field(record, &mut at)?;
        let value = field(record, &mut at)?;
        let header_count = varint::get_32(record, &mut at).ok_or(CUT)?;
        let headers = at as u32..end as u32;
        if header_count != 0 {
            check_headers(record, &mut at, header_count)?;
        }
        if at != end {
            return Err("bytes left after its headers");
        }
        self.at = end;
        self.delta = delta;
        Ok(RawRecord {
            offset: self.base_offset + i64::from(delta), // checked when the batch was read
            timestamp,
            key,
            value,
            headers,
            header_count: header_count as u32,
        })
    }

    #[cold]
    fn fail(&mut self, what: &'static str) -> BatchError {
        let record = Some(self.count - self.left);
        self.left = 0;
        self.at = self.bytes.len();
        BatchError { base_offset: self.base_offset, record, kind: BatchErrorKind::Invalid(what) }
    }
}

impl Iterator for Records {
    type Item = Result<RawRecord, BatchError>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            // Bytes that no record accounts for mean that the count is wrong: better stop than lose records.
            return (self.at < self.bytes.len()).then(|| Err(self.fail("bytes left after the last record")));
        }
        match self.parse() {
            Ok(record) => {
                self.left -= 1;
                Some(Ok(record))
            }
            Err(what) => Some(Err(self.fail(what))),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.remaining().saturating_add(1)))
    }
}

fn decompress(codec: Compression, raw: &Bytes, count: i32, limits: &DecodeLimits) -> Result<Bytes, BatchErrorKind> {
    // Compaction leaves a header with its codec bits and nothing behind it.
    let bytes = if codec == Compression::None || (count == 0 && raw.is_empty()) {
        raw.clone()
    } else {
        let limit = limits.batch_bytes.min(i32::MAX as usize);
        Bytes::from(compression::decompress(codec, raw, limit)?)
    };
    if u32::try_from(bytes.len()).is_err() {
        return Err(BatchErrorKind::Invalid("larger than 4 GiB"));
    }
    if usize::try_from(count).unwrap_or(0).saturating_mul(MIN_RECORD) > bytes.len() {
        return Err(BatchErrorKind::Invalid("more records than the bytes can hold"));
    }
    Ok(bytes)
}

/// A length and that many bytes; none for null.
#[inline(always)]
fn field(record: &[u8], at: &mut usize) -> Result<Option<Range<u32>>, &'static str> {
    let length = varint::get_32(record, at).ok_or("a number that is cut short or too long")?;
    if length < 0 {
        return if length == -1 { Ok(None) } else { Err("a negative length") };
    }
    let start = *at;
    if length as usize > record.len() - start {
        return Err("a key, value or header longer than its record");
    }
    *at = start + length as usize;
    Ok(Some(start as u32..*at as u32))
}

fn check_headers(record: &[u8], at: &mut usize, count: i32) -> Result<(), &'static str> {
    let count = usize::try_from(count).map_err(|_| "a negative header count")?;
    if count > (record.len() - *at) / 2 {
        return Err("more headers than the bytes can hold");
    }
    for _ in 0..count {
        field(record, at)?.ok_or("a header without a key")?;
        field(record, at)?;
    }
    Ok(())
}

/// The headers of a record, in order; a key may come several times. Keys are UTF-8 by convention only.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    rest: &'a [u8],
}

impl<'a> Headers<'a> {
    /// The headers in `bytes`, which are those of [`RawRecord::headers`].
    pub fn new(bytes: &'a [u8]) -> Headers<'a> {
        Headers { rest: bytes }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut at = 0;
        let key = field(self.rest, &mut at).ok()??;
        let value = field(self.rest, &mut at).ok()?;
        let header = (slice(self.rest, &key)?, value.and_then(|value| slice(self.rest, &value)));
        self.rest = self.rest.get(at..)?;
        Some(header)
    }
}
