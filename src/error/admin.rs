//! What can go wrong while topics and groups are looked at and changed, and while a client is built.

use std::io;
use std::sync::Arc;

use super::{CallError, MetadataError};
use crate::config::ConfigError;
use crate::wire::ErrorCode;

/// A client that could not be built.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// A setting does not fit.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The operating system gave no thread or no poll handle for the I/O thread.
    #[error("the I/O thread cannot be started: {0}")]
    Thread(Arc<io::Error>),
    /// No bootstrap address led to a broker; each with its cause.
    #[error("no broker answers: {0}")]
    NoBrokerReachable(CallError),
}

/// An administrative operation that did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The broker refused it for one topic, broker or group.
    #[error("{operation} of {what} was refused: {code}: {}", refusal(.operation, *.code, .message.as_deref()))]
    Refused {
        /// What was asked: `creation`, `deletion`, `description`, `change of offsets`.
        operation: &'static str,
        /// Of what: `topic "orders"`, `broker 2`, `group "billing"`.
        what: String,
        /// The broker's code.
        code: ErrorCode,
        /// The broker's words.
        message: Option<String>,
    },
    /// There is no such group: nobody has joined it, or committed for it, for as long as the brokers remember
    /// (`offsets.retention.minutes`).
    #[error("group {group:?} does not exist; check its name")]
    GroupNotFound {
        /// The group.
        group: Arc<str>,
    },
    /// The group has members, which commit offsets of their own.
    #[error("group {group:?} has members: stop them first")]
    GroupHasMembers {
        /// The group.
        group: Arc<str>,
    },
    /// The request got no usable answer. [`CallError::may_have_been_applied`] says whether it may have had its effect.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It was done, but the brokers' metadata did not show it in time.
    #[error("done, but not visible yet: {0}")]
    NotVisible(MetadataError),
    /// A topic could not be looked up.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

impl AdminError {
    /// The broker's code, when it refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            AdminError::Refused { code, .. } => Some(*code),
            AdminError::Call(error) => error.code(),
            AdminError::GroupNotFound { .. }
            | AdminError::GroupHasMembers { .. }
            | AdminError::NotVisible(_)
            | AdminError::Metadata(_) => None,
        }
    }
}

/// Why, in a line. Of a missing permission brokers say no more than that it is missing.
fn refusal<'a>(operation: &str, code: ErrorCode, message: Option<&'a str>) -> &'a str {
    const TOPIC: ErrorCode = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
    const GROUP: ErrorCode = ErrorCode::GROUP_AUTHORIZATION_FAILED;
    const CLUSTER: ErrorCode = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
    match (operation, code) {
        ("creation", TOPIC | CLUSTER) => "Not authorized: the principal needs CREATE on the topic or on the cluster",
        ("deletion", TOPIC) => "Not authorized: the principal needs DELETE on the topic",
        ("deletion", GROUP) => "Not authorized: the principal needs DELETE on the group",
        ("description", TOPIC) => "Not authorized: the principal needs DESCRIBE_CONFIGS on the topic",
        ("description", CLUSTER) => "Not authorized: the principal needs DESCRIBE_CONFIGS on the cluster",
        ("look-up of offsets", TOPIC) => "Not authorized: the principal needs DESCRIBE on the topic",
        (_, TOPIC | GROUP | CLUSTER) => code.meaning(),
        _ => message.unwrap_or(code.meaning()),
    }
}
