//! Reading as fast as it comes: partitions assigned by hand, from the beginning.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use indelible::{Client, Delivery};

use super::clock::{Clock, Measured};
use crate::args::PerfOptions;
use crate::config::Rest;
use crate::failure::Failure;

/// What the handler counts.
#[derive(Debug)]
struct Counts {
    /// Until the clock starts or stops.
    left: u64,
    sum: u64,
    clock: Option<Clock>,
    measured: Option<Measured>,
}

pub(super) async fn run(options: &PerfOptions, client: &Client, properties: &Rest) -> Result<(), Failure> {
    if options.records == 0 {
        return Err(Failure::usage("perf consume needs --records of 1 or more"));
    }
    let topic = options.topic.as_str();
    let builder = client
        .consumer_without_group()
        .assign((0..options.partitions).map(|partition| (topic, partition)))
        .stop_after(options.warmup + options.records);
    let consumer = properties.consumer(builder);
    let consumer = consumer.build().map_err(|error| Failure::consume(&error))?;
    let counts = Rc::new(RefCell::new(Counts { left: options.warmup, sum: 0, clock: None, measured: None }));
    if options.warmup == 0 {
        let mut counts = counts.borrow_mut();
        counts.left = options.records;
        counts.clock = Some(Clock::start());
    }
    let (inner, records) = (counts.clone(), options.records);
    let run = consumer.run(move |delivery: Delivery| {
        let mut counts = inner.borrow_mut();
        counts.sum = counts.sum.wrapping_add(touch(delivery.value()));
        counts.left -= 1;
        if counts.left == 0 {
            match counts.clock {
                None => {
                    counts.left = records;
                    counts.sum = 0;
                    counts.clock = Some(Clock::start());
                }
                // No record comes after this one.
                Some(clock) => counts.measured = Some(clock.stop()),
            }
        }
        std::future::ready(Ok::<(), Infallible>(()))
    });
    run.await.map_err(|error| Failure::consume(&error))?;
    let counts = counts.borrow();
    let Some(measured) = counts.measured else {
        return Err(Failure::incomplete("the consumer stopped before it had all records"));
    };
    measured.print(options, options.records, None, &[("sum", counts.sum.to_string())])
}

/// Both ends and the length: enough to have the value in hand.
#[inline]
fn touch(value: &[u8]) -> u64 {
    let ends = match value {
        [first, .., last] => u64::from(*first) + u64::from(*last),
        _ => 0,
    };
    ends + value.len() as u64
}
