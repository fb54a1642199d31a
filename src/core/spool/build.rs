//! Putting a group together: small parts in one buffer, large payloads beside it, uncopied.

use super::format::{ENTRY_HEAD, Entry, GROUP_HEAD, GroupHead, Place, SpoolId, aligned, entry_crc, put_at, put_u32};
use bytes::Bytes;
use std::io::IoSlice;

/// Payloads below this are copied into the buffer: cheaper than one more part of the write.
const COPIED: usize = 4 << 10;

/// A group not yet given a place. It can be placed again elsewhere when a write fails.
#[derive(Debug)]
pub(crate) struct GroupBuilder {
    buf: Vec<u8>,
    /// Payloads, each with the end of the bytes of `buf` in front of it.
    large: Vec<(usize, Bytes)>,
    large_len: u64,
    entries: Vec<Built>,
}

/// An entry in the group.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    /// What it says.
    pub(crate) entry: Entry,
    /// Where it begins, from the group's beginning.
    pub(crate) at: u64,
    /// The size of its fields.
    pub(crate) fields: u32,
    /// The size of its payload.
    pub(crate) payload: u32,
    buf_at: usize,
}

impl GroupBuilder {
    pub(crate) fn new() -> GroupBuilder {
        GroupBuilder { buf: vec![0; GROUP_HEAD], large: Vec::new(), large_len: 0, entries: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Its size on disk.
    pub(crate) fn len(&self) -> u64 {
        aligned(self.buf.len() as u64 + self.large_len)
    }

    /// Appends an entry. Only batches have a payload.
    pub(crate) fn push(&mut self, entry: Entry, payload: Bytes) {
        let (buf_at, at) = (self.buf.len(), self.buf.len() as u64 + self.large_len);
        self.buf.resize(buf_at + ENTRY_HEAD, 0);
        let kind = entry.encode(&mut self.buf);
        // Both fit: a section is at most MAX_SECTION, and fields follow it.
        let fields = (self.buf.len() - buf_at - ENTRY_HEAD) as u32;
        let payload_len = payload.len() as u32;
        let mut head = vec![kind, 0, 0, 0];
        put_u32(&mut head, fields);
        put_u32(&mut head, payload_len);
        put_at(&mut self.buf, buf_at + 4, &head);
        if payload.len() < COPIED {
            self.buf.extend_from_slice(&payload);
        } else {
            self.large_len += payload.len() as u64;
            self.large.push((self.buf.len(), payload));
        }
        self.entries.push(Built { entry, at, fields, payload: payload_len, buf_at });
    }

    /// Fills in head and checksums for `place`.
    pub(crate) fn place(&mut self, spool: SpoolId, place: Place, number: u64, durable: Place, oldest: u64) {
        let body = self.body_end() as u64 + self.large_len - GROUP_HEAD as u64;
        let entries = self.entries.len() as u32;
        GroupHead { spool, place, number, body, entries, durable, oldest }.encode(&mut self.buf);
        for built in &self.entries {
            let at = Place { segment: place.segment, offset: place.offset + built.at };
            let end = built.buf_at + ENTRY_HEAD + built.fields as usize;
            let crc = entry_crc(spool, at, self.buf.get(built.buf_at..end).unwrap_or_default());
            put_at(&mut self.buf, built.buf_at, &crc.to_le_bytes());
        }
        let pad = self.len() - (self.buf.len() as u64 + self.large_len);
        self.buf.resize(self.buf.len() + pad as usize, 0);
    }

    /// The end of the entries in `buf`: it is padded once placed.
    fn body_end(&self) -> usize {
        let Some(last) = self.entries.last() else { return GROUP_HEAD };
        let inline = if (last.payload as usize) < COPIED { last.payload as usize } else { 0 };
        last.buf_at + ENTRY_HEAD + last.fields as usize + inline
    }

    /// What to write, in order.
    pub(crate) fn parts(&self) -> Vec<IoSlice<'_>> {
        let mut parts = Vec::with_capacity(2 * self.large.len() + 1);
        let mut from = 0;
        for (end, payload) in &self.large {
            parts.push(IoSlice::new(self.buf.get(from..*end).unwrap_or_default()));
            parts.push(IoSlice::new(payload));
            from = *end;
        }
        parts.push(IoSlice::new(self.buf.get(from..).unwrap_or_default()));
        parts
    }

    /// The entries, in order.
    pub(crate) fn entries(&self) -> &[Built] {
        &self.entries
    }
}
