//! What the role rollup counts, and what was open when it last looked.
//!
//! Owns: [`Metrics`]. Does not know: who scrapes. Invariant: the backlog is what the last round saw; while the store cannot be
//! asked it stays what it was.

use crate::work::{Step, Trouble, settled};
use headwater_core::metrics::{Counter, Gauge, Histogram, Registry, SECONDS};
use headwater_core::store::Backlog;
use headwater_core::time::SECOND;
use std::time::Duration;

/// The role's handles. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    readings: Gauge,
    blocks: Gauge,
    oldest: Gauge,
    duration: Histogram,
    sealed: Counter,
    done: Counter,
    lost: Counter,
    failed: Counter,
}

impl Metrics {
    /// Makes the handles.
    pub fn new(registry: &mut Registry) -> Self {
        let replacements = |registry: &mut Registry, outcome| {
            let help = "Steps of sealing or merging, by what became of them (lost: another sealer came first)";
            registry.counter_of("headwater_rollup_replacements_total", help, &[("outcome", outcome)])
        };
        Self {
            readings: registry.gauge("headwater_rollup_backlog_readings", "Open readings, repeats included, when the role last looked"),
            blocks: registry.gauge("headwater_rollup_backlog_blocks", "Open blocks that are not merged, when the role last looked"),
            oldest: registry.gauge(
                "headwater_rollup_backlog_oldest_timestamp_seconds",
                "Receive time of the oldest open readings, when the role last looked; 0: none are open",
            ),
            duration: registry.histogram("headwater_rollup_seal_duration_seconds", "Time of a step of sealing that succeeded", SECONDS),
            sealed: registry.counter("headwater_rollup_sealed_readings_total", "Readings that this process has sealed"),
            done: replacements(registry, "done"),
            lost: replacements(registry, "lost"),
            failed: replacements(registry, "failed"),
        }
    }

    /// What is open, by shard.
    pub(crate) fn looked(&self, backlog: &[Backlog]) {
        self.readings.set_count(backlog.iter().map(|shard| shard.readings).sum());
        self.blocks.set_count(backlog.iter().map(|shard| shard.unmerged).sum());
        let oldest = backlog.iter().map(|shard| shard.oldest).min();
        self.oldest.set(oldest.map_or(0.0, |oldest| oldest.micros() as f64 / SECOND as f64));
    }

    /// A step of sealing has ended.
    pub(crate) fn sealed(&self, step: &Result<Step, Trouble>, took: Duration) {
        if let Ok(Step::Done(_)) = step {
            self.duration.observe(took.as_secs_f64());
        }
        self.stepped(step);
    }

    /// A step has ended.
    pub(crate) fn stepped(&self, step: &Result<Step, Trouble>) {
        let outcome = match step {
            Ok(Step::Done(outcomes)) => {
                self.sealed.inc_by(settled(*outcomes));
                &self.done
            }
            Ok(Step::Lost) => &self.lost,
            Ok(Step::Nothing) => return,
            Err(_) => &self.failed,
        };
        outcome.inc();
    }
}

impl Default for Metrics {
    /// Counted for nobody.
    fn default() -> Self {
        Self::new(&mut Registry::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::metrics::Format;
    use headwater_core::seal::Outcomes;
    use headwater_core::series::Shard;
    use headwater_core::store::StoreError;
    use headwater_core::time::Timestamp;

    #[test]
    fn steps_are_counted_by_outcome_and_the_backlog_is_the_last_look() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let outcomes = Outcomes { stored: 3, duplicate: 2, conflict: 1 };
        metrics.sealed(&Ok(Step::Done(outcomes)), Duration::from_millis(20));
        metrics.stepped(&Ok(Step::Done(Outcomes::default())));
        metrics.sealed(&Ok(Step::Lost), Duration::from_secs(1));
        metrics.sealed(&Ok(Step::Nothing), Duration::from_secs(1));
        metrics.stepped(&Err(Trouble::Wait(StoreError::Busy("full".to_owned()))));
        let shard = |n, oldest| Backlog { shard: Shard(n), readings: 10, unmerged: 2, widest: 1, oldest: Timestamp(oldest * SECOND) };
        metrics.looked(&[shard(0, 9), shard(1, 7)]);
        let text = registry.write(Format::Plain);
        for line in [
            "headwater_rollup_sealed_readings_total 6",
            "headwater_rollup_replacements_total{outcome=\"done\"} 2",
            "headwater_rollup_replacements_total{outcome=\"lost\"} 1",
            "headwater_rollup_replacements_total{outcome=\"failed\"} 1",
            "headwater_rollup_seal_duration_seconds_count 1",
            "headwater_rollup_backlog_readings 20.0",
            "headwater_rollup_backlog_blocks 4.0",
            "headwater_rollup_backlog_oldest_timestamp_seconds 7.0",
        ] {
            assert!(text.lines().any(|of| of == line), "{line}\n{text}");
        }
        metrics.looked(&[]);
        assert!(registry.write(Format::Plain).contains("headwater_rollup_backlog_oldest_timestamp_seconds 0.0"));
    }
}
