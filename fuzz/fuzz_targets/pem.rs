//! Certificates, keys and passwords of any bytes: an error of one line, never a panic, never much memory.
#![no_main]

#[path = "../budget.rs"]
mod budget;

use indelible::fuzzing;
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: budget::Counting = budget::Counting;

fuzz_target!(|data: &[u8]| {
    let [what, length, data @ ..] = data else { return };
    let (password, text) = data.split_at(usize::from(*length).min(data.len()));
    budget::within_budget(data.len(), 1 << 20, || fuzzing::pem(*what, password, text));
});
