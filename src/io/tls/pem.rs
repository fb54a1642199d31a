//! Certificates and keys out of PEM (RFC 7468), and what to do with a file that is something else.
//!
//! Line breaks mean nothing here: a property holds its PEM in one line, as Kafka's clients take it.

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::Kdf;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use zeroize::{Zeroize, Zeroizing};

/// The work a key's password may cost. openssl's default is 2048 rounds, the highest advice around is some 600,000.
const MAX_ROUNDS: u64 = if cfg!(fuzzing) { 100 } else { 10_000_000 };
/// The same for scrypt, in bytes of memory. openssl's default is 16 MiB.
const MAX_SCRYPT: u64 = if cfg!(fuzzing) { 1 << 16 } else { 256 << 20 };

const BEGIN: &[u8] = b"-----BEGIN ";
const DASHES: &[u8] = b"-----";
/// Some tools leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const TO_PKCS8: &str = "convert it with: openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256 -in KEY -out NEW";

/// One section: what is between BEGIN and END.
struct Section<'a> {
    label: &'a [u8],
    body: &'a [u8],
}

/// The certificates in `text`, in its order.
///
/// # Errors
/// One line that says what is wrong with it and what to do.
pub(crate) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut found = Vec::new();
    for section in sections(text)? {
        match section.label {
            b"CERTIFICATE" | b"X509 CERTIFICATE" => {
                let mut der = decode(section.body)
                    .ok_or_else(|| format!("certificate {} in it is damaged: it is not base64", found.len() + 1))?;
                found.push(CertificateDer::from(std::mem::take(&mut *der)));
            }
            b"TRUSTED CERTIFICATE" => {
                let hint = "convert it with: openssl x509 -in OLD -out NEW";
                return Err(format!("it holds a TRUSTED CERTIFICATE, which only openssl reads; {hint}"));
            }
            _ => {}
        }
    }
    if found.is_empty() {
        return Err(match foreign(text) {
            Some(what) => what,
            None => "there is no certificate in it (-----BEGIN CERTIFICATE-----)".to_owned(),
        });
    }
    Ok(found)
}

/// The one private key in `text`: PKCS#8, PKCS#1, SEC1, or PKCS#8 encrypted with `password`.
///
/// # Errors
/// One line that says what is wrong with it and what to do; nothing of the key or the password.
pub(crate) fn private_key(text: &[u8], password: Option<&str>) -> Result<PrivateKeyDer<'static>, String> {
    let mut keys = sections(text)?.into_iter().filter(|section| section.label.ends_with(b"PRIVATE KEY"));
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) => key,
        (Some(_), Some(_)) => return Err("there is more than one private key in it: leave the one to use".to_owned()),
        (None, _) => {
            return Err(match foreign(text) {
                Some(what) => what,
                None => "there is no private key in it (-----BEGIN PRIVATE KEY-----)".to_owned(),
            });
        }
    };
    if holds(key.body, b"Proc-Type:") {
        return Err(format!("its private key is encrypted in openssl's old way, without PKCS#8; {TO_PKCS8}"));
    }
    let mut der = decode(key.body).ok_or("its private key is damaged: it is not base64")?;
    match key.label {
        b"PRIVATE KEY" => Ok(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(std::mem::take(&mut *der)))),
        b"RSA PRIVATE KEY" => Ok(PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(std::mem::take(&mut *der)))),
        b"EC PRIVATE KEY" => Ok(PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(std::mem::take(&mut *der)))),
        b"ENCRYPTED PRIVATE KEY" => decrypt(&der, password),
        b"OPENSSH PRIVATE KEY" => Err(format!("its private key is one of OpenSSH, not of TLS; {TO_PKCS8}")),
        _ => Err(format!("its private key is of a kind that is not supported; {TO_PKCS8}")),
    }
}

/// PKCS#8 and PKCS#5 (RFC 5958, RFC 8018).
fn decrypt(der: &[u8], password: Option<&str>) -> Result<PrivateKeyDer<'static>, String> {
    let Some(password) = password else {
        return Err("its private key is encrypted: set ssl.key.password".to_owned());
    };
    let Ok(encrypted) = EncryptedPrivateKeyInfoRef::try_from(der) else {
        return Err(format!("its private key is encrypted in an old way, or damaged; {TO_PKCS8}"));
    };
    let dear = match &encrypted.encryption_algorithm {
        EncryptionScheme::Pbes2(parameters) => match &parameters.kdf {
            Kdf::Pbkdf2(kdf) => u64::from(kdf.iteration_count) > MAX_ROUNDS,
            Kdf::Scrypt(kdf) => {
                let memory = kdf.cost_parameter.saturating_mul(u64::from(kdf.block_size)).saturating_mul(128);
                memory.saturating_mul(u64::from(kdf.parallelization)) > MAX_SCRYPT
            }
            _ => false,
        },
        _ => return Err(format!("its private key is encrypted in an old way (PKCS#5 version 1); {TO_PKCS8}")),
    };
    if dear {
        return Err(format!("its private key asks for too much work to be decrypted; {TO_PKCS8}"));
    }
    match encrypted.decrypt(password) {
        // What is found is a key only if it begins as one: padding alone fits by chance once in 256 wrong passwords.
        Ok(key) if key.as_bytes().first() == Some(&0x30) => {
            Ok(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec())))
        }
        Err(pkcs8::Error::EncryptedPrivateKey(pkcs8::pkcs5::Error::UnsupportedAlgorithm { .. })) => {
            Err(format!("its private key is encrypted with an algorithm that is not supported; {TO_PKCS8}"))
        }
        Ok(_) | Err(_) => Err("its private key does not decrypt: ssl.key.password is wrong".to_owned()),
    }
}

fn sections(mut text: &[u8]) -> Result<Vec<Section<'_>>, String> {
    let mut found = Vec::new();
    while let Some((_, rest)) = split(text, BEGIN) {
        let (label, rest) = split(rest, DASHES).ok_or("it breaks off after -----BEGIN")?;
        // A label is never long, and is echoed.
        if label.len() > 40 || !label.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            return Err("a -----BEGIN line in it has no end".to_owned());
        }
        let name = || String::from_utf8_lossy(label).into_owned();
        let broken = || format!("-----BEGIN {}----- has no -----END {}-----", name(), name());
        let (body, rest) = split(rest, b"-----END ").ok_or_else(broken)?;
        let (end, rest) = split(rest, DASHES).ok_or_else(broken)?;
        if end != label {
            return Err(broken());
        }
        found.push(Section { label, body });
        text = rest;
    }
    Ok(found)
}

/// What is before and behind the first `mark`.
fn split<'a>(text: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(mark.len()).position(|window| window == mark)?;
    Some((text.get(..at)?, text.get(at + mark.len()..)?))
}

fn holds(text: &[u8], mark: &[u8]) -> bool {
    split(text, mark).is_some()
}

fn decode(body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::with_capacity(body.len()));
    text.extend(body.iter().filter(|byte| !byte.is_ascii_whitespace()));
    // As large as it can become: what it grew out of would not be cleared.
    let mut der = Zeroizing::new(vec![0; text.len() / 4 * 3 + 3]);
    match BASE64.decode_slice(text.as_slice(), &mut der) {
        Ok(length) if length > 0 => {
            if let Some(rest) = der.get_mut(length..) {
                rest.zeroize();
            }
            der.truncate(length);
            Some(der)
        }
        _ => None,
    }
}

/// What a file is that is not PEM, with the command that makes PEM of it.
fn foreign(bytes: &[u8]) -> Option<String> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Some("it is empty".to_owned());
    }
    if bytes.starts_with(&[0xfe, 0xed, 0xfe, 0xed]) || bytes.starts_with(&[0xce, 0xce, 0xce, 0xce]) {
        return Some(
            "it is a Java key store (JKS), not PEM; of a trust store make PEM with: keytool -list -rfc -keystore STORE \
             > STORE.pem; of a key store with: keytool -importkeystore -srckeystore STORE -destkeystore STORE.p12 \
             -deststoretype PKCS12, then openssl pkcs12 -in STORE.p12 -out STORE.pem"
                .to_owned(),
        );
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Some("it is text in UTF-16, not PEM: save it as UTF-8 or ASCII".to_owned());
    }
    // DER: a sequence; then a number is a version (PKCS#12 is at 3, a key at 0 or 1), a sequence is a certificate's.
    let inside = Der::new(bytes).next().filter(|element| element.tag == 0x30)?.content;
    let first = Der::new(inside).next()?;
    let what = match (first.tag, first.content) {
        (0x02, [3]) => "it is PKCS#12, not PEM; convert it with: openssl pkcs12 -in STORE -out STORE.pem",
        (0x02, [0 | 1]) => {
            "it is a private key in DER, not PEM; convert it with: openssl pkey -inform DER -in KEY -out NEW"
        }
        (0x30, _) => "it is a certificate in DER, not PEM; convert it with: openssl x509 -inform DER -in CERT -out NEW",
        _ => return None,
    };
    Some(what.to_owned())
}

/// Elements of DER, one behind the other. Ends where the bytes make no sense.
pub(super) struct Der<'a>(&'a [u8]);

/// One element.
#[derive(Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
}

impl<'a> Der<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Der<'a> {
        Der(bytes)
    }
}

impl<'a> Iterator for Der<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (length.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Element { tag, content })
    }
}
