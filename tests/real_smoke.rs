//! The main job on a real cluster: records go out, come back through a consumer group, and kcat reads the same.

#![allow(clippy::unwrap_used, reason = "scenarios on a real cluster")]

mod real_support;

use indelible::types::Compression;
use indelible::{Record, StopReason};
use proto_tests::real::{HarnessError, RealCluster};
use real_support::{client, committed, has_kcat, kcat, topic, unique, values, wait};
use std::collections::BTreeMap;
use std::sync::Mutex;

const RECORDS: usize = 10_000;
const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn numbers(partition: i32) -> Vec<String> {
    (0..RECORDS).filter(|n| n % 3 == usize::try_from(partition).unwrap()).map(|n| format!("record {n}")).collect()
}

/// Ten thousand records in each compression: what was sent is in the log, comes out of a group in order, and is
/// committed behind the last one.
#[test]
fn ten_thousand_records_out_and_in_with_each_compression() -> Result<(), HarnessError> {
    let cluster = RealCluster::shared()?;
    let client = client(&cluster);
    for codec in CODECS {
        let topic = topic(&cluster, &format!("smoke-{codec}"), 3, &[]);
        let group = unique("smoke");
        wait(async {
            let producer = client.producer().compression(codec).build().await.unwrap();
            let mut receipts = Vec::new();
            for n in 0..RECORDS {
                let (value, partition) = (format!("record {n}"), i32::try_from(n % 3).unwrap());
                let record = Record::to(&topic).partition(partition).key("k").value(&value).header("h", Some(b"1"));
                receipts.push(producer.send(record).await.unwrap());
            }
            for (n, receipt) in receipts.iter().enumerate() {
                let place = receipt.delivered().await.unwrap();
                assert_eq!(place.offset(), Some(i64::try_from(n / 3).unwrap()));
            }
        });
        let seen = Mutex::new(BTreeMap::<i32, Vec<String>>::new());
        let summary = wait(client.consumer(&group).topics([&topic]).stop_after(RECORDS as u64).run(|delivery| {
            assert_eq!((delivery.key(), delivery.header("h")), (Some(&b"k"[..]), Some(&b"1"[..])));
            let value = String::from_utf8_lossy(delivery.value()).into_owned();
            seen.lock().unwrap().entry(delivery.partition()).or_default().push(value);
            async { Ok::<_, std::io::Error>(()) }
        }));
        let summary = summary.unwrap();
        assert_eq!((summary.records, summary.reason), (RECORDS as u64, StopReason::MaxRecords));
        let seen = seen.into_inner().unwrap();
        for partition in 0..3 {
            let expected = numbers(partition);
            assert_eq!(seen[&partition], expected, "{codec}: the group");
            assert_eq!(values(&cluster, &topic, partition, expected.len()), expected, "{codec}: the log");
            let behind = i64::try_from(expected.len()).unwrap();
            assert_eq!(committed(&cluster, &group, &topic, partition), Some(behind));
        }
        if has_kcat() {
            let mut found = kcat(&cluster, &topic);
            found.sort();
            for partition in 0..3 {
                let of = found.iter().filter(|(p, _, _)| *p == partition).map(|(_, _, value)| value.clone());
                assert_eq!(of.collect::<Vec<_>>(), numbers(partition), "{codec}: kcat");
            }
        }
    }
    Ok(())
}
