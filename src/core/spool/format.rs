//! The bytes of a spool, as SPOOL_FORMAT.md lays them out. All numbers are little-endian.

mod entry;
mod fields;

pub(crate) use entry::{BatchHead, Checkpoint, Entry, EntryHead, SetAside, entry_crc};
pub(in crate::core::spool) use fields::{put_at, put_u32};

use fields::{Fields, put_u64};

/// The format version written, and the newest read.
pub(crate) const VERSION: u32 = 1;
/// Groups begin at multiples of this: what disks write whole.
pub(crate) const ALIGN: u64 = 512;
/// The size of a segment's head.
pub(crate) const SEGMENT_HEAD: u64 = ALIGN;
/// The size of a group's head.
pub(crate) const GROUP_HEAD: usize = 96;
/// The size of an entry's head.
pub(crate) const ENTRY_HEAD: usize = 16;
/// The longest fields an entry may have: nothing larger is allocated for bytes from a disk.
pub(crate) const MAX_FIELDS: usize = 64 << 20;

const SEGMENT_MAGIC: [u8; 8] = *b"indelSPL";
const GROUP_MAGIC: [u8; 4] = *b"iGRP";

/// A random name, so that bytes of another spool are never taken for this one's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SpoolId(pub(crate) [u8; 16]);

impl std::fmt::Display for SpoolId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A byte in the spool. Ordered as bytes are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The segment's sequence number.
    pub(crate) segment: u64,
    /// The byte in it.
    pub(crate) offset: u64,
}

/// `len` up to the next place where a group may begin.
pub(crate) fn aligned(len: u64) -> u64 {
    len.div_ceil(ALIGN).saturating_mul(ALIGN)
}

/// The first bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    /// Whose it is.
    pub(crate) spool: SpoolId,
    /// Grows with every segment begun, also when a file is used again.
    pub(crate) sequence: u64,
}

/// What a segment's first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentRead {
    /// A segment.
    Good(SegmentHead),
    /// A segment of this later version.
    Newer(u32),
    /// Nothing that makes sense: never begun, or damaged.
    Bad,
}

impl SegmentHead {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEAD as usize);
        out.extend_from_slice(&SEGMENT_MAGIC);
        put_u32(&mut out, VERSION);
        put_u32(&mut out, 0);
        out.extend_from_slice(&self.spool.0);
        put_u64(&mut out, self.sequence);
        let crc = crc32c::crc32c(&out);
        put_u32(&mut out, crc);
        out.resize(SEGMENT_HEAD as usize, 0);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> SegmentRead {
        let mut fields = Fields::new(bytes);
        let read = (|| {
            let magic: [u8; 8] = fields.array()?;
            let version = fields.u32()?;
            let _ = fields.u32()?;
            let spool = SpoolId(fields.array()?);
            let sequence = fields.u64()?;
            let crc = fields.u32()?;
            (magic == SEGMENT_MAGIC && crc == crc32c::crc32c(bytes.get(..40)?)).then_some((version, spool, sequence))
        })();
        match read {
            Some((VERSION, spool, sequence)) => SegmentRead::Good(SegmentHead { spool, sequence }),
            Some((version, ..)) => SegmentRead::Newer(version),
            None => SegmentRead::Bad,
        }
    }
}

/// The first bytes of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHead {
    /// Whose it is.
    pub(crate) spool: SpoolId,
    /// Where it begins.
    pub(crate) place: Place,
    /// Grows with every group written.
    pub(crate) number: u64,
    /// Bytes of the entries behind the head.
    pub(crate) body: u64,
    /// How many there are.
    pub(crate) entries: u32,
    /// Up to here everything was synced when this was written.
    pub(crate) durable: Place,
    /// Segments with a lower sequence belong to the spool no longer.
    pub(crate) oldest: u64,
}

impl GroupHead {
    pub(crate) fn encode(&self, out: &mut [u8]) {
        let mut head = Vec::with_capacity(GROUP_HEAD);
        head.extend_from_slice(&GROUP_MAGIC);
        put_u32(&mut head, 0);
        head.extend_from_slice(&self.spool.0);
        put_u64(&mut head, self.place.segment);
        put_u64(&mut head, self.place.offset);
        put_u64(&mut head, self.number);
        put_u64(&mut head, self.body);
        put_u32(&mut head, self.entries);
        put_u32(&mut head, 0);
        put_u64(&mut head, self.durable.segment);
        put_u64(&mut head, self.durable.offset);
        put_u64(&mut head, self.oldest);
        put_u64(&mut head, 0);
        let crc = crc32c::crc32c(head.get(8..).unwrap_or_default());
        put_at(&mut head, 4, &crc.to_le_bytes());
        put_at(out, 0, &head);
    }

    /// None unless these are the bytes of a head that was written for `spool` at `place`.
    pub(crate) fn decode(bytes: &[u8], spool: SpoolId, place: Place) -> Option<GroupHead> {
        let head = GroupHead::decode_any(bytes)?;
        (head.spool == spool && head.place == place).then_some(head)
    }

    /// A head whoever wrote it wherever.
    pub(crate) fn decode_any(bytes: &[u8]) -> Option<GroupHead> {
        let mut fields = Fields::new(bytes.get(..GROUP_HEAD)?);
        if fields.array::<4>()? != GROUP_MAGIC || fields.u32()? != crc32c::crc32c(bytes.get(8..GROUP_HEAD)?) {
            return None;
        }
        let spool = SpoolId(fields.array()?);
        let place = Place { segment: fields.u64()?, offset: fields.u64()? };
        let (number, body, entries) = (fields.u64()?, fields.u64()?, fields.u32()?);
        let _ = fields.u32()?;
        let durable = Place { segment: fields.u64()?, offset: fields.u64()? };
        Some(GroupHead { spool, place, number, body, entries, durable, oldest: fields.u64()? })
    }

    /// What the head of its segment says.
    pub(crate) fn segment(&self) -> SegmentHead {
        SegmentHead { spool: self.spool, sequence: self.place.segment }
    }

    /// Where the next group begins.
    pub(crate) fn end(&self) -> u64 {
        aligned(self.place.offset.saturating_add(GROUP_HEAD as u64).saturating_add(self.body))
    }
}
