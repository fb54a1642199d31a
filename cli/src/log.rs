//! What the library says of itself, on standard error, when `INDELIBLE_LOG` asks for it. A command that waits for brokers to
//! come back says without being asked why one that is there does not let it in.
//!
//! A line is an event: Unix milliseconds, level, message, fields. The lines of two runs can be sorted together, and with
//! what brokers write about the same moment.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::failure::Failure;
use crate::time::unix_millis;

/// The variable that names the level.
const VARIABLE: &str = "INDELIBLE_LOG";

/// Has events written from here on, if the environment asks for it.
///
/// # Errors
/// A level that is none.
pub(crate) fn start() -> Result<(), Failure> {
    let Some(level) = std::env::var_os(VARIABLE).filter(|level| !level.is_empty()) else { return Ok(()) };
    let level = level.to_string_lossy();
    let level: LevelFilter = level.parse().map_err(|_| {
        Failure::usage(format!("{VARIABLE}={level} is no level: use error, warn, info, debug, trace or off"))
    })?;
    // It is the first and only one.
    let _ = tracing::subscriber::set_global_default(Lines { level, only_refusals: false });
    Ok(())
}

/// Has it written, once for each address and cause, when TLS or SASL fails; for commands that wait until it does not.
pub(crate) fn refusals() {
    // All events are written already if the environment asks for them.
    let _ = tracing::subscriber::set_global_default(Lines { level: LevelFilter::WARN, only_refusals: true });
}

/// The target of the library's events about brokers that do not let it in.
const REFUSED: &str = "indelible::refused";

/// Writes each event as a line.
struct Lines {
    level: LevelFilter,
    /// Only what is said about brokers that do not let the client in, in the manner of a command's last line.
    only_refusals: bool,
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let wanted =
            if self.only_refusals { metadata.target() == REFUSED } else { metadata.target().starts_with("indelible") };
        *metadata.level() <= self.level && wanted
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(match self.only_refusals {
            true => "indelible: waiting for a broker:".to_owned(),
            false => format!("{} {}", unix_millis(), event.metadata().level()),
        });
        event.record(&mut line);
        line.0.push('\n');
        // One write, so that lines of several threads do not mix. Nobody can be told when it fails.
        let _ = std::io::stderr().lock().write_all(line.0.as_bytes());
    }

    // The library's events stand for themselves.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An event as text; its message has no name.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
