//! By what a file is known again, so that `--resume` goes on in the same file and in no other.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// How much of a file's beginning tells it from another one under the same name.
const HEAD: u64 = 4096;

/// A file whose lines have positions.
#[derive(Debug)]
pub(crate) struct SourceFile {
    path: String,
    inode: u64,
    len: u64,
    /// The first bytes, at most [`HEAD`].
    head: Vec<u8>,
}

/// Where to go on, and under which name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resumed {
    /// The source's name in the spool.
    pub(crate) name: String,
    /// The first byte that is in no record yet.
    pub(crate) at: u64,
}

impl SourceFile {
    /// Looks at an open file, and leaves it at its beginning.
    pub(crate) fn of(file: &mut File, path: &Path) -> io::Result<SourceFile> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            let why = "it is not a regular file, so what was read of it cannot be found again";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let path = std::fs::canonicalize(path)?;
        let mut head = Vec::new();
        file.take(HEAD).read_to_end(&mut head)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(SourceFile {
            path: path.to_string_lossy().into_owned(),
            inode: inode(&metadata),
            len: metadata.len().max(head.len() as u64),
            head,
        })
    }

    /// Where to go on, by the positions that a spool tells.
    ///
    /// # Errors
    /// Why this is not the file that the spool knows, and what to do.
    pub(crate) fn resume(&self, positions: &BTreeMap<String, u64>) -> Result<Resumed, String> {
        let known = positions.iter().filter_map(|(name, at)| Some((name, Known::parse(name)?, *at)));
        let known = known.filter(|(_, known, _)| known.path == self.path);
        let Some((name, known, at)) = known.max_by_key(|(_, known, at)| (self.is(known), *at)) else {
            return Ok(Resumed { name: self.name(self.head.len()), at: 0 });
        };
        let what = if known.inode != self.inode {
            format!("it is another file (inode {}, it was {})", self.inode, known.inode)
        } else if !self.is(&known) {
            format!("its first {} bytes are not what they were", known.head)
        } else if self.len < at {
            format!("it has {} bytes and was read up to byte {at}", self.len)
        } else {
            return Ok(Resumed { name: name.clone(), at });
        };
        Err(format!(
            "{} is not the file that --resume left off in: {what}. To go on, put that file back; to send this one as new \
             lines, leave --resume out or give it a spool of its own",
            self.path
        ))
    }

    fn is(&self, known: &Known<'_>) -> bool {
        let head = self.head.get(..known.head);
        known.inode == self.inode && head.is_some_and(|head| hash(head) == known.hash)
    }

    fn name(&self, head: usize) -> String {
        let hash = hash(self.head.get(..head).unwrap_or_default());
        format!("file:{}|ino={}|head={head}:{hash:016x}", self.path, self.inode)
    }
}

/// A source's name, taken apart.
#[derive(Debug)]
struct Known<'a> {
    path: &'a str,
    inode: u64,
    head: usize,
    hash: u64,
}

impl Known<'_> {
    fn parse(name: &str) -> Option<Known<'_>> {
        // From the back: a path may hold anything.
        let (rest, head) = name.strip_prefix("file:")?.rsplit_once("|head=")?;
        let (path, inode) = rest.rsplit_once("|ino=")?;
        let (head, hash) = head.split_once(':')?;
        Some(Known {
            path,
            inode: inode.parse().ok()?,
            head: head.parse().ok()?,
            hash: u64::from_str_radix(hash, 16).ok()?,
        })
    }
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

/// Elsewhere path and beginning must do.
#[cfg(not(unix))]
fn inode(_metadata: &Metadata) -> u64 {
    0
}

/// FNV-1a in 64 bits: against mix-ups, not against forgery.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(inode: u64, text: &str) -> SourceFile {
        let head = text.as_bytes()[..text.len().min(4096)].to_vec();
        SourceFile { path: "/a|ino=7/b".to_owned(), inode, len: text.len() as u64, head }
    }

    fn positions(of: &SourceFile, at: u64) -> BTreeMap<String, u64> {
        BTreeMap::from([(of.name(of.head.len()), at), ("file:/a|ino=1|head=0:0".to_owned(), 9), ("x".to_owned(), 1)])
    }

    #[test]
    fn a_file_that_grew_is_the_same() {
        let first = file(3, "a\nb\n");
        assert_eq!(first.resume(&BTreeMap::new()).unwrap().at, 0);
        let known = positions(&first, 4);
        let grown = file(3, "a\nb\nc\n");
        let resumed = grown.resume(&known).unwrap();
        assert_eq!(resumed, Resumed { name: first.name(4), at: 4 });
        assert_ne!(resumed.name, grown.name(6), "it keeps its name, or it would be sent again");
    }

    #[test]
    fn another_file_is_refused_with_the_reason() {
        let first = file(3, "a\nb\n");
        let known = positions(&first, 4);
        for (other, why) in [
            (file(4, "a\nb\n"), "inode 4, it was 3"),
            (file(3, "a\nx\n"), "first 4 bytes"),
            (file(3, "a\n"), "first 4 bytes"),
        ] {
            let refused = other.resume(&known).unwrap_err();
            assert!(refused.contains(why) && refused.contains("leave --resume out"), "{refused}");
        }
        let long = file(3, &"a\n".repeat(5000));
        let known = positions(&long, 10_000);
        let refused = file(3, &"a\n".repeat(3000)).resume(&known).unwrap_err();
        assert!(refused.contains("6000 bytes and was read up to byte 10000"), "{refused}");
    }
}
