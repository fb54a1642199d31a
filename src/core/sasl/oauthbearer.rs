//! OAUTHBEARER (RFC 7628): a token in place of a name, with Kafka's extensions (KIP-342).
//!
//! ```text
//! n,,^Aauth=Bearer TOKEN^Aname=value^A^A   ->
//!                                          <-  (empty)    or  {"status":"invalid_token"}
//!                                   (then) ->  ^A
//!                                          <-  the refusal
//! ```

use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use zeroize::Zeroizing;

use super::token::{Token, TokenCache, TokenProvider};
use super::{SaslContext, SaslError, SaslExchange, SaslFuture, SaslMechanism};
use crate::error::words;

/// Between the parts of a message.
const SEPARATOR: u8 = 1;
/// The longest answer that is read for its status.
const MOST_BYTES: usize = 4096;

/// The mechanism with what gives its tokens.
pub(crate) struct OAuthBearer(Arc<TokenCache>);

impl OAuthBearer {
    /// Tokens are kept until most of their lifetime is over.
    pub(crate) fn new(provider: impl TokenProvider) -> OAuthBearer {
        OAuthBearer(Arc::new(TokenCache::new(Box::new(provider))))
    }
}

impl SaslMechanism for OAuthBearer {
    fn name(&self) -> &str {
        "OAUTHBEARER"
    }

    fn begin<'a>(&'a self, context: SaslContext<'a>) -> SaslFuture<'a> {
        Box::pin(async move {
            let token = self.0.get(context.now).await?;
            let checked = token.check(context.now).map(|()| Exchange {
                message: Some(message(&token)),
                cache: self.0.clone(),
                status: None,
                accepted: false,
            });
            match checked {
                Ok(exchange) => Ok(Box::new(exchange) as Box<dyn SaslExchange>),
                Err(error) => {
                    self.0.forget();
                    Err(error)
                }
            }
        })
    }

    fn sends_secret(&self) -> bool {
        true
    }
}

impl fmt::Debug for OAuthBearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OAuthBearer")
    }
}

fn message(token: &Token) -> Zeroizing<Vec<u8>> {
    const HEADER: &[u8] = b"n,,\x01auth=Bearer ";
    let extensions: usize = token.extensions().iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    // Allocated once: a vector that grows leaves copies behind.
    let mut message = Zeroizing::new(Vec::with_capacity(HEADER.len() + token.value().len() + extensions + 2));
    message.extend_from_slice(HEADER);
    message.extend_from_slice(token.value().as_bytes());
    message.push(SEPARATOR);
    for (name, value) in token.extensions() {
        message.extend_from_slice(name.as_bytes());
        message.push(b'=');
        message.extend_from_slice(value.as_bytes());
        message.push(SEPARATOR);
    }
    message.push(SEPARATOR);
    message
}

struct Exchange {
    message: Option<Zeroizing<Vec<u8>>>,
    cache: Arc<TokenCache>,
    /// Why the broker will refuse.
    status: Option<String>,
    accepted: bool,
}

impl SaslExchange for Exchange {
    fn first(&mut self) -> Result<Zeroizing<Vec<u8>>, SaslError> {
        Ok(self.message.take().unwrap_or_default())
    }

    fn next(&mut self, challenge: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, SaslError> {
        // The broker had to refuse, and did not: its word before counts.
        if let Some(status) = &self.status {
            return Err(SaslError::Refused(status.clone()));
        }
        if challenge.is_empty() {
            self.accepted = true;
            return Ok(None);
        }
        // RFC 7628, 3.2.3: an error is answered, so that the broker can end the exchange.
        self.status = Some(status(challenge));
        Ok(Some(Zeroizing::new(vec![SEPARATOR])))
    }

    fn refusal(&self) -> Option<String> {
        self.status.clone()
    }
}

impl Drop for Exchange {
    /// A token that was not accepted is not tried again: it may be revoked.
    fn drop(&mut self) {
        if !self.accepted {
            self.cache.forget();
        }
    }
}

/// What an error challenge says: `invalid_token; scope: kafka`.
pub(super) fn status(challenge: &[u8]) -> String {
    let read = challenge.get(..MOST_BYTES).unwrap_or(challenge);
    let Ok(Value::Object(fields)) = serde_json::from_slice(read) else {
        return words(&String::from_utf8_lossy(read));
    };
    let text = |name: &str| fields.get(name).and_then(Value::as_str).map(words).filter(|text| !text.is_empty());
    let status = text("status").unwrap_or_else(|| "without a status".to_owned());
    match text("scope") {
        Some(scope) => format!("{status}; scope: {scope}"),
        None => status,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::tests::begin;
    use super::*;

    #[test]
    fn the_message_is_that_of_rfc_7628_with_the_extensions_of_kip_342() {
        let token = Token::new("eyJh.bG-c_~+/.==");
        let mut exchange = begin(&OAuthBearer::new(token.clone())).expect("exchange");
        assert_eq!(**exchange.first().expect("message"), *b"n,,\x01auth=Bearer eyJh.bG-c_~+/.==\x01\x01");
        assert_eq!(exchange.next(b""), Ok(None));
        let token = token.extension("logicalCluster", "lkc-1 2").extension("pool", "p");
        let mut exchange = begin(&OAuthBearer::new(token)).expect("exchange");
        assert_eq!(
            **exchange.first().expect("message"),
            *b"n,,\x01auth=Bearer eyJh.bG-c_~+/.==\x01logicalCluster=lkc-1 2\x01pool=p\x01\x01"
        );
    }

    #[test]
    fn an_error_challenge_is_answered_and_never_believed_after_that() {
        let challenge = br#"{"status":"invalid_token","scope":"kafka\nadmin","openid-configuration":"https://x"}"#;
        for then in [&b""[..], b"v=", challenge] {
            let mut exchange = begin(&OAuthBearer::new(Token::new("t"))).expect("exchange");
            let _ = exchange.first();
            assert_eq!(exchange.refusal(), None);
            assert_eq!(exchange.next(challenge).expect("answer").expect("bytes").as_slice(), [1]);
            assert_eq!(exchange.refusal().as_deref(), Some("invalid_token; scope: kafka admin"));
            let error = exchange.next(then).expect_err("refused");
            assert_eq!(error, SaslError::Refused("invalid_token; scope: kafka admin".into()));
        }
        assert_eq!(status(b"no json\n"), "no json");
        assert_eq!(status(b"{}"), "without a status");
    }

    #[test]
    fn tokens_and_extensions_that_cannot_be_sent_are_refused_without_showing_them() {
        let cases = [
            (Token::new(""), "the token is empty"),
            (Token::new("sec ret"), "characters that no bearer token has"),
            (Token::new("sec\u{1}ret"), "characters that no bearer token has"),
            (Token::new("=secret"), "characters that no bearer token has"),
            (Token::new("t").extension("auth", "sec"), "\"auth\" is reserved"),
            (Token::new("t").extension("a-b", "sec"), "letters only"),
            (Token::new("t").extension("", "sec"), "letters only"),
            (Token::new("t").extension("a", "sec\u{1}x=y"), "\"a\" has a value"),
            (Token::new("t").extension("a", ""), "\"a\" has a value"),
        ];
        for (token, words) in cases {
            assert!(!format!("{token:?}").contains("sec"), "{token:?}");
            let error = begin(&OAuthBearer::new(token)).err().expect("refused").to_string();
            assert!(error.contains(words), "{error}");
            assert!(!error.contains("sec"), "{error}");
        }
    }

    /// Story: a token is revoked long before it expires.
    #[test]
    fn only_a_token_that_was_accepted_is_used_again() {
        let asked = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let counting = asked.clone();
        let mechanism = OAuthBearer::new(move || {
            counting.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            std::future::ready(Ok::<_, &str>(Token::new("t").expires_in(Duration::from_secs(3600))))
        });
        // What each broker answers, and how often the provider was asked before and by it.
        for (challenge, times) in [(&b""[..], 1), (b"", 1), (br#"{"status":"invalid_token"}"#, 1), (b"", 2), (b"", 2)] {
            let mut exchange = begin(&mechanism).expect("exchange");
            let _ = (exchange.first(), exchange.next(challenge));
            assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), times);
        }
        // Refused without a challenge, by Kafka's error alone.
        drop(begin(&mechanism).expect("exchange"));
        let _ = begin(&mechanism).expect("exchange");
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 3);
    }

    #[test]
    fn an_expired_token_is_not_sent() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(super::super::tests::NOW);
        let error = begin(&OAuthBearer::new(Token::new("t").expires_at(now - Duration::from_secs(90)))).err();
        assert_eq!(error, Some(SaslError::TokenExpired { ago: Duration::from_secs(90) }));
        // {"exp":1000}
        let error = begin(&OAuthBearer::new(Token::new("eyJhbGciOiJub25lIn0.eyJleHAiOjEwMDB9."))).err();
        let error = error.expect("expired").to_string();
        assert!(error.contains("the token expired") && error.contains("clock"), "{error}");
        assert!(begin(&OAuthBearer::new(Token::new("t").expires_at(now + Duration::from_secs(1)))).is_ok());
    }
}
