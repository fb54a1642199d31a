//! That the disk is as bad as it says.

use super::{Disk, Files, Handle, SECTOR, Unsynced};
use std::io::{ErrorKind, IoSlice};

fn write(disk: &mut Disk, file: &mut Handle, offset: u64, byte: u8, len: usize) {
    assert_eq!(disk.write_at(file, offset, &[IoSlice::new(&vec![byte; len])]).unwrap(), len);
}

fn content(disk: &Disk, name: &str) -> Option<Vec<u8>> {
    disk.files().into_iter().find(|(found, _)| found == name).map(|(_, bytes)| bytes)
}

/// A file of two sectors, synced with its name, then overwritten and made longer.
fn overwritten(seed: u64) -> (Disk, Handle) {
    let mut disk = Disk::new(seed);
    let mut file = disk.create("a").unwrap();
    write(&mut disk, &mut file, 0, 1, 2 * SECTOR);
    disk.sync(&mut file).unwrap();
    disk.sync_dir().unwrap();
    write(&mut disk, &mut file, SECTOR as u64, 2, 2 * SECTOR);
    (disk, file)
}

#[test]
fn a_power_cut_takes_what_was_not_synced_and_a_killed_process_does_not() {
    let (disk, _) = overwritten(1);
    disk.kill();
    assert_eq!(content(&disk, "a").unwrap().len(), 3 * SECTOR);
    disk.power_cut(Unsynced::Dropped);
    assert_eq!(content(&disk, "a"), Some(vec![1; 2 * SECTOR]));
    let (mut disk, mut file) = overwritten(1);
    disk.sync(&mut file).unwrap();
    disk.power_cut(Unsynced::Dropped);
    assert_eq!(content(&disk, "a").unwrap()[SECTOR..], vec![2; 2 * SECTOR]);
}

#[test]
fn some_sectors_are_kept_some_not_some_torn() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let (disk, _) = overwritten(seed);
        disk.power_cut(Unsynced::Some);
        let content = content(&disk, "a").unwrap();
        assert_eq!(content[..SECTOR], vec![1; SECTOR]);
        let second = content[SECTOR..2 * SECTOR].iter().filter(|byte| **byte == 2).count();
        seen.insert(match second {
            0 => "old",
            SECTOR => "new",
            _ => "torn",
        });
        seen.insert(if content.len() == 2 * SECTOR { "short" } else { "longer" });
    }
    assert_eq!(seen.len(), 5, "{seen:?}");
}

#[test]
fn names_are_durable_with_their_directory_only() {
    let (mut disk, _) = overwritten(1);
    disk.remove("a").unwrap();
    let mut file = disk.create("b").unwrap();
    write(&mut disk, &mut file, 0, 3, 10);
    disk.sync(&mut file).unwrap();
    disk.power_cut(Unsynced::Dropped);
    assert_eq!((content(&disk, "a").is_some(), content(&disk, "b")), (true, None));
    disk.remove("a").unwrap();
    disk.sync_dir().unwrap();
    disk.power_cut(Unsynced::Dropped);
    assert_eq!(content(&disk, "a"), None);
}

#[test]
fn after_a_failed_sync_the_next_reports_success_and_the_bytes_are_not_there() {
    let lost = (0..100).filter(|seed| {
        let (mut disk, mut file) = overwritten(*seed);
        disk.faults(|faults| faults.failing_syncs = 1);
        assert!(disk.sync(&mut file).is_err());
        disk.sync(&mut file).unwrap();
        disk.power_cut(Unsynced::Kept);
        content(&disk, "a").unwrap()[SECTOR..] != vec![2; 2 * SECTOR]
    });
    assert!(lost.count() > 50);
}

#[test]
fn a_full_disk_takes_what_fits() {
    let (mut disk, mut file) = overwritten(1);
    disk.faults(|faults| faults.space = Some(3 * SECTOR as u64 + 10));
    let bytes = [9; SECTOR];
    assert_eq!(disk.write_at(&mut file, 3 * SECTOR as u64, &[IoSlice::new(&bytes)]).unwrap(), 10);
    let error = disk.write_at(&mut file, 3 * SECTOR as u64 + 10, &[IoSlice::new(&bytes)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    // What is there may be overwritten.
    write(&mut disk, &mut file, 0, 9, SECTOR);
}

#[test]
fn after_the_crash_nothing_works_and_old_handles_never_again() {
    let (mut disk, mut file) = overwritten(1);
    disk.crash_after(1);
    assert!(disk.sync(&mut file).is_err());
    assert!(disk.is_crashed() && disk.list().is_err());
    disk.kill();
    assert!(disk.list().is_ok() && disk.sync(&mut file).is_err());
}
