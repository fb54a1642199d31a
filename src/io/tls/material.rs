//! From settings to what rustls connects with: roots, certificate and key, read and checked.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{Error, InconsistentKeys, RootCertStore, SupportedProtocolVersion};
use tracing::warn;
use zeroize::Zeroizing;

use super::pem;
use super::verify::{BelievesAnybody, Verifier};
use crate::config::{ConfigError, PemSource, TlsConfig, TlsVersions};

/// The largest file with certificates or a key. All roots of the world together are not a tenth of it.
const LARGEST: u64 = 16 << 20;

/// What connections are made with.
#[derive(Clone)]
pub(super) struct Ready {
    pub(super) config: Arc<rustls::ClientConfig>,
    /// None when anybody is believed.
    pub(super) verifier: Option<Arc<Verifier>>,
    /// There is a certificate to show.
    pub(super) certificate: bool,
}

/// Reads all that `settings` names and checks that it fits together.
///
/// # Errors
/// [`ConfigError`] that names the property and the file, in one line.
pub(super) fn load(settings: &TlsConfig, provider: &Arc<CryptoProvider>) -> Result<Ready, ConfigError> {
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions(settings.versions))
        .map_err(|error| refused("ssl.enabled.protocols", error.to_string()))?;
    let (builder, verifier) = match settings.unverified {
        true => {
            (builder.dangerous().with_custom_certificate_verifier(Arc::new(BelievesAnybody(provider.clone()))), None)
        }
        false => {
            let verifier = Verifier::new(roots(&settings.roots)?, provider)
                .map(Arc::new)
                .map_err(|why| refused("ssl.truststore.location", why))?;
            (builder.dangerous().with_custom_certificate_verifier(verifier.clone()), Some(verifier))
        }
    };
    let own = own(settings, provider)?;
    let certificate = own.is_some();
    let config = match own {
        Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
        None => builder.with_no_client_auth(),
    };
    Ok(Ready { config: Arc::new(config), verifier, certificate })
}

pub(super) fn versions(versions: TlsVersions) -> Vec<&'static SupportedProtocolVersion> {
    match versions {
        TlsVersions::Both => vec![&TLS13, &TLS12],
        TlsVersions::Only13 => vec![&TLS13],
        TlsVersions::Only12 => vec![&TLS12],
    }
}

fn roots(sources: &[PemSource]) -> Result<Arc<RootCertStore>, ConfigError> {
    if sources.is_empty() {
        return system_roots();
    }
    let mut roots = RootCertStore::empty();
    for source in sources {
        let setting = named(source, "ssl.truststore.location", "ssl.truststore.certificates");
        let found = read(source).and_then(|text| pem::certificates(&text)).map_err(|why| refused(&setting, why))?;
        let before = roots.len();
        for (index, certificate) in found.iter().enumerate() {
            if let Err(error) = roots.add(certificate.clone()) {
                // An odd one in a large bundle does not keep the others from being of use.
                warn!("{setting}: certificate {} in it cannot be trusted: {error}", index + 1);
            }
        }
        if roots.len() == before {
            return Err(refused(&setting, "none of the certificates in it can be read: they are damaged".to_owned()));
        }
    }
    Ok(Arc::new(roots))
}

/// The system's roots, read once per process: that takes tens of milliseconds.
fn system_roots() -> Result<Arc<RootCertStore>, ConfigError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(roots.clone());
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(|| "none were found".to_owned(), ToString::to_string);
        return Err(refused(
            "ssl.truststore.location",
            format!(
                "it is not set, and the system has no root certificates ({why}): set it, or install ca-certificates"
            ),
        ));
    }
    Ok(ROOTS.get_or_init(|| Arc::new(roots)).clone())
}

/// The certificate to show, and its key.
fn own(settings: &TlsConfig, provider: &CryptoProvider) -> Result<Option<CertifiedKey>, ConfigError> {
    let (chain, key) = match (&settings.chain, &settings.key) {
        (None, None) => return Ok(None),
        (Some(chain), Some(key)) => (chain, key),
        (Some(chain), None) => {
            let setting = named(chain, "ssl.keystore.location", "ssl.keystore.certificate.chain");
            return Err(refused(&setting, "it needs the private key too: set ssl.keystore.key".to_owned()));
        }
        (None, Some(key)) => {
            let setting = named(key, "ssl.keystore.location", "ssl.keystore.key");
            let why = "it needs the certificate too: set ssl.keystore.certificate.chain";
            return Err(refused(&setting, why.to_owned()));
        }
    };
    let of_chain = named(chain, "ssl.keystore.location", "ssl.keystore.certificate.chain");
    let of_key = named(key, "ssl.keystore.location", "ssl.keystore.key");
    let chain = read(chain).and_then(|text| pem::certificates(&text)).map_err(|why| refused(&of_chain, why))?;
    let password = settings.key_password.as_ref().map(crate::config::Secret::expose);
    let key = read(key).and_then(|text| pem::private_key(&text, password)).map_err(|why| refused(&of_key, why))?;
    let signs = provider.key_provider.load_private_key(key).map_err(|_| {
        // What the provider says may be about the key's content.
        let why = "its private key is damaged, or of a kind that is not supported: RSA from 2048 bits, ECDSA on P-256 or \
                   P-384 and Ed25519 are";
        refused(&of_key, why.to_owned())
    })?;
    let own = CertifiedKey::new(chain, signs);
    match own.keys_match() {
        // Not every provider can tell.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(_)) => {
            let mut why = format!("its private key does not belong to the first certificate of {of_chain}");
            if own.cert.iter().skip(1).any(|other| belongs(&own, other)) {
                why.push_str(", but to a later one: put that one first");
            }
            return Err(refused(&of_key, why));
        }
        Err(error) => return Err(refused(&of_chain, format!("its first certificate cannot be used: {error}"))),
    }
    Ok(Some(own))
}

fn belongs(own: &CertifiedKey, certificate: &CertificateDer<'static>) -> bool {
    CertifiedKey::new(vec![certificate.clone()], own.key.clone()).keys_match().is_ok()
}

/// The text of `source`, cleared when it is dropped.
fn read(source: &PemSource) -> Result<Zeroizing<Vec<u8>>, String> {
    match source {
        PemSource::Text(text) => Ok(Zeroizing::new(text.expose().as_bytes().to_vec())),
        PemSource::File(path) => read_file(path),
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let failed = |error: std::io::Error| format!("cannot read it: {error}");
    let mut file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.is_dir() {
        return Err("it is a directory: name the file".to_owned());
    }
    // Room for all of it at once: what it grew out of would not be cleared.
    let room = usize::try_from(meta.len().min(LARGEST)).unwrap_or(0) + 1;
    let mut content = Zeroizing::new(Vec::with_capacity(room));
    file.by_ref().take(LARGEST + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > LARGEST {
        return Err("it is larger than 16 MiB: it holds something else".to_owned());
    }
    Ok(content)
}

fn named(source: &PemSource, file: &str, text: &str) -> String {
    match source {
        PemSource::File(path) => format!("{file} ({})", path.display()),
        PemSource::Text(_) => text.to_owned(),
    }
}

fn refused(setting: &str, why: String) -> ConfigError {
    ConfigError::Material { setting: setting.to_owned(), why }
}
