//! Bytes that are not what was written: cut, flipped, zeroed, or those of yesterday.

use super::life::{config, open};
use super::lives::lives;
use super::model::Model;
use super::stories::story;
use crate::config::Durability;
use crate::core::spool::{BatchId, Group, Op, Recovered};
use crate::error::SpoolError;
use crate::io::spool::faulty::{Disk, Random, SECTOR, Unsynced};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

type Image = Vec<(String, Vec<u8>)>;

/// A spool written group by group, with what the disk held after each.
struct Written {
    groups: Vec<Group>,
    images: Vec<Image>,
}

impl Written {
    fn new(groups: Vec<Group>) -> Written {
        let disk = Disk::new(1);
        let (mut engine, _) = open(&disk, &config(Durability::PowerLoss)).unwrap();
        let mut images = vec![disk.files()];
        for group in &groups {
            engine.commit(std::slice::from_ref(group)).unwrap();
            images.push(disk.files());
        }
        Written { groups, images }
    }

    fn model(&self, groups: usize) -> Model {
        Model::default().after(&self.groups[..groups])
    }

    fn last(&self) -> &Image {
        self.images.last().unwrap()
    }

    /// The bytes that group `n` changed, if it changed one file only.
    fn place(&self, n: usize) -> Option<(String, Range<usize>)> {
        let (before, after) = (&self.images[n], &self.images[n + 1]);
        let mut changed = after.iter().filter(|file| !before.contains(file));
        let (name, bytes) = changed.next().filter(|_| changed.next().is_none())?;
        let old = before.iter().find(|(old, _)| old == name).map(|(_, old)| old.as_slice()).unwrap_or_default();
        let differs = |at: &usize| old.get(*at).copied().unwrap_or(0) != bytes[*at];
        let start = (0..bytes.len()).find(differs)?;
        Some((name.clone(), start..(0..bytes.len()).rfind(differs)? + 1))
    }
}

fn recovered(disk: &Disk) -> Recovered {
    let opened = open(disk, &config(Durability::PowerLoss));
    opened.unwrap_or_else(|error| panic!("not opened: {error}")).1
}

/// Which batches a group says something about.
fn mentioned(group: &Group) -> BTreeSet<BatchId> {
    let ids = group.ops.iter().filter_map(|op| match op {
        Op::Batch(batch) => Some(batch.id),
        Op::Stamp { batch, .. } | Op::Outcome { batch, .. } => Some(*batch),
        _ => None,
    });
    ids.collect()
}

/// Whatever happened: what is handed out reads as it was written, and nothing that was left out is kept secret.
/// `was` are all batches there ever were; `models` is what it should hold, or may hold if the last groups are lost.
fn check_honest(disk: &Disk, models: &[Model], was: &BTreeMap<BatchId, Model>) -> Recovered {
    let (mut engine, recovered) = open(disk, &config(Durability::PowerLoss)).unwrap();
    for batch in &recovered.batches {
        let written = &was.get(&batch.id).unwrap_or_else(|| panic!("{} never was", batch.id)).batches[&batch.id].batch;
        assert_eq!((batch.order, &batch.target), (written.order, &written.target));
        let sealed = engine.read(batch.id).unwrap_or_else(|error| panic!("{} is not to be read: {error}", batch.id));
        assert!(sealed == written.sealed, "{} reads as something else", batch.id);
        // A stamp that was lost is a doubt.
        let is_stamped = |model: &Model| model.batches.get(&batch.id).is_some_and(|kept| kept.stamp.is_some());
        let was_sent = batch.stamp.is_none() && models.iter().all(is_stamped);
        assert!(!was_sent || recovered.stamps_in_doubt, "{} was sent: {recovered:?}", batch.id);
    }
    let files: BTreeSet<String> = disk.files().into_iter().map(|(name, _)| name).collect();
    for damage in recovered.damage.iter().filter(|damage| !damage.file.is_empty()) {
        assert!(damage.set_aside.as_ref().is_some_and(|name| files.contains(name)), "{damage:?}");
    }
    recovered
}

/// For each batch a state in which it was there.
fn ever(groups: &[Group]) -> BTreeMap<BatchId, Model> {
    let mut model = Model::default();
    let mut was = BTreeMap::new();
    for group in groups {
        for op in &group.ops {
            model.apply(&Group { ops: vec![op.clone()] });
            if let Op::Batch(batch) = op {
                was.insert(batch.id, model.clone());
            }
        }
    }
    was
}

/// The last group is there in part: cut anywhere, with or without what was to come after.
///
/// Catches: a group taken in without its checksums, or in part; a tail taken for damage; a tail that comes back.
#[test]
fn torn_tail() {
    let written = Written::new(story(21, 14));
    let more = Group { ops: vec![Op::Position { source: "later".into(), position: 1 }] };
    for n in 8..14 {
        let Some((name, place)) = written.place(n) else { continue };
        let after = &written.images[n + 1];
        let bytes = &after.iter().find(|(found, _)| *found == name).unwrap().1;
        for until in place.clone().step_by(211).chain([place.end - 1]) {
            let mut before = written.images[n].clone();
            if before.iter().all(|(old, _)| *old != name) {
                before.push((name.clone(), Vec::new()));
            }
            let disk = Disk::holding(1, before);
            disk.edit(&name, |content| {
                content.resize(bytes.len().max(content.len()), 0);
                content[place.start..until].copy_from_slice(&bytes[place.start..until]);
            });
            let (mut engine, found) = open(&disk, &config(Durability::PowerLoss)).unwrap();
            assert!(found.damage.is_empty() && !found.stamps_in_doubt, "cut at {until} of {place:?}: {found:?}");
            let model = written.model(n);
            assert_eq!(model.difference(&found), None, "cut at {until} of {place:?}");
            engine.commit(std::slice::from_ref(&more)).unwrap();
            drop(engine);
            disk.power_cut(Unsynced::Dropped);
            let found = recovered(&disk);
            assert_eq!((model.after([&more]).difference(&found), found.damage), (None, vec![]), "{until} of {place:?}");
        }
    }
}

/// One flipped bit, anywhere. It is reported and set aside; what is lost is of that one group, and the rest is there.
///
/// Catches: an entry whose checksum is not looked at; a scan that ends at the first damage; damage kept secret.
#[test]
fn bit_flip_in_the_middle() {
    let written = Written::new(story(22, 24));
    let model = written.model(24);
    let was = ever(&written.groups);
    let models = [model.clone()];
    let mut reported = 0;
    // What comes after the last group says that it was synced; the last itself is a torn tail for all anyone knows.
    for n in 0..23 {
        let Some((name, place)) = written.place(n) else { continue };
        let touched = mentioned(&written.groups[n]);
        for at in place.clone().step_by(149) {
            let disk = Disk::holding(1, written.last().clone());
            disk.edit(&name, |content| content[at] ^= 1 << (at % 8));
            let found = check_honest(&disk, &models, &was);
            let difference = model.difference(&found);
            let what = format!("group {n}, byte {at} of {name}: {difference:?}");
            assert!(difference.is_none() || !found.damage.is_empty(), "in silence: {what}");
            reported += usize::from(!found.damage.is_empty());
            let rest = |recovered: &Recovered| -> Vec<_> {
                recovered.batches.iter().filter(|batch| !touched.contains(&batch.id)).cloned().collect()
            };
            let intact = Disk::holding(1, written.last().clone());
            assert_eq!(rest(&found), rest(&recovered(&intact)), "{what}");
            // It is known by now, and stays known.
            disk.power_cut(Unsynced::Dropped);
            let again = recovered(&disk);
            assert!(again.damage.is_empty(), "{what}: {:?}", again.damage);
            assert_eq!((&again.batches, again.stamps_in_doubt), (&found.batches, found.stamps_in_doubt), "{what}");
            assert!(again.next_id >= model.next_id, "{what}");
        }
    }
    assert!(reported > 40, "{reported} flips reported");
}

/// A batch damaged while the spool is open is not handed out.
///
/// Catches: a read without its checksum.
#[test]
fn damaged_while_open() {
    let groups = story(23, 6);
    let disk = Disk::new(1);
    let (mut engine, _) = open(&disk, &config(Durability::PowerLoss)).unwrap();
    engine.commit(&groups).unwrap();
    let model = Model::default().after(&groups);
    let name = disk.files().into_iter().map(|(name, _)| name).find(|name| name.starts_with("segment")).unwrap();
    for (id, kept) in &model.batches {
        let bytes = kept.batch.sealed.section().bytes.clone();
        assert!(engine.read(*id).is_ok());
        let mut at = 0;
        disk.edit(&name, |content| {
            at = content.windows(bytes.len()).position(|window| window == &bytes[..]).unwrap();
            content[at + bytes.len() / 2] ^= 8;
        });
        match engine.read(*id) {
            Err(SpoolError::Damaged { what, .. }) => assert!(what.contains(&id.to_string()), "{what}"),
            other => panic!("{id} was handed out: {other:?}"),
        }
    }
}

/// Sectors that are zero, another's, or those of some time ago, in a spool of several segments that was cleaned up.
///
/// Catches: bytes of another place or another life of the file taken for good; a batch that comes back in silence.
#[test]
fn foreign_sectors() {
    lives(20, |seed| {
        let mut random = Random(seed);
        let groups = story(seed, 60);
        let disk = Disk::new(seed);
        let (mut engine, _) = open(&disk, &config(Durability::PowerLoss)).unwrap();
        let mut images = Vec::new();
        for group in &groups {
            engine.commit(std::slice::from_ref(group)).unwrap();
            engine.maintain().unwrap();
            images.push(disk.files());
        }
        drop(engine);
        let model = Model::default().after(&groups);
        let (was, last) = (ever(&groups), images[images.len() - 1].clone());
        // The last groups, of a sector at least each, may be a torn tail for all anyone knows.
        let until = groups.len() - 6..=groups.len();
        let models: Vec<Model> = until.map(|until| Model::default().after(&groups[..until])).collect();
        for _ in 0..6 {
            let disk = Disk::holding(1, last.clone());
            let mut edits = Vec::new();
            for _ in 0..=random.below(2) {
                let (name, bytes) = &last[random.below(last.len())];
                let sectors = 1 + random.below(3);
                let range = |bytes: &[u8], at: usize| at * SECTOR..((at + sectors) * SECTOR).min(bytes.len());
                let to = range(bytes, random.below(bytes.len() / SECTOR));
                let (_, other) = match random.below(3) {
                    0 => &(String::new(), vec![0; bytes.len()]),
                    1 => &last[random.below(last.len())],
                    _ => {
                        let old = &images[random.below(images.len())];
                        old.iter().find(|(old, _)| old == name).unwrap_or(&old[0])
                    }
                };
                let from =
                    if random.chance(70) { to.clone() } else { range(other, random.below(other.len() / SECTOR)) };
                let mut foreign = other.get(from).unwrap_or_default().to_vec();
                foreign.resize(to.len(), 0);
                edits.push((name, to.clone()));
                disk.edit(name, |content| content[to.clone()].copy_from_slice(&foreign));
            }
            println!("edits {edits:?}");
            let found = check_honest(&disk, &models, &was);
            let known = models.iter().any(|model| model.difference(&found).is_none());
            assert!(known || !found.damage.is_empty(), "in silence, {edits:?}: {:?}", model.difference(&found));
        }
    });
}

/// A segment of a later version is not touched.
#[test]
fn newer_format_version_refused() {
    let written = Written::new(story(24, 4));
    let disk = Disk::holding(1, written.last().clone());
    let (name, _) = written.place(1).unwrap();
    disk.edit(&name, |content| {
        content[8] += 1;
        let crc = crc32c::crc32c(&content[..40]);
        content[40..44].copy_from_slice(&crc.to_le_bytes());
    });
    let before = disk.files();
    match open(&disk, &config(Durability::PowerLoss)).map(|(_, recovered)| recovered) {
        Err(SpoolError::NewerFormat { found: 2, known: 1, path }) => assert!(path.ends_with(&name), "{path:?}"),
        other => panic!("{other:?}"),
    }
    assert!(disk.files() == before, "it was changed");
}
