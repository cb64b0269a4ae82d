//! The plan of a statistic: which buckets there are, which rollups fill them, and which readings fall into which.
//!
//! Owns: [`Buckets`], [`Rest`] (which rollups are taken of a series, and what is left to be read), [`walks`] (what is left of many series, put
//! together). Does not know: groups, formats, stores.
//! Invariant: the buckets of [a, c) are those of [a, b) and of [b, c), merged.

mod rest;
mod walks;

pub use rest::{Rest, windows};
pub use walks::{Walk, walks};

use crate::merge::SeriesReadings;
use crate::seal::Level;
use crate::summary::Summary;
use crate::time::{TimeRange, Timestamp};
use std::collections::BTreeMap;
use std::ops::Range;

/// A range cut into buckets that are aligned to the epoch, or one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buckets {
    /// Only readings in here count.
    pub range: TimeRange,
    /// The width of a bucket in microseconds; `None` = one bucket, which starts at `range.from`.
    pub step: Option<std::num::NonZeroU64>,
}

impl Buckets {
    /// The start of the bucket that holds `time`; with a step it may lie before the range.
    pub fn start_of(&self, time: i64) -> Timestamp {
        match self.step {
            Some(step) => Timestamp(time).floor_to(i64::try_from(step.get()).unwrap_or(i64::MAX)),
            None => self.range.from,
        }
    }

    /// The start of the bucket after the one that starts at `start`.
    pub fn after(&self, start: Timestamp) -> Timestamp {
        match self.step {
            Some(step) => start.plus(i64::try_from(step.get()).unwrap_or(i64::MAX)),
            None => self.range.to,
        }
    }

    /// Whether rollups of `level` are worth asking for: whether buckets are so wide, or cut so, that many of its windows lie within one.
    pub fn takes(&self, level: Level) -> bool {
        let width = level.width().unsigned_abs();
        self.step.is_none_or(|step| step.get() == width || step.get() / 2 >= width)
    }

    /// Whether the window of `level` that starts at `start` lies within the range and within one bucket.
    pub fn fits(&self, level: Level, start: i64) -> bool {
        let last = start.saturating_add(level.width() - 1);
        self.range.from.0 <= start && last < self.range.to.0 && self.start_of(start) == self.start_of(last)
    }

    /// How many buckets touch the range.
    pub fn count(&self) -> u64 {
        if self.range.is_empty() {
            return 0;
        }
        let Some(step) = self.step else { return 1 };
        let first = i128::from(self.start_of(self.range.from.0).0);
        let last = i128::from(self.range.to.0) - 1;
        u64::try_from((last - first) / i128::from(step.get()) + 1).unwrap_or(u64::MAX)
    }

    /// The starts of all buckets that touch the range, in order.
    pub fn starts(&self) -> impl Iterator<Item = Timestamp> + use<> {
        let buckets = *self;
        let first = (!self.range.is_empty()).then(|| self.start_of(self.range.from.0));
        std::iter::successors(first, move |&start| Some(buckets.after(start)).filter(|next| *next < buckets.range.to && *next > start))
    }

    /// The runs of settled readings that fall into one bucket each, with the bucket's start, in order; readings outside the
    /// range are in none.
    pub fn runs<'a>(&self, readings: &'a SeriesReadings) -> impl Iterator<Item = (Timestamp, Range<usize>)> + use<'a> {
        let buckets = *self;
        let mut at = readings.times.partition_point(|&t| t < buckets.range.from.0);
        let end = readings.times.partition_point(|&t| t < buckets.range.to.0);
        std::iter::from_fn(move || {
            let start = buckets.start_of(*readings.times[..end].get(at)?);
            let next = buckets.after(start);
            let len = readings.times[at..end].partition_point(|&t| t < next.0).max(1);
            at += len;
            Some((start, at - len..at))
        })
    }

    /// Adds settled readings of one series to the summaries of their buckets; readings outside the range do not count.
    pub fn add(&self, readings: &SeriesReadings, into: &mut BTreeMap<Timestamp, Summary>) {
        for (start, run) in self.runs(readings) {
            into.entry(start).or_default().add_run(&readings.times[run.clone()], &readings.values[run]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::num::NonZeroU64;

    fn series() -> impl Strategy<Value = SeriesReadings> {
        prop::collection::btree_map(-500i64..500, -1000i32..1000, 0..200).prop_map(|map| SeriesReadings {
            times: map.keys().copied().collect(),
            values: map.values().map(|&v| f64::from(v) / 10.0).collect(),
        })
    }

    fn answer(readings: &SeriesReadings, from: i64, to: i64, step: Option<u64>) -> BTreeMap<Timestamp, Summary> {
        let buckets = Buckets { range: TimeRange::new(Timestamp(from), Timestamp(to)), step: step.and_then(NonZeroU64::new) };
        let mut into = BTreeMap::new();
        buckets.add(readings, &mut into);
        into
    }

    proptest! {
        #[test]
        fn a_range_is_the_merge_of_its_parts(readings in series(), a in -600i64..600, b in -600i64..600, c in -600i64..600, step in prop::option::of(1u64..300)) {
            let mut ends = [a, b, c];
            ends.sort_unstable();
            let [a, b, c] = ends;
            let mut merged: BTreeMap<Timestamp, Summary> = BTreeMap::new();
            for part in [answer(&readings, a, b, step), answer(&readings, b, c, step)] {
                for (start, summary) in part {
                    // Without a step the only bucket is called after the start of its range.
                    merged.entry(if step.is_none() { Timestamp(a) } else { start }).or_default().merge(&summary);
                }
            }
            let whole = answer(&readings, a, c, step);
            let bytes = |map: &BTreeMap<Timestamp, Summary>| map.iter().map(|(t, s)| { let mut out = Vec::new(); s.encode(&mut out); (*t, out) }).collect::<Vec<_>>();
            prop_assert_eq!(bytes(&whole), bytes(&merged));
        }

        #[test]
        fn buckets_hold_their_readings(readings in series(), from in -600i64..600, len in 0i64..900, step in 1u64..300) {
            let buckets = Buckets { range: TimeRange::new(Timestamp(from), Timestamp(from + len)), step: NonZeroU64::new(step) };
            let mut into = BTreeMap::new();
            buckets.add(&readings, &mut into);
            let starts: Vec<_> = buckets.starts().collect();
            prop_assert_eq!(starts.len() as u64, buckets.count());
            let counted: u64 = into.values().map(Summary::count).sum();
            prop_assert_eq!(counted as usize, readings.times.iter().filter(|t| buckets.range.contains(**t)).count());
            for (start, summary) in &into {
                prop_assert!(starts.contains(start));
                let (first, last) = (summary.first().unwrap().0, summary.last().unwrap().0);
                prop_assert!(start.0 <= first && last < start.0 + step as i64);
            }
        }
    }
}
