//! Connects by TLS with user and password, sends a record and waits until it is delivered.
//!
//! ```sh
//! export KAFKA_PASSWORD                # not as an argument: those are seen by everybody on the machine
//! cargo run --example secure -- broker.example.com:9093 orders alice ca.pem
//! ```
//!
//! Without the last argument the system's roots are trusted. docs/connecting.md has other ways and managed clusters.

use indelible::{Client, Record, SaslConfig, Secret, TlsConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().unwrap_or_else(|| "localhost:9093".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "orders".to_owned());
    let user = arguments.next().unwrap_or_else(|| "alice".to_owned());
    let tls = match arguments.next() {
        Some(ca) => TlsConfig::new().ca_file(ca),
        None => TlsConfig::new(),
    };
    let password = Secret::from_env("KAFKA_PASSWORD")?;

    // Connects, so a wrong certificate, name or password is told here, one line per address.
    let client = Client::builder([bootstrap]).tls(tls).sasl(SaslConfig::scram_sha_512(user, password)).build().await?;
    let producer = client.producer().build().await?;
    let receipt = producer.send(Record::to(&topic).value("by TLS")).await?;
    let place = receipt.delivered().await?;
    println!("{}-{} {:?}", place.topic(), place.partition(), place.offset());
    Ok(())
}
