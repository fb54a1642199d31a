//! `indelible consume`: records to standard output or to a command, committed when they got there.

use std::io::{self, Write};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use indelible::types::TopicPartition;
use indelible::{
    AdminError, Client, ConsumeError, ConsumerBuilder, ConsumerHandle, Delivery, HandlerFailure, StopReason,
};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::args::ConsumeOptions;
use crate::config;
use crate::failure::Failure;
use crate::format::Format;
use crate::place::Place;
use crate::progress::Progress;
use crate::signals::Signals;

/// How often the progress line is drawn anew.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// As a shell tells that a process was interrupted.
const INTERRUPTED: i32 = 130;

/// Runs the command.
pub(crate) async fn run(mut options: ConsumeOptions) -> Result<(), Failure> {
    let place = options.offset.as_deref().map(Place::parse).transpose();
    let place = place.map_err(|error| Failure::usage(format!("--offset: {error}")))?;
    let format = Format::parse(&options.format).map_err(|error| Failure::usage(format!("--format: {error}")))?;
    // Whoever asks twice wants no commit: what was handled since the last one will be handled again.
    let mut signals = Signals::listen(Some(|| std::process::exit(INTERRUPTED)))?;
    let (builder, properties) = config::client(&options.cluster)?;
    if options.group.is_none() {
        options.group = properties.group()?;
    }
    if options.pattern.is_some() && options.group.is_none() {
        return Err(Failure::usage("--pattern needs a group, whose members share the topics: give --group"));
    }
    let starting = async {
        let client = config::connect(builder).await?;
        if !client.config().allow_auto_create_topics {
            config::describe(&client, options.topic.iter().chain(&options.dead_letter).map(String::as_str)).await?;
        }
        Ok(client)
    };
    let client = tokio::select! {
        client = starting => client?,
        () = signals.first() => return Ok(()),
    };
    let mut builder = tokio::select! {
        builder = subscribed(&client, &options, place) => builder?,
        () = signals.first() => return Ok(()),
    };
    if options.until_end {
        builder = builder.stop_at_end();
    }
    if let Some(most) = options.max_records {
        builder = builder.stop_after(most);
    }
    if let Some(idle) = options.idle_exit_ms {
        builder = builder.stop_when_idle(Duration::from_millis(idle));
    }
    builder = properties.consumer(builder);
    for (name, value) in handling(&options) {
        builder = builder.property(name, &value);
    }
    let consumer = builder;
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
                    StopReason::End => "that was all there is",
                    _ => "stopped",
                };
                let done = if options.group.is_some() { "handled and committed" } else { "handled" };
                progress.print(&format!("{} records {done}; {why}", summary.records));
            }
            Ok(())
        }
        Err(error) if is_closed_output(&error) => Err(Failure::local(format!(
            "standard output was closed by its reader; what was not written is not committed: {error}"
        ))),
        Err(error) => Err(Failure::consume(&error)),
    }
}

/// A consumer of what the options name, from where they say.
async fn subscribed(
    client: &Client,
    options: &ConsumeOptions,
    place: Option<Place>,
) -> Result<ConsumerBuilder, Failure> {
    let builder = match &options.group {
        Some(group) if place.is_none() && options.partition.is_empty() => {
            let builder = client.consumer(group);
            return Ok(match &options.pattern {
                Some(pattern) => builder.pattern(pattern),
                None => builder.topics(&options.topic),
            });
        }
        Some(group) => {
            refuse_members(client, group).await?;
            client.consumer(group)
        }
        None => client.consumer_without_group(),
    };
    let topics = config::describe(client, options.topic.iter().map(String::as_str)).await?;
    let mut partitions = Vec::new();
    for topic in &topics {
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        if let Some(missing) = options.partition.iter().find(|partition| **partition >= count) {
            let told = format!("topic {:?} has no partition {missing}: it has {count}, numbered from 0", topic.name);
            return Err(Failure::cluster(told));
        }
        let all = (0..count).filter(|index| options.partition.is_empty() || options.partition.contains(index));
        partitions.extend(all.map(|index| TopicPartition::new(topic.name.clone(), index)));
    }
    partitions.sort();
    partitions.dedup(); // a topic may be named twice
    Ok(match place {
        None => builder.assign(partitions.iter().map(|one| (&one.topic, one.partition))),
        Some(Place::Offset(offset)) => {
            builder.assign_from(partitions.iter().map(|one| (&one.topic, one.partition, offset)))
        }
        Some(Place::Spec(spec)) => {
            let found = client.admin().list_offsets(partitions, spec).await.map_err(|error| Failure::admin(&error))?;
            builder.assign_from(found.iter().map(|(one, offset)| (&one.topic, one.partition, *offset)))
        }
    })
}

/// Members commit what they have handled, and the coordinator takes commits of nobody else beside them.
async fn refuse_members(client: &Client, group: &str) -> Result<(), Failure> {
    match client.admin().describe_group(group).await {
        Ok(described) if !described.members.is_empty() => Err(Failure::cluster(format!(
            "group {group:?} has members, so partitions cannot be read by hand for it: stop them, or leave out \
             --offset and --partition, or --group"
        ))),
        Ok(_) | Err(AdminError::GroupNotFound { .. }) => Ok(()),
        Err(error) => Err(Failure::admin(&error)),
    }
}

/// The options that are properties of the consumer.
fn handling(options: &ConsumeOptions) -> impl Iterator<Item = (&'static str, String)> {
    let set = [
        ("group.id", options.group.clone()),
        ("auto.offset.reset", options.from.map(|from| from.reset().to_owned())),
        ("handler.order", options.order.clone()),
        ("handler.workers", options.workers.map(|workers| workers.to_string())),
        ("handler.retries", options.retries.map(|retries| retries.to_string())),
        ("dead.letter.topic", options.dead_letter.clone()),
    ];
    set.into_iter().filter_map(|(name, value)| Some((name, value?)))
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
