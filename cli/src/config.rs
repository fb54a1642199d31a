//! `--config key=value`: each property goes where it belongs, to the client or to what is made on it.

use indelible::{Client, ClientBuilder, ClientConfig, ConfigError};

use crate::args::ClusterOptions;
use crate::failure::Failure;

/// Properties that are none of the client's: the producer or the consumer says which of them it knows.
#[derive(Debug, Default)]
pub(crate) struct Rest(Vec<(String, String)>);

impl Rest {
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

/// Starts the client.
pub(crate) async fn connect(builder: ClientBuilder) -> Result<Client, Failure> {
    builder.build().await.map_err(|error| Failure::client(&error))
}
