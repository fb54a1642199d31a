//! `indelible`: records into Kafka and out of it on the command line, a demonstration, and measurements.

mod args;
mod config;
mod consume;
mod demo;
mod failure;
mod format;
mod group;
mod json;
mod lines;
mod log;
mod out;
mod perf;
mod place;
mod produce;
mod progress;
mod signals;
mod source;
mod spool;
mod table;
mod time;

use std::process::ExitCode;

use args::{Arguments, Command};
use failure::Failure;

fn main() -> ExitCode {
    let arguments = match Arguments::from_process() {
        Ok(arguments) => arguments,
        // Help and version go to standard output and are no failure.
        Err(error) if !error.use_stderr() => {
            return if error.print().is_ok() { ExitCode::SUCCESS } else { Failure::closed_output().report() };
        }
        Err(error) => return Failure::usage(failure::one_line(&error.to_string())).report(),
    };
    if let Err(failure) = log::start() {
        return failure.report();
    }
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// The library works on threads of its own, so one thread is enough for what the commands add. It saves their CPU the
/// hand-over from thread to thread.
fn run(command: Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local(format!("no runtime can be started: {error}")))?;
    let outcome = match command {
        Command::Demo(options) => runtime.block_on(demo::run(options)),
        Command::Produce(options) => runtime.block_on(produce::run(options)),
        Command::Consume(options) => runtime.block_on(consume::run(options)),
        Command::Group(command) => runtime.block_on(group::run(command)),
        Command::Spool(command) => runtime.block_on(spool::run(command)),
        Command::Perf(options) => runtime.block_on(perf::run(options)),
    };
    // What still blocks on standard input must not hold the process.
    runtime.shutdown_background();
    outcome
}
