//! What one call of a handler is given: a record, or a batch of them.

use super::delivery::Delivery;
use super::lane::Lane;
use super::source::Next;
use crate::core::consume::watermark::HandedOut;

/// Records of one partition for [`Consumer::run_batches`](super::Consumer::run_batches): at least one, in the order of
/// offsets.
pub type Batch = Vec<Delivery>;

/// A record or a batch of records, on its way through the handler as one.
pub(super) trait Parcel: Clone {
    /// Makes one that begins with `first`, out of what is there now and at most `most` records. Records that are noted
    /// as open on the watermark leave their tokens; a single record is noted only if it is not handled at once.
    fn gather(first: Next, lane: &mut Lane, most: u32, tokens: &mut Vec<HandedOut>) -> Self;

    /// Of a record that had to wait.
    fn single(delivery: Delivery) -> Self;

    /// Its records.
    fn deliveries(&self) -> &[Delivery];

    /// The same records, handled once more.
    fn at_attempt(self, attempt: u32) -> Self;

    /// The same records, out of the fetched bytes that they share with others.
    fn detached(self) -> Self;
}

impl Parcel for Delivery {
    #[inline(always)]
    fn gather(first: Next, _: &mut Lane, _: u32, _: &mut Vec<HandedOut>) -> Self {
        Delivery::new(first.section, first.record, 1)
    }

    fn single(delivery: Delivery) -> Self {
        delivery
    }

    #[inline]
    fn deliveries(&self) -> &[Delivery] {
        std::slice::from_ref(self)
    }

    fn at_attempt(self, attempt: u32) -> Self {
        Delivery::at_attempt(self, attempt)
    }

    fn detached(self) -> Self {
        Delivery::detached(self)
    }
}

impl Parcel for Batch {
    fn gather(first: Next, lane: &mut Lane, most: u32, tokens: &mut Vec<HandedOut>) -> Self {
        let mut batch = Batch::new();
        let mut next = Some(first);
        while let Some(Next { section, record, leader_epoch }) = next {
            // Noted at once: looking for the next one may pass the end of this one's batch.
            tokens.push(lane.open(record.offset, leader_epoch));
            batch.push(Delivery::new(section, record, 1));
            next = if batch.len() < most as usize { lane.next_record() } else { None };
        }
        batch
    }

    fn single(delivery: Delivery) -> Self {
        vec![delivery]
    }

    fn deliveries(&self) -> &[Delivery] {
        self
    }

    fn at_attempt(self, attempt: u32) -> Self {
        self.into_iter().map(|delivery| delivery.at_attempt(attempt)).collect()
    }

    fn detached(self) -> Self {
        self.into_iter().map(Delivery::detached).collect()
    }
}
