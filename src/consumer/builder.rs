//! Setting up a consumer.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::delivery::Delivery;
use super::handle::ConsumerHandle;
use super::parcel::Batch;
use super::retry_topics;
use super::run::Summary;
use super::start::Consumer;
use crate::client::Client;
use crate::config::{Assignor, GroupProtocol, OnDataLoss, OnFailure, Order, RetryTopic};
use crate::config::{ConfigError, ConsumerConfig, OffsetReset, OutOfRange, Properties, Settings};
use crate::core::consume::pattern::TopicPattern;
use crate::error::ConsumeError;
use crate::io::inbox::{Inbox, Stats};
use crate::io::membership::Subscription;
use crate::io::offsets::SeekTo;
use crate::types::{IsolationLevel, TopicPartition};

/// The longest topic name there is in Kafka.
const TOPIC_NAME_BYTES: usize = 249;

impl Client {
    /// A consumer in group `group`: what its handler has handled is committed there, and the next start goes on behind
    /// it.
    ///
    /// ```no_run
    /// # async fn bill(_: &[u8]) -> Result<(), std::io::Error> { Ok(()) }
    /// # async fn example(client: indelible::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// client
    ///     .consumer("billing")
    ///     .topics(["orders"])
    ///     .run(|delivery| async move { bill(delivery.value()).await })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn consumer(&self, group: impl AsRef<str>) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone(), Some(Arc::from(group.as_ref())))
    }

    /// A consumer of assigned partitions that commits nothing: for tools, which begin anew each time.
    pub fn consumer_without_group(&self) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone(), None)
    }
}

/// Settings of a consumer to be built. See [`ConsumerConfig`] for what each costs.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before run() or build()"]
pub struct ConsumerBuilder {
    client: Client,
    group: Option<Arc<str>>,
    topics: Vec<Arc<str>>,
    pattern: Option<String>,
    partitions: Vec<(TopicPartition, Option<SeekTo>)>,
    config: ConsumerConfig,
    stop_after: Option<u64>,
    stop_when_idle: Option<Duration>,
    stop_at_end: bool,
    /// The first property that did not fit, told at the end so that calls can be chained.
    refused: Option<ConfigError>,
}

impl ConsumerBuilder {
    fn new(client: Client, group: Option<Arc<str>>) -> ConsumerBuilder {
        ConsumerBuilder {
            client,
            group,
            topics: Vec::new(),
            pattern: None,
            partitions: Vec::new(),
            config: ConsumerConfig::default(),
            stop_after: None,
            stop_when_idle: None,
            stop_at_end: false,
            refused: None,
        }
    }

    /// Subscribes to topics, whose partitions the members of the group share. Partitions that are added to a topic later
    /// are read from their beginning.
    pub fn topics(mut self, topics: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.topics.extend(topics.into_iter().map(|topic| Arc::from(topic.as_ref())));
        self
    }

    /// Subscribes to all topics whose whole name matches this regular expression, those that are created later too, and
    /// Kafka's own never. In the classic protocol this client looks for them every `metadata.max.age.ms` (5 min); with
    /// KIP-848 the coordinator does, in the syntax of RE2, so that look-around and back-references are in neither. It gives
    /// out Kafka's own topics, too, if they match: their partitions are held and not read.
    pub fn pattern(mut self, regex: impl Into<String>) -> Self {
        self.pattern = Some(regex.into());
        self
    }

    /// Reads these partitions, whoever else does: no rebalance, no sharing. With a group offsets are committed all the
    /// same, so give each partition to one process only.
    pub fn assign(mut self, partitions: impl IntoIterator<Item = (impl AsRef<str>, i32)>) -> Self {
        let partition = |(topic, index): (_, i32)| (TopicPartition::new(AsRef::<str>::as_ref(&topic), index), None);
        self.partitions.extend(partitions.into_iter().map(partition));
        self
    }

    /// As [`ConsumerBuilder::assign`], each from a given offset on, whatever is committed. An offset is 0 or more: for the
    /// ends of a log there is [`ConsumerBuilder::assign_at`].
    pub fn assign_from(mut self, partitions: impl IntoIterator<Item = (impl AsRef<str>, i32, i64)>) -> Self {
        for (topic, partition, offset) in partitions {
            self.partitions.push((TopicPartition::new(topic.as_ref(), partition), Some(SeekTo::Offset(offset))));
        }
        self
    }

    /// As [`ConsumerBuilder::assign`], all from a place on, whatever is committed: a time, for instance.
    pub fn assign_at(mut self, partitions: impl IntoIterator<Item = (impl AsRef<str>, i32)>, place: SeekTo) -> Self {
        for (topic, partition) in partitions {
            self.partitions.push((TopicPartition::new(topic.as_ref(), partition), Some(place)));
        }
        self
    }

    /// Sets a property by its name in Kafka's Java client, or ours. One that does not fit is told by `build` and `run`.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        if let Err(error) = self.config.set_property(name, value) {
            self.refused.get_or_insert(error);
        }
        self
    }

    /// Sets those of the properties that are a consumer's; the others are left to whom they belong to. What does not fit, a
    /// name that nobody knows is told by `build` and `run` with file and line, and so is a `group.id` that is another group
    /// than this consumer's. A consumer without group stays without one.
    pub fn properties(mut self, properties: &Properties) -> Self {
        if let Err(error) = properties.apply(&mut self.config) {
            self.refused.get_or_insert(error);
        }
        self
    }

    /// Takes over a whole configuration.
    pub fn config(mut self, config: ConsumerConfig) -> Self {
        self.config = config;
        self
    }

    /// `auto.offset.reset`: where a group without committed offset begins. Default the first record.
    pub fn offset_reset(mut self, reset: OffsetReset) -> Self {
        self.config.offset_reset = reset;
        self
    }

    /// `offset.out.of.range`: what to do when the committed offset is not in the log any more. Default an error.
    pub fn out_of_range(mut self, policy: OutOfRange) -> Self {
        self.config.out_of_range = policy;
        self
    }

    /// `isolation.level`. Default committed records only.
    pub fn isolation(mut self, isolation: IsolationLevel) -> Self {
        self.config.isolation = isolation;
        self
    }

    /// `group.protocol`: how the members of the group agree. Default the newer one where the broker has it.
    pub fn protocol(mut self, protocol: GroupProtocol) -> Self {
        self.config.group_protocol = protocol;
        self
    }

    /// `partition.assignment.strategy`: what this member offers, best first; it makes the group a classic one. Default range
    /// and cooperative-sticky, as Java's; with cooperative-sticky alone only what moves stops in a rebalance.
    pub fn assignors(mut self, assignors: impl IntoIterator<Item = Assignor>) -> Self {
        self.config.assignors = assignors.into_iter().collect();
        self.config.classic_only = true;
        self
    }

    /// `group.instance.id`: makes this a static member. Default none.
    pub fn instance_id(mut self, id: impl Into<String>) -> Self {
        self.config.group_instance_id = Some(id.into());
        self
    }

    /// `data.loss`: what to do when the log was cut below the position (KIP-320). Default [`OnDataLoss::Stop`].
    pub fn data_loss(mut self, policy: OnDataLoss) -> Self {
        self.config.data_loss = policy;
        self
    }

    /// `commit.metadata`: whether commits name what is handled beyond the committed offset, so that a restart does not
    /// repeat it. Default true.
    pub fn commit_metadata(mut self, names: bool) -> Self {
        self.config.commit_metadata = names;
        self
    }

    /// `auto.commit.interval.ms`: how often handled offsets are committed. Default 1 s.
    pub fn commit_interval(mut self, interval: Duration) -> Self {
        self.config.commit_interval = interval;
        self
    }

    /// `handler.order`: which records may be with handlers at the same time. Default one of each partition.
    ///
    /// ```no_run
    /// # async fn bill(_: &[u8]) -> Result<(), std::io::Error> { Ok(()) }
    /// # async fn example(client: indelible::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use indelible::Order;
    ///
    /// // Up to 500 customers at once; what happened to one of them is handled in its order.
    /// let consumer = client.consumer("billing").topics(["orders"]).order(Order::Key).workers(500);
    /// consumer.run(|delivery| async move { bill(delivery.value()).await }).await?;
    /// # Ok(()) }
    /// ```
    pub fn order(mut self, order: Order) -> Self {
        self.config.order = order;
        self
    }

    /// `handler.workers`: how many handlers may be at work at the same time; for `run_batches`, how many batches. Default
    /// 0: one for each partition with [`Order::Partition`], else 64. More of them keep more fetched batches in memory:
    /// each keeps the one its record is in.
    pub fn workers(mut self, workers: usize) -> Self {
        self.config.workers = workers;
        self
    }

    /// `handler.timeout.ms`: how long one call of a handler may take. Then its future is dropped where it waits, and that
    /// is a failure. A handler that does not wait, but keeps its thread, cannot be stopped. Default 0: as long as it
    /// likes.
    pub fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.config.handler_timeout = timeout;
        self
    }

    /// `handler.on.failure`: what becomes of a record whose handler failed, when its retries are used up. Default
    /// [`OnFailure::Stop`].
    ///
    /// ```no_run
    /// # async fn bill(_: &[u8]) -> Result<(), std::io::Error> { Ok(()) }
    /// # async fn example(client: indelible::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use indelible::OnFailure;
    /// use std::time::Duration;
    ///
    /// let consumer = client
    ///     .consumer("billing")
    ///     .topics(["orders"])
    ///     .handler_retries(5)
    ///     .handler_timeout(Duration::from_secs(30))
    ///     .on_failure(OnFailure::Skip);
    /// consumer.run(|delivery| async move { bill(delivery.value()).await }).await?;
    /// # Ok(()) }
    /// ```
    pub fn on_failure(mut self, policy: OnFailure) -> Self {
        self.config.on_failure = policy;
        self
    }

    /// `dead.letter.topic`: records that cannot be handled are written there, and count as handled once all replicas in sync
    /// have them. The same as `on_failure(OnFailure::DeadLetter(topic))`. The topic has to exist.
    ///
    /// A dead letter has the key, the value and the headers of the record, and more headers, all of them text:
    ///
    /// | header | value |
    /// | --- | --- |
    /// | `indelible.dead-letter.topic`, `.partition`, `.offset` | where the record was first read: [`Delivery::origin`] |
    /// | `indelible.dead-letter.timestamp` | its timestamp there, in milliseconds since 1970; its own is the time of the write |
    /// | `indelible.dead-letter.group` | the group that could not handle it |
    /// | `indelible.dead-letter.attempts` | how often it was handled, in retry topics too |
    /// | `indelible.dead-letter.error` | what the handler said the last time, with its causes, in up to 4,096 bytes |
    ///
    /// Headers of these names that the record had before are replaced; names of headers that are not UTF-8 become so. When
    /// it cannot be written, the consumer stops with [`ConsumeError::DeadLetter`], and the record is not committed. A crash
    /// between the write and the commit repeats it: the topic can hold a record twice, never lack it.
    pub fn dead_letter(self, topic: impl AsRef<str>) -> Self {
        self.on_failure(OnFailure::DeadLetter(Arc::from(topic.as_ref())))
    }

    /// Adds one of the `retry.topics`: a record whose retries are used up is written to `topic`, and handled again from
    /// there no earlier than `delay` later. Called several times, a record goes from one to the next; what fails in the
    /// last goes where [`ConsumerBuilder::on_failure`] says. Default none.
    ///
    /// The consumer subscribes to these topics too, which have to exist. All members of the group need the same ones, and
    /// the same topics in [`ConsumerBuilder::topics`]. A record keeps its key, so that its retries keep their order; the
    /// order among it and the records behind it in its own topic is lost.
    ///
    /// [`Delivery::origin`] tells where the record was first read, and [`Delivery::attempt`] counts on. Its headers have the
    /// names of [dead letters](ConsumerBuilder::dead_letter) with `indelible.retry.` before them; `indelible.retry.due` is
    /// the moment before which it is not handled, in milliseconds since 1970.
    pub fn retry_topic(mut self, topic: impl AsRef<str>, delay: Duration) -> Self {
        self.config.retry_topics.push(RetryTopic { topic: Arc::from(topic.as_ref()), delay });
        self
    }

    /// `handler.retries`: how often a record whose handler failed is handled again, after pauses that grow from
    /// `handler.retry.backoff.ms` on. Other partitions, or other keys with [`Order::Key`], go on meanwhile. Default 0: the
    /// first failure is the last.
    pub fn handler_retries(mut self, retries: u32) -> Self {
        self.config.handler_retries = retries;
        self
    }

    /// `fetch.buffer.bytes`: all bytes asked for, or fetched and not yet handled. Default 16 MiB.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.config.buffer_bytes = bytes;
        self
    }

    /// `shutdown.timeout.ms`: how long a stopping consumer waits for its handlers, and again for its last commit. Default
    /// 30 s.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.config.shutdown_timeout = timeout;
        self
    }

    /// Stops when exactly so many records are handled. Default never.
    pub fn stop_after(mut self, records: u64) -> Self {
        self.stop_after = Some(records);
        self
    }

    /// Stops when no record came for so long, counted from the first assignment on. Default never.
    pub fn stop_when_idle(mut self, idle: Duration) -> Self {
        self.stop_when_idle = Some(idle);
        self
    }

    /// Stops when what is there is handled: each of the consumer's partitions up to where its log ended when the consumer
    /// started (or first saw the partition). Records that come later are left to the next start. Default never.
    ///
    /// Of several members of a group each stops when the partitions are done that it has; those of a member that stopped
    /// go to the others. One that has no partitions stops when the group has committed all of them up to their ends.
    pub fn stop_at_end(mut self) -> Self {
        self.stop_at_end = true;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`ConsumeError::Config`] for what does not fit.
    pub fn build(self) -> Result<Consumer, ConsumeError> {
        if let Some(error) = self.refused {
            return Err(error.into());
        }
        self.config.validate()?;
        let conflict = |text: &str| Err(ConfigError::Conflict(text.to_owned()).into());
        if let (Some(id), Some(group)) = (&self.config.group_id, self.group.as_deref())
            && id != group
        {
            return conflict(&format!("group.id is {id:?}, and the consumer was made for group {group:?}"));
        }
        let pattern = match self.pattern.as_deref().map(TopicPattern::new).transpose() {
            Ok(pattern) => pattern,
            Err(error) => return conflict(&format!("pattern() takes a regular expression: {error}")),
        };
        if pattern.is_some() && !(self.topics.is_empty() && self.partitions.is_empty()) {
            return conflict("a consumer takes pattern(), topics() or assign(), one of them");
        }
        let mut subscription = match (self.topics.is_empty(), self.partitions.is_empty()) {
            (true, true) if pattern.is_some() && self.group.is_none() => {
                return conflict("a consumer without group cannot share topics: use assign() instead of pattern()");
            }
            (false, true) if self.group.is_none() => {
                return conflict("a consumer without group cannot share topics: use assign() instead of topics()");
            }
            (false, true) => Subscription::Topics(self.topics),
            (true, false) => Subscription::Partitions(self.partitions),
            (true, true) => match pattern {
                Some(pattern) => Subscription::Pattern(pattern),
                None => return conflict("a consumer needs topics(), pattern() or assign()"),
            },
            (false, false) => return conflict("a consumer takes topics() or assign(), not both"),
        };
        if self.group.as_ref().is_some_and(|group| group.is_empty()) {
            return conflict("the name of a group must not be empty");
        }
        if let Subscription::Partitions(partitions) = &subscription {
            check_partitions(partitions)?;
        }
        retry_topics::subscribe(&mut subscription, self.group.as_deref(), &self.config)?;
        let names: Vec<&Arc<str>> = match &subscription {
            Subscription::Topics(topics) => topics.iter().collect(),
            Subscription::Pattern(_) => Vec::new(),
            Subscription::Partitions(partitions) => partitions.iter().map(|(partition, _)| &partition.topic).collect(),
        };
        if let Some(name) = names.iter().find(|name| name.is_empty() || name.len() > TOPIC_NAME_BYTES) {
            return conflict(&format!("{name:?} cannot be a topic's name: it has 1 to {TOPIC_NAME_BYTES} bytes"));
        }
        let commands = mpsc::unbounded_channel();
        let handle = ConsumerHandle {
            inbox: Arc::new(Inbox::default()),
            stats: Arc::new(Stats::default()),
            commands: commands.0.downgrade(),
        };
        Ok(Consumer {
            client: self.client,
            group: self.group,
            subscription,
            config: Arc::new(self.config),
            stop_after: self.stop_after,
            stop_when_idle: self.stop_when_idle,
            stop_at_end: self.stop_at_end,
            handle,
            commands,
        })
    }

    /// Builds the consumer and runs it: see [`Consumer::run`].
    ///
    /// # Errors
    /// As [`ConsumerBuilder::build`] and [`Consumer::run`].
    ///
    /// # Cancel safety
    /// As [`Consumer::run`].
    pub async fn run<H, F, E>(self, handler: H) -> Result<Summary, ConsumeError>
    where
        H: FnMut(Delivery) -> F,
        F: Future<Output = Result<(), E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.build()?.run(handler).await
    }

    /// Builds the consumer and runs it: see [`Consumer::run_batches`].
    ///
    /// # Errors
    /// As [`ConsumerBuilder::build`] and [`Consumer::run_batches`].
    ///
    /// # Cancel safety
    /// As [`Consumer::run`].
    pub async fn run_batches<H, F, E>(self, most: usize, handler: H) -> Result<Summary, ConsumeError>
    where
        H: FnMut(Batch) -> F,
        F: Future<Output = Result<(), E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.build()?.run_batches(most, handler).await
    }
}

/// What brokers would take for something else, and what would be read twice.
fn check_partitions(partitions: &[(TopicPartition, Option<SeekTo>)]) -> Result<(), ConfigError> {
    let mut named = HashSet::new();
    for (partition, place) in partitions {
        let TopicPartition { topic, partition: index } = partition;
        let wrong = match place {
            _ if *index < 0 => format!("topic {topic:?} has no partition {index}: they are numbered from 0"),
            Some(SeekTo::Offset(offset @ ..0)) => {
                format!(
                    "{partition} cannot begin at offset {offset}: the ends of a log are SeekTo::Beginning and SeekTo::End"
                )
            }
            _ if !named.insert(partition) => format!("{partition} is named twice: it has one place to begin at"),
            _ => continue,
        };
        return Err(ConfigError::Conflict(wrong));
    }
    Ok(())
}
