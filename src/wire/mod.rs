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
pub mod requests;
pub mod version;

use bytes::{Bytes, BytesMut};

pub use code::ErrorCode;
pub use version::{ApiKey, ApiVersions};

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
