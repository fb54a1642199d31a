//! What a consumer's handlers may do side by side, what becomes of records that they cannot handle, and how members of a
//! group share partitions.

use std::sync::Arc;
use std::time::Duration;

/// Which records may be with handlers at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// One of each partition, in the order of offsets.
    #[default]
    Partition,
    /// One of each key of a partition, in the order of offsets. Records without key have no order among each other.
    Key,
    /// Any.
    None,
}

/// What becomes of a record whose handler failed, when its retries are used up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// The consumer stops with [`ConsumeError::Handler`](crate::ConsumeError::Handler): the next start handles the record
    /// again.
    #[default]
    Stop,
    /// It is written to this topic, with its place, the error and the number of attempts as headers, and counts as handled
    /// once that write is acknowledged.
    DeadLetter(Arc<str>),
    /// It counts as handled, with a line in the log and in the metrics.
    Skip,
}

/// A topic for records to be handled again later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryTopic {
    /// Its name.
    pub topic: Arc<str>,
    /// How long a record waits in it.
    pub delay: Duration,
}

/// What to do when the log was cut below the position (KIP-320).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDataLoss {
    /// Stop with [`ConsumeError::DataLoss`](crate::ConsumeError::DataLoss).
    #[default]
    Stop,
    /// Go on where the common history ends, with a warning in the log.
    Continue,
}

/// How members of a group agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupProtocol {
    /// [`GroupProtocol::Consumer`] where the group's coordinator has it (Kafka 4.0), else [`GroupProtocol::Classic`]. The
    /// classic one too when a setting was chosen that only it has: `session.timeout.ms`, `heartbeat.interval.ms`,
    /// `partition.assignment.strategy`; and, with a warning in the log, when the coordinator does not carry a group over
    /// that has classic members (`group.consumer.migration.policy` of the broker).
    #[default]
    Auto,
    /// A member computes the assignment, as in all versions of Kafka.
    Classic,
    /// The coordinator computes it, and moves partitions one by one; what stays is not disturbed (KIP-848). How often
    /// members are to be heard of, and when they are given up, is the broker's to say: `group.consumer.heartbeat.interval.ms`
    /// and `group.consumer.session.timeout.ms`. A member has `max.poll.interval.ms` to give back what it is asked for.
    Consumer,
}

/// Who gets which partition in the classic protocol. All of them agree with Java's of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Ranges of each topic.
    Range,
    /// All partitions in turn.
    RoundRobin,
    /// As even as can be, and each partition where it was; all stop in a rebalance.
    Sticky,
    /// The same, and only what moves stops (KIP-429).
    CooperativeSticky,
}

impl Assignor {
    /// The name under which members offer it.
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Range => "range",
            Assignor::RoundRobin => "roundrobin",
            Assignor::Sticky => "sticky",
            Assignor::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// By its name, or by that of Java's class.
    pub(crate) fn by_name(name: &str) -> Option<Assignor> {
        match name.strip_prefix("org.apache.kafka.clients.consumer.").unwrap_or(name) {
            "range" | "RangeAssignor" => Some(Assignor::Range),
            "roundrobin" | "RoundRobinAssignor" => Some(Assignor::RoundRobin),
            "sticky" | "StickyAssignor" => Some(Assignor::Sticky),
            "cooperative-sticky" | "CooperativeStickyAssignor" => Some(Assignor::CooperativeSticky),
            _ => None,
        }
    }
}
