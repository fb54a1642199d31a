//! How often a provider is asked.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use super::*;

/// Gives what the test has put in, and waits while there is nothing.
#[derive(Default)]
struct Given {
    asked: u32,
    next: VecDeque<Result<Token, &'static str>>,
}

fn cache() -> (Arc<Mutex<Given>>, TokenCache) {
    let given = Arc::new(Mutex::new(Given::default()));
    let giver = given.clone();
    let provider = move || {
        lock(&giver).asked += 1;
        let giver = giver.clone();
        poll_fn(move |_| match lock(&giver).next.pop_front() {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        })
    };
    (given, TokenCache::new(Box::new(provider)))
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn get(cache: &TokenCache, seconds: u64) -> Result<Token, SaslError> {
    match poll(pin!(cache.get(at(seconds)))) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("it waits"),
    }
}

fn give(given: &Mutex<Given>, outcome: Result<Token, &'static str>) {
    lock(given).next.push_back(outcome);
}

#[test]
fn a_token_is_used_for_80_percent_of_its_lifetime() {
    let (given, cache) = cache();
    give(&given, Ok(Token::new("a").expires_in(Duration::from_secs(100))));
    give(&given, Ok(Token::new("b").expires_at(at(90)).expires_in(Duration::from_secs(100))));
    give(&given, Ok(Token::new("c")));
    give(&given, Ok(Token::new("d")));
    for (seconds, value) in [(0, "a"), (79, "a"), (80, "b"), (87, "b"), (88, "c"), (88, "d")] {
        assert_eq!(get(&cache, seconds).expect("token").value(), value, "at {seconds} s");
    }
    assert_eq!(lock(&given).asked, 4);
}

#[test]
fn a_provider_that_fails_costs_nothing_while_the_token_is_good() {
    let (given, cache) = cache();
    give(&given, Ok(Token::new("a").expires_in(Duration::from_secs(100))));
    give(&given, Err("down"));
    give(&given, Err("still\ndown"));
    assert_eq!(get(&cache, 0).expect("token").value(), "a");
    assert_eq!(get(&cache, 99).expect("the old one").value(), "a");
    assert_eq!(get(&cache, 100), Err(SaslError::Token("still down".into())));
}

#[test]
fn a_token_that_was_refused_is_not_given_again() {
    let (given, cache) = cache();
    give(&given, Ok(Token::new("a").expires_in(Duration::from_secs(100))));
    give(&given, Ok(Token::new("b").expires_in(Duration::from_secs(100))));
    assert_eq!(get(&cache, 0).expect("token").value(), "a");
    cache.forget();
    assert_eq!(get(&cache, 1).expect("token").value(), "b");
}

#[test]
fn who_comes_while_one_is_fetched_shares_it() {
    for outcome in [Ok(Token::new("a")), Err("down")] {
        let (given, cache) = cache();
        let (mut first, mut second) = (pin!(cache.get(at(0))), pin!(cache.get(at(0))));
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        give(&given, outcome.clone());
        let expected = Poll::Ready(outcome.map_err(|why| SaslError::Token(why.into())));
        assert_eq!(poll(first), expected);
        assert_eq!(poll(second), expected);
        assert_eq!(lock(&given).asked, 1);
    }
}

/// Story: the connection that fetches is given up. The one that waits fetches itself.
#[test]
fn a_fetch_that_is_given_up_is_taken_over() {
    let (given, cache) = cache();
    let mut first = Box::pin(cache.get(at(0)));
    let mut second = pin!(cache.get(at(0)));
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    drop(first);
    assert!(poll(second.as_mut()).is_pending());
    assert_eq!(lock(&given).asked, 2);
    give(&given, Ok(Token::new("a")));
    assert_eq!(poll(second), Poll::Ready(Ok(Token::new("a"))));
}

#[test]
fn the_exp_claim_is_read_of_whatever_is_a_json_web_token() {
    let jwt = |claims: &str| jwt_expiry(&format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims)));
    let seconds = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    assert_eq!(jwt(r#"{"exp":1800000000}"#), seconds(1_800_000_000));
    assert_eq!(jwt(r#"{"sub":"a","exp":1800000000.75}"#), seconds(1_800_000_000));
    assert_eq!(jwt(r#"{"exp":-5}"#), seconds(0));
    for claims in ["", "{}", "[]", r#"{"exp":"1800000000"}"#, r#"{"exp":null}"#, r#"{"exp":1e300}"#] {
        assert_eq!(jwt(claims), None, "{claims}");
    }
    for token in ["", "a", "a.b", "..", "a.e30.c.d", "a.!.c"] {
        assert_eq!(jwt_expiry(token), None, "{token}");
    }
}
