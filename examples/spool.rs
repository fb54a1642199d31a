//! Carries a file into a topic exactly once, however often it is killed on the way.
//!
//!     cargo run --example spool -- localhost:9092 orders lines.txt copy.spool
//!
//! Kill it (`kill -9` too), take the brokers away, start it again: each line is in the topic once.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};

use indelible::{Client, Record};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, topic, path, spool] = arguments.as_slice() else {
        return Err("usage: spool BROKERS TOPIC FILE SPOOL".into());
    };
    // Lazy: the brokers need not be there for lines to be accepted.
    let client = Client::builder(brokers.split(',')).build_lazy()?;
    let producer = client.producer().spool(spool).build().await?;

    // Up to here all lines are in the spool or in the topic, whatever partitions they went to.
    let mut position = producer.recovered_positions().get(path).copied().unwrap_or(0);
    let mut file = BufReader::new(File::open(path)?);
    file.seek(SeekFrom::Start(position))?;
    println!("going on at byte {position}");

    let mut line = String::new();
    while file.read_line(&mut line)? > 0 {
        position += line.len() as u64;
        // The position after which to go on: the byte behind this line.
        let record = Record::to(topic).value(line.trim_end_matches('\n')).position(path, position);
        let _ = producer.send(record).await?; // whether it arrived shows in the positions
        line.clear();
    }
    producer.flush_to_spool().await?;
    println!("all is in the spool; from here on nothing can lose it");

    producer.flush().await;
    let metrics = client.metrics();
    println!(
        "{} delivered, {} refused, {} unknown",
        metrics.records_delivered, metrics.records_failed, metrics.records_unknown
    );
    Ok(())
}
