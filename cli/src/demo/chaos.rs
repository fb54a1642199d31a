//! Who kills the brokers.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use proto_tests::fake::FakeCluster;

use super::{BROKERS, PARTITIONS, TOPIC, Told, thousands};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::time::Stopwatch;

/// How long a broker is dead.
const DEAD: Duration = Duration::from_millis(700);
/// How often the sender's progress is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The thread's diary.
#[derive(Debug)]
pub(super) struct Chaos(mpsc::Receiver<String>);

impl Chaos {
    /// Prints what is new.
    pub(super) fn tell(&self, progress: &Progress) {
        self.0.try_iter().for_each(|line| progress.print(&line));
    }
}

/// Kills each broker once, at its share of the sending, and starts it again.
pub(super) fn start(cluster: FakeCluster, told: Arc<Told>, records: u64, clock: Stopwatch) -> Result<Chaos, Failure> {
    let (diary, pages) = mpsc::channel();
    let work = move || {
        let note = |what: String| {
            let [sent, delivered, handled] =
                [&told.sent, &told.delivered, &told.handled].map(|count| thousands(count.load(Ordering::Relaxed)));
            let at = clock.elapsed().as_secs_f64();
            diary
                .send(format!("{at:5.1} s  {what}; so far {sent} sent, {delivered} delivered, {handled} handled"))
                .is_ok()
        };
        for (turn, broker) in (1..).zip(cluster.brokers()) {
            // A quarter, a half, three quarters.
            let due = records * turn / (BROKERS as u64 + 1);
            while told.sent.load(Ordering::Relaxed) < due {
                std::thread::sleep(LOOK);
            }
            // The next one may fall only when this one's copies are complete again, or a partition would have no leader.
            cluster.wait_for(
                |view| (0..PARTITIONS).all(|partition| view.isr(TOPIC, partition).len() == BROKERS),
                Duration::from_secs(10),
            );
            cluster.kill(broker);
            if !note(format!("broker {broker} killed")) {
                return;
            }
            std::thread::sleep(DEAD);
            cluster.restart(broker);
            if !note(format!("broker {broker} is back")) {
                return;
            }
        }
    };
    let spawned = std::thread::Builder::new().name("chaos".to_owned()).spawn(work);
    spawned.map_err(|error| Failure::local(format!("a thread cannot be started: {error}")))?;
    Ok(Chaos(pages))
}
