//! gzip, also of several members after each other, as Java reads it.

use std::io::Write;

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::{CompressionError, read_bounded};
use crate::types::Compression;

pub(super) fn compress(input: &[u8], level: Option<i32>) -> Result<Vec<u8>, CompressionError> {
    let level = level.and_then(|level| u32::try_from(level).ok()).map_or(6, |level| level.clamp(1, 9));
    let mut encoder = GzEncoder::new(Vec::with_capacity(input.len() / 3), flate2::Compression::new(level));
    encoder
        .write_all(input)
        .and_then(|()| encoder.finish())
        .map_err(|error| CompressionError::invalid(Compression::Gzip, error))
}

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    read_bounded(Compression::Gzip, MultiGzDecoder::new(input), input.len(), limit)
}
