//! How far the batches of an answer reach, read from their headers alone.
//!
//! Checksums and records are looked at later, on the application's side; a header that lies is found there, before
//! anything behind it is handed out.

/// Offset, length, leader epoch, magic, checksum, attributes, last offset delta: the part of a header that is read.
const HEADER: usize = 27;
const LENGTH_AT: usize = 8;
const LEADER_EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const LAST_DELTA_AT: usize = 23;
/// Offset and length come before what the length counts.
const LENGTH_END: usize = 12;

/// The whole batches at the front of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Their bytes. What follows is a batch cut short by the answer's limit.
    pub(super) bytes: usize,
    /// The offset behind the last of them.
    pub(super) next: i64,
    /// Leader epoch of the last of them.
    pub(super) leader_epoch: i32,
    /// The offset of the first batch from which on all are of that epoch.
    pub(super) epoch_from: i64,
    /// Whether there are others.
    pub(super) mixed: bool,
}

/// Walks over the headers.
pub(super) fn of(records: &[u8]) -> Result<Extent, &'static str> {
    let mut extent = Extent { bytes: 0, next: i64::MIN, leader_epoch: -1, epoch_from: -1, mixed: false };
    while let Some(header) = records[extent.bytes..].first_chunk::<HEADER>() {
        let length = usize::try_from(i32_at(header, LENGTH_AT)).map_err(|_| "a batch of negative length")?;
        if length + LENGTH_END < HEADER {
            return Err("a batch shorter than its header");
        }
        if header[MAGIC_AT] != 2 {
            return Err("message formats before version 2 (Kafka 0.11) are not supported");
        }
        if length + LENGTH_END > records.len() - extent.bytes {
            break;
        }
        let mut base = [0; 8];
        base.copy_from_slice(&header[..8]);
        let delta = i64::from(i32_at(header, LAST_DELTA_AT));
        let base = i64::from_be_bytes(base);
        let next = base.checked_add(delta).and_then(|last| last.checked_add(1));
        match next {
            Some(next) if delta >= 0 && base >= extent.next => extent.next = next,
            _ => return Err("batches whose offsets do not grow"),
        }
        let leader_epoch = i32_at(header, LEADER_EPOCH_AT);
        if extent.bytes == 0 || leader_epoch != extent.leader_epoch {
            extent.mixed = extent.bytes > 0;
            (extent.leader_epoch, extent.epoch_from) = (leader_epoch, base);
        }
        extent.bytes += length + LENGTH_END;
    }
    // KIP-74: the first batch comes whole, however large it is.
    if extent.bytes == 0 { Err("the first batch is cut short") } else { Ok(extent) }
}

fn i32_at(header: &[u8; HEADER], at: usize) -> i32 {
    i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::super::tests::batch;
    use super::*;

    #[test]
    fn a_batch_cut_short_is_left_for_the_next_fetch() {
        let mut bytes = [batch(10, 3, 5), batch(20, 1, 6), batch(21, 9, 7)].concat();
        let whole = bytes.len();
        bytes.truncate(whole - 1);
        let extent = of(&bytes).unwrap();
        assert_eq!((extent.next, extent.leader_epoch), (21, 6));
        assert!(extent.bytes < whole);
    }

    #[test]
    fn lengths_and_offsets_that_lie_are_refused() {
        let mut negative = batch(0, 1, 0);
        negative[8..12].copy_from_slice(&(-1i32).to_be_bytes());
        assert!(of(&negative).is_err());
        let mut tiny = batch(0, 1, 0);
        tiny[8..12].copy_from_slice(&3i32.to_be_bytes());
        assert!(of(&tiny).is_err());
        assert!(of(&[batch(5, 1, 0), batch(5, 1, 0)].concat()).is_err());
        assert!(of(&[batch(0, 10, 0), batch(5, 10, 0)].concat()).is_err(), "batches that overlap");
        assert!(of(&batch(i64::MAX, 1, 0)).is_err());
        assert!(of(&batch(0, 1, 0)[..40]).is_err());
        assert!(of(b"short").is_err());
    }
}
