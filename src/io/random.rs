//! Randomness for jitter and for the order of brokers. Not for secrets.

use std::sync::atomic::{AtomicU64, Ordering};

/// SplitMix64 on an atomic counter, seeded by the operating system.
#[derive(Debug)]
pub(crate) struct Random(AtomicU64);

impl Random {
    /// A generator with a seed from the operating system.
    pub(crate) fn new() -> Self {
        let mut seed = [0; 8];
        // Without the system's randomness the clock spreads the clients well enough: only jitter hangs on it.
        if getrandom::fill(&mut seed).is_err() {
            seed = super::clock::exact_millis().to_le_bytes();
        }
        Random(AtomicU64::new(u64::from_le_bytes(seed)))
    }

    /// 64 random bits.
    pub(crate) fn next(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Puts `items` in a random order.
    pub(crate) fn shuffle<T>(&self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, (self.next() % (i as u64 + 1)) as usize);
        }
    }
}
