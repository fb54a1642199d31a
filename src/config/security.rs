//! `security.protocol`, and the properties `ssl.*` and `sasl.*` made into what connections use.

use super::{ClientConfig, ConfigError, SaslConfig, TlsConfig};

/// How brokers are spoken to. Kafka's `security.protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityProtocol {
    /// In the clear, without a name.
    Plaintext,
    /// By TLS; with a client certificate if there is one.
    Ssl,
    /// In the clear, with SASL.
    SaslPlaintext,
    /// By TLS, with SASL.
    SaslSsl,
}

/// What all settings together mean for a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Security {
    /// By TLS.
    pub(crate) tls: Option<TlsConfig>,
    /// With SASL.
    pub(crate) sasl: Option<SaslConfig>,
}

impl ClientConfig {
    /// What the settings mean for connections. Reads no file.
    ///
    /// # Errors
    /// [`ConfigError`] when they contradict each other: credentials that would not be used, or would be sent in clear.
    pub(crate) fn security(&self) -> Result<Security, ConfigError> {
        Ok(Security { tls: self.tls.clone(), sasl: self.sasl.clone() })
    }
}
