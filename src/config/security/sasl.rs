//! The properties `sasl.*`.

use std::path::PathBuf;
use std::time::Duration;

use super::super::jaas::{Jaas, Module};
use super::super::{ConfigError, MAX_MILLIS, PemSource, Raw, SaslConfig, Secret};
use super::{Given, SecurityProtocol, conflict, first_name};

/// What was given of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SaslProperties {
    mechanism: Option<Given<Mechanism>>,
    jaas: Option<Given<Jaas>>,
    username: Option<Given<String>>,
    password: Option<Given<Secret>>,
    /// Not shown: user and password in it are refused only later, and some have keys in their query.
    endpoint: Option<Given<Secret>>,
    client_id: Option<Given<String>>,
    client_secret: Option<Given<Secret>>,
    scope: Option<Given<String>>,
    extensions: Option<Given<Vec<(String, String)>>>,
    https_file: Option<Given<PathBuf>>,
    https_text: Option<Given<Secret>>,
    urlencode: Option<Given<bool>>,
    backoff: Option<Given<Duration>>,
    backoff_max: Option<Given<Duration>>,
}

/// The mechanisms that a property can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
    OAuthBearer,
}

impl Mechanism {
    const ALL: [Mechanism; 4] =
        [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512, Mechanism::OAuthBearer];

    fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
            Mechanism::OAuthBearer => "OAUTHBEARER",
        }
    }

    /// Its login module in `sasl.jaas.config`.
    fn module(self) -> Module {
        match self {
            Mechanism::Plain => Module::Plain,
            Mechanism::ScramSha256 | Mechanism::ScramSha512 => Module::Scram,
            Mechanism::OAuthBearer => Module::OAuthBearer,
        }
    }
}

impl SaslProperties {
    /// The name of one that was given.
    pub(super) fn name(&self) -> Option<&str> {
        let user = first_name!(self.mechanism, self.jaas, self.username, self.password);
        user.or(self.token_name())
    }

    /// The name of one that is for tokens only.
    fn token_name(&self) -> Option<&str> {
        let client = first_name!(self.endpoint, self.client_id, self.client_secret, self.scope, self.extensions);
        let manner = first_name!(self.https_file, self.https_text, self.urlencode, self.backoff, self.backoff_max);
        client.or(manner)
    }

    pub(super) fn mechanism(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        if raw.text().eq_ignore_ascii_case("GSSAPI") {
            return Err(ConfigError::NotSupported { name: raw.name.to_owned(), why: GSSAPI });
        }
        let words = Mechanism::ALL.map(|mechanism| (mechanism.name(), mechanism));
        self.mechanism = Given::new(raw, raw.one_of(&words)?);
        Ok(())
    }

    pub(super) fn jaas(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        let parsed = Jaas::parse(raw.value);
        let parsed = parsed.map_err(|why| ConfigError::Material { setting: raw.name.to_owned(), why })?;
        self.jaas = Given::new(raw, parsed);
        Ok(())
    }

    pub(super) fn username(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        self.username = Given::new(raw, raw.value.to_owned());
        Ok(())
    }

    /// As it is: blanks may be a part of it.
    pub(super) fn password(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        self.password = Given::new(raw, Secret::new(raw.value));
        Ok(())
    }

    pub(super) fn endpoint(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        self.endpoint = Given::new(raw, Secret::new(raw.non_empty()?));
        Ok(())
    }

    pub(super) fn client_id(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        self.client_id = Given::new(raw, raw.non_empty()?);
        Ok(())
    }

    pub(super) fn client_secret(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        self.client_secret = Given::new(raw, Secret::new(raw.text()));
        Ok(())
    }

    pub(super) fn scope(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        self.scope = Given::new(raw, raw.text().to_owned());
        Ok(())
    }

    pub(super) fn extensions(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        let pair = |pair: &String| {
            let (name, value) = pair.split_once('=')?;
            Some((name.trim().to_owned(), value.trim().to_owned()))
        };
        let pairs: Option<Vec<(String, String)>> = raw.list().iter().map(pair).collect();
        let pairs = pairs.ok_or_else(|| raw.expected("name=value, separated by commas"))?;
        self.extensions = Given::new(raw, pairs);
        Ok(())
    }

    pub(super) fn https_file(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        self.https_file = Given::new(raw, PathBuf::from(raw.non_empty()?));
        Ok(())
    }

    pub(super) fn https_text(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        self.https_text = Given::new(raw, Secret::new(raw.text()));
        Ok(())
    }

    /// Whether id and secret are encoded before they are joined (RFC 6749, 2.3.1).
    pub(super) fn urlencode(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        self.urlencode = Given::new(raw, raw.boolean()?);
        Ok(())
    }

    pub(super) fn backoff(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        self.backoff = Given::new(raw, raw.millis(1..=MAX_MILLIS)?);
        Ok(())
    }

    pub(super) fn backoff_max(&mut self, raw: &Raw<'_>) -> Result<(), ConfigError> {
        self.backoff_max = Given::new(raw, raw.millis(1..=MAX_MILLIS)?);
        Ok(())
    }

    /// All of it together, for `protocol`.
    pub(super) fn config(&self, protocol: SecurityProtocol) -> Result<SaslConfig, ConfigError> {
        let Some(Given { value: mechanism, .. }) = self.mechanism else {
            let protocol = protocol.name();
            return conflict(format!(
                "security.protocol={protocol} needs sasl.mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER \
                 (Java's default, GSSAPI, is not built in: see SaslConfig::mechanism)"
            ));
        };
        if let Some(jaas) = &self.jaas
            && jaas.value.module != mechanism.module()
        {
            let (module, name, fits) = (jaas.value.module.name(), mechanism.name(), mechanism.module().name());
            return conflict(format!("sasl.jaas.config has {module}, and sasl.mechanism={name} needs {fits}"));
        }
        let user = || self.user(mechanism);
        match mechanism {
            Mechanism::Plain => user().map(|(username, password)| SaslConfig::plain(username, password)),
            Mechanism::ScramSha256 => user().map(|(username, password)| SaslConfig::scram_sha_256(username, password)),
            Mechanism::ScramSha512 => user().map(|(username, password)| SaslConfig::scram_sha_512(username, password)),
            Mechanism::OAuthBearer => match first_name!(self.username, self.password) {
                Some(name) => conflict(format!("property {name:?} is not for OAUTHBEARER: leave it out")),
                None => self.tokens(),
            },
        }
    }

    fn user(&self, mechanism: Mechanism) -> Result<(String, Secret), ConfigError> {
        if let Some(name) = self.token_name() {
            let mechanism = mechanism.name();
            return conflict(format!("property {name:?} is for OAUTHBEARER, not for {mechanism}: leave it out"));
        }
        let given = first_name!(self.username, self.password);
        if let (Some(_), Some(name)) = (&self.jaas, given) {
            return conflict(format!("sasl.jaas.config and {name} both say who this client is: leave one out"));
        }
        if let Some(jaas) = &self.jaas
            && let (Some(username), Some(password)) = (jaas.value.get("username"), jaas.value.get("password"))
        {
            return Ok((username.expose().to_owned(), password.clone()));
        }
        if let (Some(username), Some(password)) = (&self.username, &self.password) {
            return Ok((username.value.clone(), password.value.clone()));
        }
        let mechanism = mechanism.name();
        let (missing, other) = match given {
            Some("sasl.username") => ("sasl.password", ""),
            Some(_) => ("sasl.username", ""),
            None => ("sasl.jaas.config", ", or sasl.username and sasl.password"),
        };
        conflict(format!("sasl.mechanism={mechanism} needs {missing}{other}"))
    }

    /// OAUTHBEARER: from an OpenID provider by client credentials.
    fn tokens(&self) -> Result<SaslConfig, ConfigError> {
        let jaas = self.jaas.as_ref().map(|jaas| &jaas.value);
        let id = self.client_id.as_ref().map(|id| id.value.as_str());
        let id = once("clientId", "client.credentials.client.id", id, jaas)?;
        let secret = self.client_secret.as_ref().map(|secret| secret.value.expose());
        let secret = once("clientSecret", "client.credentials.client.secret", secret, jaas)?;
        let scope = once("scope", "scope", self.scope.as_ref().map(|scope| scope.value.as_str()), jaas)?;
        let (Some(endpoint), Some(id), Some(secret)) = (&self.endpoint, id, secret) else {
            return conflict(
                "sasl.mechanism=OAUTHBEARER needs sasl.oauthbearer.token.endpoint.url and clientId and clientSecret in \
                 sasl.jaas.config, or sasl.oauthbearer.client.credentials.client.id and .secret (for tokens from elsewhere, \
                 give SaslConfig::oauthbearer a TokenProvider)"
                    .to_owned(),
            );
        };
        let roots = match (&self.https_file, &self.https_text) {
            (Some(_), Some(_)) => {
                return conflict("https.ca.location and https.ca.pem are both given: leave one out".to_owned());
            }
            (Some(file), None) => Some(PemSource::File(file.value.clone())),
            (None, text) => text.as_ref().map(|text| PemSource::Text(text.value.clone())),
        };
        let given = self.extensions.iter().flat_map(|given| &given.value).map(|(name, value)| (&**name, &**value));
        let told = jaas.into_iter().flat_map(Jaas::extensions).map(|(name, value)| (name, value.expose()));
        let wait = |given: &Option<Given<Duration>>, or| given.as_ref().map_or(or, |given| given.value);
        from_provider(ClientCredentials {
            endpoint: endpoint.value.expose(),
            id,
            secret,
            scope,
            extensions: given.chain(told).collect(),
            roots,
            // Java's default, so that what works there works here.
            urlencode: self.urlencode.as_ref().is_some_and(|given| given.value),
            backoff: (
                wait(&self.backoff, Duration::from_millis(100)),
                wait(&self.backoff_max, Duration::from_secs(10)),
            ),
        })
    }
}

const GSSAPI: &str = "it is not built in: give SaslConfig::mechanism an implementation";

/// The option of `sasl.jaas.config`, or the property that has come in its place (KIP-1139).
fn once<'a>(
    option: &str,
    property: &str,
    given: Option<&'a str>,
    jaas: Option<&'a Jaas>,
) -> Result<Option<&'a str>, ConfigError> {
    match (given, jaas.and_then(|jaas| jaas.get(option))) {
        (Some(_), Some(_)) => conflict(format!(
            "{option} in sasl.jaas.config and sasl.oauthbearer.{property} say the same thing: leave one out"
        )),
        (Some(given), None) => Ok(Some(given)),
        (None, told) => Ok(told.map(Secret::expose)),
    }
}

/// What an OpenID provider is asked, and how.
struct ClientCredentials<'a> {
    endpoint: &'a str,
    id: &'a str,
    secret: &'a str,
    scope: Option<&'a str>,
    extensions: Vec<(&'a str, &'a str)>,
    roots: Option<PemSource>,
    urlencode: bool,
    backoff: (Duration, Duration),
}

#[cfg(feature = "oidc")]
fn from_provider(credentials: ClientCredentials<'_>) -> Result<SaslConfig, ConfigError> {
    let ClientCredentials { endpoint, id, secret, scope, extensions, roots, urlencode, backoff } = credentials;
    let mut tokens = crate::OidcClientCredentials::new(endpoint, id, secret)?;
    tokens = tokens.urlencode_header(urlencode).retry_backoff(backoff.0, backoff.1);
    if let Some(scope) = scope {
        tokens = tokens.scope(scope);
    }
    for (name, value) in extensions {
        tokens = tokens.extension(name, value);
    }
    if let Some(roots) = roots {
        let mut tls = crate::TlsConfig::new();
        tls.roots.push(roots);
        tokens = tokens.tls(tls);
    }
    Ok(SaslConfig::oauthbearer(tokens))
}

#[cfg(not(feature = "oidc"))]
fn from_provider(credentials: ClientCredentials<'_>) -> Result<SaslConfig, ConfigError> {
    let ClientCredentials { endpoint, id, secret, scope, extensions, roots, urlencode, backoff } = credentials;
    let _ = (endpoint, id, secret, scope, extensions, roots, urlencode, backoff);
    Err(ConfigError::NotSupported {
        name: "sasl.oauthbearer.token.endpoint.url".to_owned(),
        why: "this program was built without indelible's feature `oidc`: build it with that, or give \
              SaslConfig::oauthbearer a TokenProvider",
    })
}

/// `sasl.login.callback.handler.class`: what Java needs said to get tokens from an OpenID provider (KIP-768).
pub(super) fn callback(raw: &Raw<'_>) -> Result<(), ConfigError> {
    const OPEN_ID: [&str; 2] = [
        "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler",
        "org.apache.kafka.common.security.oauthbearer.secured.OAuthBearerLoginCallbackHandler",
    ];
    if OPEN_ID.contains(&raw.text()) {
        return Ok(());
    }
    Err(ConfigError::NotSupported {
        name: raw.name.to_owned(),
        why: "of Java's classes only Kafka's OAuthBearerLoginCallbackHandler is known; for other tokens, give \
              SaslConfig::oauthbearer a TokenProvider",
    })
}
