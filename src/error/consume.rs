//! Why a consumer stopped.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{CallError, MetadataError, SendCause, SendError};
use crate::config::ConfigError;
use crate::types::TopicPartition;
use crate::wire::ErrorCode;
use crate::wire::batch::BatchError;

/// Why a consumer stopped. Whatever the reason: no offset was committed whose record was not handled, and what had been
/// handled was committed before this was returned, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// A handler failed at this record, and its retries are used up. The record is not committed: the next start of the
    /// group handles it again.
    #[error(
        "the handler of {partition} offset {offset} failed{}: {failure}{}",
        attempts_text(.attempts),
        commit_text(.commit)
    )]
    Handler {
        /// Where the record is.
        partition: TopicPartition,
        /// Its offset.
        offset: i64,
        /// How often it was handled.
        attempts: u32,
        /// What the handler said the last time.
        #[source]
        failure: HandlerFailure,
        /// Why what was handled before could not be committed, when it could not.
        commit: Option<Box<ConsumeError>>,
    },
    /// A handler failed at this record, and it could not be written to the dead letter or retry topic either. The record is
    /// not committed: the next start of the group handles it again. It may be in that topic all the same, if
    /// [`SendError::may_be_delivered`] says so.
    #[error(
        "the handler of {partition} offset {offset} failed{}: {failure}; and it could not be written to topic {topic:?}: \
         {error}. {}",
        attempts_text(.attempts),
        way_out(.topic, .error)
    )]
    DeadLetter {
        /// Where the record is.
        partition: TopicPartition,
        /// Its offset.
        offset: i64,
        /// The topic it was to be written to.
        topic: Arc<str>,
        /// How often it was handled.
        attempts: u32,
        /// What the handler said the last time.
        failure: HandlerFailure,
        /// Why it could not be written. It holds the record.
        #[source]
        error: Box<SendError>,
    },
    /// The position is not in the log: records were deleted before they were handled, or the log is not the one the
    /// offset was committed for. Decide, then commit another offset with Kafka's tools or set `offset.out.of.range`.
    #[error(
        "{}partition {partition}: offset {offset} is outside of the log, which has offsets {first} to {last} now",
        group_text(.group)
    )]
    OffsetOutOfRange {
        /// The group, if there is one.
        group: Option<Arc<str>>,
        /// The partition.
        partition: TopicPartition,
        /// The position: committed, or behind the last record fetched.
        offset: i64,
        /// The first offset there is.
        first: i64,
        /// The offset behind the last record.
        last: i64,
    },
    /// There is no committed offset, and `auto.offset.reset` is `error`.
    #[error("{}partition {partition} has no committed offset, and auto.offset.reset forbids to choose one", group_text(.group))]
    NoOffset {
        /// The group, if there is one.
        group: Option<Arc<str>>,
        /// The partition.
        partition: TopicPartition,
    },
    /// The log was cut below the position, by an election of a leader that lacked records: records that were handled, or
    /// could have been, are gone, and others may stand at their offsets (KIP-320).
    #[error(
        "partition {partition} lost records: the position is {position}, the log of leader epoch {leader_epoch} ends at {end}"
    )]
    DataLoss {
        /// The partition.
        partition: TopicPartition,
        /// The offset to be fetched next.
        position: i64,
        /// Where the common history ends.
        end: i64,
        /// The leader epoch it ends in.
        leader_epoch: i32,
    },
    /// The topic was deleted and created again: offsets of the old one mean nothing in the new one.
    #[error("the topic of {partition} was deleted and created again: its committed offsets belong to the old one")]
    TopicRecreated {
        /// The partition.
        partition: TopicPartition,
    },
    /// The broker's bytes are damaged. The position stays in front of them.
    #[error("{partition} cannot be read on from offset {position}: {error}")]
    Batch {
        /// The partition.
        partition: TopicPartition,
        /// The offset of the next record that was not handled.
        position: i64,
        /// What is wrong.
        #[source]
        error: BatchError,
    },
    /// The broker's answer to a fetch is no sequence of batches. The position stays.
    #[error("{partition} cannot be read on from offset {position}: {reason}")]
    Malformed {
        /// The partition.
        partition: TopicPartition,
        /// The offset asked for.
        position: i64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The broker refuses to read the partition.
    #[error("{partition} cannot be fetched: {code}: {}", .code.meaning())]
    Fetch {
        /// The partition.
        partition: TopicPartition,
        /// The broker's code.
        code: ErrorCode,
    },
    /// The coordinator refuses the member, or cannot be understood.
    #[error("group {group:?}: {during} was refused: {}{detail}", code_text(.code))]
    Group {
        /// The group.
        group: Arc<str>,
        /// Which request.
        during: &'static str,
        /// The coordinator's code, if that was the reason.
        code: Option<ErrorCode>,
        /// More about it.
        detail: String,
    },
    /// Records were handled and their offsets could not be committed: they will be handled again.
    #[error("group {group:?}: handled, not committed, so handled again later: {}: {reason}", offsets_text(.uncommitted))]
    Commit {
        /// The group.
        group: Arc<str>,
        /// Partitions, and the offset up to which they are handled.
        uncommitted: Vec<(TopicPartition, i64)>,
        /// Why not.
        reason: String,
    },
    /// A topic could not be looked up.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A request failed in a way that no repetition changes.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A setting does not fit.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system gave no thread to run handlers on.
    #[error("no thread could be started to run handlers on: {0}; see the limits of the process")]
    Threads(#[source] std::io::Error),
    /// The client's I/O thread has ended.
    #[error("the client's I/O thread has ended")]
    Closed,
}

/// What a handler came to.
#[derive(Debug)]
pub enum HandlerFailure {
    /// It returned an error.
    Error(Box<dyn Error + Send + Sync>),
    /// It panicked, with this message.
    Panic(String),
    /// It was not done within `handler.timeout.ms`, and was dropped where it waited.
    TimedOut(Duration),
}

impl HandlerFailure {
    /// The failure that `error` is, or that it is the cause of.
    pub(crate) fn of(error: impl Into<Box<dyn Error + Send + Sync>>) -> HandlerFailure {
        error.into().downcast().map_or_else(HandlerFailure::Error, |failure| *failure)
    }
}

impl fmt::Display for HandlerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandlerFailure::Error(error) => write!(f, "{error}"),
            HandlerFailure::Panic(message) => write!(f, "it panicked: {message}"),
            HandlerFailure::TimedOut(limit) => {
                write!(f, "it was not done within {} ms (handler.timeout.ms)", limit.as_millis())
            }
        }
    }
}

impl Error for HandlerFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            HandlerFailure::Error(error) => error.source(),
            HandlerFailure::Panic(_) | HandlerFailure::TimedOut(_) => None,
        }
    }
}

impl ConsumeError {
    /// Whether starting the consumer again can be enough: the cause was in the network, or a handler's own.
    pub fn is_retryable(&self) -> bool {
        match self {
            ConsumeError::Handler { .. } | ConsumeError::Commit { .. } => true,
            ConsumeError::Call(error) => error.is_retryable(),
            ConsumeError::DeadLetter { error, .. } => error.is_retryable(),
            _ => false,
        }
    }
}

fn attempts_text(attempts: &u32) -> String {
    if *attempts > 1 { format!(" {attempts} times") } else { String::new() }
}

/// What somebody can do about a dead letter that was refused.
fn way_out(topic: &str, error: &SendError) -> String {
    match error.cause() {
        SendCause::TooLarge { .. } | SendCause::RecordRefused => format!(
            "The record and the headers added to it have to fit: raise max.message.bytes of {topic:?}, then start again"
        ),
        SendCause::Refused => format!("See that this principal may write to {topic:?}, then start again"),
        SendCause::Metadata(_) => format!("See that {topic:?} exists and can be described, then start again"),
        _ => format!("Nothing of it is committed: start again when {topic:?} can be written"),
    }
}

fn commit_text(commit: &Option<Box<ConsumeError>>) -> String {
    commit.as_ref().map_or(String::new(), |error| format!("; also: {error}"))
}

fn group_text(group: &Option<Arc<str>>) -> String {
    group.as_ref().map_or(String::new(), |group| format!("group {group:?}, "))
}

fn code_text(code: &Option<ErrorCode>) -> String {
    code.map_or(String::new(), |code| format!("{code}: {}. ", code.meaning()))
}

fn offsets_text(offsets: &[(TopicPartition, i64)]) -> String {
    const SHOWN: usize = 5;
    let mut text: Vec<String> = offsets.iter().take(SHOWN).map(|(p, offset)| format!("{p} up to {offset}")).collect();
    if offsets.len() > SHOWN {
        text.push(format!("{} more", offsets.len() - SHOWN));
    }
    text.join(", ")
}
