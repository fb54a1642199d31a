//! `indelible spool`: what was kept on disk, looked at and decided about.

mod change;
mod deliver;
mod document;
mod export;
mod look;
pub(crate) mod rest;

use indelible::spool::Filter;

use crate::args::{Choice, SpoolCommand};
use crate::failure::Failure;

/// Runs one of the commands.
pub(crate) async fn run(command: SpoolCommand) -> Result<(), Failure> {
    match command {
        SpoolCommand::Status(options) => look::status(&options),
        SpoolCommand::List(options) => look::list(&options),
        SpoolCommand::Verify(options) => look::verify(&options),
        SpoolCommand::Deliver(options) => deliver::run(&options).await,
        SpoolCommand::Retry(options) => change::retry(&options),
        SpoolCommand::Export(options) => export::run(&options),
        SpoolCommand::Discard(options) => change::discard(&options),
    }
}

/// The batches that the options name; none when they name none.
fn chosen(choice: &Choice) -> Option<Filter> {
    if choice.all {
        return Some(Filter::all());
    }
    let mut filter = Filter::ids(choice.ids.iter().copied());
    filter.dead = choice.dead;
    filter.parked = choice.parked;
    (filter != Filter::default()).then_some(filter)
}
