//! The mergeable statistics of a set of readings: what a rollup stores and what an answer is made of.
//!
//! Owns: count, exact sums, extremes, first and last, percentiles, and their bytes. Does not know: series, windows, which
//! reading was a duplicate, the store.
//!
//! Invariant: a [`Summary`] depends only on the set of readings (a multiset: equal values of pooled series each count),
//! never on the order they came in or on how they were split before [`Summary::merge`]. Equal sets give equal summaries,
//! equal answers and equal bytes, on every machine. So:
//!
//! - sums are integers (`exact`), rounded once when asked for; `sqrt` is the only inexact operation used, and IEEE 754
//!   fixes its result;
//! - up to [`MAX_EXACT`] readings percentiles come from the sorted values, above that from counts in fixed bins
//!   (`sketch`); the change happens at that count, whether by adding or by merging;
//! - bins come from bits and tables (`bins`), never from a `ln` or `pow` that differs between C libraries.
//!
//! Sources: Masson, Rim, Lee: *DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees*, VLDB
//! 2019; PostgreSQL, *Ordered-Set Aggregate Functions*, `percentile_disc`.

mod bins;
mod encoding;
mod exact;
mod integer;
mod percentiles;
mod rank;
mod sketch;
#[cfg(test)]
mod tests;

pub use percentiles::MAX_EXACT;
pub use rank::Rank;

use exact::{Accumulator, Parts};
use integer::Natural;
use percentiles::Percentiles;

/// What [`Summary::percentile_error`] says above [`MAX_EXACT`] readings.
const SKETCH_ERROR: f64 = 0.01;
/// How many readings of a run are taken at a time: as many as may become exact values at once.
const RUN: usize = MAX_EXACT;
/// The exponent of the lowest bit that a sum may have, and a sum of squares.
const SUM_UNIT: i64 = -1074;
const SQUARES_UNIT: i64 = 2 * SUM_UNIT;

/// The mergeable statistics of a set of readings. See the [module](self) for what they depend on.
///
/// Times are microseconds since the epoch, UTC; values are finite, in the unit of the metric.
#[derive(Debug, Clone)]
pub struct Summary {
    count: u64,
    sum: Accumulator,
    squares: Accumulator,
    min: f64,
    max: f64,
    /// Least (time, value) and greatest (time, value); as `min` and `max`, the neutral element while empty.
    first: (i64, f64),
    last: (i64, f64),
    percentiles: Percentiles,
}

impl Summary {
    /// The summary of no readings.
    pub const fn new() -> Self {
        Self {
            count: 0,
            sum: Accumulator::new(),
            squares: Accumulator::new(),
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            first: (i64::MAX, f64::INFINITY),
            last: (i64::MIN, f64::NEG_INFINITY),
            percentiles: Percentiles::new(),
        }
    }

    /// Adds one reading. Negative zero counts as zero. A value that is not finite is no reading (callers made it a dead
    /// letter) and is left out, so that it cannot poison the rest.
    #[inline]
    pub fn add(&mut self, time: i64, value: f64) {
        if value.is_finite() {
            let value = value + 0.0; // -0.0 + 0.0 is 0.0
            self.note(time, value);
            self.percentiles.add(value);
        }
    }

    /// Adds the readings of two columns, as [`Summary::add`] does one by one. Columns of unequal length are a mistake of
    /// the caller; the longer one's rest is ignored.
    pub fn add_run(&mut self, times: &[i64], values: &[f64]) {
        debug_assert_eq!(times.len(), values.len(), "a value for each time");
        let mut kept = [0.0; RUN];
        for (times, values) in times.chunks(RUN).zip(values.chunks(RUN)) {
            let mut n = 0;
            for (&time, &value) in times.iter().zip(values).filter(|(_, value)| value.is_finite()) {
                kept[n] = value + 0.0;
                self.note(time, kept[n]);
                n += 1;
            }
            self.percentiles.add_all(&kept[..n]);
        }
    }

    /// Adds all readings of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
        self.stretch(other.min, other.max, other.first, other.last);
        self.percentiles.merge(&other.percentiles);
    }

    /// Whether there are no readings.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many readings there are.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The exact sum, rounded once to the nearest f64 (ties to even). `None` when empty or beyond the range of f64.
    pub fn sum(&self) -> Option<f64> {
        let sum = self.non_empty()?.sum.value();
        sum.magnitude.nearest(SUM_UNIT, false).map(|sum_abs| sum.signed(sum_abs))
    }

    /// The exact sum divided by the count, rounded once. `None` when empty.
    pub fn mean(&self) -> Option<f64> {
        let sum = self.non_empty()?.sum.value();
        let (mean, inexact) = sum.magnitude.over(&[self.count]);
        mean.nearest(SUM_UNIT, inexact).map(|mean_abs| sum.signed(mean_abs))
    }

    /// The least value. `None` when empty.
    pub fn min(&self) -> Option<f64> {
        Some(self.non_empty()?.min)
    }

    /// The greatest value. `None` when empty.
    pub fn max(&self) -> Option<f64> {
        Some(self.non_empty()?.max)
    }

    /// Greatest less least value. `None` when empty or beyond the range of f64.
    pub fn range(&self) -> Option<f64> {
        let range = self.non_empty()?.max - self.min;
        range.is_finite().then_some(range)
    }

    /// The earliest reading; of several at that time the one with the least value. `None` when empty.
    pub fn first(&self) -> Option<(i64, f64)> {
        Some(self.non_empty()?.first)
    }

    /// The latest reading; of several at that time the one with the greatest value. `None` when empty.
    pub fn last(&self) -> Option<(i64, f64)> {
        Some(self.non_empty()?.last)
    }

    /// The sample standard deviation (n − 1), from exact sums: the variance is rounded once, then its root. 0 for equal
    /// values. `None` below two readings or beyond the range of f64.
    pub fn stddev(&self) -> Option<f64> {
        if self.count < 2 {
            return None;
        }
        self.root_of_spread_over(self.count - 1)
    }

    /// The standard deviation of a population (n), as [`Summary::stddev`]. `None` when empty or beyond the range of f64.
    pub fn stddev_pop(&self) -> Option<f64> {
        self.non_empty()?.root_of_spread_over(self.count)
    }

    /// The smallest reading whose rank is at least `rank` · n (PostgreSQL's `percentile_disc`), to within
    /// [`Summary::percentile_error`]. Never outside [min, max]; p0 is the least and p100 the greatest value. `None` when
    /// empty.
    pub fn percentile(&self, rank: Rank) -> Option<f64> {
        let place = rank.place(self.non_empty()?.count);
        Some(match place {
            1 => self.min,
            last if last == self.count => self.max,
            _ => self.percentiles.nth(place).clamp(self.min, self.max),
        })
    }

    /// The guaranteed bound on the relative error of [`Summary::percentile`]: 0 up to [`MAX_EXACT`] readings, else 0.01.
    pub const fn percentile_error(&self) -> f64 {
        if self.count <= MAX_EXACT as u64 { 0.0 } else { SKETCH_ERROR }
    }

    /// About how much memory this takes, in bytes, heap included: for budgets.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.sum.heap_bytes() + self.squares.heap_bytes() + self.percentiles.heap_bytes()
    }

    /// All but the percentiles. `value` is finite and no negative zero.
    #[inline]
    fn note(&mut self, time: i64, value: f64) {
        self.count = self.count.saturating_add(1);
        let parts = Parts::of(value);
        self.sum.add(parts);
        self.squares.add_square(parts);
        self.stretch(value, value, (time, value), (time, value));
    }

    /// Takes in the extremes of further readings.
    #[inline]
    fn stretch(&mut self, min: f64, max: f64, first: (i64, f64), last: (i64, f64)) {
        self.min = self.min.min(min);
        self.max = self.max.max(max);
        if first < self.first {
            self.first = first;
        }
        if last > self.last {
            self.last = last;
        }
    }

    /// The root of Σ(v − mean)² / `divisor`, which is (n·S2 − S1²) / (n · `divisor`).
    fn root_of_spread_over(&self, divisor: u64) -> Option<f64> {
        // A spread below zero is impossible by Cauchy-Schwarz: adding keeps it so and decoding checks it.
        let (variance, inexact) = self.spread()?.over(&[self.count, divisor]);
        variance.square_root(SQUARES_UNIT, inexact)
    }

    /// n·S2 − S1², in units of 2^[`SQUARES_UNIT`]. `None` when negative, which no set of readings is.
    fn spread(&self) -> Option<Natural> {
        let squares = self.squares.value().magnitude.times(self.count);
        squares.minus(&self.sum.value().magnitude.square())
    }

    fn non_empty(&self) -> Option<&Self> {
        (!self.is_empty()).then_some(self)
    }
}

impl Default for Summary {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether both are of the same set, as far as a summary can tell: equal exactly when the encodings are.
impl PartialEq for Summary {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count
            && (self.min, self.max, self.first, self.last) == (other.min, other.max, other.first, other.last)
            && self.percentiles == other.percentiles
            && self.sum.value() == other.sum.value()
            && self.squares.value() == other.squares.value()
    }
}
