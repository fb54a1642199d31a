//! Varints of record batches: zigzag (small numbers of either sign are short), seven bits a byte, low ones first.

/// The longest 32-bit varint.
pub(super) const MAX_32: usize = 5;
/// The longest 64-bit varint.
pub(super) const MAX_64: usize = 10;

#[inline]
pub(super) fn zigzag_32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

#[inline]
pub(super) fn zigzag_64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// How many bytes a zigzag number takes.
#[inline]
pub(super) fn len(zigzag: u64) -> usize {
    (70 - (zigzag | 1).leading_zeros() as usize) / 7
}

/// Writes a zigzag number at `at`, gives the place behind it. The caller has made room.
#[inline(always)]
pub(super) fn put<const N: usize>(out: &mut [u8; N], mut at: usize, mut zigzag: u64) -> usize {
    while zigzag >= 0x80 && at < N {
        out[at] = zigzag as u8 | 0x80;
        zigzag >>= 7;
        at += 1;
    }
    if at < N {
        out[at] = zigzag as u8;
    }
    at + 1
}

/// Reads a number of at most 32 bits at `at` and moves `at` behind it. None: it is cut short, or longer than it may be.
#[inline(always)]
pub(super) fn get_32(bytes: &[u8], at: &mut usize) -> Option<i32> {
    let raw = get_raw(bytes, at, MAX_32)?;
    let raw = u32::try_from(raw).ok()?;
    Some((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// Reads a number of at most 64 bits at `at` and moves `at` behind it. None: it is cut short, or longer than it may be.
#[inline(always)]
pub(super) fn get_64(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let raw = get_raw(bytes, at, MAX_64)?;
    Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

/// Nearly all numbers are of one byte or two: lengths below 8192, offsets and seconds within a batch.
#[inline(always)]
fn get_raw(bytes: &[u8], at: &mut usize, max: usize) -> Option<u64> {
    let rest = bytes.get(*at..)?;
    let first = *rest.first()?;
    if first < 0x80 {
        *at += 1;
        return Some(u64::from(first));
    }
    let second = *rest.get(1)?;
    if second < 0x80 {
        *at += 2;
        return Some(u64::from(first & 0x7f) | u64::from(second) << 7);
    }
    get_long(bytes, at, max)
}

#[cold]
fn get_long(bytes: &[u8], at: &mut usize, max: usize) -> Option<u64> {
    let mut raw = 0u64;
    for (i, byte) in bytes.get(*at..)?.iter().take(max).enumerate() {
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit only.
        if i == MAX_64 - 1 && bits > 1 {
            return None;
        }
        raw |= bits << (7 * i);
        if *byte < 0x80 {
            *at += i + 1;
            return Some(raw);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for shift in 0..64 {
            for value in [
                1i64 << shift,
                (1i64 << shift).wrapping_neg(),
                (1i64 << shift).wrapping_sub(1),
                i64::MAX >> shift,
                i64::MIN >> shift,
            ] {
                let mut bytes = [0; 16];
                let end = put(&mut bytes, 0, zigzag_64(value));
                assert_eq!(end, len(zigzag_64(value)), "{value}");
                let mut at = 0;
                assert_eq!(get_64(&bytes, &mut at), Some(value));
                assert_eq!(at, end);
                let mut at = 0;
                assert_eq!(get_32(&bytes, &mut at), i32::try_from(value).ok());
            }
        }
    }

    #[test]
    fn varint_of_11_bytes() {
        let mut endless = [0x80; 11];
        endless[10] = 0;
        assert_eq!(get_64(&endless, &mut 0), None);
        assert_eq!(get_32(&[0x80, 0x80, 0x80, 0x80, 0x80, 0], &mut 0), None);
        assert_eq!(get_64(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], &mut 0), None);
        assert_eq!(get_32(&[0xff, 0xff, 0xff, 0xff, 0x10], &mut 0), None);
        assert_eq!(get_64(&[0x80], &mut 0), None, "cut short");
        assert_eq!(get_64(&[], &mut 0), None);
    }
}
