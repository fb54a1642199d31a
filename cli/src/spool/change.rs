//! `indelible spool retry` and `discard`: they need the spool for themselves.

use indelible::spool::Filter;

use super::{chosen, document};
use crate::args::{DiscardOptions, RetryOptions};
use crate::failure::Failure;
use crate::out;
use crate::table;

/// Makes batches ready again.
pub(super) fn retry(options: &RetryOptions) -> Result<(), Failure> {
    let directory = &options.look.directory;
    let Some(filter) = chosen(&options.choice) else {
        return Err(Failure::usage(
            "say which batches: --id N, --dead, --parked or --all; indelible spool list shows them",
        ));
    };
    let found = indelible::spool::inspect(directory).map_err(|error| Failure::spool(&error))?;
    let doubtful: Vec<u64> = found
        .batches
        .iter()
        .filter(|batch| filter.takes(batch) && batch.status.is_unknown())
        .map(|batch| batch.id)
        .collect();
    if !doubtful.is_empty() && !options.yes {
        return Err(Failure::usage(format!(
            "of {} nobody can tell whether the topic has it (the first is {}): sent again it may be there twice. Give --yes \
             to have it so",
            table::batches(doubtful.len() as u64),
            doubtful[0]
        )));
    }
    let retried = indelible::spool::retry(directory, &filter).map_err(|error| Failure::spool(&error))?;
    let told = [("batches", retried.batches), ("records", retried.records), ("unknown", retried.unknown)];
    if options.look.json {
        out::write(&document::numbers(&told))?;
    } else {
        out::write(
            format!(
                "made ready: {} with {}; indelible spool deliver {} -b HOST:PORT sends them\n",
                table::batches(retried.batches),
                table::records(retried.records),
                directory.display()
            )
            .as_bytes(),
        )?;
    }
    all_found(&options.choice.ids, &retried.missing)
}

/// Throws batches away.
pub(super) fn discard(options: &DiscardOptions) -> Result<(), Failure> {
    let directory = &options.look.directory;
    let found = indelible::spool::inspect(directory).map_err(|error| Failure::spool(&error))?;
    let filter = Filter::ids(options.ids.iter().copied());
    if !options.yes {
        let batches = found.batches.iter().filter(|batch| filter.takes(batch));
        let records: u64 = batches.map(|batch| batch.records).sum();
        return Err(Failure::usage(format!(
            "{} would be thrown away for good; indelible spool export {} shows them. Give --yes to have it so",
            table::records(records),
            directory.display()
        )));
    }
    let discarded = indelible::spool::discard(directory, &options.ids).map_err(|error| Failure::spool(&error))?;
    if options.look.json {
        out::write(&document::numbers(&[("batches", discarded.batches), ("records", discarded.records)]))?;
    } else {
        let (batches, records) = (table::batches(discarded.batches), table::records(discarded.records));
        let told = format!("thrown away: {batches} with {records}\n");
        out::write(told.as_bytes())?;
    }
    all_found(&options.ids, &discarded.missing)
}

fn all_found(ids: &[u64], missing: &[u64]) -> Result<(), Failure> {
    let Some(first) = missing.first() else { return Ok(()) };
    Err(Failure::incomplete(format!(
        "not in the spool: {} of {}, the first is {first}: delivered by now, or never there",
        missing.len(),
        table::batches(ids.len() as u64)
    )))
}
