//! Topics in which records wait to be handled again: which comes next, and for how long.

use std::sync::Arc;

use super::dead_letter::Family;
use super::delivery::Delivery;
use crate::config::{ConfigError, ConsumerConfig, OnFailure, RetryTopic};
use crate::io::membership::Subscription;

/// Retry topics in their order.
#[derive(Clone, Debug)]
pub(super) struct RetryTopics(Arc<[RetryTopic]>);

impl RetryTopics {
    pub(super) fn new(config: &ConsumerConfig) -> RetryTopics {
        RetryTopics(config.retry_topics.clone().into())
    }

    /// Which of them the record comes from.
    pub(super) fn position(&self, delivery: &Delivery) -> Option<usize> {
        self.0.iter().position(|retry| &*retry.topic == delivery.topic())
    }

    /// Where it goes when it failed again.
    pub(super) fn after(&self, position: Option<usize>) -> Option<&RetryTopic> {
        self.0.get(position.map_or(0, |position| position + 1))
    }

    /// When the record may be handled, in milliseconds since 1970; none if at once.
    ///
    /// The header tells it. A delay that was made shorter since counts, and so does no header at all: somebody else may
    /// have written the record. Nor can a header hold a partition up for longer than the settings say.
    pub(super) fn due(&self, delivery: &Delivery) -> Option<i64> {
        if self.0.is_empty() {
            return None;
        }
        let retry = self.0.get(self.position(delivery)?)?;
        let delay = i64::try_from(retry.delay.as_millis()).unwrap_or(i64::MAX);
        let latest = delivery.timestamp().saturating_add(delay);
        Some(Family::Retry.number(delivery, "due").map_or(latest, |due: i64| due.min(latest)))
    }
}

/// Checks the topics that failed records go to, and has this consumer read those it retries.
///
/// # Errors
/// [`ConfigError::Conflict`] for topics that a record would never get out of, or never be read from.
pub(super) fn subscribe(
    subscription: &mut Subscription,
    group: Option<&str>,
    config: &ConsumerConfig,
) -> Result<(), ConfigError> {
    let conflict = |text: String| Err(ConfigError::Conflict(text));
    let retry_topics: Vec<Arc<str>> = config.retry_topics.iter().map(|retry| retry.topic.clone()).collect();
    let reads = |name: &str| match &*subscription {
        Subscription::Topics(topics) => topics.iter().any(|topic| &**topic == name),
        Subscription::Pattern(pattern) => pattern.matches(name),
        Subscription::Partitions(partitions) => partitions.iter().any(|(partition, _)| &*partition.topic == name),
    };
    if let OnFailure::DeadLetter(topic) = &config.on_failure
        && (reads(topic) || retry_topics.contains(topic))
    {
        return conflict(format!(
            "dead.letter.topic {topic:?} is a topic that this consumer reads: its records would come again for ever"
        ));
    }
    for (at, topic) in retry_topics.iter().enumerate() {
        if reads(topic) || retry_topics.iter().take(at).any(|earlier| earlier == topic) {
            return conflict(format!("retry topic {topic:?} is named twice, or among topics(): name it once"));
        }
    }
    match subscription {
        _ if retry_topics.is_empty() => Ok(()),
        Subscription::Topics(topics) if group.is_some() => {
            topics.extend(retry_topics);
            Ok(())
        }
        _ => conflict("retry.topics are shared by a group: use consumer(group) and topics()".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::core::consume::pattern::TopicPattern;

    fn config(properties: &[(&str, &str)]) -> ConsumerConfig {
        let mut config = ConsumerConfig::default();
        properties.iter().for_each(|(name, value)| config.set_property(name, value).unwrap());
        config
    }

    fn orders() -> Subscription {
        Subscription::Topics(vec![Arc::from("orders")])
    }

    #[test]
    fn a_group_reads_its_retry_topics_too() {
        let mut subscription = orders();
        let config = config(&[("retry.topics", "soon:1000,later:60000"), ("dead.letter.topic", "dead")]);
        subscribe(&mut subscription, Some("billing"), &config).unwrap();
        let Subscription::Topics(topics) = subscription else { panic!("topics") };
        assert_eq!(topics, ["orders", "soon", "later"].map(Arc::from));
    }

    #[test]
    fn topics_that_a_record_never_gets_out_of_are_refused() {
        let refused = |group: Option<&str>, mut subscription: Subscription, properties: &[(&str, &str)]| {
            subscribe(&mut subscription, group, &config(properties)).unwrap_err().to_string()
        };
        let group = Some("billing");
        assert!(refused(group, orders(), &[("dead.letter.topic", "orders")]).contains("for ever"));
        let dead_is_retry = [("dead.letter.topic", "soon"), ("retry.topics", "soon:1000")];
        assert!(refused(group, orders(), &dead_is_retry).contains("for ever"));
        assert!(refused(group, orders(), &[("retry.topics", "orders:1000")]).contains("twice"));
        assert!(refused(group, orders(), &[("retry.topics", "soon:1000,soon:2000")]).contains("twice"));
        let pattern = || Subscription::Pattern(TopicPattern::new("orders.*").unwrap());
        assert!(refused(group, pattern(), &[("dead.letter.topic", "orders.dead")]).contains("for ever"));
        assert!(refused(group, pattern(), &[("retry.topics", "soon:1000")]).contains("topics()"));
        let by_hand = Subscription::Partitions(vec![(crate::types::TopicPartition::new("orders", 0), None)]);
        assert!(refused(group, by_hand, &[("retry.topics", "soon:1000")]).contains("group"));
    }
}
