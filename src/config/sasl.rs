//! Who this client is, for brokers that ask.

use std::sync::Arc;

use super::Secret;
use crate::core::sasl::{Hash, OAuthBearer, Plain, SaslMechanism, Scram, TokenProvider};

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
        SaslConfig::mechanism(Plain::new(username.into(), password.into()))
    }

    /// SCRAM-SHA-256 (RFC 5802, RFC 7677): the password is not sent, and the broker proves that it knows it too.
    ///
    /// A broker that asks for fewer than 4096 or more than 262,144 iterations is refused. Passwords beyond ASCII are used
    /// as they are, without SASLprep, as Kafka's own clients and tools do.
    pub fn scram_sha_256(username: impl Into<String>, password: impl Into<Secret>) -> SaslConfig {
        SaslConfig::mechanism(Scram::new(Hash::Sha256, username.into(), password.into()))
    }

    /// SCRAM-SHA-512 (RFC 5802): as [`SaslConfig::scram_sha_256`], with the longer hash.
    pub fn scram_sha_512(username: impl Into<String>, password: impl Into<Secret>) -> SaslConfig {
        SaslConfig::mechanism(Scram::new(Hash::Sha512, username.into(), password.into()))
    }

    /// OAUTHBEARER (RFC 7628, KIP-255): a bearer token is sent, so it is refused without TLS. A [`crate::Token`] is a
    /// provider that always gives itself; closures that return a future are providers too.
    pub fn oauthbearer(provider: impl TokenProvider) -> SaslConfig {
        SaslConfig::mechanism(OAuthBearer::new(provider))
    }

    /// Sends the password or token of PLAIN or OAUTHBEARER also without TLS: everybody on the way can read and use it. For
    /// trials on one machine, and for networks that encrypt below; a warning is logged each time a client starts with
    /// it. The property is `dangerously.allow.cleartext.credentials=true`.
    pub fn dangerously_allow_cleartext_credentials(mut self) -> SaslConfig {
        self.clear = true;
        self
    }
}
