//! The address that gives out tokens.

use std::fmt;

use hyper::Uri;

use crate::config::ConfigError;

/// The property that names it, as Kafka calls it.
const PROPERTY: &str = "sasl.oauthbearer.token.endpoint.url";

/// A token endpoint: https, and nothing in it that would have to be hidden.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The name that the certificate must have; an IPv6 address stands without brackets.
    pub(super) host: String,
    /// 443 unless the address says otherwise.
    pub(super) port: u16,
    /// The `Host` header.
    pub(super) authority: String,
    path: String,
    query: Option<String>,
}

impl Endpoint {
    /// Takes an address apart.
    ///
    /// # Errors
    /// [`ConfigError::Material`] for other schemes than https (a `file:` would be read, CVE-2025-27817; by http the secret
    /// would be sent in clear), for user info and for a fragment (RFC 6749, 3.2). The address is not repeated: it may
    /// hold a password.
    pub(super) fn parse(url: &str) -> Result<Endpoint, ConfigError> {
        let refused = |why: &str| ConfigError::Material { setting: PROPERTY.to_owned(), why: why.to_owned() };
        let (scheme, rest) = url.split_once(':').unwrap_or_default();
        match scheme.to_ascii_lowercase().as_str() {
            "https" if rest.starts_with("//") => {}
            "http" => return Err(refused("http would send the client's secret in clear: use https")),
            "file" => return Err(refused("a file is no token endpoint: use https, or a TokenProvider of your own")),
            _ => return Err(refused("expected an https address, such as https://id.example.com/oauth2/token")),
        }
        if url.contains('#') {
            return Err(refused("a token endpoint has no fragment (RFC 6749, 3.2): leave out # and what follows"));
        }
        let uri: Uri = url.parse().map_err(|_| refused("this is not an address that RFC 3986 allows"))?;
        let Some(authority) = uri.authority() else {
            return Err(refused("the address names no host"));
        };
        if authority.as_str().contains('@') {
            return Err(refused("user and password do not belong in the address: give client id and client secret"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(refused("the address names no host"));
        }
        // `port()` is silent about numbers that are too large.
        let port = match authority.as_str().strip_prefix(authority.host()).unwrap_or_default() {
            "" => 443,
            port => match port.trim_start_matches(':').parse::<u16>() {
                Ok(port) if port > 0 => port,
                _ => return Err(refused("the port is not a number from 1 to 65535")),
            },
        };
        Ok(Endpoint {
            host: host.to_owned(),
            port,
            authority: authority.as_str().to_owned(),
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
        })
    }

    /// What stands in the request line.
    pub(super) fn path_and_query(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }
}

/// Without the query, in which some servers take keys.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.authority, self.path)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_addresses_are_taken_apart() {
        let endpoint = Endpoint::parse("https://id.example.com/realms/a/token?tenant=7").unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.port), ("id.example.com", 443));
        assert_eq!(endpoint.path_and_query(), "/realms/a/token?tenant=7");
        assert_eq!(format!("{endpoint} {endpoint:?}").matches("https://id.example.com/realms/a/token").count(), 2);
        assert!(!format!("{endpoint} {endpoint:?}").contains("tenant"));
        let endpoint = Endpoint::parse("HTTPS://[::1]:8443").unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.port, endpoint.authority.as_str()), ("::1", 8443, "[::1]:8443"));
        assert_eq!(endpoint.path_and_query(), "/");
    }

    #[test]
    fn anything_else_is_refused_and_not_repeated() {
        for (url, word) in [
            ("http://id.example.com/hunter2", "clear"),
            ("file:///etc/hunter2", "file"),
            ("FILE:/etc/hunter2", "file"),
            ("jar:file:/hunter2", "https"),
            ("hunter2", "https"),
            ("", "https"),
            ("https:hunter2", "https"),
            ("https:/hunter2/", "https"),
            ("https://", "address"),
            ("https:///hunter2", "address"),
            ("https://user:hunter2@id.example.com/token", "client secret"),
            ("https://id.example.com/token#hunter2", "fragment"),
            ("https://id.example.com:99999/hunter2", "port"),
            ("https://id.example.com:0/hunter2", "port"),
            ("https://id.example.com/hunter2 x", "address"),
        ] {
            let error = Endpoint::parse(url).expect_err(url).to_string();
            assert!(error.contains(word), "{url}: {error}");
            assert!(
                error.starts_with("sasl.oauthbearer.token.endpoint.url: ") && !error.contains("hunter2"),
                "{error}"
            );
            assert!(!error.contains('\n'));
        }
    }
}
