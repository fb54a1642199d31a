//! Cutting a stream of bytes into frames: four bytes of length, then that many bytes.

use bytes::{Bytes, BytesMut};

/// How much room to make at a time: what one read can bring. A length that was announced is not believed further than
/// twice what has arrived.
const STEP: usize = 64 * 1024;

/// Turns bytes as they arrive into frames. Feeds on [`FrameDecoder::buffer`], gives out by [`FrameDecoder::next`].
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    limit: usize,
    failed: Option<FrameError>,
}

/// Why the stream cannot be read on. The connection is of no use any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The answer is a TLS record.
    #[error("the port speaks TLS: connect with TLS, or to the plaintext listener")]
    Tls,
    /// The answer is HTTP.
    #[error("the port speaks HTTP: it is not a Kafka broker's")]
    Http,
    /// No length can be negative.
    #[error("the broker announced a frame of {length} bytes: not a Kafka port, or a broken stream")]
    Negative {
        /// What was announced.
        length: i32,
    },
    /// A response has at least its correlation id.
    #[error("the broker announced a frame of {length} bytes, too short for a correlation id")]
    TooShort {
        /// What was announced.
        length: i32,
    },
    /// More than the limit.
    #[error("the broker announced a frame of {length} bytes, the limit is {limit}")]
    TooLarge {
        /// What was announced.
        length: i32,
        /// The limit set.
        limit: usize,
    },
}

impl FrameDecoder {
    /// Takes frames of up to `limit` bytes.
    pub fn new(limit: usize) -> FrameDecoder {
        FrameDecoder { buffer: BytesMut::new(), limit, failed: None }
    }

    /// Takes frames of up to `limit` bytes from now on: more after authentication than before.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The buffer to append the stream's next bytes to, with room for some.
    pub fn buffer(&mut self) -> &mut BytesMut {
        let have = self.buffer.len();
        let room = match self.announced() {
            Some(length) if length > 0 && length as usize <= self.limit => {
                (length as usize + 4).saturating_sub(have).min(have.max(STEP))
            }
            _ => STEP,
        };
        // Reading goes on a little beyond one frame, but a buffer is not moved for a few bytes more.
        if self.buffer.capacity() - have < room.clamp(1, STEP / 16) {
            self.buffer.reserve(room.max(STEP / 4));
        }
        &mut self.buffer
    }

    /// The next whole frame without its length; none when bytes are missing. It shares the buffer's memory.
    ///
    /// # Errors
    /// [`FrameError`]: once, and from then on every time.
    #[allow(clippy::should_implement_trait, reason = "after None there may be more")]
    pub fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let Some(length) = self.announced() else { return Ok(None) };
        if let Err(error) = self.check(length) {
            self.failed = Some(error.clone());
            return Err(error);
        }
        let end = length as usize + 4;
        if self.buffer.len() < end {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(end);
        let _length = frame.split_to(4);
        Ok(Some(frame.freeze()))
    }

    /// Whether bytes of an unfinished frame are waiting: the stream must not end here.
    pub fn is_mid_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn announced(&self) -> Option<i32> {
        self.buffer.first_chunk::<4>().map(|bytes| i32::from_be_bytes(*bytes))
    }

    fn check(&self, length: i32) -> Result<(), FrameError> {
        if length >= 4 && length as usize <= self.limit {
            return Ok(());
        }
        Err(match length.to_be_bytes() {
            // Alert or handshake, then the version: 3.0 (SSL 3) to 3.4 (TLS 1.3).
            [0x15 | 0x16, 0x03, 0..=4, _] => FrameError::Tls,
            [b'H', b'T', b'T', b'P'] => FrameError::Http,
            _ if length < 0 => FrameError::Negative { length },
            _ if length < 4 => FrameError::TooShort { length },
            _ => FrameError::TooLarge { length, limit: self.limit },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_split_at_every_byte() {
        let stream = [&[0, 0, 0, 5][..], b"hello", &[0, 0, 0, 4], b"kafk", &[0, 0, 0, 6], b"broker"].concat();
        for cut in 0..=stream.len() {
            let mut decoder = FrameDecoder::new(100);
            let mut frames = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                decoder.buffer().extend_from_slice(part);
                while let Some(frame) = decoder.next().unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [&b"hello"[..], b"kafk", b"broker"], "cut at {cut}");
            assert!(!decoder.is_mid_frame());
        }
    }

    fn error_of(bytes: &[u8]) -> FrameError {
        let mut decoder = FrameDecoder::new(100 << 20);
        decoder.buffer().extend_from_slice(bytes);
        let error = decoder.next().unwrap_err();
        decoder.buffer().extend_from_slice(&[0; 8]);
        assert_eq!(decoder.next().unwrap_err(), error, "an error stays");
        error
    }

    #[test]
    fn tls_alert_as_length() {
        assert_eq!(error_of(&[0x15, 3, 3, 0, 2, 2, 70]), FrameError::Tls);
        assert_eq!(error_of(&[0x16, 3, 1, 2]), FrameError::Tls);
        assert_eq!(error_of(b"HTTP/1.1 400 Bad Request"), FrameError::Http);
    }

    #[test]
    fn negative_or_huge_length() {
        assert_eq!(error_of(&[0xff; 4]), FrameError::Negative { length: -1 });
        assert_eq!(error_of(&[0; 4]), FrameError::TooShort { length: 0 });
        let huge = FrameError::TooLarge { length: 0x7fff_ffff, limit: 100 << 20 };
        assert_eq!(error_of(&[0x7f, 0xff, 0xff, 0xff]), huge);
    }

    #[test]
    fn an_announced_length_is_not_allocated() {
        let mut decoder = FrameDecoder::new(100 << 20);
        decoder.buffer().extend_from_slice(&(100i32 << 20).to_be_bytes());
        assert_eq!(decoder.next(), Ok(None));
        assert!(decoder.buffer().capacity() <= 4 * STEP);
    }

    #[test]
    fn a_large_frame_is_handed_out_whole_and_the_rest_stays() {
        let mut stream = (1_000_000i32).to_be_bytes().to_vec();
        stream.resize(1_000_004, 7);
        stream.extend([0, 0, 0, 4, 1, 2]);
        let mut decoder = FrameDecoder::new(1 << 20);
        let mut frames = Vec::new();
        for part in stream.chunks(10_000) {
            decoder.buffer().extend_from_slice(part);
            frames.extend(decoder.next().unwrap());
        }
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].len(), 1_000_000);
        assert!(decoder.is_mid_frame());
    }
}
