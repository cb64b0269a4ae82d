//! A sparse DDSketch without collapse: how many values lie in each bin, one list of bins per sign.
//!
//! Invariants: bins rise strictly and hold at least one value each, so there are never more bins than values; equal
//! multisets of values give equal sketches.
//!
//! Source: Masson, Rim, Lee: *DDSketch*, VLDB 2019 (sections 2.1 and 2.2; the collapsing of section 2.3 is left out, for it
//! would void the guarantee at one end and bins are bounded by the readings anyway).

use super::bins;

/// Counts of values by bin.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sketch {
    /// By magnitude: the last bin holds the least value.
    pub(super) negative: Bins,
    pub(super) zeros: u64,
    pub(super) positive: Bins,
}

/// One bin: its index as [`bins::index_of`] gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bin {
    pub(super) index: i32,
    pub(super) count: u64,
}

/// Bins of one sign in rising order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bins {
    list: Vec<Bin>,
}

impl Sketch {
    pub(super) fn of(values: &[f64]) -> Self {
        let mut sketch = Self { negative: Bins::new(), zeros: 0, positive: Bins::new() };
        sketch.add_all(values);
        sketch
    }

    /// Adds a finite value.
    #[inline]
    pub(super) fn add(&mut self, value: f64) {
        if value > 0.0 {
            self.positive.add_one(bins::index_of(value));
        } else if value < 0.0 {
            self.negative.add_one(bins::index_of(-value));
        } else {
            self.zeros = self.zeros.saturating_add(1);
        }
    }

    pub(super) fn add_all(&mut self, values: &[f64]) {
        for &value in values {
            self.add(value);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.negative.merge(&other.negative);
        self.zeros = self.zeros.saturating_add(other.zeros);
        self.positive.merge(&other.positive);
    }

    /// The representative of the bin that holds the value at a place counted from 1; beyond the end infinity.
    pub(super) fn nth(&self, place: u64) -> f64 {
        let negative = self.negative.list.iter().rev().map(|bin| (-bins::representative(bin.index), bin.count));
        let positive = self.positive.list.iter().map(|bin| (bins::representative(bin.index), bin.count));
        let mut left = place;
        for (value, count) in negative.chain([(0.0, self.zeros)]).chain(positive) {
            if left <= count {
                return value;
            }
            left -= count;
        }
        f64::INFINITY
    }

    /// How many values there are; `None` beyond u64.
    pub(super) fn checked_total(&self) -> Option<u64> {
        let bins = self.negative.list.iter().chain(&self.positive.list);
        bins.map(|bin| bin.count).try_fold(self.zeros, u64::checked_add)
    }

    /// How many values lie in the bin of `value`.
    pub(super) fn count_near(&self, value: f64) -> u64 {
        if value > 0.0 {
            self.positive.count_at(bins::index_of(value))
        } else if value < 0.0 {
            self.negative.count_at(bins::index_of(-value))
        } else {
            self.zeros
        }
    }

    /// The representatives of the least and the greatest bin; `None` when empty.
    pub(super) fn ends(&self) -> Option<(f64, f64)> {
        let zero = (self.zeros > 0).then_some(0.0);
        let positive = |bin: Option<&Bin>| bin.map(|bin| bins::representative(bin.index));
        let negative = |bin: Option<&Bin>| positive(bin).map(|value| -value);
        let least = negative(self.negative.list.last()).or(zero).or(positive(self.positive.list.first()))?;
        let greatest = positive(self.positive.list.last()).or(zero).or(negative(self.negative.list.first()))?;
        Some((least, greatest))
    }

    /// What [`Sketch::nth`] answers for the bin of a finite value.
    pub(super) fn representative_of(value: f64) -> f64 {
        if value == 0.0 {
            return 0.0;
        }
        bins::representative(bins::index_of(value.abs())).copysign(value)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        (self.negative.list.capacity() + self.positive.list.capacity()) * size_of::<Bin>()
    }
}

impl Bins {
    pub(super) const fn new() -> Self {
        Self { list: Vec::new() }
    }

    pub(super) fn with_capacity(n_bins: usize) -> Self {
        Self { list: Vec::with_capacity(n_bins) }
    }

    pub(super) fn as_slice(&self) -> &[Bin] {
        &self.list
    }

    /// Appends a bin, which must lie above the last and be an index that exists: whether it was.
    pub(super) fn push(&mut self, bin: Bin) -> bool {
        let lowest = self.list.last().map_or(bins::LOWEST, |last| last.index + 1);
        let fits = (lowest..=bins::HIGHEST).contains(&bin.index) && bin.count > 0;
        if fits {
            self.list.push(bin);
        }
        fits
    }

    #[inline]
    fn add_one(&mut self, index: i32) {
        match self.find(index) {
            Ok(at) => self.list[at].count = self.list[at].count.saturating_add(1),
            Err(at) => self.list.insert(at, Bin { index, count: 1 }),
        }
    }

    fn count_at(&self, index: i32) -> u64 {
        self.find(index).map_or(0, |at| self.list[at].count)
    }

    /// Where the bin is, or where it belongs. Without gaps, as readings of a narrow range leave none, the place follows from
    /// the index. Else it is searched for in the whole list, not in the part where it must be: then the number of steps is
    /// the same each time, which a processor foresees, and that matters more than how many there are.
    #[inline]
    fn find(&self, index: i32) -> Result<usize, usize> {
        let ([first, ..], [.., last]) = (self.list.as_slice(), self.list.as_slice()) else {
            return Err(0);
        };
        let has_gaps = (last.index - first.index) as usize >= self.list.len();
        if has_gaps || index < first.index || index > last.index {
            return self.list.binary_search_by_key(&index, |bin| bin.index);
        }
        Ok((index - first.index) as usize)
    }

    /// Adds the counts of `other`: in place, from the back, once the room for new bins is made.
    fn merge(&mut self, other: &Self) {
        let (mut left, mut right) = (self.list.len(), other.list.len());
        let mut end = left + self.missing_from(other);
        self.list.resize(end, Bin { index: 0, count: 0 });
        while right > 0 {
            let theirs = other.list[right - 1];
            end -= 1;
            match left.checked_sub(1).map(|at| self.list[at]).filter(|ours| ours.index >= theirs.index) {
                Some(mut ours) => {
                    left -= 1;
                    if ours.index == theirs.index {
                        right -= 1;
                        ours.count = ours.count.saturating_add(theirs.count);
                    }
                    self.list[end] = ours;
                }
                None => {
                    right -= 1;
                    self.list[end] = theirs;
                }
            }
        }
    }

    /// How many bins `other` has that are not here.
    fn missing_from(&self, other: &Self) -> usize {
        let mut ours = self.list.iter().peekable();
        let missing = other.list.iter().filter(|theirs| {
            while ours.next_if(|bin| bin.index < theirs.index).is_some() {}
            ours.peek().is_none_or(|bin| bin.index != theirs.index)
        });
        missing.count()
    }
}
