//! Numbers, strings and identities as they lie in heads and fields.

use crate::core::spool::Noted;
use crate::types::ProducerIdentity;
use std::sync::Arc;

pub(in crate::core::spool) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_i32(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_str(out: &mut Vec<u8>, value: &str) {
    put_u32(out, u32::try_from(value.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(value.as_bytes());
}

pub(super) fn put_identity(out: &mut Vec<u8>, identity: ProducerIdentity) {
    put_i64(out, identity.id);
    out.extend_from_slice(&identity.epoch.to_le_bytes());
}

pub(super) fn put_noted(out: &mut Vec<u8>, noted: Noted) {
    put_i64(out, noted.offset);
    put_i32(out, noted.leader_epoch);
}

/// Copies `bytes` to `out` at `at`, if there is room.
pub(in crate::core::spool) fn put_at(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Fields being read; none as soon as the bytes end.
pub(super) struct Fields<'a> {
    pub(super) bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields { bytes }
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.bytes.split_at_checked(len)?;
        self.bytes = left;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(super) fn str(&mut self) -> Option<Arc<str>> {
        let len = self.u32()? as usize;
        std::str::from_utf8(self.take(len)?).ok().map(Arc::from)
    }

    /// A count of elements of `size` bytes, which the bytes left must hold.
    pub(super) fn count(&mut self, size: usize) -> Option<usize> {
        let count = self.u32()? as usize;
        (count.checked_mul(size)? <= self.bytes.len()).then_some(count)
    }

    pub(super) fn identity(&mut self) -> Option<ProducerIdentity> {
        Some(ProducerIdentity { id: self.i64()?, epoch: i16::from_le_bytes(self.array()?) })
    }

    pub(super) fn noted(&mut self) -> Option<Noted> {
        Some(Noted { offset: self.i64()?, leader_epoch: self.i32()? })
    }
}
