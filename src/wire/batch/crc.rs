//! Joining checksums. A CRC is a remainder of polynomials over GF(2), so the CRC of two parts behind each other is that
//! of the first, multiplied by x to the power of the second's bits, plus that of the second.
//!
//! Written here because crc32c's own `crc32c_combine` takes longer than going over 64 KiB anew.

/// CRC-32C's polynomial with the lowest bit as the highest power, as the checksums are kept.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// The polynomial 1 in that order of bits.
const ONE: u32 = 1 << 31;

/// x to the power of 8 · 2^k for each k: what 2^k bytes of zeros multiply by.
const POWERS: [u32; 32] = {
    let mut powers = [0; 32];
    let mut power = ONE >> 8;
    let mut k = 0;
    while k < 32 {
        powers[k] = power;
        power = multiply(power, power);
        k += 1;
    }
    powers
};

const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        product ^= b & ((a >> bit) & 1).wrapping_neg();
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
    }
    product
}

/// The checksum of two parts behind each other: `first` of any, `second` of `second_len` bytes.
pub(super) fn combine(first: u32, second: u32, second_len: u32) -> u32 {
    let powers = POWERS.iter().enumerate().filter(|(k, _)| second_len >> k & 1 == 1);
    powers.fold(first, |crc, (_, power)| multiply(crc, *power)) ^ second
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::test_random::Random;

    #[test]
    fn joined_checksums_are_those_of_the_whole() {
        let mut random = Random(20);
        for len in [0, 1, 2, 7, 40, 100, 4096, 65_535, 100_000] {
            let (first, second) = (random.bytes(40), random.bytes(len));
            let joined = combine(crc32c::crc32c(&first), crc32c::crc32c(&second), len as u32);
            assert_eq!(joined, crc32c::crc32c(&[first, second].concat()), "{len}");
        }
    }
}
