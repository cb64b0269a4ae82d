//! Points in time as Headwater keeps them: microseconds since the Unix epoch, UTC, without leap seconds.
//!
//! Owns: [`Timestamp`], half-open [`TimeRange`]s, RFC 3339 as answers print it. Does not know: how times are read from the
//! outside (the crates `wire` and `api` do), the current time ([`crate::clock`]).

use std::fmt;

/// Microseconds in a second.
pub const SECOND: i64 = 1_000_000;
/// Microseconds in an hour.
pub const HOUR: i64 = 3_600 * SECOND;
/// Microseconds in a UTC day.
pub const DAY: i64 = 24 * HOUR;

/// The least time a reading may have: 1990-01-01T00:00:00Z, long after the clocks that boot at zero.
pub const EARLIEST: Timestamp = Timestamp(631_152_000 * SECOND);
/// How far a reading may lie ahead of its receipt: ten minutes.
pub const FURTHEST_AHEAD: i64 = 600 * SECOND;

/// Microseconds since 1970-01-01T00:00:00Z. Prints as RFC 3339 with `Z` and as many fraction digits as needed (at most 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The number of microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// This time moved by `micros`, held at the ends of the representable range.
    #[must_use]
    pub const fn plus(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// The start of the step of `step` microseconds that holds this time, steps being aligned to the epoch.
    #[must_use]
    pub const fn floor_to(self, step: i64) -> Self {
        Self(self.0.saturating_sub(self.0.rem_euclid(step)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, of_day) = (self.0.div_euclid(DAY), self.0.rem_euclid(DAY));
        let (year, month, day) = civil(days);
        let (seconds, micros) = (of_day / SECOND, of_day % SECOND);
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
        if micros != 0 {
            let digits = format!("{micros:06}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

/// Days since the epoch to (year, month, day) of the proleptic Gregorian calendar, after Howard Hinnant's
/// "chrono-compatible low-level date algorithms" (`civil_from_days`).
const fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// The days since the epoch of a date of the proleptic Gregorian calendar (the inverse of what `Display` does), after the
/// same source (`days_from_civil`). `month` is 1 to 12, `day` 1 to 31; both are taken as they are.
pub const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    era * 146_097 + of_era - 719_468
}

/// The half-open range `[from, to)`; empty where `from >= to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// The first time inside.
    pub from: Timestamp,
    /// The first time after.
    pub to: Timestamp,
}

impl TimeRange {
    /// Everything a reading's time can be.
    pub const ALL: Self = Self { from: Timestamp(i64::MIN), to: Timestamp(i64::MAX) };

    /// `[from, to)`.
    pub const fn new(from: Timestamp, to: Timestamp) -> Self {
        Self { from, to }
    }

    /// Whether `time` lies inside.
    pub const fn contains(self, time: i64) -> bool {
        self.from.0 <= time && time < self.to.0
    }

    /// Whether any of the closed range `[min, max]` lies inside.
    pub const fn touches(self, min: i64, max: i64) -> bool {
        min < self.to.0 && self.from.0 <= max
    }

    /// Whether nothing lies inside.
    pub const fn is_empty(self) -> bool {
        self.from.0 >= self.to.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_print_as_rfc_3339() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (1_763_910_000_123_000, "2025-11-23T15:00:00.123Z"),
            (951_782_400_000_001, "2000-02-29T00:00:00.000001Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (EARLIEST.0, "1990-01-01T00:00:00Z"),
        ];
        for (micros, text) in cases {
            assert_eq!(Timestamp(micros).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn the_calendar_and_the_count_of_days_agree(days in -1_000_000i64..3_000_000) {
            let (year, month, day) = civil(days);
            prop_assert!((1..=12).contains(&month) && (1..=31).contains(&day));
            prop_assert_eq!(days_from_civil(year, month, day), days);
        }

        #[test]
        fn flooring_is_aligned_to_the_epoch(time in -DAY * 40_000..DAY * 40_000, step in 1i64..DAY * 400) {
            let floor = Timestamp(time).floor_to(step).0;
            prop_assert!(floor <= time && time - floor < step && floor % step == 0);
        }
    }
}
