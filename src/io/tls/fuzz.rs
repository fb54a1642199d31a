//! What anybody may put into the files of TLS.

use base64::Engine;

use super::{material, pem, provider, verify};
use crate::config::TlsConfig;

/// Reads `text` as `what` says: as PEM, as the DER of a key or certificate, or as all files of a configuration.
pub(crate) fn read_pem(what: u8, password: &str, text: &[u8]) {
    const LABELS: [&str; 5] =
        ["ENCRYPTED PRIVATE KEY", "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "CERTIFICATE"];
    if let Some(issuer) = verify::issuer(text) {
        assert!(!issuer.contains(char::is_control));
    }
    match LABELS.get(usize::from(what)) {
        None => read(password, text),
        Some(label) => {
            let body = base64::engine::general_purpose::STANDARD.encode(text);
            read(password, format!("-----BEGIN {label}-----{body}-----END {label}-----").as_bytes());
        }
    }
}

fn read(password: &str, text: &[u8]) {
    for why in [pem::certificates(text).err(), pem::private_key(text, Some(password)).err()].into_iter().flatten() {
        assert!(why.len() < 1000 && !why.contains(char::is_control), "{why:?}");
    }
    let text = String::from_utf8_lossy(text).into_owned();
    let settings = TlsConfig::new().ca_pem(CA).client_certificate_pem(text.clone(), text).key_password(password);
    if let Ok(provider) = provider::choose(&settings) {
        let _ = material::load(&settings, &provider);
        let _ =
            material::load(&TlsConfig { roots: settings.chain.into_iter().collect(), ..TlsConfig::new() }, &provider);
    }
}

/// Any authority: what is read comes behind it.
const CA: &str = "-----BEGIN CERTIFICATE-----
MIIBcjCCARegAwIBAgIUOeVsdVbsAn3zTYSKrNyw8pprBBUwCgYIKoZIzj0EAwIw
DTELMAkGA1UEAwwCY2EwIBcNMjYxMTIxMTUxMDI4WhgPMjEwOTAxMTAxNTEwMjha
MA0xCzAJBgNVBAMMAmNhMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEoTjOBc9Y
p/yLQ3KcM6IS6YR8hFf3dglZDJ35VMz4xiJus+YyaIVrSw5SDzhWc3RTGLOsa/Kf
NMQlir5Xk9e+UaNTMFEwHQYDVR0OBBYEFAgvhqTHJ3Gtu3tts3+IoWnn8RdNMB8G
A1UdIwQYMBaAFAgvhqTHJ3Gtu3tts3+IoWnn8RdNMA8GA1UdEwEB/wQFMAMBAf8w
CgYIKoZIzj0EAwIDSQAwRgIhALCGANzAu781E5bcJpV++LPMsx0nUUCxgqpGELKF
VerqAiEAnST7p5kA1aBMaE45EaHFDpCe1b/CBI6DlFOo3Z46SzQ=
-----END CERTIFICATE-----
";
