//! PLAIN (RFC 4616): one message with name and password.

use std::fmt;

use zeroize::Zeroizing;

use super::{SaslContext, SaslError, SaslExchange, SaslFuture, SaslMechanism};
use crate::config::Secret;

/// The mechanism with its credentials.
pub(crate) struct Plain {
    username: String,
    password: Secret,
}

impl Plain {
    /// Takes any text; what cannot be sent is told when it should be.
    pub(crate) fn new(username: String, password: Secret) -> Plain {
        Plain { username, password }
    }

    /// Nothing ends or separates the texts but NUL, and Kafka's brokers refuse empty ones.
    fn check(&self) -> Result<(), SaslError> {
        let wrong = |why: &str| Err(SaslError::Credentials(why.to_owned()));
        match (self.username.as_str(), self.password.expose()) {
            ("", _) => wrong("the user name is empty"),
            (_, "") => wrong("the password is empty"),
            (name, _) if name.contains('\0') => wrong("the user name has a NUL character, which PLAIN cannot send"),
            (_, password) if password.contains('\0') => {
                wrong("the password has a NUL character, which PLAIN cannot send")
            }
            _ => Ok(()),
        }
    }

    fn message(&self) -> Zeroizing<Vec<u8>> {
        let (name, password) = (self.username.as_bytes(), self.password.expose().as_bytes());
        // Allocated once: a vector that grows leaves copies behind.
        let mut message = Zeroizing::new(Vec::with_capacity(name.len() + password.len() + 2));
        message.push(0);
        message.extend_from_slice(name);
        message.push(0);
        message.extend_from_slice(password);
        message
    }
}

impl SaslMechanism for Plain {
    fn name(&self) -> &str {
        "PLAIN"
    }

    fn begin<'a>(&'a self, _: SaslContext<'a>) -> SaslFuture<'a> {
        let exchange = self.check().map(|()| Box::new(Exchange(Some(self.message()))) as Box<dyn SaslExchange>);
        Box::pin(std::future::ready(exchange))
    }

    fn sends_secret(&self) -> bool {
        true
    }
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plain").field("username", &self.username).finish_non_exhaustive()
    }
}

struct Exchange(Option<Zeroizing<Vec<u8>>>);

impl SaslExchange for Exchange {
    fn first(&mut self) -> Result<Zeroizing<Vec<u8>>, SaslError> {
        Ok(self.0.take().unwrap_or_default())
    }

    /// The broker proves nothing in PLAIN: its answer without an error is all there is, whatever bytes come with it.
    fn next(&mut self, _: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, SaslError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::begin;
    use super::*;

    /// The examples of RFC 4616, section 4, without an authorization identity.
    #[test]
    fn the_message_is_that_of_rfc_4616() {
        let mut exchange = begin(&Plain::new("tim".into(), "tanstaaftanstaaf".into())).expect("exchange");
        assert_eq!(**exchange.first().expect("message"), *b"\0tim\0tanstaaftanstaaf");
        assert_eq!(exchange.next(b""), Ok(None));
        let mut exchange = begin(&Plain::new("ü".into(), "пароль".into())).expect("exchange");
        assert_eq!(**exchange.first().expect("message"), *"\0ü\0пароль".as_bytes());
    }

    #[test]
    fn what_plain_cannot_send_is_refused_without_showing_it() {
        for (name, password, words) in [
            ("", "secret", "user name is empty"),
            ("alice", "", "password is empty"),
            ("al\0ice", "secret", "user name has a NUL"),
            ("alice", "sec\0ret", "password has a NUL"),
        ] {
            let plain = Plain::new(name.into(), password.into());
            let error = begin(&plain).err().expect("refused").to_string();
            assert!(error.contains(words), "{error}");
            assert!(!error.contains("sec") && !format!("{plain:?}").contains("sec"), "{error} {plain:?}");
        }
    }
}
