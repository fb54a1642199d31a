//! Settings of a consumer.

use std::sync::Arc;
use std::time::Duration;

use super::handling::{Assignor, GroupProtocol, OnDataLoss, OnFailure, Order, RetryTopic};
use super::{ConfigError, MAX_MILLIS, Raw, Setting, Settings};
use crate::types::IsolationLevel;

/// How a consumer fetches, handles and commits. The defaults are the Java client's (4.1) unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerConfig {
    /// `group.id`: the group. Default none. It is for files that are made for Java: the group is named where the consumer
    /// is made, by [`Client::consumer`](crate::Client::consumer), and another one here is an error. A consumer made without a
    /// group stays without.
    pub group_id: Option<String>,
    /// `group.instance.id`: makes this a static member (KIP-345), whose restart within the session timeout moves no
    /// partition. Default none. Two running members of the same id fence each other.
    pub group_instance_id: Option<String>,
    /// `session.timeout.ms`: without a heartbeat for so long the member is removed. Default 45 s. Less gives a dead
    /// member's partitions away earlier; more rides out longer pauses of the network.
    pub session_timeout: Duration,
    /// `heartbeat.interval.ms`: how often the member tells that it lives, and hears of a rebalance. Default 3 s; at most a
    /// third of the session timeout.
    pub heartbeat_interval: Duration,
    /// `max.poll.interval.ms`: how long a rebalance waits for this member to finish the records in its handlers. Default
    /// 5 min. Unlike Java's, a slow handler alone never costs the membership: heartbeats go on meanwhile. One that takes
    /// longer than this is warned of, and counted in [`ConsumerMetrics::slow_handlers`](crate::ConsumerMetrics::slow_handlers).
    pub rebalance_timeout: Duration,
    /// `fetch.min.bytes`: the broker waits until it has so many. Default 1. More saves requests and delays records.
    pub fetch_min_bytes: usize,
    /// `fetch.max.wait.ms`: how long the broker waits for them. Default 500 ms.
    pub fetch_max_wait: Duration,
    /// `fetch.max.bytes`: the most one answer brings, a first batch that is larger excepted. Default 50 MiB; the buffer
    /// below is the tighter bound unless it is enlarged.
    pub fetch_max_bytes: usize,
    /// `max.partition.fetch.bytes`: the most one answer brings of one partition. Default 1 MiB.
    pub partition_max_bytes: usize,
    /// `fetch.buffer.bytes` (ours): all bytes asked for, or fetched and not yet handled. Default 16 MiB. More feeds bursts
    /// of many partitions, and costs that much memory. Half of it is kept in equal shares for partitions that have nothing
    /// waiting, so that those whose handlers hang do not stop the others; what was decompressed comes on top.
    pub buffer_bytes: usize,
    /// `fetch.decompressed.max.bytes` (ours): to how much one batch may decompress. Default 64 MiB. One batch of each
    /// partition is decompressed at a time.
    pub decompressed_max_bytes: usize,
    /// `isolation.level`. Default [`IsolationLevel::ReadCommitted`], unlike Java's.
    pub isolation: IsolationLevel,
    /// `auto.offset.reset`: where a group without committed offset begins. Default [`OffsetReset::Earliest`], unlike
    /// Java's `latest`, which skips what was written before the first commit. It never applies to a group that has
    /// committed: see [`ConsumerConfig::out_of_range`].
    pub offset_reset: OffsetReset,
    /// `offset.out.of.range` (ours): what to do when the committed offset is not in the log any more. Default
    /// [`OutOfRange::Error`]: a jump loses or repeats records, so that somebody has to decide.
    pub out_of_range: OutOfRange,
    /// `auto.commit.interval.ms`: how often handled offsets are committed. Default 1 s; Java's is 5 s. Less repeats fewer
    /// records after a crash, for one small request each time.
    pub commit_interval: Duration,
    /// `commit.records` (ours): commit also after so many handled records. Default 0: by time alone.
    pub commit_records: u64,
    /// `handler.retries` (ours): how often a record whose handler failed is handled again before the consumer stops.
    /// Default 0.
    pub handler_retries: u32,
    /// `handler.retry.backoff.ms` (ours): the wait before the first retry, doubled at each further one up to 100 times
    /// as much. Default 100 ms. Other partitions go on meanwhile.
    pub handler_backoff: Duration,
    /// `handler.order` (ours): which records may be with handlers at the same time. Default [`Order::Partition`].
    pub order: Order,
    /// `handler.workers` (ours): how many records may be with handlers at the same time. Default 0: one of each partition
    /// with [`Order::Partition`], else 64.
    pub workers: usize,
    /// `handler.timeout.ms` (ours): how long one call of a handler may take before it is dropped and counts as failed.
    /// Default 0: as long as it likes.
    pub handler_timeout: Duration,
    /// `handler.on.failure` (ours), with `dead.letter.topic`: what becomes of a record that cannot be handled. Default
    /// [`OnFailure::Stop`].
    pub on_failure: OnFailure,
    /// `retry.topics` (ours), as `topic:milliseconds,...`: where a record whose retries are used up goes first, to come again
    /// after that time; the last of them hands it to `handler.on.failure`. Default none.
    pub retry_topics: Vec<RetryTopic>,
    /// `data.loss` (ours): what to do when the log was cut below the position. Default [`OnDataLoss::Stop`].
    pub data_loss: OnDataLoss,
    /// `commit.metadata` (ours): whether commits name what is handled beyond the committed offset, so that a restart does
    /// not repeat it. Default true.
    pub commit_metadata: bool,
    /// `group.protocol`: how members of the group agree. Default [`GroupProtocol::Auto`], unlike Java's `classic`.
    pub group_protocol: GroupProtocol,
    /// `partition.assignment.strategy`: what this member offers, best first. Default range and cooperative-sticky, as Java's.
    /// With one of them that is not cooperative, everything stops in a rebalance.
    pub assignors: Vec<Assignor>,
    /// `group.remote.assignor`: the coordinator's assignor in the protocol of KIP-848. Default the coordinator's choice.
    pub remote_assignor: Option<String>,
    /// Settings that only the classic protocol has were chosen.
    pub(crate) classic_only: bool,
    /// `shutdown.timeout.ms` (ours): how long a stopping consumer waits for records in their handlers, and then again for
    /// its last commit. Default 30 s.
    pub shutdown_timeout: Duration,
}

/// Where a group without a committed offset begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the first record there is.
    #[default]
    Earliest,
    /// Behind the last one. A partition that is added to a topic the group knows is read from its beginning all the same.
    Latest,
    /// Nowhere: [`ConsumeError::NoOffset`](crate::ConsumeError::NoOffset). Java's `none`.
    Error,
}

/// What to do when the position is outside of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutOfRange {
    /// Stop with [`ConsumeError::OffsetOutOfRange`](crate::ConsumeError::OffsetOutOfRange).
    #[default]
    Error,
    /// Go on at the first record there is, with a warning in the log.
    Earliest,
    /// Go on behind the last record there is, with a warning in the log.
    Latest,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        ConsumerConfig {
            group_id: None,
            group_instance_id: None,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            rebalance_timeout: Duration::from_secs(5 * 60),
            fetch_min_bytes: 1,
            fetch_max_wait: Duration::from_millis(500),
            fetch_max_bytes: 50 << 20,
            partition_max_bytes: 1 << 20,
            buffer_bytes: 16 << 20,
            decompressed_max_bytes: 64 << 20,
            isolation: IsolationLevel::ReadCommitted,
            offset_reset: OffsetReset::Earliest,
            out_of_range: OutOfRange::Error,
            commit_interval: Duration::from_secs(1),
            commit_records: 0,
            handler_retries: 0,
            handler_backoff: Duration::from_millis(100),
            order: Order::Partition,
            workers: 0,
            handler_timeout: Duration::ZERO,
            on_failure: OnFailure::Stop,
            retry_topics: Vec::new(),
            data_loss: OnDataLoss::Stop,
            commit_metadata: true,
            group_protocol: GroupProtocol::Auto,
            assignors: vec![Assignor::Range, Assignor::CooperativeSticky],
            remote_assignor: None,
            classic_only: false,
            shutdown_timeout: Duration::from_secs(30),
        }
    }
}

impl ConsumerConfig {
    /// Checks what no single setting shows.
    ///
    /// # Errors
    /// [`ConfigError::Conflict`] when two settings contradict each other.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.heartbeat_interval.saturating_mul(3) > self.session_timeout {
            return Err(ConfigError::Conflict(format!(
                "heartbeat.interval.ms ({} ms) must be at most a third of session.timeout.ms ({} ms)",
                self.heartbeat_interval.as_millis(),
                self.session_timeout.as_millis()
            )));
        }
        let waits = [
            ("session.timeout.ms", self.session_timeout),
            ("heartbeat.interval.ms", self.heartbeat_interval),
            ("max.poll.interval.ms", self.rebalance_timeout),
            ("auto.commit.interval.ms", self.commit_interval),
        ];
        if let Some((name, _)) = waits.iter().find(|(_, wait)| *wait < Duration::from_millis(1)) {
            return Err(ConfigError::Conflict(format!("{name} must be at least 1 ms")));
        }
        let longest = Duration::from_millis(MAX_MILLIS);
        let more = [("fetch.max.wait.ms", self.fetch_max_wait), ("shutdown.timeout.ms", self.shutdown_timeout)];
        if let Some((name, _)) = waits.iter().chain(&more).find(|(_, wait)| *wait > longest) {
            return Err(ConfigError::Conflict(format!("{name} takes 24 days at most")));
        }
        let sizes = [
            ("fetch.max.bytes", self.fetch_max_bytes),
            ("max.partition.fetch.bytes", self.partition_max_bytes),
            ("fetch.buffer.bytes", self.buffer_bytes),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size < 1024) {
            return Err(ConfigError::Conflict(format!("{name} must be at least 1024 bytes")));
        }
        if self.buffer_bytes < self.partition_max_bytes {
            return Err(ConfigError::Conflict(format!(
                "fetch.buffer.bytes ({}) must not be below max.partition.fetch.bytes ({})",
                self.buffer_bytes, self.partition_max_bytes
            )));
        }
        if self.assignors.is_empty() {
            return Err(ConfigError::Conflict("partition.assignment.strategy must name an assignor".to_owned()));
        }
        if matches!(&self.on_failure, OnFailure::DeadLetter(topic) if topic.is_empty()) {
            return Err(ConfigError::Conflict(
                "handler.on.failure is dead-letter: dead.letter.topic must name the topic".to_owned(),
            ));
        }
        Ok(())
    }
}

/// More handlers at once than that are a mistake.
const MAX_WORKERS: usize = 1 << 20;
const MAX_BYTES: usize = i32::MAX as usize;

fn assignors(raw: &Raw<'_>) -> Result<Vec<Assignor>, ConfigError> {
    let found: Option<Vec<Assignor>> = raw.list().iter().map(|name| Assignor::by_name(name)).collect();
    let found = found.filter(|found| !found.is_empty());
    found.ok_or_else(|| raw.expected("one or more of range, roundrobin, sticky, cooperative-sticky"))
}

fn retry_topics(raw: &Raw<'_>) -> Result<Vec<RetryTopic>, ConfigError> {
    let parse = |part: &String| {
        let (topic, delay) = part.rsplit_once(':')?;
        let delay = delay.trim().parse::<u64>().ok().filter(|delay| *delay <= MAX_MILLIS)?;
        let topic = topic.trim();
        (!topic.is_empty()).then(|| RetryTopic { topic: Arc::from(topic), delay: Duration::from_millis(delay) })
    };
    let topics: Option<Vec<RetryTopic>> = raw.list().iter().map(parse).collect();
    topics.ok_or_else(|| raw.expected("topics with their delays in milliseconds, as topic:60000,other:600000"))
}

/// A property that can only say how it is anyway.
fn fixed(raw: &Raw<'_>, is: bool, why: &'static str) -> Result<(), ConfigError> {
    if raw.boolean()? == is { Ok(()) } else { Err(ConfigError::NotSupported { name: raw.name.to_owned(), why }) }
}

impl Settings for ConsumerConfig {
    const PLACE: &'static str = "consumer";
    const TABLES: &'static [&'static [Setting<Self>]] = &[&[
        Setting { name: "group.id", set: |c, raw| raw.non_empty().map(|id| c.group_id = Some(id)) },
        Setting {
            name: "enable.auto.commit",
            set: |_, raw| fixed(raw, false, "offsets are committed when, and only when, their handler has returned"),
        },
        Setting { name: "check.crcs", set: |_, raw| fixed(raw, true, "checksums are always verified") },
        Setting {
            name: "exclude.internal.topics",
            set: |_, raw| fixed(raw, true, "a pattern() never matches Kafka's own topics"),
        },
        Setting { name: "group.instance.id", set: |c, raw| raw.non_empty().map(|id| c.group_instance_id = Some(id)) },
        Setting {
            name: "session.timeout.ms",
            set: |c, raw| {
                c.classic_only = true;
                raw.millis(1..=MAX_MILLIS).map(|t| c.session_timeout = t)
            },
        },
        Setting {
            name: "heartbeat.interval.ms",
            set: |c, raw| {
                c.classic_only = true;
                raw.millis(1..=MAX_MILLIS).map(|t| c.heartbeat_interval = t)
            },
        },
        Setting {
            name: "max.poll.interval.ms",
            set: |c, raw| raw.millis(1..=MAX_MILLIS).map(|t| c.rebalance_timeout = t),
        },
        Setting { name: "fetch.min.bytes", set: |c, raw| raw.bytes(0..=MAX_BYTES).map(|b| c.fetch_min_bytes = b) },
        Setting { name: "fetch.max.wait.ms", set: |c, raw| raw.millis(0..=MAX_MILLIS).map(|t| c.fetch_max_wait = t) },
        Setting { name: "fetch.max.bytes", set: |c, raw| raw.bytes(1024..=MAX_BYTES).map(|b| c.fetch_max_bytes = b) },
        Setting {
            name: "max.partition.fetch.bytes",
            set: |c, raw| raw.bytes(1024..=MAX_BYTES).map(|b| c.partition_max_bytes = b),
        },
        Setting { name: "fetch.buffer.bytes", set: |c, raw| raw.bytes(1024..=MAX_BYTES).map(|b| c.buffer_bytes = b) },
        Setting {
            name: "fetch.decompressed.max.bytes",
            set: |c, raw| raw.bytes(1024..=MAX_BYTES).map(|b| c.decompressed_max_bytes = b),
        },
        Setting {
            name: "isolation.level",
            set: |c, raw| {
                let words = [
                    ("read_committed", IsolationLevel::ReadCommitted),
                    ("read_uncommitted", IsolationLevel::ReadUncommitted),
                ];
                raw.one_of(&words).map(|level| c.isolation = level)
            },
        },
        Setting {
            name: "auto.offset.reset",
            set: |c, raw| {
                let words = [
                    ("earliest", OffsetReset::Earliest),
                    ("latest", OffsetReset::Latest),
                    ("error", OffsetReset::Error),
                    ("none", OffsetReset::Error),
                ];
                raw.one_of(&words).map(|reset| c.offset_reset = reset)
            },
        },
        Setting {
            name: "offset.out.of.range",
            set: |c, raw| {
                let words =
                    [("error", OutOfRange::Error), ("earliest", OutOfRange::Earliest), ("latest", OutOfRange::Latest)];
                raw.one_of(&words).map(|policy| c.out_of_range = policy)
            },
        },
        Setting {
            name: "auto.commit.interval.ms",
            set: |c, raw| raw.millis(1..=MAX_MILLIS).map(|t| c.commit_interval = t),
        },
        Setting {
            name: "commit.records",
            set: |c, raw| raw.number("a count of records", 0..=u64::MAX).map(|count| c.commit_records = count),
        },
        Setting {
            name: "handler.retries",
            set: |c, raw| raw.number("a count of retries", 0..=u32::MAX).map(|count| c.handler_retries = count),
        },
        Setting {
            name: "handler.retry.backoff.ms",
            set: |c, raw| raw.millis(0..=MAX_MILLIS).map(|t| c.handler_backoff = t),
        },
        Setting {
            name: "shutdown.timeout.ms",
            set: |c, raw| raw.millis(0..=MAX_MILLIS).map(|t| c.shutdown_timeout = t),
        },
        Setting {
            name: "partition.assignment.strategy",
            set: |c, raw| {
                c.classic_only = true;
                assignors(raw).map(|assignors| c.assignors = assignors)
            },
        },
        Setting {
            name: "group.protocol",
            set: |c, raw| {
                let words = [
                    ("auto", GroupProtocol::Auto),
                    ("classic", GroupProtocol::Classic),
                    ("consumer", GroupProtocol::Consumer),
                ];
                raw.one_of(&words).map(|protocol| c.group_protocol = protocol)
            },
        },
        Setting { name: "group.remote.assignor", set: |c, raw| raw.non_empty().map(|a| c.remote_assignor = Some(a)) },
        Setting {
            name: "handler.order",
            set: |c, raw| {
                let words = [("partition", Order::Partition), ("key", Order::Key), ("none", Order::None)];
                raw.one_of(&words).map(|order| c.order = order)
            },
        },
        Setting {
            name: "handler.workers",
            set: |c, raw| raw.number("a count of records", 0..=MAX_WORKERS).map(|count| c.workers = count),
        },
        Setting { name: "handler.timeout.ms", set: |c, raw| raw.millis(0..=MAX_MILLIS).map(|t| c.handler_timeout = t) },
        Setting {
            name: "handler.on.failure",
            set: |c, raw| {
                let topic = match &c.on_failure {
                    OnFailure::DeadLetter(topic) => topic.clone(),
                    OnFailure::Stop | OnFailure::Skip => Arc::from(""),
                };
                let words = [
                    ("stop", OnFailure::Stop),
                    ("skip", OnFailure::Skip),
                    ("dead-letter", OnFailure::DeadLetter(topic)),
                ];
                raw.one_of(&words).map(|policy| c.on_failure = policy)
            },
        },
        Setting {
            name: "dead.letter.topic",
            set: |c, raw| raw.non_empty().map(|topic| c.on_failure = OnFailure::DeadLetter(Arc::from(topic))),
        },
        Setting { name: "retry.topics", set: |c, raw| retry_topics(raw).map(|topics| c.retry_topics = topics) },
        Setting {
            name: "data.loss",
            set: |c, raw| {
                let words = [("stop", OnDataLoss::Stop), ("continue", OnDataLoss::Continue)];
                raw.one_of(&words).map(|policy| c.data_loss = policy)
            },
        },
        Setting { name: "commit.metadata", set: |c, raw| raw.boolean().map(|yes| c.commit_metadata = yes) },
    ]];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_names_are_understood_and_bad_values_say_what_is_expected() {
        let mut config = ConsumerConfig::default();
        config.set_property("auto.offset.reset", "none").unwrap();
        config.set_property("isolation.level", "read_uncommitted").unwrap();
        config.set_property("session.timeout.ms", "6000").unwrap();
        assert_eq!(config.offset_reset, OffsetReset::Error);
        assert_eq!(config.isolation, IsolationLevel::ReadUncommitted);
        assert!(config.validate().is_err(), "a heartbeat of 3 s does not fit a session of 6 s");
        let error = config.set_property("auto.offset.reset", "newest").unwrap_err().to_string();
        assert!(error.contains("earliest"), "{error}");
    }

    #[test]
    fn what_can_only_be_one_way_may_be_said_and_not_changed() {
        let mut config = ConsumerConfig::default();
        config.set_property("enable.auto.commit", "false").unwrap();
        config.set_property("check.crcs", "true").unwrap();
        assert_eq!(config, ConsumerConfig::default());
        let error = config.set_property("enable.auto.commit", "true").unwrap_err().to_string();
        assert!(error.contains("their handler has returned"), "{error}");
        assert!(config.set_property("check.crcs", "false").is_err());
    }

    #[test]
    fn what_would_never_wait_or_never_fetch_is_refused_however_it_was_set() {
        let refused = |config: ConsumerConfig| config.validate().unwrap_err().to_string();
        let zero = ConsumerConfig { commit_interval: Duration::ZERO, ..ConsumerConfig::default() };
        assert!(refused(zero).contains("auto.commit.interval.ms"));
        let zero = ConsumerConfig { heartbeat_interval: Duration::ZERO, ..ConsumerConfig::default() };
        assert!(refused(zero).contains("heartbeat.interval.ms"));
        let zero = ConsumerConfig { fetch_max_bytes: 0, ..ConsumerConfig::default() };
        assert!(refused(zero).contains("fetch.max.bytes"));
    }

    /// The I/O thread adds them to its clock.
    #[test]
    fn times_that_no_clock_can_hold_are_refused_however_they_were_set() {
        let long = Duration::MAX;
        let default = ConsumerConfig::default;
        for (name, config) in [
            ("session.timeout.ms", ConsumerConfig { session_timeout: long, ..default() }),
            ("max.poll.interval.ms", ConsumerConfig { rebalance_timeout: long, ..default() }),
            ("auto.commit.interval.ms", ConsumerConfig { commit_interval: long, ..default() }),
            ("fetch.max.wait.ms", ConsumerConfig { fetch_max_wait: long, ..default() }),
            ("shutdown.timeout.ms", ConsumerConfig { shutdown_timeout: long, ..default() }),
        ] {
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("24 days"), "{error}");
        }
    }
}
