//! How much a test may do, as `scripts/test --minutes` decides.

/// `rounds` multiplied by `INDELIBLE_TEST_SCALE`, at least 1; as it is where that is not set. For rounds and seeds, so
/// that one test serves the short run of every change and the long one of a night.
#[must_use]
pub fn scaled(rounds: u32) -> u32 {
    scaled_by(rounds, std::env::var("INDELIBLE_TEST_SCALE").ok().as_deref())
}

fn scaled_by(rounds: u32, scale: Option<&str>) -> u32 {
    let scale = scale.and_then(|scale| scale.parse::<f64>().ok()).filter(|scale| scale.is_finite()).unwrap_or(1.0);
    // The cast saturates.
    ((f64::from(rounds) * scale).round() as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::scaled_by;

    #[test]
    fn rounds_follow_the_scale_and_never_vanish() {
        assert_eq!(scaled_by(20, None), 20);
        assert_eq!(scaled_by(20, Some("3.40")), 68);
        assert_eq!(scaled_by(20, Some("0.01")), 1);
        assert_eq!(scaled_by(20, Some("NaN")), 20);
        assert_eq!(scaled_by(20, Some("-5")), 1);
    }
}
