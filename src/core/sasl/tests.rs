//! Exchanges as a broker would lead them.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use super::*;

/// The time of all tests, in Unix seconds.
pub(super) const NOW: u64 = 1_800_000_000;

/// Begins an exchange with a mechanism that waits for nothing.
pub(super) fn begin(mechanism: &dyn SaslMechanism) -> Result<Box<dyn SaslExchange>, SaslError> {
    begin_with(mechanism, &[7; 24])
}

fn begin_with(mechanism: &dyn SaslMechanism, random: &[u8; 24]) -> Result<Box<dyn SaslExchange>, SaslError> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    now_or_never(mechanism.begin(SaslContext { host: "localhost", now, random }))
}

fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("it waits"),
    }
}
