//! Zstandard (KIP-110), also of several frames after each other.

use zrip::DecompressError;

use super::CompressionError;
use crate::types::Compression;

/// The largest block of the format (RFC 8878, 3.1.1.2.4).
const MAX_BLOCK: usize = 128 * 1024;

pub(super) fn compress(input: &[u8], level: Option<i32>) -> Result<Vec<u8>, CompressionError> {
    // The codec has the fast half of zstd's levels.
    let level = level.unwrap_or(1).clamp(-7, 4);
    zrip::compress(input, level).map_err(|error| CompressionError::invalid(Compression::Zstd, error))
}

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    // The codec reserves what a frame's header announces. No block of fewer than four bytes gives more than 128 KiB.
    let possible = (input.len() / 4 + 1).saturating_mul(MAX_BLOCK);
    zrip::decompress_with_limit(input, limit.min(possible)).map_err(|error| match error {
        DecompressError::OutputTooSmall if possible >= limit => CompressionError::TooLarge { limit },
        error => CompressionError::invalid(Compression::Zstd, error),
    })
}
