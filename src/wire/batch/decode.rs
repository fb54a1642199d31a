//! Reading batches: their headers, checked against the bytes, one after the other.

use bytes::Bytes;

use super::header::{
    APPEND_TIME, ATTRIBUTES, BASE_OFFSET, BASE_SEQUENCE, BASE_TIMESTAMP, CONTROL, COUNT, CRC, DELETE_HORIZON,
    HEADER_LEN, LAST_OFFSET_DELTA, LEADER_EPOCH, LENGTH, LENGTH_EXCLUDES, MAGIC, MAX_TIMESTAMP, PRODUCER_EPOCH,
    PRODUCER_ID, TRANSACTIONAL,
};
use super::records::Records;
use super::{BatchError, BatchErrorKind};
use crate::types::{Compression, ProducerIdentity};

/// What reading may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// To how many bytes a batch may decompress. Default 64 MiB. More lets larger batches in, and lets a broker use
    /// that much memory.
    pub batch_bytes: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        DecodeLimits { batch_bytes: 64 << 20 }
    }
}

/// The batches of a fetch response's partition, or of a file. After an error there are no more.
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
    trailing_partial: bool,
    failed: bool,
}

/// A batch: its header, and its records still as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The offset of its first record, when nothing was compacted away.
    pub base_offset: i64,
    /// The offset of its last record less the base offset; kept also when that record was compacted away.
    pub last_offset_delta: i32,
    /// The epoch of the leader that wrote it; -1 for none.
    pub leader_epoch: i32,
    /// The attribute bits.
    pub attributes: i16,
    /// How the records are compressed.
    pub compression: Compression,
    /// The timestamp that those of the records are relative to.
    pub base_timestamp: i64,
    /// The newest timestamp, or the time of the append (see [`Batch::is_append_time`]).
    pub max_timestamp: i64,
    /// Who wrote it.
    pub identity: ProducerIdentity,
    /// The sequence number of its first record; -1 for none.
    pub base_sequence: i32,
    /// How many records it has; 0 when all were compacted away.
    pub count: i32,
    /// The records section as it is.
    pub raw: Bytes,
}

/// What a control batch says (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlType {
    /// The producer's transaction is aborted.
    Abort,
    /// It is committed.
    Commit,
    /// Something between brokers.
    Other(i16),
}

impl Batches {
    /// The batches in `records`. What they may decompress to is bounded in [`Batch::records`].
    pub fn new(records: Bytes) -> Batches {
        Batches { rest: records, trailing_partial: false, failed: false }
    }

    /// Whether the bytes ended inside a batch, as the broker's answers do at their size limit. Known at the end.
    pub fn trailing_partial(&self) -> bool {
        self.trailing_partial
    }

    fn parse(&mut self) -> Result<Option<Batch>, BatchError> {
        let bytes = &self.rest;
        let (Some(base_offset), Some(length)) = (field(bytes, BASE_OFFSET), field(bytes, LENGTH)) else {
            return Ok(None);
        };
        let base_offset = i64::from_be_bytes(base_offset);
        let fail = |kind| Err(BatchError { base_offset, record: None, kind });
        let Some([magic]) = field(bytes, MAGIC) else { return Ok(None) };
        match magic as i8 {
            2 => {}
            magic @ (0 | 1) => return fail(BatchErrorKind::OldFormat { magic }),
            magic => return fail(BatchErrorKind::UnknownFormat { magic }),
        }
        let Ok(length) = usize::try_from(i32::from_be_bytes(length)) else {
            return fail(BatchErrorKind::Invalid("a negative length"));
        };
        let end = length + LENGTH_EXCLUDES;
        if end < HEADER_LEN {
            return fail(BatchErrorKind::Invalid("shorter than a batch's header"));
        }
        let Some(batch) = bytes.get(..end) else { return Ok(None) };
        let expected = u32::from_be_bytes(field(batch, CRC).unwrap_or_default());
        let found = crc32c::crc32c(&batch[ATTRIBUTES..]);
        if expected != found {
            return fail(BatchErrorKind::Crc { expected, found });
        }
        let attributes = i16::from_be_bytes(field(batch, ATTRIBUTES).unwrap_or_default());
        let compression = match attributes & 7 {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            codec => return fail(BatchErrorKind::UnknownCodec(codec as u8)),
        };
        let last_offset_delta = i32::from_be_bytes(field(batch, LAST_OFFSET_DELTA).unwrap_or_default());
        let count = i32::from_be_bytes(field(batch, COUNT).unwrap_or_default());
        if base_offset < 0
            || last_offset_delta < 0
            || base_offset.checked_add(i64::from(last_offset_delta) + 1).is_none()
        {
            return fail(BatchErrorKind::Invalid("offsets that do not exist"));
        }
        if count < 0 || i64::from(count) > i64::from(last_offset_delta) + 1 {
            return fail(BatchErrorKind::Invalid("a record count that does not fit the offsets"));
        }
        let batch = Batch {
            base_offset,
            last_offset_delta,
            leader_epoch: i32::from_be_bytes(field(batch, LEADER_EPOCH).unwrap_or_default()),
            attributes,
            compression,
            base_timestamp: i64::from_be_bytes(field(batch, BASE_TIMESTAMP).unwrap_or_default()),
            max_timestamp: i64::from_be_bytes(field(batch, MAX_TIMESTAMP).unwrap_or_default()),
            identity: ProducerIdentity {
                id: i64::from_be_bytes(field(batch, PRODUCER_ID).unwrap_or_default()),
                epoch: i16::from_be_bytes(field(batch, PRODUCER_EPOCH).unwrap_or_default()),
            },
            base_sequence: i32::from_be_bytes(field(batch, BASE_SEQUENCE).unwrap_or_default()),
            count,
            raw: bytes.slice(HEADER_LEN..end),
        };
        self.rest = self.rest.slice(end..);
        Ok(Some(batch))
    }
}

/// The bytes of a field; none when they are not all there.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).copied()
}

impl Iterator for Batches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest.is_empty() || self.trailing_partial {
            return None;
        }
        match self.parse() {
            Ok(Some(batch)) => Some(Ok(batch)),
            Ok(None) => {
                self.trailing_partial = true;
                None
            }
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

impl Batch {
    /// The offset of its last record; the next batch starts behind it.
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta) // checked when it was read
    }

    /// Whether all records have the time of their append as timestamp: `max_timestamp`.
    pub fn is_append_time(&self) -> bool {
        self.attributes & APPEND_TIME != 0
    }

    /// Whether the records belong to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether this is no data, but a mark that ends a transaction.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Whether `base_timestamp` is the time from which on compaction may remove tombstones (KIP-534).
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes & DELETE_HORIZON != 0
    }

    /// The records, decompressed if they have to be.
    ///
    /// # Errors
    /// [`BatchError`] when they do not decompress, or to more than the limit.
    pub fn records(&self, limits: &DecodeLimits) -> Result<Records, BatchError> {
        Records::of_batch(self, limits)
    }

    /// What a control batch says; none for a batch of data, and for one whose mark was compacted away.
    ///
    /// # Errors
    /// [`BatchError`] when its record cannot be read.
    pub fn control_type(&self, limits: &DecodeLimits) -> Result<Option<ControlType>, BatchError> {
        if !self.is_control() {
            return Ok(None);
        }
        let mut records = self.records(limits)?;
        let Some(record) = records.next().transpose()? else { return Ok(None) };
        // The key: a version, then the type. Later versions may append to it.
        let kind = record.key(records.bytes()).and_then(|key| field(key, 2)).map(i16::from_be_bytes);
        match kind {
            Some(0) => Ok(Some(ControlType::Abort)),
            Some(1) => Ok(Some(ControlType::Commit)),
            Some(other) => Ok(Some(ControlType::Other(other))),
            None => {
                let kind = BatchErrorKind::Invalid("a control record without a type");
                Err(BatchError { base_offset: self.base_offset, record: Some(0), kind })
            }
        }
    }
}
