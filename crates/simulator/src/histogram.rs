//! Durations counted in fixed bins: 32 to a doubling, from a microsecond on.
//!
//! Owns: counting and percentiles with a relative error of at most 1/32. Invariant: its size is fixed.

use std::time::Duration;

/// Bins in a doubling.
const PER_DOUBLING: u64 = 32;
const BITS: u32 = PER_DOUBLING.trailing_zeros();
const BINS: usize = (PER_DOUBLING as usize) * (64 - BITS as usize + 1);

/// How long many things took.
#[derive(Debug, Clone)]
pub struct Histogram {
    bins: Vec<u64>,
    count: u64,
    most: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { bins: vec![0; BINS], count: 0, most: Duration::ZERO }
    }
}

impl Histogram {
    /// Counts one.
    pub fn add(&mut self, took: Duration) {
        self.bins[bin(u64::try_from(took.as_micros()).unwrap_or(u64::MAX))] += 1;
        self.count += 1;
        self.most = self.most.max(took);
    }

    /// How many were counted.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The longest.
    pub const fn most(&self) -> Duration {
        self.most
    }

    /// The least duration that at least `permille` of a thousand stay within, rounded up to its bin's end; zero of nothing.
    pub fn percentile(&self, permille: u64) -> Duration {
        let rank = (u128::from(self.count) * u128::from(permille)).div_ceil(1000).max(1);
        let mut seen = 0u128;
        for (index, n) in self.bins.iter().enumerate() {
            seen += u128::from(*n);
            if seen >= rank {
                return Duration::from_micros(end(index)).min(self.most);
            }
        }
        Duration::ZERO
    }
}

/// Exact below a doubling's number of bins; then the leading bits.
fn bin(micros: u64) -> usize {
    let shift = (64 - micros.leading_zeros()).saturating_sub(BITS + 1);
    let index = u64::from(shift) * PER_DOUBLING + (micros >> shift);
    usize::try_from(index).unwrap_or(BINS - 1).min(BINS - 1)
}

/// The last microsecond of a bin.
fn end(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * PER_DOUBLING {
        return index;
    }
    let (shift, head) = (index / PER_DOUBLING - 1, index % PER_DOUBLING + PER_DOUBLING);
    u64::try_from(((u128::from(head) + 1) << shift) - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_narrow_and_in_order() {
        let mut last = 0;
        for micros in (0..200_000).chain([1 << 40, u64::MAX]) {
            let index = bin(micros);
            assert!(index >= last && end(index) >= micros, "{micros}");
            assert!(end(index) - micros <= micros / 32, "{micros} in a bin that ends at {}", end(index));
            last = index;
        }
    }

    #[test]
    fn percentiles_are_near_those_of_sorting() {
        let mut histogram = Histogram::default();
        (1..=1000).rev().for_each(|millis| histogram.add(Duration::from_millis(millis)));
        for (permille, exact) in [(500, 500.0), (990, 990.0), (999, 999.0), (1000, 1000.0), (0, 1.0)] {
            let told = histogram.percentile(permille).as_secs_f64() * 1000.0;
            assert!(told >= exact && told <= exact * 1.04, "{permille}: {told}");
        }
        assert_eq!(Histogram::default().percentile(500), Duration::ZERO);
    }
}
