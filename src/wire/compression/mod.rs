//! Codecs of record batches: Kafka's framing around each, and decompression with a bound.

mod gzip;
mod lz4;
mod snappy;
mod zstd;

use std::io::{self, Read};

use crate::types::Compression;

/// Why bytes cannot be compressed or decompressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// More than the limit would come out.
    #[error("decompressed, this is more than the limit of {limit} bytes")]
    TooLarge {
        /// The limit set.
        limit: usize,
    },
    /// The bytes are not of this codec.
    #[error("not valid {codec}: {reason}")]
    Invalid {
        /// Which codec.
        codec: Compression,
        /// The codec's words.
        reason: String,
    },
}

impl CompressionError {
    fn invalid(codec: Compression, reason: impl ToString) -> CompressionError {
        CompressionError::Invalid { codec, reason: reason.to_string() }
    }
}

/// Compresses `input`. `level` is the codec's own scale, none for its default; snappy and lz4 have no levels.
///
/// # Errors
/// [`CompressionError::Invalid`] when the codec refuses.
pub fn compress(codec: Compression, level: Option<i32>, input: &[u8]) -> Result<Vec<u8>, CompressionError> {
    match codec {
        Compression::None => Ok(input.to_vec()),
        Compression::Gzip => gzip::compress(input, level),
        Compression::Snappy => snappy::compress(input),
        Compression::Lz4 => lz4::compress(input),
        Compression::Zstd => zstd::compress(input, level),
    }
}

/// Decompresses `input` to at most `limit` bytes. Memory grows with what comes out, not with what a header announces.
///
/// # Errors
/// [`CompressionError`]: too large, or not of this codec.
pub fn decompress(codec: Compression, input: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    match codec {
        Compression::None if input.len() > limit => Err(CompressionError::TooLarge { limit }),
        Compression::None => Ok(input.to_vec()),
        Compression::Gzip => gzip::decompress(input, limit),
        Compression::Snappy => snappy::decompress(input, limit),
        Compression::Lz4 => lz4::decompress(input, limit),
        Compression::Zstd => zstd::decompress(input, limit),
    }
}

/// Reads to the end, or to one byte beyond the limit.
fn read_bounded(
    codec: Compression,
    reader: impl Read,
    input_len: usize,
    limit: usize,
) -> Result<Vec<u8>, CompressionError> {
    // Records compress about three to five times.
    let mut output = Vec::with_capacity(input_len.saturating_mul(4).min(limit));
    let read: io::Result<usize> = reader.take(limit as u64 + 1).read_to_end(&mut output);
    read.map_err(|error| CompressionError::invalid(codec, error))?;
    if output.len() > limit { Err(CompressionError::TooLarge { limit }) } else { Ok(output) }
}

#[cfg(test)]
mod tests;
