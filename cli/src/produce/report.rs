//! What became of the lines, and where that is told.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use indelible::{Place, SendError};

use crate::args::ProduceOptions;
use crate::failure::Failure;
use crate::json;
use crate::out;
use crate::progress::Progress;

/// Printed offsets are written at the latest when so many bytes wait.
const PRINT_BYTES: usize = 64 << 10;

/// What became of the lines, and where that is told.
pub(super) struct Report {
    pub(super) read: u64,
    pub(super) delivered: u64,
    failed: Fate,
    unknown: Fate,
    /// With a spool only.
    pub(super) kept: Option<Kept>,
    print_offsets: bool,
    out: Vec<u8>,
    pub(super) progress: Progress,
}

/// What the spool adds.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Lines that are on disk, or were until they were delivered.
    pub(super) spooled: u64,
    /// Records refused for good.
    pub(super) dead: u64,
    /// Records of which nobody can tell.
    pub(super) unknown: u64,
    /// What is left that should not be, and what to do about it.
    pub(super) left: Option<String>,
}

/// Lines that were not delivered.
struct Fate {
    count: u64,
    first: Option<String>,
    file: Option<(PathBuf, BufWriter<File>)>,
}

impl Fate {
    /// `add`: what an earlier run wrote into the file stays.
    fn new(path: Option<&PathBuf>, add: bool) -> Result<Fate, Failure> {
        let file = match path {
            Some(path) => {
                let mut open = File::options();
                let open = if add { open.append(true) } else { open.write(true).truncate(true) };
                let file = open
                    .create(true)
                    .open(path)
                    .map_err(|error| Failure::local(format!("{} cannot be written: {error}", path.display())))?;
                Some((path.clone(), BufWriter::new(file)))
            }
            None => None,
        };
        Ok(Fate { count: 0, first: None, file })
    }

    fn note(&mut self, error: &SendError, separator: Option<&[u8]>) -> Result<(), Failure> {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(error.to_string());
        }
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        let record = error.record();
        let mut write = || {
            if let (Some(key), Some(separator)) = (&record.key, separator) {
                file.write_all(key)?;
                file.write_all(separator)?;
            }
            file.write_all(record.value.as_deref().unwrap_or_default())?;
            file.write_all(b"\n")
        };
        write().map_err(|error| Failure::local(format!("{} cannot be written: {error}", path.display())))
    }

    /// What was noted is on disk.
    fn sync(&mut self) -> Result<(), Failure> {
        self.close()?;
        let Some((path, file)) = &self.file else { return Ok(()) };
        let synced = file.get_ref().sync_data();
        synced.map_err(|error| Failure::local(format!("{} cannot be synced: {error}", path.display())))
    }

    fn close(&mut self) -> Result<(), Failure> {
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        file.flush().map_err(|error| Failure::local(format!("{} cannot be written: {error}", path.display())))
    }

    fn told(&self, what: &str) -> Option<String> {
        let first = self.first.as_ref()?;
        Some(match &self.file {
            Some((path, _)) => format!("{} {what} (in {}), the first: {first}", self.count, path.display()),
            None => format!("{} {what}, the first: {first}", self.count),
        })
    }
}

impl Report {
    pub(super) fn new(options: &ProduceOptions) -> Result<Report, Failure> {
        Ok(Report {
            read: 0,
            delivered: 0,
            failed: Fate::new(options.failed_file.as_ref(), options.resume)?,
            unknown: Fate::new(options.unknown_file.as_ref(), false)?,
            kept: options.spool.is_some().then(Kept::default),
            print_offsets: options.print_offsets,
            out: Vec::new(),
            progress: Progress::spinner(),
        })
    }

    /// Takes down what became of a line.
    pub(super) fn settle(&mut self, result: Result<Place, SendError>, separator: Option<&[u8]>) -> Result<(), Failure> {
        self.print_place(&result);
        match result {
            Ok(_) => self.delivered += 1,
            Err(error) if error.may_be_delivered() => self.unknown.note(&error, separator)?,
            Err(error) => self.failed.note(&error, separator)?,
        }
        if self.out.len() >= PRINT_BYTES { self.print() } else { Ok(()) }
    }

    /// Takes down that a line never got into the spool. Where it is written down, that is on disk afterwards.
    pub(super) fn refuse(&mut self, error: &SendError, separator: Option<&[u8]>) -> Result<(), Failure> {
        self.failed.note(error, separator)?;
        self.failed.sync()
    }

    /// Whether lines that fail are written to a file.
    pub(super) fn keeps_failed(&self) -> bool {
        self.failed.file.is_some()
    }

    /// Where a line went, if that is to be printed.
    pub(super) fn print_place(&mut self, result: &Result<Place, SendError>) {
        if !self.print_offsets {
            return;
        }
        match result {
            Ok(place) => {
                let offset = place.offset().map_or("null".to_owned(), |offset| offset.to_string());
                let line = format!("{{\"partition\":{},\"offset\":{offset}}}\n", place.partition());
                self.out.extend_from_slice(line.as_bytes());
            }
            Err(error) => {
                self.out.extend_from_slice(b"{\"partition\":null,\"offset\":null,\"error\":");
                json::push_string(&mut self.out, &error.to_string());
                self.out.extend_from_slice(b"}\n");
            }
        }
    }

    /// Writes what waits for it.
    pub(super) fn print(&mut self) -> Result<(), Failure> {
        let (read, delivered) = (self.read, self.delivered);
        self.progress.show(delivered, || match &self.kept {
            Some(kept) => format!("{read} lines read, {} on disk, {delivered} delivered", kept.spooled),
            None => format!("{read} lines read, {delivered} delivered"),
        });
        let lines = std::mem::take(&mut self.out);
        if lines.is_empty() { Ok(()) } else { out::write(&lines) }
    }

    /// The summary.
    pub(super) fn finish(&mut self, took: Duration) -> Result<(), Failure> {
        let closed = self.failed.close().and(self.unknown.close());
        let (spooled, dead, unknown) = match &self.kept {
            Some(kept) => (format!("\"spooled\":{},", kept.spooled), kept.dead, kept.unknown),
            None => (String::new(), 0, 0),
        };
        let line = format!(
            "{{\"read\":{},{spooled}\"delivered\":{},\"failed\":{},\"unknown\":{},\"secs\":{:.3}}}\n",
            self.read,
            self.delivered,
            self.failed.count + dead,
            self.unknown.count + unknown,
            took.as_secs_f64()
        );
        closed.and(out::write(line.as_bytes()))
    }

    pub(super) fn verdict(&self) -> Result<(), Failure> {
        let told = [self.failed.told("not delivered"), self.unknown.told("perhaps delivered, nobody can tell")];
        let told: Vec<String> = told.into_iter().flatten().collect();
        let left = self.kept.as_ref().and_then(|kept| kept.left.clone());
        let of_lines = (!told.is_empty()).then(|| format!("of {} lines {}", self.read, told.join("; ")));
        let told: Vec<String> = of_lines.into_iter().chain(left).collect();
        if told.is_empty() { Ok(()) } else { Err(Failure::incomplete(told.join("; "))) }
    }
}
