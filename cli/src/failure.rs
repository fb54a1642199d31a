//! How a command ends when not all went well: one line on standard error, and an exit code that says whose turn it is.

use std::fmt::Display;
use std::process::ExitCode;

use indelible::{
    AdminError, BuildError, CallError, CallErrorKind, ClientError, ConnectCause, ConsumeError, SpoolError,
};

/// Why a command did not do all that it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    /// Some records were not delivered, or not handled.
    pub(crate) fn incomplete(text: impl Display) -> Failure {
        Failure { code: 1, text: text.to_string() }
    }

    /// The command line or a property does not fit.
    pub(crate) fn usage(text: impl Display) -> Failure {
        Failure { code: 2, text: text.to_string() }
    }

    /// The cluster cannot be reached, or refuses.
    pub(crate) fn cluster(text: impl Display) -> Failure {
        Failure { code: 3, text: text.to_string() }
    }

    /// A file, a pipe or the system on this side.
    pub(crate) fn local(text: impl Display) -> Failure {
        Failure { code: 4, text: text.to_string() }
    }

    /// Nobody reads what is written to standard output.
    pub(crate) fn closed_output() -> Failure {
        Failure::local("standard output was closed by its reader: nothing more can be written")
    }

    /// A client that could not be built.
    pub(crate) fn client(error: &ClientError) -> Failure {
        match error {
            ClientError::Config(error) => Failure::usage(format!("{error}; see indelible --help")),
            // Whoever answered and was not liked says himself what to change.
            ClientError::NoBrokerReachable(call) if !is_silent(call) => Failure::cluster(error),
            ClientError::NoBrokerReachable(_) => {
                Failure::cluster(format!("{error}; check --bootstrap, and that the cluster runs"))
            }
            error => Failure::local(error),
        }
    }

    /// A producer that could not be built; `help` says where its settings are told.
    pub(crate) fn build(error: &BuildError, help: &str) -> Failure {
        match error {
            BuildError::Config(error) => Failure::usage(format!("{error}; {help}")),
            BuildError::Spool(error) => Failure::spool(error),
            error => Failure::local(error),
        }
    }

    /// What was asked of the cluster, and not done.
    pub(crate) fn admin(error: &AdminError) -> Failure {
        Failure::cluster(match error {
            AdminError::GroupNotFound { .. } => format!("{error}, or see indelible group list"),
            error => error.to_string(),
        })
    }

    /// A spool that cannot be used.
    pub(crate) fn spool(error: &SpoolError) -> Failure {
        match error {
            SpoolError::OtherCluster { .. } => Failure::cluster(error),
            error => Failure::local(error),
        }
    }

    /// A consumer that stopped.
    pub(crate) fn consume(error: &ConsumeError) -> Failure {
        match error {
            ConsumeError::Config(error) => Failure::usage(format!("{error}; see indelible consume --help")),
            ConsumeError::Handler { .. } => Failure::incomplete(error),
            error => Failure::cluster(error),
        }
    }

    /// Tells it.
    pub(crate) fn report(&self) -> ExitCode {
        // Where standard error is closed too, the exit code is all that is left.
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("indelible: {}\n", self.text.replace('\n', " ")).as_bytes(),
        );
        ExitCode::from(self.code)
    }
}

/// What clap says over several lines, in one.
pub(crate) fn one_line(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let told = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let mut line = String::new();
    for part in told.filter(|part| !part.is_empty() && !part.starts_with("For more information")) {
        if !line.is_empty() {
            // "the following arguments were not provided:" goes on in the next line.
            line.push_str(if line.ends_with(':') || part.starts_with('[') { " " } else { "; " });
        }
        line.push_str(part);
    }
    format!("{line}; see indelible --help")
}

/// Whether an address has not answered at all.
fn is_silent(error: &CallError) -> bool {
    match error.kind() {
        CallErrorKind::Connect(failures) => failures.iter().any(|failure| {
            !matches!(failure.cause, ConnectCause::Tls(_) | ConnectCause::Sasl(_) | ConnectCause::Frame(_))
        }),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_keeps_what_matters() {
        let text =
            "error: the following required arguments were not provided:\n  --topic <TOPIC>\n\nUsage: indelible x\n";
        assert_eq!(
            one_line(text),
            "the following required arguments were not provided: --topic <TOPIC>; see indelible --help"
        );
    }
}
