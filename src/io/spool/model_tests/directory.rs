//! What only a real directory shows.

use super::stories::story;
use crate::config::SpoolConfig;
use crate::error::SpoolError;
use crate::io::spool::engine::Engine;
use crate::io::spool::files::Directory;
use crate::io::spool::tests::Temp;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

fn open(config: &SpoolConfig) -> Result<Engine<Directory>, SpoolError> {
    let files = Directory::take(&config.directory)?;
    Engine::open(files, config, *b"0123456789abcdef").map(|(engine, _)| engine)
}

/// A spool with something in it.
fn written() -> (Temp, SpoolConfig) {
    let temp = Temp::new();
    let config = temp.config();
    open(&config).unwrap().commit(&story(31, 5)).unwrap();
    (temp, config)
}

fn refusal(config: &SpoolConfig) -> String {
    match open(config).map(|_| ()) {
        Err(SpoolError::Refused { path, why }) => format!("{}: {why}", path.display()),
        other => panic!("not refused: {other:?}"),
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// Nobody else may read what lies in a spool, nor lay something into it.
///
/// Catches: files made with the umask's mode; wider modes accepted.
#[test]
fn spool_file_mode_0600() {
    let (temp, config) = written();
    assert_eq!(mode(temp.path()), 0o700);
    let files: Vec<_> = fs::read_dir(temp.path()).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 2, "{files:?}");
    for file in &files {
        assert_eq!(mode(file), 0o600, "{file:?}");
        fs::set_permissions(file, Permissions::from_mode(0o604)).unwrap();
        let refusal = refusal(&config);
        assert!(refusal.contains("chmod 600") && refusal.contains(&*file.to_string_lossy()), "{refusal}");
        fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
    }
    fs::set_permissions(temp.path(), Permissions::from_mode(0o750)).unwrap();
    assert!(refusal(&config).contains("chmod 700"));
    fs::set_permissions(temp.path(), Permissions::from_mode(0o700)).unwrap();
    open(&config).unwrap();
}

/// A link in place of the directory or of any file in it is not followed, and nothing behind it is changed.
///
/// Catches: an open that follows links.
#[test]
fn symlink_refused() {
    let (temp, config) = written();
    let files: Vec<_> = fs::read_dir(temp.path()).unwrap().map(|file| file.unwrap().path()).collect();
    let elsewhere = Temp::new();
    for file in &files {
        fs::rename(file, elsewhere.path()).unwrap();
        let before = fs::read(elsewhere.path()).unwrap();
        symlink(elsewhere.path(), file).unwrap();
        assert!(refusal(&config).contains("symbolic link"));
        assert!(fs::read(elsewhere.path()).unwrap() == before, "{file:?} was followed");
        fs::remove_file(file).unwrap();
        // Also one that leads nowhere.
        symlink(temp.path().join("nowhere"), file).unwrap();
        assert!(refusal(&config).contains("symbolic link"));
        assert!(!temp.path().join("nowhere").exists());
        fs::remove_file(file).unwrap();
        fs::rename(elsewhere.path(), file).unwrap();
    }
    symlink(temp.path(), elsewhere.path()).unwrap();
    let link = SpoolConfig { directory: elsewhere.path().to_owned(), ..config.clone() };
    assert!(refusal(&link).contains("symbolic link"));
    fs::remove_file(elsewhere.path()).unwrap();
    open(&config).unwrap();
}

const DIRECTORY: &str = "INDELIBLE_TEST_SPOOL";

/// Not a test: the other process of [`two_openers`].
#[test]
fn other_opener() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let config = SpoolConfig { segment_bytes: 64 << 10, max_bytes: 1 << 20, ..SpoolConfig::new(directory) };
    let _engine = open(&config).unwrap();
    println!("open");
    // Until the other end is closed, or it is killed.
    let _ = std::io::stdin().read(&mut [0]);
}

/// One process has it; the second is told which. Killed, it has it no longer.
///
/// Catches: no lock; a lock that outlives its process; a holder nobody can find.
#[test]
fn two_openers() {
    let (temp, config) = written();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "io::spool::model_tests::directory::other_opener"])
        .env(DIRECTORY, temp.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = Vec::new();
    let mut out = child.stdout.take().unwrap();
    while !told.ends_with(b"open\n") {
        let mut byte = [0];
        assert_eq!(out.read(&mut byte).unwrap(), 1, "it ended: {}", String::from_utf8_lossy(&told));
        told.push(byte[0]);
    }
    match open(&config).map(|_| ()) {
        Err(error @ SpoolError::InUse { .. }) => {
            assert!(error.to_string().contains(&format!("process {}", child.id())), "{error}");
        }
        other => panic!("{other:?}"),
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let first = open(&config).unwrap();
    match open(&config).map(|_| ()) {
        Err(SpoolError::InUse { holder, .. }) => assert_eq!(holder, std::process::id().to_string()),
        other => panic!("{other:?}"),
    }
    drop(first);
    open(&config).unwrap();
}
