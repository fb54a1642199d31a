//! Tokens from an OpenID or OAuth 2.0 server, by client credentials (RFC 6749, 4.4).

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Request;
use hyper::header::{self, HeaderValue};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use self::answer::{Failure, Granted};
use self::endpoint::Endpoint;
use super::random::Random;
use super::stream::Stream;
use super::tls::TlsContext;
use crate::config::{ConfigError, Secret, TlsConfig};
use crate::core::retry::Backoff;
use crate::core::sasl::{Token, TokenFuture, TokenProvider};
use crate::error::{Human, TlsFailure};

mod answer;
mod endpoint;
mod http;
#[cfg(test)]
mod tests;

/// Requests for one token: the first, and four more.
const MAX_ATTEMPTS: u32 = 5;

/// Gets tokens for SASL/OAUTHBEARER from a token endpoint, by the client credentials grant of OAuth 2.0 (RFC 6749, 4.4;
/// KIP-768). Needs the feature `oidc`. Give it to [`crate::SaslConfig::oauthbearer`].
///
/// ```no_run
/// use indelible::{OidcClientCredentials, SaslConfig, Secret, TlsConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let secret = Secret::from_env("OAUTH_CLIENT_SECRET")?;
/// let tokens = OidcClientCredentials::new("https://id.example.com/oauth2/token", "orders-service", secret)?.scope("kafka");
/// let client = indelible::Client::builder(["broker.example.com:9093"])
///     .tls(TlsConfig::new())
///     .sasl(SaslConfig::oauthbearer(tokens));
/// # Ok(()) }
/// ```
///
/// Every token is asked for by a connection of its own; for how long it is used is decided by its lifetime. Client id and
/// secret go in the `Authorization` header, form-urlencoded as RFC 6749, 2.3.1 says. Redirects are not followed, proxies
/// not used. An answer is at most 64 KiB. Certificate and name of the server are verified as those of brokers are.
///
/// It is asked on the client's I/O thread. Elsewhere it needs a tokio runtime with I/O and time.
#[derive(Clone)]
#[must_use = "give it to SaslConfig::oauthbearer"]
pub struct OidcClientCredentials {
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Shared {
    endpoint: Endpoint,
    client_id: String,
    secret: Secret,
    scope: Option<String>,
    urlencode: bool,
    extensions: Vec<(String, String)>,
    tls: TlsConfig,
    limit: Duration,
    backoff: Backoff,
    /// Read when the first token is asked for: this blocks on the disk.
    context: OnceCell<Arc<TlsContext>>,
}

impl OidcClientCredentials {
    /// Asks `token_endpoint_url` (Kafka's `sasl.oauthbearer.token.endpoint.url`), an https address, as the client
    /// `client_id` with `secret`.
    ///
    /// # Errors
    /// [`ConfigError`] for an address that is not https, or has a user, a password or a fragment in it, and for an empty
    /// client id or secret.
    pub fn new(
        token_endpoint_url: &str,
        client_id: impl Into<String>,
        secret: impl Into<Secret>,
    ) -> Result<OidcClientCredentials, ConfigError> {
        let (endpoint, client_id, secret) = (Endpoint::parse(token_endpoint_url)?, client_id.into(), secret.into());
        for (setting, missing) in [("clientId", client_id.is_empty()), ("clientSecret", secret.is_empty())] {
            if missing {
                let why = "it is empty: the token endpoint tells both to its registered clients".to_owned();
                return Err(ConfigError::Material { setting: setting.to_owned(), why });
            }
        }
        let shared = Shared {
            endpoint,
            client_id,
            secret,
            scope: None,
            urlencode: true,
            extensions: Vec::new(),
            tls: TlsConfig::new(),
            limit: Duration::from_secs(8),
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(10)),
            context: OnceCell::new(),
        };
        Ok(OidcClientCredentials { shared: Arc::new(shared) })
    }

    /// What the token is to be good for, as the endpoint names it; several words with spaces between (RFC 6749, 3.3).
    /// Kafka's `scope`. Without it the endpoint decides.
    pub fn scope(self, scope: impl Into<String>) -> OidcClientCredentials {
        self.with(|shared| shared.scope = Some(scope.into()))
    }

    /// What the endpoint's certificate is verified with. Default: the system's roots. These are settings of their own: the
    /// brokers' `tls` does not count here.
    pub fn tls(self, tls: TlsConfig) -> OidcClientCredentials {
        self.with(|shared| {
            shared.tls = tls;
            shared.context = OnceCell::new();
        })
    }

    /// A SASL extension that goes to the broker with each token (KIP-342), such as `logicalCluster`.
    pub fn extension(self, name: impl Into<String>, value: impl Into<String>) -> OidcClientCredentials {
        self.with(|shared| shared.extensions.push((name.into(), value.into())))
    }

    /// Whether client id and secret are form-urlencoded before they become a header, as RFC 6749, 2.3.1 says. Default true.
    /// Kafka's `sasl.oauthbearer.header.urlencode`, which is false there: it matters when one of them has other characters
    /// than letters, digits and `-_.*`, and the endpoint does not follow the RFC.
    pub fn urlencode_header(self, urlencode: bool) -> OidcClientCredentials {
        self.with(|shared| shared.urlencode = urlencode)
    }

    /// How long one token may take in all, further attempts included. Default 8 s: less than the 10 s of
    /// `socket.connection.setup.timeout.ms`, so that the error names what the endpoint did.
    pub fn timeout(self, limit: Duration) -> OidcClientCredentials {
        self.with(|shared| shared.limit = limit)
    }

    /// The wait before a further attempt, doubled for each, up to `most`. Default 100 ms, 10 s: Kafka's
    /// `sasl.login.retry.backoff.ms` and `sasl.login.retry.backoff.max.ms`. There are at most five attempts, and further
    /// ones only after a broken connection and after the statuses 408, 429 and 5xx.
    pub fn retry_backoff(self, first: Duration, most: Duration) -> OidcClientCredentials {
        self.with(|shared| shared.backoff = Backoff::new(first, most))
    }

    fn with(mut self, change: impl FnOnce(&mut Shared)) -> OidcClientCredentials {
        change(Arc::make_mut(&mut self.shared));
        self
    }
}

impl TokenProvider for OidcClientCredentials {
    fn token<'a>(&'a self) -> TokenFuture<'a> {
        Box::pin(async {
            let shared = &self.shared;
            let granted = shared.grant().await.map_err(|why| format!("{}: {why}", shared.endpoint))?;
            let mut token = Token::new(granted.token);
            if let Some(lifetime) = granted.lifetime {
                token = token.expires_in(lifetime);
            }
            for (name, value) in &shared.extensions {
                token = token.extension(name, value);
            }
            Ok(token)
        })
    }
}

/// Without the secret.
impl fmt::Debug for OidcClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcClientCredentials")
            .field("endpoint", &self.shared.endpoint)
            .field("client_id", &self.shared.client_id)
            .field("secret", &self.shared.secret)
            .field("scope", &self.shared.scope)
            .field("tls", &self.shared.tls)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// A token within the limit, or why there is none.
    async fn grant(&self) -> Result<Granted, String> {
        let mut last = None;
        let random = Random::new();
        let attempts = async {
            for attempt in 0..MAX_ATTEMPTS {
                sleep(self.backoff.delay(attempt, random.next())).await;
                match self.attempt().await {
                    Ok(granted) => return Ok(granted),
                    Err(Failure::Final(why)) => return Err(why),
                    Err(Failure::Passing(why)) => {
                        tracing::debug!(endpoint = %self.endpoint, attempt, why, "no token yet");
                        last = Some(why);
                    }
                }
            }
            Err(format!("{} (after {MAX_ATTEMPTS} attempts)", last.take().unwrap_or_default()))
        };
        let outcome = timeout(self.limit, attempts).await;
        outcome.unwrap_or_else(|_| {
            let before = last.map_or(String::new(), |why| format!("; before that: {why}"));
            Err(format!("no token within {:?}{before}", self.limit))
        })
    }

    async fn attempt(&self) -> Result<Granted, Failure> {
        let (authorization, hide) = self.authorization()?;
        let request = self.request(&authorization)?;
        let stream = self.connect().await?;
        let (status, body) = http::exchange(stream, request).await.map_err(|broken| match broken {
            http::Broken::TooLarge => Failure::Final(broken.to_string()),
            http::Broken::Http(_) => Failure::Passing(broken.to_string()),
        })?;
        let hide: Vec<&str> = hide.iter().map(|text| text.as_str()).collect();
        answer::read(status, &body, &hide)
    }

    /// The header that says who asks (RFC 7617), and all texts that contain the secret.
    fn authorization(&self) -> Result<(Zeroizing<String>, [Zeroizing<String>; 3]), Failure> {
        let coded = |text: &str| Zeroizing::new(if self.urlencode { form_urlencoded(text) } else { text.to_owned() });
        if !self.urlencode && self.client_id.contains(':') {
            // RFC 7617: the first colon ends the user.
            return Err(Failure::Final("a client id with a colon cannot be sent without urlencoding it".to_owned()));
        }
        let secret = coded(self.secret.expose());
        let pair = Zeroizing::new(format!("{}:{}", *coded(&self.client_id), *secret));
        let basic = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
        let header = Zeroizing::new(format!("Basic {}", *basic));
        Ok((header, [basic, secret, Zeroizing::new(self.secret.expose().to_owned())]))
    }

    fn request(&self, authorization: &str) -> Result<Request<String>, Failure> {
        // No error of these repeats the header.
        let unfit = |_| Failure::Final("the address or the client id cannot be sent by HTTP".to_owned());
        let mut authorization = HeaderValue::from_str(authorization).map_err(|error| unfit(error.into()))?;
        authorization.set_sensitive(true);
        let mut form = "grant_type=client_credentials".to_owned();
        if let Some(scope) = &self.scope {
            form.push_str("&scope=");
            form.push_str(&form_urlencoded(scope));
        }
        Request::post(self.endpoint.path_and_query())
            .header(header::HOST, &self.endpoint.authority)
            .header(header::AUTHORIZATION, authorization)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .header(header::CACHE_CONTROL, "no-cache")
            .header(header::CONNECTION, "close")
            .header(header::USER_AGENT, concat!("indelible/", env!("CARGO_PKG_VERSION")))
            .body(form)
            .map_err(unfit)
    }

    /// To the first of the endpoint's addresses that answers, with its name verified.
    async fn connect(&self) -> Result<Stream, Failure> {
        let Endpoint { host, port, .. } = &self.endpoint;
        let tls = self.context.get_or_try_init(|| self.load()).await?;
        let addresses = lookup_host((host.as_str(), *port)).await;
        let addresses = addresses.map_err(|error| Failure::Passing(format!("cannot look the name up: {error}")))?;
        self.reach(tls, &addresses.collect::<Vec<_>>()).await
    }

    /// One address after the other. None may take the time of those behind it: of some names the first leads nowhere. The
    /// last one has what is left.
    async fn reach(&self, tls: &TlsContext, addresses: &[SocketAddr]) -> Result<Stream, Failure> {
        let each = self.limit / u32::try_from(addresses.len()).unwrap_or(u32::MAX).saturating_add(1);
        let mut failure = Failure::Passing("the name has no address".to_owned());
        for (behind, address) in (0..addresses.len()).rev().zip(addresses) {
            let limit = if behind == 0 { self.limit } else { each };
            let connecting = async {
                let stream = TcpStream::connect(address).await;
                let stream =
                    stream.map_err(|error| Failure::Passing(format!("cannot connect to {address}: {error}")))?;
                tls.connect(&self.endpoint.host, stream).await.map_err(|error| match error {
                    TlsFailure::Ended(_) => Failure::Passing(of_tls(&error)),
                    // Whose certificate is wrong will not have a better one in a second.
                    _ => Failure::Final(of_tls(&error)),
                })
            };
            match timeout(limit, connecting).await {
                Ok(Err(passing @ Failure::Passing(_))) => failure = passing,
                Ok(outcome) => return outcome,
                Err(_) => failure = Failure::Passing(format!("{address} does not answer within {}", Human(limit))),
            }
        }
        Err(failure)
    }

    async fn load(&self) -> Result<Arc<TlsContext>, Failure> {
        let tls = self.tls.clone();
        let loaded = tokio::task::spawn_blocking(move || TlsContext::load(&tls)).await;
        let loaded = loaded.map_err(|_| Failure::Final("the thread that reads the TLS files ended".to_owned()))?;
        loaded.map(Arc::new).map_err(|error| Failure::Final(of_tls(&error)))
    }
}

/// The roots for this server have another name than those for brokers.
fn of_tls(error: &dyn fmt::Display) -> String {
    error.to_string().replace("ssl.truststore.location", "https.ca.location or OidcClientCredentials::tls")
}

/// `application/x-www-form-urlencoded` (RFC 6749, appendix B; the URL standard, 5.2), the same set as Java's URLEncoder.
fn form_urlencoded(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    // Of its full size from the beginning: to grow would leave copies behind.
    let mut out = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => {
                out.push('%');
                for nibble in [byte >> 4, byte & 15] {
                    out.push(HEX.get(usize::from(nibble)).map_or('0', |digit| char::from(*digit)));
                }
            }
        }
    }
    out
}
