//! A set of properties, from a file such as Java's clients are given.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::java_properties::{self, Parsed};
use super::placeholder::{self, MOST_BYTES};
use super::{ConfigError, Secret, Settings, canonical, resolved};

/// Properties from a file in Java's format, such as the `client.properties` of Kafka's own tools, for
/// [`Client::from_properties`](crate::Client::from_properties), [`ClientBuilder::properties`](crate::ClientBuilder::properties),
/// [`ProducerBuilder::properties`](crate::ProducerBuilder::properties) and
/// [`ConsumerBuilder::properties`](crate::ConsumerBuilder::properties). Each of them takes what is its own, so that one file
/// can serve all. Names that nobody knows, and settings that are not supported, are refused by each.
///
/// As in Java, the last of several lines with the same name counts. Unlike in Java, which reads ISO 8859-1, a file is UTF-8.
/// Placeholders such as `${env:PASSWORD}` are kept as they are, and resolved when a property is set.
///
/// `Debug` prints names and lines, no values: they are overwritten when this is dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties {
    source: Option<PathBuf>,
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Eq)]
struct Entry {
    name: String,
    value: Zeroizing<String>,
    line: usize,
}

impl Properties {
    /// Reads a file of at most 1 MiB. Blocks on the disk.
    ///
    /// # Errors
    /// [`ConfigError::Material`] with the file and the reason: it cannot be read, is too large, is not UTF-8, or a line is
    /// malformed.
    pub fn read(path: impl AsRef<Path>) -> Result<Properties, ConfigError> {
        let path = path.as_ref();
        let text = placeholder::read_text(path).map_err(|error| ConfigError::Material {
            setting: path.display().to_string(),
            why: format!("the file of properties cannot be read: {error}"),
        })?;
        Properties::from_text(&text, Some(path))
    }

    /// Takes a text as a file would have it, of at most 1 MiB.
    ///
    /// # Errors
    /// [`ConfigError::Material`] with the line and what is wrong with it.
    pub fn parse(text: &str) -> Result<Properties, ConfigError> {
        Properties::from_text(text, None)
    }

    fn from_text(text: &str, source: Option<&Path>) -> Result<Properties, ConfigError> {
        let mut properties = Properties { source: source.map(Path::to_owned), entries: Vec::new() };
        if text.len() > MOST_BYTES {
            let why = format!("there are more than {MOST_BYTES} bytes");
            return Err(ConfigError::Material { setting: "properties".to_owned(), why });
        }
        let parsed = java_properties::parse(text).map_err(|malformed| ConfigError::Material {
            setting: properties.place(malformed.line),
            why: malformed.why.to_owned(),
        })?;
        let last: BTreeMap<String, usize> =
            parsed.iter().enumerate().map(|(index, parsed)| (parsed.name.clone(), index)).collect();
        let entries = parsed.into_iter().enumerate().filter(|(index, parsed)| last.get(&parsed.name) == Some(index));
        properties.entries = entries.map(|(_, Parsed { name, value, line })| Entry { name, value, line }).collect();
        Ok(properties)
    }

    /// The value of a property as the file has it, or none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.iter().find(|entry| entry.name == name).map(|entry| entry.value.as_str())
    }

    /// The value of a property with its placeholders resolved, or none. Blocks on the disk when there are some.
    ///
    /// # Errors
    /// [`ConfigError::At`] with file and line, when a variable or file cannot be read.
    pub fn resolve(&self, name: &str) -> Result<Option<Secret>, ConfigError> {
        let Some(entry) = self.entries.iter().find(|entry| entry.name == name) else { return Ok(None) };
        let at = |error| ConfigError::At { place: self.place(entry.line), error: Box::new(error) };
        Properties::resolve_value(name, &entry.value).map(Some).map_err(at)
    }

    /// As [`Properties::resolve`], for a value of the property `name` that was given elsewhere.
    ///
    /// # Errors
    /// [`ConfigError::Material`] when a variable or file cannot be read.
    pub fn resolve_value(name: &str, value: &str) -> Result<Secret, ConfigError> {
        resolved(name, value).map(|value| Secret::new(value.as_str()))
    }

    /// All names and values, in the order of the file. Values may be secret.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|entry| (entry.name.as_str(), entry.value.as_str()))
    }

    /// Sets those that are `config`'s, and looks at the names of all others.
    ///
    /// # Errors
    /// [`ConfigError::At`] with file and line.
    pub(crate) fn apply<C: Settings>(&self, config: &mut C) -> Result<(), ConfigError> {
        let mut known: BTreeMap<&str, &Entry> = BTreeMap::new();
        for entry in &self.entries {
            let at = |error| ConfigError::At { place: self.place(entry.line), error: Box::new(error) };
            // Two names of the same setting: neither is ignored in silence.
            if let Some(other) = known.insert(canonical(&entry.name), entry) {
                return Err(at(ConfigError::Conflict(format!(
                    "properties {:?} (line {}) and {:?} are the same setting: give one of them",
                    other.name, other.line, entry.name
                ))));
            }
            match config.set_property(&entry.name, &entry.value) {
                Ok(()) | Err(ConfigError::Elsewhere { .. }) => {}
                Err(error) => return Err(at(error)),
            }
        }
        Ok(())
    }

    fn place(&self, line: usize) -> String {
        match &self.source {
            Some(path) => format!("{}:{line}", path.display()),
            None => format!("line {line}"),
        }
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.entries.iter().map(|entry| (&entry.name, format_args!("line {}", entry.line).to_string()));
        f.debug_map().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ClientConfig, ConsumerConfig, ProducerConfig};
    use super::*;

    const FILE: &str = "bootstrap.servers=k:1\nlinger.ms=7\nauto.offset.reset=latest\nclient.id=a\nclient.id=b\n";

    #[test]
    fn each_place_takes_its_own_and_the_last_line_counts() {
        let properties = Properties::parse(FILE).unwrap();
        let mut client = ClientConfig::default();
        let mut producer = ProducerConfig::default();
        let mut consumer = ConsumerConfig::default();
        properties.apply(&mut client).unwrap();
        properties.apply(&mut producer).unwrap();
        properties.apply(&mut consumer).unwrap();
        assert_eq!((client.bootstrap_servers, client.client_id.as_str()), (vec!["k:1".to_owned()], "b"));
        assert_eq!(producer.linger.as_millis(), 7);
        assert_eq!(consumer.offset_reset, crate::OffsetReset::Latest);
        assert_eq!(properties.get("client.id"), Some("b"));
        assert_eq!(properties.iter().count(), 4);
    }

    #[test]
    fn every_place_refuses_what_nobody_knows_with_its_line() {
        for (text, line, why) in [
            ("a=1\n", "line 1", "unknown property \"a\""),
            ("#\nlinger_ms=1", "line 2", "did you mean \"linger.ms\""),
            ("key.serializer=x", "line 1", "not supported"),
            ("sasl.pasword=hunter2", "line 1", "did you mean \"sasl.password\""),
        ] {
            let properties = Properties::parse(text).unwrap();
            for error in [
                properties.apply(&mut ClientConfig::default()),
                properties.apply(&mut ProducerConfig::default()),
                properties.apply(&mut ConsumerConfig::default()),
            ] {
                let error = error.unwrap_err().to_string();
                assert!(error.starts_with(line) && error.contains(why) && !error.contains("hunter2"), "{error}");
            }
        }
        let properties = Properties::parse("linger.ms=soon").unwrap();
        properties.apply(&mut ClientConfig::default()).unwrap();
        assert!(properties.apply(&mut ProducerConfig::default()).unwrap_err().to_string().contains("line 1: property"));
    }

    #[test]
    fn two_names_of_one_setting_are_a_conflict() {
        let properties = Properties::parse("ssl.ca.location=/a\nssl.truststore.location=/b").unwrap();
        let error = properties.apply(&mut ClientConfig::default()).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("line 1") && error.contains("ssl.ca.location"), "{error}");
    }

    #[test]
    fn debug_prints_no_value() {
        let properties = Properties::parse("sasl.password=hunter2\nclient.id=hunter3").unwrap();
        let printed = format!("{properties:?}");
        assert!(printed.contains("sasl.password") && !printed.contains("hunter"), "{printed}");
    }

    #[test]
    fn what_is_too_large_or_malformed_is_told_with_its_place() {
        let error = Properties::parse(&"#".repeat(MOST_BYTES + 1)).unwrap_err().to_string();
        assert!(error.contains("bytes"), "{error}");
        let path = std::env::temp_dir().join(format!("indelible-properties-{}", std::process::id()));
        std::fs::write(&path, "a=1\nsasl.password=hunter2\\u1\n").unwrap();
        let error = Properties::read(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}:2: ", path.display())) && !error.contains("hunter"), "{error}");
        std::fs::remove_file(&path).unwrap();
        let error = Properties::read(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: ", path.display())), "{error}");
    }
}
