//! LZ4 frames. Java reads independent blocks only, and one frame only: bytes after it are ignored, so they are here.

use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::{CompressionError, read_bounded};
use crate::types::Compression;

pub(super) fn compress(input: &[u8]) -> Result<Vec<u8>, CompressionError> {
    // No checksums: the batch has its CRC, and Java writes none either.
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::with_capacity(input.len() / 2 + 64));
    encoder.write_all(input).map_err(|error| CompressionError::invalid(Compression::Lz4, error))?;
    encoder.finish().map_err(|error| CompressionError::invalid(Compression::Lz4, error))
}

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    if input.is_empty() {
        return Err(CompressionError::invalid(Compression::Lz4, "no frame"));
    }
    read_bounded(Compression::Lz4, FrameDecoder::new(input), input.len(), limit)
}
