//! What a connection by TLS trusts, and how it shows who it is.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use super::Secret;

/// TLS towards the brokers: versions 1.3 and 1.2; the chain and the name of every broker are verified, also of those
/// that only metadata names. Given to [`crate::ClientBuilder::tls`], or made from the properties `ssl.*`.
///
/// The default trusts the system's roots and shows no certificate. Files are read when the client is built, and again
/// when they have changed and a connection is made.
#[derive(Clone, Default, PartialEq)]
#[must_use = "give it to ClientBuilder::tls"]
pub struct TlsConfig {
    pub(crate) roots: Vec<PemSource>,
    pub(crate) chain: Option<PemSource>,
    pub(crate) key: Option<PemSource>,
    pub(crate) key_password: Option<Secret>,
    pub(crate) versions: TlsVersions,
    pub(crate) provider: Option<Provider>,
    pub(crate) unverified: bool,
}

/// Where PEM comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PemSource {
    /// Read when the client is built and when it changes.
    File(PathBuf),
    /// Given as it is. May hold a key, so it does not print.
    Text(Secret),
}

/// Which versions are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersions {
    /// 1.3, and 1.2 where the broker has no 1.3.
    #[default]
    Both,
    /// 1.3 only.
    Only13,
    /// 1.2 only.
    Only12,
}

/// A provider given by the user; equal to itself only.
#[derive(Clone)]
pub(crate) struct Provider(pub(crate) Arc<CryptoProvider>);

impl PartialEq for Provider {
    fn eq(&self, other: &Provider) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl TlsConfig {
    /// Trusts the system's roots, shows no certificate.
    pub fn new() -> TlsConfig {
        TlsConfig::default()
    }

    /// Trusts the certificates in this PEM file and no others; may be called for several files. Kafka's
    /// `ssl.truststore.location`.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> TlsConfig {
        self.roots.push(PemSource::File(path.into()));
        self
    }

    /// Trusts the certificates in this PEM text and no others. Kafka's `ssl.truststore.certificates`.
    pub fn ca_pem(mut self, pem: impl Into<String>) -> TlsConfig {
        self.roots.push(PemSource::Text(Secret::new(pem)));
        self
    }

    /// Shows the certificate in this PEM file, with its chain, and proves it with the key in the other one: PKCS#8, also
    /// encrypted, PKCS#1 or SEC1. Both may be the same file, as Kafka's `ssl.keystore.location` has it.
    pub fn client_certificate_files(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> TlsConfig {
        self.chain = Some(PemSource::File(chain.into()));
        self.key = Some(PemSource::File(key.into()));
        self
    }

    /// As [`TlsConfig::client_certificate_files`], from texts. Kafka's `ssl.keystore.certificate.chain` and
    /// `ssl.keystore.key`.
    pub fn client_certificate_pem(mut self, chain: impl Into<String>, key: impl Into<Secret>) -> TlsConfig {
        self.chain = Some(PemSource::Text(Secret::new(chain)));
        self.key = Some(PemSource::Text(key.into()));
        self
    }

    /// What an encrypted private key is decrypted with. Kafka's `ssl.key.password`.
    pub fn key_password(mut self, password: impl Into<Secret>) -> TlsConfig {
        self.key_password = Some(password.into());
        self
    }

    /// Which versions are spoken. Kafka's `ssl.enabled.protocols`.
    pub fn versions(mut self, versions: TlsVersions) -> TlsConfig {
        self.versions = versions;
        self
    }

    /// The cryptography to use. Default: graviola, which needs a processor with AES and the like; where it cannot run,
    /// RustCrypto when the feature `rustcrypto` is on.
    pub fn crypto_provider(mut self, provider: Arc<CryptoProvider>) -> TlsConfig {
        self.provider = Some(Provider(provider));
        self
    }

    /// Believes whoever answers: anybody on the way can read and change everything, passwords included. For trials only;
    /// a warning is logged each time a client starts with it. There is no property for this.
    pub fn dangerously_disable_certificate_verification(mut self) -> TlsConfig {
        self.unverified = true;
        self
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field("roots", &self.roots)
            .field("chain", &self.chain)
            .field("key", &self.key)
            .field("versions", &self.versions)
            .field("provider", &if self.provider.is_some() { "given" } else { "default" })
            .field("unverified", &self.unverified)
            .finish_non_exhaustive()
    }
}
