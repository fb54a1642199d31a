//! Places in a log as people write them: an end, an offset, or a time.

use indelible::OffsetSpec;

use crate::time::{parse_ago, parse_rfc3339, unix_millis};

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// This offset.
    Offset(i64),
    /// What the leader of a partition knows the offset of.
    Spec(OffsetSpec),
}

impl Place {
    /// Takes what a person wrote.
    ///
    /// # Errors
    /// What there is to write.
    pub(crate) fn parse(text: &str) -> Result<Place, String> {
        Place::parse_at(text, unix_millis())
    }

    fn parse_at(text: &str, now: i64) -> Result<Place, String> {
        let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let too_large = |_| format!("{text:?} is too large");
        let time = |millis| Place::Spec(OffsetSpec::Timestamp(millis));
        match text {
            "beginning" | "earliest" => Ok(Place::Spec(OffsetSpec::Beginning)),
            "end" | "latest" => Ok(Place::Spec(OffsetSpec::End)),
            _ if all_digits(text) => text.parse().map(Place::Offset).map_err(too_large),
            _ => {
                if let Some(millis) = text.strip_prefix('@').filter(|millis| all_digits(millis)) {
                    return millis.parse().map(time).map_err(too_large);
                }
                let ago = text.strip_prefix('-').and_then(parse_ago);
                let at = ago.map(|ago| now.saturating_sub(ago).max(0)).or_else(|| parse_rfc3339(text));
                at.map(time).ok_or_else(|| {
                    format!(
                        "{text:?} is no place in a log: give beginning, end, an offset, a time such as \
                         2026-11-21T10:00:00Z, one before now such as -1h, or @ and milliseconds since 1970"
                    )
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    #[test]
    fn each_way_to_say_a_place() {
        let time = |millis| Place::Spec(OffsetSpec::Timestamp(millis));
        for (text, place) in [
            ("beginning", Place::Spec(OffsetSpec::Beginning)),
            ("end", Place::Spec(OffsetSpec::End)),
            ("0", Place::Offset(0)),
            ("1700000000000", Place::Offset(1_700_000_000_000)),
            ("@1700000000000", time(1_700_000_000_000)),
            ("2023-11-14T22:13:20Z", time(1_700_000_000_000)),
            ("-1h", time(NOW - 3_600_000)),
            ("-1000000w", time(0)),
        ] {
            assert_eq!(Place::parse_at(text, NOW), Ok(place), "{text}");
        }
        for text in ["", "-", "-5", "5h", "-1.5h", "@", "@-1", "@soon", "tomorrow", "2023-11-14", "+5", "-1y", "End"] {
            let refused = Place::parse_at(text, NOW).unwrap_err();
            assert!(refused.contains("beginning, end, an offset"), "{refused}");
        }
        assert!(Place::parse_at("99999999999999999999", NOW).unwrap_err().contains("too large"));
        assert!(Place::parse_at("@99999999999999999999", NOW).unwrap_err().contains("too large"));
    }
}
