//! Which cryptography a connection uses.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use crate::config::{ConfigError, TlsConfig};

/// What there is besides the user's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Graviola,
    RustCrypto,
}

/// The user's own; else graviola where it runs; else RustCrypto where it is built in.
///
/// # Errors
/// [`ConfigError`] that names what the processor lacks, and the way out.
pub(super) fn choose(config: &TlsConfig) -> Result<Arc<CryptoProvider>, ConfigError> {
    if let Some(given) = &config.provider {
        return Ok(given.0.clone());
    }
    let choice = decide(missing().as_deref(), cfg!(feature = "rustcrypto"))?;
    built_in(choice).ok_or_else(|| refused(&format!("{choice:?} is not built in")))
}

/// `missing`: what graviola needs and the processor lacks; None where graviola does not compile.
fn decide(missing: Option<&[&str]>, rustcrypto: bool) -> Result<Choice, ConfigError> {
    match missing {
        Some([]) => Ok(Choice::Graviola),
        _ if rustcrypto => Ok(Choice::RustCrypto),
        Some(missing) => Err(refused(&format!("this processor lacks {}", missing.join(", ")))),
        None => Err(refused("its assembler is for x86-64 and aarch64 only")),
    }
}

fn refused(why: &str) -> ConfigError {
    ConfigError::Material {
        setting: "TLS".to_owned(),
        why: format!(
            "the cryptography that is built in (graviola) does not run here: {why}; build with the feature \
             `rustcrypto`, or give a provider to TlsConfig::crypto_provider"
        ),
    }
}

fn built_in(choice: Choice) -> Option<Arc<CryptoProvider>> {
    match choice {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        Choice::Graviola => Some(Arc::new(rustls_graviola::default_provider())),
        #[cfg(feature = "rustcrypto")]
        Choice::RustCrypto => Some(Arc::new(rustls_rustcrypto::provider())),
        #[allow(unreachable_patterns, reason = "only where something is not built in")]
        _ => None,
    }
}

/// What graviola 0.4 asks of an x86-64 (it panics without), and BMI2, which its code for RSA uses without asking.
#[cfg(target_arch = "x86_64")]
fn missing() -> Option<Vec<&'static str>> {
    use std::is_x86_feature_detected as has;
    let needed = [
        ("aes", has!("aes")),
        ("pclmulqdq", has!("pclmulqdq")),
        ("ssse3", has!("ssse3")),
        ("avx", has!("avx")),
        ("avx2", has!("avx2")),
        ("bmi1", has!("bmi1")),
        ("bmi2", has!("bmi2")),
        ("adx", has!("adx")),
    ];
    Some(lacking(&needed))
}

/// What graviola 0.4 asks of an aarch64; it panics without.
#[cfg(target_arch = "aarch64")]
fn missing() -> Option<Vec<&'static str>> {
    use std::arch::is_aarch64_feature_detected as has;
    let needed = [("neon", has!("neon")), ("aes", has!("aes")), ("pmull", has!("pmull")), ("sha2", has!("sha2"))];
    Some(lacking(&needed))
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn missing() -> Option<Vec<&'static str>> {
    None
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn lacking(needed: &[(&'static str, bool)]) -> Vec<&'static str> {
    needed.iter().filter(|(_, has)| !has).map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_that_graviola_does_not_know_gets_the_portable_one_or_an_error_that_says_what_to_do() {
        assert_eq!(decide(Some(&[]), false), Ok(Choice::Graviola));
        assert_eq!(decide(Some(&[]), true), Ok(Choice::Graviola));
        assert_eq!(decide(Some(&["adx"]), true), Ok(Choice::RustCrypto));
        assert_eq!(decide(None, true), Ok(Choice::RustCrypto));
        let error = decide(Some(&["bmi2", "adx"]), false).unwrap_err().to_string();
        for part in ["lacks bmi2, adx", "rustcrypto", "crypto_provider"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!error.contains('\n'));
        assert!(decide(None, false).unwrap_err().to_string().contains("aarch64"));
    }

    #[test]
    fn the_users_own_provider_is_taken() {
        let own = Arc::new(rustls_graviola::default_provider());
        let chosen = choose(&TlsConfig::new().crypto_provider(own.clone())).unwrap();
        assert!(Arc::ptr_eq(&own, &chosen));
    }

    #[test]
    fn what_is_asked_of_the_processor_is_what_graviola_asks() {
        // It panics when it asks for more than this file does.
        if missing() == Some(Vec::new()) {
            let provider = choose(&TlsConfig::new()).unwrap();
            provider.secure_random.fill(&mut [0; 8]).unwrap();
            assert!(
                provider
                    .key_provider
                    .load_private_key(rustls::pki_types::PrivatePkcs8KeyDer::from(vec![0x30]).into())
                    .is_err()
            );
        }
    }
}
