//! Reading a whole spool: what is valid, what is damaged, what it adds up to. Never writes.

use super::disk::Disk;
use super::files::Files;
use crate::core::spool::format::{
    ALIGN, ENTRY_HEAD, Entry, EntryHead, GROUP_HEAD, GroupHead, Place, SEGMENT_HEAD, SegmentHead, SegmentRead, SpoolId,
    VERSION, entry_crc,
};
use crate::core::spool::state::State;
use crate::error::SpoolError;
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

/// What the valid groups behind a place say.
#[derive(Default)]
struct Proof {
    /// The highest durable end that any of them names.
    durable: Place,
    /// Where the first begins; 0 for none.
    first: u64,
    /// Where the last ends; 0 for none.
    last: u64,
}

#[derive(Default)]
struct GroupRead {
    good: Vec<(Entry, u64, u32, u32)>,
    /// Offset, length, what is wrong, whether it may have been a stamp.
    bad: Vec<(u64, u64, String, bool)>,
}

/// A segment being read.
struct Segment<F: Files> {
    spool: SpoolId,
    name: String,
    sequence: u64,
    size: u64,
    first: Option<GroupHead>,
    /// The number of its newest group, where another file has the same sequence number.
    newest: u64,
    /// Up to here it was synced, as its own groups say.
    synced: u64,
    file: Option<(F::File, Window)>,
}

impl<F: Files> Segment<F> {
    fn bytes(&mut self, disk: &mut Disk<F>, at: u64, len: usize) -> Result<Option<&[u8]>, SpoolError> {
        let (file, window) = match self.file.take() {
            Some(open) => self.file.insert(open),
            None => self.file.insert((disk.open(&self.name, false)?, Window::default())),
        };
        window.get(disk, &self.name, file, at, len)
    }

    fn close(&mut self) {
        self.file = None;
    }

    fn head_at(&mut self, disk: &mut Disk<F>, at: u64) -> Result<Option<GroupHead>, SpoolError> {
        let (spool, place) = (self.spool, Place { segment: self.sequence, offset: at });
        let size = self.size;
        let bytes = self.bytes(disk, at, GROUP_HEAD)?;
        Ok(bytes.and_then(|bytes| GroupHead::decode(bytes, spool, place)).filter(|head| head.body <= size))
    }

    /// The first group head from `at` on that was written after group `number`.
    fn next_head(&mut self, disk: &mut Disk<F>, mut at: u64, number: u64) -> Result<Option<GroupHead>, SpoolError> {
        while at + GROUP_HEAD as u64 <= self.size {
            match self.head_at(disk, at)? {
                Some(head) if head.number > number => return Ok(Some(head)),
                _ => at += ALIGN,
            }
        }
        Ok(None)
    }

    /// What the segment's first group says about those before: where the groups that count end, up to where all is synced.
    fn read_ends(&mut self, disk: &mut Disk<F>) -> Result<Vec<(u64, Ends)>, SpoolError> {
        let Some(first) = self.first.filter(|first| first.place.offset == SEGMENT_HEAD) else { return Ok(Vec::new()) };
        let read = self.read_group(disk, &first)?;
        if !read.bad.is_empty() && self.next_head(disk, first.end(), first.number)?.is_none() {
            // Not begun to its end: it may be gone the next time, so it decides about nothing.
            return Ok(Vec::new());
        }
        let ends = read.good.iter().filter_map(|(entry, ..)| match entry {
            Entry::Ended { end, synced } => Some((end.segment, (end.offset, *synced))),
            _ => None,
        });
        Ok(ends.collect())
    }

    fn proof(&mut self, disk: &mut Disk<F>, mut at: u64, mut number: u64, limit: u64) -> Result<Proof, SpoolError> {
        let mut proof = Proof::default();
        while let Some(head) = self.next_head(disk, at, number)? {
            if head.end() > limit {
                break;
            }
            proof.durable = proof.durable.max(head.durable);
            (at, number) = (head.end(), head.number);
            if proof.first == 0 {
                // A head alone proves what was synced before it; only a whole group is worth being kept.
                proof.first = head.place.offset;
            }
            if self.read_group(disk, &head)?.bad.is_empty() {
                proof.last = head.end();
            }
        }
        Ok(proof)
    }

    fn read_group(&mut self, disk: &mut Disk<F>, head: &GroupHead) -> Result<GroupRead, SpoolError> {
        let mut read = GroupRead::default();
        let mut at = head.place.offset + GROUP_HEAD as u64;
        let end = at.saturating_add(head.body);
        for _ in 0..head.entries {
            let room = end.saturating_sub(at);
            let entry = self.bytes(disk, at, ENTRY_HEAD)?.and_then(EntryHead::decode);
            let Some(entry) = entry.filter(|entry| entry.len() <= room) else {
                read.bad.push((at, room.max(1), "an entry's head makes no sense".to_owned(), true));
                break;
            };
            let (spool, place) = (self.spool, Place { offset: at, ..head.place });
            let whole = self.bytes(disk, at, ENTRY_HEAD + entry.fields as usize)?;
            let whole = whole.filter(|bytes| entry_crc(spool, place, bytes) == entry.crc);
            let decoded = whole.and_then(|bytes| Entry::decode(entry.kind, bytes.get(ENTRY_HEAD..)?));
            match decoded {
                None => {
                    let what = "an entry's checksum is wrong".to_owned();
                    read.bad.push((at, entry.len(), what, entry.may_be_stamp()));
                }
                Some(decoded) => {
                    let payload = at + ENTRY_HEAD as u64 + u64::from(entry.fields);
                    let found = self.crc(disk, payload, u64::from(entry.payload))?;
                    match &decoded {
                        Entry::Batch(batch) if found != Some(batch.records_crc) => {
                            let what = format!("the checksum of batch {}'s records is wrong", batch.id);
                            read.bad.push((at, entry.len(), what, false));
                        }
                        _ => read.good.push((decoded, at, entry.fields, entry.payload)),
                    }
                }
            }
            at += entry.len();
        }
        Ok(read)
    }

    /// The checksum of `len` bytes at `at`; none when the file ends before.
    fn crc(&mut self, disk: &mut Disk<F>, mut at: u64, mut len: u64) -> Result<Option<u32>, SpoolError> {
        let mut crc = 0;
        while len > 0 {
            // What is here already is not read again.
            let here = self.file.as_ref().map_or(0, |(_, window)| window.rest(at));
            let part = len.min(if here > 0 { here } else { CHUNK as u64 });
            let Some(bytes) = self.bytes(disk, at, part as usize)? else { return Ok(None) };
            crc = crc32c::crc32c_append(crc, bytes);
            (at, len) = (at + part, len - part);
        }
        Ok(Some(crc))
    }
}

/// A part of a file in memory.
#[derive(Default)]
struct Window {
    start: u64,
    /// How much of `buf` was read.
    len: usize,
    buf: Vec<u8>,
}

impl Window {
    /// How much from `at` on is here.
    fn rest(&self, at: u64) -> u64 {
        let end = self.start + self.len as u64;
        if at >= self.start { end.saturating_sub(at) } else { 0 }
    }

    /// `len` bytes at `at`; none when the file ends before.
    fn get<F: Files>(
        &mut self,
        disk: &mut Disk<F>,
        name: &str,
        file: &mut F::File,
        at: u64,
        len: usize,
    ) -> Result<Option<&[u8]>, SpoolError> {
        if self.rest(at) < len as u64 {
            if self.buf.len() < len.max(CHUNK) {
                self.buf.resize(len.max(CHUNK), 0);
            }
            self.len = 0;
            self.start = at;
            self.len = disk.read(name, file, at, &mut self.buf)?;
        }
        let from = (at - self.start) as usize;
        Ok(self.buf.get(..self.len).and_then(|bytes| bytes.get(from..)?.get(..len)))
    }
}
