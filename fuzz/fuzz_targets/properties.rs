//! What a configuration may hold: a file of properties, a login module of JAAS, placeholders. Read within bounds, and written
//! and read again.
#![no_main]

#[path = "../budget.rs"]
mod budget;

use indelible::fuzzing::read_configuration;
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: budget::Counting = budget::Counting;

/// A property may have two bytes, and is held in several places.
const EACH_BYTE: usize = 32;
/// An unknown name is compared with the three hundred there are, some 130 KB for each of at most twenty.
const NAMES: usize = 1 << 22;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    budget::within_budget(text.len() * EACH_BYTE, NAMES, || read_configuration(text));
});
