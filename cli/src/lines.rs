//! Lines of a file or of standard input, read by a thread of its own in pieces of bounded size.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::failure::Failure;

/// How much is read at a time.
const READ: usize = 256 << 10;
/// Pieces that wait for the sender. With the one being filled this bounds the reader's memory to 1 MiB, long lines apart.
const QUEUE: usize = 2;
/// The longest line: the largest request that Kafka's protocol could take is not much larger.
pub(crate) const LONGEST: usize = 64 << 20;

/// A piece of the input: whole lines, or why there are no more.
pub(crate) type Piece = Result<Lines, String>;

/// Where lines come from, opened and not read yet.
#[derive(Debug)]
pub(crate) struct Input {
    name: String,
    source: Source,
}

#[derive(Debug)]
enum Source {
    File(File),
    Standard,
}

impl Input {
    /// Opens the file, or standard input.
    pub(crate) fn open(file: Option<&Path>) -> Result<Input, Failure> {
        let Some(path) = file else {
            return Ok(Input { name: "standard input".to_owned(), source: Source::Standard });
        };
        let name = path.display().to_string();
        let open = File::open(path).and_then(|file| match file.metadata()?.is_dir() {
            true => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            false => Ok(file),
        });
        match open {
            Ok(file) => Ok(Input { name, source: Source::File(file) }),
            Err(error) => Err(Failure::local(format!("{name} cannot be read: {error}; check --file"))),
        }
    }

    /// The file that will be read, if it is one.
    pub(crate) fn file(&mut self) -> Option<&mut File> {
        match &mut self.source {
            Source::File(file) => Some(file),
            Source::Standard => None,
        }
    }

    /// Starts to read at this byte; what is no file can only be read from 0 on. Dropping the receiver stops the thread at
    /// its next piece; while it waits for input it holds nothing that the process needs.
    pub(crate) fn read_from(self, offset: u64) -> Result<mpsc::Receiver<Piece>, Failure> {
        match self.source {
            Source::Standard => start(self.name, io::stdin(), 0),
            Source::File(mut file) => {
                if offset > 0 {
                    let sought = file.seek(SeekFrom::Start(offset));
                    sought.map_err(|error| Failure::local(format!("{} has no byte {offset}: {error}", self.name)))?;
                }
                start(self.name, file, offset)
            }
        }
    }
}

fn start(name: String, source: impl Read + Send + 'static, offset: u64) -> Result<mpsc::Receiver<Piece>, Failure> {
    let (pieces, receiver) = mpsc::channel(QUEUE);
    let work = move || {
        let ended = pump(source, offset, |lines| pieces.blocking_send(Ok(lines)).is_ok());
        if let Err(error) = ended {
            let _ = pieces.blocking_send(Err(format!("{name} cannot be read on: {error}")));
        }
    };
    let spawned = std::thread::Builder::new().name("input".to_owned()).spawn(work);
    spawned.map_err(|error| Failure::local(format!("the input's thread cannot be started: {error}")))?;
    Ok(receiver)
}

/// Hands whole lines to `take` as soon as they are there, until that answers false. The source stands at `offset`.
fn pump(mut source: impl Read, mut offset: u64, mut take: impl FnMut(Lines) -> bool) -> io::Result<()> {
    let mut take = |bytes: Bytes| {
        let lines = Lines { offset, rest: bytes };
        offset += lines.rest.len() as u64;
        take(lines)
    };
    let mut buffer = BytesMut::with_capacity(READ);
    let mut room = vec![0; READ];
    loop {
        let read = match source.read(&mut room) {
            Ok(0) => {
                if !buffer.is_empty() {
                    take(buffer.freeze());
                }
                return Ok(());
            }
            Ok(read) => &room[..read],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        match memchr::memrchr(b'\n', read) {
            Some(last) => {
                buffer.extend_from_slice(&read[..=last]);
                if !take(std::mem::take(&mut buffer).freeze()) {
                    return Ok(());
                }
                buffer.extend_from_slice(&read[last + 1..]);
            }
            None => buffer.extend_from_slice(read),
        }
        if buffer.len() > LONGEST {
            return Err(io::Error::other(format!("a line is longer than {LONGEST} bytes")));
        }
    }
}

/// Lines that were read together.
#[derive(Debug)]
pub(crate) struct Lines {
    /// Where `rest` begins in the input.
    offset: u64,
    rest: Bytes,
}

/// A line without its line feed.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) bytes: Bytes,
    /// The input's byte after it, and after its line feed.
    pub(crate) end: u64,
}

impl Iterator for Lines {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        if self.rest.is_empty() {
            return None;
        }
        let bytes = match memchr::memchr(b'\n', &self.rest) {
            Some(end) => {
                self.offset += 1;
                self.rest.split_to(end + 1).slice(..end)
            }
            None => self.rest.split_off(0),
        };
        self.offset += bytes.len() as u64;
        Some(Line { bytes, end: self.offset })
    }
}

/// A separator as it is typed: `\t`, `\n`, `\r`, `\0`, `\\` and `\xHH` are bytes.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            out.push(*first);
            continue;
        }
        let (byte, taken) = match rest {
            [b't', ..] => (b'\t', 1),
            [b'n', ..] => (b'\n', 1),
            [b'r', ..] => (b'\r', 1),
            [b'0', ..] => (0, 1),
            [b'\\', ..] => (b'\\', 1),
            [b'x', high, low, ..] => {
                let digits = [*high, *low];
                let hex = std::str::from_utf8(&digits).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
                (hex.ok_or_else(|| format!("\\x in {text:?} takes two hexadecimal digits"))?, 3)
            }
            _ => return Err(format!("{text:?} has a \\ that is none of \\t \\n \\r \\0 \\\\ \\xHH")),
        };
        out.push(byte);
        rest = &rest[taken..];
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8], read: usize) -> Vec<Vec<u8>> {
        struct Slow<'a>(&'a [u8], usize);
        impl Read for Slow<'_> {
            fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
                let len = room.len().min(self.1);
                self.0.read(&mut room[..len])
            }
        }
        let mut out = Vec::new();
        pump(Slow(text, read), 7, |lines| {
            for line in lines {
                let end = usize::try_from(line.end).unwrap() - 7;
                let complete = text[..end].strip_suffix(b"\n").unwrap_or(&text[..end]);
                assert!(complete.ends_with(&line.bytes), "{line:?}");
                out.push(line.bytes.to_vec());
            }
            true
        })
        .unwrap();
        out
    }

    #[test]
    fn lines_are_the_same_however_they_are_read() {
        for read in 1..8 {
            assert_eq!(lines(b"a\r\n\nbcd\n\xff", read), [&b"a\r"[..], b"", b"bcd", b"\xff"]);
            assert_eq!(lines(b"a\n", read), [b"a"]);
            assert!(lines(b"", read).is_empty());
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape(r"a\t\x00\\b").unwrap(), b"a\t\0\\b");
        assert!(unescape(r"\q").is_err());
        assert!(unescape(r"\x0").is_err());
    }
}
