//! A stream cut anywhere gives the same frames as in one piece, within the limit and without much memory.
#![no_main]

#[path = "../budget.rs"]
mod budget;

use indelible::wire::frame::FrameDecoder;
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: budget::Counting = budget::Counting;

fn frames(data: &[u8], step: usize) -> (Vec<Vec<u8>>, bool) {
    let mut decoder = FrameDecoder::new(1 << 16);
    let mut frames = Vec::new();
    for part in data.chunks(step) {
        decoder.buffer().extend_from_slice(part);
        loop {
            match decoder.next() {
                Ok(Some(frame)) => frames.push(frame.to_vec()),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

fuzz_target!(|data: &[u8]| {
    let [step, data @ ..] = data else { return };
    let whole = budget::within_budget(data.len(), 1 << 20, || frames(data, data.len().max(1)));
    // A buffer is left behind with each frame that is still held, so cut input may cost more than whole.
    assert_eq!(frames(data, usize::from(*step).max(1)), whole);
});
