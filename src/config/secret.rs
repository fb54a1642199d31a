//! Texts that must not be seen.

use std::fmt;
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

/// A password, a token, a private key: never printed, compared in constant time, and overwritten when it is dropped.
///
/// `Debug` prints `Secret(***)`, there is no `Display`, and no error of this crate holds its text.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over. What it was copied from is the caller's to clear.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(Zeroizing::new(text.into()))
    }

    /// The content of a file, without one line end behind it: how container platforms mount secrets.
    ///
    /// # Errors
    /// Those of reading it; [`io::ErrorKind::InvalidData`] when it is not UTF-8.
    pub fn from_file(path: impl AsRef<Path>) -> io::Result<Secret> {
        let mut text = Zeroizing::new(std::fs::read_to_string(path)?);
        for end in ['\n', '\r'] {
            if text.ends_with(end) {
                text.pop();
            }
        }
        Ok(Secret(text))
    }

    /// The value of an environment variable.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when it is not set, [`io::ErrorKind::InvalidData`] when it is not UTF-8.
    pub fn from_env(name: &str) -> io::Result<Secret> {
        match std::env::var(name) {
            Ok(text) => Ok(Secret::new(text)),
            Err(std::env::VarError::NotPresent) => {
                Err(io::Error::new(io::ErrorKind::NotFound, format!("environment variable {name} is not set")))
            }
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, format!("environment variable {name} is not UTF-8")))
            }
        }
    }

    /// The text, for whoever sends it or computes with it. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is any text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Secret {
        Secret::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        use subtle::ConstantTimeEq;
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret(***) Some(Secret(***))");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_file_is_taken_without_its_line_end() {
        let file = std::env::temp_dir().join(format!("indelible-secret-{}", std::process::id()));
        for (content, meant) in [("a b\n", "a b"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("", "")] {
            std::fs::write(&file, content).unwrap();
            assert_eq!(Secret::from_file(&file).unwrap().expose(), meant);
        }
        std::fs::remove_file(&file).unwrap();
        assert!(Secret::from_file(&file).is_err());
        assert!(Secret::from_env("INDELIBLE_NO_SUCH_VARIABLE").unwrap_err().to_string().contains("NO_SUCH_VARIABLE"));
    }
}
