//! The files of a spool: the only place that touches the disk, behind a trait so that tests can lose what was not synced.

use std::io;

/// A directory of files, as the engine uses it. Writes may be short and reads too; nothing is durable before its sync, and
/// a file's name not before [`Files::sync_dir`].
pub(crate) trait Files: Send {
    /// An open file.
    type File: Send;

    /// Names and sizes of the files in it.
    fn list(&mut self) -> io::Result<Vec<(String, u64)>>;

    /// Creates the file `name`, which must not exist, for reading and writing, mode 0600.
    fn create(&mut self, name: &str) -> io::Result<Self::File>;

    /// Opens the file `name`. A symbolic link is refused.
    fn open(&mut self, name: &str, writable: bool) -> io::Result<Self::File>;

    /// Removes the file `name`.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// Makes creations and removals durable.
    fn sync_dir(&mut self) -> io::Result<()>;

    /// Reads at `offset`; 0 at the end of the file.
    fn read_at(&mut self, file: &mut Self::File, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes the concatenation of `parts` at `offset`, and says how much of it.
    fn write_at(&mut self, file: &mut Self::File, offset: u64, parts: &[io::IoSlice<'_>]) -> io::Result<usize>;

    /// Makes the contents durable (fdatasync).
    fn sync(&mut self, file: &mut Self::File) -> io::Result<()>;
}
