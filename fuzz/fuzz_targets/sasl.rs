//! What a broker says to SCRAM and OAUTHBEARER, and tokens with their claims: nothing panics, and no client is satisfied
//! without a proof. The first byte chooses; messages follow, each behind its length in two bytes.
#![no_main]

use indelible::fuzzing::sasl;
use libfuzzer_sys::fuzz_target;

const MOST_MESSAGES: usize = 4;

fuzz_target!(|data: &[u8]| {
    let [choice, rest @ ..] = data else { return };
    let mut messages = Vec::new();
    let mut rest = rest;
    while let [high, low, left @ ..] = rest {
        if messages.len() == MOST_MESSAGES {
            break;
        }
        let length = (usize::from(u16::from_be_bytes([*high, *low]))).min(left.len());
        messages.push(&left[..length]);
        rest = &left[length..];
    }
    sasl(*choice, choice & 4 != 0, &messages);
});
