//! `indelible perf` and `indelible demo`: that they work, not how fast.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod support;

use support::{at, cluster, program, run};

#[test]
fn all_modes_print_one_line_with_what_the_benchmark_reads() {
    let cluster = cluster("bench", 3);
    for (mode, records, extra) in [("produce", 5000, ""), ("latency", 50, "p50_us"), ("consume", 4000, "sum")] {
        let arguments = format!(
            "perf {mode} {} --topic bench --partitions 3 --records {records} --warmup 500 --size 100 --compression lz4 \
             --linger-ms 5 --batch-bytes 100000 --acks all",
            at(&cluster)
        );
        let ran = run(program(&arguments), b"");
        assert_eq!((ran.code, ran.out.lines().count()), (Some(0), 1), "{ran:?}");
        for part in
            ["\"client\":", "\"version\":", "\"secs\":", "\"cpu_user\":", "\"cpu_sys\":", "\"max_rss_kb\":", extra]
        {
            assert!(ran.out.contains(part), "{part}: {ran:?}");
        }
        assert!(ran.out.contains(&format!("\"records\":{records},\"bytes\":{}", records * 100)), "{ran:?}");
        assert!(ran.out.contains("\"first_error\":null"), "{ran:?}");
    }
    // Warm-up included, nothing else, and evenly spread.
    let ledger = cluster.ledger();
    assert_eq!(ledger.values("bench").len(), 6050);
    assert!(ledger.records("bench", 1).iter().all(|record| record.value.as_ref().is_some_and(|v| v.len() == 100)));
}

#[test]
fn a_failed_run_is_no_success() {
    let cluster = cluster("bench", 1);
    let arguments = format!("perf produce {} --topic bench --partitions 2 --records 10", at(&cluster));
    let ran = run(program(&arguments), b"");
    ran.complains(1, &["5 of 10 records", "partition 1"]);
}

#[test]
fn the_demonstration_loses_and_doubles_nothing() {
    let ran = run(program("demo --records 5000"), b"");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let row = |name: &str| {
        let line = ran.out.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
        line.trim_start()[name.len()..].split_whitespace().next().unwrap_or_default().to_owned()
    };
    for (name, count) in
        [("sent", "5,000"), ("delivered", "5,000"), ("handled  ", "5,000"), ("lost", "0"), ("doubled", "0")]
    {
        assert_eq!(row(name), count, "{name}: {ran:?}");
    }
}
