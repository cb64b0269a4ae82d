//! Readings of one series from several places, by time, each key once: the first in the order of arrival wins.
//!
//! Owns: [`SeriesReadings`]. Does not know: blocks' bytes, stores.
//! Invariant: after [`SeriesReadings::settle`] times rise strictly and the value of a key is the first that was pushed for it.

use crate::block::OpenBlock;
use crate::failpoint;
use crate::series::SeriesId;
use crate::time::TimeRange;

/// Readings of one series, gathered block by block in the order of the log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SeriesReadings {
    /// Microseconds since the epoch.
    pub times: Vec<i64>,
    /// One for each time.
    pub values: Vec<f64>,
}

impl SeriesReadings {
    /// How many readings it holds.
    pub const fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether it holds none.
    pub const fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Forgets the readings and keeps the memory.
    pub fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
    }

    /// Adds the readings that `block` has of `series` within `range`. Blocks must come in the order of their batches.
    pub fn gather(&mut self, block: &OpenBlock, series: SeriesId, range: TimeRange) {
        let run = block.run(series);
        let times = &block.times[run.clone()];
        let from = run.start + times.partition_point(|&t| t < range.from.0);
        let to = run.start + times.partition_point(|&t| t < range.to.0);
        if from < to {
            self.times.extend_from_slice(&block.times[from..to]);
            self.values.extend_from_slice(&block.values[from..to]);
        }
    }

    /// Sorts by time and keeps the first of every key.
    pub fn settle(&mut self) {
        if self.times.is_sorted_by(|a, b| a < b) {
            return;
        }
        if !self.times.is_sorted() {
            let mut order: Vec<u32> = (0..self.len() as u32).collect();
            order.sort_by_key(|&i| self.times[i as usize]);
            self.times = order.iter().map(|&i| self.times[i as usize]).collect();
            self.values = order.iter().map(|&i| self.values[i as usize]).collect();
        }
        let mut kept = 0;
        for i in 0..self.times.len() {
            if kept == 0 || self.times[i] != self.times[kept - 1] {
                self.times[kept] = self.times[i];
                self.values[kept] = self.values[i];
                kept += 1;
            } else if failpoint::planted("last-value-wins") {
                self.values[kept - 1] = self.values[i];
            }
        }
        self.times.truncate(kept);
        self.values.truncate(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block;
    use crate::time::Timestamp;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn the_first_of_a_key_wins_however_batches_are_cut(
            rows in prop::collection::vec((0u32..3, 0i64..20, 0i32..100), 0..100),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
            from in 0i64..20,
        ) {
            let mut bounds: Vec<usize> = cuts.iter().map(|c| c.index(rows.len() + 1)).chain([0, rows.len()]).collect();
            bounds.sort_unstable();
            let range = TimeRange::new(Timestamp(from), Timestamp(18));
            for series in 0..3 {
                let mut model = BTreeMap::new();
                for &(s, t, v) in rows.iter().filter(|r| r.0 == series && range.contains(r.1)) {
                    let _ = s;
                    model.entry(t).or_insert(f64::from(v));
                }
                let mut merged = SeriesReadings::default();
                for pair in bounds.windows(2) {
                    let batch = &rows[pair[0]..pair[1]];
                    let blocks = block::cut(
                        &batch.iter().map(|r| SeriesId(r.0)).collect::<Vec<_>>(),
                        &batch.iter().map(|r| r.1).collect::<Vec<_>>(),
                        &batch.iter().map(|r| f64::from(r.2)).collect::<Vec<_>>(),
                    );
                    for block in &blocks {
                        merged.gather(block, SeriesId(series), range);
                    }
                }
                merged.settle();
                prop_assert_eq!(&merged.times, &model.keys().copied().collect::<Vec<_>>());
                prop_assert_eq!(&merged.values, &model.values().copied().collect::<Vec<_>>());
            }
        }
    }
}
