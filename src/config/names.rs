//! The property names of Kafka's Java clients (4.1), and where each belongs here.

/// Where a property belongs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// The client: connections and metadata.
    Client,
    /// The producer.
    Producer,
    /// The consumer.
    Consumer,
    /// Nowhere, and why.
    Unsupported(&'static str),
}

impl Place {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Place::Client => "client",
            Place::Producer => "producer",
            Place::Consumer => "consumer",
            Place::Unsupported(_) => "none",
        }
    }
}

use Place::{Client, Consumer, Producer, Unsupported};

const CLASSES: Place = Unsupported("it names a Java class; keys and values are bytes here, serialize them yourself");
const PARTITIONER: Place = Unsupported("implement the Partitioner trait and give it to ProducerBuilder::partitioner");
const METRICS: Place = Unsupported("metrics are read with Client::metrics() and tracing events");
const TLS: Place = Unsupported("this version connects in the clear only");
const TRANSACTIONS: Place = Unsupported("this version has no transactions; delivery is idempotent without them");

/// Every property of Java's producer, consumer and admin client.
pub(crate) const JAVA_NAMES: &[(&str, Place)] = &[
    ("bootstrap.servers", Client),
    ("client.id", Client),
    ("client.rack", Client),
    ("client.dns.lookup", Client),
    ("request.timeout.ms", Client),
    ("default.api.timeout.ms", Client),
    ("socket.connection.setup.timeout.ms", Client),
    ("socket.connection.setup.timeout.max.ms", Client),
    ("reconnect.backoff.ms", Client),
    ("reconnect.backoff.max.ms", Client),
    ("retry.backoff.ms", Client),
    ("retry.backoff.max.ms", Client),
    ("metadata.max.age.ms", Client),
    ("metadata.recovery.strategy", Client),
    ("metadata.recovery.rebootstrap.trigger.ms", Client),
    ("connections.max.idle.ms", Client),
    ("send.buffer.bytes", Client),
    ("receive.buffer.bytes", Client),
    ("allow.auto.create.topics", Client),
    (
        "metadata.max.idle.ms",
        Unsupported("topics are tracked until the client is dropped; each costs a line of metadata"),
    ),
    ("security.protocol", TLS),
    ("security.providers", TLS),
    ("ssl.cipher.suites", TLS),
    ("ssl.enabled.protocols", TLS),
    ("ssl.endpoint.identification.algorithm", TLS),
    ("ssl.engine.factory.class", TLS),
    ("ssl.key.password", TLS),
    ("ssl.keymanager.algorithm", TLS),
    ("ssl.keystore.certificate.chain", TLS),
    ("ssl.keystore.key", TLS),
    ("ssl.keystore.location", TLS),
    ("ssl.keystore.password", TLS),
    ("ssl.keystore.type", TLS),
    ("ssl.protocol", TLS),
    ("ssl.provider", TLS),
    ("ssl.secure.random.implementation", TLS),
    ("ssl.trustmanager.algorithm", TLS),
    ("ssl.truststore.certificates", TLS),
    ("ssl.truststore.location", TLS),
    ("ssl.truststore.password", TLS),
    ("ssl.truststore.type", TLS),
    ("sasl.mechanism", TLS),
    ("sasl.jaas.config", TLS),
    ("sasl.client.callback.handler.class", TLS),
    ("sasl.kerberos.service.name", Unsupported("GSSAPI needs a C library")),
    ("sasl.login.callback.handler.class", TLS),
    ("sasl.login.class", TLS),
    ("metric.reporters", METRICS),
    ("metrics.num.samples", METRICS),
    ("metrics.recording.level", METRICS),
    ("metrics.sample.window.ms", METRICS),
    ("auto.include.jmx.reporter", METRICS),
    ("enable.metrics.push", METRICS),
    ("config.providers", CLASSES),
    ("interceptor.classes", CLASSES),
    // producer
    ("acks", Producer),
    ("batch.size", Producer),
    ("buffer.memory", Producer),
    ("compression.type", Producer),
    ("compression.gzip.level", Producer),
    ("compression.lz4.level", Producer),
    ("compression.zstd.level", Producer),
    ("delivery.timeout.ms", Producer),
    ("enable.idempotence", Producer),
    ("linger.ms", Producer),
    ("max.block.ms", Producer),
    ("max.in.flight.requests.per.connection", Producer),
    ("max.request.size", Producer),
    ("partitioner.ignore.keys", PARTITIONER),
    ("partitioner.adaptive.partitioning.enable", PARTITIONER),
    ("partitioner.availability.timeout.ms", PARTITIONER),
    ("partitioner.class", CLASSES),
    ("retries", Producer),
    ("key.serializer", CLASSES),
    ("value.serializer", CLASSES),
    ("transactional.id", TRANSACTIONS),
    ("transaction.timeout.ms", TRANSACTIONS),
    ("transaction.two.phase.commit.enable", TRANSACTIONS),
    // consumer
    ("group.id", Consumer),
    ("group.instance.id", Consumer),
    ("group.protocol", Consumer),
    ("group.remote.assignor", Consumer),
    ("heartbeat.interval.ms", Consumer),
    ("session.timeout.ms", Consumer),
    ("max.poll.interval.ms", Consumer),
    ("max.poll.records", Consumer),
    ("partition.assignment.strategy", Consumer),
    ("auto.offset.reset", Consumer),
    ("auto.commit.interval.ms", Consumer),
    ("enable.auto.commit", Unsupported("offsets are committed when, and only when, their handler has returned")),
    ("isolation.level", Consumer),
    ("fetch.min.bytes", Consumer),
    ("fetch.max.bytes", Consumer),
    ("fetch.max.wait.ms", Consumer),
    ("max.partition.fetch.bytes", Consumer),
    ("check.crcs", Consumer),
    ("exclude.internal.topics", Consumer),
    ("key.deserializer", CLASSES),
    ("value.deserializer", CLASSES),
];
