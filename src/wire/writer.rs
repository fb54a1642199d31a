//! Writing the parts of requests that are encoded by hand.

use bytes::{BufMut, BytesMut};

/// A number in seven-bit groups, low ones first.
pub(super) fn put_uvarint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// The length of bytes or of an array. Compact lengths are one higher, so that 0 can be null.
pub(super) fn put_len(out: &mut BytesMut, flexible: bool, len: usize) -> Result<(), &'static str> {
    let len = i32::try_from(len).map_err(|_| "more than 2 GiB in one field")?;
    if flexible {
        put_uvarint(out, len as u32 + 1)
    } else {
        out.put_i32(len)
    }
    Ok(())
}

/// A string with its length.
pub(super) fn put_string(out: &mut BytesMut, flexible: bool, text: &str) -> Result<(), &'static str> {
    let len = i16::try_from(text.len()).map_err(|_| "a string longer than 32767 bytes")?;
    if flexible {
        put_uvarint(out, len as u32 + 1)
    } else {
        out.put_i16(len)
    }
    out.put_slice(text.as_bytes());
    Ok(())
}

/// "No tagged fields", in flexible versions.
pub(super) fn put_no_tags(out: &mut BytesMut, flexible: bool) {
    if flexible {
        out.put_u8(0);
    }
}
