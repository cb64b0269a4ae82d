//! Times as devices write them.
//!
//! Owns: RFC 3339 and the magnitude rule of epoch numbers. Does not know: which times a reading may have (the sink does).
//! Invariant: the result is the floor to the microsecond of exactly what the text says; no f64 is involved.

use crate::number::{self, Pieces};
use headwater_core::time::{SECOND, Timestamp, days_from_civil};

/// The time that a text means: RFC 3339, or an epoch number by the magnitude rule.
pub fn parse(text: &str) -> Option<Timestamp> {
    if text.as_bytes().get(4) == Some(&b'-') { parse_rfc3339(text) } else { from_decimal(text) }
}

/// Reads RFC 3339: `2026-11-23T15:00:00.123Z` or with an offset, `t` and `z` in either case, a space for the `T`, any number of
/// fraction digits. Second 60 is read where UTC can have it, at the end of a day.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let (date_time, rest) = text.as_bytes().split_first_chunk::<19>()?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T' | b't' | b' ', h1, h2, b':', n1, n2, b':', s1, s2] = *date_time else {
        return None;
    };
    // One look at all digits together is a single branch.
    if ![y1, y2, y3, y4, m1, m2, d1, d2, h1, h2, n1, n2, s1, s2].iter().fold(true, |all, byte| all & byte.is_ascii_digit()) {
        return None;
    }
    let two = |tens: u8, ones: u8| i64::from(tens) * 10 + i64::from(ones) - i64::from(b'0') * 11;
    let (year, month, day) = (two(y1, y2) * 100 + two(y3, y4), two(m1, m2), two(d1, d2));
    let (hour, minute, second) = (two(h1, h2), two(n1, n2), two(s1, s2));
    if !(1..=12).contains(&month) || day < 1 || day > days_of(year, month) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (micros, rest) = fraction(rest)?;
    let of_day = hour * 3_600 + minute * 60 + second - offset(rest)?;
    if second == 60 && of_day.rem_euclid(86_400) != 0 {
        return None;
    }
    Some(Timestamp((days_from_civil(year, month, day) * 86_400 + of_day) * SECOND + micros))
}

fn two_digits(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens * 10 + ones))
}

const fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The microseconds of an optional fraction, and what follows it.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let [b'.', digits @ ..] = text else {
        return Some((0, text));
    };
    let n = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    let micros = (0..6).fold(0, |sum, at| sum * 10 + if at < n { i64::from(digits[at] - b'0') } else { 0 });
    (n > 0).then_some((micros, &digits[n..]))
}

/// Seconds by which local time is ahead of UTC.
fn offset(text: &[u8]) -> Option<i64> {
    match *text {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (two_digits(h1, h2)?, two_digits(m1, m2)?);
            let seconds = hours * 3_600 + minutes * 60;
            (hours < 24 && minutes < 60).then_some(if sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

/// The time of an epoch number by its magnitude: below 5e9 seconds, below 5e12 milliseconds, below 5e15 microseconds, else
/// nanoseconds.
pub const fn from_integer(n: i64) -> Timestamp {
    Timestamp(match n.unsigned_abs() {
        0..5_000_000_000 => n * 1_000_000,
        5_000_000_000..5_000_000_000_000 => n * 1_000,
        5_000_000_000_000..5_000_000_000_000_000 => n,
        _ => n.div_euclid(1_000),
    })
}

/// The time of the decimal text of an epoch number by its magnitude, floored to the microsecond, exactly; held at the ends of
/// what can be represented. `None` where the text is no decimal.
pub fn from_decimal(text: &str) -> Option<Timestamp> {
    if let Some(n) = number::integer(text) {
        return Some(from_integer(n));
    }
    let pieces = number::split(text.as_bytes())?;
    Some(Timestamp(Scaled::of(&pieces).micros()))
}

/// `±mantissa × 10^exponent`, where `rest` says that further digits were not all zero.
struct Scaled {
    negative: bool,
    mantissa: u128,
    n_digits: i64,
    exponent: i64,
    rest: bool,
}

impl Scaled {
    /// Digits that are kept: 10^36 < 2^128, and no time needs more.
    const DIGITS: i64 = 36;

    fn of(pieces: &Pieces<'_>) -> Self {
        let Pieces { negative, integer, fraction, exponent } = *pieces;
        let mut scaled = Self { negative, mantissa: 0, n_digits: 0, exponent: exponent + integer.len() as i64, rest: false };
        for &digit in integer.iter().chain(fraction) {
            let digit = digit - b'0';
            if scaled.n_digits == Self::DIGITS {
                scaled.rest |= digit != 0;
                continue;
            }
            // The exponent begins as that of a fraction `0.digits` and is told for whole digits; a leading zero shifts it.
            scaled.mantissa = scaled.mantissa * 10 + u128::from(digit);
            scaled.exponent -= 1;
            scaled.n_digits += i64::from(scaled.mantissa != 0);
        }
        scaled
    }

    /// Whether the magnitude is at least `5 × 10^power`.
    const fn is_at_least_5e(&self, power: i64) -> bool {
        let digits_before_point = self.n_digits + self.exponent;
        let first_digit = self.mantissa / 10u128.pow(self.n_digits as u32 - 1);
        digits_before_point > power + 1 || (digits_before_point == power + 1 && first_digit >= 5)
    }

    fn micros(&self) -> i64 {
        if self.mantissa == 0 {
            return 0;
        }
        let to_micros = match () {
            () if self.is_at_least_5e(15) => -3,
            () if self.is_at_least_5e(12) => 0,
            () if self.is_at_least_5e(9) => 3,
            () => 6,
        };
        let shift = self.exponent + to_micros;
        if self.n_digits + shift > 19 {
            return if self.negative { i64::MIN } else { i64::MAX };
        }
        let (whole, exact) = match u32::try_from(-shift) {
            Err(_) => (self.mantissa * 10u128.pow(shift as u32), true),
            Ok(places) if i64::from(places) > Self::DIGITS => (0, false),
            Ok(places) => (self.mantissa / 10u128.pow(places), self.mantissa.is_multiple_of(10u128.pow(places))),
        };
        let whole = i128::try_from(whole).unwrap_or(i128::MAX);
        let floor = if self.negative { -whole - i128::from(!exact || self.rest) } else { whole };
        i64::try_from(floor).unwrap_or(if self.negative { i64::MIN } else { i64::MAX })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn micros(text: &str) -> Option<i64> {
        parse(text).map(Timestamp::micros)
    }

    #[test]
    fn rfc_3339_is_read_with_its_liberties() {
        let noon = Some(1_795_446_000_123_000);
        for text in [
            "2026-11-23T15:00:00.123Z",
            "2026-11-23t15:00:00.123z",
            "2026-11-23 15:00:00.123Z",
            "2026-11-23T16:30:00.123+01:30",
            "2026-11-22T16:00:00.123-23:00",
            "2026-11-23T15:00:00.123-00:00",
            "2026-11-23T15:00:00.123000999999999999999Z",
        ] {
            assert_eq!(micros(text), noon, "{text}");
        }
        assert_eq!(micros("1969-12-31T23:59:59.9999999Z"), Some(-1));
        assert_eq!(micros("0000-01-01T00:00:00Z"), Some(-62_167_219_200_000_000));
        assert_eq!(micros("2000-02-29T00:00:00Z"), Some(951_782_400_000_000));
        // A leap second is the second after it.
        assert_eq!(micros("2016-12-31T23:59:60.5Z"), micros("2017-01-01T00:00:00.5Z"));
        assert_eq!(micros("2017-01-01T00:59:60+01:00"), micros("2017-01-01T00:00:00Z"));
    }

    #[test]
    fn what_is_no_rfc_3339_is_refused() {
        for text in [
            "2026-11-23T15:00:00",
            "2026-11-23T15:00Z",
            "2026-11-23",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-00-10T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:61Z",
            "2026-01-01T12:00:60Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00,5Z",
            "2026-01-01T00:00:00.5",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00+01:60",
            "2026-01-01T00:00:00+0100",
            "2026-01-01T00:00:00 Europe/Berlin",
            "2026-01-01T00:00:00Zx",
            "２０２６-01-01T00:00:00Z",
            "+026-01-01T00:00:00Z",
        ] {
            assert_eq!(micros(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_told_apart_by_magnitude() {
        let cases = [
            ("0", 0),
            ("1763910000", 1_763_910_000_000_000),
            ("1763910000.123", 1_763_910_000_123_000),
            ("1763910000.1234567", 1_763_910_000_123_456),
            ("1.763910000123e9", 1_763_910_000_123_000),
            ("1763910000123", 1_763_910_000_123_000),
            ("1763910000123.4567", 1_763_910_000_123_456),
            ("1763910000123.0", 1_763_910_000_123_000),
            ("1763910000123456", 1_763_910_000_123_456),
            ("1763910000123456.9", 1_763_910_000_123_456),
            ("1763910000123456789", 1_763_910_000_123_456),
            ("1.763910000123456789E+18", 1_763_910_000_123_456),
            ("4999999999", 4_999_999_999_000_000),
            ("4999999999.9999999999", 4_999_999_999_999_999),
            ("5000000000", 5_000_000_000_000),
            ("4999999999999", 4_999_999_999_999_000),
            ("5000000000000", 5_000_000_000_000),
            ("4999999999999999", 4_999_999_999_999_999),
            ("5000000000000000", 5_000_000_000_000),
            ("-1", -1_000_000),
            ("-0.0000001", -1),
            ("-1763910000123456789", -1_763_910_000_123_457),
            ("1e-30", 0),
            ("-1e-30", -1),
            ("1e-999", 0),
            ("0e999", 0),
            ("00000000000000000000001763910000", 1_763_910_000_000_000),
            ("0.00000000000000000000000000000000000000000001763910000e53", 1_763_910_000_000_000),
            ("1e30", i64::MAX),
            ("-1e30", i64::MIN),
            ("1e999999999", i64::MAX),
            ("9223372036854775807", 9_223_372_036_854_775),
            ("-9223372036854775808", -9_223_372_036_854_776),
            ("18446744073709551615", 18_446_744_073_709_551),
        ];
        for (text, expected) in cases {
            assert_eq!(micros(text), Some(expected), "{text}");
        }
        for text in ["", "-", "now", "0x10", "1e", "NaN", "inf", " 1763910000"] {
            assert_eq!(micros(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn rfc_3339_agrees_with_another_reader(
            micros in -62_167_219_200_000_000i64..253_402_300_800_000_000,
            nanos in 0i64..1_000,
            offset in -86_340i32..86_340,
        ) {
            let offset = offset / 60 * 60;
            let instant = jiff::Timestamp::from_nanosecond(i128::from(micros) * 1_000 + i128::from(nanos)).unwrap();
            let text = instant.display_with_offset(jiff::tz::Offset::from_seconds(offset).unwrap()).to_string();
            prop_assume!(!text.starts_with('-') && text.as_bytes()[4] == b'-');
            prop_assert_eq!(parse_rfc3339(&text), Some(Timestamp(micros)), "{}", text);
        }

        #[test]
        fn what_is_read_is_read_alike_by_another_reader(text in "(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-][01][0-9]:[0-5][0-9])") {
            let other = text.parse::<jiff::Timestamp>().ok().map(|time| time.as_nanosecond().div_euclid(1_000) as i64);
            prop_assert_eq!(parse_rfc3339(&text).map(Timestamp::micros), other, "{}", text);
        }

        #[test]
        fn printed_times_come_back(micros in -62_167_219_200_000_000i64..253_402_300_799_999_999) {
            prop_assert_eq!(parse_rfc3339(&Timestamp(micros).to_string()), Some(Timestamp(micros)));
        }

        #[test]
        fn integers_mean_the_same_as_their_texts(n in any::<i64>(), shift in 0u32..63) {
            let n = n >> shift;
            prop_assert_eq!(from_decimal(&n.to_string()), Some(from_integer(n)));
            prop_assert_eq!(from_decimal(&format!("{n}.000")), Some(from_integer(n)));
        }

        #[test]
        fn fractions_are_floored_exactly(seconds in -4_999_999_998i64..4_999_999_999, fraction in "[0-9]{1,20}") {
            let micros: i64 = format!("{fraction:0<6}")[..6].parse().unwrap();
            let exact = fraction.len() <= 6 || fraction[6..].bytes().all(|byte| byte == b'0');
            let expected = if seconds < 0 { seconds * SECOND - micros - i64::from(!exact) } else { seconds * SECOND + micros };
            prop_assert_eq!(from_decimal(&format!("{seconds}.{fraction}")), Some(Timestamp(expected)));
        }
    }
}
