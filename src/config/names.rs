//! The property names of Kafka's Java clients (4.3), and where each belongs here.

use super::{ConfigError, Raw};

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
const JAVA_SECURITY: Place =
    Unsupported("it is for Java's cryptography; see TlsConfig::crypto_provider for another here");
const KERBEROS: Place = Unsupported("GSSAPI is not built in: give SaslConfig::mechanism an implementation");
const OWN_MECHANISM: Place = Unsupported("it names a Java class: give SaslConfig::mechanism an implementation");
const ASSERTION: Place =
    Unsupported("tokens by assertion are not built in: give SaslConfig::oauthbearer a TokenProvider");
const TOKEN_TIMES: Place = Unsupported("a token is asked for while a connection is made, and again before it expires");
const TOKEN_CHECKS: Place = Unsupported("tokens are checked by the broker");
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
    ("security.protocol", Client),
    ("security.providers", JAVA_SECURITY),
    (
        "ssl.cipher.suites",
        Unsupported("all suites of the provider are safe: see TlsConfig::crypto_provider for others"),
    ),
    ("ssl.enabled.protocols", Client),
    ("ssl.endpoint.identification.algorithm", Client),
    ("ssl.engine.factory.class", JAVA_SECURITY),
    ("ssl.key.password", Client),
    ("ssl.keymanager.algorithm", JAVA_SECURITY),
    ("ssl.keystore.certificate.chain", Client),
    ("ssl.keystore.key", Client),
    ("ssl.keystore.location", Client),
    (
        "ssl.keystore.password",
        Unsupported(
            "it is for JKS and PKCS12, which are not read: convert to PEM by `openssl pkcs12 -in k.p12 -out k.pem`, whose key \
             is opened by ssl.key.password",
        ),
    ),
    ("ssl.keystore.type", Client),
    ("ssl.protocol", Client),
    ("ssl.provider", JAVA_SECURITY),
    ("ssl.secure.random.implementation", JAVA_SECURITY),
    ("ssl.trustmanager.algorithm", JAVA_SECURITY),
    ("ssl.truststore.certificates", Client),
    ("ssl.truststore.location", Client),
    (
        "ssl.truststore.password",
        Unsupported(
            "it is for JKS and PKCS12, which are not read: convert to PEM by `keytool -list -rfc -keystore t.jks > t.pem`, \
             which needs no password then",
        ),
    ),
    ("ssl.truststore.type", Client),
    ("sasl.mechanism", Client),
    ("sasl.jaas.config", Client),
    ("sasl.client.callback.handler.class", OWN_MECHANISM),
    ("sasl.kerberos.service.name", KERBEROS),
    ("sasl.kerberos.kinit.cmd", KERBEROS),
    ("sasl.kerberos.min.time.before.relogin", KERBEROS),
    ("sasl.kerberos.ticket.renew.jitter", KERBEROS),
    ("sasl.kerberos.ticket.renew.window.factor", KERBEROS),
    ("sasl.login.callback.handler.class", Client),
    ("sasl.login.class", OWN_MECHANISM),
    ("sasl.login.connect.timeout.ms", TOKEN_TIMES),
    ("sasl.login.read.timeout.ms", TOKEN_TIMES),
    ("sasl.login.retry.backoff.ms", Client),
    ("sasl.login.retry.backoff.max.ms", Client),
    ("sasl.login.refresh.buffer.seconds", TOKEN_TIMES),
    ("sasl.login.refresh.min.period.seconds", TOKEN_TIMES),
    ("sasl.login.refresh.window.factor", TOKEN_TIMES),
    ("sasl.login.refresh.window.jitter", TOKEN_TIMES),
    ("sasl.oauthbearer.token.endpoint.url", Client),
    ("sasl.oauthbearer.client.credentials.client.id", Client),
    ("sasl.oauthbearer.client.credentials.client.secret", Client),
    ("sasl.oauthbearer.scope", Client),
    ("sasl.oauthbearer.assertion.algorithm", ASSERTION),
    ("sasl.oauthbearer.assertion.claim.aud", ASSERTION),
    ("sasl.oauthbearer.assertion.claim.exp.seconds", ASSERTION),
    ("sasl.oauthbearer.assertion.claim.iss", ASSERTION),
    ("sasl.oauthbearer.assertion.claim.jti.include", ASSERTION),
    ("sasl.oauthbearer.assertion.claim.nbf.seconds", ASSERTION),
    ("sasl.oauthbearer.assertion.claim.sub", ASSERTION),
    ("sasl.oauthbearer.assertion.file", ASSERTION),
    ("sasl.oauthbearer.assertion.private.key.file", ASSERTION),
    ("sasl.oauthbearer.assertion.private.key.passphrase", ASSERTION),
    ("sasl.oauthbearer.assertion.template.file", ASSERTION),
    ("sasl.oauthbearer.jwt.retriever.class", ASSERTION),
    ("sasl.oauthbearer.jwt.validator.class", TOKEN_CHECKS),
    ("sasl.oauthbearer.clock.skew.seconds", TOKEN_CHECKS),
    ("sasl.oauthbearer.expected.audience", TOKEN_CHECKS),
    ("sasl.oauthbearer.expected.issuer", TOKEN_CHECKS),
    ("sasl.oauthbearer.jwks.endpoint.refresh.ms", TOKEN_CHECKS),
    ("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", TOKEN_CHECKS),
    ("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", TOKEN_CHECKS),
    ("sasl.oauthbearer.jwks.endpoint.url", TOKEN_CHECKS),
    ("sasl.oauthbearer.scope.claim.name", TOKEN_CHECKS),
    ("sasl.oauthbearer.sub.claim.name", TOKEN_CHECKS),
    ("sasl.oauthbearer.header.urlencode", Client),
    ("bootstrap.controllers", Unsupported("brokers are asked, not controllers: give bootstrap.servers")),
    ("metric.reporters", METRICS),
    ("metrics.num.samples", METRICS),
    ("metrics.recording.level", METRICS),
    ("metrics.sample.window.ms", METRICS),
    ("auto.include.jmx.reporter", METRICS),
    ("enable.metrics.push", METRICS),
    ("config.providers", Client),
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
    ("max.poll.records", Unsupported("records are handed over as they come: see fetch.buffer.bytes and run_batches()")),
    ("partition.assignment.strategy", Consumer),
    ("auto.offset.reset", Consumer),
    ("auto.commit.interval.ms", Consumer),
    ("enable.auto.commit", Consumer),
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

/// Whether a property's value is never shown. A name that sounds secret is, whether it is known or not.
pub(crate) fn is_secret(name: &str) -> bool {
    const PARTS: [&str; 9] = [
        "password",
        "passphrase",
        "secret",
        "token",
        "jaas",
        "keystore.key",
        "key.pem",
        "credential",
        "oauthbearer.config",
    ];
    let name = name.to_ascii_lowercase().replace('_', ".");
    // Where tokens come from is not.
    let known = ["sasl.oauthbearer.token.endpoint.url", "sasl.oauthbearer.client.credentials.client.id"];
    let public = known.contains(&name.as_str()) || name == "dangerously.allow.cleartext.credentials";
    !public && PARTS.iter().any(|part| name.contains(part))
}

/// Java's config providers that are built in here, under the names that their documentation gives them.
const PROVIDERS: [(&str, &str); 3] =
    [("env", "EnvVarConfigProvider"), ("file", "FileConfigProvider"), ("directory", "DirectoryConfigProvider")];
const PROVIDER_NAMES: &str = "env, file and directory, which are always there, with Kafka's class of each";

/// `config.providers`: accepted, for placeholders are resolved anyway.
pub(crate) fn providers(raw: &Raw<'_>) -> Result<(), ConfigError> {
    let known = |name: &String| PROVIDERS.iter().any(|known| known.0 == name);
    if raw.list().iter().all(known) { Ok(()) } else { Err(raw.expected(PROVIDER_NAMES)) }
}

/// `config.providers.NAME.class`, and anything else of the kind.
pub(crate) fn provider_class(raw: &Raw<'_>) -> Result<(), ConfigError> {
    let fits = PROVIDERS.iter().any(|(name, class)| {
        raw.name == format!("config.providers.{name}.class")
            && raw.text() == format!("org.apache.kafka.common.config.provider.{class}")
    });
    if fits { Ok(()) } else { Err(raw.expected(PROVIDER_NAMES)) }
}
