//! Values that come from elsewhere: `${env:NAME}`, `${file:PATH:KEY}`, `${directory:DIR:FILE}`, as Java's config providers
//! are written (KIP-297, KIP-421, KIP-632, KIP-887).
//!
//! Unlike in Java, what cannot be found is an error, and a provider that is not there as well: a password must not be the
//! text that should have named it. What was put in is not looked at again.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

use super::{Properties, Secret};

/// The longest text a value may come to, and the largest file read for one.
pub(crate) const MOST_BYTES: usize = 1 << 20;
/// More in one value are a mistake; each may read a file.
const MOST_PLACEHOLDERS: usize = 64;

/// Where a part of a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source<'a> {
    /// An environment variable.
    Env(&'a str),
    /// A property in a file of properties.
    File(&'a str, &'a str),
    /// A file in a directory.
    Directory(&'a str, &'a str),
}

/// The value with all placeholders replaced. The error says which variable or file is at fault, and nothing of any content.
pub(crate) fn resolve(text: &str) -> Result<Zeroizing<String>, String> {
    resolve_with(text, look_up)
}

/// As [`resolve`], with another way to look things up.
pub(crate) fn resolve_with(
    text: &str,
    mut look_up: impl FnMut(Source<'_>) -> Result<Secret, String>,
) -> Result<Zeroizing<String>, String> {
    let mut resolved = Zeroizing::new(String::new());
    let mut rest = text;
    let mut found = 0;
    while let Some((before, behind)) = rest.split_once("${") {
        resolved.push_str(before);
        // No further than the next brace that opens: what is opened again and again must not cost quadratic time.
        let inside = behind.split(['{', '}']).next().unwrap_or_default();
        let source = match behind.get(inside.len()..).and_then(|closed| closed.strip_prefix('}')) {
            Some(after) => source(inside)?.map(|source| (source, after)),
            None => None,
        };
        match source {
            Some((source, after)) => {
                found += 1;
                if found > MOST_PLACEHOLDERS {
                    return Err(format!("there are more than {MOST_PLACEHOLDERS} placeholders"));
                }
                resolved.push_str(look_up(source)?.expose());
                rest = after;
            }
            None => {
                resolved.push_str("${");
                rest = behind;
            }
        }
        if resolved.len() > MOST_BYTES {
            return Err(too_long());
        }
    }
    resolved.push_str(rest);
    if resolved.len() > MOST_BYTES { Err(too_long()) } else { Ok(resolved) }
}

fn too_long() -> String {
    format!("the value has more than {MOST_BYTES} bytes")
}

/// What stands between `${` and `}`; `None` is a text that only looks alike.
fn source(inside: &str) -> Result<Option<Source<'_>>, String> {
    let Some((provider, rest)) = inside.split_once(':') else { return Ok(None) };
    // A path may have colons, a key hardly.
    let two = || rest.rsplit_once(':').filter(|(path, key)| !path.is_empty() && !key.is_empty());
    match provider {
        "env" if !rest.is_empty() && !rest.contains([':', '=', '\0']) => Ok(Some(Source::Env(rest))),
        "env" => Err("a placeholder of an environment variable is written ${env:NAME}".to_owned()),
        "file" => match two() {
            Some((path, key)) => Ok(Some(Source::File(path, key))),
            None => Err("a placeholder of a property in a file is written ${file:PATH:KEY}".to_owned()),
        },
        "directory" => match two() {
            Some((directory, file)) if !file.contains(['/', '\\']) => Ok(Some(Source::Directory(directory, file))),
            _ => Err("a placeholder of a file in a directory is written ${directory:DIRECTORY:FILE}".to_owned()),
        },
        _ if provider.is_empty() || provider.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_') => Ok(None),
        // Its name may be a part of a password.
        _ => Err("a placeholder names a provider that is not there: there are ${env:NAME}, ${file:PATH:KEY} and \
                  ${directory:DIRECTORY:FILE}; a value that really has such a text can come from one of them"
            .to_owned()),
    }
}

fn look_up(source: Source<'_>) -> Result<Secret, String> {
    match source {
        Source::Env(name) => Secret::from_env(name).map_err(|error| error.to_string()),
        Source::File(path, key) => {
            let properties = Properties::read(path).map_err(|error| error.to_string())?;
            match properties.get(key) {
                Some(value) => Ok(Secret::new(value)),
                None => Err(format!("file {path:?} has no property {key:?}")),
            }
        }
        Source::Directory(directory, file) => {
            let path = Path::new(directory).join(file);
            let mut text = read_text(&path).map_err(|error| format!("file {path:?} cannot be read: {error}"))?;
            // As Secret::from_file; Java trims later, where it trims.
            for end in ['\n', '\r'] {
                if text.ends_with(end) {
                    text.pop();
                }
            }
            Ok(Secret::new(std::mem::take(&mut *text)))
        }
    }
}

/// A file of bounded size, in UTF-8.
pub(crate) fn read_text(path: &Path) -> io::Result<Zeroizing<String>> {
    // One allocation: a growing one would leave copies of secrets behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST_BYTES + 1));
    File::open(path)?.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MOST_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {MOST_BYTES} bytes")));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(error) => {
            let line = bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count() + 1;
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("line {line} is not UTF-8")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Result<String, String> {
        let look_up = |source: Source<'_>| match source {
            Source::Env("GONE") => Err("environment variable GONE is not set".to_owned()),
            source => Ok(Secret::new(format!("<{source:?}>"))),
        };
        resolve_with(text, look_up).map(|text| text.to_string())
    }

    #[test]
    fn placeholders_stand_anywhere_and_are_resolved_once() {
        for (text, meant) in [
            ("plain $ {x} $env ${", "plain $ {x} $env ${"),
            ("a${env:B}c", "a<Env(\"B\")>c"),
            ("${env:A} and: ${env:B}", "<Env(\"A\")> and: <Env(\"B\")>"),
            ("${file:/a/b:k.e}", "<File(\"/a/b\", \"k.e\")>"),
            ("${file:C:\\a:k}", "<File(\"C:\\\\a\", \"k\")>"),
            ("${directory:/run/secrets:pw}", "<Directory(\"/run/secrets\", \"pw\")>"),
            ("${x}${env:A}", "${x}<Env(\"A\")>"),
            ("${${env:A}", "${<Env(\"A\")>"),
            ("${a b:c}", "${a b:c}"),
            ("${env:A", "${env:A"),
        ] {
            assert_eq!(resolved(text).as_deref(), Ok(meant), "{text}");
        }
        let again = resolve_with("${env:A}", |_| Ok(Secret::new("${env:B}"))).unwrap();
        assert_eq!(*again, "${env:B}");
    }

    #[test]
    fn what_is_not_there_is_an_error_and_not_the_text() {
        for (text, why) in [
            ("${env:GONE}", "GONE is not set"),
            ("${env:}", "${env:NAME}"),
            ("${env:a:b}", "${env:NAME}"),
            ("${file:/a}", "${file:PATH:KEY}"),
            ("${directory:/a:b/c}", "${directory:DIRECTORY:FILE}"),
            ("${directory:/a:..\\c}", "${directory:DIRECTORY:FILE}"),
            ("${hunter2:x}", "provider"),
        ] {
            let error = resolved(text).unwrap_err();
            assert!(error.contains(why) && !error.contains("hunter2"), "{text}: {error}");
        }
        assert!(resolved(&"${env:A}".repeat(65)).unwrap_err().contains("64"));
        let long = resolve_with("${env:A}${env:A}", |_| Ok(Secret::new("x".repeat(MOST_BYTES))));
        assert!(long.unwrap_err().contains("bytes"));
    }

    #[test]
    fn what_is_opened_again_and_again_takes_no_quadratic_time() {
        // Some 100,000 million steps if each looked for the end.
        let text = format!("{}}}", "${".repeat(MOST_BYTES / 2 - 1));
        #[allow(clippy::disallowed_methods, reason = "a test may look at the clock")]
        let started = std::time::Instant::now();
        assert_eq!(resolved(&text), Ok(text));
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }

    #[test]
    fn files_are_read_and_errors_name_them() {
        let directory = std::env::temp_dir().join(format!("indelible-placeholder-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("pw"), "hunter2\n").unwrap();
        std::fs::write(directory.join("p.properties"), "a=1\npw = hun\\\n  ter3\n").unwrap();
        std::fs::write(directory.join("latin"), b"a=1\npw=\xe4").unwrap();
        let at = directory.to_str().unwrap();
        assert_eq!(*resolve(&format!("${{directory:{at}:pw}}")).unwrap(), "hunter2");
        assert_eq!(*resolve(&format!("${{file:{at}/p.properties:pw}}")).unwrap(), "hunter3");
        for (text, why) in [
            (format!("${{directory:{at}:gone}}"), "gone"),
            (format!("${{file:{at}/gone:pw}}"), "gone"),
            (format!("${{file:{at}/p.properties:b}}"), "has no property \"b\""),
            (format!("${{file:{at}/latin:b}}"), "line 2 is not UTF-8"),
        ] {
            let error = resolve(&text).unwrap_err();
            assert!(error.contains(why) && error.contains(at) && !error.contains("hun"), "{text}: {error}");
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
