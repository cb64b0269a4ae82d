//! The percentile state: the values themselves while they are few, a sketch of them above that.
//!
//! Invariant: it is [`Percentiles::Exact`] exactly while there are at most [`MAX_EXACT`] values, and sorted.

use super::sketch::Sketch;

/// Up to this many readings percentiles are exact.
pub const MAX_EXACT: usize = 64;

/// The sorted values, or a sketch.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Percentiles {
    Exact(Vec<f64>),
    Sketch(Box<Sketch>),
}

impl Percentiles {
    pub(super) const fn new() -> Self {
        Self::Exact(Vec::new())
    }

    /// Adds a finite value that is no negative zero.
    #[inline]
    pub(super) fn add(&mut self, value: f64) {
        match self {
            Self::Sketch(sketch) => sketch.add(value),
            Self::Exact(values) if values.len() < MAX_EXACT => {
                let at = values.partition_point(|&held| held <= value);
                values.insert(at, value);
            }
            Self::Exact(_) => self.add_all(&[value]),
        }
    }

    /// Adds finite values, of which none is a negative zero.
    pub(super) fn add_all(&mut self, more: &[f64]) {
        match self {
            Self::Sketch(sketch) => sketch.add_all(more),
            Self::Exact(values) if values.len() + more.len() <= MAX_EXACT => {
                values.extend_from_slice(more);
                values.sort_unstable_by(f64::total_cmp);
            }
            Self::Exact(values) => {
                let mut sketch = Box::new(Sketch::of(values));
                sketch.add_all(more);
                *self = Self::Sketch(sketch);
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        match (&mut *self, other) {
            (_, Self::Exact(more)) => self.add_all(more),
            (Self::Sketch(sketch), Self::Sketch(more)) => sketch.merge(more),
            (Self::Exact(values), Self::Sketch(more)) => {
                let mut sketch = more.clone();
                sketch.add_all(values);
                *self = Self::Sketch(sketch);
            }
        }
    }

    /// The value at a place counted from 1, the representative of its bin for a sketch; beyond the end infinity.
    pub(super) fn nth(&self, place: u64) -> f64 {
        match self {
            Self::Exact(values) => {
                let at = usize::try_from(place.saturating_sub(1)).unwrap_or(usize::MAX);
                values.get(at).copied().unwrap_or(f64::INFINITY)
            }
            Self::Sketch(sketch) => sketch.nth(place),
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Exact(values) => values.capacity() * size_of::<f64>(),
            Self::Sketch(sketch) => size_of::<Sketch>() + sketch.heap_bytes(),
        }
    }
}
