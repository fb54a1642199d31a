//! Which check of TLS failed, in words.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use crate::error::{TlsFailure, words};

/// Names in a message, at most.
const NAMES: usize = 10;

/// What is known of a handshake besides its error.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts<'a> {
    /// The name connected to.
    pub(super) host: &'a str,
    /// This client has a certificate to show.
    pub(super) certificate: bool,
    /// The first bytes that came, none if none came.
    pub(super) first: &'a [u8],
    /// Who signed the certificate that was refused.
    pub(super) issuer: Option<String>,
}

/// Why a handshake failed.
pub(super) fn of_handshake(error: &io::Error, facts: &Facts<'_>) -> TlsFailure {
    // A record begins with its type and 3, the version's first half (RFC 8446, section 5.1).
    if !matches!(facts.first, [] | [0x14..=0x17] | [0x14..=0x17, 3, ..]) {
        return TlsFailure::NotTls;
    }
    match tls_error(error) {
        Some(Error::InvalidCertificate(error)) => of_certificate(error, facts),
        Some(error) => of_protocol(error, facts.certificate),
        None => match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => TlsFailure::Ended(match facts.first {
                [] => "closed without any answer, as a port that does not speak TLS does: check security.protocol \
                       and the port"
                    .to_owned(),
                _ => "closed half-way through the handshake".to_owned(),
            }),
            _ => TlsFailure::Ended(error.to_string()),
        },
    }
}

/// Why a stream that has shaken hands failed, if TLS is why. With TLS 1.3 a broker looks at this client's certificate
/// only when the client believes that all is well.
pub(super) fn of_stream(error: &io::Error, certificate: bool) -> Option<TlsFailure> {
    tls_error(error).map(|error| of_protocol(error, certificate))
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn of_protocol(error: &Error, certificate: bool) -> TlsFailure {
    match error {
        Error::AlertReceived(alert) => of_alert(*alert, certificate),
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => TlsFailure::Protocol(
            "the broker speaks none of the versions of TLS that are on: see ssl.enabled.protocols".to_owned(),
        ),
        Error::NoCertificatesPresented => TlsFailure::Certificate("it shows none".to_owned()),
        // rustls has no more to say than that.
        error => TlsFailure::Protocol(words(&error.to_string())),
    }
}

fn of_alert(alert: AlertDescription, certificate: bool) -> TlsFailure {
    use AlertDescription as A;
    let name = snake(&format!("{alert:?}"));
    let about_ours = match alert {
        A::CertificateExpired => "it has expired",
        A::CertificateRevoked => "it is revoked",
        A::UnknownCA => "the broker's ssl.truststore has not the CA that signed it",
        A::UnsupportedCertificate => "it is not for clients, or of a kind that the broker does not know",
        A::AccessDenied => "it is valid, and may not connect",
        A::BadCertificate | A::CertificateUnknown | A::CertificateRequired => {
            "it is not signed by a CA in the broker's ssl.truststore, or not valid now"
        }
        _ => "",
    };
    if !about_ours.is_empty() {
        let why = if certificate { about_ours } else { "it asks for one, and none is set: set ssl.keystore.location" };
        return TlsFailure::ClientCertificate(format!("{name}: {why}"));
    }
    let hint = match alert {
        A::HandshakeFailure if certificate => Some("no version, cipher or kind of signature in common"),
        A::HandshakeFailure => {
            Some("no version or cipher in common, or it wants a client certificate (ssl.keystore.location)")
        }
        A::ProtocolVersion => Some("it speaks other versions of TLS: see ssl.enabled.protocols"),
        A::InsufficientSecurity => Some("it asks for stronger ciphers than there are"),
        A::UnrecognisedName => Some("it has no certificate for this name"),
        A::InternalError => Some("its log says more"),
        A::DecryptError if certificate => Some("the signature of this client's certificate may not have been accepted"),
        _ => None,
    };
    TlsFailure::Alert { alert: name, hint }
}

fn of_certificate(error: &CertificateError, facts: &Facts<'_>) -> TlsFailure {
    use CertificateError as C;
    let why = match error {
        C::UnknownIssuer => {
            let issuer = facts.issuer.clone().unwrap_or_else(|| "it does not say who that is".to_owned());
            return TlsFailure::UnknownIssuer { issuer };
        }
        C::NotValidForNameContext { presented, .. } => {
            let mut names: Vec<String> = presented.iter().take(NAMES).map(|name| bare(name)).collect();
            if presented.len() > NAMES {
                names.push(format!("{} more", presented.len() - NAMES));
            }
            return TlsFailure::WrongName { expected: facts.host.to_owned(), presented: names };
        }
        C::NotValidForName => {
            return TlsFailure::WrongName { expected: facts.host.to_owned(), presented: Vec::new() };
        }
        C::ExpiredContext { not_after, .. } => return TlsFailure::Expired(date(not_after.as_secs())),
        C::Expired => return TlsFailure::Expired("at a time it does not tell".to_owned()),
        C::NotValidYetContext { not_before, .. } => return TlsFailure::NotYetValid(date(not_before.as_secs())),
        C::NotValidYet => return TlsFailure::NotYetValid("a time it does not tell".to_owned()),
        C::Revoked => "it is revoked".to_owned(),
        C::BadEncoding => "it is damaged".to_owned(),
        C::BadSignature => "its signature is wrong".to_owned(),
        C::UnsupportedSignatureAlgorithmContext { .. } | C::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it is signed with an algorithm that the cryptography in use does not have".to_owned()
        }
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => {
            "it is not for servers (extendedKeyUsage without serverAuth)".to_owned()
        }
        C::UnhandledCriticalExtension => "it has a critical extension that is not known".to_owned(),
        error => match error.to_string() {
            text if text.contains("CaUsedAsEndEntity") => {
                "it is a CA's own, used as a broker's: sign one for the broker with it, with basicConstraints CA:FALSE"
                    .to_owned()
            }
            text if text.contains("UnsupportedCertVersion") => {
                "it is of X.509 version 1, which holds no names: make one of version 3 with subjectAltName".to_owned()
            }
            text => words(&text),
        },
    };
    TlsFailure::Certificate(why)
}

/// What webpki calls `DnsName("broker.example")` and `IpAddress(127.0.0.1)`.
fn bare(name: &str) -> String {
    let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    words(inside.trim_matches('"'))
}

/// `BadCertificate` as RFC 8446 writes it.
fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    let mut small = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && small {
            out.push('_');
        }
        small = c.is_ascii_lowercase();
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// Unix seconds as a date, by the Gregorian calendar: `2026-11-21 09:30:00 UTC`.
fn date(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the leap day is the last; eras have 400 of them, 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + later;
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(error: Error) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, meant) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59:59 UTC"),
            (1_709_251_200, "2024-03-01 00:00:00 UTC"),
            (1_795_253_400, "2026-11-21 09:30:00 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(date(seconds), meant);
        }
    }

    #[test]
    fn what_answers_in_another_language_does_not_speak_tls() {
        let error = io(Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType));
        for first in [&b"HTTP/1.1"[..], &[0, 0, 0, 10], &[0x15, 0x30], b"x"] {
            assert_eq!(of_handshake(&error, &Facts { first, ..Facts::default() }), TlsFailure::NotTls);
        }
        let first = &[0x16, 3, 3][..];
        assert!(matches!(of_handshake(&error, &Facts { first, ..Facts::default() }), TlsFailure::Protocol(_)));
        let ended = io::Error::from(io::ErrorKind::UnexpectedEof);
        let silent = of_handshake(&ended, &Facts::default()).to_string();
        assert!(silent.contains("security.protocol"), "{silent}");
        assert!(!of_handshake(&ended, &Facts { first, ..Facts::default() }).to_string().contains("security.protocol"));
    }

    #[test]
    fn alerts_have_their_names_and_those_about_certificates_are_about_ours() {
        let alert = |alert, certificate| of_stream(&io(Error::AlertReceived(alert)), certificate).unwrap().to_string();
        assert!(alert(AlertDescription::CertificateRequired, false).contains("certificate_required: it asks for one"));
        assert!(alert(AlertDescription::BadCertificate, true).contains("bad_certificate: it is not signed"));
        assert!(alert(AlertDescription::UnknownCA, true).contains("unknown_ca: the broker's"));
        assert!(alert(AlertDescription::ProtocolVersion, false).contains("protocol_version: it speaks other versions"));
        assert!(alert(AlertDescription::HandshakeFailure, false).contains("handshake_failure"));
        assert_eq!(of_stream(&io::Error::from(io::ErrorKind::ConnectionReset), true), None);
    }

    #[test]
    fn names_are_few_and_plain() {
        let presented = (0..30).map(|i| format!("DnsName(\"a{i}\u{202e}\n\")")).collect();
        let expected = rustls::pki_types::ServerName::try_from("b").unwrap();
        let error = io(Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented }));
        let text = of_handshake(&error, &Facts { host: "b", ..Facts::default() }).to_string();
        assert!(text.contains("a0, a1") && text.contains("20 more") && !text.contains('\n'), "{text}");
    }
}
