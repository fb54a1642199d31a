//! Settings with their units and defaults, under Kafka's Java property names.

mod client;
mod consumer;
mod handling;
mod names;
mod parse;
mod producer;
mod sasl;
mod secret;
mod security;
mod spool;
mod tls;

use std::fmt;

pub use client::*;
pub use consumer::*;
pub use handling::*;
pub use producer::*;
pub use sasl::*;
pub use secret::*;
pub use security::*;
pub use spool::*;
pub use tls::*;

pub(crate) use parse::*;

use names::{JAVA_NAMES, Place};

/// A property that cannot be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Neither Kafka's clients nor this one have a property of this name.
    #[error("unknown property {name:?}{}", did_you_mean(.nearest))]
    Unknown {
        /// The name given.
        name: String,
        /// The most similar name there is.
        nearest: Option<&'static str>,
    },
    /// The property exists, and belongs elsewhere.
    #[error("property {name:?} belongs to the {place}: set it there")]
    Elsewhere {
        /// The name given.
        name: String,
        /// `client`, `producer` or `consumer`.
        place: &'static str,
    },
    /// Kafka's Java clients have the property, this client does not.
    #[error("property {name:?} is not supported: {why}")]
    NotSupported {
        /// The name given.
        name: String,
        /// Why, and what to do instead.
        why: &'static str,
    },
    /// The value does not fit.
    #[error("property {name:?} cannot be {value:?}: expected {expected}")]
    Value {
        /// The property.
        name: String,
        /// The value given.
        value: String,
        /// What it takes, with unit and range.
        expected: String,
    },
    /// A file, or a text given in its place, that a setting needs.
    #[error("{setting}: {why}")]
    Material {
        /// The property, and the path when it is a file.
        setting: String,
        /// What is wrong with it, without any of its content.
        why: String,
    },
    /// Two settings contradict each other.
    #[error("{0}")]
    Conflict(String),
}

fn did_you_mean(nearest: &Option<&'static str>) -> String {
    nearest.map_or(String::new(), |name| format!(": did you mean {name:?}?"))
}

/// One line of a configuration's table: a property's name, and how its text is taken over.
pub(crate) struct Setting<C: 'static> {
    /// Kafka's name of it, or ours where Kafka has none.
    pub(crate) name: &'static str,
    /// Parses the value (see [`parse`]) and sets it.
    pub(crate) set: fn(&mut C, &Raw<'_>) -> Result<(), ConfigError>,
}

/// A configuration that can be filled by property names.
pub(crate) trait Settings: Sized + 'static {
    /// `client`, `producer` or `consumer`.
    const PLACE: &'static str;
    /// All its properties.
    const TABLE: &'static [Setting<Self>];

    /// Sets the property `name` from its text.
    ///
    /// # Errors
    /// [`ConfigError`]: no such property (with the nearest name), one of another place, one that is not supported, or a
    /// value that does not fit.
    fn set_property(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        match Self::TABLE.iter().find(|setting| setting.name == name) {
            Some(setting) => (setting.set)(self, &Raw { name, value }),
            None => Err(refuse::<Self>(name)),
        }
    }
}

/// Why `name` is none of `C`'s properties.
fn refuse<C: Settings>(name: &str) -> ConfigError {
    let named = name.to_owned();
    match JAVA_NAMES.iter().find(|java| java.0 == name) {
        Some((_, Place::Unsupported(why))) => ConfigError::NotSupported { name: named, why },
        Some((_, place)) if place.name() != C::PLACE => ConfigError::Elsewhere { name: named, place: place.name() },
        Some(_) => ConfigError::NotSupported { name: named, why: "this version does not have it yet" },
        None => {
            let known = JAVA_NAMES.iter().map(|java| java.0).chain(C::TABLE.iter().map(|setting| setting.name));
            ConfigError::Unknown { name: named, nearest: nearest(name, known) }
        }
    }
}

/// The name in `known` with the fewest edits from `name`, if any is near enough to be meant.
fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    // People write underscores and capitals; those are no edits.
    let asked = name.to_ascii_lowercase().replace(['_', '-'], ".");
    // The longest name has some forty letters: what is longer by far is no slip, and must not cost quadratic time.
    if asked.len() > 80 {
        return None;
    }
    known
        .map(|known| (edits(&asked, known), known))
        .min()
        .filter(|(edits, known)| *edits <= 2 + known.len() / 6)
        .map(|(_, known)| known)
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

impl fmt::Display for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> Result<(), ConfigError> {
        ClientConfig::default().set_property(name, value)
    }

    #[test]
    fn says_which_name_was_meant() {
        for (given, meant) in [
            ("request.timeout", "request.timeout.ms"),
            ("request_timeout_ms", "request.timeout.ms"),
            ("bootstrap.server", "bootstrap.servers"),
            ("linger", "linger.ms"),
        ] {
            match set(given, "1") {
                Err(ConfigError::Unknown { nearest, .. }) => assert_eq!(nearest, Some(meant), "{given}"),
                other => panic!("{given}: {other:?}"),
            }
        }
        assert!(matches!(set("colour", "red"), Err(ConfigError::Unknown { nearest: None, .. })));
    }

    #[test]
    fn sends_a_property_to_the_place_it_belongs_to_and_says_why_others_are_missing() {
        assert!(matches!(set("linger.ms", "5"), Err(ConfigError::Elsewhere { place: "producer", .. })));
        assert!(matches!(set("group.id", "g"), Err(ConfigError::Elsewhere { place: "consumer", .. })));
        assert!(matches!(set("metric.reporters", "x"), Err(ConfigError::NotSupported { .. })));
    }

    #[test]
    fn a_bad_value_is_answered_with_unit_and_range() {
        let error = set("request.timeout.ms", "30s").unwrap_err().to_string();
        assert!(error.contains("\"30s\"") && error.contains("milliseconds") && error.contains("from 1 to"), "{error}");
        assert!(set("request.timeout.ms", "0").is_err());
        assert!(set("request.timeout.ms", "1").is_ok());
    }

    #[test]
    fn every_property_of_the_client_is_known_by_java_or_ours() {
        for setting in ClientConfig::TABLE {
            let java = JAVA_NAMES.iter().find(|java| java.0 == setting.name);
            assert!(java.is_none_or(|java| matches!(java.1, Place::Client)), "{}", setting.name);
        }
        for (name, place) in JAVA_NAMES {
            if matches!(place, Place::Client) {
                assert!(ClientConfig::TABLE.iter().any(|setting| setting.name == *name), "{name} has no setter");
            }
        }
    }
}
