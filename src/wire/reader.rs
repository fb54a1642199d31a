//! Reading untrusted bytes: every read is checked against what is left, no count is believed before that.

use std::fmt;

use bytes::Bytes;

use crate::types::TopicId;

/// What is wrong with the bytes, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// The byte at which it was noticed, counted from the start of the body.
    pub at: usize,
    /// What is wrong.
    pub what: &'static str,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl std::error::Error for ReadError {}

/// A position in a response body.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// How many bytes have been read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// How many are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// An error at this position.
    pub fn error(&self, what: &'static str) -> ReadError {
        ReadError { at: self.at, what }
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], ReadError> {
        match self.bytes.get(self.at..).and_then(|left| left.get(..len)) {
            Some(taken) => {
                self.at += len;
                Ok(taken)
            }
            None => Err(self.error("the bytes end inside a field")),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// One byte as a truth value; anything but 0 is true.
    pub fn bool(&mut self) -> Result<bool, ReadError> {
        Ok(self.array::<1>()? != [0])
    }

    /// A signed byte.
    pub fn i8(&mut self) -> Result<i8, ReadError> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    /// A big-endian 16-bit number.
    pub fn i16(&mut self) -> Result<i16, ReadError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    /// A big-endian 32-bit number.
    pub fn i32(&mut self) -> Result<i32, ReadError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// A big-endian 64-bit number.
    pub fn i64(&mut self) -> Result<i64, ReadError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A topic id.
    pub fn topic_id(&mut self) -> Result<TopicId, ReadError> {
        Ok(TopicId(self.array()?))
    }

    /// An unsigned varint of at most five bytes.
    pub fn uvarint(&mut self) -> Result<u32, ReadError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array::<1>()?;
            if shift == 28 && byte > 0x0f {
                return Err(self.error("a varint longer than five bytes"));
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.error("a varint longer than five bytes"))
    }

    /// The length in front of a string, in the layout for `flexible` versions or the older one; none for null.
    fn string_len(&mut self, flexible: bool) -> Result<Option<usize>, ReadError> {
        if flexible {
            return Ok((self.uvarint()? as usize).checked_sub(1));
        }
        match self.i16()? {
            -1 => Ok(None),
            len => usize::try_from(len).map(Some).map_err(|_| self.error("a negative length")),
        }
    }

    /// The length in front of bytes or of an array; none for null.
    fn long_len(&mut self, flexible: bool) -> Result<Option<usize>, ReadError> {
        if flexible {
            return Ok((self.uvarint()? as usize).checked_sub(1));
        }
        match self.i32()? {
            -1 => Ok(None),
            len => usize::try_from(len).map(Some).map_err(|_| self.error("a negative length")),
        }
    }

    /// A string that may be null.
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<&'a str>, ReadError> {
        let Some(len) = self.string_len(flexible)? else { return Ok(None) };
        match std::str::from_utf8(self.take(len)?) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(self.error("a string that is not UTF-8")),
        }
    }

    /// A string.
    pub fn string(&mut self, flexible: bool) -> Result<&'a str, ReadError> {
        self.nullable_string(flexible)?.ok_or_else(|| self.error("null where a string is required"))
    }

    /// Bytes that may be null.
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<&'a [u8]>, ReadError> {
        match self.long_len(flexible)? {
            Some(len) => self.take(len).map(Some),
            None => Ok(None),
        }
    }

    /// The number of elements of an array, each of at least `min_size` bytes; none for null. More elements than the
    /// bytes left can hold are refused, so it is safe to allocate for them.
    pub fn nullable_count(&mut self, flexible: bool, min_size: usize) -> Result<Option<usize>, ReadError> {
        match self.long_len(flexible)? {
            Some(count) if count.saturating_mul(min_size.max(1)) > self.remaining() => {
                Err(self.error("an array of more elements than there are bytes"))
            }
            count => Ok(count),
        }
    }

    /// As [`Reader::nullable_count`], where null is not allowed.
    pub fn count(&mut self, flexible: bool, min_size: usize) -> Result<usize, ReadError> {
        self.nullable_count(flexible, min_size)?.ok_or_else(|| self.error("null where an array is required"))
    }

    /// Tagged fields (KIP-482): `known` gets each tag with a reader over its bytes and says whether it knows it. One it
    /// knows must be read to its end; others are skipped. Tags grow strictly.
    pub fn tags(
        &mut self,
        mut known: impl FnMut(u32, &mut Reader<'a>) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let count = self.uvarint()?;
        if count as usize > self.remaining() / 2 {
            return Err(self.error("more tagged fields than there are bytes"));
        }
        let mut last = None;
        for _ in 0..count {
            let tag = self.uvarint()?;
            if last >= Some(tag) {
                return Err(self.error("tagged fields out of order"));
            }
            last = Some(tag);
            let size = self.uvarint()? as usize;
            let start = self.at;
            self.take(size)?;
            // The same bytes up to the field's end, so that errors inside it give the position in the whole body.
            let mut field = Reader { bytes: self.bytes.get(..self.at).unwrap_or_default(), at: start };
            if known(tag, &mut field)? && field.remaining() > 0 {
                return Err(field.error("bytes left in a tagged field"));
            }
        }
        Ok(())
    }

    /// Skips tagged fields.
    pub fn skip_tags(&mut self) -> Result<(), ReadError> {
        self.tags(|_, _| Ok(false))
    }

    /// Nothing may be left.
    pub fn finish(&self) -> Result<(), ReadError> {
        if self.remaining() == 0 { Ok(()) } else { Err(self.error("bytes left after the response")) }
    }
}

/// `part`, which lies in `whole`, as a slice that shares its memory.
pub(crate) fn share(whole: &Bytes, part: &[u8]) -> Bytes {
    if part.is_empty() { Bytes::new() } else { whole.slice_ref(part) }
}
