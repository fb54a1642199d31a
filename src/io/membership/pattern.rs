//! Topics by a regular expression, in the classic protocol: all topics are looked at every `metadata.max.age.ms`, and when
//! metadata changed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Event, Membership, Subscription};
use crate::core::consume::pattern::{Matched, TopicPattern, is_internal};
use crate::error::{CallError, CallErrorKind, ConsumeError};
use crate::io::cluster::Cluster;
use crate::types::TopicPartition;
use crate::wire::ErrorCode;
use crate::wire::requests::metadata::{MetadataRequest, MetadataTopics};

/// The least time between two looks at all topics, whatever asks for them: the answer of a large cluster is large.
const MIN_LOOK: Duration = Duration::from_secs(1);

/// Looks for topics of a pattern.
pub(super) struct PatternWatch {
    pub(super) matched: Matched,
    last: Option<Instant>,
    next: Instant,
    looking: bool,
    failures: u32,
}

impl PatternWatch {
    /// The first look is due at once.
    pub(super) fn new(pattern: TopicPattern, now: Instant) -> PatternWatch {
        PatternWatch { matched: Matched::new(pattern), last: None, next: now, looking: false, failures: 0 }
    }

    /// When the next look is due.
    pub(super) fn timeout(&self) -> Option<Instant> {
        (!self.looking).then_some(self.next)
    }

    /// Metadata has changed: topics may have, too.
    pub(super) fn on_view(&mut self) {
        if let Some(last) = self.last {
            self.next = self.next.min(last + MIN_LOOK);
        }
    }
}

impl Membership {
    /// What is to be read of `assigned`: the coordinator of KIP-848 gives out Kafka's own topics, too, where a pattern
    /// matches them.
    pub(super) fn meant(&self, assigned: Vec<TopicPartition>) -> impl Iterator<Item = TopicPartition> + use<> {
        let by_pattern = matches!(self.context.subscription, Subscription::Pattern(_));
        assigned.into_iter().filter(move |partition| !(by_pattern && is_internal(&partition.topic)))
    }

    /// Asks for all topics, if it is time.
    pub(super) fn look_for_topics(&mut self, now: Instant) {
        let cluster = &self.context.cluster;
        let Some(watch) = self.pattern.as_mut().filter(|watch| !watch.looking && watch.next <= now) else { return };
        if self.finishing.is_some() {
            watch.next = cluster.thread().deadline(cluster.config().metadata_max_age);
            return;
        }
        watch.looking = true;
        let (cluster, events) = (self.context.cluster.clone(), self.events.clone());
        tokio::spawn(async move {
            let _ = events.send(Event::Topics(all_topics(&cluster).await));
        });
    }

    /// All topics there are.
    pub(super) fn on_topics(&mut self, topics: Result<Vec<Arc<str>>, CallError>) {
        let now = self.now();
        let cluster = &self.context.cluster;
        let Some(watch) = &mut self.pattern else { return };
        (watch.looking, watch.last) = (false, Some(now));
        match topics {
            Ok(topics) => {
                watch.failures = 0;
                let again = watch.matched.on_list(topics.iter());
                let wait = if again { MIN_LOOK } else { cluster.config().metadata_max_age };
                watch.next = cluster.thread().deadline(wait);
                let topics = watch.matched.topics();
                tracing::debug!(pattern = &**watch.matched.pattern().text(), topics = topics.len(), "topics looked at");
                match &mut self.group {
                    Some(group) => group.subscribe(now, topics),
                    None if self.finishing.is_none() => self.join(topics),
                    None => {}
                }
            }
            Err(error) if !error.is_retryable() => {
                self.context.inbox.push(crate::io::inbox::Message::Failed(ConsumeError::Call(error)))
            }
            Err(error) => {
                watch.failures = watch.failures.saturating_add(1);
                watch.next = now + cluster.retry_backoff().delay(watch.failures, cluster.thread().random().next());
                tracing::debug!(%error, "topics cannot be listed yet");
            }
        }
    }
}

/// The names of all topics but Kafka's own, as Java's `exclude.internal.topics` has it by default.
///
/// # Errors
/// [`CallError`]: no broker answers.
pub(crate) async fn all_topics(cluster: &Cluster) -> Result<Vec<Arc<str>>, CallError> {
    let request = MetadataRequest { topics: MetadataTopics::All, allow_auto_create: false };
    let answer = cluster.any_broker().await?.submit(&request, cluster.config().request_timeout).await?;
    if answer.error.err().is_some() {
        return Err(CallError::new(CallErrorKind::Broker(answer.error, None)));
    }
    let exists = |error: ErrorCode| error != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let topics = answer.topics.into_iter().filter(|topic| !topic.internal && exists(topic.error));
    Ok(topics.map(|topic| topic.name).filter(|name| !name.is_empty()).collect())
}
