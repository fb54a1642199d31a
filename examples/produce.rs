//! Sends a thousand records and looks at what became of each.
//!
//! ```sh
//! cargo run --example produce -- localhost:9092 orders
//! ```

use indelible::{Client, Record, SendError};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().unwrap_or_else(|| "localhost:9092".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "orders".to_owned());

    let client = Client::builder([bootstrap]).build().await?;
    let producer = client.producer().build().await?;

    // `send` waits only for memory. The receipt is the promise: nothing is delivered before it says so.
    let mut receipts = Vec::new();
    for number in 0..1000 {
        let (key, value) = (format!("customer {}", number % 10), format!("order {number}"));
        receipts.push(producer.send(Record::to(&topic).key(&key).value(&value)).await?);
    }
    for receipt in receipts {
        match receipt.delivered().await {
            Ok(place) => println!("{}-{} {:?}", place.topic(), place.partition(), place.offset()),
            // The record comes back whole, and the variant says what may be done with it.
            Err(error @ SendError::NotDelivered(_)) => eprintln!("{error}: send it again, it cannot be doubled"),
            Err(error) => eprintln!("{error}: look into the topic before you send it again"),
        }
    }
    Ok(())
}
