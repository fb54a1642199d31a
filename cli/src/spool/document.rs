//! What is known of a spool, as JSON.

use std::fmt::Display;

use indelible::spool::{Batch, DamagedPlace, Inspection, Partition};
use indelible::types::{ProducerIdentity, TopicId, TopicPartition};

use crate::json::push_string;

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
            o.topic_id(topic.id);
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
    o.identity(partition.identity);
    o.maybe("next_sequence", partition.next_sequence);
    o.maybe("acknowledged_offset", partition.acknowledged);
}

fn push_batch(o: &mut Object<'_>, batch: &Batch) {
    o.value("id", batch.id);
    o.text("topic", &batch.topic);
    o.maybe("partition", batch.partition);
    o.topic_id(batch.topic_id);
    o.value("records", batch.records);
    o.value("bytes", batch.bytes);
    o.value("accepted_at", batch.accepted_at);
    o.text("status", batch.status.name());
    o.value("unknown", batch.status.is_unknown());
    o.maybe_text("reason", batch.status.reason());
    o.identity(batch.stamp.map(|stamp| stamp.identity));
    o.maybe("base_sequence", batch.stamp.map(|stamp| stamp.base_sequence));
}

fn push_damage(o: &mut Object<'_>, damage: &DamagedPlace) {
    o.text("file", &damage.file);
    o.value("offset", damage.offset);
    o.value("bytes", damage.len);
    o.text("what", &damage.what);
}

/// A document of one object, in a line.
fn object(fill: impl FnOnce(&mut Object<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    Object::write(&mut out, fill);
    out.push(b'\n');
    out
}

/// An object being written.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl Object<'_> {
    fn write(out: &mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
        out.push(b'{');
        fill(&mut Object { out, is_empty: true });
        out.push(b'}');
    }

    fn name(&mut self, name: &str) {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
        push_string(self.out, name);
        self.out.push(b':');
    }

    /// A number or a truth value.
    fn value(&mut self, name: &str, value: impl Display) {
        self.name(name);
        self.out.extend_from_slice(value.to_string().as_bytes());
    }

    fn maybe(&mut self, name: &str, value: Option<impl Display>) {
        match value {
            Some(value) => self.value(name, value),
            None => self.value(name, "null"),
        }
    }

    fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        push_string(self.out, text);
    }

    fn maybe_text(&mut self, name: &str, text: Option<&str>) {
        match text {
            Some(text) => self.text(name, text),
            None => self.value(name, "null"),
        }
    }

    fn topic_id(&mut self, id: TopicId) {
        self.maybe_text("topic_id", id.is_some().then(|| id.to_string()).as_deref());
    }

    fn identity(&mut self, identity: Option<ProducerIdentity>) {
        self.maybe("producer_id", identity.map(|identity| identity.id));
        self.maybe("producer_epoch", identity.map(|identity| identity.epoch));
    }

    fn list<T>(&mut self, name: &str, items: impl IntoIterator<Item = T>, push: impl Fn(&mut Object<'_>, T)) {
        self.name(name);
        self.out.push(b'[');
        for (i, item) in items.into_iter().enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            Object::write(self.out, |o| push(o, item));
        }
        self.out.push(b']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_nest() {
        let out = object(|o| {
            o.text("a", "x\"");
            o.maybe("b", None::<u8>);
            o.list("c", [1, 2], |o, n| o.value("n", n));
            o.value("d", true);
        });
        let told = r#"{"a":"x\"","b":null,"c":[{"n":1},{"n":2}],"d":true}"#;
        assert_eq!(String::from_utf8(out).unwrap(), format!("{told}\n"));
    }
}
