//! Walks a response by its schema before kafka-protocol's decoder sees it.
//!
//! Those decoders believe every count and length: nine bytes can make them ask for 928 GB, which aborts the process.
//! What passes this guard has as many elements as it says, each of them really there, so that what a decoder allocates
//! stays within a small multiple of the bytes that arrived.

#[rustfmt::skip] // a table
mod schema;

use super::ApiKey;
use super::reader::{ReadError, Reader};

/// A field: its type, the versions that have it, those in which it may be null, and its tag if it is a tagged field.
#[derive(Debug)]
struct Field(Type, (i16, i16), (i16, i16), Option<u32>);

/// What a field is made of.
#[derive(Debug)]
enum Type {
    /// So many bytes.
    Fixed(usize),
    /// A length of 16 bits, or compact, and that many bytes.
    Text,
    /// A length of 32 bits, or compact, and that many bytes.
    Blob,
    /// A count of 32 bits, or compact, and that many elements.
    Array(&'static Type),
    /// Fields; in flexible versions tagged ones behind them. Where it may be null, a byte before it tells: 1 or -1.
    Struct(&'static [Field]),
}

/// How many tagged fields one struct may have. Kafka's responses have four at most; kafka-protocol keeps each one that
/// it does not know in a tree of its own, which is large for the few bytes that such a field can be.
const MAX_TAGS: usize = 16;

/// Refuses what is no response of `api` in `version`.
///
/// # Errors
/// [`ReadError`]: what is wrong, at which byte.
pub fn check(api: ApiKey, version: i16, body: &[u8]) -> Result<(), ReadError> {
    let mut reader = Reader::new(body);
    let fields = schema::fields(api).ok_or_else(|| reader.error("no schema for this API"))?;
    let walk = Walk { version, flexible: api.is_flexible(version) };
    walk.fields(fields, &mut reader)?;
    reader.finish()
}

#[derive(Clone, Copy)]
struct Walk {
    version: i16,
    flexible: bool,
}

impl Walk {
    fn has(self, versions: (i16, i16)) -> bool {
        versions.0 <= self.version && self.version <= versions.1
    }

    fn fields(self, fields: &'static [Field], reader: &mut Reader<'_>) -> Result<(), ReadError> {
        for Field(of, versions, nullable, tag) in fields {
            if tag.is_none() && self.has(*versions) {
                self.value(of, self.has(*nullable), reader)?;
            }
        }
        if !self.flexible {
            return Ok(());
        }
        let mut count = 0;
        reader.tags(|found, value| {
            count += 1;
            if count > MAX_TAGS {
                return Err(value.error("too many tagged fields"));
            }
            let known = fields.iter().find(|field| field.3 == Some(found) && self.has(field.1));
            if let Some(Field(of, _, nullable, _)) = known {
                self.value(of, self.has(*nullable), value)?;
            }
            Ok(known.is_some())
        })
    }

    fn value(self, of: &'static Type, nullable: bool, reader: &mut Reader<'_>) -> Result<(), ReadError> {
        match of {
            Type::Fixed(size) => reader.take(*size).map(drop),
            Type::Text => {
                let text = reader.nullable_string(self.flexible)?;
                refuse_null(text.is_none() && !nullable, reader)
            }
            Type::Blob => {
                let bytes = reader.nullable_bytes(self.flexible)?;
                refuse_null(bytes.is_none() && !nullable, reader)
            }
            Type::Array(element) => {
                let count = reader.nullable_count(self.flexible, self.min_size(element))?;
                refuse_null(count.is_none() && !nullable, reader)?;
                (0..count.unwrap_or(0)).try_for_each(|_| self.value(element, false, reader))
            }
            Type::Struct(fields) if nullable => match reader.i8()? {
                1 => self.fields(fields, reader),
                -1 => Ok(()),
                _ => Err(reader.error("neither a struct nor null")),
            },
            Type::Struct(fields) => self.fields(fields, reader),
        }
    }

    /// The least bytes a value takes: what makes a count of them believable.
    fn min_size(self, of: &'static Type) -> usize {
        match of {
            Type::Fixed(size) => *size,
            Type::Text if !self.flexible => 2,
            Type::Blob | Type::Array(_) if !self.flexible => 4,
            Type::Text | Type::Blob | Type::Array(_) => 1,
            Type::Struct(fields) => {
                let present = fields.iter().filter(|field| field.3.is_none() && self.has(field.1));
                let size = |field: &'static Field| match &field.0 {
                    Type::Struct(_) if self.has(field.2) => 1,
                    of => self.min_size(of),
                };
                present.map(size).sum::<usize>() + usize::from(self.flexible)
            }
        }
    }
}

fn refuse_null(refuse: bool, reader: &Reader<'_>) -> Result<(), ReadError> {
    if refuse { Err(reader.error("null where a value is required")) } else { Ok(()) }
}

#[cfg(test)]
pub(crate) mod tests;
