//! What members of a group send each other: read within bounds, and a group of such members is led. The first byte chooses
//! the assignor; subscriptions follow, each behind its length in two bytes.
#![no_main]

#[path = "../budget.rs"]
mod budget;

use indelible::fuzzing::{lead, read_foreign};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: budget::Counting = budget::Counting;

const MOST_MEMBERS: usize = 8;

fuzz_target!(|data: &[u8]| {
    let [choice, rest @ ..] = data else { return };
    for what in 0..4 {
        budget::within_budget(rest.len(), 1 << 12, || read_foreign(what, rest));
    }
    let mut subscriptions = Vec::new();
    let mut rest = rest;
    while let [high, low, left @ ..] = rest {
        if subscriptions.len() == MOST_MEMBERS {
            break;
        }
        let length = (usize::from(u16::from_be_bytes([*high, *low]))).min(left.len());
        subscriptions.push(&left[..length]);
        rest = &left[length..];
    }
    lead(*choice, &subscriptions);
});
