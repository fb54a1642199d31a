//! What really happened: the client's word compared with the cluster's books.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indelible::{Place, SendError};
use proto_tests::fake::{FakeCluster, Ledger};

use super::{GROUP, TOPIC, Told, order, thousands};
use crate::failure::Failure;

/// How many times each order stands in the topic, and what is wrong with it.
#[derive(Debug, Default)]
struct Books {
    /// Sent and said to be delivered, and not in the topic where its receipt said; or not billed.
    lost: u64,
    /// In the topic more than once.
    doubled: u64,
    /// In the topic before one that was sent earlier to the same partition.
    out_of_order: u64,
    /// Committed although not billed, or billed and not committed.
    uncommitted: u64,
    /// Billed more than once. Not an error of the client: after a crash or a rebalance a record may be handled again.
    repeated: u64,
}

/// Prints the table. An error if anything is lost or doubled.
pub(super) fn tell(
    cluster: &FakeCluster,
    places: &[Result<Place, SendError>],
    billed: &[u32],
    told: &Told,
    took: Duration,
) -> Result<(), Failure> {
    let books = audit(&cluster.ledger(), places, billed);
    let delivered = places.iter().filter(|place| place.is_ok()).count() as u64;
    let handled = billed.iter().filter(|times| **times > 0).count() as u64;
    let first_error = places.iter().find_map(|place| place.as_ref().err());
    let rows = [
        ("sent", places.len() as u64, "accepted by the producer"),
        ("delivered", delivered, "acknowledged by all replicas in sync"),
        ("handled", handled, "billed by the consumer, then committed"),
        ("lost", books.lost, "sent, and missing in the cluster's books or not billed"),
        ("doubled", books.doubled, "in the cluster's books more than once"),
        ("out of order", books.out_of_order, "in the books before an earlier order of the same customer's partition"),
        ("handler failures", told.refusals.load(Ordering::Relaxed), "tried again, and only then committed"),
        ("handled again", books.repeated, "billed more than once: \"at least once\" is what a crash may cost"),
    ];
    let mut table = String::from("\n");
    for (name, count, meaning) in rows {
        table.push_str(&format!("  {name:<17}{:>9}   {meaning}\n", thousands(count)));
    }
    table.push_str(&format!("\n  checked against the ledger of the cluster; {:.1} s\n", took.as_secs_f64()));
    let mut stdout = std::io::stdout().lock();
    let written = std::io::Write::write_all(&mut stdout, table.as_bytes());
    written.and_then(|()| std::io::Write::flush(&mut stdout)).map_err(|_| Failure::closed_output())?;
    let wrong = [
        (books.lost, "lost"),
        (books.doubled, "doubled"),
        (books.out_of_order, "out of order"),
        (books.uncommitted, "partitions with a wrong commit"),
    ];
    let wrong: Vec<String> =
        wrong.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    match first_error {
        _ if wrong.is_empty() => Ok(()),
        Some(error) => Err(Failure::incomplete(format!("{}; {error}", wrong.join(", ")))),
        None => Err(Failure::incomplete(wrong.join(", "))),
    }
}

fn audit(ledger: &Ledger, places: &[Result<Place, SendError>], billed: &[u32]) -> Books {
    let mut books = Books { repeated: billed.iter().filter(|times| **times > 1).count() as u64, ..Books::default() };
    let mut found: HashMap<Vec<u8>, Vec<(i32, i64)>> = HashMap::with_capacity(places.len());
    for partition in ledger.partitions(TOPIC) {
        let records = ledger.records(TOPIC, partition);
        let mut last: Option<Vec<u8>> = None;
        for record in &records {
            let value = record.value.as_deref().unwrap_or_default().to_vec();
            // Their numbers have leading zeros, so the bytes compare as the numbers do.
            books.out_of_order += u64::from(last.as_ref().is_some_and(|last| *last > value));
            found.entry(value.clone()).or_default().push((partition, record.offset));
            last = Some(value);
        }
        let end = records.last().map_or(0, |record| record.offset + 1);
        books.uncommitted += u64::from(ledger.committed(GROUP, TOPIC, partition).unwrap_or(0) != end);
    }
    for (number, (place, times)) in (0..).zip(places.iter().zip(billed)) {
        let copies = found.get(order(number).as_bytes()).map_or(&[][..], Vec::as_slice);
        let as_told = match place {
            Ok(place) => copies.iter().any(|(p, offset)| *p == place.partition() && Some(*offset) == place.offset()),
            Err(_) => false,
        };
        books.lost += u64::from(!as_told || *times == 0);
        books.doubled += u64::from(copies.len() > 1);
    }
    books
}
