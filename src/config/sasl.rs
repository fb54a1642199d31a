//! Who this client is, for brokers that ask.

use std::sync::Arc;

use super::Secret;
use crate::core::sasl::SaslMechanism;

/// SASL towards the brokers. Given to [`crate::ClientBuilder::sasl`], or made from the properties `sasl.*`.
#[derive(Clone, Debug)]
#[must_use = "give it to ClientBuilder::sasl"]
pub struct SaslConfig {
    pub(crate) mechanism: Arc<dyn SaslMechanism>,
    pub(crate) clear: bool,
}

impl PartialEq for SaslConfig {
    fn eq(&self, other: &SaslConfig) -> bool {
        Arc::ptr_eq(&self.mechanism, &other.mechanism) && self.clear == other.clear
    }
}

impl SaslConfig {
    /// A mechanism of your own.
    pub fn mechanism(mechanism: impl SaslMechanism) -> SaslConfig {
        SaslConfig { mechanism: Arc::new(mechanism), clear: false }
    }

    /// PLAIN (RFC 4616): the password itself is sent, so it is refused without TLS.
    pub fn plain(username: impl Into<String>, password: impl Into<Secret>) -> SaslConfig {
        let _ = (username.into(), password.into());
        todo_mechanism()
    }

    /// SCRAM-SHA-256 (RFC 5802, RFC 7677).
    pub fn scram_sha_256(username: impl Into<String>, password: impl Into<Secret>) -> SaslConfig {
        let _ = (username.into(), password.into());
        todo_mechanism()
    }

    /// SCRAM-SHA-512 (RFC 5802).
    pub fn scram_sha_512(username: impl Into<String>, password: impl Into<Secret>) -> SaslConfig {
        let _ = (username.into(), password.into());
        todo_mechanism()
    }

    /// Sends the password or token of PLAIN or OAUTHBEARER also without TLS: everybody on the way can read and use it. For
    /// trials on one machine, and for networks that encrypt below; a warning is logged each time a client starts with
    /// it. The property is `dangerously.allow.cleartext.credentials=true`.
    pub fn dangerously_allow_cleartext_credentials(mut self) -> SaslConfig {
        self.clear = true;
        self
    }
}

fn todo_mechanism() -> SaslConfig {
    #[derive(Debug)]
    struct None;
    impl SaslMechanism for None {
        fn name(&self) -> &str {
            "NONE"
        }
        fn begin<'a>(&'a self, _: &'a str) -> crate::core::sasl::SaslFuture<'a> {
            Box::pin(async { Err(crate::core::sasl::SaslError::Credentials("not built yet".to_owned())) })
        }
        fn sends_secret(&self) -> bool {
            false
        }
    }
    SaslConfig::mechanism(None)
}
