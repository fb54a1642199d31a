//! The 61 bytes before the records of a batch (magic 2), read and patched by hand.
//!
//! ```text
//!  0 baseOffset i64      8 batchLength i32    12 partitionLeaderEpoch i32   16 magic i8
//! 17 crc u32 (CRC-32C of all that follows)    21 attributes i16             23 lastOffsetDelta i32
//! 27 baseTimestamp i64  35 maxTimestamp i64   43 producerId i64             51 producerEpoch i16
//! 53 baseSequence i32   57 recordCount i32    61 records
//! ```
//! Everything is big endian. `batchLength` counts the bytes after itself.

/// Length of the header in bytes; the records follow it.
pub(crate) const HEADER_LEN: usize = 61;
/// Bytes before the ones that `batchLength` counts.
const PREFIX_LEN: usize = 12;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;

/// Attribute bit: the broker set the timestamps (LogAppendTime).
const LOG_APPEND_TIME: i16 = 0x08;
/// Attribute bit: part of a transaction.
const TRANSACTIONAL: i16 = 0x10;
/// Attribute bit: written by a broker, not by an application.
const CONTROL: i16 = 0x20;

/// The header of one record batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) base_offset: i64,
    /// Length of the whole batch in bytes, the prefix included.
    pub(crate) total_len: usize,
    pub(crate) magic: i8,
    pub(crate) crc: u32,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`; `None` when it is cut short or its length is impossible.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEADER_LEN {
            return None;
        }
        let length = usize::try_from(i32::from_be_bytes(at(bytes, 8))).ok()?;
        let total_len = length + PREFIX_LEN;
        if total_len < HEADER_LEN {
            return None;
        }
        Some(Self {
            base_offset: i64::from_be_bytes(at(bytes, 0)),
            total_len,
            magic: i8::from_be_bytes(at(bytes, 16)),
            crc: u32::from_be_bytes(at(bytes, CRC_AT)),
            attributes: i16::from_be_bytes(at(bytes, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(at(bytes, 23)),
            base_timestamp: i64::from_be_bytes(at(bytes, 27)),
            max_timestamp: i64::from_be_bytes(at(bytes, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(at(bytes, 43)),
            producer_epoch: i16::from_be_bytes(at(bytes, 51)),
            base_sequence: i32::from_be_bytes(at(bytes, 53)),
            record_count: i32::from_be_bytes(at(bytes, 57)),
        })
    }

    /// Compression codec: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub(crate) fn codec(&self) -> i16 {
        self.attributes & 0x07
    }

    pub(crate) fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Sequence of the last record; sequences wrap from `i32::MAX` to 0.
    pub(crate) fn last_sequence(&self) -> i32 {
        add_sequence(self.base_sequence, self.last_offset_delta)
    }
}

/// `base + delta` in the ring 0..=i32::MAX.
pub(crate) fn add_sequence(base: i32, delta: i32) -> i32 {
    match base.checked_add(delta) {
        Some(sum) => sum,
        None => delta - (i32::MAX - base) - 1,
    }
}

/// Whether the CRC in the header is that of the bytes after it. `batch` is exactly one batch.
pub(crate) fn crc_matches(batch: &[u8], header: &BatchHeader) -> bool {
    crc32c::crc32c(&batch[ATTRIBUTES_AT..]) == header.crc
}

/// Gives the batch its place in the log. The CRC covers neither field.
pub(crate) fn place(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Replaces the timestamps by the broker's clock, which changes the CRC.
pub(crate) fn stamp_log_append_time(batch: &mut [u8], now_ms: i64) {
    let attributes = i16::from_be_bytes(at(batch, ATTRIBUTES_AT)) | LOG_APPEND_TIME;
    batch[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&now_ms.to_be_bytes());
    seal(batch);
}

/// Writes the CRC of a batch whose other fields are final.
pub(crate) fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
}

fn at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[offset..offset + N]);
    out
}
