//! Certificates and keys made for one test: an authority of its own and what it signs.

#![allow(clippy::expect_used, reason = "a test cannot go on without its keys")]

use graviola::hashing::Sha256;
use graviola::signing::ecdsa::{P256, SigningKey};
use graviola::signing::rsa;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, PublicKeyData,
    SerialNumber,
};
use std::sync::atomic::{AtomicU64, Ordering};
use time::{Duration, OffsetDateTime};

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, Key>,
    pem: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A certificate with its key, in PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate, and the authority's behind it.
    pub chain: String,
    /// The private key as PKCS#8, not encrypted.
    pub key: String,
}

impl Issued {
    /// Key and chain in one text, as Kafka's PEM key stores have it.
    #[must_use]
    pub fn keystore(&self) -> String {
        format!("{}{}", self.key, self.chain)
    }
}

/// From when to when a certificate is valid, in days from now.
#[derive(Clone, Copy, Debug)]
pub struct Days(pub i64, pub i64);

/// Yesterday to in ten years.
pub const VALID: Days = Days(-1, 3650);
/// Until yesterday.
pub const EXPIRED: Days = Days(-30, -1);
/// From tomorrow on.
pub const NOT_YET: Days = Days(1, 30);

impl Authority {
    /// An authority that nobody trusts yet.
    ///
    /// # Panics
    /// When this machine gives no randomness.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let key = Key::new();
        let mut params = params(&[], name, VALID);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).expect("an authority's certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Its certificate: what a client is to trust.
    #[must_use]
    pub fn pem(&self) -> String {
        self.pem.clone()
    }

    /// A certificate for a server of these names or addresses.
    #[must_use]
    pub fn server(&self, names: &[&str]) -> Issued {
        self.issue(names, names.first().copied().unwrap_or("server"), VALID)
    }

    /// A certificate for a client; a broker calls it `User:CN=name`.
    #[must_use]
    pub fn client(&self, name: &str) -> Issued {
        self.issue(&[], name, VALID)
    }

    /// A certificate for a client with an RSA key of 2048 bits, in PKCS#1.
    ///
    /// # Panics
    /// When this machine gives no randomness.
    #[must_use]
    pub fn client_with_rsa(&self, name: &str) -> Issued {
        let private = rsa::SigningKey::generate(rsa::KeySize::Rsa2048).expect("a key");
        let mut buffer = [0; 4096];
        let public = private.public_key().to_pkcs1_der(&mut buffer).expect("room for a key").to_vec();
        let mut params = params(&[], name, VALID);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let chain = params.signed_by(&RsaPublic(public), &self.issuer).expect("a certificate").pem();
        let key = private.to_pkcs1_der(&mut buffer).expect("room for a key");
        Issued { chain: format!("{chain}{}", self.pem), key: pem("RSA PRIVATE KEY", key) }
    }

    /// A certificate for whatever names and days.
    ///
    /// # Panics
    /// When a name cannot be in a certificate.
    #[must_use]
    pub fn issue(&self, names: &[&str], common_name: &str, days: Days) -> Issued {
        let key = Key::new();
        let mut params = params(names, common_name, days);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let chain = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Issued { chain: format!("{chain}{}", self.pem), key: key.pem() }
    }
}

fn params(names: &[&str], common_name: &str, Days(from, to): Days) -> CertificateParams {
    static SERIAL: AtomicU64 = AtomicU64::new(1);
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names for a certificate");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = OffsetDateTime::now_utc();
    params.not_before = now + Duration::days(from);
    params.not_after = now + Duration::days(to);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    params.serial_number = Some(SerialNumber::from(serial));
    // rcgen derives it with a hash that it has not got here.
    params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(serial.to_be_bytes().to_vec());
    params
}

/// A key on the curve P-256.
struct Key {
    private: SigningKey<P256>,
    public: Vec<u8>,
}

impl Key {
    fn new() -> Self {
        let private = SigningKey::<P256>::generate().expect("a key");
        let public = private.private_key.public_key_uncompressed().to_vec();
        Self { private, public }
    }

    fn pem(&self) -> String {
        let mut buffer = [0; 512];
        let der = self.private.to_pkcs8_der(&mut buffer).expect("room for a key");
        pem("PRIVATE KEY", der)
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let mut signature = [0; 128];
        let signature =
            self.private.sign_asn1::<Sha256>(&[message], &mut signature).map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(signature.to_vec())
    }
}

/// The public key of a certificate, as PKCS#1 has it.
struct RsaPublic(Vec<u8>);

impl PublicKeyData for RsaPublic {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

/// `der` as PEM with this label.
#[must_use]
pub fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
