//! A spool whose files were changed, cut, lost or swapped is opened: nothing panics, little is allocated, nothing is handed
//! out that was not written, and nothing is left out in silence. The first byte chooses the spool, the rest changes it.
#![no_main]

#[path = "../budget.rs"]
mod budget;

use indelible::fuzzing::SpoolStory;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

#[global_allocator]
static ALLOCATOR: budget::Counting = budget::Counting;

static STORIES: LazyLock<Vec<SpoolStory>> = LazyLock::new(|| (0..8).map(SpoolStory::new).collect());

fuzz_target!(|data: &[u8]| {
    let [choice, edits @ ..] = data else { return };
    let stories = &*STORIES;
    // Files are read in pieces of a megabyte, each a few times.
    let within = |size: usize, open: &mut dyn FnMut()| budget::within_budget(size, 64 << 20, open);
    stories[usize::from(*choice) % stories.len()].recover(edits, within);
});
