//! Offsets in the batch header; see the diagram in [`super`].

pub(super) const BASE_OFFSET: usize = 0;
pub(super) const LENGTH: usize = BASE_OFFSET + 8;
pub(super) const LEADER_EPOCH: usize = LENGTH + 4;
pub(super) const MAGIC: usize = LEADER_EPOCH + 4;
pub(super) const CRC: usize = MAGIC + 1;
pub(super) const ATTRIBUTES: usize = CRC + 4;
pub(super) const LAST_OFFSET_DELTA: usize = ATTRIBUTES + 2;
pub(super) const BASE_TIMESTAMP: usize = LAST_OFFSET_DELTA + 4;
pub(super) const MAX_TIMESTAMP: usize = BASE_TIMESTAMP + 8;
pub(super) const PRODUCER_ID: usize = MAX_TIMESTAMP + 8;
pub(super) const PRODUCER_EPOCH: usize = PRODUCER_ID + 8;
pub(super) const BASE_SEQUENCE: usize = PRODUCER_EPOCH + 2;
pub(super) const COUNT: usize = BASE_SEQUENCE + 4;

/// The size of a batch's header; the records section follows.
pub const HEADER_LEN: usize = COUNT + 4;

/// What the length field does not count: itself and the base offset.
pub(super) const LENGTH_EXCLUDES: usize = LENGTH + 4;

pub(super) const APPEND_TIME: i16 = 1 << 3;
pub(super) const TRANSACTIONAL: i16 = 1 << 4;
pub(super) const CONTROL: i16 = 1 << 5;
pub(super) const DELETE_HORIZON: i16 = 1 << 6;
