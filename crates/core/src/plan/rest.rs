//! Which rollups an answer takes of one series, and which times are left to be read.
//!
//! Owns: [`Rest`]. Does not know: where rollups and readings are kept, what the summaries are.
//! Invariants: what was taken and what is left are disjoint and together the range; every open reading is in what is left; a window
//! that was taken lies within one bucket.

use super::Buckets;
use crate::seal::Level;
use crate::time::{DAY, TimeRange, Timestamp};

/// The times of one series that are still to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    /// In order, none empty, none touching the next.
    ranges: Vec<TimeRange>,
}

impl Rest {
    /// All of `range`.
    pub fn of(range: TimeRange) -> Self {
        Self { ranges: if range.is_empty() { vec![] } else { vec![range] } }
    }

    /// What is left, in order.
    pub fn ranges(&self) -> &[TimeRange] {
        &self.ranges
    }

    /// Takes every window that may be taken, and calls `taken` with its place in `starts`: it must fit a bucket (see [`Buckets::fits`]), be left
    /// as a whole, and hold no open reading.
    ///
    /// `starts` are those of rollups of the level that exist, `open` the times of the open readings; both in order.
    pub fn take(&mut self, buckets: &Buckets, level: Level, starts: &[i64], open: &[i64], mut taken: impl FnMut(usize)) {
        let mut left = Vec::with_capacity(self.ranges.len());
        let (mut at, mut open) = (0, open);
        for &range in &self.ranges {
            let mut from = range.from.0;
            at += starts[at..].partition_point(|&start| start < from);
            while let Some(&start) = starts.get(at).filter(|&&start| start < range.to.0) {
                let end = start.saturating_add(level.width());
                open = &open[open.partition_point(|&time| time < start)..];
                let is_settled = open.first().is_none_or(|&time| time >= end);
                if is_settled && start >= from && end <= range.to.0 && buckets.fits(level, start) {
                    taken(at);
                    push(&mut left, from, start);
                    from = end;
                }
                at += 1;
            }
            push(&mut left, from, range.to.0);
        }
        self.ranges = left;
    }

    /// Where rollups of hours may exist, once those of days were asked for within `asked` and `days` are the starts of those that exist, in
    /// order: a day without a rollup has no hour with one, because an hour has no more readings than its day.
    pub fn hours(&self, asked: TimeRange, days: &[i64]) -> Vec<TimeRange> {
        if asked.is_empty() {
            return self.ranges.clone();
        }
        let mut hours: Vec<TimeRange> = Vec::new();
        for range in &self.ranges {
            let before = (range.from.0, range.to.0.min(asked.from.0));
            let after = (range.from.0.max(asked.to.0), range.to.0);
            let first = days.partition_point(|&day| day.saturating_add(DAY) <= range.from.0);
            let within = days[first..].iter().take_while(|&&day| day < range.to.0);
            let within = within.map(|&day| (range.from.0.max(day), range.to.0.min(day.saturating_add(DAY))));
            for (from, to) in [before].into_iter().chain(within).chain([after]) {
                match hours.last_mut() {
                    Some(last) if from < to && last.to.0 == from => last.to = Timestamp(to),
                    _ => push(&mut hours, from, to),
                }
            }
        }
        hours
    }

    /// About how much memory it takes beside itself, in bytes.
    pub const fn heap_bytes(&self) -> usize {
        self.ranges.capacity() * size_of::<TimeRange>()
    }
}

fn push(ranges: &mut Vec<TimeRange>, from: i64, to: i64) {
    if from < to {
        ranges.push(TimeRange::new(Timestamp(from), Timestamp(to)));
    }
}

/// The range of the starts of the windows of `level` that lie wholly within `range`.
pub fn windows(level: Level, range: TimeRange) -> TimeRange {
    let width = level.width();
    let first = range.from.0.checked_add((-range.from.0.rem_euclid(width)).rem_euclid(width)).unwrap_or(i64::MAX);
    TimeRange::new(Timestamp(first), range.to.floor_to(width))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::{MAX_EXACT, Summary};
    use crate::time::{HOUR, SECOND};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::num::NonZeroU64;

    const MINUTE: i64 = 60 * SECOND;

    /// Times in four days, dense in some hours, as minutes with a few seconds.
    fn times(most: usize) -> impl Strategy<Value = BTreeSet<i64>> {
        let dense = (prop::sample::select(vec![0i64, 1, 25, 26, 70]), 0i64..720).prop_map(|(hour, n)| hour * HOUR + n * HOUR / 720);
        let spread = (0i64..4 * 24 * 60).prop_map(|minute| minute * MINUTE);
        prop::collection::btree_set(prop_oneof![6 => dense, 1 => spread], 0..most)
    }

    fn rollups(sealed: &BTreeSet<i64>, level: Level) -> BTreeMap<i64, Summary> {
        let mut all: BTreeMap<i64, Summary> = BTreeMap::new();
        sealed.iter().for_each(|&time| all.entry(level.start_of(time)).or_default().add(time, time as f64));
        all.retain(|_, summary| summary.count() > MAX_EXACT as u64);
        all
    }

    fn steps() -> impl Strategy<Value = Option<i64>> {
        prop_oneof![
            Just(None),
            prop::sample::select(vec![15, 60, 90, 120, 150, 1440, 2880, 3000]).prop_map(|minutes| Some(minutes * MINUTE)),
            (1..3 * DAY).prop_map(Some)
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn what_is_taken_and_what_is_read_make_the_answer(sealed in times(600), open in times(12), from in -HOUR..DAY, len in 1..4 * DAY, cuts in any::<bool>(), step in steps()) {
            let (from, to) = if cuts { (from, from + len) } else { (from - from.rem_euclid(HOUR), from - from.rem_euclid(HOUR) + len - len.rem_euclid(DAY) + DAY) };
            let step = step.and_then(|step| NonZeroU64::new(step as u64));
            let buckets = Buckets { range: TimeRange::new(Timestamp(from), Timestamp(to)), step };
            let open: Vec<i64> = open.into_iter().filter(|&time| buckets.range.contains(time)).collect();
            let mut answer: BTreeMap<Timestamp, Summary> = BTreeMap::new();
            let mut rest = Rest::of(buckets.range);
            let mut n_taken = 0;

            let asked = windows(Level::Day, buckets.range);
            let days: Vec<(i64, Summary)> = rollups(&sealed, Level::Day).into_iter().filter(|(start, _)| asked.contains(*start)).collect();
            let starts: Vec<i64> = days.iter().map(|(start, _)| *start).collect();
            rest.take(&buckets, Level::Day, &starts, &open, |i| {
                answer.entry(buckets.start_of(days[i].0)).or_default().merge(&days[i].1);
                n_taken += 24;
            });
            let needs = rest.hours(asked, &starts);
            let hours: Vec<(i64, Summary)> = rollups(&sealed, Level::Hour).into_iter().collect();
            let starts: Vec<i64> = hours.iter().map(|(start, _)| *start).collect();
            let before = rest.clone();
            rest.take(&buckets, Level::Hour, &starts, &open, |i| {
                answer.entry(buckets.start_of(hours[i].0)).or_default().merge(&hours[i].1);
                assert!(needs.iter().any(|need| windows(Level::Hour, *need).contains(hours[i].0)), "an hour that would not have been asked for");
                n_taken += 1;
            });
            prop_assert!(rest.ranges().len() <= before.ranges().len() + hours.len());

            let left = |time: i64| rest.ranges().iter().filter(|range| range.contains(time)).count();
            let hours_left: i64 = rest.ranges().iter().map(|range| range.to.0 - range.from.0).sum();
            prop_assert_eq!(hours_left + n_taken * HOUR, to - from);
            prop_assert!(open.iter().all(|&time| left(time) == 1));
            // No hour that fits and has a rollup is read reading by reading, unless something in it is open.
            for &start in starts.iter().filter(|&&start| buckets.fits(Level::Hour, start)) {
                prop_assert!(left(start) == 0 || open.iter().any(|&time| Level::Hour.start_of(time) == start));
            }
            for time in sealed.iter().chain(open.iter().filter(|time| !sealed.contains(time))).filter(|time| left(**time) == 1) {
                answer.entry(buckets.start_of(*time)).or_default().add(*time, *time as f64);
            }
            let mut expected: BTreeMap<Timestamp, Summary> = BTreeMap::new();
            for time in sealed.iter().chain(open.iter().filter(|time| !sealed.contains(time))).filter(|time| buckets.range.contains(**time)) {
                expected.entry(buckets.start_of(*time)).or_default().add(*time, *time as f64);
            }
            prop_assert_eq!(answer, expected);
        }

        #[test]
        fn whole_windows_lie_within(from in any::<i64>(), len in 0..3 * DAY) {
            let range = TimeRange::new(Timestamp(from), Timestamp(from).plus(len));
            for level in Level::ALL {
                let starts = windows(level, range);
                if !starts.is_empty() {
                    prop_assert!(starts.from.0.rem_euclid(level.width()) == 0 && starts.to.0.rem_euclid(level.width()) == 0);
                    prop_assert!(starts.from >= range.from && starts.from.0 - range.from.0 < level.width());
                    prop_assert!(starts.to <= range.to && range.to.0 - starts.to.0 < level.width());
                }
            }
        }
    }
}
