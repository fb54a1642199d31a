//! TLS by rustls: roots, certificate and key read from PEM, and again when their files change.
//!
//! ```text
//! settings ─ provider ─ material (pem) ─▶ Ready ─ connect ─▶ Stream        each failed check ─▶ TlsFailure (failure)
//!                          ▲                        │ verify
//!                          └── reload: files changed ┘
//! ```

mod ahead;
#[cfg(test)]
mod data_tests;
mod failure;
#[cfg(test)]
mod files_tests;
#[cfg(fuzzing)]
mod fuzz;
mod material;
pub(crate) mod pem;
#[cfg(test)]
mod pem_tests;
mod provider;
mod reload;
#[cfg(test)]
mod tests;
mod verify;

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tracing::{info, warn};

pub(crate) use ahead::ReadAhead;
#[cfg(fuzzing)]
pub(crate) use fuzz::read_pem;

use self::failure::Facts;
use self::material::Ready;
use self::reload::Stamp;
use super::stream::{Stream, Tls};
use crate::config::{ConfigError, TlsConfig};
use crate::error::TlsFailure;

/// What is encrypted at once, before it goes to the socket: eight records of the largest size. From 64 KiB to 1 MiB the
/// cost is the same within a tenth; more would cost memory, and more would be in doubt when a connection breaks.
const WRITE_BUFFER: usize = 128 * 1024;

/// What the TLS connections of a client share.
pub(crate) struct TlsContext {
    settings: Arc<TlsConfig>,
    provider: Arc<CryptoProvider>,
    /// Held while files are read again, so that it is done once.
    current: tokio::sync::Mutex<Current>,
}

struct Current {
    ready: Ready,
    /// How the files were when `ready` was read from them.
    stamps: Vec<Stamp>,
    /// How they were when they were last of no use, which is told once. They are read again all the same: a process that
    /// had no descriptor left for a moment must not go on with an old certificate for ever.
    refused: Vec<Stamp>,
}

impl TlsContext {
    /// Probes the processor, reads the files and checks that they fit together. Blocks on the disk.
    ///
    /// # Errors
    /// [`ConfigError`] that names the property or file.
    pub(crate) fn load(config: &TlsConfig) -> Result<TlsContext, ConfigError> {
        let provider = provider::choose(config)?;
        let stamps = reload::stamps(config);
        let ready = material::load(config, &provider)?;
        if config.unverified {
            warn!(
                "TLS: certificates are NOT verified (dangerously_disable_certificate_verification): anybody on the way \
                 can read and change everything"
            );
        }
        let current = tokio::sync::Mutex::new(Current { ready, stamps, refused: Vec::new() });
        Ok(TlsContext { settings: Arc::new(config.clone()), provider, current })
    }

    /// Shakes hands with `host`, whose name the certificate must have. Reads the files again that have changed.
    pub(super) async fn connect(&self, host: &str, stream: TcpStream) -> Result<Stream, TlsFailure> {
        let name = name(host)?;
        let ready = self.ready().await;
        let connecting = TlsConnector::from(ready.config)
            .connect_with(name.clone(), ReadAhead::new(stream), |session| {
                session.set_buffer_limit(Some(WRITE_BUFFER));
            })
            .into_fallible();
        match connecting.await {
            Ok(stream) => Ok(Stream::Tls(Box::new(Tls::new(stream, ready.certificate)))),
            Err((error, socket)) => {
                let issuer = ready.verifier.as_ref().and_then(|verifier| verifier.unknown_issuer(&name));
                let facts = Facts { host, certificate: ready.certificate, first: socket.first(), issuer };
                Err(failure::of_handshake(&error, &facts))
            }
        }
    }

    /// What to connect with now. When files have changed they are read; when they are of no use, what was stays.
    async fn ready(&self) -> Ready {
        let mut current = self.current.lock().await;
        if current.stamps.is_empty() {
            return current.ready.clone();
        }
        let (settings, provider, known) = (self.settings.clone(), self.provider.clone(), current.stamps.clone());
        let check = tokio::task::spawn_blocking(move || {
            let stamps = reload::stamps(&settings);
            (stamps != known).then(|| (stamps, material::load(&settings, &provider)))
        });
        // It fails only when it panicked, or the runtime ends.
        if let Ok(Some((stamps, loaded))) = check.await {
            match loaded {
                Ok(ready) => {
                    info!("TLS: the files with certificates or key have changed and are read again");
                    *current = Current { ready, stamps, refused: Vec::new() };
                }
                Err(error) if current.refused != stamps => {
                    warn!("TLS: the files with certificates or key have changed and are not taken: {error}");
                    current.refused = stamps;
                }
                Err(_) => {}
            }
        }
        current.ready.clone()
    }
}

impl fmt::Debug for TlsContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsContext").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Which failure of TLS ended a stream that had shaken hands, if one did.
pub(super) fn why_broken(error: &io::Error, certificate: bool) -> Option<TlsFailure> {
    failure::of_stream(error, certificate)
}

/// The name that the certificate must have: a host name, or an address, also as URLs write it.
fn name(host: &str) -> Result<ServerName<'static>, TlsFailure> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    // An IPv6 address may name the interface to reach it by (RFC 4007): that is no part of it.
    let bare = match bare.split_once('%') {
        Some((address, _)) if address.contains(':') => address,
        _ => bare,
    };
    ServerName::try_from(bare.to_owned()).map_err(|_| {
        TlsFailure::Config(format!("{host:?} can be no name in a certificate: use the broker's name or address"))
    })
}
