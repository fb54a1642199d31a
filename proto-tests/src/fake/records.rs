//! Records out of a batch: decompression and the varint encoding of KIP-98, for the ledger and for tests.

use super::batch::BatchHeader;
use bytes::Bytes;
use std::io::Read;

/// Most bytes that one batch may decompress to.
const MAX_DECOMPRESSED: usize = 256 << 20;

/// A record as it lies in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Place in the partition.
    pub offset: i64,
    /// Milliseconds since 1970; the broker's with LogAppendTime.
    pub timestamp: i64,
    /// The key, if any.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Name and value of each header, in order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
    /// Producer id, or -1.
    pub producer_id: i64,
    /// Producer epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence of this record, or -1.
    pub sequence: i32,
}

/// Decodes all records of one batch.
///
/// # Errors
/// A sentence that says which part is wrong.
pub fn decode_batch(batch: &Bytes) -> Result<Vec<Record>, String> {
    let header = BatchHeader::read(batch).ok_or("batch header is cut short")?;
    if batch.len() < header.total_len {
        return Err(format!("batch of {} bytes, {} are there", header.total_len, batch.len()));
    }
    let records = decompress(header.codec(), batch.slice(super::batch::HEADER_LEN..header.total_len))?;
    let count = usize::try_from(header.record_count).map_err(|_| "negative record count")?;
    let mut input = Input { bytes: records, at: 0 };
    let mut out = Vec::with_capacity(count.min(input.bytes.len()));
    for _ in 0..count {
        out.push(input.record(&header)?);
    }
    if input.at != input.bytes.len() {
        return Err(format!("{} bytes after the last record", input.bytes.len() - input.at));
    }
    Ok(out)
}

fn decompress(codec: i16, bytes: Bytes) -> Result<Bytes, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("codec {codec}: {error}");
    let limited = |reader: &mut dyn Read| {
        let mut out = Vec::new();
        let read = reader.take(MAX_DECOMPRESSED as u64).read_to_end(&mut out).map_err(|error| wrong(&error))?;
        if read == MAX_DECOMPRESSED { Err(wrong(&"too large")) } else { Ok(Bytes::from(out)) }
    };
    match codec {
        0 => Ok(bytes),
        1 => limited(&mut flate2::read::GzDecoder::new(bytes.as_ref())),
        2 => snappy(&bytes),
        3 => limited(&mut lz4_flex::frame::FrameDecoder::new(bytes.as_ref())),
        4 => zrip::decompress_with_limit(&bytes, MAX_DECOMPRESSED).map(Bytes::from).map_err(|e| format!("zstd: {e:?}")),
        _ => Err(format!("codec {codec} is not known")),
    }
}

/// The Java client frames snappy as xerial does: 16 bytes of header, then blocks after their length. Others send one bare
/// block.
fn snappy(bytes: &Bytes) -> Result<Bytes, String> {
    const MAGIC: &[u8] = &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
    let block = |bytes: &[u8]| {
        let len = snap::raw::decompress_len(bytes).map_err(|error| error.to_string())?;
        if len > MAX_DECOMPRESSED {
            return Err("snappy: too large".to_owned());
        }
        snap::raw::Decoder::new().decompress_vec(bytes).map_err(|error| error.to_string())
    };
    if !bytes.starts_with(MAGIC) {
        return block(bytes).map(Bytes::from);
    }
    let mut rest = bytes.get(16..).ok_or("snappy: header is cut short")?;
    let mut out = Vec::new();
    while !rest.is_empty() {
        let (len, tail) = rest.split_first_chunk::<4>().ok_or("snappy: block length is cut short")?;
        let len = u32::from_be_bytes(*len) as usize;
        let body = tail.get(..len).ok_or("snappy: block is cut short")?;
        out.extend(block(body)?);
        if out.len() > MAX_DECOMPRESSED {
            return Err("snappy: too large".to_owned());
        }
        rest = &tail[len..];
    }
    Ok(out.into())
}

struct Input {
    bytes: Bytes,
    at: usize,
}

impl Input {
    fn record(&mut self, header: &BatchHeader) -> Result<Record, String> {
        let len = usize::try_from(self.varint()?).map_err(|_| "negative record length")?;
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len()).ok_or("record is cut short")?;
        self.take(1)?; // attributes: unused
        let timestamp_delta = self.varint()?;
        let offset_delta = i32::try_from(self.varint()?).map_err(|_| "offset delta out of range")?;
        let key = self.field()?;
        let value = self.field()?;
        let header_count = self.varint()?;
        let mut headers = Vec::new();
        for _ in 0..header_count {
            let name = self.field()?.ok_or("header without a name")?;
            headers.push((name, self.field()?));
        }
        if self.at != end {
            return Err(format!("record ends at {}, its length says {end}", self.at));
        }
        let timestamp = if header.is_log_append_time() {
            header.max_timestamp
        } else {
            header.base_timestamp.saturating_add(timestamp_delta)
        };
        let sequence =
            if header.base_sequence < 0 { -1 } else { super::batch::add_sequence(header.base_sequence, offset_delta) };
        Ok(Record {
            offset: header.base_offset + i64::from(offset_delta),
            timestamp,
            key,
            value,
            headers,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            sequence,
        })
    }

    fn field(&mut self) -> Result<Option<Bytes>, String> {
        match usize::try_from(self.varint()?) {
            Ok(len) => self.take(len).map(Some),
            Err(_) => Ok(None),
        }
    }

    fn take(&mut self, len: usize) -> Result<Bytes, String> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len()).ok_or("field is cut short")?;
        let out = self.bytes.slice(self.at..end);
        self.at = end;
        Ok(out)
    }

    fn varint(&mut self) -> Result<i64, String> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or("varint is cut short")?;
            self.at += 1;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err("varint of more than 10 bytes".to_owned())
    }
}
