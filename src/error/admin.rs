//! What can go wrong while topics are created, deleted or described, and while a client is built.

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
    /// The broker refused it for one topic or broker.
    #[error("{operation} of {what} was refused: {code}: {}", .message.as_deref().unwrap_or(.code.meaning()))]
    Refused {
        /// What was asked: `creation`, `deletion`, `description`.
        operation: &'static str,
        /// Of what: `topic "orders"`, `broker 2`.
        what: String,
        /// The broker's code.
        code: ErrorCode,
        /// The broker's words.
        message: Option<String>,
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
            AdminError::NotVisible(_) | AdminError::Metadata(_) => None,
        }
    }
}
