//! Parsers for the text of a property: one for each kind of value, all with the same manner of error.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::ConfigError;

/// A property as it was given, for error texts.
#[derive(Clone, Copy)]
pub(crate) struct Raw<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Its text, with what its placeholders stand for.
    pub(crate) value: &'a str,
    /// What error texts may show of it: the text as it was given, before anything was put in; nothing of a secret.
    pub(crate) shown: &'a str,
}

/// What is shown of a secret.
pub(crate) const HIDDEN: &str = "***";

impl<'a> Raw<'a> {
    /// The error that says what the value should have been.
    pub(crate) fn expected(&self, expected: impl Into<String>) -> ConfigError {
        ConfigError::Value { name: self.name.to_owned(), value: self.shown.to_owned(), expected: expected.into() }
    }

    /// The text without blanks around it.
    pub(crate) fn text(&self) -> &'a str {
        self.value.trim()
    }

    /// A whole number in `range`; `unit` for the error text: "milliseconds", "bytes", "a count of retries".
    pub(crate) fn number<T>(&self, unit: &str, range: RangeInclusive<T>) -> Result<T, ConfigError>
    where
        T: std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        match self.text().parse::<T>() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(self.expected(format!("{unit}, a whole number from {} to {}", range.start(), range.end()))),
        }
    }

    /// Milliseconds in `range`.
    pub(crate) fn millis(&self, range: RangeInclusive<u64>) -> Result<Duration, ConfigError> {
        self.number("milliseconds", range).map(Duration::from_millis)
    }

    /// Bytes in `range`.
    pub(crate) fn bytes(&self, range: RangeInclusive<usize>) -> Result<usize, ConfigError> {
        self.number("bytes", range)
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self) -> Result<bool, ConfigError> {
        match self.text().to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.expected("true or false")),
        }
    }

    /// One of some words, whatever their case.
    pub(crate) fn one_of<T: Clone>(&self, words: &[(&str, T)]) -> Result<T, ConfigError> {
        let text = self.text();
        match words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
            Some((_, value)) => Ok(value.clone()),
            None => {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                Err(self.expected(format!("one of {}", words.join(", "))))
            }
        }
    }

    /// A list separated by commas, without blanks and empty parts.
    pub(crate) fn list(&self) -> Vec<String> {
        self.value.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    /// A text that must not be empty.
    pub(crate) fn non_empty(&self) -> Result<String, ConfigError> {
        match self.text() {
            "" => Err(self.expected("a text that is not empty")),
            text => Ok(text.to_owned()),
        }
    }
}

/// The longest duration any setting takes: 24 days, as Java's int of milliseconds.
pub(crate) const MAX_MILLIS: u64 = i32::MAX as u64;
