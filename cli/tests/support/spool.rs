//! Spools on disk, as the program tells of them.

use std::path::PathBuf;
use std::time::Duration;

use super::{program, run};

/// A directory that is gone afterwards.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("indelible-cli-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `spool status --json`.
#[track_caller]
pub fn status(spool: &str) -> String {
    let ran = run(program(&format!("spool status {spool} --json")), b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.out
}

/// The first number of this name in a document.
#[track_caller]
pub fn number(document: &str, name: &str) -> u64 {
    let found = document.split_once(&format!("\"{name}\":")).map(|(_, rest)| rest);
    let digits = found.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("no {name} in {document}"))
}

/// Waits until so many records lie in a spool.
#[track_caller]
pub fn wait_for_spooled(spool: &str, records: u64) {
    for _ in 0..200 {
        let ran = run(program(&format!("spool status {spool} --json")), b"");
        if ran.code == Some(0) && number(&ran.out, "records") == records {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{records} records are not in the spool: {}", status(spool));
}
