//! `security.protocol`, and the properties `ssl.*` and `sasl.*` made into what connections use.
//!
//! Properties come one at a time and in any order, so they are kept as they are given and made into a [`TlsConfig`] and a
//! [`SaslConfig`] when all are there. None is ignored: what the protocol would not use is an error.

mod sasl;
mod tls;

use super::{ClientConfig, ConfigError, Raw, SaslConfig, Setting, TlsConfig};

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

impl SecurityProtocol {
    const ALL: [SecurityProtocol; 4] = [
        SecurityProtocol::Plaintext,
        SecurityProtocol::Ssl,
        SecurityProtocol::SaslPlaintext,
        SecurityProtocol::SaslSsl,
    ];

    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            SecurityProtocol::Plaintext => "PLAINTEXT",
            SecurityProtocol::Ssl => "SSL",
            SecurityProtocol::SaslPlaintext => "SASL_PLAINTEXT",
            SecurityProtocol::SaslSsl => "SASL_SSL",
        }
    }

    fn of(tls: bool, sasl: bool) -> SecurityProtocol {
        match (tls, sasl) {
            (false, false) => SecurityProtocol::Plaintext,
            (true, false) => SecurityProtocol::Ssl,
            (false, true) => SecurityProtocol::SaslPlaintext,
            (true, true) => SecurityProtocol::SaslSsl,
        }
    }

    fn tls(self) -> bool {
        matches!(self, SecurityProtocol::Ssl | SecurityProtocol::SaslSsl)
    }

    fn sasl(self) -> bool {
        matches!(self, SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl)
    }
}

/// What all settings together mean for a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Security {
    /// By TLS.
    pub(crate) tls: Option<TlsConfig>,
    /// With SASL.
    pub(crate) sasl: Option<SaslConfig>,
}

/// The properties as they were given.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SecurityProperties {
    tls: tls::TlsProperties,
    sasl: sasl::SaslProperties,
    /// `dangerously.allow.cleartext.credentials`.
    clear: bool,
}

/// A property's value, and the name it was given by, for error texts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Given<T> {
    name: String,
    value: T,
}

impl<T> Given<T> {
    fn new(raw: &Raw<'_>, value: T) -> Option<Given<T>> {
        Some(Given { name: raw.name.to_owned(), value })
    }
}

/// The name by which any of these were given.
macro_rules! first_name {
    ($($given:expr),+ $(,)?) => { None$(.or_else(|| $given.as_ref().map(|given| given.name.as_str())))+ };
}
use first_name;

fn conflict<T>(text: String) -> Result<T, ConfigError> {
    Err(ConfigError::Conflict(text))
}

impl ClientConfig {
    /// What the settings mean for connections. Reads no file.
    ///
    /// # Errors
    /// [`ConfigError`] when they contradict each other: credentials that would not be used, or would be sent in clear.
    pub(crate) fn security(&self) -> Result<Security, ConfigError> {
        let (ssl, sasl) = (self.given.tls.name(), self.given.sasl.name());
        if let (Some(name), Some(_)) = (ssl, &self.tls) {
            return conflict(format!("TLS is set by tls() and by the property {name:?}: use one of them"));
        }
        if let (Some(name), Some(_)) = (sasl, &self.sasl) {
            return conflict(format!("SASL is set by sasl() and by the property {name:?}: use one of them"));
        }
        // Java's default is PLAINTEXT, whatever else is set; tls() and sasl() leave no doubt.
        let protocol = self.security_protocol.unwrap_or(SecurityProtocol::of(self.tls.is_some(), self.sasl.is_some()));
        let said = match self.security_protocol {
            Some(_) => "is",
            None => "is not set, which makes it",
        };
        let unused = |what: &str, by: SecurityProtocol| {
            let (is, meant) = (protocol.name(), by.name());
            conflict(format!("{what} would not be used: security.protocol {said} {is}; set {meant}, or leave it out"))
        };
        if !protocol.tls() {
            let with_tls = SecurityProtocol::of(true, protocol.sasl() || sasl.is_some());
            match (ssl, &self.tls) {
                (Some(name), _) => return unused(&format!("property {name:?}"), with_tls),
                (None, Some(_)) => return unused("what tls() was given", with_tls),
                (None, None) => {}
            }
        }
        if !protocol.sasl() {
            let with_sasl = SecurityProtocol::of(true, true);
            match (sasl, &self.sasl) {
                (Some(name), _) => return unused(&format!("property {name:?}"), with_sasl),
                (None, Some(_)) => return unused("what sasl() was given", with_sasl),
                (None, None) => {}
            }
        }
        let tls = match (protocol.tls(), &self.tls) {
            (false, _) => None,
            (true, Some(tls)) => Some(tls.clone()),
            (true, None) => Some(self.given.tls.config()?),
        };
        let sasl = match (protocol.sasl(), &self.sasl) {
            (false, _) => None,
            (true, Some(sasl)) => Some(sasl.clone()),
            (true, None) => Some(self.given.sasl.config(protocol)?),
        };
        let sasl = match sasl {
            Some(sasl) if self.given.clear => Some(sasl.dangerously_allow_cleartext_credentials()),
            sasl => sasl,
        };
        if let (None, Some(sasl)) = (&tls, &sasl)
            && sasl.mechanism.sends_secret()
            && !sasl.clear
        {
            let mechanism = sasl.mechanism.name();
            return conflict(format!(
                "{mechanism} would send its credentials in the clear: use security.protocol=SASL_SSL, or say \
                 dangerously.allow.cleartext.credentials=true"
            ));
        }
        Ok(Security { tls, sasl })
    }
}

/// The rows of the client's table for all this.
pub(crate) const SECURITY: &[Setting<ClientConfig>] = &[
    Setting {
        name: "security.protocol",
        set: |config, raw| {
            let words = SecurityProtocol::ALL.map(|protocol| (protocol.name(), protocol));
            raw.one_of(&words).map(|protocol| config.security_protocol = Some(protocol))
        },
    },
    Setting {
        name: "dangerously.allow.cleartext.credentials",
        set: |config, raw| raw.boolean().map(|allow| config.given.clear = allow),
    },
    Setting { name: "config.providers", set: |_, raw| super::names::providers(raw) },
    // TLS
    Setting { name: "ssl.truststore.type", set: |config, raw| config.given.tls.store_type(raw) },
    Setting { name: "ssl.truststore.location", set: |config, raw| config.given.tls.trust_file(raw) },
    Setting { name: "ssl.truststore.certificates", set: |config, raw| config.given.tls.trust_text(raw) },
    Setting { name: "ssl.keystore.type", set: |config, raw| config.given.tls.store_type(raw) },
    Setting { name: "ssl.keystore.location", set: |config, raw| config.given.tls.keystore(raw) },
    Setting { name: "ssl.keystore.certificate.chain", set: |config, raw| config.given.tls.chain_text(raw) },
    Setting { name: "ssl.keystore.key", set: |config, raw| config.given.tls.key_text(raw) },
    Setting { name: "ssl.certificate.location", set: |config, raw| config.given.tls.chain_file(raw) },
    Setting { name: "ssl.key.location", set: |config, raw| config.given.tls.key_file(raw) },
    Setting { name: "ssl.key.password", set: |config, raw| config.given.tls.key_password(raw) },
    Setting { name: "ssl.enabled.protocols", set: |config, raw| config.given.tls.enabled(raw) },
    Setting { name: "ssl.protocol", set: |config, raw| config.given.tls.protocol(raw) },
    Setting { name: "ssl.endpoint.identification.algorithm", set: |_, raw| tls::identification(raw) },
    // SASL
    Setting { name: "sasl.mechanism", set: |config, raw| config.given.sasl.mechanism(raw) },
    Setting { name: "sasl.jaas.config", set: |config, raw| config.given.sasl.jaas(raw) },
    Setting { name: "sasl.username", set: |config, raw| config.given.sasl.username(raw) },
    Setting { name: "sasl.password", set: |config, raw| config.given.sasl.password(raw) },
    Setting { name: "sasl.login.callback.handler.class", set: |_, raw| sasl::callback(raw) },
    Setting { name: "sasl.oauthbearer.token.endpoint.url", set: |config, raw| config.given.sasl.endpoint(raw) },
    Setting {
        name: "sasl.oauthbearer.client.credentials.client.id",
        set: |config, raw| config.given.sasl.client_id(raw),
    },
    Setting {
        name: "sasl.oauthbearer.client.credentials.client.secret",
        set: |config, raw| config.given.sasl.client_secret(raw),
    },
    Setting { name: "sasl.oauthbearer.scope", set: |config, raw| config.given.sasl.scope(raw) },
    Setting { name: "sasl.oauthbearer.extensions", set: |config, raw| config.given.sasl.extensions(raw) },
    Setting { name: "sasl.oauthbearer.header.urlencode", set: |config, raw| config.given.sasl.urlencode(raw) },
    Setting { name: "sasl.login.retry.backoff.ms", set: |config, raw| config.given.sasl.backoff(raw) },
    Setting { name: "sasl.login.retry.backoff.max.ms", set: |config, raw| config.given.sasl.backoff_max(raw) },
    Setting { name: "https.ca.location", set: |config, raw| config.given.sasl.https_file(raw) },
    Setting { name: "https.ca.pem", set: |config, raw| config.given.sasl.https_text(raw) },
];

#[cfg(test)]
mod tests;
