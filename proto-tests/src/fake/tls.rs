//! TLS on the fake's listeners, by rustls and graviola.

#![allow(clippy::expect_used, reason = "a test cannot go on without its certificates")]

use crate::certs::Issued;
use bytes::Bytes;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the brokers show and ask for. Given to the builder of the cluster; each broker listens by TLS then.
#[derive(Clone)]
pub struct FakeTls {
    default: Issued,
    of_brokers: BTreeMap<i32, Issued>,
    client_ca: Option<String>,
    versions: Vec<&'static SupportedProtocolVersion>,
}

impl std::fmt::Debug for FakeTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeTls").finish_non_exhaustive()
    }
}

impl FakeTls {
    /// All brokers show this certificate, by TLS 1.3 or 1.2, and ask clients for none.
    #[must_use]
    pub fn new(issued: Issued) -> Self {
        let versions = vec![&rustls::version::TLS13, &rustls::version::TLS12];
        Self { default: issued, of_brokers: BTreeMap::new(), client_ca: None, versions }
    }

    /// One broker shows another certificate.
    #[must_use]
    pub fn broker(mut self, broker: i32, issued: Issued) -> Self {
        self.of_brokers.insert(broker, issued);
        self
    }

    /// Clients must show a certificate that this authority has signed: `ssl.client.auth=required`.
    #[must_use]
    pub fn client_ca(mut self, pem: impl Into<String>) -> Self {
        self.client_ca = Some(pem.into());
        self
    }

    /// Only these versions: `&rustls::version::TLS12` or `TLS13`.
    #[must_use]
    pub fn versions(mut self, versions: &[&'static SupportedProtocolVersion]) -> Self {
        self.versions = versions.to_vec();
        self
    }

    /// Only TLS 1.2.
    #[must_use]
    pub fn only_1_2(self) -> Self {
        self.versions(&[&rustls::version::TLS12])
    }

    /// Only TLS 1.3.
    #[must_use]
    pub fn only_1_3(self) -> Self {
        self.versions(&[&rustls::version::TLS13])
    }

    fn build(&self, issued: &Issued) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls_graviola::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.versions)
            .expect("versions of TLS");
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(pem) {
                    roots.add(authority).expect("an authority's certificate");
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.expect("a verifier of clients"))
            }
        };
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a private key in PEM");
        Arc::new(builder.with_single_cert(certificates(&issued.chain), key).expect("a certificate with its key"))
    }
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().expect("certificates in PEM")
}

/// What a hostile or broken broker does where the TLS handshake should be, until it is taken back.
#[derive(Debug, Clone)]
pub enum TlsFault {
    /// Reads and never answers.
    Silent,
    /// Closes when the first bytes have come.
    Close,
    /// Answers with these bytes, then nothing.
    Garbage(Bytes),
    /// Sends the first so many bytes of its handshake, then nothing.
    Stall(usize),
}

/// The settings as they are now, ready for the next connection.
#[derive(Debug)]
pub(crate) struct TlsState {
    settings: FakeTls,
    ready: BTreeMap<i32, Arc<ServerConfig>>,
    pub(crate) faults: BTreeMap<i32, TlsFault>,
}

impl TlsState {
    pub(crate) fn new(settings: FakeTls) -> Self {
        Self { settings, ready: BTreeMap::new(), faults: BTreeMap::new() }
    }

    /// For a new connection. Made once: sessions are remembered until the certificate changes.
    pub(crate) fn config(&mut self, broker: i32) -> Arc<ServerConfig> {
        let settings = &self.settings;
        let make = || settings.build(settings.of_brokers.get(&broker).unwrap_or(&settings.default));
        Arc::clone(self.ready.entry(broker).or_insert_with(make))
    }

    pub(crate) fn set_certificate(&mut self, broker: i32, issued: Issued) {
        self.settings.of_brokers.insert(broker, issued);
        self.ready.remove(&broker);
    }

    pub(crate) fn set_client_ca(&mut self, pem: Option<String>) {
        self.settings.client_ca = pem;
        self.ready.clear();
    }
}
