//! A sealed batch on its way: in memory, or only in the spool until its turn comes.

use super::{BatchConfig, Permit, Token};
use crate::core::produce::batch::{BatchCell, Certainty, Failure, Outcome, Places};
use crate::core::produce::window::Stampable;
use crate::core::spool::{BatchId, Noted, Order, Stamp, StoredBatch, Target};
use crate::error::SendCause;
use crate::types::{Compression, TopicId, TopicPartition};
use crate::wire::batch::{DecodeLimits, HEADER_LEN, RecordsBuilder, RecordsSection, SealedBatch};
use bytes::BytesMut;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// The partition of a queue whose topic has no known partitions, and of its batches.
pub(crate) const UNPARTITIONED: i32 = -1;

/// Where a batch's bytes are.
enum Content {
    /// In memory.
    Loaded(Box<SealedBatch>),
    /// In the spool only.
    OnDisk,
}

/// What is known of a batch wherever its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meta {
    count: i32,
    max_timestamp: i64,
    /// The size of the records section.
    len: usize,
}

impl Meta {
    fn of(section: &RecordsSection) -> Meta {
        Meta { count: section.count, max_timestamp: section.max_timestamp, len: section.bytes.len() }
    }
}

/// What the spool has of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// Its name.
    pub(crate) id: BatchId,
    /// Its place.
    pub(crate) order: Order,
    /// The topic's id when it was accepted.
    pub(crate) topic_id: TopicId,
    /// Its last stamp.
    pub(crate) stamp: Option<Stamp>,
    /// It is as durable as the settings say; until then it was only asked to be written.
    pub(crate) durable: Arc<AtomicBool>,
}

impl Stored {
    /// Whether it is as durable as the settings say.
    pub(crate) fn is_durable(&self) -> bool {
        self.durable.load(Ordering::Acquire)
    }
}

/// Whose half a batch is, while it has no name of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SplitOf {
    /// The whole, still in the spool.
    pub(crate) parent: BatchId,
    /// The half's place.
    pub(crate) order: Order,
}

/// A sealed batch. What not every one in a long backlog has is boxed. If it is dropped before anybody has resolved it, its receipts learn that it is in the spool, or that
/// nobody knows.
pub(crate) struct ReadyBatch {
    content: Content,
    meta: Meta,
    cell: Arc<BatchCell>,
    deadline: Instant,
    /// Its share of the memory, shared with its other half. None while it is on disk.
    permit: Option<Token>,
    /// Space set aside in the spool, until it is written.
    space: Option<Box<dyn Permit>>,
    /// Flushes wait for it.
    live: Option<Token>,
    /// The name and place under which it is in the spool, or on its way there.
    pub(crate) stored: Option<Box<Stored>>,
    /// It is half of a batch in the spool, and has no name there yet.
    pub(crate) split_of: Option<SplitOf>,
    /// The place it is to have in the spool, when that is decided already.
    pub(crate) order: Option<Order>,
    /// The partition that the application chose for each record, or -1: a batch without a partition.
    pub(crate) chosen: Option<Vec<i32>>,
    /// When it was opened, in Unix milliseconds.
    pub(crate) accepted_at: i64,
}

/// What a sealed batch is made of.
pub(super) struct Parts {
    pub(super) section: RecordsSection,
    pub(super) cell: Arc<BatchCell>,
    pub(super) deadline: Instant,
    pub(super) permit: Token,
    pub(super) space: Option<Box<dyn Permit>>,
    pub(super) live: Option<Token>,
    pub(super) chosen: Option<Vec<i32>>,
    pub(super) accepted_at: i64,
}

/// A batch without a partition, taken apart. All of it has to be in the spool, or to be given up, before the old batch is
/// resolved with [`ReadyBatch::resolve_scattered`].
pub(crate) struct Scattered {
    /// A batch for each partition, by partition. The names are not given yet; the place is that of the old batch.
    pub(crate) parts: Vec<ReadyBatch>,
    /// Records for partitions that do not exist, and why they cannot be sent.
    pub(crate) refused: Vec<(ReadyBatch, SendCause)>,
    /// Where the old batch's receipts have to look.
    pub(crate) places: Places,
}

impl ReadyBatch {
    pub(super) fn new(parts: Parts) -> ReadyBatch {
        let Parts { section, cell, deadline, permit, space, live, chosen, accepted_at } = parts;
        ReadyBatch {
            meta: Meta::of(&section),
            content: Content::Loaded(Box::new(SealedBatch::new(section))),
            cell,
            deadline,
            permit: Some(permit),
            space,
            live,
            stored: None,
            split_of: None,
            order: None,
            chosen,
            accepted_at,
        }
    }

    /// A batch found in the spool. Nobody waits for its cell, and its bytes stay on disk. `deadline` is when it is given
    /// up; see [`super::never`].
    pub(crate) fn recovered(found: StoredBatch, deadline: Instant) -> ReadyBatch {
        let StoredBatch { id, order, target, topic_id, accepted_at, count, max_timestamp, len, stamp, status: _ } =
            found;
        let (partition, chosen) = match target {
            Target::Partition(partition) => (partition, None),
            Target::Unpartitioned { topic, chosen } => (TopicPartition::new(topic, UNPARTITIONED), Some(chosen)),
        };
        let cell = BatchCell::new(partition, None);
        cell.set_spooled();
        ReadyBatch {
            content: Content::OnDisk,
            meta: Meta { count, max_timestamp, len },
            cell,
            deadline,
            permit: None,
            space: None,
            live: None,
            stored: Some(Box::new(Stored { id, order, topic_id, stamp, durable: Arc::new(AtomicBool::new(true)) })),
            split_of: None,
            order: None,
            chosen,
            accepted_at,
        }
    }

    /// Header-less bytes and their checksum, for stamping; none while they are only on disk.
    pub(crate) fn sealed(&self) -> Option<&SealedBatch> {
        match &self.content {
            Content::Loaded(sealed) => Some(sealed),
            Content::OnDisk => None,
        }
    }

    /// Whether its bytes are in memory.
    pub(crate) fn is_loaded(&self) -> bool {
        self.sealed().is_some()
    }

    /// Drops bytes and memory of a batch that the spool has; nothing happens to one that it was never asked to write.
    pub(crate) fn unload(&mut self) {
        if self.stored.is_some() {
            self.content = Content::OnDisk;
            self.permit = None;
        }
    }

    /// Takes the bytes that were read back, and their share of the memory.
    pub(crate) fn load(&mut self, sealed: SealedBatch, permit: Option<Box<dyn Permit>>) {
        self.meta = Meta::of(sealed.section());
        self.content = Content::Loaded(Box::new(sealed));
        self.permit = permit.map(Token::from);
    }

    /// The size of the whole batch, wherever its bytes are.
    pub(crate) fn len(&self) -> usize {
        HEADER_LEN + self.meta.len
    }

    /// What its receipts look at.
    pub(crate) fn cell(&self) -> &Arc<BatchCell> {
        &self.cell
    }

    /// Space was set aside for it in the spool.
    pub(crate) fn set_space(&mut self, space: Option<Box<dyn Permit>>) {
        self.space = space;
    }

    /// The space set aside for it in the spool, to be given back when it is written.
    pub(crate) fn take_space(&mut self) -> Option<Box<dyn Permit>> {
        self.space.take()
    }

    /// Flushes wait for it no longer: it is parked.
    pub(crate) fn release_live(&mut self) {
        self.live = None;
    }

    /// Flushes wait for it from now on.
    pub(crate) fn set_live(&mut self, live: Token) {
        self.live = Some(live);
    }

    /// Tells the receipts that it is in the log, and gives its memory back if nothing else holds it.
    pub(crate) fn deliver(mut self, base_offset: Option<i64>) -> Option<BytesMut> {
        self.cell.resolve(Outcome::Delivered(base_offset));
        let content = std::mem::replace(&mut self.content, Content::OnDisk);
        drop(self);
        match content {
            Content::Loaded(sealed) => {
                let bytes = sealed.section().bytes.clone();
                drop(sealed);
                bytes.try_into_mut().ok()
            }
            Content::OnDisk => None,
        }
    }

    /// Tells the receipts that it was given up.
    pub(crate) fn fail(self, maybe: bool, cause: SendCause, last: Option<Arc<str>>) {
        self.give_up(if maybe { Certainty::Maybe } else { Certainty::Absent }, cause, last);
    }

    /// Tells the receipts that it stays in the spool, for whoever opens that next.
    pub(crate) fn keep(self, cause: SendCause, last: Option<Arc<str>>) {
        self.give_up(Certainty::Kept, cause, last);
    }

    fn give_up(&self, certainty: Certainty, cause: SendCause, last: Option<Arc<str>>) {
        let section = self.sealed().map(|sealed| sealed.section().clone());
        let records = OnceLock::new();
        let failure = Failure { section, chosen: self.chosen.clone(), certainty, cause, last, records };
        self.cell.resolve(Outcome::Failed(Box::new(failure)));
    }

    /// Has the receipts look at the batches that its records went to.
    pub(crate) fn resolve_scattered(self, places: Places) {
        self.cell.resolve(Outcome::Scattered(places));
    }

    /// Its records in batches for partitions: `partition_of` is given partition chosen (or -1), key and value. None when
    /// the bytes are not there or not readable.
    pub(crate) fn scatter(
        &self,
        config: &BatchConfig,
        mut partition_of: impl FnMut(i32, Option<&[u8]>, Option<&[u8]>) -> Result<i32, (i32, SendCause)>,
    ) -> Option<Scattered> {
        let records = self.sealed()?.section().records(&OWN).ok()?;
        let bytes = records.bytes().clone();
        let mut places = Vec::with_capacity(records.remaining());
        let mut numbers: BTreeMap<i32, u32> = BTreeMap::new();
        let mut drafts: Vec<(i32, RecordsBuilder, Option<SendCause>)> = Vec::new();
        for (i, record) in records.enumerate() {
            let record = record.ok()?;
            let (key, value) = (record.key(&bytes), record.value(&bytes));
            let chosen = self.chosen.as_ref().and_then(|chosen| chosen.get(i)).copied().unwrap_or(UNPARTITIONED);
            let (partition, refusal) = match partition_of(chosen, key, value) {
                Ok(partition) => (partition, None),
                Err((partition, cause)) => (partition, Some(cause)),
            };
            let next = u32::try_from(drafts.len()).ok()?;
            let number = *numbers.entry(partition).or_insert(next);
            if number == next {
                drafts.push((partition, RecordsBuilder::new(BytesMut::new()), refusal));
            }
            let (_, builder, _) = drafts.get_mut(number as usize)?;
            let headers = record.headers(&bytes).map(|(name, value)| Some((str::from_utf8(name).ok()?, value)));
            let headers: Option<Vec<_>> = headers.collect();
            places.push((number, builder.count().unsigned_abs()));
            builder.push(record.timestamp, key, value, &headers?).ok()?;
        }
        let (mut parts, mut refused, mut cells) = (Vec::new(), Vec::new(), Vec::new());
        for (partition, builder, refusal) in drafts {
            let cell = self.cell.part(TopicPartition::new(self.cell.partition().topic.clone(), partition));
            cells.push(cell.clone());
            let section = builder.finish();
            match refusal {
                Some(cause) => refused.push((self.part(section, cell), cause)),
                None => parts.push(self.part(config.compressed(section), cell)),
            }
        }
        Some(Scattered { parts, refused, places: Places { places, cells } })
    }

    /// A batch of some of its records.
    fn part(&self, section: RecordsSection, cell: Arc<BatchCell>) -> ReadyBatch {
        ReadyBatch {
            meta: Meta::of(&section),
            content: Content::Loaded(Box::new(SealedBatch::new(section))),
            cell,
            deadline: self.deadline,
            permit: self.permit.clone(),
            space: None,
            live: self.live.clone(),
            stored: None,
            split_of: None,
            order: self.stored.as_ref().map(|stored| stored.order).or(self.order),
            chosen: None,
            accepted_at: self.accepted_at,
        }
    }
}

/// Bytes that this process has encoded itself are read back whatever they decompress to.
const OWN: DecodeLimits = DecodeLimits { batch_bytes: i32::MAX as usize };

impl BatchConfig {
    /// A section that its codec refuses goes out as it is: any consumer can read that.
    pub(super) fn compressed(&self, section: RecordsSection) -> RecordsSection {
        if self.compression == Compression::None {
            return section;
        }
        let plain = section.clone();
        section.compress(self.compression, self.level).unwrap_or(plain)
    }
}

impl Drop for ReadyBatch {
    fn drop(&mut self) {
        if !self.cell.is_resolved() {
            let durable = self.stored.as_deref().is_some_and(Stored::is_durable);
            self.give_up(if durable { Certainty::Kept } else { Certainty::Maybe }, SendCause::Closed, None);
        }
    }
}

impl Stampable for ReadyBatch {
    fn count(&self) -> i32 {
        self.meta.count
    }

    fn rank(&self) -> Option<u64> {
        Some(self.stored.as_ref()?.order.rank)
    }

    fn noted(&self) -> Option<Noted> {
        self.stored.as_ref()?.stamp?.noted
    }

    fn newest_timestamp(&self) -> i64 {
        self.meta.max_timestamp
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn split(self) -> Result<[Self; 2], Self> {
        if self.count() < 2 || self.chosen.is_some() {
            return Err(self);
        }
        let stored = self.stored.as_ref();
        let orders = match stored.map(|stored| stored.order).or(self.order) {
            // Halved so often that there is no place left between its neighbours: refused as a whole.
            Some(order) => match order.halves() {
                Some(halves) => halves.map(Some),
                None => return Err(self),
            },
            None => [None, None],
        };
        let parent = stored.map(|stored| stored.id);
        // Unreadable bytes of our own cannot be split; the batch is then refused as a whole.
        let halves = self.sealed().and_then(|sealed| sealed.section().halves(&OWN).ok());
        let Some((first, second)) = halves else { return Err(self) };
        let at = first.count.unsigned_abs();
        let half = |section, order: Option<Order>| {
            let mut half = self.part(section, self.cell.part(self.cell.partition().clone()));
            half.order = order;
            half.split_of = parent.zip(order).map(|(parent, order)| SplitOf { parent, order });
            half
        };
        let [one, two] = orders;
        let parts = [half(first, one), half(second, two)];
        self.cell.resolve(Outcome::Split { at, parts: [parts[0].cell.clone(), parts[1].cell.clone()] });
        Ok(parts)
    }
}

impl fmt::Debug for ReadyBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records for {}", self.count(), self.cell.partition())
    }
}
