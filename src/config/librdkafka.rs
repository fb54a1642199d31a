//! The property names of librdkafka (2.13) that differ from Java's, and what they are here.

use super::names::Place;

/// What one of librdkafka's names means.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Meaning {
    /// The same as this name of ours.
    Same(&'static str),
    /// The same as this name, in kilobytes of 1024 bytes.
    Kilobytes(&'static str),
    /// The same as this name, except that 0 is for ever there, which there is not here.
    NotZero(&'static str),
    /// What it is set to is how it is here, when it is this; otherwise why there is no other way.
    Only(Place, &'static str, &'static str),
    /// Not here, and why.
    Unsupported(&'static str),
}

use Meaning::{Kilobytes, NotZero, Only, Same, Unsupported};
use Place::{Client, Consumer, Producer};

/// What `name` means; none when librdkafka has no such name, or means by it what Java means.
pub(crate) fn meaning(name: &str) -> Option<Meaning> {
    NAMES.iter().find(|known| known.0 == name).map(|known| known.1)
}

const LOG: Meaning = Unsupported("logs are tracing events: set the level where they are subscribed to");
const STATISTICS: Meaning = Unsupported("metrics are read with Client::metrics() and tracing events");
const OPENSSL: Meaning = Unsupported("it is OpenSSL's; TLS is rustls here, see TlsConfig::crypto_provider");
const ASSERTION: Meaning =
    Unsupported("tokens by assertion are not built in: give SaslConfig::oauthbearer a TokenProvider");
const PACE: Meaning = Unsupported("the client paces itself: see retry.backoff.ms and fetch.buffer.bytes");
const COMMITS: Meaning = Unsupported("offsets are committed when, and only when, their handler has returned");
const OLD: Meaning = Unsupported("brokers are asked which versions they speak");
const KERBEROS: Meaning = Unsupported("GSSAPI is not built in: give SaslConfig::mechanism an implementation");

pub(crate) const NAMES: &[(&str, Meaning)] = &[
    // client
    ("metadata.broker.list", Same("bootstrap.servers")),
    ("receive.message.max.bytes", Same("max.response.bytes")),
    ("topic.metadata.refresh.interval.ms", Same("metadata.max.age.ms")),
    ("socket.timeout.ms", Same("request.timeout.ms")),
    ("socket.send.buffer.bytes", Same("send.buffer.bytes")),
    ("socket.receive.buffer.bytes", Same("receive.buffer.bytes")),
    ("socket.keepalive.enable", Only(Client, "true", "connections are always kept alive")),
    ("socket.nagle.disable", Only(Client, "true", "requests are whole when they are written, so Nagle's delay is off")),
    ("socket.max.fails", Only(Client, "1", "a connection is closed with its first request that times out")),
    ("api.version.request", Only(Client, "true", "brokers are asked which versions they speak")),
    ("api.version.request.timeout.ms", Unsupported("it is part of socket.connection.setup.timeout.ms")),
    ("api.version.fallback.ms", OLD),
    ("broker.version.fallback", OLD),
    ("broker.address.family", Only(Client, "any", "all addresses of a name are tried")),
    ("broker.address.ttl", Unsupported("a name is looked up each time a connection is made")),
    ("builtin.features", Unsupported("what is built in is chosen by Cargo features")),
    ("debug", LOG),
    ("log_level", LOG),
    ("log.queue", LOG),
    ("log.thread.name", LOG),
    ("log.connection.close", LOG),
    ("statistics.interval.ms", STATISTICS),
    ("enabled_events", STATISTICS),
    ("internal.termination.signal", Unsupported("the client ends without signals")),
    ("enable.random.seed", Unsupported("random numbers come from the system")),
    ("plugin.library.paths", Unsupported("there are no plug-ins")),
    ("message.copy.max.bytes", Unsupported("values are not copied where they can be shared")),
    ("topic.metadata.refresh.fast.interval.ms", PACE),
    ("topic.metadata.refresh.sparse", Only(Client, "true", "only topics that are used are asked for")),
    ("topic.metadata.propagation.max.ms", Unsupported("a topic that does not appear within max.block.ms is an error")),
    ("topic.blacklist", Unsupported("a pattern() says which topics are meant")),
    // TLS
    ("ssl.ca.location", Same("ssl.truststore.location")),
    ("ssl.ca.pem", Same("ssl.truststore.certificates")),
    ("ssl.certificate.pem", Same("ssl.keystore.certificate.chain")),
    ("ssl.key.pem", Same("ssl.keystore.key")),
    (
        "enable.ssl.certificate.verification",
        Only(
            Client,
            "true",
            "no property switches it off; TlsConfig::dangerously_disable_certificate_verification does",
        ),
    ),
    ("ssl.ca.certificate.stores", Unsupported("without a file, the system's own roots are trusted")),
    ("ssl.crl.location", Unsupported("revocation lists are not read")),
    ("ssl.curves.list", OPENSSL),
    ("ssl.sigalgs.list", OPENSSL),
    ("ssl.providers", OPENSSL),
    ("ssl.engine.location", OPENSSL),
    ("ssl.engine.id", OPENSSL),
    // SASL
    ("sasl.mechanisms", Same("sasl.mechanism")),
    ("sasl.kerberos.principal", KERBEROS),
    ("sasl.kerberos.keytab", KERBEROS),
    ("sasl.oauthbearer.client.id", Same("sasl.oauthbearer.client.credentials.client.id")),
    ("sasl.oauthbearer.client.secret", Same("sasl.oauthbearer.client.credentials.client.secret")),
    (
        "sasl.oauthbearer.method",
        Only(Client, "oidc", "tokens come by client credentials, or from a TokenProvider: SaslConfig::oauthbearer"),
    ),
    (
        "sasl.oauthbearer.grant.type",
        Only(Client, "client_credentials", "give SaslConfig::oauthbearer a TokenProvider that does it"),
    ),
    (
        "sasl.oauthbearer.config",
        Unsupported("it is for unsecured tokens: give SaslConfig::oauthbearer a TokenProvider"),
    ),
    (
        "enable.sasl.oauthbearer.unsecure.jwt",
        Only(Client, "false", "unsecured tokens are not made: give SaslConfig::oauthbearer a TokenProvider"),
    ),
    (
        "sasl.oauthbearer.metadata.authentication.type",
        Only(Client, "none", "give SaslConfig::oauthbearer a TokenProvider"),
    ),
    ("sasl.oauthbearer.assertion.private.key.pem", ASSERTION),
    ("sasl.oauthbearer.assertion.jwt.template.file", ASSERTION),
    // producer
    ("message.max.bytes", Same("max.request.size")),
    ("max.in.flight", Same("max.in.flight.requests.per.connection")),
    ("queue.buffering.max.ms", Same("linger.ms")),
    ("queue.buffering.max.kbytes", Kilobytes("buffer.memory")),
    ("queue.buffering.max.messages", Unsupported("buffer.memory is the limit, in bytes")),
    ("queue.buffering.backpressure.threshold", PACE),
    ("batch.num.messages", Unsupported("batch.size is the limit, in bytes")),
    ("message.send.max.retries", Same("retries")),
    ("message.timeout.ms", NotZero("delivery.timeout.ms")),
    ("compression.codec", Same("compression.type")),
    ("request.required.acks", Same("acks")),
    ("delivery.report.only.error", Unsupported("each send() has its own answer")),
    (
        "enable.gapless.guarantee",
        Unsupported("a producer with a spool keeps what could not be delivered, in its order"),
    ),
    (
        "partitioner",
        Only(Producer, "murmur2_random", "it is compatible with Java's; give others to ProducerBuilder::partitioner"),
    ),
    ("sticky.partitioning.linger.ms", Unsupported("records without key stay in a partition for a batch, as Java's do")),
    ("queuing.strategy", Only(Producer, "fifo", "records of a partition are sent in their order")),
    ("produce.offset.report", Only(Producer, "true", "each delivered record has its offset")),
    // consumer
    ("fetch.wait.max.ms", Same("fetch.max.wait.ms")),
    ("fetch.message.max.bytes", Same("max.partition.fetch.bytes")),
    ("queued.max.messages.kbytes", Kilobytes("fetch.buffer.bytes")),
    ("queued.min.messages", PACE),
    ("fetch.queue.backoff.ms", PACE),
    ("fetch.error.backoff.ms", PACE),
    ("coordinator.query.interval.ms", PACE),
    ("group.protocol.type", Only(Consumer, "consumer", "groups of other kinds have no consumers")),
    ("enable.auto.offset.store", COMMITS),
    ("auto.commit.enable", COMMITS),
    ("offset.store.method", COMMITS),
    ("offset.store.path", COMMITS),
    ("offset.store.sync.interval.ms", COMMITS),
    ("enable.partition.eof", Unsupported("see ConsumerBuilder::stop_at_end")),
    ("consume.callback.max.messages", Unsupported("see ConsumerBuilder::run_batches")),
];

#[cfg(test)]
mod tests {
    use super::super::{ClientConfig, ConfigError, ConsumerConfig, ProducerConfig, Settings, is_known};
    use super::*;

    #[test]
    fn each_name_leads_to_a_setting_and_is_none_of_javas() {
        for (index, (name, meaning)) in NAMES.iter().enumerate() {
            assert!(!super::super::names::JAVA_NAMES.iter().any(|java| java.0 == *name), "{name} is Java's");
            assert!(!NAMES[..index].iter().any(|other| other.0 == *name), "{name} is there twice");
            if let Same(target) | Kilobytes(target) | NotZero(target) = meaning {
                assert!(is_known(target), "{name}: {target} has no setter");
            }
        }
    }

    #[test]
    fn names_are_understood_and_errors_say_the_name_that_was_given() {
        let mut client = ClientConfig::default();
        client.set("metadata.broker.list", "a:1,b:2").unwrap();
        client.set("socket.timeout.ms", "7000").unwrap();
        client.set("socket.keepalive.enable", "true").unwrap();
        client.set("enable.ssl.certificate.verification", "TRUE").unwrap();
        assert_eq!((client.bootstrap_servers.len(), client.request_timeout.as_secs()), (2, 7));
        let mut producer = ProducerConfig::default();
        producer.set_property("queue.buffering.max.kbytes", "64").unwrap();
        producer.set_property("queue.buffering.max.ms", "9").unwrap();
        producer.set_property("compression.codec", "zstd").unwrap();
        producer.set_property("message.timeout.ms", "9000").unwrap();
        assert_eq!((producer.buffer_memory, producer.linger.as_millis()), (64 << 10, 9));
        assert_eq!((producer.compression, producer.delivery_timeout.as_secs()), (crate::types::Compression::Zstd, 9));
        let mut consumer = ConsumerConfig::default();
        consumer.set_property("queued.max.messages.kbytes", "2048").unwrap();
        consumer.set_property("fetch.wait.max.ms", "5").unwrap();
        assert_eq!((consumer.buffer_bytes, consumer.fetch_max_wait.as_millis()), (2 << 20, 5));

        let refused = |error: Result<(), ConfigError>| error.unwrap_err().to_string();
        for (error, parts) in [
            (client.set("socket.timeout.ms", "x"), ["\"socket.timeout.ms\"", "milliseconds"]),
            (client.set("enable.ssl.certificate.verification", "false"), ["dangerously_disable", "not supported"]),
            (client.set("statistics.interval.ms", "1000"), ["statistics.interval.ms", "Client::metrics"]),
            (client.set("queue.buffering.max.ms", "5"), ["queue.buffering.max.ms", "producer"]),
            (client.set("partitioner", "murmur2_random"), ["partitioner", "producer"]),
            (
                producer.set_property("queue.buffering.max.kbytes", "4194304000000000"),
                ["4194304000000000", "kilobytes"],
            ),
            (producer.set_property("queue.buffering.max.kbytes", "-1"), ["\"-1\"", "kilobytes"]),
            (producer.set_property("message.timeout.ms", "0"), ["message.timeout.ms", "above 0"]),
            (consumer.set_property("enable.auto.offset.store", "false"), ["handler", "not supported"]),
            (client.set("metadata.broker.lst", "a:1"), ["did you mean", "\"metadata.broker.list\""]),
        ] {
            let error = refused(error);
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }
}
