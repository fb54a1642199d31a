//! `--config key=value`: each property goes where it belongs, to the client or to what is made on it.

use std::time::Duration;

use indelible::{AdminError, Client, ClientBuilder, ClientConfig, ConfigError, MetadataError, TopicDescription};

use crate::args::ClusterOptions;
use crate::failure::Failure;
use crate::time::Stopwatch;

/// How long a topic that the brokers do not know is asked for again.
const TOPIC_PATIENCE: Duration = Duration::from_secs(2);
/// The pause between.
const TOPIC_PAUSE: Duration = Duration::from_millis(200);

/// Properties that are none of the client's: the producer or the consumer says which of them it knows.
#[derive(Debug, Default)]
pub(crate) struct Rest(Vec<(String, String)>);

impl Rest {
    /// The value given last for this property.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rfind(|property| property.0 == name).map(|property| property.1.trim())
    }

    /// Sets them one after another.
    pub(crate) fn apply<B>(&self, builder: B, property: impl Fn(B, &str, &str) -> B) -> B {
        self.0.iter().fold(builder, |builder, (name, value)| property(builder, name, value))
    }
}

/// A client with its properties set, and the properties that are not its own.
pub(crate) fn client(options: &ClusterOptions) -> Result<(ClientBuilder, Rest), Failure> {
    let mut builder = Client::builder(options.bootstrap.iter());
    let mut rest = Rest::default();
    for property in &options.config {
        let Some((name, value)) = property.split_once('=') else {
            return Err(Failure::usage(format!("--config {property:?} has no '=': give it as name=value")));
        };
        let name = name.trim();
        // A trial run on settings that nobody uses tells whose property it is.
        match ClientConfig::default().set(name, value) {
            Ok(()) => builder = builder.property(name, value),
            Err(ConfigError::Elsewhere { .. } | ConfigError::Unknown { .. }) => {
                rest.0.push((name.to_owned(), value.to_owned()));
            }
            Err(error) => return Err(Failure::usage(error)),
        }
    }
    Ok((builder, rest))
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
