//! Cutting a stream of bytes into frames: four bytes of length, then that many bytes.
//!
//! Small frames share a buffer. A large one has a buffer of its own, which is used again when the last slice of the
//! frame is dropped: fresh memory costs more than filling it.

use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};

use crate::sync::lock;

/// A length that was announced is not believed further than this, or twice what has arrived, or what has come whole
/// before: the largest of them.
const STEP: usize = 64 * 1024;
/// What one read brings while the next length is unknown. What it brings of a large frame is copied once more.
const SMALL: usize = 8 * 1024;
/// From here on a frame has a buffer of its own.
const LARGE: usize = 32 * 1024;
/// The buffers kept for later frames, in all.
const SPARE: usize = 8 << 20;

/// Turns bytes as they arrive into frames. Feeds on [`FrameDecoder::buffer`], gives out by [`FrameDecoder::next`].
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    /// The buffer is one frame's own.
    large: bool,
    limit: usize,
    /// The largest frame that came whole.
    largest: usize,
    spare: Arc<SpareBuffers>,
    failed: Option<FrameError>,
}

/// Buffers of frames that nobody reads any more, at most 8 MiB of them. The connections of a client share them.
#[derive(Debug, Default)]
pub struct SpareBuffers {
    buffers: Mutex<Vec<BytesMut>>,
}

impl SpareBuffers {
    /// A buffer for `length` bytes, not more than twice as large: a frame is not to pin much more than itself.
    fn take(&self, length: usize) -> Option<BytesMut> {
        let mut buffers = lock(&self.buffers);
        let fits = |buffer: &BytesMut| (length..=length.saturating_mul(2)).contains(&buffer.capacity());
        // The newest is the one most likely still in the processor's cache.
        let at = buffers.iter().rposition(fits)?;
        Some(buffers.remove(at))
    }

    fn give(&self, mut buffer: BytesMut) {
        if buffer.capacity() < LARGE || buffer.capacity() > SPARE {
            return;
        }
        buffer.clear();
        let mut buffers = lock(&self.buffers);
        buffers.push(buffer);
        let mut bytes: usize = buffers.iter().map(BytesMut::capacity).sum();
        while bytes > SPARE {
            bytes -= buffers.remove(0).capacity();
        }
    }

    #[cfg(test)]
    fn capacities(&self) -> Vec<usize> {
        lock(&self.buffers).iter().map(BytesMut::capacity).collect()
    }
}

/// The memory of a large frame; back to the spare buffers with its last slice.
struct Loan {
    buffer: BytesMut,
    spare: Arc<SpareBuffers>,
}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.spare.give(std::mem::take(&mut self.buffer));
    }
}

/// Why the stream cannot be read on. The connection is of no use any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The answer is a TLS record.
    #[error("the port speaks TLS: set security.protocol=SSL or SASL_SSL, or connect to the plaintext listener")]
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
        FrameDecoder::with_spare(limit, Arc::default())
    }

    /// As [`FrameDecoder::new`], with buffers shared with other decoders.
    pub fn with_spare(limit: usize, spare: Arc<SpareBuffers>) -> FrameDecoder {
        FrameDecoder { buffer: BytesMut::new(), large: false, limit, largest: 0, spare, failed: None }
    }

    /// Takes frames of up to `limit` bytes from now on: more after authentication than before.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The buffer to append the stream's next bytes to, with room for some.
    pub fn buffer(&mut self) -> &mut BytesMut {
        let have = self.buffer.len();
        let end = match self.announced() {
            Some(length) if length > 0 && length as usize <= self.limit => length as usize + 4,
            _ => have,
        };
        if end > LARGE && (!self.large || self.buffer.capacity() == have) {
            self.enlarge(end);
        }
        // Reading goes on a little beyond one frame, but a buffer is not moved for a few bytes more.
        let room = end.saturating_sub(have).clamp(1, SMALL);
        if !self.large && self.buffer.capacity() - have < room.max(SMALL / 4) {
            self.buffer.reserve(room.max(SMALL));
        }
        &mut self.buffer
    }

    /// Moves what has arrived of a frame of `end` bytes to a buffer for more of it.
    fn enlarge(&mut self, end: usize) {
        let larger = self.spare.take(end).unwrap_or_else(|| {
            let believed = STEP.max(self.buffer.len().saturating_mul(2)).max(self.largest);
            // Powers of two, so that one frame's buffer fits the next.
            BytesMut::with_capacity(end.min(believed).max(LARGE).next_power_of_two())
        });
        let small = std::mem::replace(&mut self.buffer, larger);
        self.buffer.extend_from_slice(&small);
        if std::mem::replace(&mut self.large, true) {
            self.spare.give(small);
        }
    }

    /// The next whole frame without its length; none when bytes are missing. It shares the buffer's memory, or
    /// has that of a large buffer to itself.
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
        self.largest = self.largest.max(end);
        if !std::mem::take(&mut self.large) {
            let mut frame = self.buffer.split_to(end);
            let _length = frame.split_to(4);
            return Ok(Some(frame.freeze()));
        }
        let rest = BytesMut::from(&self.buffer[end..]);
        let mut buffer = std::mem::replace(&mut self.buffer, rest);
        buffer.truncate(end);
        Ok(Some(Bytes::from_owner(Loan { buffer, spare: self.spare.clone() }).slice(4..)))
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

    fn frame_of(decoder: &mut FrameDecoder, length: usize) -> Bytes {
        let mut stream = (length as i32).to_be_bytes().to_vec();
        stream.resize(length + 4, 7);
        for part in stream.chunks(SMALL) {
            decoder.buffer().extend_from_slice(part);
        }
        decoder.next().unwrap().unwrap()
    }

    #[test]
    fn a_large_frames_memory_is_used_again_once_its_last_slice_is_dropped() {
        let mut decoder = FrameDecoder::new(100 << 20);
        let first = frame_of(&mut decoder, 1_000_000);
        let (at, slice) = (first.as_ptr(), first.slice(10..20));
        drop(first);
        assert!(decoder.spare.capacities().iter().all(|capacity| *capacity < 1 << 20), "a slice still reads it");
        drop(slice);
        let second = frame_of(&mut decoder, 900_000);
        assert_eq!(second.as_ptr(), at);
        assert_eq!((second.len(), second[0], second[899_999]), (900_000, 7, 7));
        // A small frame is not to pin a large buffer.
        drop(second);
        assert_ne!(frame_of(&mut decoder, 100_000).as_ptr(), at);
    }

    #[test]
    fn spare_buffers_are_bounded() {
        let mut decoder = FrameDecoder::new(100 << 20);
        let frames: Vec<Bytes> = (0..20).map(|_| frame_of(&mut decoder, 1_000_000)).collect();
        drop(frames);
        drop(frame_of(&mut decoder, 20 << 20));
        assert_eq!(decoder.spare.capacities().iter().sum::<usize>(), SPARE);
    }

    #[test]
    fn what_came_behind_a_large_frame_is_read_on() {
        let (large, small) = (vec![1; 50_000], b"small");
        let mut stream = (50_000i32).to_be_bytes().to_vec();
        stream.extend(&large);
        stream.extend(5i32.to_be_bytes());
        stream.extend(small);
        let stream = [stream.clone(), stream].concat();
        let mut decoder = FrameDecoder::new(100_000);
        let mut frames = Vec::new();
        for part in stream.chunks(30_000) {
            decoder.buffer().extend_from_slice(part);
            while let Some(frame) = decoder.next().unwrap() {
                frames.push(frame);
            }
        }
        assert_eq!(frames, [&large[..], small, &large, small]);
        assert!(!decoder.is_mid_frame());
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
