//! What the readers of texts promise, whatever the text: for the fuzz target, and for a few texts in a test.

use super::jaas::Jaas;
use super::java_properties::parse;
use super::placeholder::{Source, resolve_with};
use super::{ClientConfig, Properties, Secret};

/// Reads `text` as everything that a configuration may hold, and panics when that breaks a promise.
pub(crate) fn read_foreign(text: &str) {
    properties(text);
    jaas(text);
    placeholders(text);
}

fn properties(text: &str) {
    let Ok(parsed) = parse(text) else { return };
    // What was read is read again from a file that is written from it.
    let mut written = String::new();
    for property in &parsed {
        escape(&property.name, &mut written);
        written.push('=');
        escape(&property.value, &mut written);
        written.push('\n');
    }
    let again = parse(&written).unwrap_or_default();
    let same = parsed.iter().zip(&again).all(|(one, other)| one.name == other.name && one.value == other.value);
    assert!(same && parsed.len() == again.len(), "{written:?} is not what it was written from");
    let Ok(properties) = Properties::parse(text) else { return };
    for (name, value) in properties.iter().filter(|(_, value)| !value.contains("${")).take(20) {
        // Files are named, not read.
        let _ = ClientConfig::default().set(name, value);
    }
}

/// Everything as \uXXXX, which needs no rules.
fn escape(text: &str, written: &mut String) {
    for unit in text.encode_utf16() {
        written.push_str(&format!("\\u{unit:04x}"));
    }
}

fn jaas(text: &str) {
    let _ = Jaas::parse(text);
    let quoted: String = text.chars().flat_map(quoted).collect();
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule required username=u password=";
    let parsed = Jaas::parse(&format!("{module}\"{quoted}\";"));
    let password = parsed.as_ref().ok().and_then(|jaas| jaas.get("password"));
    assert_eq!(password.map(Secret::expose), Some(text), "{parsed:?}");
}

fn quoted(letter: char) -> impl Iterator<Item = char> {
    let text = match letter {
        '"' | '\\' => format!("\\{letter}"),
        '\n' => "\\n".to_owned(),
        '\r' => "\\015".to_owned(),
        other => other.to_string(),
    };
    text.chars().collect::<Vec<_>>().into_iter()
}

fn placeholders(text: &str) {
    let mut asked = 0;
    let resolved = resolve_with(text, |source| {
        asked += 1;
        let (Source::Env(part) | Source::File(part, _) | Source::Directory(part, _)) = source;
        assert!(!part.is_empty() && text.contains(part), "{part:?} is not in {text:?}");
        Ok(Secret::new(""))
    });
    if let Ok(resolved) = resolved {
        assert_eq!(resolved.len() == text.len(), asked == 0, "{text:?} became {:?}", *resolved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_are_kept() {
        for text in [
            "",
            "a=b",
            "a=\\u00e4\\\n b\r\nc",
            "sasl.password=${env:A}\"'\\",
            "😀\u{7f}\0=\n",
            "${file:/a:b}${env:C}${",
            "ssl.protocol=x",
        ] {
            read_foreign(text);
        }
    }
}
