//! Handles the records of a topic on threads that may block. What fails comes again ten seconds later from a retry topic,
//! and goes to a dead letter topic when it fails there too. All three topics have to exist.
//!
//! ```sh
//! cargo run --example dead_letter -- localhost:9092 orders billing
//! ```
//!
//! Records that are not UTF-8 fail here. See what became of them with
//! `kcat -C -e -b localhost:9092 -t orders.dead -f '%s %h\n'`.

use std::time::Duration;

use indelible::{Client, Delivery};

/// The work on one record: it may block.
fn bill(delivery: &Delivery) -> Result<(), std::str::Utf8Error> {
    let order = std::str::from_utf8(delivery.value())?;
    println!("{} {}: billed {order}", delivery.topic_partition(), delivery.offset());
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().unwrap_or_else(|| "localhost:9092".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "orders".to_owned());
    let group = arguments.next().unwrap_or_else(|| "billing".to_owned());

    let client = Client::builder([bootstrap]).build().await?;
    let consumer = client
        .consumer(group)
        .topics([&topic])
        .workers(4)
        .retry_topic(format!("{topic}.retry"), Duration::from_secs(10))
        .dead_letter(format!("{topic}.dead"))
        .build()?;
    let handle = consumer.handle();
    let stopping = handle.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopping.shutdown();
        }
    });
    let run = consumer.run_blocking(|delivery| {
        bill(&delivery).inspect_err(|error| {
            let place = delivery.origin().map_or_else(
                || format!("{} {}", delivery.topic_partition(), delivery.offset()),
                |origin| format!("{} {}", origin.partition, origin.offset),
            );
            eprintln!("{place}, attempt {}: {error}", delivery.attempt());
        })
    });
    let summary = run.await?;
    let metrics = handle.metrics();
    println!("{} records handled, of which {} are dead letters", summary.records, metrics.dead_letters);
    Ok(())
}
