//! Time and CPU between two moments, and the line of JSON that tells them.

use std::time::Duration;

use crate::args::{PerfMode, PerfOptions};
use crate::failure::Failure;
use crate::json;
use crate::time::Stopwatch;

/// CPU of this process so far, and its largest size.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    user: f64,
    system: f64,
    peak_kib: i64,
}

#[cfg(unix)]
fn usage() -> Usage {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeVal;
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 * 1e-6;
    getrusage(UsageWho::RUSAGE_SELF).map_or_else(
        |_| Usage::default(),
        |usage| Usage {
            user: seconds(usage.user_time()),
            system: seconds(usage.system_time()),
            peak_kib: usage.max_rss(),
        },
    )
}

#[cfg(not(unix))]
fn usage() -> Usage {
    Usage::default()
}

/// Runs between the end of the warm-up and the last result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    stopwatch: Stopwatch,
    before: Usage,
}

impl Clock {
    /// Starts now.
    pub(crate) fn start() -> Clock {
        Clock { before: usage(), stopwatch: Stopwatch::start() }
    }

    /// Ends now.
    pub(crate) fn stop(self) -> Measured {
        let took = self.stopwatch.elapsed();
        Measured { took, before: self.before, after: usage() }
    }
}

/// What lies between start and stop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    took: Duration,
    before: Usage,
    after: Usage,
}

impl Measured {
    /// Prints the line. `more` holds further numbers of the mode.
    pub(crate) fn print(
        self,
        options: &PerfOptions,
        records: u64,
        first_error: Option<&str>,
        more: &[(&str, String)],
    ) -> Result<(), Failure> {
        let mode = match options.mode {
            PerfMode::Produce => "produce",
            PerfMode::Consume => "consume",
            PerfMode::Latency => "latency",
        };
        let mut line = format!(
            "{{\"client\":\"indelible\",\"mode\":\"{mode}\",\"version\":\"{}\",\"records\":{records},\"bytes\":{},\
             \"secs\":{:.6},\"cpu_user\":{:.6},\"cpu_sys\":{:.6},\"max_rss_kb\":{}",
            env!("CARGO_PKG_VERSION"),
            records * u64::from(options.size),
            self.took.as_secs_f64(),
            self.after.user - self.before.user,
            self.after.system - self.before.system,
            self.after.peak_kib,
        )
        .into_bytes();
        for (name, value) in more {
            line.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
        }
        line.extend_from_slice(b",\"first_error\":");
        match first_error {
            Some(error) => json::push_string(&mut line, error),
            None => line.extend_from_slice(b"null"),
        }
        line.extend_from_slice(b"}\n");
        let mut stdout = std::io::stdout().lock();
        let written = std::io::Write::write_all(&mut stdout, &line).and_then(|()| std::io::Write::flush(&mut stdout));
        written.map_err(|_| Failure::closed_output())
    }
}
