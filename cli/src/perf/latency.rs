//! One record at a time, each waited for.

use indelible::{Client, Producer, Record};

use super::clock::Clock;
use super::pool::Pool;
use super::{Tally, producer};
use crate::args::PerfOptions;
use crate::config::Rest;
use crate::failure::Failure;
use crate::time::Stopwatch;

pub(super) async fn run(options: &PerfOptions, client: &Client, properties: &Rest) -> Result<(), Failure> {
    let pool = Pool::new(options.size as usize);
    let producer = producer(options, client, properties, 0).await?;
    let mut warm = Tally::default();
    for i in 0..options.warmup {
        one(options, &producer, &pool, i, &mut warm).await;
    }
    warm.verdict(options.warmup)?;
    let mut took = Vec::with_capacity(usize::try_from(options.records).unwrap_or(0).min(1 << 24));
    let mut tally = Tally::default();
    let clock = Clock::start();
    for i in options.warmup..options.warmup + options.records {
        let stopwatch = Stopwatch::start();
        one(options, &producer, &pool, i, &mut tally).await;
        took.push(stopwatch.elapsed().as_secs_f64() * 1e6);
    }
    let measured = clock.stop();
    took.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = ((took.len() as f64 * share) as usize).min(took.len().saturating_sub(1));
        format!("{:.1}", took.get(index).copied().unwrap_or(0.0))
    };
    let more = [("p50_us", at(0.5)), ("p99_us", at(0.99)), ("p999_us", at(0.999)), ("max_us", at(1.0))];
    measured.print(options, tally.ok, tally.first_error.as_deref(), &more)?;
    tally.verdict(options.records)
}

async fn one(options: &PerfOptions, producer: &Producer, pool: &Pool, i: u64, tally: &mut Tally) {
    let partition = (i % u64::from(options.partitions.unsigned_abs())) as i32;
    let record = Record::to(options.topic.as_str()).value(pool.value(i)).partition(partition);
    let result = match producer.send(record).await {
        Ok(receipt) => receipt.delivered().await,
        Err(error) => Err(error),
    };
    match result {
        Ok(_) => tally.ok += 1,
        Err(error) => tally.fail(&error),
    }
}
