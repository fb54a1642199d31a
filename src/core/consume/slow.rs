//! Telling which records take longer in their handlers than `max.poll.interval.ms`. Nothing is done to them: the member
//! heartbeats on its own and keeps its partitions.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::watermark::AssignmentEpoch;
use crate::types::TopicPartition;

/// A record whose handler takes its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slow {
    pub(crate) partition: TopicPartition,
    pub(crate) offset: i64,
    /// At least so long; counted from the first look that saw it.
    pub(crate) since: Duration,
}

/// Looks at the oldest record in a handler of each partition now and then. That is the one which holds back the commits.
#[derive(Debug)]
pub(crate) struct SlowWatch {
    limit: Duration,
    seen: HashMap<(TopicPartition, AssignmentEpoch), Seen>,
    next_look: Instant,
}

#[derive(Debug)]
struct Seen {
    offset: i64,
    since: Instant,
    /// Told again when it has taken so long.
    tell_at: Duration,
}

impl SlowWatch {
    /// Tells of records that take longer than `limit`.
    pub(crate) fn new(limit: Duration, now: Instant) -> SlowWatch {
        SlowWatch { limit, seen: HashMap::new(), next_look: now }
    }

    /// When to look next.
    pub(crate) fn next_look(&self) -> Instant {
        self.next_look
    }

    /// Looks at the oldest record in a handler of each partition. Tells each slow one after the limit, then after twice,
    /// four times as long, and so on.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        oldest: impl Iterator<Item = (TopicPartition, AssignmentEpoch, i64)>,
    ) -> Vec<Slow> {
        self.next_look = now + (self.limit / 8).clamp(Duration::from_millis(10), Duration::from_secs(5));
        let mut before = std::mem::take(&mut self.seen);
        let mut slow = Vec::new();
        for (partition, epoch, offset) in oldest {
            let key = (partition, epoch);
            let mut seen = match before.remove(&key) {
                Some(seen) if seen.offset == offset => seen,
                _ => Seen { offset, since: now, tell_at: self.limit },
            };
            let since = now.saturating_duration_since(seen.since);
            if since >= seen.tell_at {
                seen.tell_at = since.saturating_mul(2);
                slow.push(Slow { partition: key.0.clone(), offset, since });
            }
            self.seen.insert(key, seen);
        }
        slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "any instant will do as the beginning of a made-up clock")]
    fn a_slow_record_is_told_after_the_limit_and_then_ever_less_often() {
        let start = Instant::now();
        let mut watch = SlowWatch::new(Duration::from_secs(10), start);
        let mut told = Vec::new();
        for second in 0..100 {
            let offset = if second < 5 { 6 } else { 7 };
            let record = (TopicPartition::new("orders", 0), AssignmentEpoch(1), offset);
            let slow = watch.look(start + Duration::from_secs(second), std::iter::once(record));
            told.extend(slow.into_iter().map(|slow| (slow.offset, second, slow.since.as_secs())));
        }
        assert_eq!(told, [(7, 15, 10), (7, 25, 20), (7, 45, 40), (7, 85, 80)]);
        // Under another assignment it begins anew.
        let record = (TopicPartition::new("orders", 0), AssignmentEpoch(2), 7);
        assert_eq!(watch.look(start + Duration::from_secs(200), std::iter::once(record)), []);
    }
}
