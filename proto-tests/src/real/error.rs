//! What can go wrong in the harness, each with its place and a way out.
use std::fmt;
use std::io;
use std::time::Duration;

/// Why the harness could not do what a test asked for.
#[derive(Debug)]
#[non_exhaustive]
pub enum HarnessError {
    /// `scripts/kafka` ended with an error, which says what is missing and where the broker's log is.
    Script {
        /// Its arguments.
        command: String,
        /// What it wrote to standard error.
        message: String,
    },
    /// No broker answered a request.
    Unreachable {
        /// Name of the request.
        request: &'static str,
        /// The brokers that were asked.
        brokers: String,
        /// What the last of them did.
        cause: io::Error,
        /// Folder with the logs.
        logs: String,
    },
    /// A broker answered a request with an error.
    Refused {
        /// Name of the request.
        request: &'static str,
        /// What it was about.
        subject: String,
        /// Kafka's error code.
        code: i16,
        /// Name of the code, and the broker's words.
        message: String,
    },
    /// Something did not come about in time.
    Timeout {
        /// What was waited for.
        awaited: String,
        /// For how long.
        after: Duration,
        /// What was there instead.
        last: String,
        /// Folder with the logs.
        logs: String,
    },
    /// A file or process of the harness itself.
    Io {
        /// What was done to which file or program.
        place: String,
        /// Cause.
        cause: io::Error,
    },
}

impl fmt::Display for HarnessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Script { command, message } => write!(f, "scripts/kafka {command}: {message}"),
            Self::Unreachable { request, brokers, cause, logs } => {
                write!(f, "no broker of {brokers} answered {request}: {cause}; see */broker.log in {logs}")
            }
            Self::Refused { request, subject, code, message } => {
                write!(f, "{request} of {subject} was refused with error {code} {message}")
            }
            Self::Timeout { awaited, after, last, logs } => {
                write!(f, "{awaited} did not come about within {after:?}: {last}; see */broker.log in {logs}")
            }
            Self::Io { place, cause } => write!(f, "{place}: {cause}"),
        }
    }
}

impl std::error::Error for HarnessError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable { cause, .. } | Self::Io { cause, .. } => Some(cause),
            Self::Script { .. } | Self::Refused { .. } | Self::Timeout { .. } => None,
        }
    }
}
