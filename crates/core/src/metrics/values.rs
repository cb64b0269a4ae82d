//! Values that may be unknown, in which case their series are left out.

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::{MetricType, TypedMetric};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number, or none: the bits of an f64, with NaN for "not known".
#[derive(Debug, Clone, Default)]
struct Cell(Arc<AtomicU64>);

impl Cell {
    fn get(&self) -> Option<f64> {
        let value = f64::from_bits(self.0.load(Ordering::Relaxed));
        (!value.is_nan()).then_some(value)
    }

    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }
}

/// A value that goes up and down; 0 at first. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Cell);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: f64) {
        self.0.set(value);
    }

    /// Sets it to a number of things; above 2^53 to the nearest that can be told.
    pub fn set_count(&self, n: u64) {
        self.0.set(n as f64);
    }

    /// Sets it to `value` unless it is more already.
    pub fn raise(&self, value: f64) {
        let raised = |bits| (f64::from_bits(bits) < value || f64::from_bits(bits).is_nan()).then(|| value.to_bits());
        // Where it is not raised, it is that much already.
        self.0.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raised).ok();
    }

    /// Adds to it, or takes away.
    pub fn add(&self, more: f64) {
        let added = |bits| Some((f64::from_bits(bits) + more).to_bits());
        self.0.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added).ok();
    }

    /// Nobody knows it: it is left out until it is set again.
    pub fn forget(&self) {
        self.0.set(f64::NAN);
    }

    /// What it is, where that is known.
    pub fn get(&self) -> Option<f64> {
        self.0.get()
    }
}

impl TypedMetric for Gauge {
    const TYPE: MetricType = MetricType::Gauge;
}

impl EncodeMetric for Gauge {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.get().map_or(Ok(()), |value| encoder.encode_gauge(&value))
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// A number that only rises and is counted elsewhere, such as in a store; 0 at first. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Total(Cell);

impl Total {
    /// Takes over what was counted.
    pub fn set(&self, value: f64) {
        self.0.set(value);
    }

    /// Nobody knows it: it is left out until it is set again.
    pub fn forget(&self) {
        self.0.set(f64::NAN);
    }
}

impl TypedMetric for Total {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for Total {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.get().map_or(Ok(()), |value| encoder.encode_counter(&value, None::<&Exemplar<NoLabelSet, f64>>))
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}
