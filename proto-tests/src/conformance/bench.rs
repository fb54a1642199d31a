//! What every case does: topics of its own, finding the leader, retrying what is about to settle.

use super::Lab;
use crate::raw::RawClient;
use bytes::Bytes;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long a cluster may need to elect a leader or to start a broker.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);
static NEXT_TOPIC: AtomicU32 = AtomicU32::new(0);

/// The cluster as one case sees it.
pub struct Bench<'a> {
    lab: &'a dyn Lab,
    name: &'static str,
}

impl std::fmt::Debug for Bench<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'a> Bench<'a> {
    pub(super) fn new(lab: &'a dyn Lab, name: &'static str) -> Self {
        Self { lab, name }
    }

    pub(super) fn lab(&self) -> &dyn Lab {
        self.lab
    }

    /// A topic of this case alone, with a leader for each partition.
    pub(super) fn topic(&self, partitions: i32, replication: i16, configs: &[(&str, &str)]) -> Result<String, String> {
        let number = NEXT_TOPIC.fetch_add(1, Ordering::Relaxed);
        let topic = format!("{}-{}-{number}", self.name.replace('_', "-"), std::process::id());
        self.create(&topic, partitions, replication, configs)?;
        Ok(topic)
    }

    pub(super) fn create(
        &self,
        topic: &str,
        partitions: i32,
        replication: i16,
        configs: &[(&str, &str)],
    ) -> Result<(), String> {
        // A deleted topic of the same name may still be on its way out (36).
        self.until("the topic to be created", || {
            match self.any()?.create_topic(topic, partitions, replication, configs).map_err(text)? {
                0 => Ok(()),
                code => Err(format!("CreateTopics: error {code}")),
            }
        })?;
        // Group coordinators need it as well, and they may be others than those that are asked for leaders.
        self.until("the topic on every broker", || {
            let metadata = self.any()?.metadata(None).map_err(text)?;
            metadata.brokers.iter().try_for_each(|broker| {
                let id = broker.node_id.0;
                let mut client = RawClient::connect(format!("{}:{}", broker.host, broker.port)).map_err(text)?;
                let known = client.metadata(Some(topic)).map_err(text)?;
                let rows = known.topics.first().map(|topic| topic.partitions.as_slice()).unwrap_or_default();
                let led = rows.iter().filter(|row| row.leader_id.0 >= 0).count();
                expect(
                    &format!("partitions with a leader on broker {id}"),
                    led,
                    usize::try_from(partitions).unwrap_or(0),
                )
            })
        })
    }

    /// A connection to any broker that answers.
    pub(super) fn any(&self) -> Result<RawClient, String> {
        let mut last = "no addresses".to_owned();
        for address in self.lab.bootstrap() {
            match RawClient::connect(&address) {
                Ok(client) => return Ok(client),
                Err(error) => last = format!("{address}: {error}"),
            }
        }
        Err(last)
    }

    /// The leader, once there is a live one.
    pub(super) fn leader_id(&self, topic: &str, partition: i32) -> Result<i32, String> {
        self.until("a leader", || Ok(self.locate(topic, partition)?.0))
    }

    /// Whoever leads now, other than `old`.
    pub(super) fn leader_after(&self, topic: &str, partition: i32, old: i32) -> Result<i32, String> {
        self.until("another leader", || match self.locate(topic, partition)?.0 {
            id if id == old => Err(format!("broker {id} still leads")),
            id => Ok(id),
        })
    }

    /// A connection to the leader, once it takes itself for it. Neither an answered fetch nor its own metadata proves
    /// that: followers answer fetches, and metadata is there before the partition is made a leader's.
    pub(super) fn leader(&self, topic: &str, partition: i32) -> Result<RawClient, String> {
        self.until("the leader to answer", || {
            let (_, address) = self.locate(topic, partition)?;
            let mut client = RawClient::connect(&address).map_err(text)?;
            match client.list_offset(topic, partition, -2).map_err(text)? {
                (0, ..) => Ok(client),
                (code, ..) => Err(format!("ListOffsets: error {code}")),
            }
        })
    }

    /// Replicas that are in sync.
    pub(super) fn isr(&self, topic: &str, partition: i32) -> Result<Vec<i32>, String> {
        let metadata = self.any()?.metadata(Some(topic)).map_err(text)?;
        let partitions = metadata.topics.first().map(|topic| topic.partitions.as_slice()).unwrap_or_default();
        let row = partitions.iter().find(|row| row.partition_index == partition).ok_or("no such partition")?;
        Ok(row.isr_nodes.iter().map(|id| id.0).collect())
    }

    /// A connection to one broker.
    pub(super) fn broker(&self, id: i32) -> Result<RawClient, String> {
        self.until("the broker", || {
            let metadata = self.any()?.metadata(None).map_err(text)?;
            let broker = metadata.brokers.iter().find(|broker| broker.node_id.0 == id).ok_or("not in metadata")?;
            RawClient::connect(format!("{}:{}", broker.host, broker.port)).map_err(text)
        })
    }

    /// Ids of the brokers that are up.
    pub(super) fn brokers(&self) -> Result<Vec<i32>, String> {
        let metadata = self.any()?.metadata(None).map_err(text)?;
        Ok(metadata.brokers.iter().map(|broker| broker.node_id.0).collect())
    }

    pub(super) fn producer(&self) -> Result<i64, String> {
        self.any()?.init_producer_id().map(|(id, _)| id).map_err(text)
    }

    /// Values in the partition from `offset` on.
    pub(super) fn values(&self, topic: &str, partition: i32, offset: i64) -> Result<Vec<String>, String> {
        let (_, records) = self.leader(topic, partition)?.fetch(topic, partition, offset).map_err(text)?;
        let value =
            |record: crate::fake::Record| String::from_utf8_lossy(&record.value.unwrap_or_default()).into_owned();
        Ok(records.into_iter().map(value).collect())
    }

    /// Repeats `attempt` until it succeeds.
    pub(super) fn until<T>(&self, what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> Result<T, String> {
        let mut waited = Duration::ZERO;
        loop {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(error) if waited >= PATIENCE => return Err(format!("waiting for {what}: {error}")),
                Err(_) => {}
            }
            std::thread::sleep(PAUSE);
            waited += PAUSE;
        }
    }

    fn locate(&self, topic: &str, partition: i32) -> Result<(i32, String), String> {
        let metadata = self.any()?.metadata(Some(topic)).map_err(text)?;
        let row = metadata.topics.first().filter(|row| row.error_code == 0).ok_or("topic not in metadata")?;
        let row = row.partitions.iter().find(|row| row.partition_index == partition).ok_or("no such partition")?;
        let leader = metadata.brokers.iter().find(|broker| broker.node_id == row.leader_id).ok_or("no live leader")?;
        Ok((row.leader_id.0, format!("{}:{}", leader.host, leader.port)))
    }
}

/// Produces with acks=all and compares (error code, base offset). Without an offset the code alone counts.
pub(super) fn expect_produce(
    what: &str,
    client: &mut RawClient,
    place: (&str, i32),
    batch: &Bytes,
    expected: (i16, Option<i64>),
) -> Result<(), String> {
    let (code, offset) = client.produce_batch(place.0, place.1, batch, -1).map_err(text)?;
    expect(what, code, expected.0)?;
    expected.1.map_or(Ok(()), |expected| expect(&format!("{what}: offset"), offset, expected))
}

pub(super) fn expect<T: PartialEq + Debug>(what: &str, got: T, expected: T) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("{what}: got {got:?}, expected {expected:?}")) }
}

pub(super) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
