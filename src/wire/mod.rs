//! Bytes: frames, API versions, record batches, codecs, and one module for each request.
//!
//! This is the only layer that uses the kafka-protocol crate. Whatever comes from the network passes a bound of ours
//! before anything is allocated for it: Produce and Fetch responses have decoders of their own that borrow, every other
//! response is walked by [`guard`] before kafka-protocol's decoder sees it.

pub mod batch;
pub mod code;
pub mod compression;
pub mod frame;
pub mod guard;
pub mod reader;
pub mod requests;
#[cfg(test)]
pub(crate) mod test_random;
pub mod version;
mod writer;

use bytes::{BufMut, Bytes, BytesMut};

pub use code::ErrorCode;
pub use version::{ApiKey, ApiVersions};

use reader::ReadError;

/// A request kind: what it asks, what it is answered with, and how both look in each version.
pub trait Request {
    /// What the broker answers.
    type Response;
    /// The API's key.
    const KEY: ApiKey;
    /// The lowest and highest version this client speaks.
    const VERSIONS: (i16, i16);

    /// Writes the body (without the header) in the layout of `version`.
    ///
    /// # Errors
    /// [`WireError::Encode`] when the request cannot be said in that version, and how to say it otherwise.
    fn encode(&self, version: i16, out: &mut Chunks) -> Result<(), WireError>;

    /// Reads an answer's body (without the header). Slices of `body` may live on in the response.
    ///
    /// # Errors
    /// [`WireError::Decode`] for bytes that are no such response. Nothing is allocated beyond what the bytes can hold.
    fn decode(version: i16, body: Bytes) -> Result<Self::Response, WireError>;
}

/// Bytes to write: small parts encoded into one buffer, large frozen ones (record batches) between them, uncopied.
#[derive(Debug, Default)]
pub struct Chunks {
    done: Vec<Bytes>,
    open: BytesMut,
}

impl Chunks {
    /// The buffer to encode small parts into.
    pub fn buf(&mut self) -> &mut BytesMut {
        &mut self.open
    }

    /// Appends `bytes` without copying them.
    pub fn push(&mut self, bytes: Bytes) {
        if !self.open.is_empty() {
            self.done.push(self.open.split().freeze());
        }
        self.done.push(bytes);
    }

    /// All bytes so far.
    pub fn len(&self) -> usize {
        self.done.iter().map(Bytes::len).sum::<usize>() + self.open.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The parts in order, for a vectored write.
    pub fn into_parts(mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            self.done.push(self.open.freeze());
        }
        self.done
    }
}

/// Bytes that cannot be read, or a request that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The request cannot be expressed in the version the broker speaks.
    #[error("cannot write a {api} request in version {version}: {reason}")]
    Encode {
        /// Which API.
        api: ApiKey,
        /// The version negotiated.
        version: i16,
        /// What does not fit.
        reason: String,
    },
    /// The bytes are not a response of this API and version.
    #[error("cannot read the {api} response in version {version}: {reason}")]
    Decode {
        /// Which API.
        api: ApiKey,
        /// The version asked for.
        version: i16,
        /// What is wrong, and at which byte.
        reason: String,
    },
    /// The broker does not offer a version of this API that the client speaks.
    #[error("the broker offers {api} in versions {broker:?}, this client speaks {client:?}: {hint}")]
    Unsupported {
        /// Which API.
        api: ApiKey,
        /// The broker's range; none when it does not know the API.
        broker: Option<(i16, i16)>,
        /// The client's range.
        client: (i16, i16),
        /// What can be done.
        hint: &'static str,
    },
}

impl WireError {
    pub(crate) fn encode(api: ApiKey, version: i16, reason: impl Into<String>) -> WireError {
        WireError::Encode { api, version, reason: reason.into() }
    }

    pub(crate) fn decode(api: ApiKey, version: i16, error: ReadError) -> WireError {
        WireError::Decode { api, version, reason: error.to_string() }
    }
}

/// A whole request frame in parts for a vectored write: length, header (version 1, or 2 for flexible versions), body.
/// Record batches are among the parts as they are, uncopied.
///
/// # Errors
/// [`WireError::Encode`] when the request cannot be said in `version`, or is longer than the length prefix can say.
pub fn encode_request<R: Request>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: &str,
) -> Result<Vec<Bytes>, WireError> {
    let (header, _) = R::KEY.header_versions(version);
    let client_id_len = i16::try_from(client_id.len())
        .map_err(|_| WireError::encode(R::KEY, version, "the client id is longer than 32767 bytes"))?;
    let mut out = Chunks::default();
    let buf = out.buf();
    buf.put_i32(0); // the length, known at the end
    buf.put_i16(R::KEY as i16);
    buf.put_i16(version);
    buf.put_i32(correlation_id);
    buf.put_i16(client_id_len);
    buf.put_slice(client_id.as_bytes());
    if header >= 2 {
        buf.put_u8(0); // no tagged fields
    }
    request.encode(version, &mut out)?;
    let length = i32::try_from(out.len() - 4)
        .map_err(|_| WireError::encode(R::KEY, version, "the request is longer than 2 GiB"))?;
    let mut parts = out.into_parts();
    if let Some(first) = parts.first_mut() {
        // The first part is small (never a batch): copying it spares a part of its own for four bytes.
        let mut head = std::mem::take(first).try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        head[..4].copy_from_slice(&length.to_be_bytes());
        *first = head.freeze();
    }
    Ok(parts)
}

/// The correlation id of a response frame: with it the caller finds which API and version the rest is in.
/// None when the frame is shorter than that.
pub fn correlation_id(frame: &[u8]) -> Option<i32> {
    frame.first_chunk::<4>().map(|bytes| i32::from_be_bytes(*bytes))
}

/// Splits a response frame (without its length) into correlation id and body.
///
/// # Errors
/// [`WireError::Decode`] when the frame is shorter than its header.
pub fn split_response_header(api: ApiKey, version: i16, frame: Bytes) -> Result<(i32, Bytes), WireError> {
    let (_, header) = api.header_versions(version);
    let mut reader = reader::Reader::new(&frame);
    let mut read = || {
        let correlation_id = reader.i32()?;
        if header >= 1 {
            reader.skip_tags()?;
        }
        Ok((correlation_id, reader.position()))
    };
    let (correlation_id, body) = read().map_err(|error| WireError::decode(api, version, error))?;
    Ok((correlation_id, frame.slice(body..)))
}
