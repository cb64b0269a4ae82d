//! Times and durations as people write them in a query.
//!
//! Owns: [`parse_time`] (RFC 3339, epoch numbers by magnitude, times relative to now) and [`parse_step`] with its canonical
//! [`step_text`]. Does not know: which parameter it reads, the clock (now is given).
//! Invariant: every time lies in the years 0 to 9999, so that it prints as RFC 3339; everything is UTC.

use headwater_core::time::{DAY, HOUR, SECOND, Timestamp, days_from_civil};
use jiff::Span;
use jiff::tz::Offset;
use std::num::NonZeroU64;

const MINUTE: i64 = 60 * SECOND;
const WEEK: i64 = 7 * DAY;
/// 0000-01-01T00:00:00Z and 10000-01-01T00:00:00Z: the years that RFC 3339 can write.
const YEARS: std::ops::Range<i64> = days_from_civil(0, 1, 1) * DAY..days_from_civil(10_000, 1, 1) * DAY;
/// A longer step than this is a slip of the pen: a century.
const LONGEST_STEP: i64 = 36_525 * DAY;

/// Reads a time: RFC 3339; a number of seconds, ms, µs or ns since the epoch, told apart by its magnitude; or `now` with
/// offsets and rounding down, such as `now-7d/d`. `None` when it is none of these.
pub(crate) fn parse_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    let micros = if let Some(rest) = text.strip_prefix("now") {
        relative(rest, now.0)?
    } else if text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.')) {
        epoch(text)?
    } else {
        rfc_3339(text)?
    };
    YEARS.contains(&micros).then_some(Timestamp(micros))
}

/// A decimal number since the epoch: < 5e9 seconds, < 5e12 ms, < 5e15 µs, else ns; floored to µs.
fn epoch(text: &str) -> Option<i64> {
    const NANO: i128 = 1_000_000_000;
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // 19 digits reach beyond every i64; more could not be a time.
    if !all_digits(whole) || !all_digits(fraction) || whole.len() > 19 {
        return None;
    }
    let magnitude: i128 = whole.parse().ok()?;
    let fraction = &fraction[..fraction.len().min(9)];
    let nano_parts: i128 = format!("{fraction:0<9}").parse().ok()?;
    let scaled = magnitude * NANO + nano_parts;
    let scaled = if negative { -scaled } else { scaled };
    // `scaled` is in billionths of the unit: so many of them make a microsecond.
    let per_micro = match magnitude {
        0..5_000_000_000 => 1_000,
        5_000_000_000..5_000_000_000_000 => 1_000_000,
        5_000_000_000_000..5_000_000_000_000_000 => NANO,
        _ => 1_000 * NANO,
    };
    i64::try_from(scaled.div_euclid(per_micro)).ok()
}

/// `YYYY-MM-DD` `T` `hh:mm:ss` `[.fraction]` and `Z` or an offset. `T` and `Z` may be small, the `T` a space. A fraction is
/// floored to µs; a leap second is the start of the next minute.
fn rfc_3339(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let (head, mut rest) = bytes.split_at_checked(19)?;
    let shape = head.iter().zip(b"dddd-dd-ddTdd:dd:dd").all(|(&byte, &shape)| match shape {
        b'd' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        other => byte == other,
    });
    if !shape {
        return None;
    }
    let number = |range: std::ops::Range<usize>| head[range].iter().fold(0i64, |n, digit| n * 10 + i64::from(digit - b'0'));
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let (hour, minute, second) = (number(11..13), number(14..16), number(17..19));
    let days = days_from_civil(year, month, day);
    let in_month = (1..=12).contains(&month) && day >= 1 && days < days_from_civil(year, month + 1, 1);
    if !in_month || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut micros = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let len = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if len == 0 {
            return None;
        }
        micros = fraction[..len].iter().chain(b"000000").take(6).fold(0, |n, digit| n * 10 + i64::from(digit - b'0'));
        rest = &fraction[len..];
    }
    Some(days * DAY + hour * HOUR + minute * MINUTE + second * SECOND + micros - offset(rest)?)
}

/// `Z` or `±hh:mm` in µs. A `+` that was not percent-encoded arrives as a space.
fn offset(text: &[u8]) -> Option<i64> {
    match text {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-' | b' '), h1, h2, b':', m1, m2] if [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()) => {
            let two = |a: &u8, b: &u8| i64::from(a - b'0') * 10 + i64::from(b - b'0');
            let (hours, minutes) = (two(h1, h2), two(m1, m2));
            let span = hours * HOUR + minutes * MINUTE;
            (hours < 24 && minutes < 60).then_some(if *sign == b'-' { -span } else { span })
        }
        _ => None,
    }
}

/// What follows `now`: any number of `+5m`, `-1h`, then at most one `/d`, which rounds down. Weeks begin on Monday (ISO 8601).
/// A `+` that was not percent-encoded arrives as a space.
fn relative(mut rest: &str, now: i64) -> Option<i64> {
    let mut time = now;
    while let Some(signed) = rest.strip_prefix(['+', '-', ' ']) {
        let digits = signed.bytes().take_while(u8::is_ascii_digit).count();
        let amount: i64 = signed[..digits].parse().ok().filter(|&n: &i64| n < 1_000_000_000)?;
        let mut chars = signed[digits..].chars();
        let unit = chars.next()?;
        time = moved(time, if rest.starts_with('-') { -amount } else { amount }, unit)?;
        rest = chars.as_str();
    }
    match rest.strip_prefix('/') {
        Some(unit) => rounded_down(time, unit),
        None => rest.is_empty().then_some(time),
    }
}

/// `time` moved by so many units; months and years keep the day where the month has it, else its last.
fn moved(time: i64, amount: i64, unit: char) -> Option<i64> {
    let fixed = match unit {
        's' => SECOND,
        'm' => MINUTE,
        'h' => HOUR,
        'd' => DAY,
        'w' => WEEK,
        'M' => return moved_by(time, Span::new().try_months(amount).ok()?),
        'y' => return moved_by(time, Span::new().try_years(amount).ok()?),
        _ => return None,
    };
    time.checked_add(amount.checked_mul(fixed)?)
}

fn moved_by(time: i64, span: Span) -> Option<i64> {
    let date = Offset::UTC.to_datetime(jiff::Timestamp::from_microsecond(time).ok()?);
    Some(Offset::UTC.to_timestamp(date.checked_add(span).ok()?).ok()?.as_microsecond())
}

fn rounded_down(time: i64, unit: &str) -> Option<i64> {
    let date = || Some(Offset::UTC.to_datetime(jiff::Timestamp::from_microsecond(time).ok()?).date());
    let start = |year: i16, month: i8| days_from_civil(i64::from(year), i64::from(month), 1) * DAY;
    Some(match unit {
        "s" => time - time.rem_euclid(SECOND),
        "m" => time - time.rem_euclid(MINUTE),
        "h" => time - time.rem_euclid(HOUR),
        "d" => time - time.rem_euclid(DAY),
        // The epoch was a Thursday, three days after a Monday.
        "w" => time - (time + 3 * DAY).rem_euclid(WEEK),
        "M" => start(date()?.year(), date()?.month()),
        "y" => start(date()?.year(), 1),
        _ => return None,
    })
}

/// Units of a step with their microseconds, longest first.
const UNITS: [(&str, i64); 8] = [("w", WEEK), ("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", 1_000), ("us", 1), ("µs", 1)];

/// Reads a step in microseconds: `1h30m` (units w d h m s ms us, each once, longest first) or ISO 8601 without years and
/// months, such as `PT1H` or `P1D`.
pub(crate) fn parse_step(text: &str) -> Option<NonZeroU64> {
    let micros = match text.strip_prefix('P') {
        Some(rest) => iso_8601(rest)?,
        None => in_units(text, &UNITS)?,
    };
    let micros = NonZeroU64::new(u64::try_from(micros).ok()?)?;
    (micros.get() <= LONGEST_STEP as u64).then_some(micros)
}

fn iso_8601(text: &str) -> Option<i64> {
    let (days, time) = text.split_once('T').map_or((text, None), |(days, time)| (days, Some(time)));
    let of_days = if days.is_empty() { 0 } else { in_units(days, &[("W", WEEK), ("D", DAY)])? };
    let of_time = match time {
        // A decimal fraction of seconds is the only one that clients write.
        Some(time) => match time.strip_suffix('S').and_then(|time| time.split_once('.')) {
            Some((whole, fraction)) => in_units(&format!("{whole}S"), &ISO_UNITS)?.checked_add(fraction_micros(fraction)?)?,
            None => in_units(time, &ISO_UNITS)?,
        },
        None if days.is_empty() => return None,
        None => 0,
    };
    of_days.checked_add(of_time)
}

const ISO_UNITS: [(&str, i64); 3] = [("H", HOUR), ("M", MINUTE), ("S", SECOND)];

fn fraction_micros(digits: &str) -> Option<i64> {
    let digits_only = !digits.is_empty() && digits.len() <= 6 && digits.bytes().all(|b| b.is_ascii_digit());
    if digits_only { format!("{digits:0<6}").parse().ok() } else { None }
}

/// The sum of `5h`, `30m` …: at least one, each unit at most once and in the order given.
fn in_units(mut text: &str, mut units: &[(&str, i64)]) -> Option<i64> {
    let mut total = 0i64;
    if text.is_empty() {
        return None;
    }
    while !text.is_empty() {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let amount: i64 = text[..digits].parse().ok()?;
        let name_len = text[digits..].bytes().take_while(|b| !b.is_ascii_digit()).count();
        let name = &text[digits..digits + name_len];
        let at = units.iter().position(|(unit, _)| *unit == name)?;
        total = total.checked_add(amount.checked_mul(units[at].1)?)?;
        units = &units[at + 1..];
        text = &text[digits + name_len..];
    }
    Some(total)
}

/// The canonical text of a step, such as `1h30m`: units d h m s ms us, those that are zero left out.
pub(crate) fn step_text(step: NonZeroU64) -> String {
    let mut rest = step.get();
    let mut text = String::new();
    for (unit, micros) in &UNITS[1..7] {
        let amount = rest / *micros as u64;
        rest %= *micros as u64;
        if amount > 0 {
            text.push_str(&format!("{amount}{unit}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2025-11-23T15:00:00.123456Z, a Sunday.
    const NOW: Timestamp = Timestamp(1_763_910_000_123_456);

    fn text_of(text: &str) -> Option<String> {
        parse_time(text, NOW).map(|time| time.to_string())
    }

    #[test]
    fn times_that_are_read() {
        let cases = [
            ("2025-11-23T15:00:00Z", "2025-11-23T15:00:00Z"),
            ("2025-11-23t15:00:00.5z", "2025-11-23T15:00:00.5Z"),
            ("2025-11-23 15:00:00.1234567Z", "2025-11-23T15:00:00.123456Z"),
            ("2025-11-23T15:00:00+01:30", "2025-11-23T13:30:00Z"),
            ("2025-11-23T15:00:00 01:30", "2025-11-23T13:30:00Z"),
            ("2025-11-23T15:00:00-01:30", "2025-11-23T16:30:00Z"),
            ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
            ("0", "1970-01-01T00:00:00Z"),
            ("-1.5", "1969-12-31T23:59:58.5Z"),
            ("1763910000", "2025-11-23T15:00:00Z"),
            ("1763910000.123", "2025-11-23T15:00:00.123Z"),
            ("1763910000123", "2025-11-23T15:00:00.123Z"),
            ("1763910000123456", "2025-11-23T15:00:00.123456Z"),
            ("1763910000123456789", "2025-11-23T15:00:00.123456Z"),
            ("4999999999", "2128-06-11T08:53:19Z"),
            ("5000000000", "1970-02-27T20:53:20Z"),
            ("now", "2025-11-23T15:00:00.123456Z"),
            ("now-1h", "2025-11-23T14:00:00.123456Z"),
            ("now+1m", "2025-11-23T15:01:00.123456Z"),
            ("now 1m", "2025-11-23T15:01:00.123456Z"),
            ("now-1h+30s", "2025-11-23T14:00:30.123456Z"),
            ("now-7d/d", "2025-11-16T00:00:00Z"),
            ("now/h", "2025-11-23T15:00:00Z"),
            ("now/w", "2025-11-17T00:00:00Z"),
            ("now+1d/w", "2025-11-24T00:00:00Z"),
            ("now/M", "2025-11-01T00:00:00Z"),
            ("now/y", "2025-01-01T00:00:00Z"),
            ("now-9M", "2025-02-23T15:00:00.123456Z"),
            ("now+8d-9M", "2025-03-01T15:00:00.123456Z"),
            ("now-1y/y", "2024-01-01T00:00:00Z"),
        ];
        for (text, expected) in cases {
            assert_eq!(text_of(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn times_that_are_refused() {
        let cases = [
            "",
            " ",
            "yesterday",
            "2025-11-23",
            "2025-11-23T15:00:00",
            "2025-11-23T15:00Z",
            "2025-13-01T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "2025-11-23T24:00:00Z",
            "2025-11-23T15:00:00.Z",
            "2025-11-23T15:00:00+0130",
            "2025-11-23T15:00:00+25:00",
            "20a5-11-23T15:00:00Z",
            "1e9",
            "0x10",
            "--1",
            "1.2.3",
            ".5",
            "5.",
            "-",
            "NaN",
            "99999999999999999999",
            "-99999999999999999999999999",
            "-5000000000000000000000",
            "now-",
            "now-1",
            "now-h",
            "now-1q",
            "now1h",
            "now/",
            "now/q",
            "now/d/d",
            "now/d-1h",
            "NOW",
            "now-9999999999999d",
            "now-1000000000y",
            "now-1000000000w",
            "2025-11-23T15:00:00Zé",
            "ｎow",
        ];
        for text in cases {
            assert_eq!(text_of(text), None, "{text}");
        }
    }

    #[test]
    fn steps_come_back_in_their_canonical_text() {
        let cases = [
            ("1m", "1m"),
            ("15m", "15m"),
            ("1h", "1h"),
            ("1d", "1d"),
            ("1h30m", "1h30m"),
            ("90s", "1m30s"),
            ("1w", "7d"),
            ("24h", "1d"),
            ("250ms", "250ms"),
            ("1us", "1us"),
            ("PT1H", "1h"),
            ("P1D", "1d"),
            ("PT1H30M", "1h30m"),
            ("P1W", "7d"),
            ("P1DT12H", "1d12h"),
            ("PT0.25S", "250ms"),
            ("PT90S", "1m30s"),
            ("100d", "100d"),
        ];
        for (text, canonical) in cases {
            assert_eq!(parse_step(text).map(step_text).as_deref(), Some(canonical), "{text}");
        }
    }

    #[test]
    fn steps_that_are_refused() {
        for text in [
            "",
            "0s",
            "0",
            "60",
            "-1h",
            "1",
            "h",
            "1 h",
            "1.5h",
            "30m1h",
            "1h1h",
            "1M",
            "1y",
            "P",
            "PT",
            "P1",
            "P1M",
            "P1Y",
            "PT1D",
            "P1H",
            "PT1H1H",
            "PT1.5H",
            "PT.5S",
            "PT1.S",
            "p1d",
            "PT0S",
            "40000d",
            "99999999999999999999d",
            "9223372036854775807w",
            "P1DT",
        ] {
            assert_eq!(parse_step(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_time_is_read_as_itself(micros in YEARS.start..YEARS.end) {
            prop_assert_eq!(parse_time(&Timestamp(micros).to_string(), NOW), Some(Timestamp(micros)));
        }

        #[test]
        fn a_printed_step_is_read_as_itself(micros in 1..LONGEST_STEP as u64) {
            let step = NonZeroU64::new(micros).unwrap();
            prop_assert_eq!(parse_step(&step_text(step)), Some(step));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(now)?[-+/. 0-9a-zA-Z:µ]{0,24}", other in ".{0,20}") {
            for text in [text, other] {
                parse_time(&text, NOW);
                parse_step(&text);
            }
        }
    }
}
