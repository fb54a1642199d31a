//! Record batches by hand, right ones and wrong ones.

use bytes::{BufMut, Bytes, BytesMut};
use std::time::{SystemTime, UNIX_EPOCH};

/// A batch to be built. Every field may be wrong on purpose.
#[derive(Debug, Clone)]
pub struct BatchSpec {
    /// Producer id, or -1.
    pub producer_id: i64,
    /// Producer epoch, or -1.
    pub epoch: i16,
    /// Sequence of the first record, or -1.
    pub sequence: i32,
    /// Timestamp of all records, milliseconds since 1970.
    pub timestamp: i64,
    /// Attributes; the codec bits are only claimed, nothing is compressed.
    pub attributes: i16,
    /// (key, value) of each record.
    pub records: Vec<(Option<Bytes>, Option<Bytes>)>,
    /// Added to the right last offset delta.
    pub delta_error: i32,
    /// Spoils the CRC.
    pub wrong_crc: bool,
}

impl BatchSpec {
    /// A right batch of now.
    pub fn new(producer_id: i64, epoch: i16, sequence: i32, values: &[&str]) -> Self {
        let value = |value: &&str| (None, Some(Bytes::copy_from_slice(value.as_bytes())));
        Self {
            producer_id,
            epoch,
            sequence,
            timestamp: now_ms(),
            attributes: 0,
            records: values.iter().map(value).collect(),
            delta_error: 0,
            wrong_crc: false,
        }
    }

    /// The same with another timestamp.
    #[must_use]
    pub fn at(mut self, timestamp: i64) -> Self {
        self.timestamp = timestamp;
        self
    }

    /// The bytes as a producer sends them.
    pub fn build(&self) -> Bytes {
        let count = i32::try_from(self.records.len()).unwrap_or(i32::MAX);
        let mut tail = BytesMut::new();
        tail.put_i16(self.attributes);
        tail.put_i32(count - 1 + self.delta_error);
        tail.put_i64(self.timestamp);
        tail.put_i64(self.timestamp);
        tail.put_i64(self.producer_id);
        tail.put_i16(self.epoch);
        tail.put_i32(self.sequence);
        tail.put_i32(count);
        for (delta, (key, value)) in (0..).zip(&self.records) {
            let mut record = BytesMut::new();
            record.put_u8(0);
            put_varint(&mut record, 0);
            put_varint(&mut record, delta);
            put_field(&mut record, key.as_ref());
            put_field(&mut record, value.as_ref());
            put_varint(&mut record, 0);
            put_varint(&mut tail, i64::try_from(record.len()).unwrap_or(i64::MAX));
            tail.extend_from_slice(&record);
        }
        let mut out = BytesMut::new();
        out.put_i64(0);
        out.put_i32(i32::try_from(tail.len() + 9).unwrap_or(i32::MAX));
        out.put_i32(-1);
        out.put_i8(2);
        out.put_u32(crc32c::crc32c(&tail) ^ u32::from(self.wrong_crc));
        out.extend_from_slice(&tail);
        out.freeze()
    }
}

/// A right, uncompressed batch of now with these values and no keys.
pub fn batch(producer_id: i64, epoch: i16, sequence: i32, values: &[&str]) -> Bytes {
    BatchSpec::new(producer_id, epoch, sequence, values).build()
}

fn put_field(out: &mut BytesMut, field: Option<&Bytes>) {
    match field {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, i64::try_from(bytes.len()).unwrap_or(i64::MAX));
            out.extend_from_slice(bytes);
        }
    }
}

fn put_varint(out: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

#[allow(clippy::disallowed_methods, reason = "brokers refuse batches from the future and forget those of the past")]
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
