//! A line on standard error that moves, where somebody looks at it.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the line is drawn.
const REDRAW: Duration = Duration::from_millis(200);

/// What is being done, on standard error when that is a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A line for a count without an end.
    pub(crate) fn spinner() -> Progress {
        Progress::new(None, "{spinner} {elapsed_precise} {msg}")
    }

    /// A bar up to `total`.
    pub(crate) fn bar(total: u64) -> Progress {
        Progress::new(Some(total), "{elapsed_precise} [{bar:40}] {percent}% {msg}")
    }

    fn new(total: Option<u64>, template: &str) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress { bar: None };
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(5));
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(REDRAW);
        Progress { bar: Some(bar) }
    }

    /// Whether anybody looks.
    pub(crate) fn is_shown(&self) -> bool {
        self.bar.is_some()
    }

    /// Shows this text, which is made only when somebody looks.
    pub(crate) fn show(&self, at: u64, text: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_position(at);
            bar.set_message(text());
        }
    }

    /// Writes a line that stays, with or without a bar below it.
    pub(crate) fn print(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => {
                let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{line}\n").as_bytes());
            }
        }
    }

    /// Takes the line away.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
