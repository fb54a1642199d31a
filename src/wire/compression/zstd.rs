//! Zstandard (KIP-110), also of several frames after each other.

use zrip::DecompressError;

use super::CompressionError;
use crate::types::Compression;

pub(super) fn compress(input: &[u8], level: Option<i32>) -> Result<Vec<u8>, CompressionError> {
    // The codec has the fast half of zstd's levels.
    let level = level.unwrap_or(1).clamp(-7, 4);
    zrip::compress(input, level).map_err(|error| CompressionError::invalid(Compression::Zstd, error))
}

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    zrip::decompress_with_limit(input, limit).map_err(|error| match error {
        DecompressError::OutputTooSmall => CompressionError::TooLarge { limit },
        error => CompressionError::invalid(Compression::Zstd, error),
    })
}
