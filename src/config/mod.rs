//! Settings with their units and defaults, under Kafka's Java property names.

mod client;
mod consumer;
#[cfg(any(test, fuzzing))]
mod foreign;
mod handling;
mod jaas;
mod java_properties;
mod librdkafka;
mod names;
mod parse;
mod placeholder;
mod producer;
mod properties;
mod sasl;
mod secret;
mod security;
mod spool;
mod tls;

pub use client::*;
pub use consumer::*;
pub use handling::*;
pub use producer::*;
pub use properties::*;
pub use sasl::*;
pub use secret::*;
pub use security::*;
pub use spool::*;
pub use tls::*;

#[cfg(fuzzing)]
pub(crate) use foreign::read_foreign as read_foreign_text;
pub(crate) use parse::*;

use librdkafka::Meaning;
use names::{JAVA_NAMES, Place, is_secret, provider_class};
use zeroize::Zeroizing;

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
        /// The value given, before placeholders were resolved; `***` for a secret.
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
    /// What is wrong with a line of [`Properties`].
    #[error("{place}: {error}")]
    At {
        /// The file, and the line in it.
        place: String,
        /// What is wrong there.
        error: Box<ConfigError>,
    },
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
    const TABLES: &'static [&'static [Setting<Self>]];

    /// Its property of this name.
    fn setting(name: &str) -> Option<&'static Setting<Self>> {
        Self::TABLES.iter().copied().flatten().find(|setting| setting.name == name)
    }

    /// Sets the property `name` from its text, in which placeholders are resolved: see [`Properties`].
    ///
    /// # Errors
    /// [`ConfigError`]: no such property (with the nearest name), one of another place, one that is not supported, a value
    /// that does not fit, or one that comes from a variable or file that cannot be read.
    fn set_property(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let meaning = librdkafka::meaning(name);
        let setting = Self::setting(canonical(name));
        // What is another's is left unresolved: its file may be there for others only.
        let here = setting.is_some() || place_of(name).is_some_and(|place| place.name() == Self::PLACE);
        if !here {
            return Err(refuse::<Self>(name));
        }
        let resolved = resolved(name, value)?;
        let raw = Raw { name, value: &resolved, shown: shown(name, value) };
        match (meaning, setting) {
            (Some(Meaning::Only(_, only, why)), _) if !raw.text().eq_ignore_ascii_case(only) => {
                Err(ConfigError::NotSupported { name: name.to_owned(), why })
            }
            (Some(Meaning::Only(..)), _) => Ok(()),
            (Some(Meaning::Kilobytes(_)), Some(setting)) => {
                let bytes = (raw.number("kilobytes", 1..=1u64 << 32)? << 10).to_string();
                (setting.set)(self, &Raw { value: &bytes, ..raw })
            }
            (Some(Meaning::NotZero(_)), Some(_)) if raw.text() == "0" => {
                Err(raw.expected("milliseconds, above 0: there is no waiting for ever"))
            }
            (_, Some(setting)) => (setting.set)(self, &raw),
            (_, None) if name.starts_with(PROVIDERS) => provider_class(&raw),
            (_, None) => Err(refuse::<Self>(name)),
        }
    }
}

/// The text of the property `name`, with its placeholders resolved.
fn resolved(name: &str, value: &str) -> Result<Zeroizing<String>, ConfigError> {
    placeholder::resolve(value).map_err(|why| ConfigError::Material { setting: name.to_owned(), why })
}

/// What errors may show of a property's text.
fn shown<'a>(name: &str, value: &'a str) -> &'a str {
    if is_secret(name) { HIDDEN } else { value }
}

/// What the names of config providers begin with; what follows is the user's choice.
const PROVIDERS: &str = "config.providers.";

/// The name of ours that is the same setting as `name`.
fn canonical(name: &str) -> &str {
    match librdkafka::meaning(name) {
        Some(Meaning::Same(ours) | Meaning::Kilobytes(ours) | Meaning::NotZero(ours)) => ours,
        Some(Meaning::Only(..) | Meaning::Unsupported(_)) | None => name,
    }
}

/// Where `name` belongs, if anybody knows it.
fn place_of(name: &str) -> Option<Place> {
    match librdkafka::meaning(name) {
        Some(Meaning::Only(place, ..)) => return Some(place),
        Some(Meaning::Unsupported(why)) => return Some(Place::Unsupported(why)),
        Some(_) | None => {}
    }
    let name = canonical(name);
    if ClientConfig::setting(name).is_some() || name.starts_with(PROVIDERS) {
        Some(Place::Client)
    } else if ProducerConfig::setting(name).is_some() {
        Some(Place::Producer)
    } else if ConsumerConfig::setting(name).is_some() {
        Some(Place::Consumer)
    } else {
        JAVA_NAMES.iter().find(|java| java.0 == name).map(|java| java.1)
    }
}

/// Why `name` is none of `C`'s properties.
fn refuse<C: Settings>(name: &str) -> ConfigError {
    let named = name.to_owned();
    match place_of(name) {
        Some(Place::Unsupported(why)) => ConfigError::NotSupported { name: named, why },
        Some(place) if place.name() != C::PLACE => ConfigError::Elsewhere { name: named, place: place.name() },
        Some(_) => ConfigError::NotSupported { name: named, why: "this version does not have it yet" },
        None => ConfigError::Unknown { name: named, nearest: nearest(name, all_names()) },
    }
}

/// Every name there is, some of them more than once.
fn all_names() -> impl Iterator<Item = &'static str> {
    fn own<C: Settings>() -> impl Iterator<Item = &'static str> {
        C::TABLES.iter().copied().flatten().map(|setting| setting.name)
    }
    let own = own::<ClientConfig>().chain(own::<ProducerConfig>()).chain(own::<ConsumerConfig>());
    own.chain(JAVA_NAMES.iter().map(|java| java.0)).chain(librdkafka::NAMES.iter().map(|name| name.0))
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

/// Whether any configuration has this property.
#[cfg(test)]
fn is_known(name: &str) -> bool {
    ClientConfig::setting(name).is_some()
        || ProducerConfig::setting(name).is_some()
        || ConsumerConfig::setting(name).is_some()
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
        for setting in ClientConfig::TABLES.iter().copied().flatten() {
            let java = JAVA_NAMES.iter().find(|java| java.0 == setting.name);
            assert!(java.is_none_or(|java| matches!(java.1, Place::Client)), "{}", setting.name);
        }
        for (name, place) in JAVA_NAMES {
            if matches!(place, Place::Client) {
                assert!(ClientConfig::setting(name).is_some(), "{name} has no setter");
            }
        }
    }

    #[test]
    fn secret_values_are_in_no_error() {
        const SECRET: &str = "hunter2";
        for name in all_names().filter(|name| is_secret(name)) {
            for value in [SECRET, "${hunter2:x}", "${env:}hunter2"] {
                let errors = [
                    ClientConfig::default().set(name, value).err(),
                    ProducerConfig::default().set_property(name, value).err(),
                    ConsumerConfig::default().set_property(name, value).err(),
                ];
                for error in errors.into_iter().flatten() {
                    assert!(!format!("{error} {error:?}").contains(SECRET), "{name}: {error:?}");
                }
            }
            let mut client = ClientConfig::default();
            let _ = client.set(name, SECRET);
            assert!(!format!("{client:?} {:?}", client.validate()).contains(SECRET), "{name}: {client:?}");
        }
        // And where no setter complains of the value today, none may tomorrow.
        for name in
            ["sasl.password", "sasl.jaas.config", "ssl.key.password", "ssl.key.pem", "ssl.keystore.key", "my.secret"]
        {
            assert_eq!(shown(name, SECRET), HIDDEN, "{name}");
        }
        assert_eq!(shown("sasl.username", "u"), "u");
        assert!(all_names().filter(|name| is_secret(name)).count() >= 8);
    }

    #[test]
    fn a_value_from_elsewhere_is_in_no_error() {
        let path = std::env::temp_dir().join(format!("indelible-elsewhere-{}", std::process::id()));
        std::fs::write(&path, "timeout=hunter2\nservers=hunter2\n").unwrap();
        for (name, key) in [("request.timeout.ms", "timeout"), ("bootstrap.servers", "servers")] {
            let value = format!("${{file:{}:{key}}}", path.display());
            let error = set(name, &value).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
            assert!(error.to_string().contains(&format!("{value:?}")), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        let error = set("client.id", "${env:INDELIBLE_NO_SUCH_VARIABLE}").unwrap_err().to_string();
        assert!(error.contains("client.id") && error.contains("INDELIBLE_NO_SUCH_VARIABLE is not set"), "{error}");
        // What is another's is not looked up.
        let error = set("linger.ms", "${env:INDELIBLE_NO_SUCH_VARIABLE}").unwrap_err();
        assert!(matches!(error, ConfigError::Elsewhere { place: "producer", .. }), "{error:?}");
    }

    #[test]
    fn config_providers_are_those_that_are_built_in() {
        set("config.providers", "env, file,directory").unwrap();
        set("config.providers.env.class", "org.apache.kafka.common.config.provider.EnvVarConfigProvider").unwrap();
        set("config.providers.file.class", "org.apache.kafka.common.config.provider.FileConfigProvider").unwrap();
        for (name, value) in [
            ("config.providers", "env,vault"),
            ("config.providers.vault.class", "com.example.Vault"),
            ("config.providers.env.class", "org.apache.kafka.common.config.provider.FileConfigProvider"),
            ("config.providers.secrets.class", "org.apache.kafka.common.config.provider.FileConfigProvider"),
            ("config.providers.file.param.allowed.paths", "/etc"),
        ] {
            let error = set(name, value).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("directory"), "{error}");
        }
        let error = ProducerConfig::default().set_property("config.providers.env.class", "x").unwrap_err();
        assert!(matches!(error, ConfigError::Elsewhere { place: "client", .. }), "{error:?}");
    }
}
