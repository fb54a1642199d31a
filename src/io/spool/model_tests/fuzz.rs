//! What the fuzz target `spool_recover` does: a spool that was really written is changed as the input says, and opened.

use super::generate::Generator;
use super::model::Model;
use crate::config::{Durability, SpoolConfig};
use crate::core::spool::format::{ENTRY_HEAD, EntryHead, GROUP_HEAD, Place, SpoolId, entry_crc};
use crate::core::spool::{BatchId, Group, Op, Recovered};
use crate::io::spool::engine::Engine;
use crate::io::spool::faulty::{Disk, SECTOR, Unsynced};
use crate::wire::batch::SealedBatch;
use std::collections::BTreeMap;

type Files = Vec<(String, Vec<u8>)>;

const SPOOL: [u8; 16] = *b"0123456789abcdef";
const GROUPS: usize = 40;

/// A spool of several segments, some of them used twice.
pub(crate) struct Written {
    /// What the disk held after each group.
    images: Vec<Files>,
    /// What the spool held after none, one, two, ... of them.
    models: Vec<Model>,
    /// All batches there ever were.
    batches: BTreeMap<BatchId, SealedBatch>,
    durability: Durability,
}

fn config(durability: Durability) -> SpoolConfig {
    let mut config = SpoolConfig::new("/spool");
    (config.durability, config.segment_bytes, config.max_bytes) = (durability, 16 << 10, 1 << 20);
    config
}

impl Written {
    /// Every `choice` is another one.
    pub(crate) fn new(choice: u8) -> Written {
        let durability = if choice.is_multiple_of(2) { Durability::PowerLoss } else { Durability::ProcessCrash };
        let mut generator = Generator::new(u64::from(choice));
        (generator.largest, generator.backlog) = (900, 12);
        let disk = Disk::new(u64::from(choice));
        let (mut engine, _) = Engine::open(disk.clone(), &config(durability), SPOOL).expect("opens");
        let (mut images, mut models, mut batches) = (vec![disk.files()], vec![Model::default()], BTreeMap::new());
        for n in 0..GROUPS {
            let model = models.last().expect("one at least");
            let group = generator.group(model);
            let after = model.after([&group]);
            engine.commit(std::slice::from_ref(&group)).expect("written");
            if n % 3 == 0 {
                engine.maintain().expect("maintained");
            }
            for op in &group.ops {
                if let Op::Batch(batch) = op {
                    batches.insert(batch.id, batch.sealed.clone());
                }
            }
            models.push(after);
            images.push(disk.files());
        }
        Written { images, models, batches, durability }
    }

    /// Changes and opens it. `within` runs the opening, given the number of bytes there are.
    pub(crate) fn recover(&self, mut edits: &[u8], within: impl Fn(usize, &mut dyn FnMut())) {
        let mut files = self.images[GROUPS].clone();
        let (mut is_forged, mut swaps) = (false, 0);
        while let Some((edit, rest)) = edits.split_at_checked(8) {
            edits = rest;
            // Sectors of another time or place, files cut, gone or exchanged.
            swaps += usize::from(matches!(edit.first().map(|kind| kind % 9), Some(3..=7)));
            is_forged |= self.edit(&mut files, edit, &mut edits);
        }
        let disk = Disk::holding(1, files);
        let size = disk.used() as usize;
        let mut opened = None;
        within(size, &mut || opened = Some(Engine::open(disk.clone(), &config(self.durability), SPOOL)));
        let Some(Ok((mut engine, recovered))) = opened else { return };
        for batch in &recovered.batches {
            let read = engine.read(batch.id);
            // With the checksums made right anything may be said, but nothing may break.
            if !is_forged {
                let read = read.unwrap_or_else(|error| panic!("{} is not to be read: {error}", batch.id));
                assert!(self.batches.get(&batch.id) == Some(&read), "{} was never written like that", batch.id);
            }
        }
        // Two of these at once are no accident: a file that is gone while its sectors lie in another, say.
        if is_forged || swaps > 1 {
            return;
        }
        let is_known = || self.models.iter().rev().any(|model| model.difference(&recovered).is_none());
        assert!(!recovered.damage.is_empty() || is_known(), "neither as it was nor damaged: {recovered:?}");
        self.go_on(disk, engine, recovered);
    }

    /// It can be written, and what was told is told again, except for the damage.
    fn go_on(&self, disk: Disk, mut engine: Engine<Disk>, mut first: Recovered) {
        let group = Group { ops: vec![Op::Position { source: "after".into(), position: 1 }] };
        if engine.commit(std::slice::from_ref(&group)).is_err() {
            return;
        }
        drop(engine);
        disk.power_cut(if self.durability == Durability::PowerLoss { Unsynced::Dropped } else { Unsynced::Kept });
        let (_, second) = Engine::open(disk, &config(self.durability), SPOOL).expect("opens again");
        first.positions.insert("after".into(), 1);
        first.damage.clear();
        assert_eq!(first, second);
    }

    /// Does one edit; those that write bytes take them from `more`. True when it made checksums right.
    fn edit(&self, files: &mut Files, edit: &[u8], more: &mut &[u8]) -> bool {
        let &[kind, file, high, low, len, bit, other, from] = edit else { return false };
        if files.is_empty() {
            return false;
        }
        let index = usize::from(file) % files.len();
        let images = &self.images[usize::from(other) % self.images.len()];
        let bytes = &mut files[index].1;
        let at = (usize::from(high) << 8 | usize::from(low)) % bytes.len().max(1);
        let sectors = at / SECTOR * SECTOR..(at / SECTOR + 1 + usize::from(len % 8)) * SECTOR;
        let sectors = sectors.start.min(bytes.len())..sectors.end.min(bytes.len());
        match kind % 9 {
            0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (bit % 8)),
            1 => {
                let (new, rest) = more.split_at(usize::from(len).min(more.len()));
                *more = rest;
                bytes.iter_mut().skip(at).zip(new).for_each(|(byte, new)| *byte = *new);
            }
            2 => bytes[sectors].fill(0),
            3 => {
                // Sectors of another time or place.
                let Some((_, source)) = images.get(usize::from(from) % images.len().max(1)) else { return false };
                let source = source.get(sectors.start..).unwrap_or_default();
                bytes[sectors].iter_mut().zip(source).for_each(|(byte, old)| *byte = *old);
            }
            4 => bytes.truncate(at),
            5 => drop(files.remove(index)),
            6 => {
                let (new, rest) = more.split_at(usize::from(len).min(more.len()));
                *more = rest;
                let name = format!("segment-{:08}", u32::from(other));
                files.retain(|(old, _)| *old != name);
                files.push((name, new.to_vec()));
            }
            7 => {
                // A file of another time.
                if let Some((name, old)) = images.get(usize::from(from) % images.len().max(1)) {
                    files.retain(|(other, _)| other != name);
                    files.push((name.clone(), old.clone()));
                }
            }
            _ => return forge(bytes, at, usize::from(len) + usize::from(other), bit),
        }
        false
    }
}

/// Changes one byte of the group around `at` and makes its checksums right again.
fn forge(bytes: &mut [u8], at: usize, inside: usize, value: u8) -> bool {
    let starts = (0..=at / SECTOR).rev().map(|sector| sector * SECTOR);
    let Some(start) = starts.into_iter().find(|at| bytes.get(*at..at + 4) == Some(b"iGRP")) else { return false };
    let Some(byte) = bytes.get_mut(start + 8 + inside) else { return false };
    *byte = value;
    let Some(head) = bytes.get(start..start + GROUP_HEAD) else { return false };
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap_or_default());
    let segment = number(24);
    let mut at = start + GROUP_HEAD;
    while let Some(head) = bytes.get(at..at + ENTRY_HEAD).and_then(EntryHead::decode) {
        let end = at + ENTRY_HEAD + head.fields as usize;
        let Some(entry) = bytes.get(at..end).filter(|_| head.fields > 0) else { break };
        let crc = entry_crc(SpoolId(SPOOL), Place { segment, offset: at as u64 }, entry);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        at = end + head.payload as usize;
    }
    let crc = crc32c::crc32c(&bytes[start + 8..start + GROUP_HEAD]);
    bytes[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    true
}
