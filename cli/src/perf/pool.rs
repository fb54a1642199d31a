//! The values that are sent: slices of one stream of JSON lines, the same in every run.

use std::fmt::Write as _;

/// How many values there are.
const VALUES: usize = 4096;

/// Values of one size.
#[derive(Debug)]
pub(super) struct Pool {
    size: usize,
    bytes: Vec<u8>,
}

impl Pool {
    /// Makes them.
    pub(crate) fn new(size: usize) -> Pool {
        const CITIES: [&str; 8] = ["Bergen", "Cusco", "Osaka", "Kumasi", "Cuenca", "Torino", "Hobart", "Thies"];
        let mut numbers = Numbers(42);
        let wanted = size * VALUES;
        let mut text = String::with_capacity(wanted + 200);
        while text.len() < wanted {
            let (a, b) = (numbers.next(), numbers.next());
            // A String takes whatever is written.
            let _ = writeln!(
                text,
                r#"{{"id":{},"user":"{b:016x}","amount":{},"ok":{},"sku":"{:08x}","city":"{}"}}"#,
                a % 1_000_000,
                (a >> 20) % 100_000,
                a >> 63 == 1,
                (a >> 24) & 0xffff_ffff,
                CITIES[(b % 8) as usize],
            );
        }
        let mut bytes = text.into_bytes();
        bytes.truncate(wanted);
        bytes.shrink_to_fit();
        Pool { size, bytes }
    }

    /// The value of record `i`.
    #[inline]
    pub(crate) fn value(&self, i: u64) -> &[u8] {
        let at = (i as usize % VALUES) * self.size;
        &self.bytes[at..at + self.size]
    }
}

/// splitmix64, which is enough for text that compresses like text.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_size_and_repeat_after_4096() {
        for size in [1, 100, 1024] {
            let pool = Pool::new(size);
            assert_eq!(pool.value(0).len(), size);
            assert_eq!(pool.value(4095).len(), size);
            assert_eq!(pool.value(7), pool.value(7 + 4096));
        }
        assert!(Pool::new(100).value(0).starts_with(b"{\"id\":"));
    }
}
