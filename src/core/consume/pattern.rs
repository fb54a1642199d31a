//! Topics by a regular expression.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex_lite::Regex;

/// A regular expression that a topic's whole name has to match, as in Java's `subscribe(Pattern)`.
#[derive(Clone, Debug)]
pub(crate) struct TopicPattern {
    text: Arc<str>,
    regex: Regex,
}

impl TopicPattern {
    /// Reads the expression.
    ///
    /// # Errors
    /// Why it is none.
    pub(crate) fn new(text: &str) -> Result<TopicPattern, regex_lite::Error> {
        Regex::new(text)?; // by itself too: what only closes our group is none
        let regex = Regex::new(&format!(r"\A(?:{text})\z"))?;
        Ok(TopicPattern { text: Arc::from(text), regex })
    }

    /// The expression as it was given.
    pub(crate) fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Whether `topic` is meant.
    pub(crate) fn matches(&self, topic: &str) -> bool {
        self.regex.is_match(topic)
    }
}

/// Whether a topic is Kafka's own. No pattern means these: in them, each commit of ours would be one more record to handle.
pub(crate) fn is_internal(topic: &str) -> bool {
    matches!(topic, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
}

/// How many lists in a row have to lack a topic before it counts as deleted: a broker that lags behind knows less.
const MISSES: u8 = 2;

/// The topics that match, as lists of all topics show them one after another.
#[derive(Clone, Debug)]
pub(crate) struct Matched {
    pattern: TopicPattern,
    /// With the number of lists in a row that lack it.
    topics: BTreeMap<Arc<str>, u8>,
}

impl Matched {
    /// Nothing is seen yet.
    pub(crate) fn new(pattern: TopicPattern) -> Matched {
        Matched { pattern, topics: BTreeMap::new() }
    }

    /// Takes in a list of all topics. Whether one is missing that was there, so that it is worth while to look again soon.
    pub(crate) fn on_list<'a>(&mut self, all: impl Iterator<Item = &'a Arc<str>>) -> bool {
        self.topics.values_mut().for_each(|misses| *misses = misses.saturating_add(1));
        for topic in all.filter(|topic| self.pattern.matches(topic)) {
            self.topics.insert(topic.clone(), 0);
        }
        self.topics.retain(|_, misses| *misses < MISSES);
        self.topics.values().any(|misses| *misses > 0)
    }

    /// What the topics match.
    pub(crate) fn pattern(&self) -> &TopicPattern {
        &self.pattern
    }

    /// The topics, in order.
    pub(crate) fn topics(&self) -> Vec<Arc<str>> {
        self.topics.keys().cloned().collect()
    }

    /// Whether `topic` is one of them.
    pub(crate) fn contains(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    #[test]
    fn the_whole_name_has_to_match() {
        let pattern = TopicPattern::new("orders|orders-[0-9]+").unwrap();
        assert!(pattern.matches("orders") && pattern.matches("orders-12"));
        assert!(!pattern.matches("my-orders") && !pattern.matches("orders-12a"));
        assert_eq!(&**pattern.text(), "orders|orders-[0-9]+");
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for text in ["(", "a)(b", "[", "*"] {
            assert!(TopicPattern::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_topic_is_deleted_when_two_lists_lack_it() {
        let mut matched = Matched::new(TopicPattern::new("a.*").unwrap());
        assert!(!matched.on_list(names(&["a1", "a2", "b"]).iter()));
        assert_eq!(matched.topics(), names(&["a1", "a2"]));
        assert!(matched.on_list(names(&["a1"]).iter()), "look again");
        assert!(matched.contains("a2"));
        assert!(!matched.on_list(names(&["a1", "a2"]).iter()));
        assert!(matched.on_list(names(&["a1", "a3"]).iter()));
        assert!(!matched.on_list(names(&["a1", "a3"]).iter()));
        assert_eq!(matched.topics(), names(&["a1", "a3"]));
    }
}
