//! Which check of TLS or SASL failed.

use crate::core::sasl::SaslError;
use crate::wire::{ApiKey, ErrorCode};

/// Why there is no TLS connection: one check each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFailure {
    /// Nothing that is trusted has signed the broker's certificate.
    #[error("TLS: the certificate's issuer is not trusted ({issuer}): give its CA in ssl.truststore.location")]
    UnknownIssuer {
        /// Who signed it, as the certificate says, or what the verifier said.
        issuer: String,
    },
    /// The certificate is for other names.
    #[error("TLS: the certificate is not for {expected:?}: it names {}", names(.presented))]
    WrongName {
        /// The name connected to.
        expected: String,
        /// The names in the certificate.
        presented: Vec<String>,
    },
    /// The certificate is not valid any more.
    #[error("TLS: the certificate expired {0}: the broker needs a new one, or this machine's clock is wrong")]
    Expired(String),
    /// The certificate is not valid yet.
    #[error("TLS: the certificate is valid only from {0}: this machine's clock may be wrong")]
    NotYetValid(String),
    /// The certificate or its signature is broken, or not for this use.
    #[error("TLS: the broker's certificate is refused: {0}")]
    Certificate(String),
    /// The broker ended the handshake with an alert.
    #[error("TLS: the broker refused the handshake: {alert}{}", meaning(.hint))]
    Alert {
        /// The alert by its name.
        alert: String,
        /// What it usually means.
        hint: Option<&'static str>,
    },
    /// The broker asks for a certificate and refuses ours, or there is none.
    #[error("TLS: the broker refuses this client's certificate: {0}")]
    ClientCertificate(String),
    /// What answered does not speak TLS.
    #[error("TLS: the port does not speak TLS: use security.protocol=PLAINTEXT or SASL_PLAINTEXT, or the TLS listener")]
    NotTls,
    /// The connection ended in the handshake.
    #[error("TLS: no handshake: {0}")]
    Ended(String),
    /// The handshake was finished, and the connection closed before the first answer.
    #[error(
        "TLS: closed after the handshake, before the first answer: the broker may refuse this client's certificate, or the \
         lack of one, or the port is not Kafka's"
    )]
    ClosedAfter,
    /// The host can be no name in a certificate.
    #[error("TLS: {0}")]
    Config(String),
    /// Anything else that TLS does not allow.
    #[error("TLS: {0}")]
    Protocol(String),
}

fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        // RFC 9525: the common name is for people.
        return "none (subjectAltName; its common name does not count)".to_owned();
    }
    presented.join(", ")
}

fn meaning(hint: &Option<&'static str>) -> String {
    hint.map_or(String::new(), |hint| format!(": {hint}"))
}

/// Why the broker does not know who this client is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SaslFailure {
    /// The broker does not offer the mechanism.
    #[error("SASL: the broker does not offer {asked}: it offers {}", if .offered.is_empty() { "none".to_owned() } else { .offered.join(", ") })]
    Mechanism {
        /// The mechanism set.
        asked: String,
        /// Those it offers.
        offered: Vec<String>,
    },
    /// The listener does not ask for authentication at all.
    #[error("SASL: the broker's listener does not ask who one is: connect to its SASL listener, or without SASL")]
    NotAsked,
    /// The broker closed the connection at the first request that came without SASL.
    #[error(
        "SASL: the broker closed the connection at the first request: its listener may expect SASL: set \
         security.protocol and sasl.mechanism, or connect to another listener"
    )]
    Expected,
    /// The broker refused the credentials.
    #[error("SASL: {mechanism} was refused: {message}")]
    Refused {
        /// The mechanism.
        mechanism: String,
        /// The broker's words.
        message: String,
        /// Its code.
        code: ErrorCode,
    },
    /// The broker closed the connection in place of an answer.
    #[error("SASL: the broker closed the connection at {api} for {mechanism}: {}", closed(.api))]
    Closed {
        /// The mechanism.
        mechanism: String,
        /// What it did not answer: SaslHandshake or SaslAuthenticate.
        api: ApiKey,
    },
    /// The password or token would be readable on the way. Nothing was sent.
    #[error(
        "SASL: {mechanism} sends the credentials as they are, and the connection is not encrypted: use \
         security.protocol=SASL_SSL, or SCRAM"
    )]
    Cleartext {
        /// The mechanism.
        mechanism: String,
    },
    /// The broker asks for one more message, again and again.
    #[error("SASL: {mechanism} did not end within {rounds} messages: the broker and this client do not mean the same")]
    Endless {
        /// The mechanism.
        mechanism: String,
        /// How many were sent.
        rounds: u32,
    },
    /// The exchange failed on this side.
    #[error("SASL: {mechanism}: {error}")]
    Exchange {
        /// The mechanism.
        mechanism: String,
        /// Which check.
        error: SaslError,
    },
}

fn closed(api: &ApiKey) -> &'static str {
    match api {
        ApiKey::SaslHandshake => "the listener may not take SASL, or expect TLS",
        _ => "it may have refused the credentials without a word; its log tells",
    }
}
