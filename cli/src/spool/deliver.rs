//! `indelible spool deliver`: sends what lies in a spool.

use std::time::Duration;

use indelible::{Client, SpoolConfig};

use super::rest::{Delivery, Waiting};
use crate::args::DeliverOptions;
use crate::config;
use crate::failure::Failure;
use crate::log;
use crate::out;
use crate::progress::Progress;
use crate::signals::Signals;
use crate::time::Stopwatch;

/// How often the progress line is drawn.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// Sends all of it, and waits.
pub(super) async fn run(options: &DeliverOptions) -> Result<(), Failure> {
    let clock = Stopwatch::start();
    if !options.directory.is_dir() {
        // A mistyped name must not become an empty spool.
        return Err(Failure::local(format!("there is no spool {}: check DIR", options.directory.display())));
    }
    let mut signals = Signals::listen(None)?;
    let (builder, properties) = config::client(&options.cluster)?;
    let waiting = Waiting::new(&options.directory, &options.policy, &properties)?;
    log::refusals();
    let client = builder.build_lazy().map_err(|error| Failure::client(&error))?;
    let mut spool = SpoolConfig::new(&options.directory);
    options.policy.apply(&mut spool);
    let builder = properties.producer(client.producer().spool_config(spool)).spool(&options.directory);
    let builder = options.policy.over(builder);
    let producer = tokio::select! {
        producer = builder.build() => producer,
        () = signals.first() => return Ok(()),
    };
    let producer = producer.map_err(|error| Failure::build(&error, "see indelible spool deliver --help"))?;
    let progress = Progress::spinner();
    let outcome = tokio::select! {
        biased;
        () = signals.first() => Ok(()),
        result = Delivery::new(&client, &producer, &waiting).settled() => result,
        () = show(&client, &progress) => Ok(()),
    };
    // What is left stays in the spool.
    let _ = producer.close(Duration::ZERO).await;
    progress.clear();
    let metrics = client.metrics();
    let rest = waiting.rest()?;
    out::write(
        format!(
            "{{\"delivered\":{},\"failed\":{},\"unknown\":{},\"left\":{},\"secs\":{:.3}}}\n",
            metrics.records_delivered,
            metrics.records_failed,
            rest.unknown,
            rest.records(),
            clock.elapsed().as_secs_f64()
        )
        .as_bytes(),
    )?;
    outcome?;
    match rest.told(true, &waiting) {
        Some(told) => Err(Failure::incomplete(told)),
        None => Ok(()),
    }
}

/// Shows how far it is. Never ends.
async fn show(client: &Client, progress: &Progress) {
    loop {
        let delivered = client.metrics().records_delivered;
        progress.show(delivered, || format!("{delivered} delivered"));
        tokio::time::sleep(SHOW_EVERY).await;
    }
}
