//! Writing batches: records into an open section, the section frozen and compressed, its header stamped.

use bytes::{Bytes, BytesMut};

use super::header::{
    ATTRIBUTES, BASE_SEQUENCE, BASE_TIMESTAMP, COUNT, CRC, HEADER_LEN, LAST_OFFSET_DELTA, LEADER_EPOCH, LENGTH,
    LENGTH_EXCLUDES, MAGIC, MAX_TIMESTAMP, PRODUCER_EPOCH, PRODUCER_ID, TRANSACTIONAL,
};
use super::records::Records;
use super::{BatchError, BatchErrorKind, DecodeLimits, crc, varint};
use crate::types::{Compression, ProducerIdentity};
use crate::wire::compression::{self, CompressionError};

/// How large a section may become: the batch's length is a 32-bit number.
const MAX_SECTION: usize = i32::MAX as usize - HEADER_LEN;
/// All varints in front of a value: length, timestamp, offset, key length, value length; and the attributes.
const MAX_PREFIX: usize = 32;

/// A record that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the batch would be larger than 2 GiB")]
pub struct PushError;

/// Records being encoded, into a buffer of the caller's.
#[derive(Debug)]
pub struct RecordsBuilder {
    buf: BytesMut,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

/// At most how many bytes [`RecordsBuilder::push`] adds for such a record.
#[inline]
pub fn encoded_size(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, Option<&[u8]>)]) -> usize {
    let data = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
    // Length, timestamp and offset deltas at their longest, attributes, lengths of key and value, header count.
    let numbers = varint::MAX_32 + varint::MAX_64 + varint::MAX_32 + 1 + 3 * varint::MAX_32;
    let header = |(key, value): &(&str, Option<&[u8]>)| key.len() + value.map_or(0, <[u8]>::len) + 2 * varint::MAX_32;
    headers.iter().map(header).fold(data.saturating_add(numbers), usize::saturating_add)
}

impl RecordsBuilder {
    /// Starts a section in `buf`, whose contents are thrown away and whose memory is used.
    pub fn new(mut buf: BytesMut) -> RecordsBuilder {
        buf.clear();
        RecordsBuilder { buf, count: 0, base_timestamp: 0, max_timestamp: 0 }
    }

    /// Appends a record; none for null. `timestamp` is in milliseconds since 1970.
    ///
    /// # Errors
    /// [`PushError`] when the section would be larger than a batch can be; nothing is appended then.
    #[inline]
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Result<(), PushError> {
        if self.count == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        let upper = encoded_size(key, value, headers);
        // With this checked, every length below fits 31 bits.
        if upper > MAX_SECTION.saturating_sub(self.buf.len()) || headers.len() > MAX_SECTION || self.count == i32::MAX {
            return Err(PushError);
        }
        let timestamp_delta = varint::zigzag_64(timestamp.wrapping_sub(self.base_timestamp));
        let offset_delta = u64::from(varint::zigzag_32(self.count));
        let key_len = length_of(key);
        let value_len = length_of(value);
        let headers_len = if headers.is_empty() { 1 } else { headers_size(headers) };
        let body = 1
            + varint::len(timestamp_delta)
            + varint::len(offset_delta)
            + varint::len(key_len)
            + key.map_or(0, <[u8]>::len)
            + varint::len(value_len)
            + value.map_or(0, <[u8]>::len)
            + headers_len;

        self.buf.reserve(upper);
        let mut prefix = [0; MAX_PREFIX];
        let at = varint::put(&mut prefix, 0, length(body));
        let at = varint::put(&mut prefix, at + 1, timestamp_delta); // between them the attributes: 0
        let at = varint::put(&mut prefix, at, offset_delta);
        let mut at = varint::put(&mut prefix, at, key_len);
        if let Some(key) = key {
            self.buf.extend_from_slice(prefix.get(..at).unwrap_or_default());
            self.buf.extend_from_slice(key);
            at = 0;
        }
        let at = varint::put(&mut prefix, at, value_len);
        self.buf.extend_from_slice(prefix.get(..at).unwrap_or_default());
        if let Some(value) = value {
            self.buf.extend_from_slice(value);
        }
        put_headers(&mut self.buf, headers);
        self.count += 1;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        Ok(())
    }

    /// How many records there are.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// How many bytes they take so far.
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The first record's timestamp.
    pub fn first_timestamp(&self) -> i64 {
        self.base_timestamp
    }

    /// The newest timestamp.
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// Freezes the section.
    pub fn finish(self) -> RecordsSection {
        RecordsSection {
            bytes: self.buf.freeze(),
            count: self.count,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            compression: Compression::None,
        }
    }
}

/// A varint length; -1 for null. Lengths have been checked to fit.
#[inline]
fn length_of(bytes: Option<&[u8]>) -> u64 {
    bytes.map_or(1, |bytes| length(bytes.len()))
}

#[inline]
fn length(len: usize) -> u64 {
    (len as u64) << 1
}

#[inline]
fn put_length(buf: &mut BytesMut, zigzag: u64) {
    if zigzag < 0x80 {
        buf.extend_from_slice(&[zigzag as u8]);
        return;
    }
    let mut bytes = [0; 8];
    let end = varint::put(&mut bytes, 0, zigzag);
    buf.extend_from_slice(bytes.get(..end).unwrap_or_default());
}

#[inline(never)]
fn headers_size(headers: &[(&str, Option<&[u8]>)]) -> usize {
    headers.iter().fold(varint::len(length(headers.len())), |size, (key, value)| {
        size + varint::len(length(key.len()))
            + key.len()
            + varint::len(length_of(*value))
            + value.map_or(0, <[u8]>::len)
    })
}

#[inline]
fn put_headers(buf: &mut BytesMut, headers: &[(&str, Option<&[u8]>)]) {
    if headers.is_empty() {
        buf.extend_from_slice(&[0]);
        return;
    }
    put_length(buf, length(headers.len()));
    for (key, value) in headers {
        put_length(buf, length(key.len()));
        buf.extend_from_slice(key.as_bytes());
        put_length(buf, length_of(*value));
        if let Some(value) = value {
            buf.extend_from_slice(value);
        }
    }
}

/// The records of one batch, frozen: all of the batch except for its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordsSection {
    /// The encoded, perhaps compressed, records.
    pub bytes: Bytes,
    /// How many there are.
    pub count: i32,
    /// The first record's timestamp.
    pub base_timestamp: i64,
    /// The newest timestamp.
    pub max_timestamp: i64,
    /// How `bytes` are compressed.
    pub compression: Compression,
}

impl RecordsSection {
    /// The section's checksum, to be computed once (see [`stamp`]).
    pub fn crc(&self) -> u32 {
        crc32c::crc32c(&self.bytes)
    }

    /// The size of the whole batch.
    pub fn batch_len(&self) -> usize {
        HEADER_LEN + self.bytes.len()
    }

    /// Compresses the section; it stays as it is when that does not make it smaller, or when it is compressed already.
    /// `level` is the codec's own scale, none for its default.
    ///
    /// # Errors
    /// [`CompressionError`] when the codec refuses.
    pub fn compress(self, codec: Compression, level: Option<i32>) -> Result<RecordsSection, CompressionError> {
        if codec == Compression::None || self.compression != Compression::None {
            return Ok(self);
        }
        let mut bytes = compression::compress(codec, level, &self.bytes)?;
        if bytes.len() >= self.bytes.len() {
            return Ok(self);
        }
        // It may live long, in a window or a backlog, and the codec's buffer is often twice as large.
        bytes.shrink_to_fit();
        Ok(RecordsSection { bytes: Bytes::from(bytes), compression: codec, ..self })
    }

    /// Reads the records back.
    ///
    /// # Errors
    /// [`BatchError`], with base offset 0: the bytes are damaged, or decompress to more than the limit.
    pub fn records(&self, limits: &DecodeLimits) -> Result<Records, BatchError> {
        Records::of_section(self, limits)
    }

    /// The first `at` records and the rest as sections of their own, in the same codec, timestamps kept: for a batch
    /// that the broker finds too large.
    ///
    /// # Errors
    /// [`BatchError`] when the bytes are damaged, or one part would be empty.
    pub fn split(&self, at: i32, limits: &DecodeLimits) -> Result<(RecordsSection, RecordsSection), BatchError> {
        let fail = |record, kind| BatchError { base_offset: 0, record, kind };
        if at <= 0 || at >= self.count {
            return Err(fail(None, BatchErrorKind::Invalid("a part of the split would be empty")));
        }
        let records = self.records(limits)?;
        let bytes = records.bytes().clone();
        let mut builders = [RecordsBuilder::new(BytesMut::new()), RecordsBuilder::new(BytesMut::new())];
        let mut headers = Vec::new();
        for (i, record) in (0..self.count).zip(records) {
            let record = record?;
            headers.clear();
            for (key, value) in record.headers(&bytes) {
                let what = "a header key that is not UTF-8";
                let key = str::from_utf8(key).map_err(|_| fail(Some(i), BatchErrorKind::Invalid(what)))?;
                headers.push((key, value));
            }
            let builder = &mut builders[usize::from(i >= at)];
            builder
                .push(record.timestamp, record.key(&bytes), record.value(&bytes), &headers)
                .map_err(|_| fail(Some(i), BatchErrorKind::Invalid("larger than before")))?;
        }
        let [first, second] = builders.map(RecordsBuilder::finish);
        let compress = |section: RecordsSection| {
            section.compress(self.compression, None).map_err(|error| fail(None, BatchErrorKind::Compression(error)))
        };
        Ok((compress(first)?, compress(second)?))
    }

    /// Two sections of half as many records each. See [`RecordsSection::split`].
    ///
    /// # Errors
    /// As [`RecordsSection::split`].
    pub fn halves(&self, limits: &DecodeLimits) -> Result<(RecordsSection, RecordsSection), BatchError> {
        self.split(self.count / 2, limits)
    }
}

/// The header of a batch, for a producer to send. Its cost does not depend on the section's size: the checksums of
/// header and records are combined.
pub fn stamp(
    section: &RecordsSection,
    records_crc: u32,
    identity: ProducerIdentity,
    base_sequence: i32,
    transactional: bool,
) -> Bytes {
    let mut header = [0; HEADER_LEN];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(field) = header.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    };
    let length = HEADER_LEN - LENGTH_EXCLUDES + section.bytes.len();
    let codec = match section.compression {
        Compression::None => 0,
        Compression::Gzip => 1,
        Compression::Snappy => 2,
        Compression::Lz4 => 3,
        Compression::Zstd => 4,
    };
    let attributes: i16 = codec | if transactional { TRANSACTIONAL } else { 0 };
    put(LENGTH, &(length as i32).to_be_bytes()); // fits: MAX_SECTION
    put(LEADER_EPOCH, &(-1i32).to_be_bytes());
    put(MAGIC, &[2]);
    put(ATTRIBUTES, &attributes.to_be_bytes());
    put(LAST_OFFSET_DELTA, &(section.count - 1).to_be_bytes());
    put(BASE_TIMESTAMP, &section.base_timestamp.to_be_bytes());
    put(MAX_TIMESTAMP, &section.max_timestamp.to_be_bytes());
    put(PRODUCER_ID, &identity.id.to_be_bytes());
    put(PRODUCER_EPOCH, &identity.epoch.to_be_bytes());
    put(BASE_SEQUENCE, &base_sequence.to_be_bytes());
    put(COUNT, &section.count.to_be_bytes());
    let crc = crc32c::crc32c(&header[ATTRIBUTES..]);
    let crc = crc::combine(crc, records_crc, section.bytes.len() as u32);
    header[CRC..ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    Bytes::copy_from_slice(&header)
}

/// A section with its checksum, ready to be stamped as often as its identity changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBatch {
    section: RecordsSection,
    records_crc: u32,
}

impl SealedBatch {
    /// Computes the checksum.
    pub fn new(section: RecordsSection) -> SealedBatch {
        SealedBatch { records_crc: section.crc(), section }
    }

    /// Takes a checksum that is known already, from disk for example.
    pub fn with_crc(section: RecordsSection, records_crc: u32) -> SealedBatch {
        SealedBatch { section, records_crc }
    }

    /// The section.
    pub fn section(&self) -> &RecordsSection {
        &self.section
    }

    /// The checksum of the section's bytes.
    pub fn records_crc(&self) -> u32 {
        self.records_crc
    }

    /// The batch's header; see [`stamp`].
    pub fn stamp(&self, identity: ProducerIdentity, base_sequence: i32, transactional: bool) -> Bytes {
        stamp(&self.section, self.records_crc, identity, base_sequence, transactional)
    }
}
