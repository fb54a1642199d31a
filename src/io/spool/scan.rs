//! Reading a whole spool: what is valid, what is damaged, what it adds up to. Never writes.

mod segment;

use super::disk::Disk;
use super::files::Files;
use crate::core::spool::format::{
    ALIGN, Entry, GROUP_HEAD, GroupHead, Place, SEGMENT_HEAD, SegmentHead, SegmentRead, SpoolId, VERSION,
};
use crate::core::spool::state::State;
use crate::error::SpoolError;
use segment::{GroupRead, Segment, Window};
use std::collections::{BTreeMap, BTreeSet};

/// So many numbers without a segment are told one by one, whatever a head says: nothing grows with a number on disk.
const GAP: usize = 1 << 10;
/// How much is read at once.
const CHUNK: usize = if cfg!(test) { 5000 } else { 1 << 20 };

/// A file of the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentFile {
    /// Its name.
    pub(crate) name: String,
    /// Its sequence number.
    pub(crate) sequence: u64,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Where its last group ends.
    pub(crate) end: u64,
    /// Up to here it was synced, as later groups say.
    pub(crate) synced: u64,
}

/// A damaged place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The file; empty when it is missing.
    pub(crate) name: String,
    /// Where.
    pub(crate) place: Place,
    /// How many bytes.
    pub(crate) len: u64,
    /// What is wrong.
    pub(crate) what: String,
    /// Whether it may have held a stamp.
    pub(crate) doubt: bool,
}

/// What a spool's files say.
pub(crate) struct Scan {
    /// None when there is no segment yet.
    pub(crate) spool: Option<SpoolId>,
    /// What it adds up to.
    pub(crate) state: State,
    /// The segments, by sequence.
    pub(crate) segments: Vec<SegmentFile>,
    /// Files whose contents count no longer: name and size.
    pub(crate) unused: Vec<(String, u64)>,
    /// Damage that is not known from an earlier opening.
    pub(crate) damage: Vec<Found>,
    /// The highest number of a group.
    pub(crate) number: u64,
    /// The highest sequence number of a segment, used or not.
    pub(crate) sequence: u64,
    /// Segments below this count no longer.
    pub(crate) oldest: u64,
    /// The first number no file's name has.
    pub(crate) next_slot: u64,
}

/// Whether `name` is a segment's, and which slot.
pub(crate) fn slot(name: &str) -> Option<u64> {
    name.strip_prefix("segment-")?.parse().ok()
}

/// Reads everything.
pub(crate) fn scan<F: Files>(disk: &mut Disk<F>) -> Result<Scan, SpoolError> {
    let mut files: Vec<(String, u64)> = disk.list()?;
    files.retain(|(name, _)| slot(name).is_some());
    files.sort_unstable();
    let next_slot = files.iter().filter_map(|(name, _)| slot(name)).max().unwrap_or(0) + 1;
    let (spool, heads) = read_heads(disk, files)?;
    let mut scan = Scan {
        spool,
        state: State::reading(),
        segments: Vec::new(),
        unused: Vec::new(),
        damage: Vec::new(),
        number: 0,
        sequence: 0,
        oldest: 0,
        next_slot,
    };
    let Some(spool) = spool else {
        for (_, name, size) in heads {
            scan.find_unreadable(disk, &name, size)?;
            scan.unused.push((name, size));
        }
        return Ok(scan);
    };
    let mut headless = Vec::new();
    let mut readers: Vec<Segment<F>> = Vec::new();
    for (sequence, name, size) in heads {
        scan.sequence = scan.sequence.max(sequence.unwrap_or(0));
        match sequence {
            Some(sequence) => {
                readers.push(Segment { spool, name, sequence, size, first: None, newest: 0, synced: 0, file: None })
            }
            None => headless.push((name, size)),
        }
    }
    scan.find_oldest(disk, &mut readers)?;
    if scan.find_hidden(disk, &mut readers)? {
        scan.find_oldest(disk, &mut readers)?;
    }
    // Of two with one number one was not begun to its end, or was written over.
    readers.dedup_by(|later, earlier| {
        let is_double = later.sequence == earlier.sequence;
        if is_double {
            if earlier.newest < later.newest {
                std::mem::swap(later, earlier);
            }
            scan.unused.push((later.name.clone(), later.size));
        }
        is_double
    });
    let oldest = scan.oldest;
    let (readers, stale): (Vec<_>, Vec<_>) = readers.into_iter().partition(|segment| segment.sequence >= oldest);
    scan.unused.extend(stale.into_iter().map(|segment| (segment.name, segment.size)));
    scan.walk(disk, readers)?;
    scan.cut_unfinished();
    scan.find_missing();
    let Scan { state, damage, .. } = &mut scan;
    damage.retain(|found| {
        let inside = |known: &crate::core::spool::format::SetAside| {
            known.place.segment == found.place.segment
                && known.place.offset <= found.place.offset
                && found.place.offset < known.place.offset.saturating_add(known.len.max(1))
        };
        !state.dropped().contains(&found.place.segment) && !state.set_aside().iter().any(inside)
    });
    if scan.damage.iter().all(|found| !found.name.is_empty()) {
        // Nothing is missing, so they were never begun to the end.
        scan.unused.extend(headless);
    }
    Ok(scan)
}

/// Where the groups that count end, and up to where all is synced.
type Ends = (u64, u64);

type Heads = Vec<(Option<u64>, String, u64)>;

/// The spool's id, and each file's sequence number if it has one.
fn read_heads<F: Files>(disk: &mut Disk<F>, files: Vec<(String, u64)>) -> Result<(Option<SpoolId>, Heads), SpoolError> {
    let mut spool = None;
    let mut heads = Vec::new();
    for (name, size) in files {
        let mut file = disk.open(&name, false)?;
        let mut bytes = [0; SEGMENT_HEAD as usize];
        let len = disk.read(&name, &mut file, 0, &mut bytes)?;
        let head = match SegmentHead::decode(bytes.get(..len).unwrap_or_default()) {
            SegmentRead::Newer(found) => {
                return Err(SpoolError::NewerFormat { path: disk.path(&name), found, known: VERSION });
            }
            SegmentRead::Good(head) => Some(head),
            // Its groups say what it is, if there are any.
            SegmentRead::Bad => newest_group(disk, &name, &mut file, size, |_| true)?.map(|head| head.segment()),
        };
        match (head, spool) {
            (Some(head), Some(spool)) if head.spool != spool => {
                let why = format!("it belongs to spool {}, the others here to {spool}: move it away", head.spool);
                return Err(SpoolError::Refused { path: disk.path(&name), why });
            }
            (Some(head), _) => spool = Some(head.spool),
            (None, _) => {}
        }
        heads.push((head.map(|head| head.sequence), name, size));
    }
    Ok((spool, heads))
}

/// The newest group in a file, among those that `count`.
fn newest_group<F: Files>(
    disk: &mut Disk<F>,
    name: &str,
    file: &mut F::File,
    size: u64,
    count: impl Fn(&GroupHead) -> bool,
) -> Result<Option<GroupHead>, SpoolError> {
    let mut newest: Option<GroupHead> = None;
    let mut window = Window::default();
    let mut at = SEGMENT_HEAD;
    while at + GROUP_HEAD as u64 <= size {
        let Some(bytes) = window.get(disk, name, file, at, GROUP_HEAD)? else { break };
        if let Some(head) = GroupHead::decode_any(bytes)
            && head.place.offset == at
            && newest.is_none_or(|newest| newest.number < head.number)
            && count(&head)
        {
            newest = Some(head);
        }
        at += ALIGN;
    }
    Ok(newest)
}

impl Scan {
    /// Reads which segments still count: the newest group knows.
    fn find_oldest<F: Files>(&mut self, disk: &mut Disk<F>, readers: &mut [Segment<F>]) -> Result<(), SpoolError> {
        readers.sort_by_key(|segment| segment.sequence);
        for segment in readers.iter_mut() {
            segment.first = segment.next_head(disk, SEGMENT_HEAD, 0)?;
            segment.close();
        }
        if let Some(newest) = readers.iter_mut().rev().find(|segment| segment.first.is_some()) {
            let (mut at, mut number) = (SEGMENT_HEAD, 0);
            while let Some(head) = newest.next_head(disk, at, number)? {
                self.oldest = self.oldest.max(head.oldest);
                (at, number) = (head.end(), head.number);
            }
            newest.close();
        }
        Ok(())
    }

    /// A disk may lose the write of a segment's head, and show that of the file's earlier life, or write another's there.
    /// Its groups tell. Says whether there was one.
    fn find_hidden<F: Files>(&mut self, disk: &mut Disk<F>, readers: &mut [Segment<F>]) -> Result<bool, SpoolError> {
        let mut known = BTreeSet::new();
        let doubles = readers.iter().map(|segment| segment.sequence).filter(|sequence| !known.insert(*sequence));
        let doubles: BTreeSet<u64> = doubles.collect();
        let (oldest, mut found) = (self.oldest, false);
        let in_doubt = |segment: &&mut Segment<F>| {
            segment.sequence < oldest || doubles.contains(&segment.sequence) || segment.first.is_none()
        };
        for segment in readers.iter_mut().filter(in_doubt) {
            let mut file = disk.open(&segment.name, false)?;
            let (spool, sequence) = (segment.spool, segment.sequence);
            // Where nothing follows the head, what is older is of the file's earlier life.
            let least = if segment.first.is_none() { oldest.max(sequence) } else { oldest };
            let is_hidden = |head: &GroupHead| {
                head.spool == spool && head.place.segment >= least && !known.contains(&head.place.segment)
            };
            let hidden = newest_group(disk, &segment.name, &mut file, segment.size, is_hidden)?;
            if let Some(head) = hidden {
                segment.sequence = head.place.segment;
                known.insert(segment.sequence);
                self.sequence = self.sequence.max(segment.sequence);
                found = true;
            }
            let is_own = |head: &GroupHead| head.spool == spool && head.place.segment == sequence;
            let newest = newest_group(disk, &segment.name, &mut file, segment.size, is_own)?;
            segment.newest = newest.map_or(0, |head| head.number);
        }
        Ok(found)
    }

    fn walk<F: Files>(&mut self, disk: &mut Disk<F>, mut readers: Vec<Segment<F>>) -> Result<(), SpoolError> {
        let mut ends = BTreeMap::new();
        for segment in &mut readers {
            ends.extend(segment.read_ends(disk)?);
            segment.close();
        }
        for i in 0..readers.len() {
            let later = readers.get(i + 1..).unwrap_or_default().iter().find_map(|segment| segment.first);
            let Some(segment) = readers.get_mut(i) else { break };
            let (name, sequence, size) = (segment.name.clone(), segment.sequence, segment.size);
            let known: Option<Ends> = ends.get(&sequence).copied();
            // Where its end is not known, all of it counts as synced, since what comes later was written after it.
            let exact = known.map(|(_, synced)| Place { segment: sequence, offset: synced });
            let claimed = exact.or(later.map(|head| head.durable)).unwrap_or_default();
            let end = self.walk_segment(disk, segment, claimed, known.map(|(end, _)| end))?;
            segment.close();
            let proven = Place { segment: sequence, offset: segment.synced }.max(claimed);
            let synced = if proven.segment == sequence { proven.offset.min(end) } else { end };
            self.segments.push(SegmentFile { name, sequence, size, end, synced });
        }
        Ok(())
    }

    /// Takes in the groups of a segment. `claimed`: up to where it was synced, as later segments say. `known`: where the
    /// groups that count end, if a later segment says so: behind are leftovers of an attempt that failed, and what was
    /// written after it does not build on them. Returns where they end.
    fn walk_segment<F: Files>(
        &mut self,
        disk: &mut Disk<F>,
        segment: &mut Segment<F>,
        claimed: Place,
        known: Option<u64>,
    ) -> Result<u64, SpoolError> {
        let limit = known.unwrap_or(u64::MAX);
        let mut at = SEGMENT_HEAD;
        while at < limit {
            let here = Place { segment: segment.sequence, offset: at };
            let head = segment.head_at(disk, at)?;
            let head = head.filter(|head| head.number > self.number && head.end() <= limit);
            if let Some(head) = head {
                let read = segment.read_group(disk, &head)?;
                if head.durable.segment == segment.sequence {
                    segment.synced = segment.synced.max(head.durable.offset);
                }
                if read.bad.is_empty() {
                    self.apply(&head, &read);
                    at = head.end();
                    continue;
                }
                let behind = segment.proof(disk, head.end(), head.number, limit)?;
                let end = Place { offset: head.end(), ..here };
                if behind.durable.max(claimed) >= end {
                    // It was synced once: what is not damaged in it counts.
                    self.apply(&head, &read);
                    for (offset, len, what, doubt) in read.bad {
                        let place = Place { offset, ..here };
                        self.damage.push(Found { name: segment.name.clone(), place, len, what, doubt });
                    }
                    at = head.end();
                    continue;
                }
                if behind.last > 0 {
                    self.rest(segment, here, behind.last);
                }
                return Ok(at);
            }
            let behind = segment.proof(disk, at + ALIGN, self.number, limit)?;
            let proven = behind.durable.max(claimed);
            if proven <= here {
                if behind.last > 0 {
                    self.rest(segment, here, behind.last);
                }
                return Ok(at);
            }
            let what = "no valid group where one was synced".to_owned();
            let mut found = Found { name: segment.name.clone(), place: here, len: 0, what, doubt: true };
            match behind.first {
                0 if proven.segment == here.segment => {
                    found.len = proven.offset - at;
                    self.damage.push(found);
                    return Ok(proven.offset);
                }
                // How far it once went is not known.
                0 => return Ok(at),
                first => {
                    found.len = first - at;
                    self.damage.push(found);
                    at = first;
                }
            }
        }
        Ok(at)
    }

    /// Groups behind a hole that was never synced: a power cut under `ProcessCrash`. Positions among them would claim
    /// what was in the hole, so none of them counts.
    fn rest<F: Files>(&mut self, segment: &Segment<F>, place: Place, end: u64) {
        let what = "groups behind one that is lost and was never synced".to_owned();
        let len = end.saturating_sub(place.offset);
        self.damage.push(Found { name: segment.name.clone(), place, len, what, doubt: true });
    }

    fn apply(&mut self, head: &GroupHead, read: &GroupRead) {
        self.number = self.number.max(head.number);
        for (entry, offset, fields, payload) in &read.good {
            let place = Place { segment: head.place.segment, offset: *offset };
            self.state.apply(entry, place, *fields, *payload);
        }
    }

    /// No file has a head: a spool is named in its first two sectors, so more than these means that there was one.
    fn find_unreadable<F: Files>(&mut self, disk: &mut Disk<F>, name: &str, size: u64) -> Result<(), SpoolError> {
        let mut file = disk.open(name, false)?;
        let mut window = Window::default();
        let (mut at, mut end) = (2 * ALIGN, 0);
        while at < size {
            let part = (size - at).min(CHUNK as u64);
            let bytes = window.get(disk, name, &mut file, at, part as usize)?.unwrap_or_default();
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                end = at + last as u64 + 1;
            }
            at += part;
        }
        if end > 0 {
            // No sequence number of a segment.
            let place = Place { segment: u64::MAX - slot(name).unwrap_or(0), offset: 0 };
            let what = "no part of it can be read".to_owned();
            self.damage.push(Found { name: name.to_owned(), place, len: end, what, doubt: true });
        }
        Ok(())
    }

    /// Behind the last group there may be segments that were not begun to their end, and numbers of which none is left.
    fn cut_unfinished(&mut self) {
        let damage = &self.damage;
        let is_unfinished = |segment: &mut SegmentFile| {
            segment.end <= SEGMENT_HEAD && damage.iter().all(|found| found.place.segment != segment.sequence)
        };
        while let Some(segment) = self.segments.pop_if(is_unfinished) {
            self.unused.push((segment.name, segment.size));
        }
        let first = self.segments.last().map_or(1, |last| last.sequence.saturating_add(1));
        for sequence in (first..=self.sequence).take(GAP) {
            self.state.apply(&Entry::Dropped(sequence), Place { segment: sequence, offset: 0 }, 0, 0);
        }
    }

    /// Segments that should be there and are not.
    fn find_missing(&mut self) {
        let Some(last) = self.segments.last().map(|segment| segment.sequence) else { return };
        let mut expected = self.oldest.max(1);
        for segment in &self.segments {
            for sequence in (expected..segment.sequence.min(last)).take(GAP) {
                let (place, what) = (Place { segment: sequence, offset: 0 }, format!("segment {sequence} is missing"));
                self.damage.push(Found { name: String::new(), place, len: 0, what, doubt: true });
            }
            expected = segment.sequence.saturating_add(1);
        }
    }
}
