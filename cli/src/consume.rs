//! `indelible consume`: records to standard output or to a command, committed when they got there.

use std::io::{self, Write};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use indelible::{ConsumeError, ConsumerHandle, Delivery, HandlerFailure, OffsetReset, StopReason};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::args::{Beginning, ConsumeOptions};
use crate::config;
use crate::failure::Failure;
use crate::format::Format;
use crate::progress::Progress;
use crate::signals::Signals;

/// How often the progress line is drawn anew.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// As a shell tells that a process was interrupted.
const INTERRUPTED: i32 = 130;

/// Runs the command.
pub(crate) async fn run(options: ConsumeOptions) -> Result<(), Failure> {
    let format = Format::parse(&options.format).map_err(|error| Failure::usage(format!("--format: {error}")))?;
    // Whoever asks twice wants no commit: what was handled since the last one will be handled again.
    let mut signals = Signals::listen(Some(|| std::process::exit(INTERRUPTED)))?;
    let (builder, properties) = config::client(&options.cluster)?;
    let starting = async {
        let client = config::connect(builder).await?;
        if !client.config().allow_auto_create_topics {
            config::describe(&client, options.topic.iter().map(String::as_str)).await?;
        }
        Ok(client)
    };
    let client = tokio::select! {
        client = starting => client?,
        () = signals.first() => return Ok(()),
    };
    let from = match options.from {
        Beginning::Earliest => OffsetReset::Earliest,
        Beginning::Latest => OffsetReset::Latest,
    };
    let mut builder = client.consumer(&options.group).topics(&options.topic).offset_reset(from);
    if let Some(most) = options.max_records {
        builder = builder.stop_after(most);
    }
    if let Some(idle) = options.idle_exit_ms {
        builder = builder.stop_when_idle(Duration::from_millis(idle));
    }
    let consumer = properties.apply(builder, |builder, name, value| builder.property(name, value));
    let consumer = consumer.build().map_err(|error| Failure::consume(&error))?;
    let handle = consumer.handle();
    let progress = Progress::spinner();
    let running = async {
        match &options.exec {
            Some(command) => {
                let command: Rc<str> = Rc::from(command.as_str());
                consumer.run(move |delivery| exec(command.clone(), delivery)).await
            }
            None => {
                let mut line = Vec::new();
                consumer
                    .run(move |delivery| {
                        line.clear();
                        format.push(&mut line, &delivery);
                        // Written before the next record is asked for, so that a commit can only follow the line.
                        std::future::ready(print(&line))
                    })
                    .await
            }
        }
    };
    let summary = tokio::select! {
        summary = running => summary,
        () = attend(&handle, &mut signals, &progress) => return Ok(()),
    };
    progress.clear();
    match summary {
        Ok(summary) => {
            if progress.is_shown() {
                let why = match summary.reason {
                    StopReason::MaxRecords => "that was the limit",
                    StopReason::Idle => "nothing more came",
                    _ => "stopped",
                };
                progress.print(&format!("{} records handled and committed; {why}", summary.records));
            }
            Ok(())
        }
        Err(error) if is_closed_output(&error) => Err(Failure::local(format!(
            "standard output was closed by its reader; what was not written is not committed: {error}"
        ))),
        Err(error) => Err(Failure::consume(&error)),
    }
}

/// Passes the first signal on, and shows how far it got. Never ends by itself.
async fn attend(handle: &ConsumerHandle, signals: &mut Signals, progress: &Progress) {
    let showing = async {
        while progress.is_shown() {
            let metrics = handle.metrics();
            progress.show(metrics.records, || format!("{} records handled, {} to go", metrics.records, metrics.lag));
            tokio::time::sleep(PROGRESS_EVERY).await;
        }
        std::future::pending::<()>().await;
    };
    let stopping = async {
        signals.first().await;
        handle.shutdown();
        std::future::pending::<()>().await;
    };
    tokio::join!(showing, stopping);
}

/// Writes a line through to the descriptor: one system call, and no line is in memory only when its commit is sent.
fn print(line: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(line)?;
    stdout.flush()
}

fn is_closed_output(error: &ConsumeError) -> bool {
    let ConsumeError::Handler { failure: HandlerFailure::Error(error), .. } = error else { return false };
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Runs the command with the value on its standard input.
async fn exec(command: Rc<str>, delivery: Delivery) -> Result<(), String> {
    let failed = |error: io::Error| format!("--exec {command:?} cannot be run: {error}");
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(&*command)
        .stdin(Stdio::piped())
        .env("INDELIBLE_TOPIC", delivery.topic())
        .env("INDELIBLE_PARTITION", delivery.partition().to_string())
        .env("INDELIBLE_OFFSET", delivery.offset().to_string())
        .env("INDELIBLE_TIMESTAMP", delivery.timestamp().to_string());
    match delivery.key().filter(|key| !key.contains(&0)) {
        #[cfg(unix)]
        Some(key) => {
            use std::os::unix::ffi::OsStrExt;
            shell.env("INDELIBLE_KEY", std::ffi::OsStr::from_bytes(key));
        }
        #[cfg(not(unix))]
        Some(key) => {
            shell.env("INDELIBLE_KEY", String::from_utf8_lossy(key).as_ref());
        }
        None => {
            shell.env_remove("INDELIBLE_KEY");
        }
    }
    // Ctrl-C in the terminal reaches this program alone: the record in hand is finished.
    #[cfg(unix)]
    shell.process_group(0);
    let mut child = shell.spawn().map_err(failed)?;
    let input = child.stdin.take();
    let feed = async {
        let Some(mut input) = input else { return Ok(()) };
        match input.write_all(delivery.value()).await {
            // A command need not read what it does not want; its exit status decides.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    };
    let (fed, status) = tokio::join!(feed, child.wait());
    fed.map_err(failed)?;
    let status = status.map_err(failed)?;
    if status.success() { Ok(()) } else { Err(format!("--exec {command:?} ended with {status}")) }
}
