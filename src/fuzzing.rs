//! Ways into the inside for the fuzz targets; not there in any other build.

use crate::core::consume::ops;
use crate::io::spool::Written;

/// A spool that was really written, to be damaged.
pub struct SpoolStory(Written);

impl SpoolStory {
    /// Each `choice` is another one.
    #[must_use]
    pub fn new(choice: u8) -> SpoolStory {
        SpoolStory(Written::new(choice))
    }

    /// Changes a copy of its files as `edits` say, opens it, and panics when that breaks a promise. `within` is given the
    /// number of bytes there are, and runs the opening.
    pub fn recover(&self, edits: &[u8], within: impl Fn(usize, &mut dyn FnMut())) {
        self.0.recover(edits, within);
    }
}

/// Lives the life of a consumer's membership as `input` says, against a model, and panics when that breaks a promise.
pub fn group_ops(input: &[u8]) {
    let _ = ops::live(input);
}
