//! Sending as fast as it goes.

use std::collections::VecDeque;

use indelible::{Client, Place, Producer, Receipt, Record, SendError};

use super::clock::Clock;
use super::pool::Pool;
use super::{Tally, producer};
use crate::args::PerfOptions;
use crate::config::Rest;
use crate::failure::Failure;

/// Records between two looks at what was delivered.
const SETTLE_EVERY: usize = 4096;

pub(super) async fn run(options: &PerfOptions, client: &Client, properties: &Rest) -> Result<(), Failure> {
    let pool = Pool::new(options.size as usize);
    let producer = producer(options, client, properties, options.linger_ms).await?;
    let mut pending = VecDeque::with_capacity(SETTLE_EVERY);
    let mut warm = Tally::default();
    send(options, &producer, &pool, 0..options.warmup, &mut pending, &mut warm).await;
    warm.verdict(options.warmup)?;
    let clock = Clock::start();
    let mut tally = Tally::default();
    send(options, &producer, &pool, options.warmup..options.warmup + options.records, &mut pending, &mut tally).await;
    clock.stop().print(options, tally.ok, tally.first_error.as_deref(), &[])?;
    tally.verdict(options.records)
}

/// Sends the records of `range` and waits for all their results.
async fn send(
    options: &PerfOptions,
    producer: &Producer,
    pool: &Pool,
    range: std::ops::Range<u64>,
    pending: &mut VecDeque<Receipt>,
    tally: &mut Tally,
) {
    let topic = options.topic.as_str();
    let mut until_settle = SETTLE_EVERY;
    // Counted along: a division for each record would show.
    let mut partition = (range.start % options.partitions.unsigned_abs() as u64) as i32;
    for i in range {
        match producer.send(Record::to(topic).value(pool.value(i)).partition(partition)).await {
            Ok(receipt) => pending.push_back(receipt),
            Err(error) => tally.fail(&error),
        }
        partition += 1;
        if partition == options.partitions {
            partition = 0;
        }
        until_settle -= 1;
        if until_settle == 0 {
            until_settle = SETTLE_EVERY;
            while let Some(delivered) = pending.front().and_then(Receipt::is_delivered) {
                let Some(receipt) = pending.pop_front() else { break };
                match delivered {
                    true => tally.ok += 1,
                    false => settle(receipt.delivered().await, tally),
                }
            }
        }
    }
    producer.flush().await;
    while let Some(receipt) = pending.pop_front() {
        match receipt.is_delivered() {
            Some(true) => tally.ok += 1,
            _ => settle(receipt.delivered().await, tally),
        }
    }
}

fn settle(result: Result<Place, SendError>, tally: &mut Tally) {
    match result {
        Ok(_) => tally.ok += 1,
        Err(error) => tally.fail(&error),
    }
}
