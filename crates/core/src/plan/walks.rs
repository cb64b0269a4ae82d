//! Times of many series put together into few walks over what is stored.
//!
//! Owns: [`Walk`] and [`walks`]. Does not know: what is walked over.
//! Invariants: every need is in exactly one walk and within its range; needs of one series come in the order of time, over all walks.

use crate::time::{HOUR, TimeRange, Timestamp};

/// A walk may pass over so much that nobody needs, in microseconds × series: about what a call costs more than passing over it does.
const FREE_WASTE: i128 = 64 * HOUR as i128;
/// And over so many times more than is needed.
const WASTE_FACTOR: i128 = 2;

/// A range of time, and what is needed within it of some series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// The hull of its needs.
    pub range: TimeRange,
    /// (Which series, when), in this order.
    pub needs: Vec<(usize, TimeRange)>,
}

impl Walk {
    /// The series, in order.
    pub fn series(&self) -> Vec<usize> {
        let mut series: Vec<usize> = self.needs.iter().map(|(series, _)| *series).collect();
        series.dedup();
        series
    }

    /// What is needed of one series, in order.
    pub fn needs_of(&self, series: usize) -> &[(usize, TimeRange)] {
        let from = self.needs.partition_point(|need| need.0 < series);
        let len = self.needs[from..].partition_point(|need| need.0 == series);
        &self.needs[from..from + len]
    }
}

/// Puts needs together. Those of one series must be in order and must not overlap.
pub fn walks(mut needs: Vec<(usize, TimeRange)>) -> Vec<Walk> {
    needs.sort_unstable_by_key(|(series, range)| (range.from, range.to, *series));
    let n_series = needs.iter().map(|(series, _)| series + 1).max().unwrap_or(0);
    // The last walk that each series is in.
    let mut last_walk = vec![usize::MAX; n_series];
    let mut walks: Vec<Walk> = Vec::new();
    let (mut n_walked, mut needed) = (0i128, 0i128);
    for (series, range) in needs {
        let this = walks.len().wrapping_sub(1);
        let is_new = last_walk[series] != this;
        if let Some(walk) = walks.last_mut() {
            let to = walk.range.to.max(range.to);
            let n_series = n_walked + i128::from(is_new);
            let sum = needed + cost(range);
            if n_series * length(walk.range.from, to) - sum <= FREE_WASTE + WASTE_FACTOR * sum {
                (n_walked, needed, last_walk[series]) = (n_series, sum, this);
                walk.range.to = to;
                walk.needs.push((series, range));
                continue;
            }
        }
        (n_walked, needed, last_walk[series]) = (1, cost(range), walks.len());
        walks.push(Walk { range, needs: vec![(series, range)] });
    }
    for walk in &mut walks {
        walk.needs.sort_unstable_by_key(|(series, range)| (*series, range.from));
    }
    walks
}

/// What stored rows cover is seldom less than an hour.
fn cost(range: TimeRange) -> i128 {
    length(range.from, range.to).max(i128::from(HOUR))
}

fn length(from: Timestamp, to: Timestamp) -> i128 {
    i128::from(to.0) - i128::from(from.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::DAY;
    use proptest::prelude::*;

    fn range(from: i64, to: i64) -> TimeRange {
        TimeRange::new(Timestamp(from), Timestamp(to))
    }

    proptest! {
        #[test]
        fn every_need_is_walked_over_once(series in prop::collection::vec(prop::collection::btree_set(0i64..2000, 0..12), 0..30)) {
            let mut needs = Vec::new();
            for (series, borders) in series.iter().enumerate() {
                let borders: Vec<i64> = borders.iter().map(|hour| hour * HOUR).collect();
                needs.extend(borders.chunks_exact(2).map(|pair| (series, range(pair[0], pair[1]))));
            }
            let made = walks(needs.clone());
            let mut walked: Vec<_> = made.iter().flat_map(|walk| walk.needs.iter().copied()).collect();
            // Needs of one series come in order; a stable sort by series must be enough.
            walked.sort_by_key(|need| need.0);
            prop_assert_eq!(walked, needs);
            for walk in &made {
                prop_assert!(walk.needs.iter().all(|(_, need)| walk.range.from <= need.from && need.to <= walk.range.to));
                let of_series: Vec<_> = walk.series().iter().flat_map(|&series| walk.needs_of(series).to_vec()).collect();
                prop_assert_eq!(&of_series, &walk.needs);
                let needed: i128 = walk.needs.iter().map(|(_, need)| cost(*need)).sum();
                let passed = walk.series().len() as i128 * length(walk.range.from, walk.range.to);
                prop_assert!(passed <= FREE_WASTE + (1 + WASTE_FACTOR) * needed);
            }
        }
    }

    #[test]
    fn ragged_ends_of_many_series_are_two_walks_and_not_what_lies_between() {
        let ends = [range(0, HOUR / 2), range(DAY, DAY + HOUR / 2)];
        let made = walks((0..500).flat_map(|series| ends.map(|end| (series, end))).collect());
        assert_eq!(made.iter().map(|walk| (walk.range, walk.needs.len())).collect::<Vec<_>>(), ends.map(|end| (end, 500)));
    }
}
