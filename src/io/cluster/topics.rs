//! Which topics the metadata is asked for, and waiting for one of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Inner;
use crate::core::metadata::TopicView;
use crate::error::MetadataError;
use crate::io::clock::after;
use crate::sync::lock;
use crate::wire::ErrorCode;
use crate::wire::requests::metadata::MetadataTopics;

/// The topics that each refresh asks for.
#[derive(Debug, Default)]
pub(super) struct Tracked {
    names: BTreeSet<Arc<str>>,
}

impl Inner {
    pub(super) fn usable_topic(&self, name: &str) -> Option<Arc<TopicView>> {
        self.view.borrow().topic(name).filter(|topic| topic.is_usable()).cloned()
    }

    pub(super) fn tracked_topics(&self) -> MetadataTopics {
        let tracked = lock(&self.tracked);
        match tracked.names.is_empty() {
            true => MetadataTopics::None,
            false => MetadataTopics::Names(tracked.names.iter().cloned().collect()),
        }
    }

    /// Waits until `name` is known, or until nothing more can be hoped for: brokers that answer and do not know it are
    /// asked again for `patience`, brokers that do not answer for `limit`.
    pub(super) async fn topic(
        &self,
        name: &Arc<str>,
        limit: Duration,
        patience: Duration,
    ) -> Result<Arc<TopicView>, MetadataError> {
        if !is_legal_name(name) {
            return Err(MetadataError::InvalidTopicName { topic: name.clone() });
        }
        let is_new = lock(&self.tracked).names.insert(name.clone());
        let outcome = self.wait_for_topic(name, limit, patience).await;
        if outcome.is_err() && is_new {
            // Nobody got it, so nobody needs it: a mistyped name is not asked for again and again.
            lock(&self.tracked).names.remove(name);
        }
        outcome
    }

    async fn wait_for_topic(
        &self,
        name: &Arc<str>,
        limit: Duration,
        patience: Duration,
    ) -> Result<Arc<TopicView>, MetadataError> {
        let started = Instant::now();
        let deadline = after(started, limit);
        let mut attempt = 0u32;
        loop {
            let number = self.refresh.request();
            let asked = self.wait_for_refresh(number, deadline, false).await.is_ok();
            if let Some(topic) = self.usable_topic(name) {
                return Ok(topic);
            }
            let code = self.view.borrow().topic(name).and_then(|topic| topic.error);
            let topic = name.clone();
            match code {
                Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED) => return Err(MetadataError::NotAuthorized { topic }),
                Some(ErrorCode::INVALID_TOPIC_EXCEPTION) => return Err(MetadataError::InvalidTopicName { topic }),
                _ => {}
            }
            attempt = attempt.saturating_add(1);
            let pause = self.retry_backoff().delay(attempt, self.random());
            let next = Instant::now() + pause;
            if next >= deadline || asked && next >= after(started, patience) {
                let waited = started.elapsed().min(limit);
                return Err(match (asked, self.last_refresh_error(number), code) {
                    (false, Some(error), _) => MetadataError::NoBrokerReachable(error),
                    (_, _, Some(code)) if code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
                        MetadataError::Broker { topic, code, waited }
                    }
                    _ => MetadataError::UnknownTopic { topic, waited },
                });
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// Kafka's rule for names, checked here because brokers answer a wrong one only with a code.
pub(crate) fn is_legal_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(legal)
}
