//! The one place of this program that reads a clock.

use std::time::{Duration, Instant, SystemTime};

/// A stopwatch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[allow(clippy::disallowed_methods, reason = "the program's own clock; no decision of the library depends on it")]
    pub(crate) fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// Since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Now, in Unix milliseconds.
#[allow(clippy::disallowed_methods, reason = "the program's own clock; no decision of the library depends on it")]
pub(crate) fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// How long ago that was, as a person says it.
pub(crate) fn age(millis: i64, now: i64) -> String {
    let seconds = now.saturating_sub(millis).max(0) / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A span such as `90s`, `15m`, `1h`, `2d` or `1w`, in milliseconds.
pub(crate) fn parse_ago(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(seconds * 1000)
}

/// A time as RFC 3339 has it, such as `2026-11-21T10:00:00Z` or `2026-11-21T11:00:00.5+01:00`, in Unix milliseconds. Parts
/// of a millisecond are dropped, so that a record of that time is not passed over.
pub(crate) fn parse_rfc3339(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
    };
    let is = |at: usize, any_of: &[u8]| text.as_bytes().get(at).is_some_and(|byte| any_of.contains(byte));
    let separated = is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":");
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    // A leap second is the first moment of the next minute.
    if !separated || !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut zone = 19;
    let mut millis = 0;
    if is(zone, b".") {
        let digits = text.get(20..)?.bytes().take_while(u8::is_ascii_digit).count();
        zone = 20 + digits;
        millis = number(20, 20 + digits.clamp(1, 3))? * [100, 10, 1].get(digits.clamp(1, 3) - 1)?;
    }
    let east = match text.get(zone..)? {
        "Z" | "z" => 0,
        offset if offset.len() == 6 && is(zone, b"+-") && is(zone + 3, b":") => {
            let (hours, minutes) = (number(zone + 1, zone + 3)?, number(zone + 4, zone + 6)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if is(zone, b"-") { -1 } else { 1 }
        }
        _ => return None,
    };
    let at = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute - east;
    Some((at * 60 + second) * 1000 + millis)
}

/// Of the Gregorian calendar: years begin in March here, so that the leap day is the last one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let before_month = (153 * month + 2) / 5;
    // 719,468 days lie between the 1st of March of the year 0 and 1970.
    365 * year + leap_days + before_month + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01 00:00:00z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600_000),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-14T23:13:20+01:00", 1_700_000_000_000),
            ("2023-11-14T16:43:20-05:30", 1_700_000_000_000),
            ("2023-11-14T22:13:20.5Z", 1_700_000_000_500),
            ("2023-11-14T22:13:20.0679999Z", 1_700_000_000_067),
            ("2024-12-31T23:59:60Z", 1_735_689_600_000),
            ("1969-12-31T23:59:59.999Z", -1),
        ] {
            assert_eq!(parse_rfc3339(text), Some(millis), "{text}");
        }
        for text in [
            "",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "2023-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-00-01T00:00:00Z",
            "2023-01-00T00:00:00Z",
            "2023-01-01T24:00:00Z",
            "2023-01-01T00:60:00Z",
            "2023-01-01T00:00:61Z",
            "2023-01-01T00:00:00.Z",
            "2023-01-01T00:00:00+0100",
            "2023-01-01T00:00:00+24:00",
            "2023-01-01T00:00:00Zx",
            "2023-1-01T00:00:00Z",
            "+023-01-01T00:00:00Z",
            "2023-01-01T00:00:00é",
            "é023-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
        assert_eq!(parse_ago("15m"), Some(900_000));
        assert_eq!(parse_ago("99999999999999999w"), None);
        assert_eq!(parse_ago("1é"), None);
        assert_eq!(parse_ago("h"), None);
    }

    #[test]
    fn ages() {
        assert_eq!(age(5000, 1000), "0 s");
        assert_eq!(age(0, 119_999), "119 s");
        assert_eq!(age(0, 120_000), "2 min");
        assert_eq!(age(0, 7_200_000), "2 h");
        assert_eq!(age(0, 172_800_000), "2 d");
    }
}
