//! Pulls the records of a topic, and says of each what came of it, until Ctrl-C.
//!
//! ```sh
//! cargo run --example pull -- localhost:9092 orders billing
//! ```

use indelible::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().unwrap_or_else(|| "localhost:9092".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "orders".to_owned());
    let group = arguments.next().unwrap_or_else(|| "billing".to_owned());

    let client = Client::builder([bootstrap]).build().await?;
    // A record that failed is pulled again twice; then the consumer stops, and finish() tells the record's place.
    let mut deliveries = client.consumer(group).topics([topic]).handler_retries(2).deliveries()?;
    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            next = deliveries.next() => {
                let Some(delivery) = next else { break };
                match std::str::from_utf8(delivery.value()) {
                    Ok(order) => {
                        println!("{} {}: {order}", delivery.topic_partition(), delivery.offset());
                        delivery.done();
                    }
                    Err(error) => delivery.failed(error),
                }
            }
            _ = &mut stop => break,
        }
    }
    // What is handled is committed, and the group is left.
    let summary = deliveries.finish().await?;
    println!("{} records handled and committed", summary.records);
    Ok(())
}
