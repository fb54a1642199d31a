//! What is known of a spool, as JSON.

use indelible::spool::{Batch, DamagedPlace, Inspection, Partition};
use indelible::types::{ProducerIdentity, TopicId, TopicPartition};

use crate::json::{Object, object};

/// The document of `status --json`.
pub(super) fn status(spool: &Inspection) -> Vec<u8> {
    object(|o| {
        o.text("directory", &spool.directory.to_string_lossy());
        o.maybe_text("cluster_id", spool.cluster_id.as_deref());
        o.maybe_text("holder", spool.holder.as_deref());
        o.value("format_version", spool.format_version);
        o.value("disk_bytes", spool.disk_bytes);
        o.value("used_bytes", spool.used_bytes);
        o.value("segments", spool.segments);
        let records = |held: fn(&Batch) -> bool| -> u64 {
            spool.batches.iter().filter(|batch| held(batch)).map(|batch| batch.records).sum()
        };
        o.value("records", records(|_| true));
        o.value("ready_records", records(|batch| !batch.status.is_dead() && !batch.status.is_parked()));
        o.value("parked_records", records(|batch| batch.status.is_parked()));
        o.value("dead_records", records(|batch| batch.status.is_dead()));
        o.list("topics", &spool.topics, |o, (name, topic)| {
            o.text("topic", name);
            push_topic_id(o, topic.id);
            o.value("partitions", topic.partitions);
        });
        o.list("partitions", &spool.partitions, |o, (place, partition)| push_partition(o, place, partition));
        o.list("positions", &spool.positions, |o, (source, position)| {
            o.text("source", source);
            o.value("position", position);
        });
        o.list("damage", &spool.damage, push_damage);
        o.list("set_aside", &spool.set_aside, |o, file| {
            o.text("file", &file.file);
            o.value("bytes", file.bytes);
        });
    })
}

/// The document of `list --json`.
pub(super) fn list<'a>(batches: impl IntoIterator<Item = &'a Batch>) -> Vec<u8> {
    object(|o| o.list("batches", batches, push_batch))
}

/// The document of `verify --json`.
pub(super) fn verify(batches: u64, records: u64, bytes: u64, damage: &[DamagedPlace]) -> Vec<u8> {
    object(|o| {
        o.value("batches", batches);
        o.value("records", records);
        o.value("bytes", bytes);
        o.list("damage", damage, push_damage);
    })
}

/// An object of numbers.
pub(super) fn numbers(values: &[(&str, u64)]) -> Vec<u8> {
    object(|o| values.iter().for_each(|(name, value)| o.value(name, value)))
}

fn push_partition(o: &mut Object<'_>, place: &TopicPartition, partition: &Partition) {
    o.text("topic", &place.topic);
    o.maybe("partition", (place.partition >= 0).then_some(place.partition));
    o.value("ready", partition.ready);
    o.value("parked", partition.parked);
    o.value("unknown", partition.unknown);
    o.value("dead", partition.dead);
    o.value("records", partition.records);
    o.value("bytes", partition.bytes);
    o.maybe("oldest", partition.oldest);
    push_identity(o, partition.identity);
    o.maybe("next_sequence", partition.next_sequence);
    o.maybe("acknowledged_offset", partition.acknowledged);
}

fn push_batch(o: &mut Object<'_>, batch: &Batch) {
    o.value("id", batch.id);
    o.text("topic", &batch.topic);
    o.maybe("partition", batch.partition);
    push_topic_id(o, batch.topic_id);
    o.value("records", batch.records);
    o.value("bytes", batch.bytes);
    o.value("accepted_at", batch.accepted_at);
    o.text("status", batch.status.name());
    o.value("unknown", batch.status.is_unknown());
    o.maybe_text("reason", batch.status.reason());
    push_identity(o, batch.stamp.map(|stamp| stamp.identity));
    o.maybe("base_sequence", batch.stamp.map(|stamp| stamp.base_sequence));
}

fn push_damage(o: &mut Object<'_>, damage: &DamagedPlace) {
    o.text("file", &damage.file);
    o.value("offset", damage.offset);
    o.value("bytes", damage.len);
    o.text("what", &damage.what);
}

fn push_topic_id(o: &mut Object<'_>, id: TopicId) {
    o.maybe_text("topic_id", id.is_some().then(|| id.to_string()).as_deref());
}

fn push_identity(o: &mut Object<'_>, identity: Option<ProducerIdentity>) {
    o.maybe("producer_id", identity.map(|identity| identity.id));
    o.maybe("producer_epoch", identity.map(|identity| identity.epoch));
}
