//! Directories for spools, and producers that have one.

use indelible::{Client, Producer};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::one_by_one;

/// A directory that is not there yet, and goes with the test.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new() -> Dir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("indelible-spool-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        // A process of this number may have been killed before.
        let _ = std::fs::remove_dir_all(&path);
        Dir(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub async fn spooling(client: &Client, dir: &Dir) -> Producer {
    one_by_one(client).spool(&dir.0).build().await.unwrap()
}

/// What it cannot deliver within 200 ms goes to disk.
pub async fn spilling(client: &Client, dir: &Dir) -> Producer {
    one_by_one(client).spill(&dir.0).delivery_timeout(Duration::from_millis(200)).build().await.unwrap()
}
