//! Sequence numbers: 0 to `i32::MAX`, then from 0 again (KIP-98).

/// The sequence `count` records after `sequence`.
pub(crate) fn advance(sequence: i32, count: i32) -> i32 {
    (i64::from(sequence) + i64::from(count)).rem_euclid(1 << 31) as i32
}

/// How far `a` is ahead of `b`: negative when behind. The broker remembers five batches, so true distances are small
/// and the shorter way around is the right one.
pub(crate) fn distance(a: i32, b: i32) -> i64 {
    let ahead = (i64::from(a) - i64::from(b)).rem_euclid(1 << 31);
    if ahead < 1 << 30 { ahead } else { ahead - (1 << 31) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_wraps_at_i32_max() {
        assert_eq!(advance(i32::MAX, 1), 0);
        assert_eq!(advance(i32::MAX - 1, 5), 3);
        assert_eq!(advance(7, 3), 10);
        assert_eq!(advance(0, -1), i32::MAX);
    }

    #[test]
    fn the_shorter_way_around_counts() {
        assert_eq!(distance(3, i32::MAX), 4);
        assert_eq!(distance(i32::MAX, 3), -4);
        assert_eq!(distance(5, 5), 0);
        assert_eq!(distance(4, 9), -5);
    }
}
