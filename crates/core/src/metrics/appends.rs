//! What every log counts of its appends, so that it is counted alike.

use super::{Counter, Histogram, NUMBERS, Registry, SECONDS};
use std::time::Duration;

/// Appends to the log.
#[derive(Debug, Clone)]
pub struct Appends {
    duration: Histogram,
    batches: Histogram,
    records: Counter,
    errors: Counter,
}

impl Appends {
    /// Makes the handles.
    pub fn new(registry: &mut Registry) -> Self {
        Self {
            duration: registry.histogram(
                "headwater_log_append_duration_seconds",
                "Time from asking for an append until its records were durable",
                SECONDS,
            ),
            batches: registry.histogram("headwater_log_append_records", "Records that became durable together", NUMBERS),
            records: registry.counter("headwater_log_appended_records_total", "Records that are durable in the log"),
            errors: registry.counter("headwater_log_append_errors_total", "Appends that were refused or failed, of unknown outcome too"),
        }
    }

    /// An append has ended.
    pub fn ended(&self, took: Duration, succeeded: bool) {
        if succeeded {
            self.duration.observe(took.as_secs_f64());
        } else {
            self.errors.inc();
        }
    }

    /// So many records became durable together.
    pub fn durable(&self, records: u64) {
        self.batches.observe(records as f64);
        self.records.inc_by(records);
    }
}

impl Default for Appends {
    /// Counted for nobody.
    fn default() -> Self {
        Self::new(&mut Registry::default())
    }
}
