//! The client: where an application starts.

use std::sync::Arc;
use std::time::Duration;

use crate::admin::Admin;
use crate::config::{ClientConfig, ConfigError, Properties, SaslConfig, Settings, TlsConfig};
use crate::error::ClientError;
use crate::io::cluster::Cluster;
use crate::io::connect::Secured;
use crate::io::thread::IoThread;
use crate::metrics::Metrics;

/// A handle on a cluster: one I/O thread, one view of the cluster, connections shared by all producers and consumers made
/// from it. Cheap to clone; everything ends when the last clone and all that was made from it are dropped.
///
/// Its futures need no particular runtime.
#[derive(Clone, Debug)]
pub struct Client {
    cluster: Cluster,
}

/// Settings of a client to be built. See [`ClientConfig`] for what each costs.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before build()"]
pub struct ClientBuilder {
    config: ClientConfig,
    /// The first property that did not fit, told at the end so that calls can be chained.
    refused: Option<ConfigError>,
}

impl Client {
    /// Starts from the addresses `host:port` of one or more brokers.
    pub fn builder(bootstrap_servers: impl IntoIterator<Item = impl Into<String>>) -> ClientBuilder {
        let bootstrap_servers = bootstrap_servers.into_iter().map(Into::into).collect();
        ClientBuilder { config: ClientConfig { bootstrap_servers, ..ClientConfig::default() }, refused: None }
    }

    /// Starts from a file of properties alone, `bootstrap.servers` among them: see [`ClientBuilder::properties`].
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use indelible::{Client, Properties};
    ///
    /// let properties = Properties::read("client.properties")?;
    /// let client = Client::from_properties(&properties).build().await?;
    /// let producer = client.producer().properties(&properties).build().await?;
    /// # Ok(()) }
    /// ```
    pub fn from_properties(properties: &Properties) -> ClientBuilder {
        Client::builder(std::iter::empty::<String>()).properties(properties)
    }

    /// Creates, deletes and describes topics.
    pub fn admin(&self) -> Admin {
        Admin::new(self.cluster.clone())
    }

    /// The figures of this client now.
    pub fn metrics(&self) -> Metrics {
        self.cluster.counters().snapshot()
    }

    /// The cluster's id, once a broker has told it.
    pub fn cluster_id(&self) -> Option<Arc<str>> {
        self.cluster.view().cluster_id.clone()
    }

    /// The settings this client was built with.
    pub fn config(&self) -> &ClientConfig {
        self.cluster.config()
    }

    /// What producers and consumers are made on.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }
}

impl ClientBuilder {
    /// `client.id`: what the brokers call this client. Default `indelible`.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.config.client_id = id.into();
        self
    }

    /// `client.rack`: where this client runs. Default none.
    pub fn rack(mut self, rack: impl Into<String>) -> Self {
        self.config.client_rack = Some(rack.into());
        self
    }

    /// `request.timeout.ms`: how long a request may stay unanswered. Default 30 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.config.request_timeout = timeout;
        self
    }

    /// `default.api.timeout.ms`: how long an operation tries in all. Default 60 s.
    pub fn api_timeout(mut self, timeout: Duration) -> Self {
        self.config.default_api_timeout = timeout;
        self
    }

    /// `socket.connection.setup.timeout.ms`: how long one address may take to connect. Default 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connection_setup_timeout = timeout;
        self
    }

    /// `metadata.max.age.ms`: when metadata is asked for again. Default 5 min.
    pub fn metadata_max_age(mut self, age: Duration) -> Self {
        self.config.metadata_max_age = age;
        self
    }

    /// Speaks TLS. Together with [`ClientBuilder::sasl`] this is `SASL_SSL`.
    pub fn tls(mut self, tls: TlsConfig) -> Self {
        self.config.tls = Some(tls);
        self
    }

    /// Says who this client is. Without [`ClientBuilder::tls`] this is `SASL_PLAINTEXT`.
    pub fn sasl(mut self, sasl: SaslConfig) -> Self {
        self.config.sasl = Some(sasl);
        self
    }

    /// Sets a property by its name in Kafka's Java client, ours or librdkafka's, such as `reconnect.backoff.ms`. What does
    /// not fit is told by the build. Placeholders in the value are resolved at once, and block on the disk:
    /// `${env:NAME}`, `${file:PATH:KEY}` for a property of another file, `${directory:DIRECTORY:FILE}` for the whole of one.
    /// As in Java, this happens before `sasl.jaas.config` is read: a password with quotes or backslashes in it is better
    /// given as `sasl.username` and `sasl.password`, which take it as it is.
    ///
    /// `security.protocol` decides whether `ssl.*` and `sasl.*` are used; those that would not be are an error, as is a
    /// property beside [`ClientBuilder::tls`] or [`ClientBuilder::sasl`] for the same purpose.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        if let Err(error) = self.config.set_property(name, value) {
            self.refused.get_or_insert(error);
        }
        self
    }

    /// Sets those of the properties that are a client's, as [`ClientBuilder::property`] does one after another: what was
    /// set before gives way to them, `bootstrap.servers` as well. Those of producers and consumers are left to them. What
    /// does not fit is told by the build, with file and line.
    pub fn properties(mut self, properties: &Properties) -> Self {
        if let Err(error) = properties.apply(&mut self.config) {
            self.refused.get_or_insert(error);
        }
        self
    }

    /// Starts the client and waits until a broker has answered. Each address is tried once.
    ///
    /// # Errors
    /// [`ClientError::Config`] for a setting that does not fit; [`ClientError::NoBrokerReachable`], within
    /// `default.api.timeout.ms`, with every address and why it did not answer: refused, a TLS port, not Kafka, silent.
    ///
    /// # Cancel safety
    /// Dropping the future drops the client.
    pub async fn build(self) -> Result<Client, ClientError> {
        let client = self.build_lazy()?;
        let cluster = client.cluster();
        let deadline = cluster.thread().deadline(cluster.config().default_api_timeout);
        cluster.first_contact(deadline).await.map_err(ClientError::NoBrokerReachable)?;
        Ok(client)
    }

    /// Starts the client without waiting for a broker. It tries to reach one in the background, and again until it does.
    ///
    /// # Errors
    /// [`ClientError::Config`] and [`ClientError::Thread`].
    pub fn build_lazy(self) -> Result<Client, ClientError> {
        if let Some(error) = self.refused {
            return Err(error.into());
        }
        self.config.validate()?;
        let security = Secured::load(&self.config)?;
        let thread = IoThread::start("indelible-io").map_err(|error| ClientError::Thread(Arc::new(error)))?;
        Ok(Client { cluster: Cluster::start(self.config, security, &thread) })
    }
}
