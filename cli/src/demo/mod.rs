//! `indelible demo`: what the client is for, in front of your eyes.
//!
//! Records go into an embedded cluster and come out of it again while its brokers are killed one after another. What
//! really happened is read from the cluster's own books, not from what the client says.

mod chaos;
mod verdict;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indelible::{Client, Delivery, Place, Receipt, Record, SendError};
use proto_tests::fake::FakeCluster;

use crate::args::DemoOptions;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::time::Stopwatch;

const TOPIC: &str = "orders";
const GROUP: &str = "billing";
const BROKERS: usize = 3;
const PARTITIONS: i32 = 6;
/// The sender is held back to about this time, so that the brokers' deaths fall into its work.
const SPREAD: Duration = Duration::from_secs(6);
/// Slices into which the sending is cut for that.
const SLICES: u32 = 120;
/// The first attempt at each record of such a number fails.
const FAILS_EVERY: u64 = 5_000;
/// How often the consumer tries a record whose handler failed.
const RETRIES: u32 = 3;
/// No record for so long, after all are delivered: something was lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the client says has happened so far.
#[derive(Debug, Default)]
struct Told {
    sent: AtomicU64,
    delivered: AtomicU64,
    handled: AtomicU64,
    refusals: AtomicU64,
}

/// The order with this number.
fn order(number: u32) -> String {
    format!("order {number:07}")
}

/// Orders of one customer stay in their order.
fn customer(number: u32) -> String {
    format!("customer {}", number % 997)
}

/// Runs the command.
pub(crate) async fn run(options: DemoOptions) -> Result<(), Failure> {
    let clock = Stopwatch::start();
    let cluster = FakeCluster::builder().brokers(BROKERS).min_insync(2).start();
    cluster.create_topic(TOPIC, PARTITIONS);
    let progress = Progress::bar(u64::from(options.records));
    progress.print(&format!(
        "A cluster of {BROKERS} brokers runs inside this process. {} orders are sent to it and billed by a consumer\n\
         group. On the way each broker is killed once and comes back, and the billing fails now and then.\n",
        thousands(options.records.into())
    ));
    let told = Arc::new(Told::default());
    let chaos = chaos::start(cluster.clone(), told.clone(), options.records.into(), clock)?;
    let client = Client::builder(cluster.bootstrap()).build().await.map_err(|error| Failure::client(&error))?;
    let consuming = consume(&client, options.records, &told);
    let producing = produce(&client, options.records, &told);
    let (places, handled) = tokio::select! {
        both = async { tokio::join!(producing, consuming) } => both,
        () = watch(&progress, &told, &chaos) => return Err(Failure::local("the demonstration's thread has ended")),
    };
    chaos.tell(&progress);
    progress.clear();
    let (places, handled) = (places?, handled?);
    verdict::tell(&cluster, &places, &handled, &told, clock.elapsed())
}

/// Sends all orders and waits for what became of each.
async fn produce(client: &Client, records: u32, told: &Told) -> Result<Vec<Result<Place, SendError>>, Failure> {
    let producer = client.producer().build().await.map_err(Failure::usage)?;
    let mut receipts = Vec::with_capacity(records as usize);
    let mut results = Vec::with_capacity(records as usize);
    let slice = records.div_ceil(SLICES);
    for number in 0..records {
        let (key, value) = (customer(number), order(number));
        let receipt = producer.send(Record::to(TOPIC).key(key.as_bytes()).value(value.as_bytes())).await;
        receipts.push(receipt.map_err(|error| Failure::incomplete(format!("the producer refused an order: {error}")))?);
        told.sent.fetch_add(1, Ordering::Relaxed);
        if (number + 1) % slice == 0 {
            tokio::time::sleep(SPREAD / SLICES).await;
            while let Some(result) = receipts.get(results.len()).and_then(Receipt::try_delivered) {
                results.push(note(result, told));
            }
        }
    }
    producer.flush().await;
    while let Some(receipt) = receipts.get(results.len()) {
        let result = receipt.delivered().await;
        results.push(note(result, told));
    }
    Ok(results)
}

fn note(result: Result<Place, SendError>, told: &Told) -> Result<Place, SendError> {
    if result.is_ok() {
        told.delivered.fetch_add(1, Ordering::Relaxed);
    }
    result
}

/// Bills each order; how often each was billed.
async fn consume(client: &Client, records: u32, told: &Arc<Told>) -> Result<Vec<u32>, Failure> {
    let mut billed = vec![0u32; records as usize];
    let mut left = records;
    let consumer = client
        .consumer(GROUP)
        .topics([TOPIC])
        .handler_retries(RETRIES)
        .stop_when_idle(PATIENCE)
        .build()
        .map_err(|error| Failure::consume(&error))?;
    let handle = consumer.handle();
    let told = told.clone();
    let run = consumer.run(|delivery| {
        let outcome = bill(&delivery, &mut billed);
        match &outcome {
            Ok(first) => {
                told.handled.fetch_add(1, Ordering::Relaxed);
                left -= u32::from(*first);
                if left == 0 {
                    handle.shutdown();
                }
            }
            Err(_) => {
                told.refusals.fetch_add(1, Ordering::Relaxed);
            }
        }
        std::future::ready(outcome.map(|_| ()))
    });
    run.await.map_err(|error| Failure::consume(&error))?;
    Ok(billed)
}

/// The handler: it fails at the first attempt at some orders. Answers whether this one was billed for the first time.
fn bill(delivery: &Delivery, billed: &mut [u32]) -> Result<bool, String> {
    let number = std::str::from_utf8(delivery.value()).ok().and_then(|text| text.strip_prefix("order "));
    let number: usize = number.and_then(|digits| digits.parse().ok()).ok_or("no order")?;
    let times = billed.get_mut(number).ok_or("an order that nobody sent")?;
    if (number as u64).is_multiple_of(FAILS_EVERY) && delivery.attempt() == 1 {
        return Err(format!("the bank does not answer for order {number}"));
    }
    *times += 1;
    Ok(*times == 1)
}

/// Shows how far it got. Never ends by itself.
async fn watch(progress: &Progress, told: &Told, chaos: &chaos::Chaos) {
    loop {
        chaos.tell(progress);
        let [sent, delivered, handled] =
            [&told.sent, &told.delivered, &told.handled].map(|count| count.load(Ordering::Relaxed));
        progress.show(handled, || {
            format!("{} sent, {} delivered, {} handled", thousands(sent), thousands(delivered), thousands(handled))
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// 1234567 as `1,234,567`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(super::thousands(number), text);
        }
    }
}
