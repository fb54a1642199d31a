//! Snappy. Java's library writes it in frames of its own ("xerial"):
//!
//! ```text
//! 0   8  82 'S' 'N' 'A' 'P' 'P' 'Y' 00
//! 8   4  version, 1
//! 12  4  lowest version that can read it, 1
//! 16     blocks: 4 bytes of length, then that many bytes of plain snappy
//! ```
//! Some clients write one plain block without frames; both are read.

use super::CompressionError;
use crate::types::Compression;

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
/// How much goes into one block, as in Java's library.
const BLOCK: usize = 32 * 1024;
/// No snappy element of three bytes gives more than 64: an announced size beyond this factor is a lie.
const MAX_RATIO: usize = 22;

fn invalid(reason: impl ToString) -> CompressionError {
    CompressionError::invalid(Compression::Snappy, reason)
}

pub(super) fn compress(input: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let mut encoder = snap::raw::Encoder::new();
    let mut output = Vec::with_capacity(HEADER.len() + input.len() / 2);
    output.extend_from_slice(&HEADER);
    for block in input.chunks(BLOCK) {
        let start = output.len() + 4;
        output.resize(start + snap::raw::max_compress_len(block.len()), 0);
        let len = encoder.compress(block, &mut output[start..]).map_err(invalid)?;
        output[start - 4..start].copy_from_slice(&(len as u32).to_be_bytes());
        output.truncate(start + len);
    }
    Ok(output)
}

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    let mut decoder = snap::raw::Decoder::new();
    let mut output = Vec::new();
    if !input.starts_with(&MAGIC) {
        append(&mut decoder, input, limit, &mut output)?;
        return Ok(output);
    }
    let mut rest = input;
    while !rest.is_empty() {
        // Streams may be appended to each other, header and all.
        if rest.starts_with(&MAGIC) {
            rest = rest.get(HEADER.len()..).ok_or_else(|| invalid("the header is cut short"))?;
            continue;
        }
        let (len, after) = rest.split_first_chunk::<4>().ok_or_else(|| invalid("a block's length is cut short"))?;
        let len = u32::from_be_bytes(*len) as usize;
        let block = after.get(..len).ok_or_else(|| invalid("a block is cut short"))?;
        append(&mut decoder, block, limit, &mut output)?;
        rest = &after[len..];
    }
    Ok(output)
}

fn append(
    decoder: &mut snap::raw::Decoder,
    block: &[u8],
    limit: usize,
    output: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    let len = snap::raw::decompress_len(block).map_err(invalid)?;
    let start = output.len();
    if len > limit.saturating_sub(start) {
        return Err(CompressionError::TooLarge { limit });
    }
    if len > block.len().saturating_mul(MAX_RATIO) {
        return Err(invalid("a block announces more than its bytes can hold"));
    }
    output.resize(start + len, 0);
    let written = decoder.decompress(block, &mut output[start..]).map_err(invalid)?;
    output.truncate(start + written);
    Ok(())
}
