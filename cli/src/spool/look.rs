//! `indelible spool status`, `list` and `verify`: they change nothing.

use indelible::spool::{Batch, Filter, Inspection, inspect};
use indelible::types::TopicPartition;

use super::document;
use crate::args::{ListOptions, LookOptions};
use crate::failure::Failure;
use crate::out;
use crate::table;
use crate::time::{age, unix_millis};

/// What lies in it, for each partition.
pub(super) fn status(options: &LookOptions) -> Result<(), Failure> {
    let spool = inspect(&options.directory).map_err(|error| Failure::spool(&error))?;
    match options.json {
        true => out::write(&document::status(&spool)),
        false => out::write(told(&spool, unix_millis()).as_bytes()),
    }
}

fn told(spool: &Inspection, now: i64) -> String {
    let mut told = format!("spool {}: ", spool.directory.display());
    told.push_str(&match spool.holder.as_deref() {
        Some(holder) => format!("in use by process {holder}\n"),
        None => "not in use\n".to_owned(),
    });
    told.push_str(&match spool.cluster_id.as_deref() {
        Some(id) => format!("cluster {id}\n"),
        None => "cluster not known yet: no broker was reached\n".to_owned(),
    });
    let records: u64 = spool.batches.iter().map(|batch| batch.records).sum();
    let bytes: u64 = spool.batches.iter().map(|batch| batch.bytes).sum();
    told.push_str(&format!(
        "{} in {}, {}; {} on disk in {} files\n",
        table::records(records),
        table::batches(spool.batches.len() as u64),
        table::bytes(bytes),
        table::bytes(spool.disk_bytes),
        spool.segments
    ));
    if !spool.partitions.is_empty() {
        told.push('\n');
        told.push_str(&table::lines(&partitions(spool, now)));
    }
    if !spool.positions.is_empty() {
        let heading = vec!["source".to_owned(), "position".to_owned()];
        let rows = spool.positions.iter().map(|(source, position)| vec![source.clone(), position.to_string()]);
        told.push('\n');
        told.push_str(&table::lines(&std::iter::once(heading).chain(rows).collect::<Vec<_>>()));
    }
    for damage in &spool.damage {
        told.push_str(&format!(
            "\ndamaged: {} bytes at {} of {}: {}",
            damage.len, damage.offset, damage.file, damage.what
        ));
    }
    for file in &spool.set_aside {
        told.push_str(&format!(
            "\nset aside: {} ({}), damaged bytes that were found earlier",
            file.file,
            table::bytes(file.bytes)
        ));
    }
    if !told.ends_with('\n') {
        told.push('\n');
    }
    told
}

fn partitions(spool: &Inspection, now: i64) -> Vec<Vec<String>> {
    let heading = [
        "partition",
        "ready",
        "parked",
        "dead",
        "records",
        "bytes",
        "oldest",
        "producer id",
        "epoch",
        "next sequence",
        "acknowledged",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    for (place, partition) in &spool.partitions {
        let parked = match partition.unknown {
            0 => partition.parked.to_string(),
            unknown => format!("{} ({unknown} unknown)", partition.parked),
        };
        rows.push(vec![
            named(place),
            partition.ready.to_string(),
            parked,
            partition.dead.to_string(),
            partition.records.to_string(),
            table::bytes(partition.bytes),
            or_dash(partition.oldest.map(|oldest| age(oldest, now))),
            or_dash(partition.identity.map(|identity| identity.id.to_string())),
            or_dash(partition.identity.map(|identity| identity.epoch.to_string())),
            or_dash(partition.next_sequence.map(|sequence| sequence.to_string())),
            or_dash(partition.acknowledged.map(|offset| offset.to_string())),
        ]);
    }
    rows
}

fn named(place: &TopicPartition) -> String {
    if place.partition < 0 { format!("{} (not partitioned)", place.topic) } else { place.to_string() }
}

/// Each batch.
pub(super) fn list(options: &ListOptions) -> Result<(), Failure> {
    let spool = inspect(&options.look.directory).map_err(|error| Failure::spool(&error))?;
    let filter = match (options.dead, options.parked) {
        (false, false) => Filter::all(),
        (dead, parked) => {
            let mut filter = Filter::default();
            (filter.dead, filter.parked) = (dead, parked);
            filter
        }
    };
    let batches = spool.batches.iter().filter(|batch| filter.takes(batch));
    match options.look.json {
        true => out::write(&document::list(batches)),
        false => out::write(table::lines(&rows(batches, unix_millis())).as_bytes()),
    }
}

fn rows<'a>(batches: impl Iterator<Item = &'a Batch>, now: i64) -> Vec<Vec<String>> {
    let heading = ["id", "partition", "records", "bytes", "age", "stamp", "status"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for batch in batches {
        let stamp =
            batch.stamp.map(|stamp| format!("{}/{}:{}", stamp.identity.id, stamp.identity.epoch, stamp.base_sequence));
        rows.push(vec![
            batch.id.to_string(),
            named(&TopicPartition::new(batch.topic.as_str(), batch.partition.unwrap_or(-1))),
            batch.records.to_string(),
            table::bytes(batch.bytes),
            age(batch.accepted_at, now),
            stamp.unwrap_or_else(|| "-".to_owned()),
            batch.status.to_string(),
        ]);
    }
    rows
}

/// Reads all of it.
pub(super) fn verify(options: &LookOptions) -> Result<(), Failure> {
    let found = indelible::spool::verify(&options.directory).map_err(|error| Failure::spool(&error))?;
    if options.json {
        out::write(&document::verify(found.batches, found.records, found.bytes, &found.damage))?;
    } else {
        let mut told = format!(
            "read: {} with {}, {}\n",
            table::batches(found.batches),
            table::records(found.records),
            table::bytes(found.bytes)
        );
        for damage in &found.damage {
            told.push_str(&format!("{} at {}: {} bytes: {}\n", damage.file, damage.offset, damage.len, damage.what));
        }
        out::write(told.as_bytes())?;
    }
    if found.damage.is_empty() {
        return Ok(());
    }
    Err(Failure::incomplete(format!(
        "the spool {} is damaged in {} places; a producer that opens it copies these bytes to files of their own and goes on \
         with the rest",
        options.directory.display(),
        found.damage.len()
    )))
}
