//! What a token endpoint answers (RFC 6749, 5).

use std::time::Duration;

use hyper::StatusCode;
use serde_json::Value;

use crate::config::Secret;
use crate::error::words;

/// A token, and for how long it may be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) token: Secret,
    /// `expires_in`; without it nothing is known.
    pub(super) lifetime: Option<Duration>,
}

/// Why there is no token, in one line, without any secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The next attempt may do better.
    Passing(String),
    /// It will not.
    Final(String),
}

/// Reads an answer. `hide` is replaced where the endpoint's own words hold it.
pub(super) fn read(status: StatusCode, body: &[u8], hide: &[&str]) -> Result<Granted, Failure> {
    if status.is_redirection() {
        // To follow would hand the client's secret to whoever is named there.
        return Err(Failure::Final(format!(
            "it answers {status}: redirects are not followed, give the address itself"
        )));
    }
    if status != StatusCode::OK && status != StatusCode::CREATED {
        let said = format!("it answers {status}{}", reason(body, hide));
        let passes = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        return Err(if passes { Failure::Passing(said) } else { Failure::Final(said) });
    }
    granted(body).map_err(|why| Failure::Final(format!("it answers {status}, but {why}")))
}

fn granted(body: &[u8]) -> Result<Granted, String> {
    // serde_json's error is not repeated: it may quote what it read.
    let mut answer: Value = serde_json::from_slice(body).map_err(|_| "not with JSON".to_owned())?;
    let token = match answer.get_mut("access_token").map(Value::take) {
        Some(Value::String(token)) => Secret::new(token),
        _ => return Err("without an access_token".to_owned()),
    };
    // RFC 6750, 2.1: what may stand behind "Bearer".
    if token.is_empty() || !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("its access_token is empty or has characters that no bearer token has (RFC 6750)".to_owned());
    }
    match answer.get("token_type") {
        // It must be there (RFC 6749, 5.1), but Kafka's own client does not look at it.
        None | Some(Value::Null) => {}
        Some(Value::String(kind)) if kind.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("bearer")) => {}
        Some(_) => return Err("its token_type is not Bearer: the token would need another way of use".to_owned()),
    }
    let lifetime = match answer.get("expires_in") {
        None | Some(Value::Null) => None,
        Some(value) => match seconds(value) {
            Some(0) => return Err("the token has expired already (expires_in 0)".to_owned()),
            Some(seconds) => Some(Duration::from_secs(seconds)),
            None => return Err("its expires_in is not a number of seconds".to_owned()),
        },
    };
    Ok(Granted { token, lifetime })
}

/// A number, or text of one, as some endpoints have it.
fn seconds(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_u64().or_else(|| {
            let whole = number.as_f64().filter(|seconds| (0.0..1e15).contains(seconds))?;
            Some(whole as u64)
        }),
        _ => None,
    }
}

/// `error` and `error_description` (RFC 6749, 5.2), or what Okta calls them.
fn reason(body: &[u8], hide: &[&str]) -> String {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else { return String::new() };
    let text = |names: [&str; 2]| {
        let found = names.iter().find_map(|name| answer.get(name)?.as_str());
        found.map(|text| quoted(text, hide)).filter(|text| !text.is_empty())
    };
    match (text(["error", "errorCode"]), text(["error_description", "errorSummary"])) {
        (Some(error), Some(description)) => format!(", {error}: {description}"),
        (Some(said), None) | (None, Some(said)) => format!(", {said}"),
        (None, None) => String::new(),
    }
}

/// One line, not long, without what must not be seen: an endpoint may repeat what it was sent.
fn quoted(text: &str, hide: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in hide.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "***");
    }
    words(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(body: &str) -> Result<Granted, Failure> {
        read(StatusCode::OK, body.as_bytes(), &[])
    }

    fn granted(token: &str, seconds: Option<u64>) -> Result<Granted, Failure> {
        Ok(Granted { token: Secret::new(token), lifetime: seconds.map(Duration::from_secs) })
    }

    #[test]
    fn a_token_has_the_lifetime_that_the_endpoint_says() {
        assert_eq!(
            ok(r#"{"access_token":"a.b.c","token_type":"Bearer","expires_in":300}"#),
            granted("a.b.c", Some(300))
        );
        assert_eq!(ok(r#"{"access_token":"t","token_type":"bearer","expires_in":"3599"}"#), granted("t", Some(3599)));
        assert_eq!(ok(r#"{"access_token":"t","expires_in":60.5}"#), granted("t", Some(60)));
        assert_eq!(ok(r#"{"access_token":"t","token_type":"BearerToken","expires_in":null}"#), granted("t", None));
    }

    #[test]
    fn what_is_no_token_is_refused_without_repeating_it() {
        for (body, word) in [
            ("<html>hunter2</html>", "JSON"),
            (r#"{"access_token":"hunter2""#, "JSON"),
            (r#"{"id_token":"hunter2"}"#, "access_token"),
            (r#"["hunter2"]"#, "access_token"),
            (r#"{"access_token":["hunter2"]}"#, "access_token"),
            (r#"{"access_token":""}"#, "empty"),
            (r#"{"access_token":"hunter2 hunter2"}"#, "characters"),
            ("{\"access_token\":\"hunter2\\u0001auth=x\"}", "characters"),
            (r#"{"access_token":"hunter2","token_type":"mac"}"#, "token_type"),
            (r#"{"access_token":"hunter2","token_type":7}"#, "token_type"),
            (r#"{"access_token":"hunter2","expires_in":0}"#, "expired"),
            (r#"{"access_token":"hunter2","expires_in":-1}"#, "expires_in"),
            (r#"{"access_token":"hunter2","expires_in":1e300}"#, "expires_in"),
            (r#"{"access_token":"hunter2","expires_in":"soon"}"#, "expires_in"),
        ] {
            let Err(Failure::Final(said)) = ok(body) else { panic!("{body}: {:?}", ok(body)) };
            assert!(said.contains(word) && !said.contains("hunter2"), "{body}: {said}");
        }
    }

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        for (status, passes) in [(400, false), (401, false), (403, false), (404, false), (408, true), (429, true)]
            .into_iter()
            .chain([(500, true), (501, false), (502, true), (503, true), (204, false)])
        {
            let failure = read(StatusCode::from_u16(status).unwrap(), b"", &[]).unwrap_err();
            assert_eq!(matches!(failure, Failure::Passing(_)), passes, "{status}");
        }
    }

    #[test]
    fn the_endpoints_words_are_short_one_line_and_without_secrets() {
        let long =
            format!(r#"{{"error":"invalid_client","error_description":"bad\nsecret hunter2 {}"}}"#, "x".repeat(999));
        let Err(Failure::Final(said)) = read(StatusCode::UNAUTHORIZED, long.as_bytes(), &["hunter2", ""]) else {
            panic!()
        };
        assert!(said.starts_with("it answers 401 Unauthorized, invalid_client: bad secret *** xxx"), "{said}");
        assert!(said.len() < 400 && said.ends_with("...") && !said.contains('\n'));
    }
}
