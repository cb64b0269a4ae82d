//! The statistics that can be asked for, and their figures.
//!
//! Owns: [`Stat`] (names, parsing) and [`Figures`] (what one row shows, 8 bytes each instead of a whole summary). Does not know:
//! groups, formats.

use headwater_core::summary::{Rank, Summary};

/// One statistic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stat {
    Count,
    Sum,
    Avg,
    Min,
    Max,
    Range,
    Stddev,
    StddevPop,
    First,
    Last,
    /// With the name as it was asked for, such as `p99.9`.
    Percentile(Rank, String),
}

/// Those shown when none are asked for.
pub(crate) const DEFAULT_STATS: &str = "count,avg,min,max,p50,p95,p99";

const NAMED: [(&str, Stat); 10] = [
    ("count", Stat::Count),
    ("sum", Stat::Sum),
    ("avg", Stat::Avg),
    ("min", Stat::Min),
    ("max", Stat::Max),
    ("range", Stat::Range),
    ("stddev", Stat::Stddev),
    ("stddev_pop", Stat::StddevPop),
    ("first", Stat::First),
    ("last", Stat::Last),
];

impl Stat {
    /// The statistic of a name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let percentile = || Some(Self::Percentile(Rank::parse(name.strip_prefix('p')?)?, name.to_owned()));
        NAMED.iter().find(|(known, _)| *known == name).map(|(_, stat)| stat.clone()).or_else(percentile)
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Percentile(_, name) => name,
            named => NAMED.iter().find(|(_, stat)| stat == named).map_or("", |(name, _)| name),
        }
    }

    /// Whether both are the same statistic, by whatever name.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Percentile(a, _), Self::Percentile(b, _)) => a == b,
            (a, b) => a == b,
        }
    }

    /// Its figure; `None` where there is none. The count is not among them, it is exact.
    fn of(&self, summary: &Summary) -> Option<f64> {
        match self {
            Self::Count => None,
            Self::Sum => summary.sum(),
            Self::Avg => summary.mean(),
            Self::Min => summary.min(),
            Self::Max => summary.max(),
            Self::Range => summary.range(),
            Self::Stddev => summary.stddev(),
            Self::StddevPop => summary.stddev_pop(),
            Self::First => summary.first().map(|(_, value)| value),
            Self::Last => summary.last().map(|(_, value)| value),
            Self::Percentile(rank, _) => summary.percentile(*rank),
        }
    }
}

/// Reads a list of names in the order asked for; a statistic that comes again is left out.
///
/// # Errors
/// The name that is none.
pub(crate) fn parse_list(text: &str) -> Result<Vec<Stat>, String> {
    let mut stats: Vec<Stat> = Vec::new();
    for name in text.split(',').map(str::trim) {
        let stat = Stat::parse(name).ok_or_else(|| name.to_owned())?;
        if !stats.iter().any(|known| known.is_same(&stat)) {
            stats.push(stat);
        }
    }
    Ok(stats)
}

/// What one row shows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figures {
    /// How many readings.
    pub(crate) count: u64,
    /// The bound on the relative error of its percentiles.
    pub(crate) percentile_error: f64,
    /// One for each statistic asked for; NaN where there is none (no statistic is NaN).
    values: Box<[f64]>,
}

impl Figures {
    /// The figures of a summary.
    pub(crate) fn of(summary: &Summary, stats: &[Stat]) -> Self {
        let values = stats.iter().map(|stat| stat.of(summary).unwrap_or(f64::NAN)).collect();
        Self { count: summary.count(), percentile_error: summary.percentile_error(), values }
    }

    /// The figure of the statistic with this place in the list.
    pub(crate) fn value(&self, place: usize) -> Option<f64> {
        self.values.get(place).copied().filter(|value| !value.is_nan())
    }

    /// Memory that it takes, in bytes.
    pub(crate) const fn memory_bytes(&self) -> usize {
        size_of::<Self>() + 8 * self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_the_order_asked_for_and_drop_repeats() {
        let names = |text: &str| parse_list(text).map(|stats| stats.iter().map(|stat| stat.name().to_owned()).collect::<Vec<_>>());
        assert_eq!(
            names("p99.9,count,p0,avg,p100,count,p99.90"),
            Ok(vec!["p99.9".into(), "count".into(), "p0".into(), "avg".into(), "p100".into()])
        );
        for (name, _) in NAMED {
            assert_eq!(names(name), Ok(vec![name.to_owned()]));
        }
        assert_eq!(names(DEFAULT_STATS).map(|names| names.len()), Ok(7));
        for bad in ["", "count,", "median", "p101", "p", "p-1", "p1e1", "COUNT", "p50 p60", "p007"] {
            assert!(names(bad).is_err(), "{bad}");
        }
    }
}
