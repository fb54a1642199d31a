//! Who decides whether a broker's certificate is believed.

use std::fmt;
use std::sync::{Arc, Mutex};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::pem::Der;
use crate::error::words;
use crate::sync::lock;

/// Verifies chain, dates, use and name, as webpki does, and remembers who signed what it does not know: its error does
/// not say.
pub(super) struct Verifier {
    webpki: Arc<WebPkiServerVerifier>,
    /// The last certificate from an unknown issuer: for whom, and its issuer. Asked for right after the handshake that
    /// failed by it; at worst a message names the issuer of another one for the same name.
    unknown: Mutex<Option<(ServerName<'static>, String)>>,
}

impl Verifier {
    pub(super) fn new(roots: Arc<RootCertStore>, provider: &Arc<CryptoProvider>) -> Result<Verifier, String> {
        let webpki = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Verifier { webpki, unknown: Mutex::new(None) })
    }

    /// Who signed the certificate that was just refused for `name`.
    pub(super) fn unknown_issuer(&self, name: &ServerName<'_>) -> Option<String> {
        lock(&self.unknown).take().filter(|(of, _)| of == name).map(|(_, issuer)| issuer)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.webpki.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        if let Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) = &verdict {
            let last = intermediates.last().unwrap_or(end_entity);
            *lock(&self.unknown) = issuer(last).map(|issuer| (name.to_owned(), issuer));
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.webpki.root_hint_subjects()
    }
}

/// Believes every certificate. Still the other side must have its key.
#[derive(Debug)]
pub(super) struct BelievesAnybody(pub(super) Arc<CryptoProvider>);

impl ServerCertVerifier for BelievesAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The issuer's name in a certificate, for people: `CN=..., O=...`. Anybody may have written it, so it is short and
/// plain.
pub(super) fn issuer(certificate: &[u8]) -> Option<String> {
    // RFC 5280: Certificate { tbs { [0] version?, serial, algorithm, issuer { { { type, value } } }, ...
    let certificate = Der::new(certificate).next()?.content;
    let tbs = Der::new(certificate).next()?.content;
    let issuer = Der::new(tbs).filter(|element| element.tag != 0xa0).nth(2)?.content;
    let mut parts = Vec::new();
    for attribute in Der::new(issuer).flat_map(|set| Der::new(set.content)).take(20) {
        let mut pair = Der::new(attribute.content);
        let (Some(kind), Some(value)) = (pair.next(), pair.next()) else { continue };
        let kind = match kind.content {
            [0x55, 4, 3] => "CN",
            [0x55, 4, 6] => "C",
            [0x55, 4, 10] => "O",
            [0x55, 4, 11] => "OU",
            _ => continue,
        };
        parts.push(format!("{kind}={}", String::from_utf8_lossy(value.content)));
    }
    (!parts.is_empty()).then(|| words(&parts.join(", ")))
}
