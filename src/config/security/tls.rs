//! The properties `ssl.*`.

use std::path::PathBuf;

use super::super::{ConfigError, PemSource, Raw, Secret, TlsConfig, TlsVersions, canonical};
use super::{Given, conflict, first_name};

/// What was given of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TlsProperties {
    trust_file: Option<Given<PathBuf>>,
    trust_text: Option<Given<Secret>>,
    /// Certificate and key in one file.
    keystore: Option<Given<PathBuf>>,
    chain_file: Option<Given<PathBuf>>,
    chain_text: Option<Given<Secret>>,
    key_file: Option<Given<PathBuf>>,
    key_text: Option<Given<Secret>>,
    key_password: Option<Given<Secret>>,
    enabled: Option<Given<TlsVersions>>,
    protocol: Option<Given<TlsVersions>>,
    /// Names of certificates and keys that were given without a value. Java ignores them too where TLS is not used; where
    /// it is, the system's roots must not stand in for those that an unset variable should have named.
    empty: Vec<String>,
}

impl TlsProperties {
    /// The name of one that was given.
    pub(super) fn name(&self) -> Option<&str> {
        let trust = first_name!(self.trust_file, self.trust_text);
        let chain = first_name!(self.keystore, self.chain_file, self.chain_text);
        let key = first_name!(self.key_file, self.key_text, self.key_password);
        trust.or(chain).or(key).or(first_name!(self.enabled, self.protocol))
    }

    fn file(&mut self, raw: &Raw<'_>) -> Option<Given<PathBuf>> {
        self.has_text(raw).then(|| PathBuf::from(raw.text())).and_then(|path| Given::new(raw, path))
    }

    fn secret(&mut self, raw: &Raw<'_>) -> Option<Given<Secret>> {
        self.has_text(raw).then(|| Secret::new(raw.text())).and_then(|text| Given::new(raw, text))
    }

    /// Whether there is any; noted if not, and no more than once for the names of one setting.
    fn has_text(&mut self, raw: &Raw<'_>) -> bool {
        self.empty.retain(|name| canonical(name) != canonical(raw.name));
        if raw.text().is_empty() {
            self.empty.push(raw.name.to_owned());
        }
        !raw.text().is_empty()
    }

    pub(super) fn trust_file(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        self.trust_file = self.file(raw);
        Ok(())
    }

    pub(super) fn trust_text(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        self.trust_text = self.secret(raw);
        Ok(())
    }

    pub(super) fn keystore(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        self.keystore = self.file(raw);
        Ok(())
    }

    pub(super) fn chain_file(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        self.chain_file = self.file(raw);
        Ok(())
    }

    pub(super) fn chain_text(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        self.chain_text = self.secret(raw);
        Ok(())
    }

    pub(super) fn key_file(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        self.key_file = self.file(raw);
        Ok(())
    }

    pub(super) fn key_text(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        self.key_text = self.secret(raw);
        Ok(())
    }

    pub(super) fn key_password(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        self.key_password = Given::new(raw, Secret::new(raw.text())).filter(|given| !given.value.is_empty());
        Ok(())
    }

    /// Of both stores. Java's default is JKS; here a file is PEM without being told.
    pub(super) fn store_type(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        let converting = if raw.name.contains("trust") {
            "only PEM is read: convert JKS and PKCS12 by `keytool -list -rfc -keystore t.jks > t.pem`"
        } else {
            "only PEM is read: convert PKCS12 by `openssl pkcs12 -in k.p12 -out k.pem`, and JKS to PKCS12 by `keytool \
             -importkeystore -srckeystore k.jks -destkeystore k.p12 -deststoretype PKCS12` before"
        };
        match raw.text().to_ascii_uppercase().as_str() {
            "PEM" | "" => Ok(()),
            "JKS" | "PKCS12" => Err(ConfigError::NotSupported { name: raw.name.to_owned(), why: converting }),
            _ => Err(raw.expected("PEM")),
        }
    }

    pub(super) fn enabled(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        let mut found = (false, false);
        for version in raw.list() {
            match version.as_str() {
                "TLSv1.2" => found.0 = true,
                "TLSv1.3" => found.1 = true,
                _ => {
                    return Err(raw.expected("TLSv1.2, TLSv1.3 or both, separated by a comma: older ones are not safe"));
                }
            }
        }
        let versions = match found {
            (true, true) => TlsVersions::Both,
            (true, false) => TlsVersions::Only12,
            (false, true) => TlsVersions::Only13,
            (false, false) => return Err(raw.expected("TLSv1.2, TLSv1.3 or both, separated by a comma")),
        };
        self.enabled = Given::new(raw, versions);
        Ok(())
    }

    /// What Java makes its SSLContext of: with TLSv1.2 it does not speak 1.3 even where that is enabled.
    pub(super) fn protocol(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        let words = [("TLSv1.3", TlsVersions::Both), ("TLS", TlsVersions::Both), ("TLSv1.2", TlsVersions::Only12)];
        self.protocol = Given::new(raw, raw.one_of(&words)?);
        Ok(())
    }

    /// All of it together.
    pub(super) fn config(&self) -> Result<TlsConfig, ConfigError> {
        if let Some(name) = self.empty.first() {
            return conflict(format!("property {name:?} is empty: give it a value, or leave it out"));
        }
        let mut tls = TlsConfig::new();
        tls.roots.extend(one_of(&[from_file(&self.trust_file), from_text(&self.trust_text)])?.map(|given| given.1));
        let chain = one_of(&[from_file(&self.keystore), from_file(&self.chain_file), from_text(&self.chain_text)])?;
        let key = one_of(&[from_file(&self.keystore), from_file(&self.key_file), from_text(&self.key_text)])?;
        match (&chain, &key, &self.key_password) {
            (Some((name, _)), None, _) => {
                return conflict(format!("{name} has a certificate, and its key is missing: give ssl.keystore.key"));
            }
            (None, Some((name, _)), _) => {
                let missing = "give ssl.keystore.certificate.chain";
                return conflict(format!("{name} has a key, and its certificate is missing: {missing}"));
            }
            (None, None, Some(password)) => {
                return conflict(format!(
                    "{} is given, and there is no key: give ssl.keystore.location",
                    password.name
                ));
            }
            (Some(_), Some(_), _) | (None, None, None) => {}
        }
        tls.chain = chain.map(|given| given.1);
        tls.key = key.map(|given| given.1);
        tls.key_password = self.key_password.as_ref().map(|given| given.value.clone());
        tls.versions = match (self.enabled.as_ref(), self.protocol.as_ref()) {
            (None, None) => TlsVersions::default(),
            (Some(enabled), None) => enabled.value,
            (None, Some(protocol)) => protocol.value,
            (Some(enabled), Some(protocol)) => match (enabled.value, protocol.value) {
                (TlsVersions::Only13, TlsVersions::Only12) => {
                    return conflict(
                        "ssl.protocol=TLSv1.2 leaves none of ssl.enabled.protocols: leave ssl.protocol out".to_owned(),
                    );
                }
                (_, TlsVersions::Only12) => TlsVersions::Only12,
                (enabled, _) => enabled,
            },
        };
        Ok(tls)
    }
}

/// A source of PEM, and the property that names it.
type Named<'a> = Option<(&'a str, PemSource)>;

fn from_file(given: &Option<Given<PathBuf>>) -> Named<'_> {
    given.as_ref().map(|given| (given.name.as_str(), PemSource::File(given.value.clone())))
}

fn from_text(given: &Option<Given<Secret>>) -> Named<'_> {
    given.as_ref().map(|given| (given.name.as_str(), PemSource::Text(given.value.clone())))
}

/// The only one that was given.
fn one_of<'a>(sources: &[Named<'a>]) -> Result<Named<'a>, ConfigError> {
    let mut given = sources.iter().flatten();
    match (given.next(), given.next()) {
        (Some((one, _)), Some((other, _))) => {
            conflict(format!("{one} and {other} are both given, and both say the same thing: leave one out"))
        }
        (one, _) => Ok(one.cloned()),
    }
}

/// `ssl.endpoint.identification.algorithm`.
pub(super) fn identification(raw: &Raw<'_>) -> Result<(), ConfigError> {
    if raw.text().eq_ignore_ascii_case("https") {
        return Ok(());
    }
    Err(ConfigError::NotSupported {
        name: raw.name.to_owned(),
        why: "only https is: names are always verified; what switches that off is not a property but the method \
              TlsConfig::dangerously_disable_certificate_verification",
    })
}
