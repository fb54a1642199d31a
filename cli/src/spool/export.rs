//! `indelible spool export`: records as JSON lines.

use indelible::spool::ExportedRecord;

use super::chosen;
use crate::args::ExportOptions;
use crate::failure::Failure;
use crate::json::{push_bytes, push_string};
use crate::out;

/// So much is written at a time.
const WRITE: usize = 64 << 10;

/// Writes the records.
pub(super) fn run(options: &ExportOptions) -> Result<(), Failure> {
    let Some(filter) = chosen(&options.choice) else {
        return Err(Failure::usage(
            "say which batches: --id N, --dead, --parked or --all; indelible spool list shows them",
        ));
    };
    let mut lines = Vec::with_capacity(WRITE * 2);
    let mut written = Ok(());
    let exported = indelible::spool::export(&options.directory, &filter, |record| {
        push(&mut lines, &record);
        if lines.len() >= WRITE {
            written = out::write(&lines);
            lines.clear();
        }
        written.is_ok()
    });
    written?;
    out::write(&lines)?;
    exported.map_err(|error| Failure::spool(&error))
}

fn push(out: &mut Vec<u8>, record: &ExportedRecord<'_>) {
    out.extend_from_slice(b"{\"topic\":");
    push_string(out, record.topic);
    let partition = record.partition.map_or_else(|| "null".to_owned(), |partition| partition.to_string());
    out.extend_from_slice(format!(",\"partition\":{partition},").as_bytes());
    push_bytes(out, "key", record.key);
    out.push(b',');
    push_bytes(out, "value", record.value);
    out.extend_from_slice(b",\"headers\":[");
    for (i, (name, value)) in record.headers.iter().enumerate() {
        out.extend_from_slice(if i == 0 { b"{" } else { b",{" });
        push_bytes(out, "name", Some(name));
        out.push(b',');
        push_bytes(out, "value", *value);
        out.push(b'}');
    }
    out.extend_from_slice(format!("],\"timestamp\":{},\"batch\":{}", record.timestamp, record.batch).as_bytes());
    out.extend_from_slice(b",\"status\":");
    push_string(out, record.status.name());
    out.extend_from_slice(b"}\n");
}
