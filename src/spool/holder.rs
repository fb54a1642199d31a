//! Who has a spool open.

use std::path::Path;

/// The process that holds the lock, as far as it can be seen from here; `?` when its number is not to be read. To try the
/// lock would be simpler: a producer that starts in that moment would be refused.
#[cfg(target_os = "linux")]
pub(super) fn holder(lock: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let inode = std::fs::metadata(lock).ok()?.ino();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().any(|line| is_lock_of(line, inode)).then(|| named(lock))
}

/// `1: FLOCK  ADVISORY  WRITE 12248 fe:00:9977956 0 EOF`. The device is left out: file systems over others tell a
/// different one here.
#[cfg(target_os = "linux")]
fn is_lock_of(line: &str, inode: u64) -> bool {
    let mut words = line.split_whitespace().skip(1);
    let is_exclusive = words.next() == Some("FLOCK") && words.nth(1) == Some("WRITE");
    let place = words.nth(1).and_then(|place| place.rsplit(':').next());
    is_exclusive && place.and_then(|inode| inode.parse().ok()) == Some(inode)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn holder(lock: &Path) -> Option<String> {
    let file = std::fs::File::open(lock).ok()?;
    match file.try_lock_shared() {
        Err(std::fs::TryLockError::WouldBlock) => Some(named(lock)),
        _ => None,
    }
}

/// The number that the holder wrote into its lock.
fn named(lock: &Path) -> String {
    let told = std::fs::read_to_string(lock).unwrap_or_default();
    let told = told.trim();
    if told.is_empty() { "?".to_owned() } else { told.to_owned() }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_known_by_its_inode() {
        let line = "1: FLOCK  ADVISORY  WRITE 12248 fe:00:9977956 0 EOF";
        assert!(is_lock_of(line, 9_977_956));
        assert!(!is_lock_of(line, 997_795));
        assert!(!is_lock_of("2: POSIX  ADVISORY  WRITE 1 fe:00:9977956 0 EOF", 9_977_956));
        assert!(!is_lock_of("3: FLOCK  ADVISORY  READ 1 fe:00:9977956 0 EOF", 9_977_956));
    }
}
