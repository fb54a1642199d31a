//! Spools of producers that die, as a test sees them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use indelible::{Client, Producer, ProducerBuilder, Receipt, Record, SpoolConfig};

use super::{PATIENCE, wait};

/// A place for a test's files. It goes with the value, unless the test has failed: then somebody wants to look at it.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(story: &str) -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{story}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The spool in it.
    pub fn spool(&self) -> PathBuf {
        self.0.join("spool")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the spool is kept: {}", self.0.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// What a process leaves that dies at this moment: a copy of its spool. Nothing may be on its way to the disk meanwhile.
pub fn crash_image(spool: &Path, story: &str) -> Scratch {
    let scratch = Scratch::new(story);
    copy(spool, &scratch.spool());
    scratch
}

pub fn copy(from: &Path, to: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir(to).unwrap();
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o700)).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// A small spool that looks at parked batches often.
pub fn config(spool: &Path) -> SpoolConfig {
    let mut config = SpoolConfig::new(spool);
    config.segment_bytes = 1 << 20;
    config.max_bytes = 64 << 20;
    config.rescan = Duration::from_secs(1);
    config
}

/// A producer on a spool, whose every record is a batch of its own.
pub fn single(client: &Client, spool: &Path) -> ProducerBuilder {
    client.producer().batch_size(0).linger(Duration::ZERO).spool_config(config(spool))
}

pub fn open(client: &Client, spool: &Path) -> Producer {
    wait(single(client, spool).build()).unwrap()
}

/// Sends to partition 0 and waits until all of it is in the spool.
pub fn spool(producer: &Producer, topic: &str, values: &[&str]) -> Vec<Receipt> {
    let receipts: Vec<Receipt> = wait(async {
        let mut receipts = Vec::new();
        for value in values {
            receipts.push(producer.send(Record::to(topic).partition(0).value(value)).await.unwrap());
        }
        receipts
    });
    until_spooled(&receipts);
    receipts
}

pub fn until_spooled(receipts: &[Receipt]) {
    for receipt in receipts {
        in_time("a record in the spool", receipt.spooled()).unwrap();
    }
}

/// The offsets at which these records are, once they are there.
pub fn offsets(receipts: &[Receipt]) -> Vec<Option<i64>> {
    receipts.iter().map(|receipt| in_time("a record delivered", receipt.delivered()).unwrap().offset()).collect()
}

pub fn in_time<T>(awaited: &str, future: impl Future<Output = T>) -> T {
    match wait(async { tokio::time::timeout(PATIENCE, future).await }) {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {awaited}"),
    }
}

/// Repeats what can be seen until it has been the same for so long: for what should not happen.
pub fn stays<T: PartialEq + std::fmt::Debug>(long: Duration, mut seen: impl FnMut() -> T) -> T {
    let begin = Instant::now();
    let first = seen();
    while begin.elapsed() < long {
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(seen(), first);
    }
    first
}

/// Random numbers from a seed (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, the latter excluded.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }
}

/// `INDELIBLE_SEED`, or one of its own for each run.
pub fn seed() -> u64 {
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    std::env::var("INDELIBLE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(now)
}

/// How many records of a spool stand how.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
pub struct Left {
    pub ready: u64,
    pub parked: u64,
    /// Those of the parked ones of which nobody can tell.
    pub unknown: u64,
    pub dead: u64,
}

/// What is in a spool, also while a producer has it.
pub fn left(spool: &Path) -> Left {
    let mut left = Left::default();
    for batch in indelible::spool::inspect(spool).unwrap().batches {
        match batch.status {
            status if status.is_dead() => left.dead += batch.records,
            status if status.name() == "parked" => {
                left.parked += batch.records;
                left.unknown += if status.is_unknown() { batch.records } else { 0 };
            }
            _ => left.ready += batch.records,
        }
    }
    left
}

/// Waits until the spool holds just this.
pub fn until_left(spool: &Path, expected: Left) {
    super::until("what is left in the spool", || super::expect(left(spool), expected).map(drop));
}
