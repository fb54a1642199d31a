//! Reading one segment: its groups, with every checksum compared.

use super::{CHUNK, Ends};
use crate::core::spool::format::{
    ALIGN, ENTRY_HEAD, Entry, EntryHead, GROUP_HEAD, GroupHead, Place, SEGMENT_HEAD, SpoolId, entry_crc,
};
use crate::error::SpoolError;
use crate::io::spool::disk::Disk;
use crate::io::spool::files::Files;

/// What the valid groups behind a place say.
#[derive(Default)]
pub(super) struct Proof {
    /// The highest durable end that any of them names.
    pub(super) durable: Place,
    /// Where the first begins; 0 for none.
    pub(super) first: u64,
    /// Where the last ends; 0 for none.
    pub(super) last: u64,
}

#[derive(Default)]
pub(super) struct GroupRead {
    pub(super) good: Vec<(Entry, u64, u32, u32)>,
    /// Offset, length, what is wrong, whether it may have been a stamp.
    pub(super) bad: Vec<(u64, u64, String, bool)>,
}

/// A segment being read.
pub(super) struct Segment<F: Files> {
    pub(super) spool: SpoolId,
    pub(super) name: String,
    pub(super) sequence: u64,
    pub(super) size: u64,
    pub(super) first: Option<GroupHead>,
    /// The number of its newest group, where another file has the same sequence number.
    pub(super) newest: u64,
    /// Up to here it was synced, as its own groups say.
    pub(super) synced: u64,
    pub(super) file: Option<(F::File, Window)>,
}

impl<F: Files> Segment<F> {
    pub(super) fn bytes(&mut self, disk: &mut Disk<F>, at: u64, len: usize) -> Result<Option<&[u8]>, SpoolError> {
        let (file, window) = match self.file.take() {
            Some(open) => self.file.insert(open),
            None => self.file.insert((disk.open(&self.name, false)?, Window::default())),
        };
        window.get(disk, &self.name, file, at, len)
    }

    pub(super) fn close(&mut self) {
        self.file = None;
    }

    pub(super) fn head_at(&mut self, disk: &mut Disk<F>, at: u64) -> Result<Option<GroupHead>, SpoolError> {
        let (spool, place) = (self.spool, Place { segment: self.sequence, offset: at });
        let size = self.size;
        let bytes = self.bytes(disk, at, GROUP_HEAD)?;
        Ok(bytes.and_then(|bytes| GroupHead::decode(bytes, spool, place)).filter(|head| head.body <= size))
    }

    /// The first group head from `at` on that was written after group `number`.
    pub(super) fn next_head(
        &mut self,
        disk: &mut Disk<F>,
        mut at: u64,
        number: u64,
    ) -> Result<Option<GroupHead>, SpoolError> {
        while at + GROUP_HEAD as u64 <= self.size {
            match self.head_at(disk, at)? {
                Some(head) if head.number > number => return Ok(Some(head)),
                _ => at += ALIGN,
            }
        }
        Ok(None)
    }

    /// What the segment's first group says about those before: where the groups that count end, up to where all is
    /// synced.
    pub(super) fn read_ends(&mut self, disk: &mut Disk<F>) -> Result<Vec<(u64, Ends)>, SpoolError> {
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

    pub(super) fn proof(
        &mut self,
        disk: &mut Disk<F>,
        mut at: u64,
        mut number: u64,
        limit: u64,
    ) -> Result<Proof, SpoolError> {
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

    pub(super) fn read_group(&mut self, disk: &mut Disk<F>, head: &GroupHead) -> Result<GroupRead, SpoolError> {
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
    pub(super) fn crc(&mut self, disk: &mut Disk<F>, mut at: u64, mut len: u64) -> Result<Option<u32>, SpoolError> {
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
pub(super) struct Window {
    start: u64,
    /// How much of `buf` was read.
    len: usize,
    buf: Vec<u8>,
}

impl Window {
    /// How much from `at` on is here.
    pub(super) fn rest(&self, at: u64) -> u64 {
        let end = self.start + self.len as u64;
        if at >= self.start { end.saturating_sub(at) } else { 0 }
    }

    /// `len` bytes at `at`; none when the file ends before.
    pub(super) fn get<F: Files>(
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
