//! Sends with a callback instead of a future, for code that wants to be told.
//!
//! ```sh
//! cargo run --example callback -- localhost:9092 orders
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use indelible::{Client, Record};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().unwrap_or_else(|| "localhost:9092".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "orders".to_owned());

    let client = Client::builder([bootstrap]).build().await?;
    let producer = client.producer().build().await?;
    let delivered = Arc::new(AtomicU64::new(0));

    for number in 0..1000 {
        let value = format!("order {number}");
        let delivered = delivered.clone();
        // Called once for each record, on the client's I/O thread: it must be short and must not block.
        let told = move |result: Result<indelible::Place, indelible::SendError>| match result {
            Ok(_) => {
                delivered.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => eprintln!("{error}"),
        };
        producer.send_with(Record::to(&topic).value(&value), told).await?;
    }
    // Returns when every callback has been called.
    producer.flush().await;
    println!("{} delivered", delivered.load(Ordering::Relaxed));
    Ok(())
}
