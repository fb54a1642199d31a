//! `--config-file FILE` and `--config key=value`: each property goes where it belongs, to the client or to what is made on it.
//! Those of the file first, then those of the command line; the options that have names of their own go over both.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use indelible::{
    AdminError, Client, ClientBuilder, ClientConfig, ConfigError, ConsumerBuilder, MetadataError, ProducerBuilder,
    Properties, TopicDescription,
};

use crate::args::{ClusterOptions, PropertyOptions};
use crate::failure::Failure;
use crate::time::Stopwatch;

/// How long a topic that the brokers do not know is asked for again.
const TOPIC_PATIENCE: Duration = Duration::from_secs(2);
/// The pause between.
const TOPIC_PAUSE: Duration = Duration::from_millis(200);

/// Properties that are none of the client's: the producer or the consumer says which of them it knows.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    /// Those of the file, the client's among them.
    file: Properties,
    /// Those of the command line.
    given: Vec<(String, String)>,
}

impl Rest {
    /// The value given last for this property, with its placeholders resolved.
    pub(crate) fn get(&self, name: &str) -> Result<Option<String>, Failure> {
        let value = match self.given.iter().rfind(|property| property.0 == name) {
            Some((name, value)) => Properties::resolve_value(name, value).map(Some),
            None => self.file.resolve(name),
        };
        let value = value.map_err(|error| Failure::usage(format!("{error}; {HELP}")))?;
        Ok(value.map(|value| value.expose().trim().to_owned()))
    }

    /// Whether a property is given, and is this word, in whatever case.
    pub(crate) fn is(&self, name: &str, word: &str) -> Result<bool, Failure> {
        Ok(self.get(name)?.is_some_and(|value| value.eq_ignore_ascii_case(word)))
    }

    /// `group.id`.
    pub(crate) fn group(&self) -> Result<Option<String>, Failure> {
        self.get(GROUP)
    }

    /// Sets them on a producer.
    pub(crate) fn producer(&self, builder: ProducerBuilder) -> ProducerBuilder {
        let given = self.given.iter();
        given.fold(builder.properties(&self.file), |builder, (name, value)| builder.property(name, value))
    }

    /// Sets them on a consumer.
    pub(crate) fn consumer(&self, builder: ConsumerBuilder) -> ConsumerBuilder {
        let given = self.given.iter();
        given.fold(builder.properties(&self.file), |builder, (name, value)| builder.property(name, value))
    }

    /// Sets those of the command line on the client, which refuses them; a file may be for others as well.
    pub(crate) fn client(&self, builder: ClientBuilder) -> ClientBuilder {
        self.given.iter().fold(builder, |builder, (name, value)| builder.property(name, value))
    }
}

const GROUP: &str = "group.id";
const HELP: &str = "see indelible --help";
/// Kafka's name of the brokers to start from, and librdkafka's.
const BROKERS: [&str; 2] = ["bootstrap.servers", "metadata.broker.list"];

/// A client with its properties set, and the properties that are not its own.
pub(crate) fn client(options: &ClusterOptions) -> Result<(ClientBuilder, Rest), Failure> {
    client_at(&options.bootstrap, &options.properties, None)
}

/// As [`client`], with brokers to start from where nothing names them.
pub(crate) fn client_at(
    bootstrap: &[String],
    options: &PropertyOptions,
    otherwise: Option<&str>,
) -> Result<(ClientBuilder, Rest), Failure> {
    let file = options.config_file.as_deref().map_or(Ok(Properties::default()), read)?;
    let mut named = BROKERS.iter().any(|name| file.get(name).is_some());
    let mut builder = Client::from_properties(&file);
    let mut given = Vec::new();
    for property in &options.config {
        let Some((name, value)) = property.split_once('=') else {
            // What is no name may be a value alone, and that a secret one.
            let known = !matches!(ClientConfig::default().set(property, ""), Err(ConfigError::Unknown { .. }));
            let shown = if known { format!(" {property:?}") } else { String::new() };
            return Err(Failure::usage(format!("--config{shown} has no '=': give it as name=value")));
        };
        let name = name.trim();
        // A trial run on settings that nobody uses tells whose property it is.
        match ClientConfig::default().set(name, value) {
            Ok(()) => {
                named |= BROKERS.contains(&name);
                builder = builder.property(name, value);
            }
            Err(ConfigError::Elsewhere { .. }) => {
                given.push((name.to_owned(), value.to_owned()));
            }
            Err(error) => return Err(Failure::usage(error)),
        }
    }
    match (bootstrap, otherwise) {
        ([], _) if named => {}
        ([], Some(otherwise)) => builder = builder.property("bootstrap.servers", otherwise),
        ([], None) => {
            return Err(Failure::usage(format!(
                "--bootstrap is missing: give it as host:port, or bootstrap.servers in a --config-file; {HELP}"
            )));
        }
        (bootstrap, _) => builder = builder.property("bootstrap.servers", &bootstrap.join(",")),
    }
    Ok((builder, Rest { file, given }))
}

fn read(path: &Path) -> Result<Properties, Failure> {
    // Opened once: what comes out of a pipe comes only once.
    Properties::read(path).map_err(|error| {
        // What cannot be read at all is another kind of failure than what stands in it.
        let is_pipe = std::fs::metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir());
        match (!is_pipe).then(|| File::open(path)) {
            Some(Err(error)) => Failure::local(format!("--config-file {} cannot be read: {error}", path.display())),
            Some(Ok(_)) | None => Failure::usage(format!("{error}; {HELP}")),
        }
    })
}

/// The topics as the cluster knows them, in their order. One just made may take a moment to reach every broker.
pub(crate) async fn describe(
    client: &Client,
    names: impl IntoIterator<Item = &str> + Clone,
) -> Result<Vec<TopicDescription>, Failure> {
    let clock = Stopwatch::start();
    loop {
        match client.admin().describe_topics(names.clone()).await {
            Ok(topics) => return Ok(topics),
            Err(AdminError::Metadata(MetadataError::UnknownTopic { .. })) if clock.elapsed() < TOPIC_PATIENCE => {
                tokio::time::sleep(TOPIC_PAUSE).await;
            }
            Err(error) => return Err(Failure::cluster(error)),
        }
    }
}

/// Starts the client.
pub(crate) async fn connect(builder: ClientBuilder) -> Result<Client, Failure> {
    builder.build().await.map_err(|error| Failure::client(&error))
}
