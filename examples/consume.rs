//! Handles the records of a topic as a member of a group, until Ctrl-C.
//!
//! ```sh
//! cargo run --example consume -- localhost:9092 orders billing
//! ```

use indelible::{Client, Delivery};

/// The work on one record. Its offset is committed when this returns `Ok`, and not before.
async fn bill(delivery: Delivery) -> Result<(), std::str::Utf8Error> {
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
    // A record whose handler fails is handled again twice; then the consumer stops with the record's place in the error.
    let consumer = client.consumer(group).topics([topic]).handler_retries(2).build()?;

    // On Ctrl-C the records in hand are finished, what is handled is committed, and the group is left.
    let handle = consumer.handle();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            handle.shutdown();
        }
    });
    let summary = consumer.run(bill).await?;
    println!("{} records handled and committed", summary.records);
    Ok(())
}
