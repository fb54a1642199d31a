//! A member of a group lives as the input says: answers in any order, late, foreign or missing, records handed out, done
//! and committed beside it. Nothing panics, no offset is committable above a record that is not handled, and nothing that
//! was lost is committed.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| indelible::fuzzing::group_ops(data));
