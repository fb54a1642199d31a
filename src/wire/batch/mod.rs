//! Record batches of format 2 (KIP-98), the only one written since Kafka 0.11.
//!
//! ```text
//! 0   8  base offset          offset of the first record; 0 when sent
//! 8   4  length               of all that follows
//! 12  4  leader epoch         written by the broker; -1 when sent
//! 16  1  magic                2
//! 17  4  CRC-32C              of all that follows
//! 21  2  attributes           bits 0-2 codec, 3 append time, 4 transactional, 5 control, 6 delete horizon
//! 23  4  last offset delta
//! 27  8  base timestamp
//! 35  8  max timestamp
//! 43  8  producer id          -1 for none
//! 51  2  producer epoch       -1 for none
//! 53  4  base sequence        -1 for none
//! 57  4  record count
//! 61     records section, compressed or not
//! ```
//! A record: length, attributes (1 byte, 0), timestamp delta, offset delta, key length and key, value length and value
//! (-1 for null), header count, headers (key length, key, value length, value); all numbers zigzag varints.

mod crc;
mod decode;
mod encode;
mod header;
mod records;
mod varint;

#[cfg(test)]
mod tests;

pub use decode::{Batch, Batches, ControlType, DecodeLimits};
pub use encode::{PushError, RecordsBuilder, RecordsSection, SealedBatch, encoded_size, stamp};
pub use header::HEADER_LEN;
pub use records::{Headers, RawRecord, Records};

use super::compression::CompressionError;

/// A batch that cannot be read: which one, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchError {
    /// The base offset the batch claims to have.
    pub base_offset: i64,
    /// The index of the record in the batch, when it is one record's fault.
    pub record: Option<i32>,
    /// What is wrong.
    pub kind: BatchErrorKind,
}

/// What can be wrong with a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchErrorKind {
    /// Written before Kafka 0.11, or by a topic kept in an old format.
    #[error(
        "message format {magic} is not supported, only format 2: remove log.message.format.version or \
         message.format.version below 0.11 from the broker or topic, then write the records anew; brokers from 4.0 on \
         no longer keep such formats"
    )]
    OldFormat {
        /// 0 or 1.
        magic: i8,
    },
    /// Not a format that exists today.
    #[error("message format {magic} is not known to this client")]
    UnknownFormat {
        /// What the batch says.
        magic: i8,
    },
    /// The checksum does not fit the bytes.
    #[error("the checksum is wrong: {expected:08x} is written, the bytes have {found:08x}")]
    Crc {
        /// In the batch.
        expected: u32,
        /// Of the bytes.
        found: u32,
    },
    /// The records do not decompress.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// The codec bits name no codec.
    #[error("codec {0} is not known to this client")]
    UnknownCodec(u8),
    /// Numbers that contradict each other or the bytes.
    #[error("{0}")]
    Invalid(&'static str),
}

impl std::fmt::Display for BatchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "batch at offset {}", self.base_offset)?;
        if let Some(record) = self.record {
            write!(f, ", record {record}")?;
        }
        write!(f, ": {}", self.kind)
    }
}

impl std::error::Error for BatchError {}
