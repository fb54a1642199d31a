//! Standard output, whose end is an error and no panic.

use std::io::{self, Write};

use crate::failure::Failure;

/// Writes all of it, through to the descriptor.
pub(crate) fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::closed_output(),
        _ => Failure::local(format!("standard output cannot be written: {error}")),
    })
}
