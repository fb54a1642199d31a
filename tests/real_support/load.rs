//! A producer at work while something happens to the brokers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use indelible::{Producer, Receipt, Record};
use proto_tests::real::RealCluster;

use super::{records, value, wait};

/// Records on their way into all partitions of a topic, each with its number in its partition as value.
pub struct Load {
    stop: Arc<AtomicBool>,
    worker: JoinHandle<Vec<Vec<Receipt>>>,
    topic: String,
    /// The last one to be dropped would give up what is still on its way.
    _producer: Producer,
}

impl Load {
    /// Begins to send, about a thousand records a second, and returns when the first ones are in every partition.
    pub fn start(producer: &Producer, topic: &str, partitions: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, kept, name) = (stop.clone(), producer.clone(), topic.to_owned());
        let producer = kept.clone();
        let (first, warm) = std::sync::mpsc::channel();
        let worker = std::thread::spawn(move || {
            let mut receipts: Vec<Vec<Receipt>> = vec![Vec::new(); partitions];
            wait(async {
                for round in 0.. {
                    for (partition, receipts) in (0..).zip(&mut receipts) {
                        let value = round.to_string();
                        let record = Record::to(&name).partition(partition).value(&value);
                        receipts.push(producer.send(record).await.unwrap());
                    }
                    if round == 0 {
                        for receipts in &receipts {
                            receipts[0].delivered().await.unwrap();
                        }
                        first.send(()).unwrap();
                    }
                    if stopping.load(Ordering::Relaxed) {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
            });
            receipts
        });
        warm.recv().unwrap();
        Load { stop, worker, topic: topic.to_owned(), _producer: kept }
    }

    /// Stops sending and checks that every record arrived once, in order, at the place its receipt names. Returns how
    /// many there were.
    pub fn finish(self, cluster: &RealCluster) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let receipts = self.worker.join().unwrap();
        let mut total = 0;
        for (partition, receipts) in (0..).zip(receipts) {
            let places: Vec<i64> = wait(async {
                let mut places = Vec::new();
                for receipt in &receipts {
                    places.push(receipt.delivered().await.unwrap().offset().unwrap());
                }
                places
            });
            let found = records(cluster, &self.topic, partition, places.len());
            let numbers: Vec<usize> = found.iter().map(|record| value(record).parse().unwrap()).collect();
            let expected: Vec<usize> = (0..places.len()).collect();
            assert!(numbers == expected, "{}-{partition}: {}", self.topic, difference(&numbers, places.len()));
            assert_eq!(found.iter().map(|record| record.offset).collect::<Vec<_>>(), places);
            total += places.len();
        }
        assert!(total > 0);
        total
    }
}

/// What is wrong with numbers that should count from 0 to `count`, in short.
pub fn difference(found: &[usize], count: usize) -> String {
    let mut times = vec![0; count];
    for &number in found {
        times[number] += 1;
    }
    let list = |wanted: &dyn Fn(usize) -> bool| (0..count).filter(|n| wanted(times[*n])).take(20).collect::<Vec<_>>();
    let turned: Vec<_> = found.windows(2).filter(|pair| pair[0] >= pair[1]).take(20).collect();
    format!("missing {:?}, more than once {:?}, out of order {turned:?}", list(&|n| n == 0), list(&|n| n > 1))
}
